"""The scores as `evaluate.Metric`s, for code that speaks that library's interface.

They need no download (`evaluate.load` would fetch code) and leave nothing behind: a stock metric
keeps its rows in a cache folder, shared by all processes, which these never create.

Importing this module takes seconds, because importing `evaluate` does. Code of this package that
only needs numbers calls `tagger.scores`.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tagger.scores import AVERAGES

_INPUTS = """
Args:
    predictions (`list` of `int`): positions of the predicted tags in the approved list.
    references (`list` of `int`): positions of the true tags.
"""


class _TagMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric over tags, given as positions in the approved list.

    Args:
        tags: The approved tags. All of them are scored, in this order, whether or not they occur,
            so that a tag missing from the rows at hand never shifts another one's score.
    """

    summary = ""

    def __init__(self, tags: Sequence[str]) -> None:
        self.tags = tuple(tags)
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        position = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=self.summary,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": position, "references": position}),
        )

    def _build_data_dir(self) -> str:
        # The library makes a folder in the home directory here, even for metrics kept in memory.
        return ""

    def _labels(self) -> list[int]:
        return list(range(len(self.tags)))

    def _check(self, positions: Sequence[int]) -> None:
        strangers = sorted({int(p) for p in positions} - set(self._labels()))
        if strangers:
            raise ValueError(f"positions count from 0 to {len(self.tags) - 1}, found {strangers}")


class Accuracy(_TagMetric):
    """Share of rows whose tag is right: `{"accuracy": float}`."""

    summary = "Share of rows whose tag is right."

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        self._check([*predictions, *references])
        return {"accuracy": float(accuracy_score(references, predictions))}


class AveragedPRF(_TagMetric):
    """Precision, recall and F1, averaged: `{"macro_f1": float, "weighted_precision": ...}`."""

    summary = "Micro, macro and weighted averages of precision, recall and F1."

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        self._check([*predictions, *references])
        result = {}
        for average in AVERAGES:
            precision, recall, f1, _ = precision_recall_fscore_support(
                references, predictions, labels=self._labels(), average=average, zero_division=0
            )
            result[f"{average}_precision"] = float(precision)
            result[f"{average}_recall"] = float(recall)
            result[f"{average}_f1"] = float(f1)
        return result


class PerClassPRF(_TagMetric):
    """Precision, recall, F1 and support of each tag: `{"tag": {"precision": float, ...}}`."""

    summary = "Precision, recall, F1 and support of each approved tag."

    def _compute(
        self, predictions: Sequence[int], references: Sequence[int]
    ) -> dict[str, dict[str, float]]:
        self._check([*predictions, *references])
        columns = precision_recall_fscore_support(
            references, predictions, labels=self._labels(), zero_division=0
        )
        names = ("precision", "recall", "f1", "support")
        return {
            tag: {
                name: float(column[position]) for name, column in zip(names, columns, strict=True)
            }
            for position, tag in enumerate(self.tags)
        }


def build_metrics(tags: Sequence[str]) -> dict[str, Any]:
    """Return one metric of each kind, by name, for a list of approved tags."""
    return {
        "accuracy": Accuracy(tags),
        "averaged": AveragedPRF(tags),
        "per_class": PerClassPRF(tags),
    }
