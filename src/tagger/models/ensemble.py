"""Several trained models as one: the mean of their answers, or of their weights."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.files import write_json
from tagger.models.base import SETTINGS, Classifier, read_settings
from tagger.models.transformer import TransformerClassifier


class EnsembleClassifier:
    """A `Classifier` whose probabilities are the mean of those of its members."""

    def __init__(self, members: Sequence[Classifier]) -> None:
        self.members = list(members)
        self.tags = members[0].tags

    def predict_proba(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return mean probabilities of shape (n_items, n_tags)."""
        mean: NDArray[np.float64] = np.mean(
            [member.predict_proba(items) for member in self.members], axis=0
        )
        return mean

    def save(self, folder: Path) -> None:
        """Write a folder that holds all members, so that the runs they came from may go."""
        for number, member in enumerate(self.members):
            member.save(folder / _member_name(number))
        write_json(
            folder / SETTINGS,
            {"approach": "ensemble", "tags": list(self.tags), "members": len(self.members)},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        settings = read_settings(folder)
        from tagger.models.registry import load_classifier

        members = [
            load_classifier(folder / _member_name(number)) for number in range(settings["members"])
        ]
        if not members:
            raise ValueError(f"{SETTINGS} speaks of no members")
        return cls(members)


def average_weights(members: Sequence[Classifier], names: Sequence[str]) -> TransformerClassifier:
    """Make one model whose weights are the mean of its members': a model soup.

    Wortsman et al., "Model soups" (ICML 2022), the uniform one. It costs no more than one of them
    to run. Members must have grown from the same pretrained weights.

    Args:
        members: Fine-tuned transformers.
        names: What to call them in messages.

    Raises:
        UserError: when they are not of one architecture.
    """
    models = []
    for member, name in zip(members, names, strict=True):
        if not isinstance(member, TransformerClassifier):
            raise UserError(f"{name} is no transformer: its weights can't be averaged")
        models.append(member)
    states = [model.module.state_dict() for model in models]
    builds = [_build(model) for model in models]
    for name, build in zip(names[1:], builds[1:], strict=True):
        if build != builds[0]:
            raise UserError(
                f"{names[0]} and {name} are built differently: their weights can't be averaged",
                hint="Average runs of the same model; model.combine=probabilities takes any.",
            )
    first = models[0]
    soup = copy.deepcopy(first)
    soup.module.load_state_dict(
        {
            key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
            for key, value in states[0].items()
        }
    )
    return soup


def _build(model: TransformerClassifier) -> tuple[object, ...]:
    """Return all that weights must agree in to mean the same."""
    shapes = {name: tuple(value.shape) for name, value in model.module.state_dict().items()}
    used = {name: value for name, value in model.shape.items() if name != "dropout"}
    # Where it was loaded from is kept among the settings too, under names that begin so.
    encoder = {k: v for k, v in vars(model.module.encoder.config).items() if not k.startswith("_")}
    return shapes, used, encoder


def _member_name(number: int) -> str:
    return f"member-{number:02d}"
