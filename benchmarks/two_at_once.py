"""What trainings, and `tagger predict` beside a training, leave of each other's speed.

    python benchmarks/two_at_once.py [--seconds 30] [--rounds 3]

In each round every arm is measured once, so that a drift of the machine's speed touches all alike:
one training alone and two at once, a prediction alone and beside a training; as the programs set
their threads up (`ours`), and as OpenMP would by default (`spinning`). Steps are those that
`metrics.jsonl` gained while the clock ran; items are those of a whole `tagger predict`.
`--arm NAME=VALUE,…` measures another setting of the environment.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tagger.environment import describe_environment
from tagger.errors import UserError, exit_on_user_error
from tagger.files import REPO_ROOT, write_json
from tagger.threads import WAITING
from tagger.training.tracking import read_metrics

ARMS = {"ours": {}, "spinning": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}}
START_SECONDS = 600.0
TAGGER = (sys.executable, "-c", "from tagger.cli import main; main()")


@exit_on_user_error
def main() -> None:
    """Measure all arms in turn, print medians, save all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of a count of steps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="of the file to predict")
    parser.add_argument("--run", help="predicts; default: one is trained, and exported to int8")
    parser.add_argument("--arm", action="append", default=[], metavar="NAME=VALUE,NAME=VALUE")
    parser.add_argument("--only-trainings", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/two_at_once"))
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)

    arms = ARMS | {
        given: dict(pair.split("=", 1) for pair in given.split(",")) for given in options.arm
    }
    runs: list[str] = []
    if not options.only_trainings:
        runs = [options.run] if options.run else make_runs(options.out)
    rows = write_rows(options.out / "rows.csv", options.rows)
    found: dict[str, dict[str, list[float]]] = {}
    loads = []
    for number in range(options.rounds):
        for arm, environment in arms.items():
            loads.append(os.getloadavg()[0] if hasattr(os, "getloadavg") else None)
            figures = found.setdefault(arm, {})
            counted = {
                "one training": count_steps(options.out, environment, 1, options.seconds),
                "two trainings": count_steps(options.out, environment, 2, options.seconds),
            }
            for name, steps in counted.items():
                figures.setdefault(name, []).extend(steps)
            for run in runs:
                for beside in (False, True):
                    name = f"predict, {Path(run).name}" + (", beside a training" * beside)
                    rate = time_prediction(options.out, environment, run, rows, beside)
                    figures.setdefault(name, []).append(rate)
            print(f"round {number + 1}, {arm}: {medians(figures)}", flush=True)
    result = {
        "seconds": options.seconds,
        "arms": {arm: dict(WAITING) | arms[arm] for arm in arms},
        "medians": {arm: medians(figures) for arm, figures in found.items()},
        "figures": found,
        "load_before": loads,
        "environment": describe_environment().model_dump(),
    }
    write_json(options.out / "two_at_once.json", result)
    print("\n".join(table(found)))


def medians(figures: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each series of figures."""
    return {name: round(statistics.median(values), 1) for name, values in figures.items()}


def table(found: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    """Yield the lines of a table: medians, and what is kept of the speed that is had alone."""
    yield "steps of each training, items a second of a prediction:"
    for arm, figures in found.items():
        yield arm
        middle = medians(figures)
        for name, value in middle.items():
            alone = name.removesuffix(", beside a training").replace(
                "two trainings", "one training"
            )
            share = "" if alone == name else f"  {value / middle[alone]:.0%} of alone"
            yield f"  {name:<44} {value:>8.1f}{share}"


def make_runs(out: Path) -> list[str]:
    """Train a run for the time of a coffee, and export it; return both folders."""
    runs = [str(out / name) for name in ("whole", "int8")]
    if not (Path(runs[1]) / "meta.json").exists():
        train = [sys.executable, "train.py", "name=whole", f"runs_dir={out}"]
        run_whole([*train, "if_exists=replace", "training.epochs=1"])
        export = [*TAGGER, "export", "--run", str(out / "whole")]
        run_whole([*export, "--name", "int8", "--no-gate", "--runs-dir", str(out)])
    return runs


def write_rows(path: Path, count: int) -> Path:
    """Write a file of items without tags, of the texts of the embedded data in turn."""
    with (REPO_ROOT / "data" / "gold.csv").open(encoding="utf-8", newline="") as file:
        texts = [(row["title"], row["description"]) for row in csv.DictReader(file)]
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "title", "description"])
        writer.writerows([number, *texts[number % len(texts)]] for number in range(count))
    return path


def count_steps(
    out: Path, environment: dict[str, str], trainings: int, seconds: float
) -> list[float]:
    """Return how many steps each of so many trainings makes in a time, once all are at it."""
    with ExitStack() as stack:
        metrics = [
            stack.enter_context(training(out / f"training-{number}", environment))
            for number in range(trainings)
        ]
        for path in metrics:
            wait_for_steps(path)
        before = [len(read_metrics(path)) for path in metrics]
        time.sleep(seconds)
        return [
            float(len(read_metrics(path)) - start)
            for path, start in zip(metrics, before, strict=True)
        ]


def time_prediction(
    out: Path, environment: dict[str, str], run: str, rows: Path, beside: bool
) -> float:
    """Return the items a second of `tagger predict`, its start included."""
    with ExitStack() as stack:
        if beside:
            wait_for_steps(stack.enter_context(training(out / "training-0", environment)))
        command = [*TAGGER, "predict", "--run", run, "--input", str(rows)]
        started = time.perf_counter()
        run_whole([*command, "--output", str(out / "predictions.csv")], environment)
        seconds = time.perf_counter() - started
    with rows.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.DictReader(file)) / seconds


@contextmanager
def training(folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Train the default model without end, and yield where its steps are noted."""
    command = [
        *(sys.executable, "train.py", f"runs_dir={folder.parent}"),
        *(f"name={folder.name}", "if_exists=replace", "training.epochs=1000"),
        "training.checkpoint_seconds=3600",
    ]
    log = folder.with_name(f"{folder.name}.log")
    shutil.rmtree(folder, ignore_errors=True)
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, cwd=REPO_ROOT, env=surroundings(environment), stdout=said, stderr=said
        )
    try:
        yield folder / "metrics.jsonl"
        if process.poll() is not None:
            raise UserError(f"a training ended by itself; see {log}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_steps(metrics: Path) -> None:
    """Wait until a training has made its first steps."""
    deadline = time.monotonic() + START_SECONDS
    while len(read_metrics(metrics)) < 5:
        if time.monotonic() > deadline:
            raise UserError(f"no steps in {metrics} after {START_SECONDS:g} s")
        time.sleep(0.1)


def run_whole(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Run a command to its end."""
    done = subprocess.run(
        command,
        cwd=REPO_ROOT,
        env=surroundings(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"a command failed: {' '.join(command)}", [done.stderr.strip()])


def surroundings(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of a command: no settings of threads but those of its arm."""
    ours = {name: value for name, value in os.environ.items() if name not in WAITING}
    return ours | {"PYTHONPATH": str(REPO_ROOT / "src")} | environment


if __name__ == "__main__":
    main()
