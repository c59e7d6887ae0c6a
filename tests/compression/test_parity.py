from collections.abc import Sequence

import numpy as np
import pytest

from tagger.compression.parity import (
    FEWEST,
    Answers,
    broken_limits,
    describe_changes,
    describe_quality,
    flipped_table,
    worst_rows,
)
from tagger.compression.report import Changes, Quality, RowsBeforeAfter
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import CompressConfig, ExportConfig
from tagger.data.items import Item
from tagger.decision.calibrators import Unchanged
from tagger.decision.decider import PLAIN, Rule
from tagger.decision.policies import REVIEW, Threshold
from tagger.evaluation.slices import Slice
from tagger.scores import FloatArray

Measured = tuple[list[Changes], Quality, float]
TAGS = ["fruit", "metal"]
STRICT = Rule(Unchanged(), Threshold([0.8, 0.8]), None)


def limits(*overrides: str) -> CompressConfig:
    """The default ones, but for some."""
    return load_config(ExportConfig, compose_config("export", ["run=x", *overrides])).compress


def rows(*sure: float, tag: str = "fruit") -> tuple[list[Item], FloatArray]:
    """Items of one tag, and how probable `fruit` is for each."""
    items = [Item(f"{tag}{at}", f"{tag} number {at}", "", tag=tag) for at in range(len(sure))]
    return items, np.array([[value, 1 - value] for value in sure])


def answers(
    items: list[Item], before: FloatArray, after: FloatArray, rule: Rule = PLAIN
) -> Answers:
    return Answers("toy", items, rule.apply(before, None), rule.apply(after, None))


def parity(
    both: Answers, slices: Sequence[Slice] = (), size: float = 1.0, labelled: Answers | None = None
) -> Measured:
    return [describe_changes(both)], describe_quality(labelled or both, TAGS, slices, "all"), size


