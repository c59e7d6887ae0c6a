"""Checks that a compressed model predicts on this CPU what it predicted on the one that made it.

Products of int8 are computed by other instructions on another kind of CPU, and some of these round
or saturate where others do not. A model that kept its tags on one machine may lose them on another.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tagger.environment import instruction_sets
from tagger.errors import UserError
from tagger.models.base import Classifier
from tagger.models.samples import SAMPLES, read_samples

MOST_CHANGED = 0.01
"""Share of the samples that may have another most probable tag."""

MOST_SHIFT = 0.02
"""Mean share of probability that may go from one tag to another."""


def check_cpu_features(classifier: Classifier, folder: Path, recorded: Sequence[str]) -> None:
    """Warn when a model was made on a machine with other instructions, and try it on its samples.

    Args:
        classifier: As it was loaded from the folder.
        folder: Of the model.
        recorded: `instruction_sets()` of the machine that made it.

    Raises:
        UserError: when the samples are answered differently here.
    """
    present = instruction_sets()
    if list(recorded) == present:
        return
    absent, further = sorted({*recorded} - {*present}), sorted({*present} - {*recorded})
    lists = {"lacks": absent, "has in addition": further}
    difference = " and ".join(
        f"{verb} {', '.join(names)}" for verb, names in lists.items() if names
    )
    summary = f"{folder} was made for a CPU with other instructions; this one {difference}"
    if not (folder / SAMPLES).is_file():
        warnings.warn(f"{summary}. It holds no samples to try it on.", stacklevel=2)
        return
    items, expected = read_samples(folder, len(classifier.tags))
    found = classifier.predict_proba(items)
    changed = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    shift = float(np.abs(found - expected).sum(axis=1).mean() / 2)
    outcome = (
        f"{changed} of {len(items)} samples have another most probable tag, and probabilities "
        f"shift by {shift:.4f} on average"
    )
    if changed > MOST_CHANGED * len(items) or shift > MOST_SHIFT:
        raise UserError(
            f"{summary}, and gives other answers:",
            [f"{outcome}; allowed are {MOST_CHANGED:.0%} and {MOST_SHIFT}"],
            "Export the run again on this machine.",
        )
    warnings.warn(f"{summary}. {outcome}, which is little enough.", stacklevel=2)
