"""Mirrors runs and trials to wandb, TensorBoard, MLflow or trackio, by accelerate's trackers."""

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tagger.config.overrides import flatten
from tagger.config.saved import read_yaml
from tagger.config.schema import TrackingConfig
from tagger.errors import UserError
from tagger.files import write_text

PACKAGES = {"mlflow": "mlflow-skinny SQLAlchemy alembic", "trackio": "trackio 'pillow<13'"}
"""What is installed for a tracker, where that is not its own name alone."""

ID_FILE = "tracker_id"
"""In a run folder: the run's id in its tracker, by which whoever resumes it goes on with it."""

OWN = ("wandb", "tensorboard")
"""What trackers keep in a run folder; it is not handed to them as a part of the run."""


class Mirror:
    """A run, or a trial of a sweep, in a tracker.

    Args:
        tracking: Which tracker, and how.
        place: The run folder or the sweep's; what trackers keep is written below or beside it.
        name: Of the run or trial, for people; what makes it unique is its id.
        settings: The config, noted when the tracker first hears of the run.
        sweep: Whose trial it is: its group, unless the config names one. A trial's id is not kept.
        from_step: Later steps, left by an attempt that was killed, are hidden by TensorBoard; None:
            none are.

    Raises:
        UserError: when the tracker is not installed or can't start.
    """

    def __init__(
        self,
        tracking: TrackingConfig,
        place: Path,
        name: str,
        settings: Mapping[str, object],
        *,
        sweep: str | None = None,
        from_step: int | None = None,
    ) -> None:
        self.kind = tracking.kind
        file = place / ID_FILE
        known = sweep is None and file.is_file()
        # Random, so that two people's runs of one name stay apart in a project that they share.
        self.id = file.read_text(encoding="utf-8").strip() if known else secrets.token_hex(8)
        group = tracking.group or sweep
        flat = flatten(settings).items()
        plain = {key: one if isinstance(one, int | float) else str(one) for key, one in flat}
        arguments: dict[str, Any] = {"run_name": tracking.project}
        if self.kind == "wandb":
            mode = tracking.mode or os.environ.get("WANDB_MODE") or "offline"
            arguments |= {
                "name": name, "id": self.id, "group": group, "config": dict(settings),
                "entity": tracking.entity, "tags": tracking.tags or None, "notes": tracking.notes,
                "mode": mode, "resume": "allow" if mode == "online" else None, "dir": str(place),
                "settings": {"silent": True, "console": "off"},
            }  # fmt: skip
        elif self.kind == "trackio":
            arguments |= {
                "name": f"{name}-{self.id}", "group": group, "config": plain, "resume": "allow",
                "embed": False, "auto_log_cpu": False,
            }  # fmt: skip
        elif self.kind == "tensorboard":
            below = "tensorboard" if sweep is None else f"tensorboard/{name}"
            arguments = {"run_name": below, "logging_dir": place}
            arguments["purge_step"] = None if from_step is None else from_step + 1
        else:
            arguments = {
                "experiment_name": tracking.project, "run_name": name,
                "run_id": self.id if known else None, "description": tracking.notes,
                "tags": dict.fromkeys(tracking.tags, "true") | ({"group": group} if group else {}),
            }  # fmt: skip
        with _starting(self.kind):
            import torch
            from accelerate import PartialState
            from accelerate.tracking import LOGGER_TYPE_TO_CLASS
            from filelock import FileLock

            PartialState(cpu=not torch.accelerator.is_available())  # accelerate's log asks for it
            beside = _mlflow_beside(place) if self.kind == "mlflow" else None
            if beside is not None:
                arguments["logging_dir"] = str(beside / "mlflow-artifacts")
            # Workers of a sweep would make the tables of one file together.
            with nullcontext() if beside is None else FileLock(beside / ".mlflow.lock"):
                self._tracker = LOGGER_TYPE_TO_CLASS[self.kind](**arguments)
                self._tracker.start()
            if not known and self.kind in ("mlflow", "tensorboard"):
                self._tracker.store_init_configuration(plain)
        if self.kind == "mlflow":
            self.id = self._tracker.tracker.info.run_id
        if sweep is None:
            write_text(file, f"{self.id}\n")

    def log(self, values: Mapping[str, float | int], step: int) -> None:
        """Note the figures of a step; what the tracker does not take ends no training."""
        try:
            self._tracker.log(dict(values), step=step)
        except Exception as error:
            print(f"note: {self.kind} does not take step {step}: {_line(error)}", file=sys.stderr)

    def summarize(self, scores: Mapping[str, float]) -> None:
        """Note scores of the whole run or trial."""
        if self.kind == "wandb":
            self._tracker.tracker.summary.update(dict(scores))
        else:
            self.log(scores, step=0)

    def attach(self, folder: Path) -> None:
        """Hand over a run folder as an artifact; TensorBoard has none, and shows report and plots.

        Raises:
            Exception: whatever the tracker raises when it does not take it.
        """
        inside = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder): path for path in inside}
        files = {name: path for name, path in files.items() if name.parts[0] not in OWN}
        if self.kind == "wandb":
            import wandb

            artifact = wandb.Artifact(f"run-{self.id}", type="run")
            for name, path in files.items():
                artifact.add_file(str(path), name=name.as_posix())
            self._tracker.tracker.log_artifact(artifact)
        elif self.kind == "mlflow":
            for name, path in files.items():
                below = None if name.parent == Path() else name.parent.as_posix()
                self._tracker.log_artifact(str(path), below)
        elif self.kind == "trackio":
            import trackio

            trackio.log_artifact(folder, name=f"run-{self.id}", type="run")
        else:
            import numpy as np
            from PIL import Image

            writer = self._tracker.tracker
            writer.add_text("report", (folder / "report.md").read_text(encoding="utf-8"))
            for path in sorted(folder.glob("plots/*.png")):
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))
                writer.add_image(path.stem, pixels, dataformats="HWC")

    def close(self) -> None:
        """End the record; what was logged stays."""
        self._tracker.finish()


def attach_run(folder: Path, tracking: TrackingConfig, scores: Mapping[str, float]) -> None:
    """Add an evaluated run's scores and, unless the config forbids it, its files to its tracker.

    What the tracker does not take is said on standard error: the evaluation itself is done.
    """
    try:
        mirror = Mirror(tracking, folder, folder.name, read_yaml(folder / "config.yaml"))
        mirror.summarize(scores)
        if tracking.artifacts:
            mirror.attach(folder)
        mirror.close()
    except Exception as error:
        print(f"note: {tracking.kind} does not take the report: {_line(error)}", file=sys.stderr)


@contextmanager
def _starting(kind: str) -> Iterator[None]:
    hint = "tracking=none does without; metrics.jsonl is always written."
    try:
        yield
    except ImportError:
        package = PACKAGES.get(kind, kind)
        raise UserError(
            f"tracking={kind} needs a package that is not installed",
            hint=f"pip install {package}, or 'tag-or-ask[track]'; {hint}",
        ) from None
    except Exception as error:  # each has its own: wandb.errors.Error, MlflowException, ...
        raise UserError(f"{kind} could not start: {_line(error)}", hint=hint) from None


def _mlflow_beside(place: Path) -> Path | None:
    """Keep runs in `mlflow.db` beside their folders; return where, None where a server is named."""
    # It would send statistics of its use to its makers.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    if "MLFLOW_TRACKING_URI" in os.environ:
        return None
    beside = place.parent.absolute()
    mlflow.set_tracking_uri(f"sqlite:///{(beside / 'mlflow.db').as_posix()}")
    return beside


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
