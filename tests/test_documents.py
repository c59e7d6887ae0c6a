import json
from pathlib import Path
from typing import Any

import pytest

from tagger.documents import Document, Record
from tagger.errors import UserError


class Part(Record):
    count: int


class Sample(Document):
    name: str
    part: Part

    @classmethod
    def upgrade(cls, plain: dict[str, Any]) -> dict[str, Any]:
        plain["name"] = plain.pop("title")
        return plain


SAMPLE = Sample(name="one", part=Part(count=3))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    SAMPLE.write(tmp_path / "sample.json")
    assert Sample.read(tmp_path / "sample.json") == SAMPLE
    assert next(iter(json.loads((tmp_path / "sample.json").read_text()))) == "schema_version"


def test_a_file_of_before_versions_is_upgraded() -> None:
    old = {"title": "one", "part": {"count": 3}}
    assert Sample.parse(old, Path("old.json")) == SAMPLE
    assert "title" in old


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "it holds no object"),
        ("{", "cannot be read as JSON"),
        ('{"part": {"count": 3}}', "no Sample of version 1: KeyError 'title'"),
        ('{"schema_version": 9, "name": "one"}', "version 9 of Sample; only version 2"),
        ('{"schema_version": 2, "name": "one", "part": {"count": "many"}}', "part.count"),
        ('{"schema_version": 2, "name": "one", "part": {"count": 3}, "more": 1}', "more"),
    ],
)
def test_other_content_is_refused_in_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "sample.json").write_text(content)
    with pytest.raises(UserError, match=message):
        Sample.read(tmp_path / "sample.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        Sample.read(tmp_path / "sample.json")


def test_an_older_document_without_an_upgrade_names_the_command_that_writes_it() -> None:
    class Strict(Document):
        WRITTEN_BY = "tagger strict FILE"
        name: str

    with pytest.raises(UserError) as refusal:
        Strict.parse({"name": "one"}, Path("strict.json"))
    assert str(refusal.value) == (
        "strict.json holds version 1 of Strict; only version 2 can be read\n"
        "Write it again with this version: tagger strict FILE"
    )