def half_and_half(count: int = 200) -> tuple[list[Item], FloatArray]:
    """Items of both tags in turn, all of them recognised."""
    fruit, sure = rows(*[0.9] * (count // 2))
    metal, unsure = rows(*[0.1] * (count // 2), tag="metal")
    return [*fruit, *metal], np.concatenate([sure, unsure])


def test_the_same_answers_break_no_limit() -> None:
    items, before = half_and_half()
    none = ["max_changed", "max_shift", "max_ece", "max_class", "max_slice"]
    zero = limits(*[f"compress.{name}=0" for name in none])
    assert broken_limits(*parity(answers(items, before, before.copy())), zero) == []


def test_decisions_that_a_person_is_asked_about_count_as_changed() -> None:
    items, before = rows(0.9, 0.9, 0.9, 0.7)
    both = answers(
        items, before, np.array([[0.9, 0.1], [0.79, 0.21], [0.2, 0.8], [0.2, 0.8]]), STRICT
    )
    changes = describe_changes(both)
    # The second needs review now, the third is another tag, the fourth was for review before.
    assert (changes.decisions, changes.tags) == (3, 2)
    np.testing.assert_array_equal(both.flipped, [False, True, True, True])


def test_another_tag_behind_needs_review_counts_too() -> None:
    items, before = rows(*[0.6] * 10)
    both = answers(items, before, 1 - before, STRICT)
    assert describe_changes(both).decisions == 0
    (changed, *_) = broken_limits(*parity(both), limits())
    assert changed.startswith("max_changed: 100.00% of toy (0 decisions and 10 most probable tags")


def test_shift_is_the_share_of_probability_that_moved() -> None:
    items, before = rows(0.9, 0.5)
    changes = describe_changes(answers(items, before, np.array([[0.6, 0.4], [0.6, 0.4]])))
    assert changes.mean_shift == pytest.approx(0.2)
    assert changes.max_shift == pytest.approx(0.3)


def changed_few() -> Measured:
    """3 of 200 rows are decided otherwise, by little: 1.5 %; what they are worth stays."""
    items, before = half_and_half()
    before[:3] = [0.501, 0.499]
    after = before.copy()
    after[:3] = [0.499, 0.501]
    both = answers(items, before, after)
    return parity(both, labelled=both.take(~both.flipped))


def shifted() -> Measured:
    """All texts are answered less surely by 0.03; the labelled rows are others."""
    items, before = half_and_half()
    less = before - np.where(before > 0.5, 0.03, -0.03)
    return parity(answers(items, before, less), labelled=answers(items, before, before.copy()))


def miscalibrated() -> Measured:
    """Right answers grow less sure by 0.03 on the labelled rows; the texts are others."""
    items, before = half_and_half()
    less = before - np.where(before > 0.5, 0.03, -0.03)
    return parity(answers(items, before, before.copy()), labelled=answers(items, before, less))


def worse_tag() -> Measured:
    """2 of 10 rows of a tag get lost on the labelled rows, the calibration stays."""
    fruit, sure = rows(*[0.501] * 90)
    metal, unsure = rows(*[0.499] * 10, tag="metal")
    items, before = [*fruit, *metal], np.concatenate([sure, unsure])
    after = before.copy()
    after[-2:] = [0.501, 0.499]
    return parity(answers(items, before, before.copy()), labelled=answers(items, before, after))


IN_PART = Slice(
    "short", "The first 20.", lambda item: item.id in {f"fruit{at}" for at in range(20)}
)


def worse_slice() -> Measured:
    """1 of the 20 rows of a slice gets lost: 5 %; of all 200 that is half a percent."""
    items, before = half_and_half()
    before[0] = [0.501, 0.499]
    after = before.copy()
    after[0] = [0.499, 0.501]
    return parity(
        answers(items, before, before.copy()), [IN_PART], labelled=answers(items, before, after)
    )


def too_large() -> Measured:
    items, before = half_and_half()
    return parity(answers(items, before, before.copy()), size=9.0)


CASES = {
    "max_changed": (changed_few, "1.50%", "allowed 1.00%"),
    "max_shift": (shifted, "0.0300 of the probability", "allowed 0.02"),
    "max_ece": (miscalibrated, "rose by 0.0300, from 0.1000 to 0.1300", "allowed 0.02"),
    "max_class": (worse_tag, "F1 of metal fell by 0.1111, from 1.0000 to 0.8889", "allowed 0.02"),
    "max_slice": (worse_slice, "'short' fell by 0.0500, from 1.0000 to 0.9500", "allowed 0.03"),
    "max_mib": (too_large, "model/ has 9.0 MiB", "allowed 8"),
}


@pytest.mark.slow
@pytest.mark.parametrize("limit", CASES)
def test_each_limit_fails_alone_with_what_was_found_and_allowed(limit: str) -> None:
    make, found, allowed = CASES[limit]
    measured = make()
    (line,) = broken_limits(*measured, limits("compress.max_mib=8"))
    assert line.startswith(f"{limit}: ")
    assert found in line
    assert allowed in line
    wider = "9.5" if limit == "max_mib" else "0.5"
    assert broken_limits(*measured, limits("compress.max_mib=8", f"compress.{limit}={wider}")) == []


def test_a_size_may_be_as_large_as_allowed() -> None:
    changes, quality, _ = too_large()
    assert broken_limits(changes, quality, 8.0, limits("compress.max_mib=8")) == []


def test_some_of_the_answers_are_those_of_their_rows() -> None:
    items, before = rows(0.9, 0.7, 0.6)
    some = answers(items, before, 1 - before, STRICT).take(np.array([True, False, True]))
    assert (some.name, [item.id for item in some.items]) == ("toy", ["fruit0", "fruit2"])
    for decided, expected in ((some.before, before), (some.after, 1 - before)):
        np.testing.assert_array_equal(decided.raw, expected[[0, 2]])
        np.testing.assert_array_equal(decided.probabilities, expected[[0, 2]])
    assert [some.before.tags.tolist(), some.after.tags.tolist()] == [[0, REVIEW], [1, REVIEW]]


def test_every_limit_has_a_case() -> None:
    assert set(CASES) == {name for name in CompressConfig.model_fields if name.startswith("max_")}


def test_a_slice_of_few_rows_is_not_judged() -> None:
    changes, quality, size = worse_slice()
    assert quality.slices["short"].rows == 20
    few = quality.slices["short"].model_copy(update={"rows": FEWEST - 1})
    quality = quality.model_copy(update={"slices": {"short": few}})
    assert broken_limits(changes, quality, size, limits()) == []


def test_a_limit_that_a_single_row_breaks_says_so() -> None:
    items, before = rows(*[0.501] * 40)
    after = before.copy()
    after[0] = [0.499, 0.501]
    (line, *_) = broken_limits(*parity(answers(items, before, after)), limits())
    assert line.endswith("allowed 1.00% (a single one of 40 rows is 2.50% and breaks it)")
    (plain,) = broken_limits(*changed_few(), limits())
    assert "single" not in plain


def test_further_texts_are_judged_by_themselves() -> None:
    items, before = half_and_half()
    same = answers(items, before, before.copy())
    few, sure = rows(0.501, 0.9)
    flipped = np.array([[0.499, 0.501], [0.9, 0.1]])
    other = Answers("stream.csv", few, PLAIN.apply(sure, None), PLAIN.apply(flipped, None))
    (changes, quality, size) = parity(same)
    (line,) = broken_limits([*changes, describe_changes(other)], quality, size, limits())
    assert line.startswith("max_changed: 50.00% of stream.csv")


def test_a_tag_without_rows_and_an_empty_slice_break_nothing() -> None:
    items, before = rows(*[0.9] * 30)
    nowhere = Slice("nowhere", "No row.", lambda item: False)
    measured = parity(answers(items, before, before.copy()), [nowhere])
    assert (measured[1].explanation, measured[1].rows) == ("all", 30)
    assert measured[1].slices == {}
    assert measured[1].f1["fruit"] == RowsBeforeAfter(rows=30, before=1.0, after=1.0)
    assert measured[1].f1["metal"] == RowsBeforeAfter(rows=0, before=0.0, after=0.0)
    assert broken_limits(*measured, limits()) == []


def test_the_worst_rows_are_flipped_ones_then_those_that_moved_most() -> None:
    items, before = rows(0.9, 0.51, 0.9, 0.9)
    after = np.array([[0.6, 0.4], [0.49, 0.51], [0.1, 0.9], [0.9, 0.1]])
    lines = worst_rows([answers(items, before, after, STRICT)], TAGS)
    assert [line.split()[1] for line in lines] == ["fruit2", "fruit0", "fruit1"]
    assert "(true: fruit): fruit -> metal; fruit 0.900 -> 0.100, shift 0.800" in lines[0]
    assert "fruit -> needs review" in lines[1]


def test_what_flipped_is_a_table_with_all_probabilities() -> None:
    items, before = rows(0.9, 0.9)
    after = np.array([[0.9, 0.1], [0.25, 0.75]])
    untagged = [Item("s", "rain", "")]
    stream = Answers(
        "stream", untagged, PLAIN.apply(before[:1], None), PLAIN.apply(after[1:], None)
    )
    head, *found = flipped_table([answers(items, before, after, STRICT), stream], TAGS)
    assert head[:5] == ["texts", "id", "true", "before", "after"]
    assert head[5:] == ["before fruit", "before metal", "after fruit", "after metal"]
    numbers = ["0.900000", "0.100000", "0.250000", "0.750000"]
    assert found == [
        ["toy", "fruit1", "fruit", "fruit", "needs review", *numbers],
        ["stream", "s", "", "fruit", "metal", *numbers],
    ]
