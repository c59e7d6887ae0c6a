import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Runs

from tagger.errors import UserError
from tagger.runs import RunFolder
from tagger.service.readiness import differing_samples, stored_samples


def test_this_machine_answers_as_the_one_that_made_the_run(shared_runs: Runs) -> None:
    run = shared_runs.open("words")
    samples = stored_samples(run)
    assert len(samples[0]) == 50
    assert differing_samples(run.load_classifier(), samples) == []


def test_samples_that_differ_are_named_with_both_probabilities(shared_runs: Runs) -> None:
    run = shared_runs.open("words")
    items, expected = stored_samples(run)
    expected[3] = [1, 0, 0]
    expected[4] = float("nan")
    first, second = differing_samples(run.load_classifier(), (items, expected))
    assert first.startswith(f"{items[3].text[:60]!r}: a probability of ")
    assert second.startswith(f"{items[4].text[:60]!r}: ")


def test_a_run_without_test_rows_whose_source_is_gone_can_be_checked(
    runs: Runs, toy_folder: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copy(toy_folder / "items.csv", tmp_path / "gone.csv"))
    given = [f"data.path={source}", "data.split.test=0", "data.split.validation=0"]
    run = runs.train("all", *given, "decision=argmax", model=runs.open("words").config.model)
    assert not (run.path / "predictions.csv").exists()
    source.unlink()
    moved = RunFolder(Path(shutil.copytree(run.path, tmp_path / "elsewhere")))
    assert differing_samples(moved.load_classifier(), stored_samples(moved)) == []


def test_a_run_without_samples_is_refused_with_what_to_do(
    copy_run: Callable[..., RunFolder],
) -> None:
    run = copy_run()
    del run.meta.model_files["parity_samples.json"]
    with pytest.raises(UserError, match="nothing shows what this machine should compute") as caught:
        stored_samples(run)
    assert "make it again" in caught.value.hint
