"""Data types of a benchmark: what `tagger benchmark --out` writes as JSON."""

from typing import ClassVar

from tagger.documents import Document, Record
from tagger.environment import Environment
from tagger.evaluation.report import Score


class Ratio(Score):
    """How many times as long as the first run, with a 95 % bootstrap interval over rounds."""


class SingleItems(Record):
    """Times of single items; p99.9 is None where it would be of fewer than 1,000."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    p999_ms: float | None
    items: int
    ratio: Ratio


class LengthTimes(Record):
    """Times of single items of one length."""

    p50_ms: float
    p99_ms: float
    items: int


class Throughput(Record):
    """Items a second of calls with many items: median, slowest and fastest round."""

    items_per_second: float
    lowest: float
    highest: float
    items: int
    rounds: int


class Timing(Record):
    """What was timed with one number of threads; `lengths` by number of words."""

    batch_1: SingleItems
    lengths: dict[str, LengthTimes]
    throughput: Throughput


class ColdStart(Record):
    """What a fresh interpreter's first decision goes into, in medians."""

    start_ms: float
    import_ms: float
    load_ms: float
    decide_ms: float
    total_ms: float
    torch_imported: bool


class RunCosts(Record):
    """What one run costs; `threads` by number of them."""

    path: str
    approach: str
    mib: float
    peak_memory_mib: float
    cold_start: ColdStart
    threads: dict[str, Timing]


class Settings(Record):
    """What the runs were measured with.

    `load_before` is the mean number of processes that wanted a core in the minute before.
    """

    texts: int
    words: float
    block: int
    rounds: int
    threads: list[int]
    starts: int
    load_before: float


class BenchmarkReport(Document):
    """Runs by name, measured side by side; the others are compared with the first."""

    WRITTEN_BY: ClassVar[str] = "tagger benchmark --out"

    runs: dict[str, RunCosts]
    settings: Settings
    instructions: list[str]
    environment: Environment
