import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tagger.data.items import Item
from tagger.training.probe import start_from_probe

ITEMS = [Item(str(i), f"apple orchard {i}", "", tag="fruit") for i in range(8)] + [
    Item(str(i + 8), f"steel furnace {i}", "", tag="metal") for i in range(8)
]


def test_head_starts_where_the_regression_ends(tiny_classifier):
    classifier = tiny_classifier
    start_from_probe(classifier, ITEMS, [1.0] * len(ITEMS), C=1000.0)
    predicted = classifier.predict_proba(ITEMS).argmax(1)
    expected = [classifier.tags.index(item.tag) for item in ITEMS]
    assert (predicted == expected).mean() > 0.9


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
