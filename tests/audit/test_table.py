import pytest

from tagger.audit.table import read_table
from tagger.errors import UserError


def test_bad_rows_are_reported_and_the_rest_is_read(toy_rows, write_rows, tags, tmp_path):
    toy_rows[3]["tag"] = "friut"
    toy_rows[4]["created_on"] = "yesterday"
    table = read_table(write_rows(tmp_path / "bad.csv", toy_rows), tags)
    assert len(table.items) == len(table.places) == 58
    assert table.places[3] == "row 6 (line 7)"
    assert table.problems.count == 2
    assert "did you mean 'fruit'" in table.problems.first[0]


def test_other_columns_are_kept_and_missing_values_are_blank(tmp_path):
    path = tmp_path / "more.jsonl"
    path.write_text('{"id": 1, "text": "apple", "kind": "post"}\n{"id": 2, "text": "pear"}\n')
    table = read_table(path, None)
    assert table.columns == {"kind": ["post", ""]}
    assert table.fields == {"id": "id", "description": "text"}
    assert table.tags == []
    assert [item.tag for item in table.items] == [None, None]


def test_tags_are_those_of_the_rows_unless_a_list_is_given(toy_rows, write_rows, tmp_path):
    path = write_rows(tmp_path / "items.csv", toy_rows)
    assert read_table(path, None).tags == ["fruit", "metal", "weather"]
    table = read_table(path, ["weather", "fruit", "metal", "stone"])
    assert table.tags == ["weather", "fruit", "metal", "stone"]
    assert any("no row has the tag stone" in note for note in table.notes)


def test_the_version_is_that_of_the_items(toy_rows, write_rows, tmp_path):
    before = read_table(write_rows(tmp_path / "items.csv", toy_rows), None).version
    noted = [row | {"note": "x"} for row in toy_rows]
    assert read_table(write_rows(tmp_path / "items.csv", noted), None).version == before
    toy_rows[0]["tag"] = "metal"
    assert read_table(write_rows(tmp_path / "items.csv", toy_rows), None).version != before


def test_a_misspelt_title_column_is_named(tags, tmp_path):
    path = tmp_path / "typo.csv"
    path.write_text("id,titel\n1,apple\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no column holds the text .* \(did you mean 'titel'\?\)"):
        read_table(path, tags)


@pytest.mark.parametrize("rows", ["", ",\n"])
def test_a_file_without_a_usable_row_is_refused(tags, tmp_path, rows):
    path = tmp_path / "none.csv"
    path.write_text(f"id,title\n{rows}", encoding="utf-8")
    with pytest.raises(UserError, match="no row that can be audited"):
        read_table(path, tags)
