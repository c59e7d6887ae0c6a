from pathlib import Path

import pytest

from tagger.benchmark.report import (
    BenchmarkReport,
    ColdStart,
    LengthTimes,
    Ratio,
    RunCosts,
    Settings,
    SingleItems,
    Throughput,
    Timing,
)
from tagger.environment import describe_environment
from tagger.errors import UserError

TIMES = {"p50_ms": 1.0, "p99_ms": 2.0, "items": 50}


@pytest.fixture
def report() -> BenchmarkReport:
    """A report of one run whose block is too short for p99.9."""
    ratio = Ratio(value=1, low=1, high=1)
    single = SingleItems(**TIMES, p95_ms=1.5, mean_ms=1.1, p999_ms=None, ratio=ratio)
    many = Throughput(items_per_second=900, lowest=800, highest=990, items=10, rounds=5)
    parts = dict.fromkeys(("start_ms", "import_ms", "load_ms", "decide_ms", "total_ms"), 1.0)
    costs = RunCosts(
        path="runs/one",
        approach="linear",
        mib=0.5,
        peak_memory_mib=100,
        cold_start=ColdStart(**parts, torch_imported=False),
        threads={"1": Timing(batch_1=single, lengths={"8": LengthTimes(**TIMES)}, throughput=many)},
    )
    settings = Settings(
        texts=10, words=8, block=50, rounds=1, threads=[1], starts=5, load_before=0.1
    )
    return BenchmarkReport(
        runs={"one": costs},
        settings=settings,
        instructions=["avx2"],
        environment=describe_environment(),
    )


def test_what_is_written_is_read_back(report: BenchmarkReport, tmp_path: Path) -> None:
    report.write(tmp_path / "figures.json")
    assert BenchmarkReport.read(tmp_path / "figures.json") == report


def test_figures_of_a_former_version_are_refused(report: BenchmarkReport) -> None:
    former = report.model_dump(mode="json", exclude={"schema_version"})
    with pytest.raises(UserError, match=r"figures\.json .*version (is )?1"):
        BenchmarkReport.parse(former, Path("figures.json"))
