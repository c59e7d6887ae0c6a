"""The scores of a report as an `evaluate.Metric`, computed by scikit-learn.

The metric needs no download (`evaluate.load` would fetch code) and leaves nothing behind: a stock
metric keeps its rows in a cache folder, shared by all processes, which this never creates.

Importing this module takes seconds, because importing `evaluate` does. Resamples and training steps
are scored by `tagger.scores`, thousands at once; a test holds both to the same values.
"""

from collections.abc import Sequence

import datasets
import evaluate
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tagger.scores import AVERAGES, PER_CLASS


class TaggingScores(evaluate.Metric):  # type: ignore[misc]
    """Accuracy, averages, and scores by tag, of tags given as positions in the approved list.

    `compute` returns the names of `tagger.scores.OVERALL` as floats, and `per_class`: by tag those
    of `PER_CLASS`.

    Args:
        tags: The approved tags. All of them are scored, in this order, whether or not they occur,
            so that a tag missing from the rows at hand never shifts another one's score.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self.tags = tuple(tags)
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        position = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Scores of tags that are given as positions in the approved list.",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": position, "references": position}),
        )

    def _build_data_dir(self) -> str:
        # The library makes a folder in the home directory here, even for metrics kept in memory.
        return ""

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, object]:
        labels = list(range(len(self.tags)))
        if strangers := sorted({*predictions, *references} - {*labels}):
            raise ValueError(f"positions count from 0 to {len(labels) - 1}, found {strangers}")

        by_average = {
            average: precision_recall_fscore_support(
                references, predictions, labels=labels, average=average, zero_division=0
            )
            for average in (*AVERAGES, None)
        }
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            **{
                f"{average}_{name}": float(by_average[average][column])
                for average in AVERAGES
                for column, name in enumerate(PER_CLASS)
            },
            "per_class": {
                tag: {n: float(by_average[None][column][at]) for column, n in enumerate(PER_CLASS)}
                for at, tag in enumerate(self.tags)
            },
        }
