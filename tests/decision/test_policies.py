import math

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from tagger.decision.policies import (
    NEVER,
    REVIEW,
    Argmax,
    Conformal,
    DecisionCounts,
    Policy,
    Threshold,
    clopper_pearson_lower,
    count_decisions,
    fit_conformal,
    fit_policy,
    has_answer,
    least_threshold,
    p_value_of_precision,
    rows_needed,
)

ROWS = np.array(
    [
        [0.7, 0.2, 0.1],
        [0.1, 0.5, 0.4],
        [0.4, 0.4, 0.2],  # no tag is ahead
        [1 / 3, 1 / 3, 1 / 3],  # a model that abstains
        [0.05, 0.05, 0.9],
    ]
)
DRAWS = 300


def allowed(share, draws=DRAWS):
    """A share of draws that chance alone does not exceed: three standard errors above."""
    return share + 3 * math.sqrt(share * (1 - share) / draws)


ADAPTER = TypeAdapter(Policy)


def test_argmax_publishes_the_most_probable_tag_and_asks_nobody():
    decided = Argmax().decide(ROWS)
    assert decided[[0, 1, 4]].tolist() == [0, 1, 2]
    assert (decided != REVIEW).all()


def test_a_model_has_an_answer_where_one_tag_is_ahead_of_all_others():
    assert has_answer(ROWS).tolist() == [True, True, False, False, True]
    # Whichever tag it is, and however level those behind it are.
    assert has_answer(ROWS[:, ::-1]).tolist() == [True, True, False, False, True]
    assert has_answer(np.array([[0.1, 0.45, 0.45], [0.2, 0.2, 0.6]])).tolist() == [False, True]


def test_a_difference_of_rounding_is_a_tie():
    rows = np.array([[0.5 + 1e-12, 0.5 - 1e-12], [0.501, 0.499]])
    assert has_answer(rows).tolist() == [False, True]


def test_whether_there_is_an_answer_leaves_the_probabilities_alone():
    before = ROWS.copy()
    has_answer(ROWS)
    np.testing.assert_array_equal(ROWS, before)


@pytest.mark.parametrize("shape", [(0, 3), (0, 1), (2, 1)])
def test_without_a_second_tag_to_compare_with_nothing_is_a_tie(shape):
    found = has_answer(np.ones(shape))
    assert found.dtype == bool
    assert found.tolist() == [True] * shape[0]


def test_thresholds_are_those_of_the_most_probable_tag_and_may_be_reached_exactly():
    assert Threshold([0.7, 0.6, 0.0]).decide(ROWS).tolist() == [0, REVIEW, REVIEW, REVIEW, 2]
    assert Threshold([0.71, 0.5, 0.95]).decide(ROWS).tolist() == [REVIEW, 1, REVIEW, REVIEW, REVIEW]


def test_never_is_above_every_probability():
    certain = np.eye(3)
    assert Threshold([NEVER] * 3).decide(certain).tolist() == [REVIEW] * 3
    assert Threshold([1.0] * 3).decide(certain).tolist() == [0, 1, 2]


def test_conformal_publishes_the_only_tag_of_a_set():
    policy = Conformal([0.3, 0.3, 0.3])
    assert policy.sets(ROWS).sum(axis=1).tolist() == [1, 2, 2, 3, 1]
    assert policy.decide(ROWS).tolist() == [0, REVIEW, REVIEW, REVIEW, 2]
    # Nor where no tag is in the set.
    assert Conformal([0.95] * 3).decide(ROWS).tolist() == [REVIEW] * 5


