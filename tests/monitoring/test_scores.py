import numpy as np
import pytest

from tagger.monitoring.drift import BINS
from tagger.monitoring.scores import Scorer, needs_vocabulary, score_names, score_weights

TAGS = ("fruit", "metal")


def test_all_tags_weigh_as_one_score() -> None:
    names = score_names(TAGS, pieces=True, ood=True)
    assert names == [
        "length", "unknown words", "unknown pieces", "confidence", "OOD score", "tag: fruit",
        "tag: metal",
    ]  # fmt: skip
    assert score_weights(names) == pytest.approx([1 / 6] * 5 + [1 / 12] * 2)
    assert np.flatnonzero(needs_vocabulary(names)).tolist() == [1, 2]


def test_an_item_is_scored_by_words_that_were_learnt() -> None:
    scorer = Scorer(score_names(TAGS, pieces=False, ood=True), None, [set()])
    scorer.learn("An apple. and a pear")
    values = scorer.score("apple APPLE zinc. pear", np.array([0.3, 0.7]), 0.25)
    assert values.tolist() == [4, 0.25, 0.7, 0.25, 0, 1]
    assert scorer.score("!", np.array([0.5, 0.5]), 0.0)[1] == 0.0


def test_bins_rise_with_the_scores_and_stay_within() -> None:
    names = score_names(TAGS, pieces=False, ood=True)
    scorer = Scorer(names, None, [set()])
    rising = [
        [0, 0, 0.5, 0, 0, 0],
        [9, 0.2, 0.9, 0.3, 0, 0],
        [40, 0.6, 0.99, 0.7, 0, 1],
        [9e9, 1, 1, 2, 1, 1],
    ]
    bins = np.array([scorer.bins(np.array(one, dtype=np.float64)) for one in rising])
    assert (np.diff(bins[:, :4], axis=0) > 0).all()
    assert bins.min() >= 0
    assert bins.max() == BINS - 1
