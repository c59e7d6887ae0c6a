import json
from pathlib import Path
from typing import Any

import pytest

from tagger.errors import UserError
from tagger.evaluation.report import EvaluationReport, Fitted

GOLDEN = Path(__file__).parent / "golden" / "report.json"


@pytest.fixture
def plain() -> Any:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_what_is_read_is_written_again(plain: Any, tmp_path: Path) -> None:
    EvaluationReport.read(GOLDEN).write(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == plain


@pytest.mark.parametrize(
    ("key", "value"),
    [("overall", None), ("more", 1), ("map", [{"id": "x"}])],
)
def test_other_content_is_refused_in_a_sentence(plain: Any, key: str, value: object) -> None:
    with pytest.raises(UserError, match=r"^report\.json is no EvaluationReport of version 2"):
        EvaluationReport.parse(plain | {key: value}, Path("report.json"))


def test_an_older_version_is_refused_with_the_command_that_writes_it(plain: Any) -> None:
    with pytest.raises(UserError) as caught:
        EvaluationReport.parse(plain | {"schema_version": 1}, Path("report.json"))
    assert "holds version 1" in caught.value.summary
    assert "evaluate.py" in str(caught.value.hint)


def test_a_fitted_policy_keeps_the_parameters_of_its_kind(plain: Any) -> None:
    plain["decision"]["policy"] = {"kind": "of tomorrow", "limit": 0.5}
    report = EvaluationReport.parse(plain, GOLDEN)
    assert report.decision.policy == Fitted(kind="of tomorrow", limit=0.5)
    assert report.model_dump()["decision"]["policy"] == plain["decision"]["policy"]
