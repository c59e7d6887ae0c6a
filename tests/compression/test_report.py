from pathlib import Path

import pytest

from tagger.compression.report import (
    BeforeAfter,
    Changes,
    ParityReport,
    Quality,
    RowsBeforeAfter,
)
from tagger.errors import UserError


@pytest.fixture
def report() -> ParityReport:
    """A gate that was skipped although a tag got worse."""
    fell = RowsBeforeAfter(before=0.9, after=0.8, rows=8)
    return ParityReport(
        gate="skipped",
        broken=["max_class: F1 of fruit fell by 0.1000"],
        texts=[Changes(name="toy", rows=9, decisions=1, tags=2, mean_shift=0.1, max_shift=0.2)],
        labelled=Quality(
            explanation="all 9 rows of toy",
            rows=9,
            ece_adaptive=BeforeAfter(before=0.1, after=0.2),
            f1={"fruit": fell},
            slices={},
        ),
        size_mib=BeforeAfter(before=80, after=9),
        worst=["row t1 of toy"],
    )


def test_what_is_written_is_read_back(report: ParityReport, tmp_path: Path) -> None:
    report.write(tmp_path / "parity.json")
    assert ParityReport.read(tmp_path / "parity.json") == report


def test_a_former_version_is_refused(report: ParityReport) -> None:
    former = report.model_dump(mode="json", exclude={"schema_version", "worst"})
    with pytest.raises(UserError, match=r"parity\.json .*version (is )?1"):
        ParityReport.parse(former, Path("parity.json"))
