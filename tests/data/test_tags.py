from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagger.data.tags import load_tags, odd_tags, tag_name
from tagger.errors import UserError
from tagger.files import REPO_ROOT

Write = Callable[[str, str | bytes], Path]

GOOD = """
tags:
  - name: red
    definition: The colour of blood.
    examples: [a tomato]
    counter_examples:
      - {text: a carrot, tag: orange, why: It has some yellow in it.}
  - name: orange
    definition: Between red and yellow.
"""


def test_order_and_content_are_those_of_the_file(write: Write) -> None:
    red, orange = load_tags(write("tags.yaml", GOOD))
    assert (red.name, orange.name) == ("red", "orange")
    assert red.examples == ("a tomato",)
    assert red.counter_examples[0].tag == "orange"
    assert orange.counter_examples == ()


def test_embedded_tag_list_is_valid() -> None:
    path = REPO_ROOT / "data" / "tags.yaml"
    assert len(load_tags(path)) >= 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "expected one key `tags`"),
        ("- red\n- blue\n", "expected one key `tags`"),
        ("tags: [", "is not yaml"),
        ("tags: 3", "tags: "),
        (GOOD.replace("name: orange", "name: red"), "the tag 'red' is there 2 times"),
        (GOOD.replace("name: orange", "name: yes"), "tags[1].name: .*found True"),
        (GOOD.replace("name: orange", "name: ' orange'"), "tags[1].name"),
        (GOOD.replace("definition: Between", "meaning: Between"), "tags[1].meaning"),
        (GOOD.replace("definition: Between red and yellow.", "definition: ' '"), "[1].definition"),
        (GOOD.replace("tag: orange", "tag: purple"), "'purple', expected another tag"),
        (GOOD.replace("tag: orange", "tag: red"), "'red', expected another tag"),
        (GOOD.replace("[a tomato]", "a tomato"), "tags[0].examples"),
        ("tags: [{name: red, definition: d}]", "at least 2"),
        (GOOD + "    definition: Again.\n", "'definition' is given 2 times"),
        (b"tags: \xe9", "byte 0xe9 in position 6"),
    ],
)
def test_mistakes_are_named(write: Write, content: str | bytes, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_tags(write("tags.yaml", content))
    for part in expected.split(".*"):
        assert part in str(caught.value)


def test_all_mistakes_are_reported_together(write: Write) -> None:
    content = GOOD.replace("name: orange", "name: 3").replace("examples:", "samples:")
    with pytest.raises(UserError) as caught:
        load_tags(write("tags.yaml", content))
    assert len(caught.value.problems) >= 3


def test_missing_file_and_folder_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_tags(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="folder"):
        load_tags(tmp_path)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.text(max_size=80).map(lambda text: text.encode()),
        st.text("tags: []{}-\n&*!<>|'\"0.9~", max_size=60).map(lambda s: f"tags:\n{s}".encode()),
    )
)
def test_any_content_loads_or_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tags.yaml"
    path.write_bytes(content)
    try:
        load_tags(path)
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "id", "tag", "probability", "Sci/Tech", "reverted_card_payment?", "ABBR:abb", "❤️",
        "Clothing, Shoes & Jewelry", "房产（二手）", "👨‍👩‍👧",
        "$5-$10", "a|b", "[bold]", "<b>", "-", "C#", "'\"",
    ],
)  # fmt: skip
def test_any_name_that_can_be_seen_is_a_tag(name: str) -> None:
    assert tag_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "is empty"),
        (" x", "space around"),
        ("\u200b", "no sign that can be seen"),
        ("a\nb", "line break"),
        ("a\x07", "control character"),
        ("a\u2028b", "line break"),
        ("x" * 101, "101 characters"),
        ("Needs review", "a person is asked"),
    ],
)
def test_other_names_are_refused_in_words(name: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        tag_name(name)


def test_a_tag_needs_no_definition(write: Write) -> None:
    tags = load_tags(write("tags.yaml", "tags:\n- name: a\n- name: Cafe\u0301\n"))
    assert [tag.name for tag in tags] == ["a", "Caf\u00e9"]
    assert tags[0].definition is None


def test_tags_that_look_alike_are_named() -> None:
    rows = {"Sci/Tech": 50, "sci/tech": 2, "word": 9, "w\u043erd": 9, "c": 9, "c++": 9, "c#": 9}
    assert odd_tags(list(rows), rows) == [
        "the tags 'Sci/Tech' and 'sci/tech' (50 and 2 rows) look alike: are they one?",
        "the tags 'word' and 'w\u043erd' (9 and 9 rows) look alike: are they one?",
    ]


def test_a_rare_tag_that_looks_like_another_is_a_likely_slip() -> None:
    rows = {"computer-vision": 90, "computer-vison": 1, "grade 1": 90, "grade 2": 1, "rare": 1}
    assert odd_tags(list(rows), rows) == [
        "the tag 'computer-vison' (1 row) looks like 'computer-vision' (90 rows): is it a slip?"
    ]


def test_a_listed_tag_without_rows_is_said_and_300_fit_a_line() -> None:
    names = [f"tag {n:03}" for n in range(300)]
    (said,) = odd_tags(names, {})
    assert said.startswith("no row has the tag tag 000, tag 001")
    assert "and 280 more" in said
    assert len(said) < 300
