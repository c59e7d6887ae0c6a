from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.environment import describe_environment
from tagger.reporting.sweep_figures import (
    plot_front,
    plot_history,
    plot_importances,
    plot_parallel,
    plot_slices,
)
from tagger.search.space import SearchSpace
from tagger.search.summary import Score, SweepSummary, TrialResult

Check = Callable[[Figure], None]

SPACE = """
model: {keep_layers: {choices: [null, [0, 2, 4], [5]]}}
training:
  lr: {low: 1.0e-5, high: 1.0e-1, log: true}
  epochs: {low: 1, high: 5}
  loss: {choices: [cross_entropy, focal]}
  focal_gamma: {low: 0.0, high: 4.0, when: {training.loss: focal}}
"""
FREE = {
    "model.keep_layers": [5], "training.lr": 1e-3, "training.epochs": 3,
    "training.loss": "cross_entropy",
}  # fmt: skip


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    base = load_config(TrainConfig, compose_config("train", []))
    return SearchSpace.parse(yaml.safe_load(SPACE), base)


def row(number: int, score: float, metric: str = "accuracy", **more: Any) -> TrialResult:
    """A trial as far as it is drawn; other scores may be given, and what it chose."""
    told: dict[str, Any] = {"state": "complete", "origin": "sampler", "error": 0.01, "others": {}}
    told |= {key: more.pop(key) for key in told.keys() & more.keys()}
    scores = {metric: score, **told["others"]}
    return TrialResult(
        number=number, state=told["state"], origin=told["origin"], folds=3, model_seconds=1.0,
        scores={name: Score(mean=value, error=told["error"]) for name, value in scores.items()},
        wall_seconds=2.0, worker=None, error=None, chosen={**FREE, **more},
    )  # fmt: skip


def summary(best: int, metrics: Sequence[str] = ("accuracy",), **changes: Any) -> SweepSummary:
    values: dict[str, Any] = {
        "sweep": "one", "space": "mine", "objectives": list(metrics), "best": best, "default": 0,
        "front": [], "states": {}, "hours": 0.5, "overhead": None, "importances": {},
        "confirmation": None, "chosen": {}, "environment": describe_environment(), "paragraph": "",
    }  # fmt: skip
    return SweepSummary(**{**values, **changes})


def many(metric: str = "accuracy", count: int = 30) -> list[TrialResult]:
    """Trials of each kind, the default first; some stopped early, one that runs, one far off."""
    rng = np.random.default_rng(0)
    rows = [row(0, 0.8, metric, origin="default", **{"model.keep_layers": None})]
    for number in range(1, count):
        chosen = {
            "model.keep_layers": [None, [0, 2, 4], [5]][int(rng.integers(3))],
            "training.lr": float(10 ** rng.uniform(-5, -1)),
            "training.epochs": int(rng.integers(1, 6)),
            "state": "stopped early" if number % 3 == 0 else "complete",
        }
        if rng.integers(2):
            chosen |= {"training.loss": "focal", "training.focal_gamma": float(rng.uniform(0, 4))}
        rows.append(row(number, float(rng.uniform(0.75, 0.85)), metric, **chosen))
    rows.append(row(count, 0.05, metric))
    rows.append(row(count + 1, 0.8, metric, state="running"))
    return rows


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def lines(axes: Axes, label: str) -> list[list[list[float]]]:
    """The points of each line that has a label."""
    found = [line for line in axes.get_lines() if line.get_label() == label]
    return [line.get_xydata().tolist() for line in found]


def dots(axes: Axes, state: str) -> list[list[float]]:
    """The points that are drawn for trials of a state."""
    (found,) = [one for one in axes.containers if one.get_label() == state]
    points: list[list[float]] = found.lines[0].get_xydata().tolist()
    return points


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_many_trials_of_each_kind(space: SearchSpace, metric: str, check: Check) -> None:
    rows = many(metric)
    check(plot_history(rows, summary(7, [metric])))
    check(plot_slices(rows, space.parameters, summary(7, [metric])))
    check(plot_parallel(rows, space.parameters, summary(7, [metric])))


