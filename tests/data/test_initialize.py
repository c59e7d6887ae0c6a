from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tagger.data import initialize as module
from tagger.data.columns import UNSAID, TableFormat
from tagger.data.initialize import describe, initialize
from tagger.data.tags import load_tags
from tagger.errors import UserError

Write = Callable[[str, str | bytes], Path]

TEXTS = ("where is my card", "the app does not open", "send me a refund please", "who are you")
TABLE = "key,when,what,kind\n" + "".join(
    f"k{n},{13 + n}/02/2020,{text} {n},{'ab'[n % 2]}\n" for n, text in enumerate(TEXTS * 3)
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another repository, in which nothing of ours is overwritten."""
    folder = tmp_path / "root"
    monkeypatch.setattr(module, "CONFIG_DIR", folder / "configs")
    monkeypatch.setattr(module, "REPO_ROOT", folder)
    return folder


def test_a_table_is_looked_at_and_written_down(write: Write, root: Path) -> None:
    path = write("my tickets.csv", TABLE)
    made = initialize(path, None, UNSAID, replacing=False)
    assert made.config == root / "configs" / "data" / "my-tickets.yaml"
    config = yaml.safe_load(made.config.read_text())
    assert config == {
        "defaults": ["file", "_self_"],
        "name": "my-tickets",
        "path": str(path),
        "columns": {"created_on": "when", "text": "what", "tag": "kind"},
        # The thirteenth of a month is a day.
        "dates": "day-first",
        "tags": str(root / "data" / "my-tickets.tags.yaml"),
    }
    assert [tag.name for tag in load_tags(made.tags)] == ["a", "b"]
    told = describe(made, path)
    assert "text         from column 'what' (a guess): where is my card 0" in told
    assert "id           no column: rows are numbered" in told
    assert told.splitlines()[-1] == "next: python train.py data=my-tickets model=linear"


def test_what_the_user_says_counts(write: Write) -> None:
    how = TableFormat({"title": "what", "tag": "kind", "created_on": ""}, takes="options")
    made = initialize(write("a.csv", TABLE), "mine", how, replacing=False)
    assert made.labelled.items[0].title == "where is my card 0"
    assert made.labelled.items[0].created_on is None
    assert yaml.safe_load(made.config.read_text())["columns"]["created_on"] == ""


def test_nothing_is_overwritten_unless_it_is_ours_and_asked_for(write: Write, root: Path) -> None:
    path = write("a.csv", TABLE)
    made = initialize(path, None, UNSAID, replacing=False)
    with pytest.raises(UserError, match="is there already") as caught:
        initialize(path, None, UNSAID, replacing=False)
    assert "--replace" in caught.value.hint
    initialize(path, None, UNSAID, replacing=True)
    made.config.write_text("somebody's own")
    with pytest.raises(UserError, match="is there already") as caught:
        initialize(path, None, UNSAID, replacing=True)
    assert "--replace" not in caught.value.hint


def test_a_table_without_a_tag_is_refused_and_nothing_is_written(write: Write, root: Path) -> None:
    path = write("a.csv", "text,number\n" + "".join(f"{text},{text}x\n" for text in TEXTS))
    with pytest.raises(UserError, match="cannot be read as it is") as caught:
        initialize(path, None, TableFormat(takes="options"), replacing=False)
    assert "no column holds the tag" in str(caught.value)
    assert "--columns" in caught.value.hint
    assert not root.exists()


@pytest.mark.parametrize("name", ["../x", "a b", "", "x" * 200])
def test_a_name_must_be_one_of_a_file(write: Write, name: str) -> None:
    with pytest.raises(UserError, match="--name"):
        initialize(write("a.csv", TABLE), name, UNSAID, replacing=False)


def test_300_tags_fit_a_screen(write: Write) -> None:
    rows = "".join(f"{text} {n},tag {n % 300}\n" for n, text in enumerate(TEXTS * 300))
    path = write("a.csv", f"text,label\n{rows}")
    made = initialize(path, None, UNSAID, replacing=False)
    assert len(describe(made, path).splitlines()) < 50
