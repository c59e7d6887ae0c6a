"""Rows a second and peak memory of `tagger predict`, on a file and on the same file ten times over.

    python benchmarks/predict_stream.py --run RUN --input ITEMS.csv

Whole commands in processes of their own, imports and the checking of the input included.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tagger.errors import exit_on_user_error
from tagger.files import REPO_ROOT, write_json


@exit_on_user_error
def main() -> None:
    """Measure both files, print the figures, save them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--input", type=Path, required=True, help="a CSV file")
    parser.add_argument("--repeats", type=int, default=3, help="of the short file")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/predict_stream"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    long = options.out / "ten-times.csv"
    rows = write_ten_times(options.input, long)
    short_runs = [
        measure(options.run, options.input, options.out / "short.csv")
        for _ in range(options.repeats)
    ]
    long_run = measure(options.run, long, options.out / "long.csv")
    check_order(long, options.out / "long.csv", rows * 10)
    short = {name: statistics.median(run[name] for run in short_runs) for name in short_runs[0]}
    result = {
        "rows": rows,
        "short": short | {"rows_per_second": rows / short["seconds"]},
        "long": long_run | {"rows_per_second": rows * 10 / long_run["seconds"]},
        "memory_ratio": long_run["peak_mib"] / short["peak_mib"],
    }
    print(json.dumps(result, indent=2))
    write_json(options.out / "predict_stream.json", result)
    long.unlink()


def write_ten_times(source: Path, target: Path) -> int:
    """Write the rows of a CSV file ten times, with ids of their own; return how many it has."""
    rows = 0
    with target.open("w", encoding="utf-8", newline="") as out:
        writer: csv.DictWriter[str] | None = None
        for copy in range(10):
            with source.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if writer is None:
                    writer = csv.DictWriter(out, reader.fieldnames or [])
                    writer.writeheader()
                for rows, row in enumerate(reader, 1):  # noqa: B007  # the last count is wanted
                    writer.writerow(row | {"id": f"{copy}-{row['id']}"})
    return rows


def check_order(source: Path, predictions: Path, expected: int) -> None:
    """Fail if a row is missing or out of order."""
    with (
        source.open(encoding="utf-8", newline="") as one,
        predictions.open(encoding="utf-8", newline="") as other,
    ):
        pairs = zip(csv.DictReader(one), csv.DictReader(other), strict=True)
        count = sum(row["id"] == predicted["id"] for row, predicted in pairs)
    if count != expected:
        raise SystemExit(f"{count} of {expected} rows are in their place")


def measure(run: str, source: Path, output: Path) -> dict[str, float]:
    """Predict one file with the command that users give: seconds and peak resident MiB."""
    command = [
        *(sys.executable, "-c", "from tagger.cli import main; main()", "predict"),
        *("--run", run, "--input", str(source), "--output", str(output)),
    ]
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return {"seconds": time.perf_counter() - started, "peak_mib": usage.ru_maxrss / 1024}


if __name__ == "__main__":
    main()
