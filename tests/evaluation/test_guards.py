import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.evaluation import explore
from tagger.evaluation.guards import (
    LEVEL,
    MOST_FOUND,
    REGRESSED,
    TOSSES,
    check_guards,
    choose_guards,
    regressions,
)
from tagger.evaluation.parts import ALL_ROWS, Part, named_parts
from tagger.evaluation.report import Guards
from tagger.evaluation.slices import build_slices
from tagger.scores import IntArray

N = 200
TRUE = np.arange(N) % 2
EVERY = Part("all", ALL_ROWS, np.arange(N))


def parts(n: int) -> list[Part]:
    rows = [np.flatnonzero(np.arange(N) % n == at) for at in range(n)]
    return [EVERY, *(Part("tag", f"part {at}", own) for at, own in enumerate(rows))]


def wrong_on(rows: Sequence[int]) -> IntArray:
    decided = TRUE.copy()
    decided[rows] = 1 - TRUE[rows]
    return decided


def by_name(result: dict) -> dict[str, dict]:
    return {one.name: one for one in result.parts}


def at_least(broken: int, of: int) -> float:
    """The chance of at least so many heads."""
    return sum(math.comb(of, many) for many in range(broken, of + 1)) / 2**of


def by_tosses(chance: float) -> object:
    """Equal to a chance but for what counting tosses may differ from it."""
    error = 4 * math.sqrt(chance * (1 - chance) / TOSSES) + 1 / TOSSES
    return pytest.approx(chance, abs=error)


@pytest.mark.parametrize(
    ("fixed", "broken"), [(0, 1), (0, 3), (0, 6), (2, 8), (5, 5), (8, 2), (10, 20), (30, 50)]
)
def test_the_p_value_of_one_part_is_mcnemars(fixed: int, broken: int) -> None:
    ours, theirs = wrong_on(range(broken)), wrong_on(range(broken, broken + fixed))
    (one,) = check_guards([EVERY], TRUE, ours, theirs, 0).parts
    assert (one.fixed, one.broken, one.num_samples) == (fixed, broken, N)
    assert one.p_value == by_tosses(at_least(broken, fixed + broken))
    assert one.worse == (at_least(broken, fixed + broken) <= LEVEL)


def test_p_values_are_adjusted_for_all_parts_together() -> None:
    # Six are broken of the first part; of the second three are, and three are fixed.
    ours, theirs = wrong_on([*range(6), 100, 101, 102]), wrong_on([103, 104, 105])
    halves = [Part("tag", "a", np.arange(100)), Part("tag", "b", np.arange(100, N))]
    first, second = check_guards(halves, TRUE, ours, theirs, 0).parts
    # The parts are independent: the least of two p-values has a distribution to be had by hand.
    assert first.p_value == by_tosses(1 - (1 - at_least(6, 6)) ** 2)
    assert second.p_value == by_tosses(1 - (1 - at_least(3, 6)) ** 2)
    assert first.worse and not second.worse
    (alone,) = check_guards(halves[:1], TRUE, ours, theirs, 0).parts
    assert alone.p_value == by_tosses(at_least(6, 6))


def test_a_part_that_fell_is_found_though_the_whole_rose() -> None:
    row = np.arange(N) % 10
    ours, theirs = wrong_on(row == 2), wrong_on((row == 1) | (row == 3))
    found = by_name(check_guards(parts(10), TRUE, ours, theirs, 0))
    assert (found[ALL_ROWS].broken, found[ALL_ROWS].fixed) == (20, 40)
    assert [name for name, one in found.items() if one.worse] == ["part 2"]
    assert (found["part 2"].broken, found["part 2"].fixed) == (20, 0)
    assert found["part 2"].p_value == pytest.approx(1 / (1 + TOSSES))
    for better in ("part 1", "part 3", ALL_ROWS):
        assert found[better].p_value > 0.9
    assert (found["part 1"].broken, found["part 1"].fixed) == (0, 20)


@pytest.mark.parametrize(("broken", "fixed"), [(6, 0), (9, 2), (5, 4)])
def test_copies_of_a_part_cost_no_power(broken: int, fixed: int) -> None:
    ours, theirs = wrong_on(range(broken)), wrong_on(range(50, 50 + fixed))
    half = Part("word", "half", np.arange(100))
    alone = check_guards([half, EVERY], TRUE, ours, theirs, 0)
    many = check_guards([*[half] * 200, EVERY], TRUE, ours, theirs, 0)
    assert (alone.comparisons, many.comparisons) == (2, 201)
    named = [part for part in many.parts if part.kind == "all"]
    assert named == [part for part in alone.parts if part.kind == "all"]
    copies = [Part("tag", f"copy {number}", half.rows) for number in range(200)]
    (one,) = check_guards(copies[:1], TRUE, ours, theirs, 0).parts
    p_values = {one.p_value for one in check_guards(copies, TRUE, ours, theirs, 0).parts}
    assert p_values == {one.p_value}


