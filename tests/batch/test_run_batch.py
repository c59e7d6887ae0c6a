import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.batch.conftest import Write, contents, predict, titles

from tagger.batch import engines, run_batch
from tagger.errors import UserError
from tagger.prediction import predict_file
from tagger.runs import RunFolder


def test_each_row_group_has_a_file_and_rows_keep_their_order(
    tiny_run: RunFolder, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    manifest = predict(tiny_run, folder, out)

    assert [(unit.name, unit.rows) for unit in manifest.units] == [
        ("a-00000.parquet", 40),
        ("a-00001.parquet", 40),
        ("a-00002.parquet", 20),
        ("sub/b-00000.parquet", 30),
    ]
    assert contents(out).keys() == {
        *(unit.name for unit in manifest.units), "plan.json", "manifest.json", "unanswered.csv"
    }  # fmt: skip
    read = pa.concat_tables(parquet.read_table(out / unit.name) for unit in manifest.units)
    assert read["id"].to_pylist() == [*range(130)]
    assert json.loads((out / "manifest.json").read_text())["rows"] == 130


def test_a_file_gets_the_predictions_that_it_gets_alone(
    tiny_run: RunFolder, folder: Path, tmp_path: Path
) -> None:
    predict(tiny_run, folder, tmp_path / "out")
    predict_file(tiny_run, folder / "a.parquet", tmp_path / "alone.parquet")

    parts = [parquet.read_table(tmp_path / "out" / f"a-0000{n}.parquet") for n in range(3)]
    made, alone = pa.concat_tables(parts), parquet.read_table(tmp_path / "alone.parquet")
    assert made.schema.equals(alone.schema)
    for name in made.column_names:
        expected = alone[name].to_pylist()
        if pa.types.is_floating(alone.schema.field(name).type):
            # Other rows are padded together, which moves the last digit.
            expected = [one if one is None else pytest.approx(one, abs=2e-6) for one in expected]
        assert made[name].to_pylist() == expected


def test_rows_without_an_answer_are_listed_with_file_and_row(
    tiny_run: RunFolder, folder: Path, tmp_path: Path
) -> None:
    manifest = predict(tiny_run, folder, tmp_path / "out")

    with (tmp_path / "out" / "unanswered.csv").open(newline="") as file:
        listed = [*csv.reader(file)]
    assert manifest.unanswered == 2
    assert listed[0] == ["file", "row", "id", "reason"]
    assert [row[:3] for row in listed[1:]] == [["a.parquet", "4", "3"], ["a.parquet", "56", "55"]]
    assert "'title' is blank" in listed[1][3]


def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(
    tiny_run: RunFolder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(tiny_run, folder, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    real = engines.answer_unit
    done = []

    def dies(*given: object) -> int:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(given)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(engines, "answer_unit", dies)
    with pytest.raises(KeyboardInterrupt):
        predict(tiny_run, folder, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    finished = [tmp_path / "out" / f"a-0000{n}.parquet" for n in range(2)]
    written = [path.stat().st_mtime_ns for path in finished]
    monkeypatch.setattr(engines, "answer_unit", real)

    predict(tiny_run, folder, tmp_path / "out")

    assert contents(tmp_path / "out") == whole
    assert [path.stat().st_mtime_ns for path in finished] == written


def test_finished_work_is_not_done_again(
    tiny_run: RunFolder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predict(tiny_run, folder, tmp_path / "out")
    monkeypatch.setattr(run_batch, "work_here", None)

    assert predict(tiny_run, folder, tmp_path / "out") == first


def test_a_folder_with_other_work_is_refused_and_kept(
    tiny_run: RunFolder, folder: Path, tmp_path: Path, write: Write
) -> None:
    predict(tiny_run, folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    write(folder / "c.parquet", titles(3))

    with pytest.raises(UserError, match="other work; what differs: files"):
        predict(tiny_run, folder, tmp_path / "out")

    assert contents(tmp_path / "out") == before


def test_a_folder_with_files_of_somebody_else_is_refused(
    tiny_run: RunFolder, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")

    with pytest.raises(UserError, match="expected a new folder"):
        predict(tiny_run, folder, tmp_path / "out")


def test_an_output_around_the_input_is_refused(tiny_run: RunFolder, folder: Path) -> None:
    with pytest.raises(UserError, match="files of the input lie in it"):
        predict(tiny_run, folder, folder)


def test_lost_rows_are_found(tiny_run: RunFolder, folder: Path, tmp_path: Path) -> None:
    predict(tiny_run, folder, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    part = tmp_path / "out" / "a-00001.parquet"
    parquet.write_table(parquet.read_table(part).slice(1), part)

    with pytest.raises(UserError, match="has 39 rows, expected 40"):
        predict(tiny_run, folder, tmp_path / "out")


def test_addresses_of_other_file_systems_are_read_and_written(
    tiny_run: RunFolder, folder: Path, tmp_path: Path
) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.put_file(str(folder / "a.parquet"), "/bucket/in/a.parquet")

    manifest = predict(tiny_run, "memory://bucket/in", "memory://bucket/out")

    assert manifest.rows == 100
    predict(tiny_run, folder / "a.parquet", tmp_path / "out")
    assert (
        store.cat_file("/bucket/out/a-00002.parquet")
        == (tmp_path / "out" / "a-00002.parquet").read_bytes()
    )