@pytest.mark.parametrize("policy", [Argmax(), Threshold([0.5, 0.5]), Conformal([0.5, 0.5])])
def test_no_rows_need_no_decision(policy):
    assert policy.decide(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize("policy", [Argmax(), Threshold([0.5, 2.0]), Conformal([0.25, 0.0])])
def test_json_gives_back_the_same_policy(policy):
    assert ADAPTER.validate_json(ADAPTER.dump_json(policy)) == policy


@pytest.mark.parametrize(
    "values", [{}, {"kind": "magic"}, {"kind": "threshold"}, {"kind": "argmax", "least": []}, []]
)
def test_other_json_is_refused(values):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(values)


@pytest.mark.parametrize("numbers", ["high", 0.5, None, [None], ["0.5"], [[0.5]], {"a": 0.5}])
def test_what_is_no_list_of_numbers_is_refused(numbers):
    for kind, name in (("threshold", "thresholds"), ("conformal", "least")):
        with pytest.raises(ValidationError):
            ADAPTER.validate_python({"kind": kind, name: numbers})


def test_threshold_lies_where_the_errors_begin():
    scores = np.linspace(1, 0, 4001)[:4000]
    threshold = least_threshold(scores, scores >= 0.4, precision=0.95, confidence=0.95)
    share_of_errors = (scores[scores >= threshold] < 0.4).mean()
    assert threshold < 0.4
    assert 0.02 < share_of_errors < 0.05


def test_all_right_is_published_whole():
    scores = np.linspace(0.4, 0.9, 500)
    assert least_threshold(scores, np.ones(500, bool), 0.98, 0.95) == pytest.approx(0.4)


def test_order_of_rows_says_nothing():
    random = np.random.default_rng(3)
    scores = random.random(800)
    right = random.random(800) < 0.9 + 0.1 * scores
    order = random.permutation(800)
    one = least_threshold(scores, right, 0.95, 0.9)
    assert least_threshold(scores[order], right[order], 0.95, 0.9) == one < 1


def test_rows_of_equal_score_are_published_together():
    # Half of the rows share the best score, and a tenth of these are wrong.
    scores = np.array([0.9] * 500 + [0.1] * 500)
    right = np.arange(1000) % 10 != 0
    assert least_threshold(scores, right, 0.95, 0.95) == NEVER
    assert least_threshold(scores, right, 0.85, 0.95) == 0.1


@pytest.mark.parametrize("count", [0, 1, 10, 58])
def test_too_few_rows_promise_nothing_even_if_all_are_right(count):
    # 0.95 ** 58 is more than 0.05: so many rows without an error prove too little.
    assert least_threshold(np.full(count, 0.99), np.ones(count, bool), 0.95, 0.95) == NEVER


def test_what_cannot_be_promised_is_never_published():
    random = np.random.default_rng(0)
    scores = random.random(2000)
    assert least_threshold(scores, random.random(2000) < 0.8, 0.95, 0.95) == NEVER
    assert least_threshold(scores, np.zeros(2000, bool), 0.5, 0.5) == NEVER


def test_a_few_wrong_labels_at_the_top_do_not_end_the_search():
    scores = np.linspace(1, 0, 1000)
    right = np.ones(1000, bool)
    right[[0, 3]] = False
    assert least_threshold(scores, right, 0.95, 0.95) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "confidence"), [(0.93, 0.9), (0.95, 0.8), (0.98, 0.95)])
def test_the_promise_is_broken_no_more_often_than_is_said(precision, confidence):
    # A row of score s is right with chance 0.8 + 0.2 s: above t, 0.9 + 0.1 t are right.
    random = np.random.default_rng(0)
    thresholds = []
    for _ in range(DRAWS):
        scores = random.random(600)
        right = random.random(600) < 0.8 + 0.2 * scores
        thresholds.append(least_threshold(scores, right, precision, confidence))
    found = np.array(thresholds)
    found = found[found < NEVER]
    assert (0.9 + 0.1 * found < precision).sum() / DRAWS <= allowed(1 - confidence)
    if precision < 0.98:  # 0.98 needs more than 600 rows here
        assert len(found) > DRAWS / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "noise", "precision", "enough"),
    [
        (300, 0.0, 0.95, 0.49),
        (1000, 0.01, 0.95, 0.565),
        (1000, 0.03, 0.93, 0.47),
        (3000, 0.01, 0.97, 0.39),
    ],
)
def test_much_of_what_could_be_published_is(count, noise, precision, enough):
    # Of the surest share s, 0.998 - 0.098 s³ are right, but for wrong labels.
    random = np.random.default_rng(0)
    shares, broken = [], 0
    for _ in range(DRAWS):
        place = random.random(count)
        right = random.random(count) < (1 - noise) * (0.998 - 4 * 0.098 * place**3)
        share = 1 - least_threshold(1 - place, right, precision, 0.95)
        shares.append(max(share, 0.0))
        broken += share > 0 and (1 - noise) * (0.998 - 0.098 * share**3) < precision
    assert broken / DRAWS <= allowed(0.05)
    assert np.mean(shares) > enough


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_promise_holds_where_no_threshold_keeps_it(confidence):
    # Whatever is published, a little less than the promise is right: only NEVER keeps it.
    random = np.random.default_rng(1)
    broken = 0
    for _ in range(DRAWS):
        scores = random.random(600).round(2)  # with ties
        right = random.random(600) < 0.9299
        broken += least_threshold(scores, right, 0.93, confidence) < NEVER
    assert broken / DRAWS <= allowed(1 - confidence)


