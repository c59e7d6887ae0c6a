from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagger.data.tags import load_tags
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
        (b"tags: \xe9", "byte 0xe9 at offset 6"),
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
    with pytest.raises(UserError, match=r"does not exist"):
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


@pytest.mark.parametrize("name", ["id", "tag", "probability"])
def test_a_tag_cannot_take_the_name_of_a_prediction_column(write: Write, name: str) -> None:
    content = f"tags:\n- {{name: {name}, definition: x}}\n- {{name: other, definition: y}}\n"
    with pytest.raises(UserError, match="predictions have a column of that name"):
        load_tags(write("tags.yaml", content))
