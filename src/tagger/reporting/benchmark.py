"""Builds the page of a benchmark."""

from collections.abc import Mapping

from tagger.benchmark.report import BenchmarkReport, RunCosts, SingleItems, Timing
from tagger.reporting.numbers import milliseconds, number, plural, score
from tagger.reporting.page import Block, Page, Table, Text, numeric

BUSY = 0.5
"""Mean number of processes that wanted a core in the minute before: more disturbs the figures."""


def benchmark_page(report: BenchmarkReport) -> Page:
    """Build the page of a benchmark; the terminal shows all of it."""
    runs, settings, hardware = report.runs, report.settings, report.environment.hardware
    blocks: list[Block] = [
        Text(
            f"From title and description to the decision. {settings.texts} texts of "
            f"{settings.words:g} words (median), in turn; the runs interleaved in blocks of "
            f"{settings.block} texts."
        ),
        Text(
            f"Machine: {hardware.cpu}, {hardware.cores} cores; instructions: "
            f"{', '.join(report.instructions)}."
        ),
    ]
    if settings.load_before > BUSY:
        told = (
            f"Other processes kept {settings.load_before:.1f} cores busy in the minute before: "
            "these figures are disturbed."
        )
        blocks.append(Text(told, "warning"))
    for threads in settings.threads:
        timings = {name: one.threads[str(threads)] for name, one in runs.items()}
        single = {name: one.batch_1 for name, one in timings.items()}
        title = plural(threads, "thread")
        blocks += [
            _single_items(single, f"One item at a time, {title}"),
            _lengths(timings, f"By number of words, {title}: p50 / p99 ms"),
            _throughput(timings, f"Many items a call, {title}"),
        ]
    blocks.append(_starts(runs, f"Cold start (median of {settings.starts}), memory, size"))
    return Page("Benchmark", blocks, blocks)


def _single_items(runs: Mapping[str, SingleItems], title: str) -> Table:
    first = next(iter(runs))
    head = ["p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "mean ms", f"times {first}", "items"]
    rows = []
    for name, one in runs.items():
        times = [one.p50_ms, one.p95_ms, one.p99_ms, one.p999_ms, one.mean_ms]
        compared = "-" if name == first else score(one.ratio)
        rows.append([name, *map(milliseconds, times), compared, str(one.items)])
    return Table(["run", *numeric(head)], rows, title)


def _lengths(runs: Mapping[str, Timing], title: str) -> Table:
    head = list(next(iter(runs.values())).lengths)
    rows = [
        [name]
        + [f"{milliseconds(t.p50_ms)} / {milliseconds(t.p99_ms)}" for t in one.lengths.values()]
        for name, one in runs.items()
    ]
    return Table(["run", *numeric(head)], rows, title)


def _throughput(runs: Mapping[str, Timing], title: str) -> Table:
    head = ["items a second", "slowest and fastest round", "items a call", "rounds"]
    rows = []
    for name, timing in runs.items():
        one = timing.throughput
        spread = f"{one.lowest:,.0f} to {one.highest:,.0f}"
        counts = [str(one.items), str(one.rounds)]
        rows.append([name, number(one.items_per_second, 0), spread, *counts])
    return Table(["run", *numeric(head)], rows, title)


def _starts(runs: Mapping[str, RunCosts], title: str) -> Table:
    head = ["Python ms", "import ms", "load ms", "first decision ms", "total ms"]
    head += ["torch", "peak MiB", "model MiB"]
    rows = []
    for name, costs in runs.items():
        one = costs.cold_start
        parts = [one.start_ms, one.import_ms, one.load_ms, one.decide_ms, one.total_ms]
        torch = "imported" if one.torch_imported else "no"
        sizes = [number(costs.peak_memory_mib, 0), number(costs.mib, 1)]
        rows.append([name, *map(milliseconds, parts), torch, *sizes])
    return Table(["run", *numeric(head)], rows, title)
