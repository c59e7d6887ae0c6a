import dataclasses
import itertools

import numpy as np
import pytest

from tagger.decision.decider import PLAIN
from tagger.decision.policies import REVIEW
from tagger.evaluation.intervals import wilson_interval
from tagger.evaluation.report import Score, TagDecisions
from tagger.evaluation.selective import (
    CURVE_POINTS,
    area_under_risk_coverage,
    describe_decisions,
    precision_at_coverage,
    risk_coverage,
)

# From the surest on: right, wrong, right, right, wrong; not in that order in the table.
CONFIDENCE = np.array([0.5, 0.9, 0.8, 0.6, 0.7])
RIGHT = np.array([False, True, False, True, True])


def risks_by_hand(confidence, right):
    """Publish the surest row, the two surest and so on, for every order in which ties can stand."""
    curves = []
    rows = list(zip(confidence, right, strict=True))
    for order in itertools.permutations(range(len(rows))):
        chosen = [rows[at] for at in order]
        if any(one[0] < other[0] for one, other in itertools.pairwise(chosen)):
            continue
        wrong = [not one[1] for one in chosen]
        curves.append([sum(wrong[:n]) / n for n in range(1, len(rows) + 1)])
    return np.mean(curves, axis=0)


def test_curve_by_hand():
    coverages, risks = risk_coverage(CONFIDENCE, RIGHT)
    assert coverages.tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    np.testing.assert_allclose(risks, [0, 1 / 2, 1 / 3, 1 / 4, 2 / 5])


def test_ties_share_their_risk_out():
    # The two surest are level, and one of them is wrong: half an error each.
    _, risks = risk_coverage(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]))
    np.testing.assert_allclose(risks, [1 / 2, 1 / 2, 1 / 3])
    _, risks = risk_coverage(np.array([0.9, 0.5, 0.5, 0.5]), np.array([True, False, False, True]))
    np.testing.assert_allclose(risks, [0, (2 / 3) / 2, (4 / 3) / 3, 2 / 4])


@pytest.mark.parametrize("seed", range(8))
def test_curve_and_area_are_means_over_all_orders_of_ties(seed):
    random = np.random.default_rng(seed)
    confidence = random.choice([0.4, 0.6, 0.6 + 1e-9, 0.9], size=6)
    right = random.random(6) < 0.6
    expected = risks_by_hand(confidence.tolist(), right.tolist())
    np.testing.assert_allclose(risk_coverage(confidence, right)[1], expected)
    assert area_under_risk_coverage(confidence, right) == pytest.approx(expected.mean())


def test_order_of_rows_says_nothing_not_even_among_ties():
    random = np.random.default_rng(0)
    confidence, right = random.random(300).round(1), random.random(300) < 0.7
    order = random.permutation(300)
    np.testing.assert_allclose(
        risk_coverage(confidence[order], right[order])[1], risk_coverage(confidence, right)[1]
    )


def test_without_any_order_the_risk_is_that_of_all_rows_everywhere():
    _, risks = risk_coverage(np.full(10, 0.25), np.arange(10) < 7)
    np.testing.assert_allclose(risks, 0.3)


def test_area_is_between_that_of_the_best_and_of_the_worst_order():
    confidence = np.linspace(1, 0, 10)
    best, worst = np.arange(10) < 7, np.arange(10) >= 3
    mixed = np.array([True, False, True, True, True, False, True, True, True, False])
    of = area_under_risk_coverage
    assert of(confidence, best) < of(confidence, mixed) < of(confidence, worst)
    # The seven right rows come first, then 1 of 8, 2 of 9 and 3 of 10 are wrong.
    assert of(confidence, best) == pytest.approx((1 / 8 + 2 / 9 + 3 / 10) / 10)
    assert of(confidence, np.ones(10, bool)) == 0
    assert of(confidence, np.zeros(10, bool)) == 1


def test_precision_of_the_surest_share():
    assert precision_at_coverage(CONFIDENCE, RIGHT, 0.2) == 1
    assert precision_at_coverage(CONFIDENCE, RIGHT, 0.4) == pytest.approx(1 / 2)
    assert precision_at_coverage(CONFIDENCE, RIGHT, 0.8) == pytest.approx(3 / 4)
    assert precision_at_coverage(CONFIDENCE, RIGHT, 1.0) == pytest.approx(3 / 5)
    # A share that is less than a row is a row.
    assert precision_at_coverage(CONFIDENCE, RIGHT, 0.01) == 1
    assert precision_at_coverage(np.array([0.5]), np.array([False]), 0.8) == 0


PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.8, 0.1, 0.1],
        [0.1, 0.7, 0.2],
        [0.2, 0.6, 0.2],
        [0.5, 0.4, 0.1],
    ]
)
DECIDED = np.array([0, 0, 1, REVIEW, REVIEW])
TRUE = np.array([0, 1, 1, 1, 1])


def proportion(successes, trials):
    low, high = wilson_interval(successes, trials)
    return Score(value=successes / trials, low=float(low), high=float(high))


def test_description_by_hand():
    described = describe_decisions(PROBABILITIES, DECIDED, TRUE, ["a", "b", "c"], PLAIN)
    assert described.num_samples == 5
    assert described.published == 3
    assert described.coverage == pytest.approx(0.6)
    assert described.review_per_1000 == pytest.approx(400)
    assert described.precision == proportion(2, 3)
    assert described.per_class == {
        "a": TagDecisions(published=2, precision=proportion(1, 2), recall=proportion(1, 1)),
        # One of its four rows is published under it, and two are with a person.
        "b": TagDecisions(published=1, precision=proportion(1, 1), recall=proportion(1, 4)),
        "c": TagDecisions(published=0, precision=None, recall=None),
    }
    # Rows by confidence: right, wrong, right, right, wrong, whatever was decided.
    assert described.at_coverage == {
        "80%": pytest.approx(3 / 4),
        "90%": pytest.approx(3 / 4),  # four of five rows, 4.5 rounded
        "95%": pytest.approx(3 / 5),
    }
    assert described.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4 + 2 / 5) / 5)
    np.testing.assert_allclose(
        described.curve, [[0.2, 0], [0.4, 1 / 2], [0.6, 1 / 3], [0.8, 1 / 4], [1.0, 2 / 5]]
    )


def test_a_tag_that_is_published_without_being_the_most_probable_counts_as_decided():
    # A conformal set may hold only the second; its rightness is that of what was published.
    described = describe_decisions(
        np.array([[0.6, 0.4], [0.6, 0.4]]), np.array([1, 1]), np.array([1, 0]), ["a", "b"], PLAIN
    )
    assert described.precision.value == 0.5
    assert described.per_class["b"].published == 2
    assert described.per_class["a"].recall.value == 0


def test_nothing_published_has_no_precision_but_all_the_rest():
    decided = np.full(5, REVIEW)
    described = describe_decisions(PROBABILITIES, decided, TRUE, ["a", "b", "c"], PLAIN)
    assert (described.published, described.coverage) == (0, 0)
    assert described.review_per_1000 == 1000
    assert described.precision is None
    assert described.per_class["b"].precision is None
    assert described.per_class["b"].recall.value == 0
    assert described.aurc > 0


def test_everything_published_has_the_precision_of_the_whole_curve():
    decided = PROBABILITIES.argmax(axis=1)
    described = describe_decisions(PROBABILITIES, decided, TRUE, ["a", "b", "c"], PLAIN)
    assert described.coverage == 1
    assert described.review_per_1000 == 0
    assert described.precision.value == pytest.approx(1 - described.curve[-1][1])


def test_one_row_is_enough():
    first = np.array([0])
    described = describe_decisions(PROBABILITIES[:1], first, first, ["a", "b", "c"], PLAIN)
    assert described.aurc == 0
    assert described.curve == [(1.0, 0.0)]


def test_a_curve_of_many_rows_is_thinned_out_and_keeps_its_ends():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([1, 1], size=3000)
    true = (random.random(3000) < probabilities[:, 1]).astype(np.int64)
    decided = probabilities.argmax(axis=1)
    described = describe_decisions(probabilities, decided, true, ["a", "b"], PLAIN)
    assert len(described.curve) == CURVE_POINTS
    confidence = probabilities.max(axis=1)
    coverages, risks = risk_coverage(confidence, probabilities.argmax(axis=1) == true)
    assert described.curve[0] == (coverages[0], risks[0])
    assert described.curve[-1] == (1.0, risks[-1])
    assert set(described.curve) <= set(zip(coverages, risks, strict=True))


def test_the_limit_of_novelty_is_told():
    rule = dataclasses.replace(PLAIN, ood_threshold=0.7)
    first = np.array([0])
    assert describe_decisions(PROBABILITIES[:1], first, first, "abc", rule).ood_threshold == 0.7
