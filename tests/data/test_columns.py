from collections.abc import Mapping, Sequence

import pytest
import yaml

from tagger.data.columns import Found, TableFormat, find_columns, guess_columns, spell_columns

TEXTS = ("where is my card", "the app does not open", "send me a refund please", "who are you")
SAMPLE = [
    {"v1": "ab"[n % 2], "v2": f"{text} {n}", "u": f"{n:032x}", "when": f"2020-01-{n + 1:02}"}
    for n, text in enumerate(TEXTS * 3)
]


def find(
    header: Sequence[str],
    given: Mapping[str, str] | None = None,
    known: Mapping[str, str] | None = None,
    sample: Sequence[Mapping[str, str | None]] = (),
) -> Found:
    how = TableFormat(given or {}, known or {})
    return find_columns(header, how, ("text", "tag"), sample)


def test_our_own_names_need_nothing() -> None:
    header = ["id", "created_on", "title", "description", "tag", "other"]
    found = find(header)
    assert found.columns == {name: name for name in header[:-1]}
    assert not found.guessed
    assert not found.problems


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (["text", "label"], {"description": "text", "tag": "label"}),
        (["headline", "body", "label"], {"title": "headline", "description": "body"}),
        (["sentence", "intent"], {"description": "sentence", "tag": "intent"}),
        (["text", "label", "label_text"], {"description": "text", "tag": "label_text"}),
        (["title", "text", "tag"], {"title": "title", "description": "text", "tag": "tag"}),
    ],
)
def test_usual_names_are_understood_and_said(header: list[str], expected: dict[str, str]) -> None:
    found = find(header)
    assert not found.problems
    assert found.columns.items() >= expected.items()
    assert found.guessed == {k: v for k, v in found.columns.items() if v not in (k, "text")}


def test_case_and_spaces_of_a_header_do_not_matter() -> None:
    found = find([" Title", "TAG ", "\ufeffId"])
    assert found.columns == {"id": "\ufeffId", "title": " Title", "tag": "TAG "}
    assert not found.guessed


def test_two_usual_names_are_not_chosen_between() -> None:
    found = find(["text", "label", "category"])
    assert found.problems == ["'label' and 'category' could both hold the tag: say which"]
    assert find(["text", "label", "category"], {"tag": "category"}).columns["tag"] == "category"


def test_what_is_given_counts_and_must_be_there() -> None:
    found = find(["nr", "headline", "body", "label"], {"text": "body", "tag": "label"})
    assert found.columns == {"title": "headline", "description": "body", "tag": "label"}
    found = find(["headline", "label"], {"tag": "lable"})
    assert "no column 'lable' (did you mean 'label'?), which was given for tag" in found.problems[0]


def test_a_field_can_be_left_out() -> None:
    found = find(["id", "created_on", "text", "tag"], {"id": "", "created_on": ""})
    assert found.columns == {"description": "text", "tag": "tag"}


def test_the_columns_of_a_run_are_used_where_the_table_has_them() -> None:
    known = {"title": "headline", "description": "body", "tag": "label"}
    assert find(["headline", "body", "label"], known=known).columns == known
    # Another table of the same platform may have our own names.
    assert find(["title", "tag"], known=known).columns == {"title": "title", "tag": "tag"}


def test_of_two_columns_the_values_tell_which_is_which() -> None:
    found = find(["v1", "v2", "", ""], sample=SAMPLE)
    assert found.columns == found.guessed == {"description": "v2", "tag": "v1"}


def test_a_row_is_not_taken_for_a_header() -> None:
    sample = [{"where is it": row["v2"], "a": row["v1"]} for row in SAMPLE]
    found = find(["where is it", "a"], sample=sample)
    assert "there seems to be no header" in found.problems[0]
    assert not found.columns


def test_more_columns_are_proposed_and_not_taken() -> None:
    found = find(["v1", "v2", "u"], sample=SAMPLE)
    assert [problem.split(":")[0] for problem in found.problems] == [
        "no column holds the text (title, description or text)",
        "no column holds the tag",
    ]
    assert found.proposal == {"description": "v2", "tag": "v1"}


def test_a_wide_table_is_not_listed_whole() -> None:
    (problem, _) = find([f"c{n}" for n in range(300)]).problems
    assert "and 280 more" in problem
    assert len(problem) < 400


def test_columns_are_guessed_for_a_person_to_look_over() -> None:
    header = ["u", "when", "v1", "v2"]
    guessed = guess_columns(header, SAMPLE, {})
    assert guessed == {"created_on": "when", "description": "v2", "tag": "v1"}
    assert guess_columns(header, SAMPLE, {"tag": "v1", "title": "v2"}) == {"created_on": "when"}


@pytest.mark.parametrize(
    "columns",
    [
        {"description": "body", "tag": "my label"},
        {"title": "a", "description": "b", "tag": 'quo"te'},
        {"id": "", "tag": "タグ"},
    ],
)
def test_columns_are_spelt_so_that_they_can_be_given(columns: dict[str, str]) -> None:
    told = yaml.load(spell_columns(columns), yaml.BaseLoader)
    assert {("description" if k == "text" else k): v for k, v in told.items()} == columns


def test_a_setting_is_spelt_as_the_command_takes_it() -> None:
    setting = ("columns", "{tag: x}", "helps")
    assert TableFormat(takes="keys").mend(*setting) == "; data.columns='{tag: x}' helps"
    assert TableFormat(takes="options").mend(*setting) == "; --columns '{tag: x}' helps"
    assert TableFormat().mend(*setting) == ""


def test_weights_are_read_where_they_are_asked_for_alone() -> None:
    header = ["title", "tag", "weight"]
    assert "weight" not in find(header).columns
    assert find(header, {"weight": "weight"}).columns["weight"] == "weight"
    assert find(header, known={"weight": "weight"}).columns["weight"] == "weight"
