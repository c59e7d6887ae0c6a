from pathlib import Path

import pytest

from tagger.errors import UserError
from tagger.rollout.plan import PLANS, load_plan


def refused(text: str, folder: Path) -> str:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_plan(str(path))
    return str(caught.value)


def test_every_shipped_plan_begins_unseen_and_is_known_by_its_name() -> None:
    names = {path.stem for path in PLANS.glob("*.yaml")}
    assert names == {"careful", "shadow-only", "ab"}
    for name in names:
        plan = load_plan(name)
        assert plan.name == name
        assert plan.stages[0].share == 0
    assert [one.share for one in load_plan("careful").stages] == [0, 0.01, 0.05, 0.25, 0.5, 1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a mapping"),
        ("[1]", "expected a mapping"),
        ("{1: 2}", "expected a mapping"),
        ("name: [", "is not yaml"),
        ("name: x", "stages: must be given"),
        ("{name: x, stages: []}", "stages"),
        ("{name: x, stages: [{share: 0.1, items: 1}]}", "begins unseen"),
        ("{name: x, stages: [{share: 0, items: 0}]}", "stages.0.items"),
        ("{name: x, stages: [{share: 0, items: yes}]}", "stages.0.items"),
        ("{name: x, stages: [{share: 0, items: 1}], alfa: 1}", "did you mean alpha"),
        (
            "{name: x, stages: [{share: 0, items: 1}, {share: 0.5, items: 1}, "
            "{share: 0.2, items: 1}]}",
            "go down: 0, 0.5, 0.2",
        ),
        (
            "{name: x, stages: [{share: 0, items: 1}, {share: 0.5, items: 1, until: ab}]}",
            "go together",
        ),
        (
            "{name: x, ab: {metric: reports, baseline: 0.01, effect: 0.02}, "
            "stages: [{share: 0, items: 1}, {share: 0.5, items: 1, until: ab}]}",
            "not below baseline",
        ),
        (
            "{name: x, ab: {metric: reports, baseline: 0.02, effect: 0.01}, "
            "stages: [{share: 0, items: 1}, {share: 1, items: 1, until: ab}]}",
            "between 0 and 1",
        ),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(text: str, told: str, tmp_path: Path) -> None:
    assert told in refused(text, tmp_path)


def test_a_plan_that_is_not_there_is_told_of_with_the_nearest_name(tmp_path: Path) -> None:
    for name in ("carefull", str(tmp_path)):
        with pytest.raises(UserError, match="there is no plan") as caught:
            load_plan(name)
        assert "careful, shadow-only" in caught.value.hint