@pytest.mark.parametrize(("precision", "confidence"), [(0.95, 0.95), (0.8, 0.9), (0.98, 0.9875)])
def test_one_row_less_would_not_be_enough_for_so_many_errors(precision, confidence):
    needed = rows_needed(2000, precision, confidence)
    assert needed[-1] > 2000 - 2 / (1 - precision)
    for errors, rows in enumerate(needed.tolist()):
        assert p_value_of_precision(errors, rows, precision) <= 1 - confidence
        assert p_value_of_precision(errors, rows - 1, precision) > 1 - confidence


def test_known_numbers_of_rows():
    assert rows_needed(150, 0.95, 0.95).tolist() == [59, 93, 124]
    assert rows_needed(58, 0.95, 0.95).tolist() == []


def two_sources(random, count, precisions, sure=(0.0, 0.0)):
    """Scores, whether they are right by the chance of each source, and the sources' names."""
    sources = np.array(["one", "two"])[(random.random(count) < 0.3).astype(int)]
    second = sources == "two"
    scores = random.random(count) + np.where(second, sure[1], sure[0])
    return scores, random.random(count) < np.where(second, precisions[1], precisions[0]), sources


def test_a_promise_for_every_source_is_that_of_the_worst():
    random = np.random.default_rng(0)
    scores = random.random(3000)
    sources = np.array(["one", "two"])[np.arange(3000) % 2]
    second = sources == "two"
    # Above its score of 0.6 the second is always right, the first everywhere.
    right = ~second | (scores > 0.6) | (random.random(3000) < 0.5)
    overall = least_threshold(scores, right, 0.95, 0.95)
    each = least_threshold(scores, right, 0.95, 0.95, sources)
    alone = least_threshold(scores[second], right[second], 0.95, 0.95)
    assert overall < each < 0.6
    assert each == pytest.approx(alone, abs=0.01)
    assert right[(scores >= each) & second].mean() > 0.95


def test_with_one_source_the_promise_for_each_is_the_one_for_all():
    scores, right, _ = two_sources(np.random.default_rng(0), 900, (0.98, 0.98))
    overall = least_threshold(scores, right, 0.95, 0.95)
    assert overall < 1
    assert least_threshold(scores, right, 0.95, 0.95, ["one"] * 900) == overall


def test_a_source_with_too_few_rows_keeps_all_from_being_published():
    scores = np.linspace(1, 0, 1000)
    sources = ["few"] * 58 + ["many"] * 942
    assert least_threshold(scores, np.ones(1000, bool), 0.95, 0.95, sources) == NEVER
    sources[58] = "few"
    assert least_threshold(scores, np.ones(1000, bool), 0.95, 0.95, sources) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("sure", [(0.0, 0.0), (0.0, 0.4), (0.4, 0.0)])
@pytest.mark.parametrize("precisions", [(1.0, 0.9299), (0.9299, 1.0), (0.9299, 0.9299)])
def test_the_promise_for_every_source_is_broken_for_any_no_more_often_than_is_said(
    precisions, sure
):
    # Whatever is published of one source, a little less than the promise is right.
    random = np.random.default_rng(4)
    broken = 0
    for _ in range(DRAWS):
        scores, right, sources = two_sources(random, 600, precisions, sure)
        broken += least_threshold(scores, right, 0.93, 0.8, sources) < NEVER
    assert broken / DRAWS <= allowed(0.2)


def rows_of_known_precision(random, count, precisions):
    """Rows whose most probable tag is right with a chance that only this tag decides."""
    best = random.integers(0, len(precisions), count)
    sure = 0.5 + 0.5 * random.random(count)
    probabilities = np.repeat(((1 - sure) / 2)[:, None], len(precisions), axis=1)
    probabilities[np.arange(count), best] = sure
    right = random.random(count) < np.asarray(precisions)[best]
    return probabilities, np.where(right, best, (best + 1) % len(precisions))