@pytest.mark.slow
def test_runs_that_differ_by_luck_are_rarely_refused() -> None:
    random = np.random.default_rng(0)
    refused = 0
    for seed in range(100):
        masks = random.random((300, N)) < random.uniform(0.04, 0.5, (300, 1))
        tested = [Part("word", str(at), np.flatnonzero(own)) for at, own in enumerate(masks)]
        one, other = (wrong_on(random.random(N) < 0.1) for _ in range(2))
        result = check_guards([EVERY, *tested], TRUE, one, other, seed)
        refused += any(part.worse for part in result.parts)
    assert refused <= 10  # 5 % of 100, and what chance allows above it


def test_runs_that_decide_alike_are_not_refused_at_all() -> None:
    decided = wrong_on([3, 4, 5])
    found = Part("cluster", "about x", np.arange(50))
    empty = Part("slice", "none", np.arange(0))
    result = check_guards([*parts(3), empty, found], TRUE, decided, decided, 0)
    assert result.comparisons == 6
    assert [one.name for one in result.parts] == [
        ALL_ROWS, "part 0", "part 1", "part 2", "none",
    ]  # fmt: skip
    for one in result.parts:
        assert (one.p_value, one.worse, one.fixed, one.broken) == (1, False, 0, 0)


def test_a_part_without_a_row_and_no_part_at_all_are_no_reason() -> None:
    ours, theirs = wrong_on(range(30)), wrong_on([])
    empty = Part("slice", "none", np.arange(0))
    (one,) = check_guards([empty], TRUE, ours, theirs, 0).parts
    assert (one.num_samples, one.p_value, one.worse) == (0, 1.0, False)
    assert check_guards([], TRUE, ours, theirs, 0) == Guards(level=LEVEL, comparisons=0, parts=[])


def test_found_parts_are_told_if_they_got_worse_the_worst_first() -> None:
    # Of 14 disjoint parts with 14 rows each, part k has k rows broken; and one rose.
    found = [Part("word", f"word {k}", np.arange(14 * k, 14 * k + 14)) for k in range(14)]
    ours = wrong_on([14 * k + place for k in range(14) for place in range(k)])
    rose = Part("cluster", "rose", np.arange(196, N))
    result = check_guards([EVERY, rose, *found], TRUE, ours, wrong_on(rose.rows), 0)
    assert result.comparisons == 16
    assert result.parts[0].name == ALL_ROWS
    told = result.parts[1:]
    assert all(one.worse and one.p_value <= LEVEL for one in told)
    assert [one.name for one in told] == [f"word {k}" for k in range(13, 13 - len(told), -1)]
    assert 4 <= len(told) < MOST_FOUND  # as little as five broken ones is what chance does, too

    all_fell = check_guards([EVERY, rose, *found], TRUE, wrong_on(range(196)), TRUE, 0)
    assert [one.kind for one in all_fell.parts] == ["all", *["word"] * MOST_FOUND]


