"""Saves and restores checkpoints, from which a killed run goes on as if nothing had happened.

A checkpoint is a folder `step-<n>`, written beside and renamed once it is whole, and only then is
the one before it removed. It holds the trainable weights, the optimizer's moments, the best weights
so far, and the place in the run. Random state is not in it: every step seeds itself from the run's
seed and its own number.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import AdamW

from tagger.errors import UserError, first_line
from tagger.files import write_json

Weights = dict[str, Tensor]
SAVED_WEIGHTS = ("best_weights", "average_weights")


@dataclass
class Progress:
    """The place in a run: what has been done, and what was best so far.

    Attributes:
        step: Optimizer steps taken.
        epoch: The epoch that is going on, from 0.
        batch: Batches of that epoch taken.
        best_metric: Best validation metric so far, larger being better; None before the first.
        best_step: The step it was measured at.
        bad_epochs: Validations since then.
        seconds: Time spent in training, earlier attempts included.
        epoch_loss: Sum of the losses of this epoch's steps.
        stopped_early: Whether patience ran out.
        best_weights: The trainable weights at `best_step`.
        average_weights: The moving average of the trainable weights; empty if none is kept.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_metric: float | None = None
    best_step: int = 0
    bad_epochs: int = 0
    seconds: float = 0.0
    epoch_loss: float = 0.0
    stopped_early: bool = False
    best_weights: Weights = field(default_factory=dict, repr=False)
    average_weights: Weights = field(default_factory=dict, repr=False)


def trainable_weights(module: torch.nn.Module) -> Weights:
    """Copy the weights that training changes."""
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def restore_weights(module: torch.nn.Module, weights: Weights) -> None:
    """Put copied weights back in place."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            parameters[name].copy_(tensor)


def save_checkpoint(
    folder: Path, module: torch.nn.Module, optimizer: AdamW, progress: Progress
) -> None:
    """Write `folder/step-<n>` whole or not at all, then remove the older ones."""
    target = folder / f"step-{progress.step:08d}"
    if target.is_dir():
        return
    scratch = folder / f".{target.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        save_file(trainable_weights(module), scratch / "model.safetensors")
        moments = {
            f"{index}/{name}": tensor.detach().cpu().contiguous()
            for index, tensors in optimizer.state_dict()["state"].items()
            for name, tensor in tensors.items()
        }
        save_file(moments, scratch / "optimizer.safetensors")
        state = vars(progress).copy()
        for name in SAVED_WEIGHTS:
            save_file(state.pop(name), scratch / f"{name}.safetensors")
        write_json(scratch / "progress.json", state)
        scratch.rename(target)
    except SafetensorError as error:  # a full disk, among others
        raise UserError(f"{target} could not be written: {error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for older in checkpoints(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """List the whole checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*"))


def load_checkpoint(
    folder: Path, module: torch.nn.Module, optimizer: AdamW, device: torch.device
) -> Progress:
    """Restore the newest checkpoint into module and optimizer; a fresh `Progress` if there is none.

    Raises:
        UserError: when it is damaged or belongs to another model.
    """
    found = checkpoints(folder)
    if not found:
        return Progress()
    newest = found[-1]
    try:
        state = json.loads((newest / "progress.json").read_text(encoding="utf-8"))
        saved = {name: load_file(newest / f"{name}.safetensors") for name in SAVED_WEIGHTS}
        progress = Progress(**state, **saved)
        restore_weights(module, load_file(newest / "model.safetensors"))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in load_file(newest / "optimizer.safetensors").items():
            index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = tensor.to(device)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{newest} cannot be restored: {first_line(error)}",
            hint="Remove that folder to start the run over, or use if_exists=replace.",
        ) from None
    return progress
