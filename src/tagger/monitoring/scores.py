"""Computes what is watched of an item: named scores, and the bin of `drift.BINS` that each is in.

Every score is a fixed function of the item while it is bet on, since conformal p-values ask for
that. What words are known is therefore settled by the first items of the stream, which are not
scored by it themselves.
"""

import re
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from tagger.data.items import fold
from tagger.monitoring.drift import BINS
from tagger.scores import BoolArray, FloatArray, IntArray

LENGTH, WORDS, PIECES = "length", "unknown words", "unknown pieces"
CONFIDENCE, OOD = "confidence", "OOD score"
TAG = "tag: "
"""Before the name of a tag, whose score is 1 where it is the most probable one, else 0."""

_WORD = re.compile(r"\w+")


def score_names(tags: Sequence[str], *, pieces: bool, ood: bool) -> list[str]:
    """List the scores, those of the vocabulary where there is a tokenizer, in their order."""
    names = [LENGTH, WORDS, *([PIECES] if pieces else []), CONFIDENCE, *([OOD] if ood else [])]
    return [*names, *(TAG + tag for tag in tags)]


def score_weights(names: Sequence[str]) -> list[float]:
    """Return the weight of each score in the average: all tags together weigh as one score."""
    tags = sum(name.startswith(TAG) for name in names)
    share = 1 / (len(names) - tags + 1)
    return [share / tags if name.startswith(TAG) else share for name in names]


def needs_vocabulary(names: Sequence[str]) -> BoolArray:
    """Say which scores are about known words or pieces, (n_scores,)."""
    return np.array([name in (WORDS, PIECES) for name in names])


class Scorer:
    """Scores items.

    Args:
        names: Of the scores.
        tokenizer: Of the run; None where it has none.
        known: Words, and the tokenizer's pieces where there is one; `learn` adds to them.
    """

    def __init__(
        self, names: Sequence[str], tokenizer: Tokenizer | None, known: Sequence[set[str]]
    ) -> None:
        self._names, self._tokenizer, self._known = names, tokenizer, known

    def score(self, text: str, probabilities: FloatArray, ood: float | None) -> FloatArray:
        """Return the scores of an item, (n_scores,).

        Args:
            text: Of the item, not empty.
            probabilities: Calibrated, (n_tags,).
            ood: Its OOD score; None where the run has none.
        """
        parts = self._parts(text)
        unknown = [
            sum(part not in known for part in one) / max(1, len(one))
            for one, known in zip(parts, self._known, strict=True)
        ]
        values = [len(parts[0]), *unknown, probabilities.max(), *([] if ood is None else [ood])]
        tags = np.arange(len(probabilities)) == probabilities.argmax()
        return np.array([*values, *tags], dtype=np.float64)

    def learn(self, text: str) -> None:
        """Make the words and pieces of an item known ones."""
        for parts, known in zip(self._parts(text), self._known, strict=True):
            known.update(parts)

    def bins(self, values: FloatArray) -> IntArray:
        """Return the bin of each score, (n_scores,): a rising function of it.

        Lengths are told apart by 2 %, confidence by its distance from 1, shares and OOD scores by
        1 in 255.
        """
        parts = values.copy()
        length, confidence = self._names.index(LENGTH), self._names.index(CONFIDENCE)
        parts[length] = np.log2(1 + values[length]) / 10
        parts[confidence] = -np.log2(max(1 - values[confidence], 2.0**-20)) / 20
        found: IntArray = np.rint((BINS - 1) * parts.clip(0, 1)).astype(np.int64)
        return found

    def _parts(self, text: str) -> list[list[str]]:
        words = _WORD.findall(fold(text))
        if self._tokenizer is None:
            return [words]
        return [words, self._tokenizer.encode(text, add_special_tokens=False).tokens]
