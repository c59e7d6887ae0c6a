"""The figures of a report, as PNG files.

Figures are made as objects, without pyplot: no global state, no window, nothing left open. Colours
are those of Okabe and Ito, which people with the common kinds of colour blindness tell apart; what
a colour says, a label, marker or line style says too.
"""

import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import average_precision_score, precision_recall_curve

from tagger.files import replacing
from tagger.scores import FloatArray, IntArray

BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK)
LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Malgun Gothic", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Arial Unicode MS",
)  # fmt: skip

_DPI = 144
_LABEL_WIDTH = 18  # letters of a tag's name on one line
_MANY_TAGS = 12  # from here on, matrix cells hold counts only, and legends go outside


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Names of tags and slices are anybody's: a dollar in them begins no formula, and other scripts
    than Latin take the fonts that are installed for them. A sign that no font has is a box.
    """
    installed = set(get_font_names())
    families = ["DejaVu Sans", *(font for font in _OTHER_SCRIPTS if font in installed)]
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_fontfamily(families)
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # Without the library's version in it, the same figure is the same file everywhere.
        figure.savefig(temporary, dpi=_DPI, format="png", metadata={"Software": None})


def plot_confusion(confusion: IntArray, tags: Sequence[str]) -> Figure:
    """Draw a confusion matrix: the count of each cell and its share of the true tag's rows.

    Args:
        confusion: Counts, shape (n_tags, n_tags), rows true. Rows of zeros stay blank.
        tags: Names, in that order.
    """
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
    axes.set_xticks(
        range(n_tags), names, rotation=90 if many else 40, ha="right", rotation_mode="anchor"
    )
    if many:  # level with the tick, which a text turned upright and anchored is not by itself
        for label in axes.get_xticklabels():
            label.set_verticalalignment("center")
    axes.set_yticks(
        range(n_tags), [f"{name} ({n})" for name, n in zip(names, support[:, 0], strict=True)]
    )
    axes.set(xlabel="predicted tag", ylabel="true tag (rows)", title="Confusion matrix")
    for (row, column), count in np.ndenumerate(confusion):
        if not count:
            continue
        text = f"{count}" if many else f"{count}\n{share[row, column]:.0%}"
        colour = "white" if share[row, column] > 0.55 else "black"
        size = 7 if many else 10
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    return figure


def plot_reliability(calibration: Mapping[str, Any]) -> Figure:
    """Draw accuracy over confidence, with the number of rows in each bin below.

    Args:
        calibration: The `calibration` of `report.json`.
    """
    figure = Figure(figsize=(5.6, 5.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins = calibration["bins"]
    _draw_reliability(upper, calibration["before"], calibration)
    upper.set(ylabel="share of right decisions", title="Reliability")
    counts = [one["num_samples"] for one in bins]
    bars = lower.bar(
        [one["low"] for one in bins],
        counts,
        width=1 / len(bins),
        align="edge",
        color=SKY,
        edgecolor="white",
    )
    lower.bar_label(bars, [str(count) if count else "" for count in counts], fontsize=8)
    lower.margins(y=0.25)
    lower.set(xlabel="probability of the tag decided for", ylabel="rows", xlim=(0, 1))
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


def plot_reliability_by_tag(calibration: Mapping[str, Any]) -> Figure:
    """Draw for each tag how often it is right over its probability, over all rows.

    Args:
        calibration: The `calibration` of `report.json`.
    """
    tags = list(calibration["per_class"])
    columns = min(2 if len(tags) <= 4 else 3, len(tags))
    lines = math.ceil(len(tags) / columns)
    figure = Figure(figsize=(4 * columns, 3.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, tag in zip(grid.flat, tags, strict=False):
        before, after = (one["per_class"][tag] for one in (calibration["before"], calibration))
        _draw_reliability(axes, before, after)
        axes.set_title(tag, fontsize=10)
    for axes in grid.flat[len(tags) :]:
        axes.set_visible(False)
    figure.supxlabel("probability of the tag")
    figure.supylabel("share of rows that carry it")
    return figure


def _draw_reliability(axes: Axes, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Draw accuracy over confidence before and after correction; points are as large as bins."""
    axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", label="perfectly calibrated")
    for name, block, color, line, marker in (
        ("before correction", before, VERMILION, ":", "s"),
        ("this run", after, BLUE, "-", "o"),
    ):
        filled = [one for one in block["bins"] if one["num_samples"]]
        x, y = ([one[key] for one in filled] for key in ("confidence", "accuracy"))
        label = f"{name} (ECE {block['ece_adaptive']:.3f})"
        axes.plot(x, y, color=color, linestyle=line, marker=marker, markersize=3, label=label)
        rows = np.array([one["num_samples"] for one in filled])
        axes.scatter(x, y, s=12 + 200 * rows / rows.sum(), color=color, marker=marker, alpha=0.7)
    axes.set(ylim=(-0.04, 1.04), xlim=(-0.02, 1.02))
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)


