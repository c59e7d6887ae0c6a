import numpy as np
import pytest

from tagger.oof.label_check import find_label_errors


def planted(n_wrong: int = 6):
    """90 items of three of four tags, judged well by a model; the first few are mislabelled."""
    rng = np.random.default_rng(0)
    true = np.array([0, 2, 3] * 30)
    probabilities = np.full((90, 4), 0.05)
    probabilities[np.arange(90), true] = 0.85 - 0.2 * rng.random(90)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = true.copy()
    labels[:n_wrong] = np.array([2, 3, 0] * 30)[:n_wrong]
    return probabilities, labels, true


def test_planted_errors_come_first_with_their_true_tag():
    probabilities, labels, true = planted()
    errors = find_label_errors(probabilities, labels)
    assert set(np.argsort(errors.credibility)[:6]) == set(range(6))
    assert set(np.flatnonzero(errors.suspected)) == set(range(6))
    np.testing.assert_array_equal(errors.suggested, true)
    assert errors.credibility.min() >= 0
    assert errors.credibility.max() <= 1


def test_nothing_is_suspected_where_nothing_is_wrong():
    probabilities, labels, _ = planted(0)
    assert not find_label_errors(probabilities, labels).suspected.any()


def test_one_tag_cannot_be_compared():
    with pytest.raises(ValueError, match="1 tag"):
        find_label_errors(np.full((3, 4), 0.25), [1, 1, 1])


def test_a_row_that_is_sure_of_a_tag_that_no_item_has_spoils_nothing() -> None:
    labels = np.arange(60) % 2
    probabilities = np.full((60, 3), 0.05)
    probabilities[np.arange(60), labels] = 0.9
    given = labels.copy()
    given[:6] = 1 - given[:6]
    probabilities[50:52] = [0, 0, 1]
    found = find_label_errors(probabilities, given.tolist())
    assert found.suspected[:6].all()
    assert np.isfinite(found.credibility).all()
