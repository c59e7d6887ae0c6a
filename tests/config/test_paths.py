from pathlib import Path

import pytest

from tagger.config.messages import schema_keys
from tagger.config.paths import (
    FILES,
    PLACES,
    RUNS,
    portable_path,
    portable_run,
    with_paths_found,
    with_portable_paths,
)
from tagger.config.schema import OptimizeConfig, TrainConfig
from tagger.files import REPO_ROOT, run_places
from tagger.run_meta import Place


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory outside of the repository, with files of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.csv").write_text("id,title\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "encoder").mkdir()
    (tmp_path / "random").mkdir()
    for name in ("one", "runs/two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "meta.json").write_text("{}")
    return tmp_path


def test_every_key_that_holds_a_path_is_listed() -> None:
    keys = {*schema_keys(TrainConfig), *schema_keys(OptimizeConfig)}
    assert set(FILES) | set(RUNS) <= keys
    named = {key for key in keys if key.rpartition(".")[2].endswith(("path", "paths", "_dir"))}
    assert named <= {*FILES, *PLACES}


def test_what_is_in_the_repository_is_stored_relative_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert portable_path(REPO_ROOT / "data" / "gold.csv") == "repo:data/gold.csv"
    monkeypatch.chdir(REPO_ROOT / "configs")
    assert portable_path("../data/gold.csv") == "repo:data/gold.csv"
    assert portable_path("data/gold.csv") == "repo:data/gold.csv"
    assert portable_path("model/tiny.yaml") == "repo:configs/model/tiny.yaml"


def test_what_is_elsewhere_is_stored_whole(elsewhere: Path) -> None:
    assert portable_path("items.csv") == str(elsewhere / "items.csv")
    assert portable_path("data/../items.csv") == str(elsewhere / "items.csv")


@pytest.mark.parametrize("text", ["package:x", "org/name", "random", "auto", "a\0b"])
def test_what_names_no_file_stays(elsewhere: Path, text: str) -> None:
    assert portable_path(text) == text
    assert with_paths_found({"model": {"encoder": text}}, elsewhere, Place()) == {
        "model": {"encoder": text}
    }


def test_a_stored_name_that_no_file_can_have_stays(elsewhere: Path) -> None:
    stored = {"data": {"path": "x" * 5000}}
    assert with_paths_found(stored, elsewhere, Place()) == stored


def test_runs_are_stored_by_their_folders(elsewhere: Path) -> None:
    assert portable_run("one", "runs") == str(elsewhere / "one")
    assert portable_run("two", "runs") == str(elsewhere / "runs" / "two")
    assert portable_run("three", "runs") == "three"


def test_a_name_below_the_repositorys_runs_is_found_from_anywhere(elsewhere: Path) -> None:
    assert run_places("x", "runs")[-1] == REPO_ROOT / "runs" / "x"


def test_all_paths_of_a_config_are_stored_and_found_again(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "runs_dir": "runs",
        "data": {"path": "items.csv", "extra": ["items.csv", "data/gold.csv"], "tags": "auto"},
        "model": {"encoder": "encoder", "runs": ["one", "two"], "vocabulary_from": None},
        "distill": None,
    }
    stored = with_portable_paths(given)
    assert stored == {
        "runs_dir": str(elsewhere / "runs"),
        "data": {
            "path": str(elsewhere / "items.csv"),
            "extra": [str(elsewhere / "items.csv"), "repo:data/gold.csv"],
            "tags": "auto",
        },
        "model": {
            "encoder": str(elsewhere / "encoder"),
            "runs": [str(elsewhere / "one"), str(elsewhere / "runs" / "two")],
            "vocabulary_from": None,
        },
        "distill": None,
    }
    assert given["data"]["path"] == "items.csv"  # what was given is not changed
    # A file of the same name that lies where a command is given is another one.
    (elsewhere / "data" / "gold.csv").write_text("mine")
    found = with_paths_found(stored, elsewhere / "runs" / "two", Place())
    assert found["data"]["extra"][1] == str(REPO_ROOT / "data" / "gold.csv")
    monkeypatch.chdir("/")
    assert with_portable_paths(found) == stored


def test_a_project_that_was_moved_as_a_whole_is_found(elsewhere: Path) -> None:
    before = Path("/was/here/project")
    made_in = Place(folder=str(before / "runs" / "two"), repository="/was/here/repository")
    stored = {"data": {"path": str(before / "items.csv"), "extra": ["../project/items.csv", "no"]}}
    found = with_paths_found(stored, elsewhere / "runs" / "two", made_in)
    assert found["data"] == {
        "path": str(elsewhere / "items.csv"),
        "extra": [str(elsewhere / "items.csv"), "no"],
    }
