import pytest

from tagger.evaluation.agreement import cohen_kappa


def test_kappa_is_that_computed_by_hand() -> None:
    # 50 items, of which 35 agree: 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5: 0.2 / 0.5.
    pairs = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    assert cohen_kappa(pairs) == pytest.approx(0.4)


def test_kappa_is_one_at_most_and_below_zero_for_contradiction() -> None:
    assert cohen_kappa({("a", "a"): 3, ("b", "b"): 1}) == 1
    assert cohen_kappa({("a", "b"): 1, ("b", "a"): 1}) == -1


@pytest.mark.parametrize("pairs", [{}, {("a", "a"): 9}, {("a", "b"): 0}])
def test_kappa_is_undefined_without_items_or_with_one_label(
    pairs: dict[tuple[str, str], int],
) -> None:
    assert cohen_kappa(pairs) is None
