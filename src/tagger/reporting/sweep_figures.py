"""Draws the figures of a sweep.

Optuna has plots of the same kinds. They leave out the trials that were stopped early, the standard
errors, and where the default and the best lie, and they change pyplot's global state.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import IntDistribution

from tagger.reporting.figures import BLUE, GREEN, ORANGE, VERMILION, Plot
from tagger.reporting.numbers import label
from tagger.search.metrics import is_better
from tagger.search.results import COMPLETE, FAILED, STOPPED, SweepResults
from tagger.search.space import Parameter
from tagger.search.summary import SweepSummary, TrialResult

FEW = 3
"""Parameters, or objectives, whose plots fit beside others."""

_COLUMNS = 3


def sweep_figures(results: SweepResults) -> dict[str, Plot]:
    """Draw all figures of a sweep, by the name of the file of each."""
    summary, parameters = results.summary, results.parameters
    metric, wide = summary.objectives[0], len(results.parameters) > FEW
    trials = [one for one in results.trials if metric in one.scores and one.state != FAILED]
    name = label(metric)
    figures = {
        "history": Plot(
            plot_history(trials, summary),
            f"{name} of each trial, with the standard error over folds, and the best so far.",
        )
    }
    if summary.importances:
        figures["importances"] = Plot(
            plot_importances(summary),
            f"What share of the variation of {name} each parameter explains. Trials that were "
            "stopped early count with an estimate: the best trial's score, and the mean gap to it "
            "on the folds that both have seen.",
        )
    if len(summary.objectives) > 1:
        figures["front"] = Plot(
            plot_front(trials, summary),
            "The Pareto front: trials that nothing surpasses in all objectives.",
            wide=len(summary.objectives) >= FEW,
        )
    drawn = plot_slices(trials, parameters, summary)
    figures["slices"] = Plot(drawn, f"{name} over each parameter.", wide)
    text = "A line through the values of each trial; the darker, the better."
    figures["parallel"] = Plot(plot_parallel(trials, parameters, summary), text, wide)
    return figures


def plot_history(trials: Sequence[TrialResult], summary: SweepSummary) -> Figure:
    """Draw each trial's score with its standard error, and the best so far."""
    metric = summary.objectives[0]
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, trials, summary, [trial.number for trial in trials], errors=True)
    reached: list[tuple[int, float]] = []
    for trial in trials:
        score = trial.mean(metric)
        if trial.state == COMPLETE and (not reached or is_better(metric, score, reached[-1][1])):
            reached.append((trial.number, score))
    numbers, scores = zip(*reached, (trials[-1].number, reached[-1][1]), strict=True)
    axes.step(numbers, scores, where="post", color=GREEN, label="best so far")
    axes.set(xlabel="trial", ylabel=label(metric), title="History")
    axes.legend(fontsize=8)
    _zoom(axes, trials, metric)
    return figure


def plot_importances(summary: SweepSummary) -> Figure:
    """Draw what share of the score's variation each parameter explains."""
    shares = summary.importances
    figure = Figure(figsize=(7.2, 0.36 * len(shares) + 1.3), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(shares), list(shares.values()), color=BLUE)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="share of variation explained (fANOVA)", xlim=(0, 1.1), title="What mattered")
    return figure


