"""Precision against time and size: every approach, whole and compressed, on the same folds.

    python benchmarks/pareto.py --data dataset.csv --transfer stream.csv --transfer data/gold.csv

From the rules to the teachers each approach is trained on every fold of every seed; students are
taught by the teachers of their own fold, which have not seen its rows. What can be compressed is,
and answers for the same rows. The models of the first fold are then timed side by side. A run that
was stopped goes on where it was.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagger.benchmark.report import BenchmarkReport, RunCosts
from tagger.benchmark.run_benchmark import benchmark
from tagger.compare.comparison import threshold_config
from tagger.compare.cross_validation import run_folder
from tagger.compare.runs import LabelledFile, drop_model, make_run, run_config
from tagger.compare.scoring import compare_all, score_out_of_fold
from tagger.compression.report import ParityReport
from tagger.compression.run_export import export_run
from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.schema import ExportConfig
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import replacing, write_json, write_text
from tagger.progress import progress_bar
from tagger.reporting.markdown import markdown_table
from tagger.runs import RunFolder, open_run, read_predictions
from tagger.scores import FloatArray, IntArray

TEACHERS = ("linear", "frozen", "minilm")
TEACHER = "teacher"
"""The mean of what these three say."""

TAUGHT_LIKE = "{cell}"
"""In the overrides of an approach: the seed and the fold that it is trained for."""

STUDENTS = ("balanced", "two-layer", "static")
EXPORTS = {
    "minilm fp32": ("minilm", "fp32"),
    "minilm int8": ("minilm", "int8"),
    "balanced fp32": ("balanced", "fp32"),
    "balanced int8": ("balanced", "balanced"),
    "two-layer fp32": ("two-layer", "fp32"),
    "two-layer int8": ("two-layer", "int8-small"),
    "static int8": ("static", "int8"),
}
"""What is compressed, and the choice of `compress`, by the name of the result."""

ALONE = {
    "balanced": ["training.lr=1e-4", "training.epochs=6"],
    "two-layer": ["training.lr=2e-4", "training.epochs=8"],
    "static": ["training.lr=1e-2", "training.epochs=12"],
}
"""The recipe of each student without a teacher, on labels alone."""

QUICK = ("rules", "linear", *EXPORTS)
"""What answers in a few milliseconds: timed in many rounds."""

REFERENCE = "minilm fp32"
"""The export that is timed beside the slow ones too."""

ROUNDS, ROUNDS_SLOW = 60, 24
LEAST = {
    "balanced int8": {"share": 0.995, "p99_ms": 1.5, "mib": 15.0, "items_per_s": 0.0},
    "two-layer int8": {"share": 0.985, "p99_ms": 0.8, "mib": 8.0, "items_per_s": 4000.0},
    "static int8": {"share": 0.95, "p99_ms": 0.15, "mib": np.inf, "items_per_s": 30_000.0},
}
"""What was set out to be reached: share of the teacher's F1, and costs with two threads."""

PRIMARY = "weighted_f1"
FIRST = "seed0-fold0"


@dataclass(frozen=True)
class Fold:
    """One fold of one seed."""

    seed: int
    fold: int

    @property
    def name(self) -> str:
        """What stands for it in the names of run folders."""
        return f"seed{self.seed}-fold{self.fold}"


