"""Tests tables that are given from Python."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from tagger.data.problems import Problems
from tagger.data.readers import read_rows, table_rows
from tagger.errors import UserError

WANTED = ("id", "title")


def rows_of(table: Any, wanted: tuple[str, ...] = WANTED, others: bool = False) -> list[Any]:
    problems = Problems()
    rows = [*table_rows(table, wanted, problems, others)]
    assert problems.first == []
    return [dict(row.values) for row in rows]


def test_values_of_a_data_frame_are_those_of_its_files(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": [20230000001.0, None, 3.5],
            " Title ": ["a", None, "NA"],
            "tag": pd.Categorical(["x", "y", None]),
            "on": pd.to_datetime(["2020-02-20", None, "2020-02-21"]),
            "yes": [True, False, True],
        }
    )
    wanted = ("id", "title", "tag", "on", "yes")
    frame.to_parquet(tmp_path / "a.parquet")
    from_file = [dict(row.values) for row in read_rows(tmp_path / "a.parquet", wanted, Problems())]
    given = rows_of(frame, wanted)
    for rows in (given, from_file):
        moments = [row.pop("on") for row in rows]
        assert [one and one[:19] for one in moments] == [
            "2020-02-20 00:00:00", None, "2020-02-21 00:00:00",
        ]  # fmt: skip
    assert given == from_file
    assert from_file[0] == {"id": "20230000001", "title": "a", "tag": "x", "yes": "true"}
    assert from_file[1]["id"] is None
    assert from_file[2]["id"] == "3.5"


def test_mixed_column_of_a_data_frame_is_read_value_by_value() -> None:
    frame = pd.DataFrame({"id": [1, "b", 2.0, None, float("nan")], 0: [["nested"]] * 5})
    assert [row["id"] for row in rows_of(frame, ("id",))] == ["1", "b", "2", None, None]


def test_dictionaries_are_read() -> None:
    table = [
        {"id": 7, "title": "a", "on": date(2020, 2, 20), "x": ["nested"]},
        {"id": 2.0, "TITLE": None, "score": Decimal("1.50")},
    ]
    assert rows_of(table, others=True) == [
        {"id": "7", "title": "a", "on": "2020-02-20"},
        {"id": "2", "title": None, "score": "1.50"},
    ]
    problems = Problems()
    assert [*table_rows([{"id": ["x"]}, {"id": ["y"]}, 5], ["id"], problems)] == []
    assert problems.first == [
        "row 1, row 2: `id` is a list, expected text",
        "row 3: found a int, expected a dictionary",
    ]


def test_class_labels_of_a_dataset_are_given_by_name() -> None:
    features = datasets.Features(
        {"id": datasets.Value("int64"), "Title": datasets.ClassLabel(names=["x", "y"])}
    )
    dataset = datasets.Dataset.from_dict({"id": [1, 2, 3], "Title": [1, 0, -1]}, features=features)
    assert rows_of(dataset) == [
        {"id": "1", "title": "y"},
        {"id": "2", "title": "x"},
        {"id": "3", "title": None},
    ]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(UserError, match="rows cannot be read from a dict; expected a pandas"):
        rows_of({"id": [1]})
