import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tagger.models.logistic import fit_logistic_regression


def rows_of(shares, count=150, width=8, seed=0):
    """Vectors of mean length 1, as the probe gives them, and noisy targets by their shares."""
    random = np.random.default_rng(seed)
    targets = random.choice(len(shares), size=count, p=shares)
    centres = random.normal(size=(len(shares), width))
    vectors = centres[targets] + random.normal(0, 1.2, (count, width))
    return vectors / np.linalg.norm(vectors, axis=1).mean(), targets


def ours(vectors, targets, n_tags, strength, *, balanced=False, weights=None):
    weight, bias = fit_logistic_regression(
        torch.from_numpy(vectors),
        torch.from_numpy(targets),
        n_tags,
        strength,
        weights=None if weights is None else torch.from_numpy(weights),
        balanced=balanced,
    )
    assert (weight.shape, bias.shape) == ((n_tags, vectors.shape[1]), (n_tags,))
    assert not weight.requires_grad and not bias.requires_grad
    return weight.numpy(), bias.numpy()


def probabilities(weight, bias, vectors):
    return torch.from_numpy(vectors @ weight.T + bias).softmax(-1).numpy()


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("strength", [0.03, 1.0, 100.0])
@pytest.mark.parametrize("shares", [[0.34, 0.33, 0.33], [0.7, 0.2, 0.06, 0.04]])
def test_agrees_with_scikit_learn(shares, strength, balanced):
    vectors, targets = rows_of(shares)
    fresh, _ = rows_of(shares, seed=1)
    theirs = LogisticRegression(
        C=strength, class_weight="balanced" if balanced else None, tol=1e-10, max_iter=10_000
    ).fit(vectors, targets)
    weight, bias = ours(vectors, targets, len(shares), strength, balanced=balanced)
    np.testing.assert_allclose(weight, theirs.coef_, atol=0.03 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(
        probabilities(weight, bias, fresh), theirs.predict_proba(fresh), atol=2e-3
    )


def test_two_tags_are_two_rows_of_weights_where_scikit_learn_keeps_their_difference():
    # A row and its opposite have half of their difference's square, so C counts twice.
    vectors, targets = rows_of([0.6, 0.4])
    theirs = LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000).fit(vectors, targets)
    weight, bias = ours(vectors, targets, 2, 1.0)
    np.testing.assert_allclose(weight[0], -weight[1], atol=1e-6)
    np.testing.assert_allclose(
        probabilities(weight, bias, vectors), theirs.predict_proba(vectors), atol=2e-3
    )


def test_balanced_makes_a_difference_where_tags_are_unequal():
    vectors, targets = rows_of([0.7, 0.2, 0.1])
    plain = probabilities(*ours(vectors, targets, 3, 1.0), vectors)
    balanced = probabilities(*ours(vectors, targets, 3, 1.0, balanced=True), vectors)
    assert balanced[:, 2].mean() > plain[:, 2].mean() + 0.02
    # Unbalanced, the mean probability of a tag is its share of the rows.
    np.testing.assert_allclose(plain.mean(axis=0), np.bincount(targets) / 150, atol=1e-3)


@pytest.mark.parametrize("balanced", [False, True])
def test_a_tag_without_rows_is_the_least_likely_and_leaves_the_others_alone(balanced):
    vectors, targets = rows_of([0.5, 0.3, 0.2])
    kept = np.array([0, 2, 4])[targets]  # of five tags, two have no row
    rows = probabilities(*ours(vectors, kept, 5, 1.0, balanced=balanced), vectors)
    assert np.isfinite(rows).all()
    assert rows[:, [1, 3]].max() < 1e-2
    assert (rows[:, [1, 3]].max(axis=1) < rows[:, [0, 2, 4]].min(axis=1)).mean() > 0.5
    alone = probabilities(*ours(vectors, targets, 3, 1.0, balanced=balanced), vectors)
    np.testing.assert_allclose(rows[:, [0, 2, 4]], alone, atol=1e-2)


@pytest.mark.parametrize("balanced", [False, True])
def test_rows_that_can_be_told_apart_perfectly_keep_it_finite(balanced):
    vectors = np.repeat(np.eye(3), 5, axis=0)
    targets = np.repeat(np.arange(3), 5)
    weight, bias = ours(vectors, targets, 3, 1e6, balanced=balanced)
    assert np.isfinite(weight).all() and np.isfinite(bias).all()
    rows = probabilities(weight, bias, vectors)
    assert (rows[np.arange(15), targets] > 0.99).all()


def test_one_tag_alone_breaks_nothing():
    vectors, _ = rows_of([0.5, 0.5], count=10)
    rows = probabilities(
        *ours(vectors, np.zeros(10, dtype=np.int64), 2, 1.0, balanced=True), vectors
    )
    assert (rows[:, 0] > 0.9).all()


def test_a_larger_strength_fits_closer():
    vectors, targets = rows_of([0.4, 0.3, 0.3])
    of_true = [
        probabilities(*ours(vectors, targets, 3, strength), vectors)[np.arange(150), targets].mean()
        for strength in (0.001, 0.1, 10.0)
    ]
    assert of_true == sorted(of_true)
    assert of_true[-1] > of_true[0] + 0.2


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("strength", [0.03, 1.0, 100.0])
def test_weighted_rows_agree_with_scikit_learn(strength, balanced):
    vectors, targets = rows_of([0.6, 0.25, 0.15])
    fresh, _ = rows_of([0.6, 0.25, 0.15], seed=1)
    weights = np.random.default_rng(2).choice([0.1, 1.0, 3.0], size=150)
    # Each tag weighs alike by its rows, whatever each of them counts.
    counts = np.bincount(targets)
    factors = 150 / (3 * counts[targets]) if balanced else np.ones(150)
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
    theirs.fit(vectors, targets, sample_weight=weights * factors)
    weight, bias = ours(vectors, targets, 3, strength, balanced=balanced, weights=weights)
    np.testing.assert_allclose(weight, theirs.coef_, atol=0.03 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(
        probabilities(weight, bias, fresh), theirs.predict_proba(fresh), atol=2e-3
    )
    plain = probabilities(*ours(vectors, targets, 3, strength, balanced=balanced), fresh)
    assert np.abs(probabilities(weight, bias, fresh) - plain).max() > 0.01


def test_a_row_that_counts_nothing_takes_no_part():
    vectors, targets = rows_of([0.5, 0.3, 0.2])
    wrong = np.arange(150) % 5 == 0
    spoiled = np.where(wrong, (targets + 1) % 3, targets)
    weighted = ours(vectors, spoiled, 3, 1.0, weights=np.where(wrong, 0.0, 1.0))
    without = ours(vectors[~wrong], targets[~wrong], 3, 1.0)
    np.testing.assert_allclose(
        probabilities(*weighted, vectors), probabilities(*without, vectors), atol=1e-3
    )
