from datetime import datetime
from typing import Any

import pytest

from tagger.search.fold_results import (
    FOLD,
    FoldResult,
    folds_of,
    mean_score,
    stored_folds,
)
from tagger.search.summary import Score


def folds_with(*values: float) -> dict[str, Any]:
    return {FOLD.format(at): {"scores": {"accuracy": value}} for at, value in enumerate(values)}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"worker": "x", "fold_0": {"scores": {"aurc": 0.1}}}, None),
        (folds_with(0.5), (0.5, 0.0)),
        (folds_with(0.5, 0.7), (0.6, 0.1)),
        (folds_with(0.2, 0.4, 0.9), (0.5, (0.13 / 3) ** 0.5)),
        (folds_with(0.5, 0.7) | {"fold_2": {"scores": {"mib": 3.0}}}, (0.6, 0.1)),
    ],
)
def test_a_trial_is_judged_by_its_folds(
    attributes: dict[str, Any], expected: tuple[float, float] | None
) -> None:
    found = mean_score(attributes, "accuracy")
    assert (found is None) == (expected is None)
    if found and expected:
        assert (found.mean, found.error) == pytest.approx(expected)


def test_a_cost_is_measured_once() -> None:
    attributes = folds_with(0.5, 0.7) | {"fold_2": {"scores": {"accuracy": 0.6, "mib": 3.0}}}
    assert mean_score(attributes, "mib") == Score(mean=3.0, error=0.0)


def test_folds_are_in_the_order_of_their_steps() -> None:
    attributes = {FOLD.format(step): {"step": step} for step in (10, 2, 0, 11, 1)}
    found = stored_folds({"origin": "default", **attributes})
    assert [fold["step"] for fold in found.values()] == [0, 1, 2, 10, 11]


def test_a_result_is_read_back() -> None:
    result = FoldResult(
        scores={"accuracy": 0.5}, predicted=[0, 1], wrong=[1], confidence=[0.9, 0.6],
        of_true=[0.9, 0.4], seconds=2.0, predicting=0.5, done=datetime(2026, 1, 1, 12, 30),
    )  # fmt: skip
    stored = {"origin": "default", "fold_0": result.model_dump(mode="json")}
    assert stored["fold_0"]["done"] == "2026-01-01T12:30:00"  # type: ignore[index]
    assert folds_of(stored) == [result]
