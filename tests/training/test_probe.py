import numpy as np
import torch

from tagger.data.items import Item
from tagger.training.probe import start_from_probe

ITEMS = [Item(str(i), f"apple orchard {i}", "", tag="fruit") for i in range(8)] + [
    Item(str(i + 8), f"steel furnace {i}", "", tag="metal") for i in range(8)
]


def test_head_starts_where_the_regression_ends(tiny_classifier):
    classifier = tiny_classifier
    start_from_probe(classifier, ITEMS, strength=1000.0)
    predicted = classifier.predict_proba(ITEMS).argmax(1)
    expected = [classifier.tags.index(item.tag) for item in ITEMS]
    assert (predicted == expected).mean() > 0.9


def test_a_tag_without_items_is_the_least_likely(tiny_classifier):
    start_from_probe(tiny_classifier, ITEMS, strength=1000.0)
    absent = tiny_classifier.tags.index("weather")
    assert (tiny_classifier.predict_proba(ITEMS).argmax(1) != absent).all()


def test_one_tag_alone_leaves_the_head_as_it_was(tiny_classifier):
    before = tiny_classifier.module.head.weight.clone()
    start_from_probe(tiny_classifier, ITEMS[:8], strength=1.0)
    assert torch.equal(tiny_classifier.module.head.weight, before)
    assert np.isfinite(tiny_classifier.predict_proba(ITEMS)).all()
