import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.decision.calibrators import KINDS, Isotonic
from tagger.decision.decider import PLAIN, CalibrationRows, Rule, fit_rule, save_rule
from tagger.decision.policies import Argmax
from tagger.evaluation.against import compare_runs, pair_rows
from tagger.evaluation.evaluate_run import open_decider
from tagger.evaluation.guards import regressions
from tagger.evaluation.predicting import decide
from tagger.evaluation.results import Results
from tagger.evaluation.rows import load_rows
from tagger.files import write_json
from tagger.runs import RunFolder, open_run, write_predictions


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
    rows = CalibrationRows(probabilities, true.astype(np.int64), None, "made up")
    config = run.decision_config.model_copy(update={"calibration": kind})
    rule = fit_rule(config, rows)
    save_rule(run.path, config, rule, rows)
    return rule


def compare(runs: Any, name: str, against: str, *overrides: str) -> dict[str, Any]:
    """Compare two runs as an evaluation does, without the rest of its report."""
    config = runs.config(name, f"against={against}", *overrides)
    run = open_run(name, config.runs_dir)
    rows = load_rows(run, config)
    pairing = pair_rows(run, rows.items, config)
    decisions = decide(open_decider(run, config), rows.items)
    true = tag_positions(rows.items, run.tags)
    results = Results(rows.items, true, decisions.probabilities, run.tags)
    return compare_runs(
        pairing, results, decisions.raw, slices=rows.slices, vectors=None, config=config
    )


def changed_items(comparison: dict[str, Any]) -> list[str]:
    return [one["id"] for kind in ("fixed", "broken", "still_wrong") for one in comparison[kind]]


def assert_nothing_changed(comparison: dict[str, Any]) -> None:
    assert changed_items(comparison) == []
    assert comparison["mcnemar"] == {"fixed": 0, "broken": 0, "p_value": 1.0}
    assert comparison["guards"]["parts"]
    for part in comparison["guards"]["parts"]:
        assert (part["fixed"], part["broken"], part["worse"]) == (0, 0, False)
    assert regressions({"comparison": comparison}) == []


@pytest.mark.parametrize("kind", KINDS)
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
    assert comparison["recorded_predictions"] == len(test)
    assert_nothing_changed(comparison)
    # By what it is asked anew.
    comparison = compare(runs, "r", "r", *runs.other_source(new_items(30, seed=seed + 10)))
    assert (comparison["recorded_predictions"], comparison["num_samples"]) == (0, 30)
    assert_nothing_changed(comparison)


def test_a_run_of_the_same_model_is_not_asked_again(runs, items, split) -> None:
    """Where a correction has steps, other last digits than the recorded ones make another tag."""
    run = runs.make("r", items, split)
    model = runs.models["r"] = Unsure(run.tags)
    steps = Isotonic([[0.0, 0.5, 0.5 + 1e-12, 1.0]] * 4, [[0.9, 0.1, 0.9, 1.0]] * 4)
    save_rule(run.path, run.decision_config, Rule(steps, Argmax(), None), None)
    write_json(run.path / "meta.json", run.meta | {"model_files": {"model.safetensors": "0" * 64}})
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
