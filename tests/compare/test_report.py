import json
from pathlib import Path

import pytest

from tagger.compare.report import (
    ApproachesReport,
    ApproachResult,
    Costs,
    Difference,
    FewLabelsReport,
    FewLabelsResult,
    Promise,
)
from tagger.environment import describe_environment
from tagger.errors import UserError


def test_scores_that_there_are_not_are_null_in_the_file(tmp_path: Path) -> None:
    report = ApproachesReport(
        source="toy",
        rows=60,
        seeds=1,
        folds=3,
        promise=Promise(target_precision=0.95, confidence=0.95),
        approaches={
            "rules": ApproachResult(
                scores={"weighted_f1": 0.5, "published_precision": None},
                seconds=1.5,
                costs=Costs(mib=0.1, p50_ms=0.2, p99_ms=0.3, threads=1),
                better_than=[],
            )
        },
        differences={
            "weighted_f1": [
                Difference(
                    one="rules", other="linear", value=-0.2, low=-0.3, high=0.1, proven=False
                )
            ]
        },
        environment=describe_environment(),
    )
    path = tmp_path / "approaches.json"
    report.write(path)
    assert ApproachesReport.read(path) == report
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["approaches"]["rules"]["scores"]["published_precision"] is None


def test_tables_of_a_former_version_are_refused() -> None:
    result = FewLabelsResult(weighted_f1=0.9, macro_f1=0.8, better_than=[])
    report = FewLabelsReport(labels={"8": {"linear": result}}, environment=describe_environment())
    plain = report.model_dump(mode="json")
    assert FewLabelsReport.parse(plain, Path("few-labels.json")) == report
    former = {"environment": plain["environment"], **plain["labels"]}
    with pytest.raises(UserError, match=r"few-labels\.json .*version (is )?1"):
        FewLabelsReport.parse(former, Path("few-labels.json"))
