"""A benchmark in tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagger.files import write_json, write_text
from tagger.ladder.show import markdown_table

BUSY = 0.5
"""Mean number of processes that wanted a core in the minute before: more disturbs the figures."""


def write_benchmark(result: Mapping[str, Any], path: Path) -> Path:
    """Write `path`, a JSON file, and its tables beside it; return the latter's path."""
    tables = path.with_suffix(".md")
    write_json(path, result)
    write_text(tables, render_benchmark(result))
    return tables


def render_benchmark(result: Mapping[str, Any]) -> str:
    """Lay out what `tagger.compression.benchmark.benchmark` returns, in Markdown."""
    runs, settings = result["runs"], result["settings"]
    hardware = result["environment"]["hardware"]
    lines = [
        "# Benchmark",
        "",
        f"From title and description to the decision. {settings['texts']} texts of "
        f"{settings['words']:g} words (median), in turn; the runs interleaved in blocks of "
        f"{settings['block']} texts.",
        f"Machine: {hardware['cpu']}, {hardware['cores']} cores; instructions: "
        f"{', '.join(result['instructions'])}.",
    ]
    if settings["load_before"] > BUSY:
        lines += [
            "",
            f"Other processes kept {settings['load_before']:.1f} cores busy in the minute before: "
            "these figures are disturbed.",
        ]
    for threads in map(str, settings["threads"]):
        measured = {name: one["threads"][threads] for name, one in runs.items()}
        title = f"{threads} thread{'s' if threads != '1' else ''}"
        lines += ["", f"## One item at a time, {title}", "", *_one_by_one(measured)]
        lines += ["", f"## By number of words, {title}: p50 / p99 ms", "", *_lengths(measured)]
        lines += ["", f"## Many items a call, {title}", "", *_throughput(measured)]
    loaded = {name: one["under_load"] for name, one in runs.items() if one["under_load"]}
    if loaded:
        lines += ["", "## One item at a time, 1 thread, another core busy", ""]
        lines += _one_by_one(loaded)
    lines += ["", f"## Cold start (median of {settings['starts']}), memory, size", ""]
    return "\n".join([*lines, *_starts(runs)]) + "\n"


def _one_by_one(measured: Mapping[str, Any]) -> list[str]:
    times = ("p50_ms", "p95_ms", "p99_ms", "p999_ms", "mean_ms")
    first = next(iter(measured))
    head = ["run", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "mean ms", f"times {first}", "items"]
    rows = []
    for name, one in measured.items():
        batch = one["batch_1"]
        ratio = batch["ratio"]
        compared = f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
        cells = [*(_milliseconds(batch[key]) for key in times), "-" if name == first else compared]
        rows.append([name, *cells, str(batch["items"])])
    return markdown_table(head, rows)


def _lengths(measured: Mapping[str, Any]) -> list[str]:
    lengths = next(iter(measured.values()))["lengths"]
    rows = []
    for name, one in measured.items():
        times = [one["lengths"][words] for words in lengths]
        pairs = [f"{_milliseconds(t['p50_ms'])} / {_milliseconds(t['p99_ms'])}" for t in times]
        rows.append([name, *pairs])
    return markdown_table(["run", *lengths], rows)


def _throughput(measured: Mapping[str, Any]) -> list[str]:
    head = ["run", "items a second", "slowest and fastest round", "items a call", "rounds"]
    rows = []
    for name, one in measured.items():
        many = one["throughput"]
        spread = f"{many['lowest']:,.0f} to {many['highest']:,.0f}"
        counts = [str(many["items"]), str(many["rounds"])]
        rows.append([name, f"{many['items_per_second']:,.0f}", spread, *counts])
    return markdown_table(head, rows)


def _starts(runs: Mapping[str, Any]) -> list[str]:
    parts = ("start_ms", "import_ms", "load_ms", "decide_ms", "total_ms")
    head = ["run", "Python ms", "import ms", "load ms", "first decision ms", "total ms"]
    head += ["torch", "peak MiB", "model MiB"]
    rows = []
    for name, one in runs.items():
        start = one["cold_start"]
        torch = "imported" if start["torch_imported"] else "no"
        sizes = [f"{one['peak_memory_mib']:,.0f}", f"{one['mib']:.1f}"]
        rows.append([name, *(_milliseconds(start[part]) for part in parts), torch, *sizes])
    return markdown_table(head, rows)


def _milliseconds(value: float | None) -> str:
    """Format to about three digits; `-` for what was not measured."""
    if value is None:
        return "-"
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"
