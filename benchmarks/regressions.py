"""Is a run refused that was trained without a subfield, and one of another seed let through?

    python benchmarks/regressions.py

Half of the embedded set is trained on, half is evaluated on. The default model is trained on all of
the first half, once more with each of ten other seeds, and once without each subfield of at least
`--least` rows (a column that neither model nor gate ever reads). Each is compared with the first
run by `evaluate.py against=`, whose exit code says whether it is refused.

Whether ten seeds are let through depends on the luck of the first run; so all ordered pairs of the
ten are put before the same gate as well.

A model may do without a subfield, when what is left teaches the same. So it is also said how many
rows of the subfield broke, and whether that is beyond chance by a test of the subfield alone
(McNemar's exact test, one-sided, p < 0.05), as nobody could do who does not know which is missing.

A benchmark that was stopped goes on where it was.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from tagger.compare.runs import LabelledFile
from tagger.config.schema import SplitConfig
from tagger.data.splits import split_items
from tagger.data.tags import tag_positions
from tagger.errors import exit_on_user_error
from tagger.evaluation.explore import ENCODER
from tagger.evaluation.guards import REGRESSED, check_guards
from tagger.evaluation.parts import found_parts, named_parts
from tagger.evaluation.report import EvaluationReport
from tagger.evaluation.slices import build_slices
from tagger.files import csv_text, write_json, write_text
from tagger.models.embedding import embed_items
from tagger.progress import progress_bar
from tagger.runs import read_predictions

BASE = "base"


@exit_on_user_error
def main() -> None:
    """Train and compare all of them, then print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/gold.csv"))
    parser.add_argument("--least", type=int, default=45, help="rows of a subfield")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/regressions"))
    options = parser.parse_args()

    train, test = halve(options.data)
    sizes = Counter(row["subfield"] for row in train + test)
    left_out = [name for name, size in sizes.most_common() if size >= options.least]
    write_rows(options.out / "test.csv", test)
    runs = {BASE: (train, 0)}
    runs |= {f"seed-{seed}": (train, seed) for seed in range(1, options.seeds + 1)}
    runs |= {
        f"without-{name}": ([row for row in train if row["subfield"] != name], 0)
        for name in left_out
    }
    with progress_bar(len(runs), "retrain", "run") as bar:
        for name, (rows, seed) in runs.items():
            file = options.out / f"{name}.csv"
            write_rows(file, rows)
            train_run(options, name, file, seed)
            if name != BASE:
                compare(options, name)
            bar.update()
    summarise(options, [name for name in runs if name != BASE], test)


def halve(path: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Divide the rows of a file in two halves, near-duplicates together."""
    source = LabelledFile.load(path, Path("data/tags.yaml"))
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    halves = SplitConfig(
        validation=0.0, test=0.5, seed=0, column=None, folds=None, fold=None, per_tag=None
    )
    split = split_items(source.items, halves)
    return [rows[place] for place in split.train], [rows[place] for place in split.test]


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows, with their subfield, which nothing reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, csv_text([list(rows[0]), *(list(row.values()) for row in rows)]))


def train_run(options: argparse.Namespace, name: str, file: Path, seed: int) -> None:
    """Train a run, or take it as it is when it is there."""
    _call(
        "train.py",
        [
            f"name={name}",
            f"runs_dir={options.out}",
            "if_exists=resume",
            f"seed={seed}",
            "data=file",
            f"data.name={name}",
            f"data.path={file}",
            "data.split.test=0",
            f"training.threads={options.threads}",
        ],
        {0},
    )


def compare(options: argparse.Namespace, name: str) -> None:
    """Evaluate a run against the first one, unless that is done."""
    if (options.out / f"{name}.json").exists():
        return
    code = _call(
        "evaluate.py",
        [
            f"run={name}",
            f"runs_dir={options.out}",
            f"against={BASE}",
            "data=file",
            "data.name=test",
            f"data.path={options.out / 'test.csv'}",
            "behaviour=off",
            "latency.items=10",
            "latency.warmup=0",
        ],
        {0, REGRESSED},
    )
    report = EvaluationReport.read(options.out / name / "on-test" / "report.json")
    comparison = report.comparison
    assert comparison is not None
    write_json(
        options.out / f"{name}.json",
        {
            "refused": code == REGRESSED,
            "worse": [one.name for one in comparison.guards.parts if one.worse],
            "fixed": [one.id for one in comparison.fixed],
            "broken": [one.id for one in comparison.broken],
        },
    )


def summarise(options: argparse.Namespace, names: list[str], test: list[dict[str, str]]) -> None:
    """Print a line a run, and the counts."""
    subfield = {row["id"]: row["subfield"] for row in test}
    lines = {name: json.loads((options.out / f"{name}.json").read_text()) for name in names}
    print("| run | broken | fixed | of the subfield | refused | worse |")
    print("|---|---:|---:|---|---|---|")
    beyond = []
    for name, line in lines.items():
        missing = name.removeprefix("without-")
        counts = [sum(subfield[one] == missing for one in line[key]) for key in ("broken", "fixed")]
        of_it = "" if missing == name else f"{counts[0]} broken, {counts[1]} fixed"
        total = sum(counts)
        if total and binomtest(counts[0], total, alternative="greater").pvalue < 0.05:
            beyond.append(name)
            of_it += ", beyond chance"
        print(
            f"| {name} | {len(line['broken'])} | {len(line['fixed'])} | {of_it} | "
            f"{'yes' if line['refused'] else 'no'} | {'; '.join(line['worse'][:3])} |"
        )
    seeds = [line["refused"] for name, line in lines.items() if name.startswith("seed-")]
    print(f"\n{sum(seeds)} of {len(seeds)} other seeds refused")
    refused = sum(lines[name]["refused"] for name in beyond)
    print(f"{refused} of {len(beyond)} runs refused whose missing subfield broke beyond chance")
    pairs, refused = judge_pairs(options, [name for name in names if name.startswith("seed-")])
    print(f"{refused} of {pairs} ordered pairs of these seeds refused")
    spared = [one for one in lines if one.startswith("without-") and one not in beyond]
    refused = int(np.sum([lines[name]["refused"] for name in spared]))
    print(f"{refused} of {len(spared)} runs refused that could do without theirs")


def judge_pairs(options: argparse.Namespace, names: list[str]) -> tuple[int, int]:
    """Put every ordered pair of runs before the gate; return how many, and how many are refused."""
    source = LabelledFile.load(options.out / "test.csv", Path("data/tags.yaml"))
    true = tag_positions(source.items, source.tags)
    vectors = embed_items(source.items, ENCODER, source.tags)
    counts = {tag: int((true == place).sum()) for place, tag in enumerate(source.tags)}
    parts = [
        *named_parts(source.items, source.tags, build_slices(source.items, counts)),
        *found_parts(source.items, true, source.tags, vectors),
    ]
    decided = {}
    for name in names:
        rows = read_predictions(options.out / name / "on-test" / "predictions.csv", source.tags)
        decided[name] = np.array([int(rows[item.id].argmax()) for item in source.items])
    pairs = list(permutations(names, 2))
    refused = 0
    for ours, theirs in pairs:
        guards = check_guards(parts, true, decided[ours], decided[theirs], seed=0)
        refused += any(one.worse for one in guards.parts)
    return len(pairs), refused


def _call(script: str, arguments: list[str], expected: set[int]) -> int:
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode not in expected:
        sys.exit(f"{script} {' '.join(arguments)}\n{done.stderr}")
    return done.returncode


if __name__ == "__main__":
    main()