def test_one_trial_alone(space: SearchSpace, check: Check) -> None:
    """The default, which is the best for want of another."""
    rows = [row(0, 0.8, origin="default", error=0.0)]
    figure = plot_history(rows, summary(0))
    assert sorted(legend(figure)) == ["best so far", "complete", "the best, trial 0"]
    check(figure)
    check(plot_slices(rows, space.parameters, summary(0)))
    check(plot_parallel(rows, space.parameters, summary(0)))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_parameters(space: SearchSpace, count: int, check: Check) -> None:
    rows, parameters = many(count=6), space.parameters[:count]
    figure = plot_slices(rows, parameters, summary(1))
    drawn = [axes.get_xlabel() for axes in figure.axes if axes.axison]
    assert drawn == [one.path for one in parameters]
    check(plot_parallel(rows, parameters, summary(1)))


HISTORY = {0: 0.5, 1: 0.4, 2: 0.9, 3: 0.7, 5: 0.6}


@pytest.mark.parametrize(
    ("metric", "best", "steps"),
    [("accuracy", 3, [[0, 0.5], [3, 0.7], [5, 0.7]]), ("aurc", 1, [[0, 0.5], [1, 0.4], [5, 0.4]])],
)
def test_the_history_shows_the_best_so_far(
    metric: str, best: int, steps: list[list[float]]
) -> None:
    """A trial that was stopped was not judged on all folds, and is not the best."""
    kinds: dict[int, dict[str, Any]] = {0: {"origin": "default"}, 2: {"state": "stopped early"}}
    rows = [
        row(number, score, metric, error=0.02, **kinds.get(number, {}))
        for number, score in HISTORY.items()
    ]
    figure = plot_history(rows, summary(best, [metric]))
    (axes,) = figure.axes
    assert lines(axes, "best so far") == [steps]
    assert "steps-post" in [line.get_drawstyle() for line in axes.get_lines()]
    assert lines(axes, f"the best, trial {best}") == [[[best, HISTORY[best]]]]
    assert lines(axes, "the default") == [[[0, 0.5]]]
    assert dots(axes, "complete") == [[0, 0.5], [1, 0.4], [3, 0.7], [5, 0.6]]
    assert dots(axes, "stopped early") == [[2, 0.9]]
    (errors,) = [one for one in axes.containers if one.get_label() == "stopped early"]
    assert errors.lines[2][0].get_segments()[0].tolist() == [[2, 0.88], [2, 0.92]]
    assert axes.get_ylabel() == metric


def test_importances_are_told_as_shares(check: Check) -> None:
    shares = {"training.lr": 0.755, "model.dropout": 0.2, "training.epochs": 0.0}
    figure = plot_importances(summary(0, importances=shares))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "training.lr", "model.dropout", "training.epochs",
    ]  # fmt: skip
    assert [text.get_text() for text in axes.texts] == ["76%", "20%", "0%"]
    assert [bar.get_width() for bar in axes.patches] == [0.755, 0.2, 0.0]
    assert axes.yaxis_inverted()
    check(figure)
    check(plot_importances(summary(0, importances={"training.lr": 1.0})))


def test_a_slice_shows_the_trials_that_had_the_parameter(space: SearchSpace) -> None:
    rows = [
        row(0, 0.5, origin="default", **{"model.keep_layers": None, "training.lr": 1e-4}),
        row(1, 0.6, **{"training.loss": "focal", "training.focal_gamma": 2.5}),
        row(2, 0.7, **{"model.keep_layers": [0, 2, 4], "training.epochs": 1}),
    ]
    figure = plot_slices(rows, space.parameters, summary(2))
    slices = {axes.get_xlabel(): axes for axes in figure.axes if axes.axison}
    layers = slices["model.keep_layers"]
    assert dots(layers, "complete") == [[0, 0.5], [2, 0.6], [1, 0.7]]
    assert [label.get_text() for label in layers.get_xticklabels()] == ["None", "[0, 2, 4]", "[5]"]
    assert dots(slices["training.lr"], "complete") == [[1e-4, 0.5], [1e-3, 0.6], [1e-3, 0.7]]
    assert slices["training.lr"].get_xscale() == "log"
    figure.draw_without_rendering()
    labels = [label.get_text() for label in slices["training.lr"].get_xticklabels()]
    assert "0.001" in labels and not any("$" in label for label in labels)
    assert slices["training.epochs"].get_xscale() == "linear"
    gamma = slices["training.focal_gamma"]
    assert dots(gamma, "complete") == [[2.5, 0.6]]
    assert lines(gamma, "the default") == lines(gamma, "the best, trial 2") == []
    assert lines(slices["training.epochs"], "the default") == [[[3, 0.5]]]
    assert lines(slices["training.epochs"], "the best, trial 2") == [[[1, 0.7]]]