def test_the_seed_decides() -> None:
    ours, theirs = wrong_on(range(0, 60, 2)), wrong_on(range(1, 50, 2))
    first, again, other = (check_guards(parts(7), TRUE, ours, theirs, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    for one, of_other in zip(first.parts, other.parts, strict=True):
        assert one.p_value == pytest.approx(of_other.p_value, abs=0.07)


ITEMS = [Item("1", "a library", "", tag="x"), Item("2", "b", "words and words", tag="y")]


def test_parts_are_all_that_have_a_name_and_all_found_unless_some_are_chosen() -> None:
    named = named_parts(ITEMS, ["x", "y", "z"], build_slices(ITEMS, {"x": 5, "y": 5, "z": 5}))
    found = [Part("word", 'word "words"', np.array([1]))]
    guarded = choose_guards(named, found, None)
    assert guarded == [*named, *found]
    rows = {part.name: part.rows.tolist() for part in guarded}
    assert rows[ALL_ROWS] == [0, 1]
    assert rows["x"] == rows["no description"] == [0]
    assert rows["z"] == []
    chosen = choose_guards(named, found, ["y", "no description"])
    assert [part.name for part in chosen] == ["y", "no description"]
    assert choose_guards(named, found, []) == []


def test_names_of_no_part_are_listed() -> None:
    named = named_parts(ITEMS[:1], ["x", "y"], build_slices(ITEMS[:1], {"x": 1, "y": 1}))
    found = [Part("word", 'word "library"', np.array([0]))]
    with pytest.raises(UserError, match="parts that there are not") as error:
        choose_guards(named, found, ["mlpos", "x", 'word "library"'])
    assert error.value.problems == ("mlpos", 'word "library"')
    assert "all rows" in error.value.hint
    assert 'word "library"' not in error.value.hint


def test_a_run_is_not_refused_where_nothing_got_worse(runs, items, split, capsys) -> None:
    runs.make("ours", items, split)
    runs.make("theirs", items, split)
    report = runs.report("ours", "against=theirs")
    assert regressions(report) == []
    assert "none worse beyond chance" in capsys.readouterr().out
    assert regressions(report.model_copy(update={"comparison": None})) == []
    assert runs.evaluate("ours", "against=theirs", "guard=[]").comparison.guards.parts == []


@pytest.fixture
def worse_on_a_word(runs, items, split, monkeypatch) -> None:
    """Two runs; `ours` errs on the eight test rows with a word that no tag or slice has alone."""
    for number in range(32, 40):
        items[number] = replace(items[number], title=f"{items[number].title} orchard")
    runs.make("ours", items, split, errs_on=[f"i0-{number}" for number in range(32, 40)])
    runs.make("theirs", items, split)


@pytest.mark.slow
@pytest.mark.usefixtures("worse_on_a_word")
def test_found_parts_are_guarded_unless_parts_are_chosen(runs, capsys) -> None:
    guards = runs.report("ours", "against=theirs").comparison.guards
    found = [one for one in guards.parts if one.kind not in ("all", "slice", "tag")]
    assert guards.comparisons >= len(guards.parts)
    assert (found[0].kind, found[0].name) == ("word", 'word "orchard"')
    assert (found[0].broken, found[0].num_samples, found[0].worse) == (8, 8, True)
    assert 'worse beyond chance: all rows, word "orchard"' in capsys.readouterr().out

    report = runs.evaluate("ours", "against=theirs", "guard=['all rows']")
    guards = report.comparison.guards
    assert guards.comparisons == 1
    assert [one.name for one in guards.parts] == [ALL_ROWS]
    (line,) = regressions(report)
    assert line.startswith("worse than theirs: all rows, 8 broken and 0 fixed of 15 rows")
    with pytest.raises(UserError, match="parts that there are not"):
        runs.evaluate("ours", "against=theirs", "guard=['word \"orchard\"']")


@pytest.mark.slow
@pytest.mark.usefixtures("worse_on_a_word")
def test_clusters_are_guarded_where_rows_are_embedded(runs, monkeypatch) -> None:
    def embed(items: Sequence[Item], *_: object) -> np.ndarray:
        """Two crowds: texts with the word, and others."""
        at = np.array([float("orchard" in item.text) for item in items])
        noise = np.random.default_rng(0).normal(0, 0.01, (len(items), 4))
        return np.stack([at, 1 - at, at, 1 - at], axis=1) + noise

    monkeypatch.setattr(explore, "embed_items", embed)
    monkeypatch.setattr("tagger.evaluation.parts.ROWS_A_CLUSTER", (7,))
    without = runs.evaluate("ours", "against=theirs").comparison.guards
    report = runs.evaluate("ours", "against=theirs", "explore=on")
    guards = report.comparison.guards
    assert guards.comparisons > without.comparisons
    clusters = [one for one in guards.parts if one.kind == "cluster"]
    assert [one.worse for one in clusters] == [True]
    assert "orchard" in clusters[0].name
    assert not [one for one in without.parts if one.kind == "cluster"]


@pytest.mark.usefixtures("worse_on_a_word")
def test_the_command_ends_with_code_3(runs, capsys) -> None:
    given = ["run=ours", f"runs_dir={runs.folder / 'runs'}", "against=theirs"]
    assert runs.call_script(*given, "guard=['all rows']") == REGRESSED == 3
    printed = capsys.readouterr()
    assert "worse than theirs: all rows" in printed.err
    assert "report.html" in printed.out
    assert runs.call_script(*given, "guard=[]") == 0
