from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tagger.batch.plan import find_files, make_plan, open_place, units_of
from tagger.batch.units import answer_unit, put
from tagger.data.columns import TableFormat
from tagger.decision.decider import Decider, load_decider
from tagger.errors import UserError
from tagger.runs import RunFolder


@pytest.fixture(scope="module")
def decider(tiny_run: RunFolder) -> Decider:
    return load_decider(tiny_run.path, tiny_run.load_classifier())


def answer(run: RunFolder, decider: Decider, folder: Path, out: Path, at: int = 0) -> pa.Table:
    place, names = find_files(str(folder))
    how = TableFormat({"id": "key", "title": "title"})
    plan = make_plan(run, place, names, how, keep_columns=True)
    unit = [*units_of(plan)][at]
    answer_unit(plan, unit, place, open_place(str(out)), decider)
    return parquet.read_table(out / f"{unit.name}.parquet")


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (pa.array([7, None], pa.int64()), [7, None]),
        (pa.array(["007", None]), ["007", ""]),
        (pa.array([0.5, 2.0]), [0.5, 2.0]),
    ],
)
def test_ids_come_back_as_they_came(
    tiny_run: RunFolder, decider: Decider, tmp_path: Path, keys: pa.Array, found: list[object]
) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"key": keys, "title": ["rain", "iron"], "more": [1, 2]})
    parquet.write_table(table, tmp_path / "in" / "a.parquet")

    made = answer(tiny_run, decider, tmp_path / "in", tmp_path / "out")

    assert made["id"].to_pylist() == found
    assert made["more"].to_pylist() == ["1", "2"]


def test_a_column_of_lists_is_refused_with_the_file(
    tiny_run: RunFolder, decider: Decider, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"key": [1], "title": [["rain", "iron"]]})
    parquet.write_table(table, tmp_path / "in" / "a.parquet")

    with pytest.raises(UserError, match=r"a\.parquet cannot be read") as raised:
        answer(tiny_run, decider, tmp_path / "in", tmp_path / "out")

    assert "'title' holds list" in str(raised.value)
    assert not [*(tmp_path / "out").rglob("*.parquet")]


def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(OSError, match="taken"):
        put(open_place(str(tmp_path)), "taken/a.parquet", b"content")

    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
