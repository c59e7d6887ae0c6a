"""What is compared: approaches, by the overrides of `train.py` that choose them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.errors import UserError

RUNGS = {
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
class Ladder:
    """What to compare.

    Attributes:
        rungs: Overrides of `train.py` by the name of a rung.
        ensembles: Names of rungs by the name of their ensemble.
    """

    rungs: Mapping[str, Sequence[str]]
    ensembles: Mapping[str, Sequence[str]]


def choose_rungs(given: Sequence[str]) -> Ladder:
    """Choose rungs by name, or make new ones: `NAME=OVERRIDE OVERRIDE ...`.

    Without a choice all of `RUNGS` are taken. Ensembles are taken where all members are.

    Raises:
        UserError: for names that there are not, and overrides that are not valid.
    """
    rungs: dict[str, Sequence[str]] = {}
    for entry in given or list(RUNGS):
        name, equals, overrides = entry.partition("=")
        name = name.strip()
        if not name:
            raise UserError(f"--rung {entry!r} has no name", hint="--rung 'NAME=model=minilm ...'")
        if not equals and name not in RUNGS:
            raise UserError(
                f"there is no rung {name!r}",
                [f"rungs: {', '.join(RUNGS)}"],
                "A new one: --rung 'NAME=model=minilm training.epochs=8'",
            )
        rungs[name] = overrides.split() if equals else RUNGS[name]
        # A mistake in the last rung should not cost the training of the others.
        load_config(TrainConfig, compose_config("train", rungs[name]))
    ensembles = {
        name: members for name, members in ENSEMBLES.items() if all(m in rungs for m in members)
    }
    return Ladder(rungs, ensembles)
