import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tagger.scores import (
    AVERAGES,
    OVERALL,
    PER_CLASS,
    confusion_matrix,
    scores_from_confusion,
    softmax,
)

N_TAGS = 5
position = st.integers(0, N_TAGS - 1)


@pytest.mark.slow
@settings(max_examples=50)
@given(st.lists(st.tuples(position, position), min_size=1, max_size=60))
def test_every_score_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = (list(column) for column in zip(*pairs, strict=True))
    scores = scores_from_confusion(confusion_matrix(true, predicted, N_TAGS))
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    labels = list(range(N_TAGS))
    for average in AVERAGES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = precision_recall_fscore_support(
                true, predicted, labels=labels, average=average, zero_division=0
            )
        for name, value in zip(PER_CLASS, expected, strict=False):
            assert scores[f"{average}_{name}"] == pytest.approx(value), (average, name)
    columns = precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0)
    for name, column in zip((*PER_CLASS, "support"), columns, strict=True):
        assert scores[name] == pytest.approx(column), name


def test_an_absent_tag_shifts_nothing() -> None:
    scores = scores_from_confusion(confusion_matrix([0, 0, 2], [0, 2, 2], 3))
    assert scores["recall"].tolist() == [0.5, 0, 1]
    assert scores["precision"].tolist() == [1, 0, 0.5]
    assert scores["macro_recall"] == pytest.approx((0.5 + 0 + 1) / 3)


def test_rows_are_true_tags_and_columns_decisions() -> None:
    assert confusion_matrix([0, 0, 1], [1, 1, 0], 3).tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0]]


def test_many_matrices_are_scored_at_once() -> None:
    rng = np.random.default_rng(0)
    many = rng.integers(0, 9, size=(7, 2, 3, 3))
    scores = scores_from_confusion(many)
    for index in np.ndindex(7, 2):
        alone = scores_from_confusion(many[index])
        for name in (*OVERALL, *PER_CLASS, "support"):
            assert scores[name][index] == pytest.approx(alone[name]), name


def test_no_rows_give_zeros_not_errors() -> None:
    scores = scores_from_confusion(confusion_matrix([], [], 2))
    assert {float(scores[name]) for name in OVERALL} == {0.0}


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([0, 1], [0], "must be equal"),
        ([0], [2], "found 0 to 2"),
        ([-1], [0], "found -1 to 0"),
        ([[0]], [[0]], "must be equal"),
    ],
)
def test_bad_positions_are_refused(true: list, predicted: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(true, predicted, 2)


def test_softmax_by_hand_and_without_overflow() -> None:
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 1000.0], [-5.0, 995.0]])
    np.testing.assert_allclose(softmax(logits), [[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]])