def plot_slices(
    trials: Sequence[TrialResult], parameters: Sequence[Parameter], summary: SweepSummary
) -> Figure:
    """Draw the score over each parameter."""
    metric = summary.objectives[0]
    lines = math.ceil(len(parameters) / _COLUMNS)
    columns = min(_COLUMNS, len(parameters))
    figure = Figure(figsize=(3.4 * columns + 0.4, 3.0 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(parameters) :]:
        axes.set_axis_off()
    for one, axes in zip(parameters, grid.flat, strict=False):
        shown = [trial for trial in trials if one.path in trial.chosen]
        values: list[Any] = [trial.chosen[one.path] for trial in shown]
        _scatter(axes, shown, summary, [*map(one.choices.index, values)] if one.choices else values)
        if one.choices:
            axes.set_xticks(range(len(one.choices)), [str(choice) for choice in one.choices])
            axes.set_xlim(-0.5, len(one.choices) - 0.5)
        elif one.range.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # powers would be set as formulas
        elif isinstance(one.range, IntDistribution):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(one.path, fontsize=9)
        axes.tick_params(labelsize=8)
        _zoom(axes, trials, metric)
    for axes in grid[:, 0]:
        axes.set_ylabel(label(metric), fontsize=9)
    return figure


def plot_parallel(
    trials: Sequence[TrialResult], parameters: Sequence[Parameter], summary: SweepSummary
) -> Figure:
    """Draw a line through the values of each trial, the better the darker."""
    metric = summary.objectives[0]
    scores = [trial.mean(metric) for trial in trials]
    low, high = min(scores), max(scores)
    worst_first = sorted(trials, key=lambda trial: trial.mean(metric))
    if not is_better(metric, 1.0, 0.0):
        worst_first.reverse()
    figure = Figure(figsize=(max(7.2, 1.3 * len(parameters) + 2), 4.6), layout="constrained")
    axes = figure.subplots()
    for rank, trial in zip(np.linspace(0, 1, len(trials)), worst_first, strict=True):
        points = [
            (x, _height(one, trial.chosen[one.path]))
            for x, one in enumerate(parameters)
            if one.path in trial.chosen
        ]
        score = (trial.mean(metric) - low) / (high - low) if high > low else 0.5
        is_best = trial.number == summary.best
        axes.plot(
            *zip(*points, (len(parameters), score), strict=True),
            color=VERMILION if is_best else BLUE,
            alpha=1.0 if is_best else 0.15 + 0.6 * rank,
            linewidth=2.4 if is_best else 1.2,
            linestyle="-" if trial.state == COMPLETE else ":",
            label=f"trial {summary.best}, the best" if is_best else None,
        )
    names = [one.path.replace(".", ".\n", 1) for one in parameters]
    axes.set_xticks(range(len(names) + 1), [*names, label(metric)], fontsize=8)
    for x, (bottom, top) in enumerate([*map(_ends, parameters), (f"{low:.3f}", f"{high:.3f}")]):
        axes.axvline(x, color="0.8", linewidth=1, zorder=0)
        axes.text(x, -0.04, bottom, ha="center", va="top", fontsize=7)
        axes.text(x, 1.04, top, ha="center", va="bottom", fontsize=7)
    axes.set(ylim=(-0.12, 1.12), yticks=[], title="All trials (dotted: stopped early)")
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def plot_front(trials: Sequence[TrialResult], summary: SweepSummary) -> Figure:
    """Draw the first objective over each other one, the front's trials connected."""
    first, *others = summary.objectives
    figure = Figure(figsize=(4.8 * len(others) + 0.6, 4.2), layout="constrained")
    grid = figure.subplots(1, len(others), squeeze=False, sharey=True)
    complete = [trial for trial in trials if trial.state == COMPLETE]
    for axes, other in zip(grid.flat, others, strict=True):
        points = {trial.number: (trial.mean(other), trial.mean(first)) for trial in complete}
        x, y = zip(*points.values(), strict=True)
        axes.scatter(x, y, color="0.6", s=24, label="complete")
        kept = sorted(summary.front, key=lambda number: points[number])
        x, y = zip(*(points[number] for number in kept), strict=True)
        axes.plot(x, y, color=BLUE, marker="o", linewidth=1, linestyle="--", label="Pareto front")
        for number in kept:
            axes.annotate(
                str(number), points[number], xytext=(4, 4), textcoords="offset points", fontsize=8
            )
        _mark(axes, complete, summary, [trial.mean(other) for trial in complete])
        axes.set_xlabel(label(other))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    grid[0, 0].set_ylabel(label(first))
    return figure


def _scatter(
    axes: Axes,
    trials: Sequence[TrialResult],
    summary: SweepSummary,
    places: Sequence[float],
    *,
    errors: bool = False,
) -> None:
    """Draw a point for each trial, hollow if stopped early; the default and the best stand out."""
    metric = summary.objectives[0]
    for state, colour, face in ((COMPLETE, BLUE, BLUE), (STOPPED, "0.5", "none")):
        shown = [
            (place, trial.mean(metric), trial.scores[metric].error)
            for place, trial in zip(places, trials, strict=True)
            if trial.state == state
        ]
        if shown:
            x, y, error = zip(*shown, strict=True)
            axes.errorbar(
                x, y, yerr=error if errors else None, fmt="o", markersize=5, linewidth=1,
                label=state, color=colour, markerfacecolor=face,
            )  # fmt: skip
    _mark(axes, trials, summary, places)
    axes.grid(alpha=0.3)


def _mark(
    axes: Axes, trials: Sequence[TrialResult], summary: SweepSummary, places: Sequence[float]
) -> None:
    """Set marks where the best trial and the default are."""
    for place, trial in zip(places, trials, strict=True):
        if trial.number == summary.best:
            marker, size, colour, label = "*", 14, VERMILION, f"the best, trial {summary.best}"
        elif trial.origin == "default":
            marker, size, colour, label = "D", 8, ORANGE, "the default"
        else:
            continue
        axes.plot(
            place, trial.mean(summary.objectives[0]), marker=marker, markersize=size,
            color=colour, linestyle="none", label=label, zorder=4,
        )  # fmt: skip


def _zoom(axes: Axes, trials: Sequence[TrialResult], metric: str) -> None:
    """Keep a trial that went wrong from pressing all others flat."""
    values = np.array([trial.mean(metric) for trial in trials])
    low, median, high = np.quantile(values, [0, 0.5, 1])
    span = 6 * max(np.quantile(np.abs(values - median), 0.5), 0.002)
    axes.set_ylim(max(low, median - span) - 0.15 * span, min(high, median + span) + 0.15 * span)


def _height(one: Parameter, value: Any) -> float:
    if one.choices:
        return one.choices.index(value) / max(1, len(one.choices) - 1)
    low, high = one.range.low, one.range.high
    if one.range.log:
        return float(math.log(value / low) / math.log(high / low))
    return float((value - low) / (high - low))


def _ends(one: Parameter) -> tuple[str, str]:
    if one.choices:
        return str(one.choices[0]), str(one.choices[-1])
    return f"{one.range.low:.4g}", f"{one.range.high:.4g}"
