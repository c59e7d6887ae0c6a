import random

import pytest

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.oof.crossfit import plan_folds

TAGS = ("fruit", "metal", "weather")


def nonsense(rng, count):
    return " ".join("".join(rng.choices("bdfgklmnprstvz", k=7)) for _ in range(count))


def rows_of(tags):
    rng = random.Random(2)
    return [Item(str(n), nonsense(rng, 3), nonsense(rng, 9), tag=tag) for n, tag in enumerate(tags)]


def test_without_folds_nothing_is_divided(tiny_config):
    # Not even rows that could not be.
    assert plan_folds(rows_of(["fruit"]), tiny_config()) == []
    assert plan_folds([], tiny_config()) == []


@pytest.mark.slow
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_leave_each_row_out_once_and_know_nothing_of_the_runs_own_split(tiny_config, folds):
    items = rows_of(TAGS * 10)
    plan = plan_folds(items, tiny_config(f"decision.folds={folds}", "data.split.validation=0.3"))
    assert len(plan) == folds
    assert sorted(row for fold in plan for row in fold.test) == list(range(30))
    for fold in plan:
        assert fold.validation == []
        assert sorted([*fold.train, *fold.test]) == list(range(30))
        assert {items[row].tag for row in fold.train} == set(TAGS)
    # The run's own folds and `per_tag` are not theirs.
    own = tiny_config(
        f"decision.folds={folds}", "data.split.folds=4", "data.split.fold=2",
        "data.split.per_tag=1",
    )  # fmt: skip
    assert plan_folds(items, own) == plan
    other_seed = tiny_config(f"decision.folds={folds}", "data.split.seed=1")
    assert plan_folds(items, other_seed) != plan


def test_a_plan_that_leaves_a_tag_without_rows_is_refused_in_words(tiny_config):
    items = rows_of([*["fruit", "weather"] * 6, "metal"])
    with pytest.raises(UserError) as error:
        plan_folds(items, tiny_config("decision.folds=4"))
    assert str(error.value).startswith(
        "decision.folds=4: the training rows can't be divided so: 13 items"
    )
    assert error.value.problems == (
        "train has no 'metal': there are 1 distinct items with that tag, at least 2 are needed",
    )
    assert error.value.hint == (
        "Give fewer decision.folds, or fit the decision to validation rows (decision.folds=null)."
    )