@exit_on_user_error
def main() -> None:
    """Train, compress, time, and write tables and a plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="a labelled file")
    parser.add_argument("--tags", type=Path, default=Path("data/tags.yaml"))
    parser.add_argument(
        "--transfer", type=Path, action="append", default=[], help="text for students; again"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("pareto"))
    options = parser.parse_args()

    source = LabelledFile.load(options.data, options.tags)
    out = options.out / source.name
    approaches = plan_approaches(out, options.transfer)
    folds = [Fold(seed, fold) for seed in range(options.seeds) for fold in range(options.folds)]
    with progress_bar(len(folds) * (len(approaches) + len(EXPORTS)), "pareto", "run") as bar:
        for one in folds:
            train_fold(approaches, source, out, one, options.folds, bar.update)
    answers = collect(list(approaches) + list(EXPORTS), source, out, folds)
    costs = time_runs([*approaches, *EXPORTS], out, source)
    result = judge(answers, costs, source, folds, out)
    write_json(out / "pareto.json", result)
    write_text(out / "pareto.md", show(result))
    plot(result, out / "pareto.png")
    print(show(result))
    print(out / "pareto.md")


def plan_approaches(out: Path, transfer: Sequence[Path]) -> dict[str, list[str]]:
    """Return the overrides of `train.py` of each approach; one comes after what it needs.

    Args:
        out: Where the runs are; teachers are named by their folders.
        transfer: Files of text that students learn from too.
    """
    members = ",".join(quoted(out / f"{name}-{TAUGHT_LIKE}") for name in TEACHERS)
    files = ",".join(quoted(path) for path in transfer)
    tokens = [f"model.vocabulary_from=[{files}]"] if files else []
    texts = [f"distill.transfer=[{files}]"] if files else []
    approaches = {"rules": ["model=rules"]}
    approaches |= {name: [f"model={name}", "decision.folds=3"] for name in TEACHERS}
    approaches[TEACHER] = ["model=ensemble", f"model.runs=[{members}]"]
    for name in STUDENTS:
        approaches[name] = [
            f"experiment=student-{name}",
            *tokens,
            *texts,
            f"distill.teachers=[{members}]",
        ]
        approaches[f"{name} alone"] = [f"model={name}", *tokens, *ALONE[name]]
    return approaches


def train_fold(  # noqa: PLR0917
    approaches: Mapping[str, Sequence[str]],
    source: LabelledFile,
    out: Path,
    one: Fold,
    folds: int,
    done: Callable[[], object],
) -> None:
    """Train all approaches on one fold, and compress what can be; the models of the first stay."""
    runs: dict[str, RunFolder] = {}
    split = {"folds": folds, "fold": one.fold, "seed": one.seed}
    for name, overrides in approaches.items():
        given = [text.replace(TAUGHT_LIKE, one.name) for text in overrides]
        folder = run_folder(out, name, one.seed, one.fold)
        runs[name] = make_run(run_config(given, source, folder, one.seed, split))
        done()
    for name, (original, choice) in EXPORTS.items():
        folder = run_folder(out, name, one.seed, one.fold)
        if not folder.exists():
            given = [f"run={quoted(runs[original].path)}", f"runs_dir={quoted(out)}"]
            given += [f"name={folder.name}", f"compress={choice}", "gate=false"]
            export_run(load_config(ExportConfig, compose_config("export", given)))
        runs[name] = RunFolder(folder)
        done()
    if one.name != FIRST:
        for run in runs.values():
            drop_model(run)


def collect(
    names: Sequence[str], source: LabelledFile, out: Path, folds: Sequence[Fold]
) -> dict[str, FloatArray]:
    """Return what each approach says of all items, out of fold: (n_seeds, n, n_tags)."""
    seeds = 1 + max(one.seed for one in folds)
    answers = {name: np.zeros((seeds, len(source.items), len(source.tags))) for name in names}
    for name in names:
        for one in folds:
            run = run_folder(out, name, one.seed, one.fold)
            saved = read_predictions(run / "predictions.csv", source.tags)
            for place, item in enumerate(source.items):
                if item.id in saved:
                    answers[name][one.seed, place] = saved[item.id]
    return answers


def fold_of(source: LabelledFile, out: Path, folds: Sequence[Fold]) -> IntArray:
    """Return which fold each item is in, (n_seeds, n)."""
    found = np.zeros((1 + max(one.seed for one in folds), len(source.items)), dtype=np.int64)
    place = {item.id: at for at, item in enumerate(source.items)}
    for one in folds:
        run = run_folder(out, "rules", one.seed, one.fold)
        for key in read_predictions(run / "predictions.csv", source.tags):
            found[one.seed, place[key]] = one.fold
    return found


def time_runs(names: Sequence[str], out: Path, source: LabelledFile) -> dict[str, RunCosts]:
    """Time the models of the first fold side by side, the quick ones and the slow ones apart.

    A round in which slow ones take part lasts seconds: too few fit for the tail of the quick ones.
    What was timed before is read. Students without a teacher cost what those with one do.
    """
    quick_path, slow_path = out / "timing-quick.json", out / "timing-slow.json"
    slow = [name for name in names if name not in QUICK and not name.endswith(" alone")]
    runs = {name: open_run(str(run_folder(out, name, 0, 0)), "") for name in (*QUICK, *slow)}
    if not slow_path.exists():
        texts = [(item.title, item.description) for item in source.items]
        quick = benchmark(
            [runs[name] for name in QUICK],
            texts, threads=[1, 2], rounds=ROUNDS,
        )  # fmt: skip
        rest = benchmark(
            [runs[name] for name in (REFERENCE, *slow)],
            texts, threads=[2], rounds=ROUNDS_SLOW,
        )  # fmt: skip
        quick.write(quick_path)
        rest.write(slow_path)
    known = BenchmarkReport.read(slow_path).runs | BenchmarkReport.read(quick_path).runs
    return {name: known[run.name] for name, run in runs.items()}


def judge(
    answers: Mapping[str, FloatArray],
    costs: Mapping[str, RunCosts],
    source: LabelledFile,
    folds: Sequence[Fold],
    out: Path,
) -> dict[str, Any]:
    """Score all approaches, compare pairs, and hold the compressed students to what was set out."""
    places = fold_of(source, out, folds)
    promise = threshold_config()
    scores = {
        name: score_out_of_fold(rows, source.true, places[: len(rows)], promise)
        for name, rows in answers.items()
    }
    pairs = [(name, f"{name} alone") for name in STUDENTS]
    pairs += [(name, EXPORTS[name][0]) for name in ("minilm int8", *LEAST)]
    pairs += [(name, TEACHER) for name in LEAST] + [(name, "minilm") for name in LEAST]
    pairs += [(TEACHER, "minilm")]
    changed = {
        name: [
            ParityReport.read(run.path / "parity.json").texts[0].model_dump()
            for run in (RunFolder(run_folder(out, name, one.seed, one.fold)) for one in folds)
        ]
        for name in EXPORTS
    }
    return {
        "source": source.name,
        "rows": len(source.items),
        "folds": [one.name for one in folds],
        "scores": scores,
        "costs": {name: cost.model_dump() for name, cost in costs.items()},
        "differences": {
            score: [
                one.model_dump() for one in compare_all(answers, source.true, score, pairs=pairs)
            ]
            for score in (PRIMARY, "macro_f1")
        },
        "changed": {
            name: {
                "tags": float(np.mean([one["tags"] / one["rows"] for one in texts])),
                "mean_shift": float(np.mean([one["mean_shift"] for one in texts])),
            }
            for name, texts in changed.items()
        },
        "reached": {
            name: {
                "share": scores[name][PRIMARY] / scores[TEACHER][PRIMARY],
                "p99_ms": costs[name].threads["2"].batch_1.p99_ms,
                "mib": costs[name].mib,
                "items_per_s": costs[name].threads["2"].throughput.items_per_second,
                "published_precision": scores[name]["published_precision"],
            }
            for name in LEAST
        },
        "environment": describe_environment().model_dump(),
    }


def show(result: Mapping[str, Any]) -> str:
    """Lay out the result in Markdown."""
    scores, costs = result["scores"], result["costs"]
    columns = {
        "weighted P": "weighted_precision", "weighted F1": PRIMARY, "macro F1": "macro_f1",
        "P at 90 %": "precision_at_90%", "AURC": "aurc", "ECE": "ece", "published": "coverage",
        "its precision": "published_precision",
    }  # fmt: skip
    rows = []
    for name, one in scores.items():
        values = [_number(one[key]) for key in columns.values()]
        values[1] += f" ({one[PRIMARY + '_sd']:.4f})"
        rows.append([name, *values, *_costs(costs.get(name))])
    head = ["approach", *columns, "p50 ms", "p99 ms", "items/s", "MiB"]
    parts = [markdown_table(head, rows)]
    rows = [
        [f"{one['one']} minus {one['other']}", *(_interval(two) for two in (one, other))]
        for one, other in zip(*result["differences"].values(), strict=True)
    ]
    parts.append(markdown_table(["pair", "weighted F1", "macro F1"], rows))
    rows = [
        [name, f"{one['tags']:.2%}", f"{one['mean_shift']:.4f}"]
        for name, one in result["changed"].items()
    ]
    parts.append(markdown_table(["compressed", "other tag", "mean shift of probability"], rows))
    rows = []
    for name, found in result["reached"].items():
        wanted = LEAST[name]
        checks = [
            ("share", "of the teacher's F1", found["share"] >= wanted["share"], ".4f", "at least"),
            ("p99_ms", "ms at p99", found["p99_ms"] <= wanted["p99_ms"], ".3f", "at most"),
            ("mib", "MiB", found["mib"] <= wanted["mib"], ".1f", "at most"),
            (
                "items_per_s",
                "items/s",
                found["items_per_s"] >= wanted["items_per_s"],
                ",.0f",
                "at least",
            ),
        ]
        rows += [
            [name, f"{least} {wanted[key]:{form}} {what}", f"{found[key]:{form}}", _met(met)]
            for key, what, met, form, least in checks
            if np.isfinite(wanted[key]) and wanted[key]
        ]
    parts.append(markdown_table(["compressed", "wanted", "found", ""], rows))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draw weighted F1, and precision of the surest 90 %, against p99 with two threads."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        PRIMARY: "weighted F1, out of fold",
        "precision_at_90%": "precision of the surest 90 %",
    }
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
    for axis, (key, label) in zip(axes, panels.items(), strict=True):
        points = []
        for name, cost in result["costs"].items():
            x, y = cost["threads"]["2"]["batch_1"]["p99_ms"], result["scores"][name][key]
            points.append((x, y))
            colour = "C1" if name.endswith("int8") else "C0"
            axis.scatter(x, y, s=30 + 3 * cost["mib"], color=colour, alpha=0.7, linewidths=0)
            axis.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
        front = [(x, y) for x, y in sorted(points) if y >= max(v for u, v in points if u <= x)]
        axis.step(*zip(*front, strict=True), where="post", color="0.6", linewidth=1, zorder=0)
        axis.set(xscale="log", xlabel="p99 of one item, ms (two threads)", ylabel=label)
        axis.grid(alpha=0.2)
    figure.suptitle(f"{result['source']}: orange is int8, the area of a point its size")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    pyplot.close(figure)


def _costs(cost: Mapping[str, Any] | None) -> list[str]:
    if cost is None:
        return ["-"] * 4
    one = cost["threads"]["2"]
    times = [f"{one['batch_1'][key]:.2f}" for key in ("p50_ms", "p99_ms")]
    return [*times, f"{one['throughput']['items_per_second']:,.0f}", f"{cost['mib']:.1f}"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(one: Mapping[str, Any]) -> str:
    return f"{one['value']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


if __name__ == "__main__":
    main()
