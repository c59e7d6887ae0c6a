"""Measures the first decision of a run in a fresh interpreter, and the memory that the run takes.

Run as `python -m tagger.benchmark.first_decision RESULT`, by `tagger.benchmark.cold_start`.
"""

import builtins
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from tagger.errors import exit_on_user_error


@exit_on_user_error
def main() -> None:
    """Load a run, decide on texts, and write what that took to the file RESULT, as JSON.

    The path of the run and the texts (titles and descriptions, at least one) come as JSON from
    standard input; the process has done nothing else. RESULT has `import_ms`, `load_ms` (files read
    and checked, without what they import) and `decide_ms` (the first decision); `began_ns` and
    `decided_ns`, by the monotonic clock that all processes share; `torch_imported`; and
    `peak_memory_mib` after all texts were decided on.
    """
    began = time.monotonic_ns()
    job = json.load(sys.stdin)
    begun = time.monotonic_ns()
    with ImportClock() as imports:
        from tagger.data.items import Item
        from tagger.decision.decider import load_decider
        from tagger.runs import RunFolder

        items = [Item("", title, description) for title, description in job["texts"]]
        run = RunFolder(Path(job["run"]))
        decider = load_decider(run.path, run.load_classifier())
        loaded, imported_to_load = time.monotonic_ns(), imports.nanoseconds
        decider.decide(items[:1])
    decided, imported = time.monotonic_ns(), imports.nanoseconds
    decider.decide(items)
    from tagger.environment import peak_memory_mib

    result = {
        "began_ns": began,
        "import_ms": imported / 1e6,
        "load_ms": (loaded - begun - imported_to_load) / 1e6,
        "decide_ms": (decided - loaded - (imported - imported_to_load)) / 1e6,
        "decided_ns": decided,
        "torch_imported": "torch" in sys.modules,
        "peak_memory_mib": peak_memory_mib(),
    }
    Path(sys.argv[1]).write_text(json.dumps(result), encoding="utf-8")


class ImportClock:
    """Sums the time that import statements take, wherever they stand.

    Models are imported in the midst of loading, by whoever needs them: no one place could be timed.

    Attributes:
        nanoseconds: The sum so far; an import within an import counts once.
    """

    def __init__(self) -> None:
        self.nanoseconds = 0
        self._importing = False
        self._import = builtins.__import__

    def __enter__(self) -> Self:
        builtins.__import__ = self._timed
        return self

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._import

    def _timed(self, *args: Any, **kwargs: Any) -> ModuleType:
        if self._importing:
            return self._import(*args, **kwargs)
        self._importing = True
        start = time.monotonic_ns()
        try:
            return self._import(*args, **kwargs)
        finally:
            self.nanoseconds += time.monotonic_ns() - start
            self._importing = False


if __name__ == "__main__":
    main()