def test_overall_one_threshold_serves_all_tags(asked):
    rows = rows_of_known_precision(np.random.default_rng(0), 900, [1.0, 1.0, 0.97])
    config = asked(policy="threshold", target_precision=0.95, scope="overall")
    policy = fit_policy(config, *rows)
    assert len(policy.thresholds) == 3
    assert len(set(policy.thresholds)) == 1
    assert policy.thresholds[0] < 0.6


def test_per_tag_each_tag_has_its_own(asked):
    rows = rows_of_known_precision(np.random.default_rng(0), 900, [1.0, 0.99, 0.8])
    config = asked(policy="threshold", target_precision=0.95, scope="per_tag")
    thresholds = fit_policy(config, *rows).thresholds
    assert thresholds[0] < 0.6
    assert thresholds[1] < 0.8
    assert thresholds[2] == NEVER
    # Overall, the good tags would have paid for the bad one, and none gets through.
    overall = fit_policy(asked(policy="threshold", target_precision=0.95), *rows)
    assert overall.thresholds == [NEVER] * 3


def test_per_tag_all_tags_keep_the_promise_at_once(asked):
    config = asked(policy="threshold", target_precision=0.9, confidence=0.8, scope="per_tag")
    random = np.random.default_rng(2)
    broken = 0
    for _ in range(DRAWS):
        rows = rows_of_known_precision(random, 300, [0.8999, 0.8999, 0.8999])
        broken += min(fit_policy(config, *rows).thresholds) < NEVER
    assert broken / DRAWS <= allowed(0.2)


def test_per_source_one_threshold_serves_all_tags_and_every_source(asked):
    random = np.random.default_rng(0)
    probabilities, true = rows_of_known_precision(random, 900, [1.0, 1.0, 1.0])
    sources = ["noisy" if number % 3 == 0 else "clean" for number in range(900)]
    noisy = np.array(sources) == "noisy"
    true = np.where(noisy & (random.random(900) < 0.1), (true + 1) % 3, true)
    policies = {
        scope: fit_policy(
            asked(policy="threshold", target_precision=0.93, scope=scope),
            probabilities, true, sources,
        )
        for scope in ("overall", "per_source")
    }  # fmt: skip
    assert policies["overall"].thresholds[0] < 0.6
    assert policies["per_source"] == Threshold([NEVER] * 3)


def test_a_tag_that_is_never_the_most_probable_is_never_published(asked):
    probabilities = np.repeat([[0.8, 0.15, 0.05]], 400, axis=0)
    config = asked(policy="threshold", target_precision=0.9, scope="per_tag")
    policy = fit_policy(config, probabilities, np.zeros(400, dtype=np.int64))
    assert policy.thresholds == [0.8, NEVER, NEVER]


def test_config_picks_the_policy(asked):
    rows = rows_of_known_precision(np.random.default_rng(0), 300, [0.9, 0.9, 0.9])
    assert fit_policy(asked(policy="argmax"), *rows) == Argmax()
    assert fit_policy(asked(policy="conformal", alpha=0.2), *rows) == fit_conformal(*rows, 0.2)


def test_conformal_least_is_a_quantile_of_the_tags_own_rows():
    of_true = [0.9, 0.3, 0.5, 0.7, 0.8, 0.6, 0.2, 0.4, 0.95]  # nine rows of tag 0
    probabilities = np.array([[p, 1 - p] for p in of_true])
    true = np.zeros(9, dtype=np.int64)
    # (9 + 1) * 0.1 is 1: just the lowest may be missed by new rows, so it is the bound.
    assert fit_conformal(probabilities, true, 0.1).least[0] == 0.2
    assert fit_conformal(probabilities, true, 0.3).least[0] == 0.4


def test_a_tag_with_too_few_rows_is_in_every_set():
    probabilities = np.array([[0.9, 0.1, 0.0]] * 40 + [[0.1, 0.9, 0.0]] * 8)
    true = np.array([0] * 40 + [1] * 8)
    policy = fit_conformal(probabilities, true, 0.1)  # nine rows would be enough
    assert policy.least == [0.9, 0.0, 0.0]
    assert policy.sets(np.array([[1.0, 0.0, 0.0]])).tolist() == [[True, True, True]]
    assert policy.decide(np.eye(3)).tolist() == [REVIEW] * 3


