import csv
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagger.errors import UserError
from tagger.files import (
    REPO_ROOT,
    check_writable,
    csv_text,
    expand_home,
    folder_mib,
    only_process,
    replace_file,
    replacing,
    resolve_path,
    sha256_of,
    write_json,
    write_text,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    with replacing(path) as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == path.parent
        temporary.write_text("x")
        assert not path.exists()
    assert path.read_text() == "x"
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_litter(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_text_and_json_are_written_as_they_are(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ü\r\n\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xbc\r\n\n"
    write_json(tmp_path / "a.json", {"ü": [1.5, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"ü": [1.5, None]}
    assert "ü" in text


def test_what_json_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert not list(tmp_path.iterdir())


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2)))
@example([["a\rb", "c\r\nd", 'e"\n', ""]])
def test_csv_reads_back_unchanged(rows: list[list[str]]) -> None:
    text = csv_text(rows)
    assert list(csv.reader(io.StringIO(text, newline=""), strict=True)) == rows


def test_csv_has_plain_line_ends() -> None:
    assert csv_text([["a", 1], ["b", 2.5]]) == "a,1\nb,2.5\n"


def test_paths_are_found_here_then_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_path("pyproject.toml") == REPO_ROOT / "pyproject.toml"
    (tmp_path / "pyproject.toml").touch()
    assert resolve_path("pyproject.toml") == Path("pyproject.toml")
    assert resolve_path("nowhere.csv") == Path("nowhere.csv")
    assert resolve_path(tmp_path / "nowhere.csv") == tmp_path / "nowhere.csv"


def test_homes_are_expanded_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    assert expand_home("~/a") == tmp_path / "a"
    assert expand_home("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    assert resolve_path("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run"
    with only_process(path, "making"):
        with (
            pytest.raises(UserError, match=re.escape(f"another process is making {path}")),
            only_process(path, "making"),
        ):
            pass
        with only_process(path.with_name("other"), "making"):
            pass
    assert not path.parent.exists()  # which it made, and which holds nothing
    with only_process(path, "making"):  # free again
        pass


def test_an_error_frees_what_one_process_holds(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), only_process(tmp_path / "run", "making"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_a_folder_is_that_of_all_files_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"x" * 2**20)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 2**19)
    assert folder_mib(tmp_path) == 1.5


@pytest.mark.parametrize("refusals", [2, 100])
def test_windows_is_given_time_to_close_what_is_replaced(
    refusals: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "new", tmp_path / "old"
    source.write_text("new")
    target.write_text("old")
    left = iter(range(refusals))
    replace = Path.replace

    def refuse(self: Path, other: Path) -> Path:
        if next(left, None) is not None:
            raise PermissionError(13, "The process cannot access the file")
        return replace(self, other)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr("tagger.files.time.sleep", lambda seconds: None)
    if refusals == 2:
        replace_file(source, target)
        assert target.read_text() == "new"
    else:
        with pytest.raises(PermissionError):
            replace_file(source, target)
        assert target.read_text() == "old"


def test_a_lock_leaves_no_folder_that_it_made_and_that_holds_nothing(tmp_path: Path) -> None:
    with only_process(tmp_path / "a" / "b" / "run", "training"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with only_process(tmp_path / "mine" / "run", "training"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    with only_process(tmp_path / "a" / "b" / "run", "training"):
        (tmp_path / "a" / "other").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other"]


def test_whether_files_can_be_made_is_tried_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="Not a directory"):
            check_writable(place)
