import numpy as np
import pytest
from scipy.stats import binom

from tagger.data.items import Item
from tagger.evaluation.parts import FEWEST_ROWS, Part
from tagger.evaluation.predictions import LabelledPredictions
from tagger.evaluation.weak_slices import (
    LEVEL,
    MOST,
    SHOWN_EXAMPLES,
    describe_weak_slices,
    find_weak_slices,
)
from tagger.scores import BoolArray

PLANTED = np.arange(30)


def part(name: str, rows: np.ndarray) -> Part:
    return Part("word", name, np.unique(rows))


def chance_parts(many: int, n_rows: int, random: np.random.Generator, first: int = 0) -> list[Part]:
    """Parts of rows from `first` on that have nothing to do with errors; few sizes are quick."""
    rows, sizes = np.arange(first, n_rows), (10, 20, 40)
    return [
        part(f"chance {number}", random.choice(rows, sizes[number % 3], replace=False))
        for number in range(many)
    ]


def planted_errors(n_rows: int, random: np.random.Generator, elsewhere: float = 0.08) -> BoolArray:
    """Errors on 60 % of the planted rows, evenly spread, and on a share of the others."""
    wrong = random.random(n_rows) < elsewhere
    wrong[PLANTED] = PLANTED % 5 < 3
    return wrong


def often(level: float, tries: int) -> float:
    """How often something of that chance may come up: more is one case of a thousand."""
    return float(binom.ppf(0.999, tries, level))


def told(found: list[tuple[Part, float]]) -> list[tuple[str, list[int], float]]:
    return [(part.name, part.rows.tolist(), p_value) for part, p_value in found]


def test_a_planted_slice_is_reported_once() -> None:
    random = np.random.default_rng(0)
    variants = [
        part("and as many others", np.append(PLANTED, np.arange(100, 130))),
        part("every second", PLANTED[::2]),
        part("most, and others", np.append(PLANTED[:24], np.arange(200, 206))),
        part("but one", PLANTED[1:]),
    ]
    parts = [*chance_parts(80, 600, random), *variants, part("planted", PLANTED)]
    found = find_weak_slices(parts, planted_errors(600, random), seed=0)
    ((weak, p_value),) = found
    assert (weak.name, weak.rows.tolist()) == ("planted", PLANTED.tolist())
    assert 0 < p_value <= LEVEL


def test_the_worse_of_two_comes_first_and_rows_count_once() -> None:
    wrong = np.random.default_rng(0).random(600) < 0.05
    wrong[:30], wrong[30:60] = True, np.arange(30) % 2 == 0
    parts = [
        part("bad", np.arange(20, 60)),
        part("worst", np.arange(30)),
        part("all", np.arange(600)),
    ]
    (first, _), (second, _) = find_weak_slices(parts, wrong, seed=0)
    assert (first.name, second.name) == ("worst", "bad")
    assert second.rows.tolist() == list(range(30, 60))


@pytest.mark.slow
def test_errors_that_fall_by_chance_are_seldom_reported() -> None:
    random = np.random.default_rng(1)
    parts = chance_parts(40, 150, random)
    wrong = np.arange(150) < 20
    tries = 220
    reported = sum(
        bool(find_weak_slices(parts, random.permutation(wrong), seed)) for seed in range(tries)
    )
    assert 0 < reported <= often(LEVEL, tries)


@pytest.mark.slow
def test_beside_a_planted_slice_chance_is_as_seldom_reported() -> None:
    random = np.random.default_rng(2)
    parts = [part("planted", PLANTED), *chance_parts(30, 200, random, first=len(PLANTED))]
    tries, reported, planted_first = 80, 0, 0
    for seed in range(tries):
        found = find_weak_slices(parts, planted_errors(200, random), seed)
        names = [one.name for one, _ in found]
        planted_first += names[:1] == ["planted"]
        reported += any(name.startswith("chance") for name in names)
    assert planted_first >= 0.95 * tries
    assert reported <= often(LEVEL, tries)


@pytest.mark.parametrize("value", [False, True])
def test_where_all_rows_are_alike_nothing_is_weak(value: bool) -> None:
    parts = chance_parts(20, 200, np.random.default_rng(0))
    assert find_weak_slices(parts, np.full(200, value), seed=0) == []


def test_without_parts_nothing_is_found() -> None:
    assert find_weak_slices([], np.arange(50) < 10, seed=0) == []


def test_parts_that_are_too_small_are_passed_over() -> None:
    wrong = np.arange(400) < FEWEST_ROWS
    assert find_weak_slices([part("small", np.arange(FEWEST_ROWS - 1))], wrong, seed=0) == []
    ((found, _),) = find_weak_slices([part("enough", np.arange(FEWEST_ROWS))], wrong, seed=0)
    assert found.name == "enough"


def test_what_a_reported_slice_leaves_of_a_part_must_be_enough() -> None:
    wrong = np.arange(400) < 20 + FEWEST_ROWS - 1
    parts = [part("twenty", np.arange(20)), part("rest", np.arange(15, 20 + FEWEST_ROWS - 1))]
    assert [one.name for one, _ in find_weak_slices(parts, wrong, seed=0)] == ["twenty"]


def test_at_most_so_many_are_reported() -> None:
    wrong = np.arange(2000) < 12 * 12
    parts = [part(f"part {n}", np.arange(12 * n, 12 * n + 12)) for n in range(12)]
    assert len(find_weak_slices(parts, wrong, seed=0)) == MOST


def test_the_same_seed_gives_the_same_slices() -> None:
    random = np.random.default_rng(3)
    wrong = random.random(300) < 0.1
    wrong[:20] = np.arange(20) % 3 == 0
    parts = [*chance_parts(10, 300, random), part("planted", np.arange(20))]
    first, again, *others = (find_weak_slices(parts, wrong, seed) for seed in (7, 7, 8, 9, 10, 11))
    assert told(first) == told(again) != []
    # Here p is near enough to the level for the permutations to show.
    assert any(told(other) != told(first) for other in others)


def test_a_description_counts_and_shows_the_surest_errors() -> None:
    items = [Item(f"i{row}", f"title {row}", "") for row in range(100)]
    true = np.zeros(100, dtype=np.int64)
    sure = 0.6 + 0.003 * (np.arange(100) * 37 % 100)
    wrong = (np.arange(100) < 8) | (np.arange(100) >= 96)
    probabilities = np.stack([np.where(wrong, 1 - sure, sure), np.where(wrong, sure, 1 - sure)], 1)
    results = LabelledPredictions(items, true, probabilities, ("a", "b"))
    slices = [(part("word x", np.arange(2, 12)), 0.004)]
    described = describe_weak_slices(slices, 77, results)
    assert (described.level, described.comparisons) == (LEVEL, 77)
    (one,) = described.slices
    assert (one.name, one.kind, one.p_value) == ("word x", "word", 0.004)
    assert (one.num_samples, one.errors) == (10, 6)
    assert one.elsewhere == pytest.approx(6 / 90)
    rate = one.error_rate
    assert rate.low < rate.value == 0.6 < rate.high
    surest = sorted(range(2, 8), key=lambda row: -sure[row])[:SHOWN_EXAMPLES]
    assert [row.id for row in one.examples] == [f"i{row}" for row in surest]
    assert one.examples[0].title == f"title {surest[0]}"
