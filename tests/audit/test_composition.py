from datetime import datetime

import pytest

from tagger.audit.composition import THIN, describe_coverage, describe_sample, describe_tags
from tagger.audit.table import read_table
from tagger.data.items import Item


@pytest.fixture
def items(toy_folder):
    return read_table(toy_folder / "items.csv", None).items


def test_tags_are_counted_with_those_that_have_no_row(items, tags):
    counts = describe_tags([*items[:31], Item("x", "none", "")], tags)
    assert counts.rows == {"fruit": 11, "metal": 10, "weather": 10}
    assert (counts.untagged, counts.absent, counts.imbalance) == (1, [], 1.1)
    counts = describe_tags(items, [*tags, "stone"])
    assert counts.absent == ["stone"]
    assert counts.imbalance is None


def test_a_sample_is_described_by_year_and_length(items):
    sample = describe_sample([*items, Item("x", "one", "")])
    assert sample.undated == 1
    assert list(sample.years) == [str(year) for year in range(2010, 2020)]
    assert sum(sample.years["2010"].values()) == 6
    assert sample.words["fruit"].title == [4.0] * 7
    assert sample.words["all"].title[0] == 1.0
    assert sample.no_description == {"all": 1, "fruit": 0, "metal": 0, "weather": 0}
    assert sample.p_values.words is None  # all texts of the toy file are equally long
    assert sample.p_values.created_on > 0.5


def test_tags_that_depend_on_date_or_length_are_found():
    sample = describe_sample(
        [
            Item(str(n), "word " * (1 + 5 * (n < 20) + n % 3), "", datetime(2010 + n, 1, 1), tag)
            for n, tag in enumerate(["long"] * 20 + ["short"] * 20)
        ]
    )
    assert sample.p_values.words < 1e-6
    assert sample.p_values.created_on < 1e-6


def test_slices_and_facets_of_a_file_are_counted(toy_rows, write_rows, tmp_path):
    for number, row in enumerate(toy_rows):
        row["kind"] = "paper" if number % 3 else ""
        row["link"] = f"l{number}"
    table = read_table(write_rows(tmp_path / "facets.csv", toy_rows), None)
    coverage = describe_coverage(table, [number % 2 == 0 for number in range(60)])
    kinds = coverage["kind"]
    assert list(kinds) == ["paper", "(empty)"]  # the largest first
    assert kinds["paper"].rows == 40
    assert kinds["(empty)"].tags == {"fruit": 20}
    assert kinds["(empty)"].agreement == 0.5
    assert [kinds["paper"].thin, kinds["(empty)"].thin] == [False, THIN > 20]
    assert "link" not in coverage  # as many values as rows make no facet
    assert "slice" in coverage
    assert describe_coverage(table, None)["kind"]["paper"].agreement is None
