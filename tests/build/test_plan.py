from collections.abc import Callable

import pytest

from tagger.build import plan as planning
from tagger.build.plan import Budget, describe_rows, measure_pass, plan_build
from tagger.build.report import BuildPlan
from tagger.compare.runs import LabelledFile
from tagger.config.schema import BuildConfig

Make = Callable[..., BuildConfig]


@pytest.fixture
def plan(
    toy_build: Make, source: LabelledFile, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., BuildPlan]:
    """Plans a build of the toy file on a machine whose encoder takes a second for a text."""
    monkeypatch.setattr(planning, "measure_pass", lambda items, tags: 1000.0)

    def make(*, texts: int = 0, **given: object) -> BuildPlan:
        return plan_build(toy_build(**given), {}, source.items, source.tags, texts)

    return make


def test_a_large_budget_takes_all(plan: Callable[..., BuildPlan]) -> None:
    found = plan(budget_minutes=1000.0, texts=40)
    assert found.models == ["words", "rough"]
    assert found.student
    assert found.texts == 40
    assert found.folds == 2
    # Three runs of 5 fixed seconds; 60 rows in the last and 30 in each of two folds, one pass each.
    assert found.expected_seconds["rough"] == pytest.approx(3 * 5 + 2 * 60)
    assert not any("left out" in note for note in found.notes)


def test_what_does_not_fit_is_left_out_and_named(plan: Callable[..., BuildPlan]) -> None:
    # Words take 15 s and the student 15 + 2 x 180 x 2; what is left is too little for `rough`.
    found = plan(budget_minutes=(15 + 735 + 100) / 60)
    assert found.models == ["words"]
    assert found.student
    assert "rough is left out: it would take about 2.2 minutes, and 1.7 of the budget are left" in (
        found.notes
    )
    nothing = plan(budget_minutes=0.5)
    assert (nothing.models, nothing.student) == (["words"], False)
    assert any(note.startswith("small is left out") for note in nothing.notes)


def test_further_texts_are_as_many_as_fit_few_of_them_before_a_dearer_teacher(
    plan: Callable[..., BuildPlan],
) -> None:
    # Of each text: two passes in each of three runs.
    found = plan(budget_minutes=(15 + 735 + 60) / 60, texts=1000)
    assert found.texts == 10  # few_texts, though `rough` does not fit beside them
    assert found.models == ["words"]
    found = plan(budget_minutes=(15 + 735 + 60 + 135 + 60) / 60, texts=1000)
    assert found.models == ["words", "rough"]
    assert found.texts == 20
    assert "the student learns from 20 of 1,000 further texts" in found.notes


def test_rows_are_held_out_where_there_are_enough_and_no_time_for_folds(
    plan: Callable[..., BuildPlan],
) -> None:
    assert plan(held_out=15, budget_minutes=1000.0).folds == 2
    short = 10.0  # minutes; folds would take 15
    assert plan(held_out=15, budget_minutes=short).folds is None  # a quarter of 60
    assert plan(held_out=15, budget_minutes=short).models == ["words", "rough"]
    assert plan(held_out=16, budget_minutes=short).folds == 2


def test_rows_are_held_out_where_the_steps_have_no_folds(
    plan: Callable[..., BuildPlan], toy_build: Make
) -> None:
    steps = toy_build().build.model_copy(update={"folds": None})
    found = plan(build=steps, budget_minutes=1000.0)
    assert found.folds is None
    assert found.models == ["words", "rough"]
    assert any("are held out" in note for note in found.notes)


def test_what_few_rows_mean_is_said(toy_build: Make) -> None:
    config = toy_build(promise=0.98, confidence=0.95)
    told = describe_rows(config, {"a": 100, "b": 12}, 3)
    assert told[0].startswith("all is trained again without each of 3 folds")
    assert "that takes 149 rows without an error, and 112 are there" in told[1]
    assert told[2] == "tags with fewer than 50 rows, of which little is known: b (12)"
    assert len(describe_rows(config, {"a": 900, "b": 900}, None)) == 1


def test_a_budget_is_spent_once() -> None:
    budget = Budget(10.0)
    assert budget.take("one", 6.0)
    assert not budget.take("two", 6.0)
    assert budget.take("one", 4.0)
    assert budget.spent == {"one": 10.0}
    assert budget.left == 0.0


@pytest.mark.slow
def test_a_pass_takes_milliseconds(source: LabelledFile) -> None:
    assert 0.01 < measure_pass(source.items, source.tags) < 1000
