"""What `tagger build` makes is worth on content that nothing was trained on or chosen by.

    python benchmarks/builds.py --data data/gold.csv --judge LISTS.csv \
        data.extra=[data/contrasts.csv]
    python benchmarks/builds.py --data DATASET.csv --data data/gold.csv --transfer STREAM.csv \
        --judge LISTS.csv data.extra=[data/contrasts.csv]

One build a seed, each below --out, so a killed benchmark goes on where it was. Rows of a judging
file that say the same as a labelled row are left out. All steps of the builds are scored there, and
the chosen run is held to its promise by the rule that it was built with.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tagger.build.run_build import Outcome, build, build_config
from tagger.compare.runs import LabelledFile
from tagger.data.columns import UNSAID
from tagger.data.items import Item
from tagger.data.sources import open_file, read_labelled
from tagger.data.splits import unseen_items
from tagger.data.tags import tag_positions
from tagger.decision.decider import load_rule
from tagger.decision.policies import REVIEW
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.evaluation.selective import area_under_risk_coverage, precision_at_coverage
from tagger.files import write_json
from tagger.reporting.markdown import markdown_table
from tagger.runs import RunFolder, open_run
from tagger.scores import confusion_matrix, scores_from_confusion

CHOSEN = "chosen"
HEAD = {
    "weighted F1": "weighted_f1", "macro F1": "macro_f1", "P of surest 80 %": "surest",
    "AURC": "aurc", "published": "published", "its P": "precision", "p99 ms": "p99_ms",
}  # fmt: skip


@exit_on_user_error
def main() -> None:
    """Build, score, print the table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, action="append")
    parser.add_argument("--transfer", action="append", default=[])
    parser.add_argument("--judge", required=True, type=Path, action="append")
    parser.add_argument("--tags", type=Path, default=Path("data/tags.yaml"))
    parser.add_argument("--budget", type=float, default=60.0, help="minutes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/builds"))
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()

    first, *further = options.data
    source = LabelledFile.load(first, options.tags, further=further)
    name = "-".join(path.stem for path in options.data)
    made = [make(options, source, f"{name}-seed{seed}", seed) for seed in range(options.seeds)]
    tables = {}
    for path in options.judge:
        items = read_labelled([open_file(path)], UNSAID, source.tags).items
        items = [items[at] for at in unseen_items(items, source.items)]
        tables[path.stem] = score_all(made, items)
        print(f"\n{path.stem}: {len(items)} rows, built on {name}, {options.seeds} seeds\n")
        rows = [
            [step, *(cell(scores.get(key, [])) for key in HEAD.values())]
            for step, scores in tables[path.stem].items()
        ]
        print("\n".join(markdown_table(["step", *HEAD], rows)))
    seconds = [one.report.seconds for one in made]
    print(f"\nchosen: {', '.join(one.report.chosen for one in made)}; built in {cell(seconds)} s")
    write_json(
        options.out / f"{name}.json",
        {"tables": tables, "seconds": seconds, "environment": describe_environment().model_dump()},
    )


def make(options: argparse.Namespace, source: LabelledFile, name: str, seed: int) -> Outcome:
    """Build with one seed, or find it built."""
    config = build_config(
        source,
        tags=options.tags,
        overrides=options.overrides,
        name=name,
        transfer=options.transfer,
        promise=0.98,
        confidence=0.95,
        budget_minutes=options.budget,
        runs_dir=str(options.out),
        seed=seed,
    )
    return build(config, source)


def score_all(made: Sequence[Outcome], items: Sequence[Item]) -> dict[str, dict[str, list[float]]]:
    """Score all steps of all builds, and the chosen runs: a value a build, by step and score."""
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in made:
        for step in one.report.candidates:
            scores = score(open_run(str(one.steps / step.name), ""), items)
            scores["p99_ms"] = step.p99_ms
            for key, value in scores.items():
                if key not in ("published", "precision"):
                    table[step.name][key].append(value)
                if step.name == one.report.chosen and key not in ("published", "precision"):
                    table[CHOSEN][key].append(value)
        chosen = score(open_run(str(one.run), ""), items)
        for key in ("published", "precision"):
            table[CHOSEN][key].append(chosen[key])
    return {step: dict(scores) for step, scores in table.items()}


def score(run: RunFolder, items: Sequence[Item]) -> dict[str, float]:
    """Score a run and its rule on some items."""
    true = tag_positions(items, run.tags)
    raw = run.load_classifier().predict_proba(items)
    result = load_rule(run.path, len(run.tags)).apply(raw, None)
    counts = confusion_matrix(true, result.predicted, len(run.tags))
    sure, right, out = result.probabilities.max(1), result.predicted == true, result.tags != REVIEW
    overall = scores_from_confusion(counts)
    return {
        "weighted_f1": float(overall["weighted_f1"]),
        "macro_f1": float(overall["macro_f1"]),
        "surest": precision_at_coverage(sure, right, 0.8),
        "aurc": area_under_risk_coverage(sure, right),
        "published": float(out.mean()),
        "precision": float(right[out].mean()) if out.any() else float("nan"),
    }


def cell(values: Sequence[float]) -> str:
    """Show the mean and the standard deviation of some values."""
    if not values:
        return "-"
    return f"{np.mean(values):.4g} ({np.std(values, ddof=min(1, len(values) - 1)):.2g})"


if __name__ == "__main__":
    main()
