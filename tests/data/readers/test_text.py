"""Tests the decoding of text files, and the bound on their lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.data.readers import Row, delimited, json_text

Read = Callable[..., tuple[list[Row], list[str]]]
Values = Callable[..., list[Any]]
Write = Callable[[str, str | bytes], Path]


CSV = "id,title\n1,é\n2,b\n"


JSON_LINES = '{"id": "1", "title": "é"}\n{"id": "2", "title": "b"}\n'


EXPECTED = [("1", "é"), ("2", "b")]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_make_no_difference(
    values: Values, write: Write, newline: str, bom: str
) -> None:
    path = write("a.csv", bom + newline.join(["id,title", "1,é", "", "2,b", ""]))
    assert values(path) == [("1", "é"), ("2", "b")]


def test_endless_line_is_bounded(read: Read, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((delimited, "a.csv"), (json_text, "a.jsonl")):
        monkeypatch.setattr(module, "LONGEST", 100_000)
        problems = read(write(name, "\n" + "x" * 200_000))[1]
        assert problems == ["line 2: longer than 100,000 characters"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize(("ending", "content"), [(".csv", CSV), (".json", JSON_LINES)])
def test_encoding_is_taken_from_the_byte_order_mark(
    values: Values, write: Write, encoding: str, ending: str, content: str
) -> None:
    long = content + "\n" * 70_001  # several blocks
    assert values(write(f"a{ending}", long.encode(encoding))) == EXPECTED


@pytest.mark.slow
def test_place_of_a_wrong_byte_is_right_after_many_blocks(read: Read, write: Write) -> None:
    good = "id,title\n" + "1,ééé\n" * 50_000
    problems = read(write("a.csv", good.encode() + b"2,Stra\xdfe\n"))[1]
    assert problems == [
        "line 50002: byte 0xdf is not UTF-8; as CP1252 it reads 'Straße': "
        "iconv -f CP1252 -t UTF-8 FILE > NEW"
    ]


def test_readings_of_text_in_other_scripts_are_shown(read: Read, write: Write) -> None:
    problems = read(write("a.csv", "id,title\n1,房产信息\n".encode("gb18030")))[1]
    assert "as GB18030 it reads '房产信息'" in problems[0]
