"""Lists the approaches to compare, by the overrides of `train.py` that choose them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.errors import UserError

APPROACHES = {
    "rules": ["model=rules"],
    "linear": ["model=linear"],
    "frozen": ["model=frozen"],
    "minilm": ["model=minilm"],
    "setfit": ["experiment=setfit"],
}
"""From the plainest to the dearest."""

ENSEMBLES = {
    "linear + frozen": ("linear", "frozen"),
    "linear + minilm": ("linear", "minilm"),
    "linear + frozen + minilm": ("linear", "frozen", "minilm"),
}
"""Means of the probabilities of runs that were made anyway: `model=ensemble`."""


@dataclass(frozen=True)
class Approaches:
    """What to compare.

    Attributes:
        overrides: Overrides of `train.py` by the name of an approach.
        ensembles: Names of approaches by the name of their ensemble.
    """

    overrides: Mapping[str, Sequence[str]]
    ensembles: Mapping[str, Sequence[str]]


def choose_approaches(given: Sequence[str]) -> Approaches:
    """Choose approaches by name, or make new ones: `NAME=OVERRIDE OVERRIDE ...`.

    Without a choice all of `APPROACHES` are taken. Ensembles are taken where all members are.

    Raises:
        UserError: for names that there are not, and overrides that are not valid.
    """
    approaches: dict[str, Sequence[str]] = {}
    for entry in given or list(APPROACHES):
        name, equals, overrides = entry.partition("=")
        name = name.strip()
        if not name:
            raise UserError(
                f"--approach {entry!r} has no name", hint="--approach 'NAME=model=minilm ...'"
            )
        if not equals and name not in APPROACHES:
            raise UserError(
                f"there is no approach {name!r}",
                [f"approaches: {', '.join(APPROACHES)}"],
                "A new one: --approach 'NAME=model=minilm training.epochs=8'",
            )
        approaches[name] = overrides.split() if equals else APPROACHES[name]
        # A mistake in the last approach should not cost the training of the others.
        load_config(TrainConfig, compose_config("train", approaches[name]))
    ensembles = {
        name: members
        for name, members in ENSEMBLES.items()
        if all(m in approaches for m in members)
    }
    return Approaches(approaches, ensembles)
