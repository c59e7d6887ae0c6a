"""Chooses what a model computes on when it is used; for training, accelerate chooses."""

from typing import TYPE_CHECKING, Any

from tagger.errors import UserError
from tagger.models.base import Classifier

if TYPE_CHECKING:
    import torch


def choose_device(wanted: str) -> "torch.device":
    """Return the device of a name; `auto` is the GPU where there is one.

    Raises:
        UserError: when there is no such device here.
    """
    import torch

    if wanted == "auto":
        there = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if there is None else there
    backends: dict[str, Any] = {"cuda": torch.cuda, "mps": torch.backends.mps}
    if wanted in backends and not backends[wanted].is_available():
        raise UserError(
            f"device={wanted}: there is no such device here, or PyTorch was built without it",
            hint="Give device=cpu, or auto for the fastest that there is.",
        )
    return torch.device(wanted)


def move_to_device(classifier: Classifier, wanted: str) -> None:
    """Move a classifier, in place, to a device that torch computes on.

    Models that torch does not compute, exported ones among them, stay on the CPU: `auto` is that
    for them.

    Raises:
        UserError: for a device that is not there, or that the model cannot use.
    """
    if wanted == "cpu":
        return
    members: list[Classifier] = getattr(classifier, "members", [])
    for member in members:
        move_to_device(member, wanted)
    module = getattr(classifier, "module", None)
    if module is not None:
        module.to(choose_device(wanted))
    elif not members and wanted != "auto":
        raise UserError(
            f"device={wanted}: a model of {type(classifier).__name__} is computed on the CPU alone",
            hint="Give device=cpu or auto.",
        )