def plot_risk_coverage(decision: Mapping[str, Any]) -> Figure:
    """Draw the share of wrong decisions over the share of rows that are published.

    Args:
        decision: The `decision` of `report.json`.
    """
    figure = Figure(figsize=(5.8, 4.4), layout="constrained")
    axes = figure.subplots()
    coverages, risks = zip(*decision["curve"], strict=True)
    label = f"surest rows first (AURC {decision['aurc']:.4f})"
    axes.plot(coverages, risks, color=BLUE, label=label)
    if decision["precision"] is not None:
        precision = decision["precision"]
        axes.errorbar(
            [decision["coverage"]],
            [1 - precision["value"]],
            yerr=[
                [precision["high"] - precision["value"]],
                [precision["value"] - precision["low"]],
            ],
            color=VERMILION,
            marker="D",
            capsize=4,
            label=f"published under {decision['policy']['kind']}, 95% interval",
        )
    axes.set(
        xlabel="share of rows that are published",
        ylabel="share of these that are wrong",
        xlim=(0, 1.02),
        title="Risk and coverage",
    )
    axes.set_ylim(bottom=0)
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
    for position, tag in enumerate(tags):
        style = _style(position)
        name = _cut(tag, 40)
        positive = true == position
        if not positive.any():
            axes.plot([], [], label=f"{name}: no rows", **style)
            continue
        precision, recall, _ = precision_recall_curve(positive, probabilities[:, position])
        average = average_precision_score(positive, probabilities[:, position])
        axes.step(recall, precision, where="post", label=f"{name} (AP {average:.3f})", **style)
    axes.set(
        xlabel="recall",
        ylabel="precision",
        xlim=(-0.02, 1.02),
        ylim=(0, 1.03),
        title="Precision and recall of each tag",
    )
    axes.grid(alpha=0.3)
    _legend(axes, outside=many)
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
    scores = {
        key: key.removeprefix("val/").replace("_f1", " F1")
        for key in ("val/accuracy", "val/macro_f1", "val/weighted_f1")
    }
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
        for position, (key, label) in enumerate(names.items()):
            points = [(line["step"], line[key]) for line in steps if line.get(key) is not None]
            if points:
                x, y = zip(*points, strict=True)
                # A marker on each point only where there are few: one a validation.
                style = _style(position) | {"marker": MARKERS[position] if len(x) <= 40 else None}
                axes.plot(x, y, label=label, markersize=5, **style)
        if best_step is not None:
            axes.axvline(best_step, color="0.35", linestyle=":", label=f"kept: step {best_step}")
        axes.set(xlabel="step", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    return figure


def plot_slices(
    overall: Mapping[str, Any], slices: Mapping[str, Mapping[str, Any]], metric: str = "accuracy"
) -> Figure:
    """Draw a score of each slice with its interval, beside that of all rows.

    Args:
        overall: The block of all rows, as in `report.json`.
        slices: The blocks of the slices, by name; those without rows must be left out.
        metric: Which score.
    """
    blocks = {"all rows": overall, **slices}
    figure = Figure(figsize=(7.2, 0.36 * len(blocks) + 1.3), layout="constrained")
    axes = figure.subplots()
    reference = overall[metric]
    axes.axvspan(reference["low"], reference["high"], color=SKY, alpha=0.25, linewidth=0)
    axes.axvline(reference["value"], color=BLUE, linewidth=1, linestyle="--")
    for height, (name, block) in enumerate(blocks.items()):
        score = block[metric]
        first = name == "all rows"
        axes.plot(
            [score["low"], score["high"]],
            [height, height],
            color=BLUE if first else "0.35",
            linewidth=2,
            solid_capstyle="butt",
        )
        axes.plot(
            score["value"],
            height,
            marker="D" if first else "o",
            color=BLUE if first else VERMILION,
            markersize=7,
        )
    labels = [f"{name}  (n={block['num_samples']})" for name, block in blocks.items()]
    axes.set_yticks(range(len(blocks)), labels)
    axes.invert_yaxis()
    name = metric.replace("_", " ")
    axes.set(xlabel=f"{name}, 95% interval", xlim=(-0.02, 1.02), title=f"Slices: {name}")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _style(position: int) -> dict[str, Any]:
    """Return a colour and line style. As 7 and 4 share no factor, 28 in a row differ."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": LINE_STYLES[position % len(LINE_STYLES)],
        "linewidth": 1.8,
    }


def _legend(axes: Axes, outside: bool) -> None:
    if outside:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    else:
        axes.legend(loc="lower left", fontsize=9)


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _wrap(name: str) -> str:
    """Break a tag's name into lines, at hyphens too; cut what is left over."""
    lines = textwrap.wrap(name, _LABEL_WIDTH, break_on_hyphens=True) or [name]
    return "\n".join(lines[:2]) + ("…" if len(lines) > 2 else "")
