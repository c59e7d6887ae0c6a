"""Records a run's curves: always in `metrics.jsonl`, and in a tracker if asked."""

import json
from collections.abc import Mapping
from pathlib import Path

from tagger.config.schema import TrackingConfig
from tagger.files import write_text
from tagger.training.trackers import Mirror

Metrics = dict[str, float | int]


class Tracker:
    """Writes one line a logged step, and mirrors it to the tracker that the config names.

    Args:
        folder: The run folder.
        tracking: What else to write to.
        run_config: The whole config, noted by the tracker.
        from_step: Lines of later steps, left by an attempt that was killed, are dropped: those
            steps are taken again.
    """

    def __init__(
        self,
        folder: Path,
        tracking: TrackingConfig,
        run_config: Mapping[str, object],
        from_step: int,
    ) -> None:
        self.path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(self.path) if line["step"] <= from_step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._mirror = None
        if tracking.kind != "none":
            self._mirror = Mirror(tracking, folder, folder.name, run_config, from_step=from_step)

    def log(self, metrics: Metrics) -> None:
        """Record one step's metrics; `step` is among them."""
        self._file.write(json.dumps(metrics) + "\n")
        self._file.flush()
        if self._mirror is not None:
            values = {name: value for name, value in metrics.items() if name != "step"}
            self._mirror.log(values, step=int(metrics["step"]))

    def close(self) -> None:
        """End the record; what was logged stays."""
        self._file.close()
        if self._mirror is not None:
            self._mirror.close()


def read_metrics(path: Path) -> list[Metrics]:
    """Read the whole lines of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    lines: list[Metrics] = []
    if not path.is_file():
        return lines
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines
