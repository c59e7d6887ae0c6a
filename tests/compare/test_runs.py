from pathlib import Path

import numpy as np
import pytest

from tagger.compare.runs import LabelledFile, make_run, predict_other, run_config
from tagger.errors import UserError


def test_paths_with_spaces_and_quotes_are_taken(source: LabelledFile, tmp_path: Path) -> None:
    odd = tmp_path / "it's a, [folder] {x}=1"
    odd.mkdir()
    path = odd / "my items.csv"
    path.write_bytes(source.path.read_bytes())
    again = LabelledFile.load(path)
    assert again.name == "my-items"
    config = run_config(["model=linear"], again, odd / "run", 0, {})
    assert config.data.path == str(path)
    assert config.runs_dir == str(odd)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["...", "ünï", "-x-"])
def test_any_file_name_gives_a_name(source: LabelledFile, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_bytes(source.path.read_bytes())
    again = LabelledFile.load(path)
    run_config([], again, tmp_path / "run", 0, {})  # its schema accepts the name


def test_true_tags_are_positions_in_the_approved_list(source: LabelledFile) -> None:
    assert [source.tags[at] for at in source.true] == [item.tag for item in source.items]


@pytest.mark.slow
def test_an_approach_that_was_changed_says_what_to_do(source: LabelledFile, tmp_path: Path) -> None:
    make_run(run_config(["model=linear"], source, tmp_path / "run", 0, {}))
    changed = run_config(["model=linear", "model.C=1"], source, tmp_path / "run", 0, {})
    with pytest.raises(UserError, match="begun with other settings") as error:
        make_run(changed)
    assert "the approach another name" in error.value.hint


def test_predictions_about_other_items_are_not_taken(source: LabelledFile, tmp_path: Path) -> None:
    run = make_run(run_config(["model=linear"], source, tmp_path / "run", 0, {}))
    rows = predict_other(run, source.items[:5])
    assert rows == pytest.approx(run.load_classifier().predict_proba(source.items[:5]), abs=1e-5)
    assert np.array_equal(rows, predict_other(run, source.items[:5]))
    with pytest.raises(UserError, match="about other items"):
        predict_other(run, source.items[5:10])


def test_rows_of_further_files_are_taken_with_the_own_ones(
    source: LabelledFile, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(
        "number,title,label\nt00,a walk in the hail,weather\n7,bolts of brass,metal\n",
        encoding="utf-8",
    )
    both = LabelledFile.load(source.path, None, further=[other])
    assert len(both.items) == len(source.items) + 2
    assert {item.source for item in both.items} == {source.path.stem, "other"}
    config = run_config(["model=linear"], both, tmp_path / "runs/x", 0, {"test": 0.2})
    assert config.data.more == [str(other)]
