"""Records a run's curves: always in `metrics.jsonl`, and in Weights & Biases if asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagger.config.schema import TrackingConfig
from tagger.errors import UserError
from tagger.files import write_text

Metrics = dict[str, float | int]


class Tracker:
    """Writes one line a logged step, and mirrors it to wandb when the config says so.

    Args:
        folder: The run folder.
        tracking: What else to write to.
        run_config: The whole config, attached to the wandb run.
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
        self._wandb = (
            start_wandb(folder, tracking, run_config) if tracking.kind == "wandb" else None
        )

    def log(self, metrics: Metrics) -> None:
        """Record one step's metrics; `step` is among them."""
        self._file.write(json.dumps(metrics) + "\n")
        self._file.flush()
        if self._wandb is not None:
            values = {name: value for name, value in metrics.items() if name != "step"}
            self._wandb.log(values, step=int(metrics["step"]))

    def close(self) -> None:
        """End the record; what was logged stays."""
        self._file.close()
        if self._wandb is not None:
            self._wandb.finish()


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


def attach_report(folder: Path, tracking: TrackingConfig, report: Path, scores: Metrics) -> None:
    """Add a report and its headline scores to the wandb run of a finished run folder."""
    run = start_wandb(folder, tracking, {})
    run.summary.update(scores)
    run.save(str(report), base_path=str(report.parent), policy="now")
    run.finish()


def start_wandb(
    folder: Path,
    tracking: TrackingConfig,
    run_config: Mapping[str, object],
    *,
    name: str | None = None,
    group: str | None = None,
) -> Any:
    """Start a wandb run below a folder, or go on with one; it is named like the folder by default.

    Raises:
        UserError: when wandb cannot start.
    """
    import wandb

    name = name or folder.name
    try:
        return wandb.init(
            project=tracking.project,
            name=name,
            id=name,
            group=group,
            resume="allow" if tracking.mode == "online" else None,
            dir=str(folder),
            mode=tracking.mode,
            config=dict(run_config),
            settings=wandb.Settings(silent=True, console="off"),
        )
    except wandb.errors.Error as error:
        raise UserError(
            f"wandb could not start: {str(error).splitlines()[0]}",
            hint="tracking.mode=offline needs no account; tracking=none does without wandb.",
        ) from None
