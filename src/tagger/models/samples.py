"""Keeps, in a model's folder, what the model says of some texts on the machine that wrote it.

Whoever loads the model on another machine can try it on these, without the source of the texts.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tagger.data.items import Item
from tagger.files import write_json
from tagger.scores import FloatArray

SAMPLES = "parity_samples.json"
"""File of a model folder: `texts`, each a title and a description, and their `probabilities`."""

KEPT = 50
"""Texts of a trained model that are kept so."""


def choose_samples(items: Sequence[Item], count: int = KEPT) -> list[int]:
    """Choose rows that are spread evenly over the tags and, within a tag, over the source.

    Returns:
        Positions of `count` items, in order, each once; all of them if there are no more.
    """
    by_tag = sorted(range(len(items)), key=lambda place: str(items[place].tag))
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return sorted(by_tag[place] for place in chosen)


def write_samples(folder: Path, items: Sequence[Item], probabilities: FloatArray) -> None:
    """Write texts and what the model of the folder says of them, (n_items, n_tags)."""
    texts = [[item.title, item.description] for item in items]
    # Not with all digits: the same weights should make the same file, whatever the order of sums.
    rounded = probabilities.round(7).tolist()
    write_json(folder / SAMPLES, {"texts": texts, "probabilities": rounded})


def read_samples(folder: Path, n_tags: int) -> tuple[list[Item], FloatArray]:
    """Read the samples of a model folder, and their probabilities, (n, n_tags).

    Raises:
        OSError: when it has none.
        ValueError: when they are not whole.
    """
    content = json.loads((folder / SAMPLES).read_text(encoding="utf-8"))
    items = [Item("", title, description) for title, description in content["texts"]]
    probabilities = np.array(content["probabilities"], dtype=np.float64)
    if not items or probabilities.shape != (len(items), n_tags):
        raise ValueError(
            f"{SAMPLES} has probabilities of shape {probabilities.shape}, expected "
            f"{(len(items), n_tags)}, and at least one sample"
        )
    return items, probabilities
