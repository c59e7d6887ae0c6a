from pathlib import Path

import pytest

from tagger.build.report import BuildPlan
from tagger.errors import UserError

PLAN = BuildPlan(
    asked={"promise": 0.98, "files": ["ünï.csv"]},
    rows=3,
    tags={"a": 2, "b": 1},
    folds=3,
    models=["linear"],
    student=False,
    texts=0,
    pass_ms=4.5,
    expected_seconds={"linear": 5.0},
    notes=[],
)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    PLAN.write(tmp_path / "plan.json")
    assert BuildPlan.read(tmp_path / "plan.json") == PLAN


def test_a_damaged_plan_names_the_command_that_writes_it(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"schema_version": 2, "rows": 3}', encoding="utf-8")
    with pytest.raises(UserError) as caught:
        BuildPlan.read(tmp_path / "plan.json")
    assert caught.value.hint.endswith("tagger build")
