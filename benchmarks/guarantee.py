"""Does the promise hold? Repeated splits of out-of-fold predictions into calibration and test.

    python benchmarks/guarantee.py --data DATASET.csv [--approach minilm]

Out-of-fold predictions of an approach are those of `tagger compare --data DATASET.csv`, and are
made if they are not there yet. In each repetition a policy is fitted to a random half of the items
and judged by the other half. A promise of 95 % confidence may be broken in 5 % of the repetitions,
of precision measured on all items at that threshold; on the test half alone chance adds its own.

Halves of one sample are not new samples: what is published of one half depends on the other, which
makes a repetition harder, not easier. A second table therefore draws both halves with replacement
from the items, taking them for the population: there the promise must hold as it is written.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tagger.compare.approaches import choose_approaches
from tagger.compare.comparison import threshold_config
from tagger.compare.cross_validation import cross_validate
from tagger.compare.runs import LabelledFile
from tagger.config.schema import DecisionConfig
from tagger.decision.calibrators import fit_calibrator
from tagger.decision.policies import REVIEW, Conformal, Policy, fit_policy
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import write_json
from tagger.reporting.figures import BLUE, VERMILION, write_figure
from tagger.scores import FloatArray, IntArray

REPEATS = 1000
PROMISES = (0.90, 0.95, 0.97, 0.98)
ALPHAS = (0.05, 0.10)
Draw = Callable[[int, np.random.Generator], tuple[IntArray, IntArray]]


@exit_on_user_error
def main() -> None:
    """Repeat for each promise, print tables, draw the histogram."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--approach", default="minilm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("comparisons"), help="where runs are")
    options = parser.parse_args()

    source = LabelledFile.load(options.data, Path("data/tags.yaml"))
    approaches = choose_approaches([options.approach])
    folder = options.out / source.name
    result = cross_validate(approaches, source, folder, seeds=options.seeds, folds=5)[
        options.approach
    ]
    true = source.true
    report: dict[str, Any] = {"rows": len(true), "repeats": REPEATS, "environment": {}}
    precisions: dict[float, list[float]] = {}
    for name, draw in {"halves": halves, "resampled": resampled}.items():
        print(f"\n{name}: {REPEATS} repetitions\n")
        print(
            "| promise | share of repetitions that break it | published, mean | its precision, "
            "mean | publish nothing |"
        )
        print("|---|---|---|---|---|")
        for promise in PROMISES:
            for scope in ("overall", "per_tag"):
                config = threshold_config().model_copy(
                    update={"target_precision": promise, "scope": scope}
                )
                row, drawn = repeat(result.probabilities, true, config, draw)
                report[f"{name}, {scope} {promise}"] = row
                if name == "resampled" and scope == "overall":
                    precisions[promise] = drawn
                values = ("broken", "coverage", "precision", "silent")
                cells = ("-" if row[key] is None else f"{row[key]:.4f}" for key in values)
                print(f"| {promise:.2f}, {scope.replace('_', ' ')} | " + " | ".join(cells) + " |")
    print("\n| conformal, alpha | share of a tag's items that its sets miss, by tag | published |")
    print("|---|---|---|")
    for alpha in ALPHAS:
        config = threshold_config().model_copy(update={"policy": "conformal", "alpha": alpha})
        missed, coverage = repeat_conformal(result.probabilities, true, config)
        report[f"conformal {alpha}"] = {"missed": missed, "coverage": coverage}
        print(f"| {alpha:.2f} | {', '.join(f'{m:.3f}' for m in missed)} | {coverage:.3f} |")
    report["environment"] = describe_environment().model_dump()
    write_json(options.out / "guarantee.json", report)
    write_figure(plot(precisions), options.out / "guarantee.png")
    print(options.out / "guarantee.png")


def halves(n: int, random: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Divide n items into two halves."""
    order = random.permutation(n)
    return order[: n // 2], order[n // 2 :]


def resampled(n: int, random: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Draw n items with replacement to fit to; all n are the population to be judged on."""
    return random.integers(0, n, n), np.arange(n)


def repeat(
    probabilities: FloatArray, true: IntArray, config: DecisionConfig, draw: Draw
) -> tuple[dict[str, float | None], list[float]]:
    """Fit and judge many times; return the means, and the precision of each repetition.

    A promise that is made of each tag is broken where it is for any of them.
    """
    random = np.random.default_rng(0)
    broken, coverages, precisions, silent = [], [], [], 0
    for number in range(REPEATS):
        rows = probabilities[number % len(probabilities)]
        fitting, judging = draw(len(true), random)
        calibrator = fit_calibrator("temperature", rows[fitting], true[fitting].tolist())
        policy: Policy = fit_policy(config, calibrator.apply(rows[fitting]), true[fitting])
        decided = policy.decide(calibrator.apply(rows[judging]))
        right = decided == true[judging]
        published = decided != REVIEW
        coverages.append(float(published.mean()))
        if not published.any():
            silent += 1
            broken.append(False)
            continue
        precisions.append(float(right[published].mean()))
        groups = [published]
        if config.scope == "per_tag":
            groups = [decided == tag for tag in np.unique(decided[published])]
        broken.append(any(right[group].mean() < config.target_precision for group in groups))
    return {
        "broken": float(np.mean(broken)),
        "coverage": float(np.mean(coverages)),
        "precision": float(np.mean(precisions)) if precisions else None,
        "silent": silent / REPEATS,
    }, precisions


def repeat_conformal(
    probabilities: FloatArray, true: IntArray, config: DecisionConfig
) -> tuple[list[float], float]:
    """Return the mean share of each tag's items whose set misses it, and of what is published."""
    random = np.random.default_rng(0)
    missed, published = [], []
    for number in range(REPEATS):
        rows = probabilities[number % len(probabilities)]
        fitting, judging = halves(len(true), random)
        policy = fit_policy(config, rows[fitting], true[fitting])
        assert isinstance(policy, Conformal)
        inside = policy.sets(rows[judging])[np.arange(len(judging)), true[judging]]
        missed.append(
            [float(1 - inside[true[judging] == tag].mean()) for tag in range(rows.shape[1])]
        )
        published.append(float((policy.decide(rows[judging]) != REVIEW).mean()))
    return np.mean(missed, axis=0).tolist(), float(np.mean(published))


def plot(precisions: dict[float, list[float]]) -> Figure:
    """Draw how precise what is published came out, for each promise."""
    figure = Figure(figsize=(8, 1.7 * len(precisions)), layout="constrained")
    axes = figure.subplots(len(precisions), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (promise, values) in zip(axes, precisions.items(), strict=True):
        axis.hist(values, bins=np.arange(0.88, 1.0025, 0.0025).tolist(), color=BLUE)
        axis.axvline(promise, color=VERMILION, label=f"promised: {promise:.2f}")
        below = float(np.mean(np.array(values) < promise)) if values else 0.0
        title = f"promise {promise:.2f}: broken by {below:.1%} of those that publish"
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_ylabel("repetitions")
    axes[-1].set_xlabel("precision of what is published, over all items")
    return figure


if __name__ == "__main__":
    main()