def test_a_trial_far_off_does_not_press_the_others_flat() -> None:
    rows = [row(number, 0.8 + 0.001 * number) for number in range(20)] + [row(20, 0.01)]
    low, high = plot_history(rows, summary(19)).axes[0].get_ylim()
    assert 0.7 < low < 0.8
    assert high > 0.819


def test_parallel_lines_pass_where_the_values_are(space: SearchSpace) -> None:
    ends = {"model.keep_layers": None, "training.lr": 1e-5, "training.epochs": 5}
    focal = {"training.loss": "focal", "training.focal_gamma": 3.0, "training.lr": 1e-3}
    rows = [
        row(0, 0.5, **ends),
        row(1, 0.9, **focal),
        row(2, 0.6, state="stopped early"),
    ]
    figure = plot_parallel(rows, space.parameters, summary(1))
    (axes,) = figure.axes
    shown = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
    worst, stopped, best = shown  # the better, the further in front
    assert worst.get_xydata() == pytest.approx(np.array([[0, 0], [1, 0], [2, 1], [3, 0], [5, 0]]))
    assert best.get_xydata() == pytest.approx(
        np.array([[0, 1], [1, 0.5], [2, 0.5], [3, 1], [4, 0.75], [5, 1]])
    )
    assert stopped.get_xydata()[-1] == pytest.approx([5, 0.25])
    assert [line.get_linestyle() for line in shown] == ["-", ":", "-"]
    assert worst.get_alpha() < stopped.get_alpha() < best.get_alpha() == 1
    assert legend(figure) == ["trial 1, the best"]
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        "None", "[5]", "1e-05", "0.1", "1", "5", "cross_entropy", "focal", "0", "4",
        "0.500", "0.900",
    ]  # fmt: skip


def test_where_less_is_better_the_least_is_darkest(space: SearchSpace) -> None:
    rows = [row(0, 0.9, "aurc"), row(1, 0.1, "aurc"), row(2, 0.2, "aurc")]
    axes = plot_parallel(rows, space.parameters, summary(1, ["aurc"])).axes[0]
    shown = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
    assert [line.get_ydata()[-1] for line in shown] == pytest.approx([1, 0.125, 0])
    assert [line.get_alpha() for line in shown] == sorted(line.get_alpha() for line in shown)


@pytest.mark.slow
@pytest.mark.parametrize("others", [["mib"], ["mib", "p50_ms", "seconds"]])
def test_a_front_is_drawn_over_each_other_objective(others: list[str], check: Check) -> None:
    def cost(number: int, score: float, value: float, **more: Any) -> TrialResult:
        return row(number, score, others=dict.fromkeys(others, value), **more)

    rows = [
        cost(0, 0.8, 30.0, origin="default"), cost(1, 0.9, 40.0), cost(2, 0.7, 20.0),
        cost(3, 0.6, 35.0), cost(4, 0.99, 1.0, state="running"),
    ]  # fmt: skip
    figure = plot_front(rows, summary(1, ["accuracy", *others], front=[0, 1, 2]))
    assert [axes.get_xlabel() for axes in figure.axes] == [
        name.replace("_", " ") for name in others
    ]
    assert figure.axes[0].get_ylabel() == "accuracy"
    for axes in figure.axes:
        (points,) = axes.collections
        assert points.get_offsets().tolist() == [[30, 0.8], [40, 0.9], [20, 0.7], [35, 0.6]]
        assert lines(axes, "Pareto front") == [[[20, 0.7], [30, 0.8], [40, 0.9]]]
        assert lines(axes, "the best, trial 1") == [[[40, 0.9]]]
        assert lines(axes, "the default") == [[[30, 0.8]]]
        assert [text.get_text() for text in axes.texts] == ["2", "0", "1"]
    check(figure)


def test_no_global_figure_is_left_open(space: SearchSpace) -> None:
    import sys

    plot_slices(many(), space.parameters, summary(1))
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
