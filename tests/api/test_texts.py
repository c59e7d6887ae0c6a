import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tagger.api.texts import read_texts
from tagger.data.columns import TableFormat
from tagger.errors import UserError

TABLE = {"title": ["Pears", "Iron"], "description": ["They ripen", None]}
PAIRS = [("Pears", "They ripen"), ("Iron", None)]


@pytest.mark.parametrize(
    "given",
    [
        ["Pears", "Iron"],
        ("Pears", "Iron"),
        iter(["Pears", "Iron"]),
        np.array(["Pears", "Iron"]),
        np.array([["Pears"], ["Iron"]], dtype=object),
        pd.Series(["Pears", "Iron"]),
        pd.DataFrame({"text": ["Pears", "Iron"]}),
        datasets.Dataset.from_dict({"text": ["Pears", "Iron"]})["text"],
        [{"text": "Pears"}, {"text": "Iron"}],
    ],
    ids=lambda given: type(given).__name__,
)
def test_texts_are_read_from(given: object) -> None:
    found = read_texts(given)
    assert [item.text for item in found.items] == ["Pears", "Iron"]
    assert found.columns == {"description": "text"}


@pytest.mark.parametrize(
    "given",
    [
        PAIRS,
        np.array(PAIRS, dtype=object),
        pd.DataFrame(TABLE),
        datasets.Dataset.from_dict(TABLE),
        pa.table(TABLE),
        [dict(zip(TABLE, pair, strict=True)) for pair in PAIRS],
    ],
    ids=lambda given: type(given).__name__,
)
def test_titles_with_descriptions_are_read_from(given: object) -> None:
    found = read_texts(given)
    assert [item.text for item in found.items] == ["Pears. They ripen", "Iron"]
    assert [item.id for item in found.items] == ["1", "2"]
    assert found.columns == {"title": "title", "description": "description"}


def test_columns_of_a_table_go_by_what_is_known() -> None:
    table = pd.DataFrame({"headline": ["a"], "body": ["b"], "title": ["not read"]})
    known = TableFormat(known={"title": "headline", "description": "body"})
    assert read_texts(table, known).items[0].text == "a. b"
    assert read_texts(["alone"], known).items[0].text == "alone"


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NA, "", "  "])
def test_what_is_missing_is_blank(missing: object) -> None:
    assert [item.text for item in read_texts(["Pears", missing]).items] == ["Pears", ""]
    table = pd.DataFrame({"text": ["Pears", missing]})
    assert [item.text for item in read_texts(table).items] == ["Pears", ""]


@pytest.mark.parametrize("given", [[], (), np.array([]), pd.DataFrame({"text": []})])
def test_there_may_be_no_text(given: object) -> None:
    assert read_texts(given).items == []


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ("Pears", TypeError, r"found one str, expected a list .* a single text is \[text\]"),
        ({"title": "Pears"}, TypeError, "found one dict, expected a list"),
        (5, TypeError, "found one int"),
        ([1, 2], TypeError, "number 0 is of type int, expected a text"),
        (["Pears", ("Iron", "")], TypeError, "number 1 is of type tuple"),
        ([("Pears", ""), "Iron"], TypeError, "number 1 is 'Iron', expected a pair"),
        ([("a", "b", "c")], TypeError, r"number 0 is \('a', 'b', 'c'\), expected a pair"),
        (np.zeros((2, 3)), ValueError, r"the shape \(2, 3\), expected"),
        (np.zeros(2), TypeError, "number 0 is of type float"),
        (["half \ud800"], UserError, "row 1: `text` holds half a surrogate pair"),
        ([{"text": ["Pears"]}], UserError, "row 1: `text` is a list, expected text"),
        (pd.DataFrame({"x": [1]}), UserError, "no column holds the text"),
    ],
)
def test_what_is_no_text_is_refused(given: object, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        read_texts(given)
