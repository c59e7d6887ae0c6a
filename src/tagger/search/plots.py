"""The figures of a sweep; see `tagger.reporting.figures` for how they are made."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import IntDistribution

from tagger.reporting.figures import BLUE, GREEN, ORANGE, VERMILION
from tagger.search.metrics import is_better
from tagger.search.space import Parameter

Row = Mapping[str, Any]
COMPLETE, STOPPED = "complete", "stopped early"
_COLUMNS = 3
_CURVE_POINTS = 60


def plot_history(rows: Sequence[Row], metric: str, best: int) -> Figure:
    """Draw each trial's score with its standard error, and the best so far."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, rows, metric, [row["number"] for row in rows], errors=True)
    reached: list[tuple[int, float]] = []
    for row in rows:
        if row["state"] == COMPLETE and (
            not reached or is_better(metric, row[metric], reached[-1][1])
        ):
            reached.append((row["number"], row[metric]))
    steps = [*reached, (rows[-1]["number"], reached[-1][1])]
    axes.step(
        [x for x, _ in steps], [y for _, y in steps], where="post", color=GREEN, label="best so far"
    )
    _mark(axes, rows, metric, best, lambda row: row["number"])
    axes.set(xlabel="trial", ylabel=_name(metric), title="History")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _zoom(axes, rows, metric)
    return figure


