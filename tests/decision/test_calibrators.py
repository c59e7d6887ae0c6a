import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from tagger.decision.calibrators import (
    Calibrator,
    Isotonic,
    Temperature,
    Unchanged,
    Vector,
    fit_calibrator,
)

ADAPTER = TypeAdapter(Calibrator)
KINDS = ["none", "temperature", "vector", "isotonic"]


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def rows_of_known_chances(count, n_tags=3, seed=0):
    """Logits whose softmax is the true chance of each tag, and tags drawn by those chances."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, n_tags))
    chances = softmax(logits)
    true = (chances.cumsum(axis=1) < random.random((count, 1))).sum(axis=1)
    return logits, true


def error(probabilities, true):
    """Mean negative log likelihood of the true tags."""
    return -np.log(np.maximum(probabilities[np.arange(len(true)), true], 1e-12)).mean()


def distance_from_chances(probabilities, true):
    """The mean gap, over ten bins of each tag, between its probability and its share of rows."""
    gaps = []
    for tag, column in enumerate(probabilities.T):
        for part in np.array_split(np.argsort(column), 10):
            gaps.append(abs(column[part].mean() - (true[part] == tag).mean()))
    return np.mean(gaps)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_temperature_finds_the_factor_that_logits_were_multiplied_by(factor):
    logits, true = rows_of_known_chances(6000)
    fitted = fit_calibrator("temperature", softmax(factor * logits), true.tolist())
    assert fitted.temperature == pytest.approx(factor, rel=0.06)
    np.testing.assert_allclose(fitted.apply(softmax(factor * logits)), softmax(logits), atol=0.03)


def test_temperature_is_the_one_under_which_the_true_tags_are_the_most_probable():
    logits, true = rows_of_known_chances(40)
    before = softmax(2 * logits)
    looked_at = np.geomspace(0.5, 10, 2000)
    errors = [error(Temperature(one).apply(before), true) for one in looked_at]
    fitted = fit_calibrator("temperature", before, true.tolist())
    assert fitted.temperature == pytest.approx(looked_at[np.argmin(errors)], rel=0.003)


def test_temperature_leaves_the_order_of_tags():
    logits, true = rows_of_known_chances(500, n_tags=5)
    before = softmax(4 * logits)
    after = fit_calibrator("temperature", before, true.tolist()).apply(before)
    np.testing.assert_array_equal(np.argsort(after, axis=1), np.argsort(before, axis=1))
    assert after.max(axis=1).mean() < before.max(axis=1).mean()


def test_temperature_of_a_model_that_is_always_right_stays_in_bounds():
    before = softmax(np.eye(3)[[0, 1, 2] * 5])
    fitted = fit_calibrator("temperature", before, [0, 1, 2] * 5)
    assert 0.04 < fitted.temperature < 1
    assert np.isfinite(fitted.apply(before)).all()


def test_vector_mends_a_tag_that_is_favoured_where_temperature_cannot():
    logits, true = rows_of_known_chances(6000)
    favoured = softmax(2 * logits + [2.0, 0.0, 0.0])
    fresh, fresh_true = rows_of_known_chances(6000, seed=1)
    fresh_favoured = softmax(2 * fresh + [2.0, 0.0, 0.0])
    vector = fit_calibrator("vector", favoured, true.tolist())
    temperature = fit_calibrator("temperature", favoured, true.tolist())
    by_vector = error(vector.apply(fresh_favoured), fresh_true)
    assert by_vector < error(temperature.apply(fresh_favoured), fresh_true) - 0.02
    assert by_vector == pytest.approx(error(softmax(fresh), fresh_true), abs=0.01)
    np.testing.assert_allclose(vector.scale, 0.5, atol=0.07)
    shift = np.array(vector.shift)
    np.testing.assert_allclose(shift - shift[1], [-1.0, 0.0, 0.0], atol=0.15)


def test_vector_does_not_run_away_with_a_tag_that_no_row_has():
    logits, true = rows_of_known_chances(300, n_tags=2)
    probabilities = softmax(np.column_stack([logits, np.full(300, -3.0)]))
    fitted = fit_calibrator("vector", probabilities, true.tolist())
    assert np.abs([*fitted.scale, *fitted.shift]).max() < 10
    assert np.isfinite(fitted.apply(probabilities)).all()


def test_vector_stays_near_no_correction_where_rows_say_nothing():
    fitted = fit_calibrator("vector", np.full((6, 3), 1 / 3), [0, 1, 2] * 2)
    np.testing.assert_allclose(fitted.scale, 1, atol=1e-3)
    np.testing.assert_allclose(fitted.shift, 0, atol=1e-3)


def test_isotonic_mends_what_is_no_matter_of_scale():
    def too_fond_of_its_first_choice(chances):
        return 0.4 * chances + 0.6 * np.eye(3)[chances.argmax(axis=1)]

    logits, true = rows_of_known_chances(6000)
    fresh, fresh_true = rows_of_known_chances(6000, seed=1)
    before = too_fond_of_its_first_choice(softmax(logits))
    fresh_before = too_fond_of_its_first_choice(softmax(fresh))
    after = {
        kind: fit_calibrator(kind, before, true.tolist()).apply(fresh_before)
        for kind in ("none", "temperature", "isotonic")
    }
    gaps = {kind: distance_from_chances(rows, fresh_true) for kind, rows in after.items()}
    assert gaps["isotonic"] < 0.5 * gaps["temperature"] < 0.5 * gaps["none"]
    assert error(after["isotonic"], fresh_true) < error(after["temperature"], fresh_true) - 0.01


def test_isotonic_curves_rise():
    logits, true = rows_of_known_chances(400)
    fitted = fit_calibrator("isotonic", softmax(logits), true.tolist())
    assert len(fitted.inputs) == len(fitted.outputs) == 3
    for x, y in zip(fitted.inputs, fitted.outputs, strict=True):
        assert (np.diff(x) > 0).all()
        assert (np.diff(y) >= 0).all()
        assert 0 <= y[0] <= y[-1] <= 1


def test_where_all_isotonic_curves_say_nothing_the_old_probabilities_decide():
    none = Isotonic([[0.0, 1.0]] * 3, [[0.0, 0.0]] * 3)
    rows = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    np.testing.assert_allclose(none.apply(rows), rows)


def test_where_two_isotonic_curves_say_the_same_the_old_probabilities_decide():
    level = Isotonic([[0.0, 1.0]] * 3, [[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]])
    after = level.apply(np.array([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2]]))
    np.testing.assert_array_equal(after.argmax(axis=1), [0, 1])


def test_isotonic_refuses_other_tags_than_it_has_curves_for():
    with pytest.raises(ValueError, match="shorter"):
        Isotonic([[0.0, 1.0]], [[0.0, 1.0]]).apply(np.array([[0.5, 0.3, 0.2]]))


@pytest.mark.parametrize("kind", KINDS)
def test_corrected_rows_are_distributions_whatever_comes_in(kind):
    logits, true = rows_of_known_chances(200)
    fitted = fit_calibrator(kind, softmax(3 * logits), true.tolist())
    certain = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    after = fitted.apply(certain)
    assert after.shape == (3, 3)
    assert (after >= 0).all()
    np.testing.assert_allclose(after.sum(axis=1), 1)
    assert fitted.apply(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_enough_to_fit_to(kind):
    row = np.array([[0.7, 0.2, 0.1]])
    after = fit_calibrator(kind, row, [0]).apply(row)
    np.testing.assert_allclose(after.sum(axis=1), 1)


def test_without_a_correction_probabilities_stay_what_they_are():
    logits, true = rows_of_known_chances(50)
    before = softmax(logits)
    np.testing.assert_array_equal(
        fit_calibrator("none", before, true.tolist()).apply(before), before
    )


@pytest.mark.parametrize("kind", KINDS)
def test_json_gives_back_the_same_correction(kind):
    logits, true = rows_of_known_chances(100)
    before = softmax(2 * logits)
    fitted = fit_calibrator(kind, before, true.tolist())
    text = ADAPTER.dump_json(fitted)
    again = ADAPTER.validate_json(text)
    assert again.kind == kind
    assert again == fitted
    np.testing.assert_array_equal(again.apply(before), fitted.apply(before))


def test_numbers_mean_what_they_say():
    rows = np.array([[0.8, 0.2]])
    assert ADAPTER.validate_python({"kind": "none"}) == Unchanged()
    # 0.8 is odds of 4; at temperature 2 these are 2, which is 2 / 3.
    np.testing.assert_allclose(Temperature(2.0).apply(rows), [[2 / 3, 1 / 3]])
    # Odds of 4, halved by a shift of log 2 for the other tag.
    np.testing.assert_allclose(Vector([1, 1], [0, np.log(2)]).apply(rows), [[2 / 3, 1 / 3]])
    halves = Isotonic([[0.0, 1.0], [0.0, 1.0]], [[0.0, 0.5], [0.0, 1.0]])
    np.testing.assert_allclose(halves.apply(rows), [[2 / 3, 1 / 3]], atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "magic"},
        {"kind": "temperature"},
        {"kind": "none", "temperature": 1.0},
        [],
        None,
    ],
)
def test_other_json_is_refused(values):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(values)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "temperature", "temperature": "warm"},
        {"kind": "temperature", "temperature": None},
        {"kind": "temperature", "temperature": [1.0]},
        {"kind": "vector", "scale": [1.0, 1.0], "shift": 0.0},
        {"kind": "vector", "scale": [1.0, "1.0"], "shift": [0.0, 0.0]},
        {"kind": "isotonic", "inputs": [0.0, 1.0], "outputs": [0.0, 1.0]},
        {"kind": "isotonic", "inputs": [[0.0, 1.0]], "outputs": [[0.0, None]]},
    ],
)
def test_what_are_no_numbers_is_refused(values):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(values)
