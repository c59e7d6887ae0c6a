import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from tagger.data.items import Item
from tagger.training.probe import fit_logistic_regression, start_from_probe

ITEMS = [Item(str(i), f"apple orchard {i}", "", tag="fruit") for i in range(8)] + [
    Item(str(i + 8), f"steel furnace {i}", "", tag="metal") for i in range(8)
]


def test_fit_agrees_with_scikit_learn():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(120, 12))
    targets = (vectors[:, :3] + random.normal(size=(120, 3))).argmax(1)
    theirs = LogisticRegression(C=3.0, max_iter=5000, tol=1e-9).fit(vectors, targets)
    weight, bias = fit_logistic_regression(
        torch.from_numpy(vectors), torch.from_numpy(targets), 3, strength=3.0
    )
    ours = (torch.from_numpy(vectors) @ weight.T + bias).softmax(-1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(vectors), atol=1e-3)


def test_head_starts_where_the_regression_ends(tiny_classifier):
    classifier = tiny_classifier
    start_from_probe(classifier, ITEMS, strength=1000.0)
    predicted = classifier.predict_proba(ITEMS).argmax(1)
    expected = [classifier.tags.index(item.tag) for item in ITEMS]
    assert (predicted == expected).mean() > 0.9


def test_a_tag_without_items_is_the_least_likely(tiny_classifier):
    start_from_probe(tiny_classifier, ITEMS, strength=10.0)
    probabilities = tiny_classifier.predict_proba(ITEMS)
    absent = tiny_classifier.tags.index("weather")
    assert (probabilities.argmin(1) == absent).all()
    assert np.isfinite(probabilities).all()


def test_one_tag_alone_breaks_nothing(tiny_classifier):
    start_from_probe(tiny_classifier, ITEMS[:8], strength=1.0)
    assert np.isfinite(tiny_classifier.predict_proba(ITEMS)).all()
