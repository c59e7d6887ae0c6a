from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.batch.conftest import Write, titles

from tagger.batch.plan import Unit, find_files, make_plan, open_place, units_of
from tagger.data.columns import UNSAID
from tagger.errors import UserError
from tagger.runs import RunFolder


def test_a_folder_gives_the_files_of_all_folders_in_it(folder: Path) -> None:
    place, names = find_files(str(folder))

    assert names == ["a.parquet", "sub/b.parquet"]
    assert place.path(names[1]) == str(folder / "sub" / "b.parquet")


def test_a_pattern_gives_those_that_match(folder: Path, write: Write) -> None:
    write(folder / "2024-1.parquet", titles(2))

    assert find_files(f"{folder}/2024-*.parquet")[1] == ["2024-1.parquet"]
    assert find_files(f"{folder}/*/*.parquet")[1] == ["sub/b.parquet"]


@pytest.mark.parametrize("pattern", ["", "/*.csv", "/nothing/*.parquet"])
def test_an_input_without_files_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UserError, match=r"no file that ends in \.parquet"):
        find_files(f"{tmp_path}{pattern}")


def test_an_address_that_nothing_opens_is_refused() -> None:
    with pytest.raises(UserError, match="nosuch://bucket cannot be opened"):
        open_place("nosuch://bucket")


def test_units_are_row_groups_and_know_where_they_begin(tiny_run: RunFolder, folder: Path) -> None:
    plan = make_plan(tiny_run, *find_files(str(folder)), UNSAID, keep_columns=True)

    assert [*units_of(plan)][2:] == [
        Unit("a.parquet", 2, 80, 20), Unit("sub/b.parquet", 0, 0, 30)
    ]  # fmt: skip
    assert plan.columns == {"id": "id", "title": "title"}
    assert plan.kept == ["team"]


def test_files_with_other_columns_are_refused(tiny_run: RunFolder, folder: Path) -> None:
    parquet.write_table(pa.table({"headline": ["rain"]}), folder / "c.parquet")

    with pytest.raises(UserError, match=r"c\.parquet has no column 'id', which a\.parquet has"):
        make_plan(tiny_run, *find_files(str(folder)), UNSAID, keep_columns=False)


def test_a_damaged_file_is_named(tiny_run: RunFolder, folder: Path) -> None:
    (folder / "c.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(UserError, match=r"c\.parquet is not a readable Parquet file"):
        make_plan(tiny_run, *find_files(str(folder)), UNSAID, keep_columns=False)