@pytest.mark.slow
@pytest.mark.parametrize("error", [0.05, 0.1, 0.3])
def test_conformal_sets_hold_the_true_tag_of_each_class_as_often_as_is_said(error):
    def draw(count, random):
        # One tag is common and easy, one is rare and hard.
        true = random.choice(3, size=count, p=[0.6, 0.3, 0.1])
        logits = random.normal(0, 1, (count, 3))
        logits[np.arange(count), true] += np.array([4.0, 2.0, 0.5])[true]
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(axis=1, keepdims=True), true

    random = np.random.default_rng(0)
    fresh, fresh_true = draw(20_000, random)
    covered = []
    for _ in range(DRAWS):
        sets = fit_conformal(*draw(400, random), error).sets(fresh)
        covered.append([sets[fresh_true == tag, tag].mean() for tag in range(3)])
    mean, spread = np.mean(covered, axis=0), np.std(covered, axis=0) / math.sqrt(DRAWS)
    # The fresh rows are a sample themselves: of the rarest tag there are about 2,000.
    slack = 3 * np.sqrt(spread**2 + error * (1 - error) / 2000)
    assert (mean >= 1 - error - slack).all()
    # Nor much more often: a set of all tags would hold the true one always.
    assert (mean <= 1 - error + 1 / 30 + slack).all()


def test_description_counts_what_is_published():
    decided = np.array([0, 0, 1, REVIEW, 1, REVIEW, 0, 0])
    true = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    assert count_decisions(decided, true, 0.95) == DecisionCounts(
        rows=8,
        published=6,
        coverage=0.75,
        precision=5 / 6,
        precision_low=clopper_pearson_lower(5, 6, 0.95),
    )


def test_nothing_published_has_no_precision():
    described = count_decisions(np.array([REVIEW, REVIEW]), np.array([0, 1]), 0.95)
    assert (described.coverage, described.published) == (0, 0)
    assert described.precision is described.precision_low is None


def chance_of_at_least(successes, trials, chance):
    """The upper tail of a binomial, added up term by term."""
    return sum(
        math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
        for k in range(successes, trials + 1)
    )


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "trials"), [(1, 1), (1, 20), (7, 12), (59, 60), (60, 60)])
def test_at_the_lower_end_so_many_successes_have_just_the_chance_that_is_left(
    successes, trials, confidence
):
    low = clopper_pearson_lower(successes, trials, confidence)
    assert chance_of_at_least(successes, trials, low) == pytest.approx(1 - confidence, rel=1e-9)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (0, 10, 0.0),
        (10, 10, 0.05 ** (1 / 10)),
        (8, 10, 0.493099),  # the lower end of the two-sided 90 % interval in tables
        (59, 59, 0.950493),  # 59 rows without an error: the well-known fewest for 95 % and 95 %
        (58, 58, 0.949661),
    ],
)
def test_known_lower_ends(successes, trials, expected):
    assert clopper_pearson_lower(successes, trials, 0.95) == pytest.approx(expected, abs=1e-6)


def test_without_a_trial_nothing_is_known():
    assert clopper_pearson_lower(0, 0, 0.95) == 0.0
    assert p_value_of_precision(0, 0, 0.98) == 1.0


@pytest.mark.parametrize(("errors", "published"), [(0, 1), (0, 148), (3, 200), (12, 40), (40, 40)])
def test_p_value_is_the_chance_of_so_few_errors(errors, published):
    expected = sum(
        math.comb(published, k) * 0.02**k * 0.98 ** (published - k) for k in range(errors + 1)
    )
    assert p_value_of_precision(errors, published, 0.98) == pytest.approx(expected, rel=1e-9)


def test_known_p_values():
    assert p_value_of_precision(0, 59, 0.95) == pytest.approx(0.95**59)
    assert p_value_of_precision(59, 59, 0.95) == pytest.approx(1)


@pytest.mark.parametrize("errors", range(6))
def test_test_and_interval_say_the_same(errors):
    # That the promise is broken is rejected exactly where the lower end reaches it.
    for published in range(max(errors, 1), 300, 7):
        low = clopper_pearson_lower(published - errors, published, 0.95)
        assert (p_value_of_precision(errors, published, 0.98) <= 0.05) == (low >= 0.98)


def test_the_true_chance_is_above_the_end_as_often_as_is_said():
    random = np.random.default_rng(0)
    draws = random.binomial(80, 0.9, size=1000)
    below = np.mean([clopper_pearson_lower(int(one), 80, 0.9) <= 0.9 for one in draws])
    assert below >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / 1000)
