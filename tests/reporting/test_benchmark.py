from pathlib import Path
from typing import Any

from tagger.benchmark.report import BenchmarkReport
from tagger.environment import describe_environment
from tagger.reporting.benchmark import benchmark_page
from tagger.reporting.markdown import render_markdown


def costs(p50: float, ratio: float) -> dict[str, Any]:
    single = {
        "p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50, "mean_ms": p50, "p999_ms": None,
        "items": 600, "ratio": {"value": ratio, "low": ratio - 0.1, "high": ratio + 0.1},
    }  # fmt: skip
    throughput = {
        "items_per_second": 1234.5, "lowest": 1000, "highest": 1500, "items": 64, "rounds": 5,
    }  # fmt: skip
    lengths = {"up to 20": {"p50_ms": p50, "p99_ms": 3 * p50, "items": 300}}
    return {
        "path": "runs/x", "approach": "linear", "mib": 0.5, "peak_memory_mib": 130.0,
        "cold_start": {
            "start_ms": 10.0, "import_ms": 200.0, "load_ms": 30.0, "decide_ms": 2.0,
            "total_ms": 242.0, "torch_imported": False,
        },
        "threads": {"1": {"batch_1": single, "lengths": lengths, "throughput": throughput}},
    }  # fmt: skip


def page(load: float = 0.0) -> str:
    settings = {
        "texts": 50, "words": 12.5, "block": 20, "rounds": 30, "threads": [1], "starts": 3,
        "load_before": load,
    }  # fmt: skip
    report = BenchmarkReport.model_validate(
        {
            "runs": {"first": costs(0.5, 1.0), "second": costs(20.0, 40.0)},
            "settings": settings,
            "instructions": ["avx2", "fma"],
            "environment": describe_environment(),
        }
    )
    return render_markdown(benchmark_page(report), Path())


def cells(text: str, title: str) -> list[list[str]]:
    """The table under a title."""
    lines = text.partition(f"## {title}")[2].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "--" not in line]


def test_runs_stand_side_by_side_compared_with_the_first() -> None:
    text = page()
    head, first, second = cells(text, "One item at a time, 1 thread")
    assert head[:5] == ["run", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms"]
    assert first == ["first", "0.500", "1.00", "1.50", "-", "0.500", "-", "600"]
    assert second[6] == "40.000 \\[39.900, 40.100\\]"
    assert cells(text, "By number of words")[2] == ["second", "20.0 / 60.0"]
    assert cells(text, "Many items")[1] == ["first", "1,234", "1,000 to 1,500", "64", "5"]
    start = cells(text, "Cold start (median of 3), memory, size")[1]
    assert start == ["first", "10.0", "200", "30.0", "2.00", "242", "no", "130", "0.5"]
    assert "instructions: avx2, fma" in text


def test_a_busy_machine_is_told() -> None:
    assert "disturbed" not in page(load=0.1)
    text = page(load=1.7)
    assert "kept 1.7 cores busy" in text and "disturbed" in text
