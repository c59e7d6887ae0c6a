from pathlib import Path

import pytest

from tagger.errors import UserError
from tagger.run_meta import RunMeta, describe_training, hash_files

FINISHED = {
    "status": "finished",
    "tags": ["a", "b"],
    "seed": 0,
    "model_files": {},
    "data": {"name": "x", "sha256": "0", "rows": {"test": 3}},
}
PATH = Path("runs/x/meta.json")


def test_meta_of_version_1_is_read_under_the_names_of_today() -> None:
    meta = RunMeta.parse(FINISHED | {"precision": "bf16", "format": 1}, PATH)
    assert (meta.schema_version, meta.mixed_precision) == (1, "bf16")
    assert meta.data.rows == {"test": 3}
    assert meta.made_in.host is None


def test_meta_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    meta = RunMeta.parse(FINISHED | {"schema_version": 9, "mood": "good"}, PATH)
    assert meta.schema_version == 9
    assert meta.tags == ["a", "b"]


@pytest.mark.parametrize("status", [None, 3, "weird", ["finished"]])
def test_what_does_not_say_that_it_is_finished_is_not(status: object) -> None:
    assert RunMeta.parse({"status": status}, PATH).status == "running"


def test_a_finished_run_has_what_is_relied_on() -> None:
    with pytest.raises(UserError, match="is damaged") as caught:
        RunMeta.parse({"status": "finished", "seed": "0", "tags": ["a"]}, PATH)
    named = sorted(problem.partition(":")[0] for problem in caught.value.problems)
    assert named == ["data", "model_files", "seed", "tags"]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    meta = RunMeta(environment=describe_training(), threads=2)
    meta.write(tmp_path / "meta.json")
    assert RunMeta.read(tmp_path / "meta.json") == meta


def test_files_are_hashed_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hash_files(tmp_path) == {"inner/a": empty}
