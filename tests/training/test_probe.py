import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tagger.data.items import Item
from tagger.training.probe import fit_logistic_regression, start_from_probe

ITEMS = [Item(str(i), f"apple orchard {i}", "", tag="fruit") for i in range(8)] + [
    Item(str(i + 8), f"steel furnace {i}", "", tag="metal") for i in range(8)
]


def test_head_starts_where_the_regression_ends(tiny_classifier):
    classifier = tiny_classifier
    start_from_probe(classifier, ITEMS, [1.0] * len(ITEMS), C=1000.0)
    predicted = classifier.predict_proba(ITEMS).argmax(1)
    expected = [classifier.tags.index(item.tag) for item in ITEMS]
    assert (predicted == expected).mean() > 0.9


@pytest.mark.slow
def test_a_tag_without_items_is_the_least_likely(tiny_classifier):
    start_from_probe(tiny_classifier, ITEMS, [1.0] * len(ITEMS), C=10.0)
    probabilities = tiny_classifier.predict_proba(ITEMS)
    absent = tiny_classifier.tags.index("weather")
    assert (probabilities.argmin(1) == absent).all()
    assert np.isfinite(probabilities).all()


def scikit_learns(classifier, items, **given):
    """What scikit-learn makes of the classifier's vectors, as it judges `ITEMS`."""
    vectors = classifier.embed(items)
    scale = np.linalg.norm(vectors, axis=1).mean()
    model = LogisticRegression(C=100.0, tol=1e-10, max_iter=10_000)
    model.fit(vectors / scale, [classifier.tags.index(item.tag) for item in items], **given)
    return model.predict_proba(classifier.embed(ITEMS) / scale)


# Of three tags, so that scikit-learn and we penalise alike.
MORE = [
    *ITEMS,
    *(Item(f"w{i}", f"storm cloud {i}", "wind", tag="weather") for i in range(4)),
    *(Item(f"x{i}", f"apple orchard {i} again", "", tag="metal") for i in range(4)),
]


def test_items_count_what_their_weights_say(tiny_classifier):
    weights = np.array([1.0] * 20 + [0.1, 0.5, 2.0, 5.0])
    start_from_probe(tiny_classifier, MORE, weights.tolist(), C=100.0)
    found = tiny_classifier.predict_proba(ITEMS)
    expected = scikit_learns(tiny_classifier, MORE, sample_weight=weights)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    start_from_probe(tiny_classifier, MORE, [1.0] * len(MORE), C=100.0)
    assert np.abs(tiny_classifier.predict_proba(ITEMS) - found).max() > 0.02


def test_balanced_lets_each_tag_weigh_alike_by_its_rows(tiny_classifier):
    items = [*ITEMS[:8], *ITEMS[8:11], MORE[16]]
    start_from_probe(tiny_classifier, items, [1.0] * 12, C=100.0, balanced=True)
    found = tiny_classifier.predict_proba(ITEMS)
    factors = [12 / (3 * 8)] * 8 + [12 / (3 * 3)] * 3 + [12 / 3]
    expected = scikit_learns(tiny_classifier, items, sample_weight=factors)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    start_from_probe(tiny_classifier, items, [1.0] * 12, C=100.0)
    assert np.abs(tiny_classifier.predict_proba(ITEMS) - found).max() > 0.02


@pytest.mark.parametrize("training", [True, False])
def test_the_module_stays_in_the_mode_that_it_was_in(tiny_classifier, training):
    tiny_classifier.module.train(training)
    start_from_probe(tiny_classifier, ITEMS, [1.0] * len(ITEMS), C=1.0)
    assert tiny_classifier.module.training is training


# The regression


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
