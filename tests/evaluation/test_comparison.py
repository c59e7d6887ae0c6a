import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.decision.calibrators import FITS, Isotonic
from tagger.decision.decider import PLAIN, CalibrationSet, Rule, fit_rule, save_rule
from tagger.decision.policies import Argmax
from tagger.evaluation.comparison import (
    COMPARED,
    compare_runs,
    mcnemar_p_value,
    pair_rows,
    paired_bootstrap,
)
from tagger.evaluation.evaluate_run import open_decider
from tagger.evaluation.predictions import LabelledPredictions, decide
from tagger.evaluation.report import McNemar, RunComparison
from tagger.evaluation.rows import load_rows
from tagger.files import write_json
from tagger.runs import RunFolder, open_run, write_predictions
from tagger.scores import confusion_matrix, scores_from_confusion


@pytest.mark.parametrize(
    ("fixed", "broken", "expected"),
    [
        (8, 2, 2 * (1 + 10 + 45) / 2**10),  # both tails of ten tosses
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (5, 0, 2 / 2**5),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(fixed: int, broken: int, expected: float) -> None:
    assert mcnemar_p_value(fixed, broken) == pytest.approx(expected)


def test_equal_runs_do_not_differ_at_all() -> None:
    true = np.array([0, 1, 2, 0, 1])
    same = np.array([0, 1, 1, 0, 0])
    ends = paired_bootstrap(true, same, same, 3, resamples=200, seed=0)
    assert set(ends.values()) == {(0.0, 0.0)}


def test_pairing_finds_what_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    hard = rng.random(300) < 0.25
    theirs = np.where(hard, (true + 1) % 3, true)
    ours = theirs.copy()
    mended = np.flatnonzero(hard)[:12]
    ours[mended] = true[mended]
    low, high = paired_bootstrap(true, ours, theirs, 3, resamples=1000, seed=0)["accuracy"]
    assert 0 < low < 12 / 300 < high < 0.08
    swapped = paired_bootstrap(true, theirs, ours, 3, resamples=1000, seed=0)["accuracy"]
    assert swapped[1] < 0


@pytest.mark.slow
def test_drawing_counts_is_drawing_pairs() -> None:
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, 90)
    ours, theirs = (
        np.where(rng.random(90) < share, true, rng.integers(0, 3, 90)) for share in (0.8, 0.7)
    )
    plain = []
    for _ in range(3000):
        rows = rng.integers(0, 90, 90)
        one, two = (
            scores_from_confusion(confusion_matrix(true[rows], run[rows], 3))["macro_f1"]
            for run in (ours, theirs)
        )
        plain.append(one - two)
    found = paired_bootstrap(true, ours, theirs, 3, resamples=3000, seed=0)["macro_f1"]
    assert found == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.015)


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    true, ours, theirs = (rng.integers(0, 3, 60) for _ in range(3))
    one, same, other = (
        paired_bootstrap(true, ours, theirs, 3, resamples=200, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same != other


class Unsure:
    """Gives each item probabilities of its own, which no rounding to a few digits keeps."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self.tags = tags
        self.asked: list[str] = []

    def predict_proba(self, items: list[Item]) -> np.ndarray:
        self.asked += [item.id for item in items]
        seeds = [int(item.content_hash[:12], 16) for item in items]
        rows = [np.random.default_rng(seed).dirichlet([0.5] * len(self.tags)) for seed in seeds]
        return np.array(rows).reshape(len(items), len(self.tags))


def fit(run: RunFolder, kind: str, seed: int) -> Rule:
    """Fit a correction to rows whose most probable tag is often another than the true one."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.5] * len(run.tags), size=80)
    true = np.where(rng.random(80) < 0.6, probabilities.argmax(axis=1), rng.integers(0, 3, 80))
    rows = CalibrationSet(probabilities, true.astype(np.int64), None, "made up")
    config = run.decision_config.model_copy(update={"calibration": kind})
    rule = fit_rule(config, rows)
    save_rule(run.path, config, rule, rows)
    return rule


def compare(runs: Any, name: str, against: str, *overrides: str) -> RunComparison:
    """Compare two runs as an evaluation does, without the rest of its report."""
    config = runs.config(name, f"against={against}", *overrides)
    run = open_run(name, config.runs_dir)
    rows = load_rows(run, config)
    pairing = pair_rows(run, rows.items, config)
    decisions = decide(open_decider(run, config), rows.items)
    true = tag_positions(rows.items, run.tags)
    predictions = LabelledPredictions(rows.items, true, decisions.probabilities, run.tags)
    return compare_runs(
        pairing, predictions, decisions.raw, slices=rows.slices, vectors=None, config=config
    )


def changed_items(comparison: RunComparison) -> list[str]:
    return [
        one.id for kind in ("fixed", "broken", "still_wrong") for one in getattr(comparison, kind)
    ]


class Says:
    """Predicts the tags that it is told to."""

    def __init__(self, tags: tuple[str, ...], said: dict[str, str]) -> None:
        self.tags, self.said = tags, said

    def predict_proba(self, items: list[Item]) -> np.ndarray:
        return np.eye(len(self.tags))[[self.tags.index(self.said[item.id]) for item in items]]


def test_changed_items_are_told_apart(runs, items, split) -> None:
    right = {item.id: str(item.tag) for item in items}
    first, second, third = items[27].id, items[30].id, items[33].id  # all of them are apples
    said = {
        "ours": right | {first: "plums", third: "plums"},
        "theirs": right | {second: "plums", third: "never seen"},
    }
    for name, answers in said.items():
        run = runs.make(name, items, split)
        (run.path / "predictions.csv").unlink()
        runs.models[name] = Says(run.tags, answers)
    result = compare(runs, "ours", "theirs")
    assert [one.id for one in result.fixed] == [second]
    assert [one.id for one in result.broken] == [first]
    (changed,) = result.still_wrong
    assert (changed.id, changed.title) == (third, items[33].title)
    assert (changed.true, changed.ours, changed.theirs) == ("apples", "plums", "never seen")
    assert result.num_samples == 15
    assert result.mcnemar == McNemar(fixed=1, broken=1, p_value=1.0)
    assert (result.against, result.recorded_predictions) == ("theirs", 0)
    assert set(result.differences) == set(COMPARED)
    for one in result.differences.values():
        assert one.value == pytest.approx(one.ours - one.theirs)
        assert one.low <= one.value <= one.high
        assert one.low < one.high
    accuracy, f1 = result.differences["accuracy"], result.differences["macro_f1"]
    assert (accuracy.ours, accuracy.theirs) == pytest.approx((13 / 15, 13 / 15))
    # Of apples, plums, pears and a tag that no row has, by hand.
    assert f1.ours == pytest.approx((3 / 4 + 5 / 6 + 1 + 0) / 4)
    assert f1.theirs == pytest.approx((3 / 4 + 10 / 11 + 1 + 0) / 4)


def assert_nothing_changed(comparison: RunComparison) -> None:
    assert changed_items(comparison) == []
    assert comparison.mcnemar == McNemar(fixed=0, broken=0, p_value=1.0)
    assert comparison.guards.parts
    for part in comparison.guards.parts:
        assert (part.fixed, part.broken, part.worse) == (0, 0, False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FITS])
@pytest.mark.parametrize("seed", range(2))
def test_nothing_changed_between_a_run_and_itself(
    runs, new_items: Callable[..., list[Item]], split, kind: str, seed: int
) -> None:
    items = new_items(40, seed=seed)
    run = runs.make("r", items, split)
    model = runs.models["r"] = Unsure(run.tags)
    rule = fit(run, kind, seed)
    test = items[25:]
    write_predictions(
        run.path / "predictions.csv", [i.id for i in test], run.tags, model.predict_proba(test)
    )
    if kind in {"isotonic", "vector"}:  # they predict other tags than the model by itself
        raw = np.random.default_rng(seed).dirichlet([0.5] * 4, size=500)
        assert (rule.predict(raw) != raw.argmax(axis=1)).mean() > 0.02
    # By what it has recorded.
    comparison = compare(runs, "r", "r")
    assert comparison.recorded_predictions == len(test)
    assert_nothing_changed(comparison)
    # By what it is asked anew.
    comparison = compare(runs, "r", "r", *runs.other_source(new_items(30, seed=seed + 10)))
    assert (comparison.recorded_predictions, comparison.num_samples) == (0, 30)
    assert_nothing_changed(comparison)


def test_a_run_of_the_same_model_is_not_asked_again(runs, items, split) -> None:
    """Where a correction has steps, other last digits than the recorded ones make another tag."""
    run = runs.make("r", items, split)
    model = runs.models["r"] = Unsure(run.tags)
    steps = Isotonic([[0.0, 0.5, 0.5 + 1e-12, 1.0]] * 4, [[0.9, 0.1, 0.9, 1.0]] * 4)
    save_rule(run.path, run.decision_config, Rule(steps, Argmax(), None), None)
    write_json(
        run.path / "meta.json",
        run.meta.model_dump() | {"model_files": {"model.safetensors": "0" * 64}},
    )
    copy = RunFolder(shutil.copytree(run.path, run.path.with_name("copy")))
    runs.models["copy"] = Unsure(run.tags)
    raw = model.predict_proba(items[25:])
    rough = np.round(raw, 1)
    write_predictions(copy.path / "predictions.csv", [i.id for i in items[25:]], run.tags, rough)
    assert_nothing_changed(compare(runs, "r", "copy"))
    assert runs.models["copy"].asked == []
    # The copy decides by a rule of its own, which counts.
    save_rule(copy.path, run.decision_config, PLAIN, None)
    other = steps.apply(raw).argmax(axis=1) != raw.argmax(axis=1)
    expected = {item.id for item, differs in zip(items[25:], other, strict=True) if differs}
    assert set(changed_items(compare(runs, "r", "copy"))) == expected != set()
