from pathlib import Path
from typing import Any

import pytest
from tests.monitoring.test_watch_file import make_rows, run, write

from tagger.errors import UserError
from tagger.monitoring.state import MonitorState
from tagger.monitoring.watch_file import watch_file
from tagger.monitoring.watching import accept_alarms
from tagger.runs import RunFolder

__all__ = ["run"]  # a fixture


def test_a_watch_goes_on_under_its_own_conditions_alone(
    run: RunFolder, shared_runs: Any, tmp_path: Path
) -> None:
    source = write(tmp_path / "stream.csv", make_rows(5, seed=1))
    watch_file(run, source, tmp_path / "out", promise=0.9)
    with pytest.raises(UserError) as refused:
        watch_file(shared_runs.open("rough"), source, tmp_path / "out", promise=0.8, alpha=0.01)
    told = str(refused.value)
    assert "it watches the decisions of words" in told
    assert "--promise 0.8: it began with 0.9" in told
    assert "--alpha 0.01: it began with 0.05" in told


def test_the_home_of_a_run_is_what_its_decision_was_fitted_to(
    run: RunFolder, tmp_path: Path
) -> None:
    watch_file(run, write(tmp_path / "stream.csv", make_rows(4, seed=1)), tmp_path / "out")
    home = MonitorState.read(tmp_path / "out" / "state.json").home
    shares = [home[f"tag: {tag}"][1] for tag in run.tags]
    assert sum(shares) == pytest.approx(1.0)
    assert home["confidence"][0] > 20


def test_a_watch_that_is_not_there_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"state\.json is missing"):
        accept_alarms(tmp_path / "none")
    (tmp_path / "state.json").write_text('{"schema_version": 2}')
    with pytest.raises(UserError, match="MonitorState"):
        accept_alarms(tmp_path)


def test_a_run_with_a_tokenizer_is_watched_by_its_pieces(
    tiny_run: RunFolder, tmp_path: Path
) -> None:
    report = watch_file(
        tiny_run, write(tmp_path / "stream.csv", make_rows(210, seed=1)), tmp_path / "out"
    )
    names = [one.name for one in report.scores]
    assert "unknown pieces" in names
    assert report.watched == 10
