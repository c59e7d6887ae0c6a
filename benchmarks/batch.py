"""How fast many files are predicted: here, and on Ray with one worker and with several.

    python benchmarks/batch.py --run RUN --input STREAM.csv

The rows of a table are written as Parquet files of equal row groups, and the whole folder is
predicted by each engine into a folder of its own. All outputs must be the same bytes. Time counts
from the first finished unit to the last, since a cluster that is there already needs no start; its
start and the loading of the run are given beside. Engines take turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tagger.batch.engines import work_here, work_on_ray
from tagger.batch.plan import find_files, make_plan, open_place, units_of
from tagger.data.columns import UNSAID
from tagger.data.problems import Problems
from tagger.data.sources import open_file
from tagger.errors import exit_on_user_error
from tagger.reporting.markdown import markdown_table
from tagger.runs import RunFolder, open_run


@exit_on_user_error
def main() -> None:
    """Time all engines and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--input", required=True, type=Path)
    parser.add_argument("--rows-of-a-unit", type=int, default=2000)
    parser.add_argument("--times", type=int, default=2, help="how often the table is written")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    run = open_run(options.run, options.runs_dir)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_files(options.input, folder / "in", options.rows_of_a_unit, options.times)
        engines = {"local": None} | {f"ray, {n}": n for n in options.workers}
        seconds: dict[str, list[float]] = {engine: [] for engine in engines}
        starts: dict[str, list[float]] = {engine: [] for engine in engines}
        for turn in range(options.repeats):
            for engine, workers in engines.items():
                out = folder / f"{engine}-{turn}"
                start, took = predict(run, folder / "in", out, workers)
                starts[engine].append(start)
                seconds[engine].append(took)
        different = {path.name for path in folder.glob("*-*") if bytes_of(path) != bytes_of(out)}
        assert not different, f"outputs differ: {different}"
    table = [
        [
            engine, f"{statistics.median(starts[engine]):.1f}",
            f"{statistics.median(rows / one for one in seconds[engine]):,.0f}",
            f"{min(rows / one for one in seconds[engine]):,.0f}",
            f"{max(rows / one for one in seconds[engine]):,.0f}",
        ]
        for engine in engines
    ]  # fmt: skip
    print(f"{rows:,} rows, one thread a worker, medians of {options.repeats}; outputs are equal\n")
    head = ["engine, workers", "s to the first unit", "rows a second", "least", "most"]
    print("\n".join(markdown_table(head, table)))


def write_files(source: Path, folder: Path, group: int, times: int) -> int:
    """Write a table as Parquet so many times over; return the number of rows of the later units."""
    table = open_file(source)
    columns = table.find_texts(UNSAID)
    rows = [row.values for row in table.rows([*columns.values()], Problems())]
    written = pa.table({name: [row.get(name) for row in rows] for name in columns.values()})
    folder.mkdir()
    for n in range(times):
        parquet.write_table(written, folder / f"{n}.parquet", row_group_size=group)
    return len(rows) * times - min(group, len(rows))


def predict(run: RunFolder, source: Path, out: Path, workers: int | None) -> tuple[float, float]:
    """Return the seconds to the first finished unit, and from there to the last."""
    place, names = find_files(str(source))
    plan = make_plan(run, place, names, UNSAID, keep_columns=False)
    units = [*units_of(plan)]
    target = open_place(str(out))
    begin = time.perf_counter()
    if workers is None:
        work = work_here(run, plan, units, place, target)
    else:
        work = work_on_ray(run, plan, units, place, target, workers=workers)
    first = 0.0
    for _ in work:
        first = first or time.perf_counter()
    return first - begin, last_written(out) - first


def last_written(folder: Path) -> float:
    """Return when the last file of a folder was written, on the clock of `perf_counter`."""
    newest = max(path.stat().st_mtime for path in folder.rglob("*.parquet"))
    return newest - time.time() + time.perf_counter()


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    main()
