from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.evaluation.report import EvaluationReport, Score
from tagger.files import write_json
from tagger.leaderboard import load_standings
from tagger.runs import RunFolder

GOLDEN = Path(__file__).parent / "evaluation" / "golden" / "report.json"

CopyRun = Callable[..., RunFolder]


def write_report(run: RunFolder, macro_f1: float) -> None:
    report = EvaluationReport.read(GOLDEN)
    score = Score(value=macro_f1, low=0, high=1)
    overall = report.overall.model_copy(update={"macro_f1": score})
    report.model_copy(update={"overall": overall}).write(run.path / "report.json")


def test_finished_runs_are_ranked_within_their_data(copy_run: CopyRun, tmp_path: Path) -> None:
    for name, macro_f1 in (("fair", 0.7), ("good", 0.9)):
        write_report(copy_run(name), macro_f1)
    new, zoo = copy_run("new"), copy_run("zoo")
    data = zoo.meta.data.model_dump() | {"name": "zoo"}
    write_json(zoo.path / "meta.json", zoo.meta.model_dump() | {"data": data})
    copy_run(".replaced.old")
    standings, unfinished, damaged = load_standings(tmp_path / "runs")
    assert [one.run.name for one in standings] == ["good", "fair", "new", "zoo"]
    assert [one.macro_f1 for one in standings] == [0.9, 0.7, -1, -1]
    assert standings[2].data == f"toy {new.meta.data.sha256[:8]}"
    test = {row.content_hash for row in new.split_rows() if row.split == "test"}
    assert standings[2].test_rows == test
    assert (unfinished, damaged) == ([], [])


def test_a_run_in_training_is_unfinished(copy_run: CopyRun, tmp_path: Path) -> None:
    run = copy_run("stopped")
    write_json(run.path / "meta.json", run.meta.model_dump() | {"status": "running"})
    standings, unfinished, damaged = load_standings(tmp_path / "runs")
    assert [one.path for one in unfinished] == [run.path]
    assert (standings, damaged) == ([], [])


@pytest.mark.parametrize("value", ["null", "[]", "{", '{"overall": null}', '{"latency": 3}'])
def test_a_damaged_report_is_named_with_the_command_that_makes_it_again(
    copy_run: CopyRun, tmp_path: Path, value: str
) -> None:
    run = copy_run("odd")
    (run.path / "report.json").write_text(value)
    standings, unfinished, (problem,) = load_standings(tmp_path / "runs")
    assert (standings, unfinished) == ([], [])
    assert str(run.path / "report.json") in problem
    assert f"python evaluate.py run={run.path}" in problem