def plot_importances(shares: Mapping[str, float]) -> Figure:
    """Draw what share of the score's variation each parameter explains."""
    figure = Figure(figsize=(7.2, 0.36 * len(shares) + 1.3), layout="constrained")
    axes = figure.subplots()
    names = list(shares)
    axes.barh(range(len(names)), [shares[name] for name in names], color=BLUE)
    for height, name in enumerate(names):
        axes.text(shares[name] + 0.01, height, f"{shares[name]:.0%}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="share of variation explained (fANOVA)", xlim=(0, 1.1), title="What mattered")
    return figure


def plot_slices(
    rows: Sequence[Row], parameters: Sequence[Parameter], metric: str, best: int
) -> Figure:
    """Draw the score over each parameter."""
    lines = math.ceil(len(parameters) / _COLUMNS)
    columns = min(_COLUMNS, len(parameters))
    figure = Figure(figsize=(3.4 * columns + 0.4, 3.0 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for position, axes in enumerate(grid.flat):
        if position >= len(parameters):
            axes.set_axis_off()
            continue
        one = parameters[position]
        taken = [row for row in rows if row[one.path] is not None or None in one.choices]
        places = [_place(one, row[one.path]) for row in taken]
        _scatter(axes, taken, metric, places, errors=False)
        _mark(axes, taken, metric, best, lambda row, one=one: _place(one, row[one.path]))
        if one.choices:
            axes.set_xticks(range(len(one.choices)), [str(choice) for choice in one.choices])
            axes.set_xlim(-0.5, len(one.choices) - 0.5)
        elif one.range.log:
            axes.set_xscale("log")
        elif isinstance(one.range, IntDistribution):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(one.path, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        _zoom(axes, rows, metric)
    for axes in grid[:, 0]:
        axes.set_ylabel(_name(metric), fontsize=9)
    return figure


def plot_parallel(
    rows: Sequence[Row], parameters: Sequence[Parameter], metric: str, best: int
) -> Figure:
    """Draw a line through the values of each trial, the better the darker."""
    shown = [row for row in rows if row[metric] is not None]
    scores = np.array([row[metric] for row in shown])
    order = np.argsort(scores if is_better(metric, 1.0, 0.0) else -scores)
    rank = np.empty(len(shown))
    rank[order] = np.linspace(0, 1, len(shown))
    figure = Figure(figsize=(max(7.2, 1.3 * len(parameters) + 2), 4.6), layout="constrained")
    axes = figure.subplots()
    low, high = scores.min(), scores.max()
    for at in order:
        row = shown[at]
        heights = [_height(one, row[one.path]) for one in parameters]
        heights.append((row[metric] - low) / (high - low) if high > low else 0.5)
        known = [(x, y) for x, y in enumerate(heights) if y is not None]
        chosen = row["number"] == best
        axes.plot(
            [x for x, _ in known],
            [y for _, y in known],
            color=VERMILION if chosen else BLUE,
            alpha=1.0 if chosen else 0.15 + 0.6 * rank[at],
            linewidth=2.4 if chosen else 1.2,
            linestyle="-" if row["state"] == COMPLETE else ":",
            label=f"trial {best}, the best" if chosen else None,
        )
    names = [one.path.replace(".", ".\n", 1) for one in parameters]
    axes.set_xticks(range(len(names) + 1), [*names, _name(metric)], fontsize=8)
    for x, one in enumerate(parameters):
        axes.axvline(x, color="0.8", linewidth=1, zorder=0)
        bottom, top = _ends(one)
        axes.text(x, -0.04, bottom, ha="center", va="top", fontsize=7)
        axes.text(x, 1.04, top, ha="center", va="bottom", fontsize=7)
    axes.text(len(names), -0.04, f"{low:.3f}", ha="center", va="top", fontsize=7)
    axes.text(len(names), 1.04, f"{high:.3f}", ha="center", va="bottom", fontsize=7)
    axes.set(ylim=(-0.12, 1.12), yticks=[], title="All trials (dotted: stopped early)")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def plot_front(
    rows: Sequence[Row], metrics: Sequence[str], front: Sequence[int], best: int
) -> Figure:
    """Draw the first objective over each other one, the front's trials connected."""
    others = metrics[1:]
    figure = Figure(figsize=(4.8 * len(others) + 0.6, 4.2), layout="constrained")
    grid = figure.subplots(1, len(others), squeeze=False, sharey=True)
    first = metrics[0]
    for axes, other in zip(grid.flat, others, strict=True):
        complete = [row for row in rows if row["state"] == COMPLETE]
        axes.scatter(
            [row[other] for row in complete], [row[first] for row in complete],
            color="0.6", s=24, label="complete",
        )  # fmt: skip
        kept = sorted((row for row in complete if row["number"] in front), key=lambda r: r[other])
        axes.plot(
            [row[other] for row in kept], [row[first] for row in kept],
            color=BLUE, marker="o", linewidth=1, linestyle="--", label="Pareto front",
        )  # fmt: skip
        for row in kept:
            axes.annotate(
                str(row["number"]), (row[other], row[first]), xytext=(4, 4),
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
        _mark(axes, complete, first, best, lambda row, other=other: row[other])
        axes.set_xlabel(_name(other))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    grid[0, 0].set_ylabel(_name(first))
    return figure


def _scatter(
    axes: Axes, rows: Sequence[Row], metric: str, places: Sequence[float], *, errors: bool
) -> None:
    for state, colour, face in ((COMPLETE, BLUE, BLUE), (STOPPED, "0.5", "none")):
        known = [
            (place, row[metric], row[f"{metric}_error"])
            for place, row in zip(places, rows, strict=True)
            if row["state"] == state and row[metric] is not None
        ]
        if known:
            x, y, error = zip(*known, strict=True)
            axes.errorbar(
                x, y, yerr=error if errors else None, fmt="o", markersize=5, linewidth=1,
                label=state, color=colour, markerfacecolor=face,
            )  # fmt: skip


def _mark(axes: Axes, rows: Sequence[Row], metric: str, best: int, place: Any) -> None:
    for row in rows:
        if row["number"] == best:
            axes.plot(
                place(row), row[metric], marker="*", markersize=14, color=VERMILION,
                linestyle="none", label=f"the best, trial {best}", zorder=4,
            )  # fmt: skip
        elif row["origin"] == "default":
            axes.plot(
                place(row), row[metric], marker="D", markersize=8, color=ORANGE,
                linestyle="none", label="the default", zorder=4,
            )  # fmt: skip


def _zoom(axes: Axes, rows: Sequence[Row], metric: str) -> None:
    """Keep a trial that went wrong from pressing all others flat."""
    values = np.array([row[metric] for row in rows if row[metric] is not None])
    low, median, high = np.quantile(values, [0, 0.5, 1])
    span = 6 * max(np.quantile(np.abs(values - median), 0.5), 0.002)
    axes.set_ylim(max(low, median - span) - 0.15 * span, min(high, median + span) + 0.15 * span)


def _place(one: Parameter, value: Any) -> float:
    return float(one.choices.index(value)) if one.choices else float(value)


def _height(one: Parameter, value: Any) -> float | None:
    if one.choices:
        if value not in one.choices:
            return None
        return one.choices.index(value) / max(1, len(one.choices) - 1)
    if value is None:
        return None
    low, high = one.range.low, one.range.high
    if one.range.log:
        return float(math.log(value / low) / math.log(high / low))
    return float((value - low) / (high - low))


def _ends(one: Parameter) -> tuple[str, str]:
    if one.choices:
        return str(one.choices[0]), str(one.choices[-1])
    return f"{one.range.low:.4g}", f"{one.range.high:.4g}"


def _name(metric: str) -> str:
    return metric.replace("_", " ")
