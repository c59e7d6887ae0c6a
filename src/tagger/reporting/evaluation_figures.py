"""Draws the figures of an evaluation's report, each with its text alternative."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import average_precision_score, precision_recall_curve

from tagger.evaluation.evaluate_run import Evaluation
from tagger.evaluation.report import (
    Calibration,
    CorrectedCalibration,
    DecisionReport,
    OverallScores,
    TagCalibration,
)
from tagger.reporting.evaluation import describe_correction, describe_decision
from tagger.reporting.figures import BLUE, COLOURS, LINE_STYLES, MARKERS, SKY, VERMILION, Plot
from tagger.reporting.numbers import label, score
from tagger.scores import FloatArray, IntArray
from tagger.training.tracking import read_metrics

_LABEL_WIDTH = 18  # letters of a tag's name on one line
_MANY_TAGS = 12  # from here on, matrix cells hold counts only, and legends go outside


def draw_figures(evaluation: Evaluation) -> dict[str, Plot | None]:
    """Draw all figures of a report, by name; no learning curves where nothing was logged."""
    report, predictions = evaluation.report, evaluation.predictions
    tags, calibration = report.tags, report.calibration
    confusion = np.array(report.confusion)
    steps = read_metrics(evaluation.run.path / "metrics.jsonl")
    curves = plot_learning_curves(steps, report.run.best_step)
    learning = "Training and validation loss, and validation scores, over the steps of training."
    return {
        "confusion": Plot(plot_confusion(confusion, tags), _confusion_text(confusion, tags)),
        "precision-recall": Plot(
            plot_precision_recall(predictions.probabilities, predictions.true, tags),
            f"Precision over recall for each of {len(tags)} tags, with its average precision.",
        ),
        "reliability": Plot(
            plot_reliability(calibration),
            "Share of right decisions over their probability, with the number of rows of each "
            f"bin, before and after correction. {describe_correction(calibration)}",
        ),
        "reliability-by-tag": Plot(
            plot_reliability_by_tag(calibration),
            "For each tag, the share of rows that carry it over its probability, before and after "
            f"correction. {_calibration_by_tag(calibration)}.",
        ),
        "risk-coverage": Plot(
            plot_risk_coverage(report.decision),
            "Share of wrong decisions over the share of rows that are published, the surest "
            f"first. {describe_decision(report.decision)}",
        ),
        "slices": Plot(
            plot_slices(report.overall, report.slices),
            f"Accuracy of {len(report.slices)} slices with 95% intervals; on all "
            f"{report.overall.num_samples} rows it is {score(report.overall.accuracy)}.",
        ),
        "learning-curves": None if curves is None else Plot(curves, learning),
    }


def plot_confusion(confusion: IntArray, tags: Sequence[str]) -> Figure:
    """Draw a confusion matrix (rows true): each cell's count and share of the true tag's rows."""
    n_tags = len(tags)
    support = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, support, out=np.zeros(confusion.shape), where=support > 0)
    side = max(4.6, 0.95 * n_tags + 1.8) if n_tags < _MANY_TAGS else 0.42 * n_tags + 2.6
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true tag's rows", shrink=0.8)
    many = n_tags >= _MANY_TAGS
    names = [_cut(tag, 2 * _LABEL_WIDTH) if many else _wrap(tag) for tag in tags]
    # An upright text is level with its tick only if it is told to be.
    rotation, va = (90, "center") if many else (40, "top")
    axes.set_xticks(
        range(n_tags), names, rotation=rotation, ha="right", va=va, rotation_mode="anchor"
    )
    rows = [f"{name} ({n})" for name, n in zip(names, support[:, 0], strict=True)]
    axes.set_yticks(range(n_tags), rows)
    axes.set(xlabel="predicted tag", ylabel="true tag (rows)", title="Confusion matrix")
    for (row, column), count in np.ndenumerate(confusion):
        if not count:
            continue
        text = f"{count}" if many else f"{count}\n{share[row, column]:.0%}"
        colour = "white" if share[row, column] > 0.55 else "black"
        size = 7 if many else 10
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    return figure


def plot_reliability(calibration: CorrectedCalibration) -> Figure:
    """Draw accuracy over confidence, with the number of rows in each bin below."""
    figure = Figure(figsize=(5.6, 5.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins = calibration.bins
    _draw_reliability(upper, calibration.before, calibration)
    upper.set(ylabel="share of right decisions", title="Reliability")
    counts = [one.num_samples for one in bins]
    bars = lower.bar(
        [one.low for one in bins], counts, width=1 / len(bins), align="edge", color=SKY,
        edgecolor="white",
    )  # fmt: skip
    lower.bar_label(bars, [str(count) if count else "" for count in counts], fontsize=8)
    lower.margins(y=0.25)
    lower.set(xlabel="probability of the tag decided for", ylabel="rows", xlim=(0, 1))
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


def plot_reliability_by_tag(calibration: CorrectedCalibration) -> Figure:
    """Draw for each tag how often it is right over its probability, over all rows."""
    tags = list(calibration.per_class)
    columns = min(2 if len(tags) <= 4 else 3, len(tags))
    lines = math.ceil(len(tags) / columns)
    figure = Figure(figsize=(4 * columns, 3.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, tag in zip(grid.flat, tags, strict=False):
        _draw_reliability(axes, calibration.before.per_class[tag], calibration.per_class[tag])
        axes.set_title(tag, fontsize=10)
    for axes in grid.flat[len(tags) :]:
        axes.set_visible(False)
    figure.supxlabel("probability of the tag")
    figure.supylabel("share of rows that carry it")
    return figure


def _draw_reliability(
    axes: Axes, before: Calibration | TagCalibration, after: Calibration | TagCalibration
) -> None:
    """Draw accuracy over confidence before and after correction; points are as large as bins."""
    axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", label="perfectly calibrated")
    for name, block, color, line, marker in (
        ("before correction", before, VERMILION, ":", "s"),
        ("this run", after, BLUE, "-", "o"),
    ):
        filled = [one for one in block.bins if one.num_samples]
        x = np.array([one.confidence for one in filled], np.float64)
        y = np.array([one.accuracy for one in filled], np.float64)
        text = f"{name} (ECE {block.ece_adaptive:.3f})"
        axes.plot(x, y, color=color, linestyle=line, marker=marker, markersize=3, label=text)
        rows = np.array([one.num_samples for one in filled])
        axes.scatter(x, y, s=12 + 200 * rows / rows.sum(), color=color, marker=marker, alpha=0.7)
    axes.set(ylim=(-0.04, 1.04), xlim=(-0.02, 1.02))
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)


def plot_risk_coverage(decision: DecisionReport) -> Figure:
    """Draw the share of wrong decisions over the share of rows that are published."""
    figure = Figure(figsize=(5.8, 4.4), layout="constrained")
    axes = figure.subplots()
    coverages, risks = zip(*decision.curve, strict=True)
    text = f"surest rows first (AURC {decision.aurc:.4f})"
    axes.plot(coverages, risks, color=BLUE, label=text)
    if (precision := decision.precision) is not None:
        ends = [[precision.high - precision.value], [precision.value - precision.low]]
        text = f"published under {decision.policy.kind}, 95% interval"
        axes.errorbar(
            [decision.coverage], [1 - precision.value], yerr=ends, color=VERMILION, marker="D",
            capsize=4, label=text,
        )  # fmt: skip
    axes.set(xlim=(0, 1.02), ylim=(0, None), title="Risk and coverage")
    axes.set(xlabel="share of rows that are published", ylabel="share of these that are wrong")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=9)
    return figure


def plot_precision_recall(probabilities: FloatArray, true: IntArray, tags: Sequence[str]) -> Figure:
    """Draw each tag's precision over recall as its probability threshold moves.

    Args:
        probabilities: Shape (n, n_tags).
        true: Position of the true tag, shape (n,).
        tags: Names. Those without a row have no curve; the legend says so.
    """
    many = len(tags) >= 8
    height = max(4.6, 0.24 * len(tags) + 1.2) if many else 5.0
    figure = Figure(figsize=(9.0 if many else 5.8, height), layout="constrained")
    axes = figure.subplots()
    _set_styles(axes)
    for position, tag in enumerate(tags):
        name = _cut(tag, 40)
        positive = true == position
        if not positive.any():
            axes.plot([], [], label=f"{name}: no rows")
            continue
        precision, recall, _ = precision_recall_curve(positive, probabilities[:, position])
        average = average_precision_score(positive, probabilities[:, position])
        axes.step(recall, precision, where="post", label=f"{name} (AP {average:.3f})")
    axes.set(xlabel="recall", xlim=(-0.02, 1.02), ylabel="precision", ylim=(0, 1.03))
    axes.set_title("Precision and recall of each tag")
    axes.grid(alpha=0.3)
    if many:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    else:
        axes.legend(loc="lower left", fontsize=9)
    return figure


def plot_learning_curves(
    steps: Sequence[Mapping[str, Any]], best_step: int | None = None
) -> Figure | None:
    """Draw the losses and the validation scores over the steps of training.

    Args:
        steps: The lines of `metrics.jsonl`.
        best_step: The step whose weights were kept; marked by a line.

    Returns:
        None when nothing was logged. Without validation, the training loss alone.
    """
    losses = {"train/loss": "training", "val/loss": "validation"}
    scores = {f"val/{key}": label(key) for key in ("accuracy", "macro_f1", "weighted_f1")}
    panels = [
        (title, names)
        for title, names in (("Loss", losses), ("Validation scores", scores))
        if any(key in line for line in steps for key in names)
    ]
    if not panels:
        return None
    # One above the other, for a phone's sake.
    figure = Figure(figsize=(6.4, 3.2 * len(panels) + 0.4), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)
    for axes, (title, names) in zip(grid[:, 0], panels, strict=True):
        _set_styles(axes)
        for position, (key, name) in enumerate(names.items()):
            points = [(line["step"], line[key]) for line in steps if line.get(key) is not None]
            if points:
                x, y = zip(*points, strict=True)
                # A marker on each point only where there are few: one a validation.
                marker = MARKERS[position] if len(x) <= 40 else None
                axes.plot(x, y, label=name, marker=marker, markersize=5)
        if best_step is not None:
            axes.axvline(best_step, color="0.35", linestyle=":", label=f"kept: step {best_step}")
        axes.set(xlabel="step", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    return figure


def plot_slices(overall: OverallScores, slices: Mapping[str, OverallScores]) -> Figure:
    """Draw the accuracy of each slice that has rows with its interval, below that of all rows."""
    blocks = {"all rows": overall, **slices}
    figure = Figure(figsize=(7.2, 0.36 * len(blocks) + 1.3), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(overall.accuracy.low, overall.accuracy.high, color=SKY, alpha=0.25, linewidth=0)
    axes.axvline(overall.accuracy.value, color=BLUE, linewidth=1, linestyle="--")
    for height, block in enumerate(blocks.values()):
        one = block.accuracy
        line, marker, colour = ("0.35", "o", VERMILION) if height else (BLUE, "D", BLUE)
        axes.hlines(height, one.low, one.high, color=line, linewidth=2)
        axes.plot(one.value, height, marker=marker, color=colour, markersize=7)
    labels = [f"{name}  (n={block.num_samples})" for name, block in blocks.items()]
    axes.set_yticks(range(len(blocks)), labels)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy, 95% interval", xlim=(-0.02, 1.02), title="Slices: accuracy")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _confusion_text(confusion: IntArray, tags: Sequence[str]) -> str:
    errors = confusion - np.diag(np.diagonal(confusion))
    text = f"Confusion matrix of {confusion.sum()} rows: {errors.sum()} errors."
    if errors.any():
        row, column = np.unravel_index(int(errors.argmax()), errors.shape)
        text += (
            f" The most frequent, {errors[row, column]} times: {tags[int(row)]} taken for "
            f"{tags[int(column)]}."
        )
    return text


def _calibration_by_tag(calibration: CorrectedCalibration) -> str:
    before = calibration.before.per_class
    return "; ".join(
        f"{tag}: error {one.ece_adaptive:.3f} ({before[tag].ece_adaptive:.3f}), Brier score "
        f"{one.brier:.3f} ({before[tag].brier:.3f})"
        for tag, one in calibration.per_class.items()
    )


def _set_styles(axes: Axes) -> None:
    """Give lines colours and styles in turn. As 7 and 4 share no factor, 28 in a row differ."""
    many = len(COLOURS) * len(LINE_STYLES)
    axes.set_prop_cycle(
        color=COLOURS * len(LINE_STYLES),
        linestyle=LINE_STYLES * len(COLOURS),
        linewidth=[1.8] * many,
    )


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _wrap(name: str) -> str:
    """Break a tag's name into lines, at hyphens too; cut what is left over."""
    return "\n".join(textwrap.wrap(name, _LABEL_WIDTH, max_lines=2, placeholder="…")) or name
