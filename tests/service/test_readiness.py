import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Runs

from tagger.errors import UserError
from tagger.runs import RunFolder
from tagger.service.readiness import differing_rows, read_stored_rows


def test_this_machine_answers_as_the_one_that_made_the_run(shared_runs: Runs) -> None:
    run = shared_runs.open("words")
    rows = read_stored_rows(run, None)
    assert len(rows.items) == len(rows.raw) == 12
    assert differing_rows(run.load_classifier(), rows) == []


def test_rows_that_differ_are_named_with_both_probabilities(shared_runs: Runs) -> None:
    run = shared_runs.open("words")
    rows = read_stored_rows(run, None)
    rows.raw[3] = [1, 0, 0]
    rows.raw[4] = float("nan")
    first, second = differing_rows(run.load_classifier(), rows)
    assert first.startswith(f"{rows.items[3].id}: a probability of ")
    assert second.startswith(f"{rows.items[4].id}: ")


def test_the_rows_may_be_in_another_file(
    shared_runs: Runs, tmp_path: Path, toy_folder: Path
) -> None:
    run = shared_runs.open("words")
    own = read_stored_rows(run, None)
    copied = Path(shutil.copy(toy_folder / "items.csv", tmp_path / "rows.csv"))
    assert read_stored_rows(run, copied).items[0].text == own.items[0].text
    copied.write_text(copied.read_text().replace(own.items[0].title, "another title"))
    assert own.items[0].id not in [item.id for item in read_stored_rows(run, copied).items]


def test_a_run_without_such_rows_is_refused_with_what_to_do(
    copy_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    run = copy_run()
    other = tmp_path / "other.csv"
    other.write_text("id,title\nt00,another text\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no row of its predictions.csv is found in"):
        read_stored_rows(run, other)
    (run.path / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"no predictions\.csv") as caught:
        read_stored_rows(run, None)
    assert "data.split.test" in caught.value.hint
