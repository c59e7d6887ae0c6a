from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Runs

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import EvaluateConfig
from tagger.errors import UserError
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.rollout.gate import check_gate
from tagger.runs import RunFolder


@pytest.fixture(scope="module")
def compared(shared_runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the run `rough`, evaluated against `words`, and the report."""
    import shutil

    copy = tmp_path_factory.mktemp("gate") / "rough"
    shutil.copytree(shared_runs.open("rough").path, copy)
    given = [f"run={copy}", f"against={shared_runs.open('words').path}", "resamples=100"]
    given += ["behaviour=off", "explore=off", "latency.items=10"]
    config = load_config(EvaluateConfig, compose_config("evaluate", given))
    return RunFolder(copy), evaluate_run(config).report


@pytest.mark.slow
def test_only_a_run_that_passed_against_the_old_one_may_start(
    compared: Any, shared_runs: Runs, tmp_path: Path
) -> None:
    new, report = compared
    words = shared_runs.open("words")
    with pytest.raises(UserError, match="was not compared with words") as caught:
        check_gate(new, words)
    assert "evaluate.py run=" in caught.value.hint
    path = new.path / "report.json"
    report.write(path)
    assert check_gate(new, words) == [path]
    with pytest.raises(UserError, match="was not compared with plain"):
        check_gate(new, shared_runs.open("plain"))
    part = report.comparison.guards.parts[0].model_copy(update={"worse": True})
    guards = report.comparison.guards.model_copy(update={"parts": [part]})
    comparison = report.comparison.model_copy(update={"guards": guards})
    worse = report.model_copy(update={"comparison": comparison})
    (new.path / "on-other").mkdir()
    worse.write(new.path / "on-other/report.json")
    with pytest.raises(UserError, match="did not pass the gate") as caught:
        check_gate(new, words)
    assert part.name in caught.value.problems[0]
