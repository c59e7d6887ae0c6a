import numpy as np
import pytest

from tagger.data.items import Item
from tagger.evaluation.predictions import LabelledPredictions


@pytest.fixture
def results() -> LabelledPredictions:
    items = [Item(name, name, "") for name in ("right", "wrong", "tie")]
    probabilities = np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1], [0.2, 0.4, 0.4]])
    return LabelledPredictions(items, np.array([1, 2, 2]), probabilities, ("a", "b", "c"))


def test_the_most_probable_tag_is_the_decision(results: LabelledPredictions) -> None:
    assert results.predicted.tolist() == [1, 0, 1]  # of equals, the first
    assert results.confidence.tolist() == [0.7, 0.8, 0.4]


def test_wrong_is_what_differs_from_the_true_tag(results: LabelledPredictions) -> None:
    assert results.wrong.dtype == np.bool_
    assert results.wrong.tolist() == [False, True, True]
