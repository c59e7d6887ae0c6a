"""Compares what a run answers on this machine with what it answered where it was made."""

import hashlib

import numpy as np

from tagger.data.items import Item
from tagger.decision.decider import decision_hash
from tagger.errors import UserError
from tagger.models.base import Classifier
from tagger.models.samples import SAMPLES, read_samples
from tagger.runs import RunFolder
from tagger.scores import FloatArray

TOLERANCE = 0.001
"""Largest difference of a probability: other orders of addition make far smaller ones."""

Samples = tuple[list[Item], FloatArray]
"""Texts, n, and their probabilities as the model gave them, (n, n_tags)."""


def stored_samples(run: RunFolder) -> Samples:
    """Read the texts that a run keeps with their probabilities.

    Raises:
        UserError: when it keeps none.
    """
    if SAMPLES not in run.meta.model_files:
        raise UserError(
            f"{run.path} keeps no samples ({SAMPLES}): nothing shows what this machine should "
            "compute",
            hint="It was made before runs kept them: make it again.",
        )
    return read_samples(run.path / "model", len(run.tags))


def version_of_run(run: RunFolder) -> str:
    """Return a hash of a run's model and decision, 12 hexadecimal digits."""
    parts = [*sorted(run.meta.model_files.items()), decision_hash(run.path)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def differing_samples(classifier: Classifier, samples: Samples) -> list[str]:
    """Answer stored samples, and say of each that differs by how much."""
    items, expected = samples
    found = classifier.predict_proba(items)
    return [
        f"{item.text[:60]!r}: a probability of {classifier.tags[at]} is {ours[at]:.6f} here, "
        f"{theirs[at]:.6f} in the run"
        for item, ours, theirs in zip(items, found, expected, strict=True)
        for at in [int(np.abs(ours - theirs).argmax())]
        if not abs(ours[at] - theirs[at]) <= TOLERANCE
    ]
