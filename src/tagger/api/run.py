"""A finished run that predicts, decides and embeds in Python."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tagger.api.texts import Texts, TextTable, read_texts
from tagger.data.columns import TableFormat
from tagger.data.validation import describe_blank
from tagger.decision.decider import Decisions, load_decider
from tagger.decision.policies import NEEDS_REVIEW, REVIEW
from tagger.errors import UserError
from tagger.models.base import embedder_of
from tagger.runs import RunFolder, open_run
from tagger.scores import FloatArray


@dataclass(frozen=True)
class Decision:
    """What is decided on a text, as `tagger predict` writes it.

    Attributes:
        decision: The tag that is published, or `needs review`.
        tag: The most probable one; "" for a text that is blank.
        probability: Its calibrated probability; NaN for a text that is blank.
        reason: Why a person is asked; "" where none is.
    """

    decision: str | Literal["needs review"]
    tag: str
    probability: float
    reason: str


class Run:
    """A finished run: what `tagger predict` answers, in memory.

    It may be used from several threads. It is pickled as its path, so a process that it is sent to
    loads it anew.

    Args:
        folder: The run's.

    Attributes:
        path: The run's folder, absolute.
        classes_: The approved tags, in the order of the probabilities' columns.

    Raises:
        UserError: when a file of the run is missing or damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path.absolute()
        self._decider = load_decider(folder.path, folder.load_classifier())
        self._how = TableFormat(known=folder.columns)
        self.classes_: NDArray[np.str_] = np.array(self._decider.tags)

    def predict(self, texts: Texts) -> NDArray[np.str_]:
        """Return the most probable tag of each text, (n,), whether it would be published or not."""
        tags: NDArray[np.str_] = self.classes_[self._decide(self._read(texts)).predicted]
        return tags

    def predict_proba(self, texts: Texts) -> FloatArray:
        """Return calibrated probabilities, (n, n_tags); those of a blank text are the model's."""
        return self._decide(self._read(texts)).probabilities

    def decide(self, texts: Texts) -> list[Decision]:
        """Publish a tag or ask a person, for each text; `pandas.DataFrame` makes a table of it."""
        table = self._read(texts)
        decisions, blank = self._decide(table), f"no text: {describe_blank(table.columns)}"
        tags = self._decider.tags
        return [
            Decision(
                NEEDS_REVIEW if decided == REVIEW else tags[int(decided)],
                tags[int(best)],
                float(probabilities[best]),
                reason,
            )
            if item.text
            else Decision(NEEDS_REVIEW, "", float("nan"), blank)
            for item, decided, best, probabilities, reason in zip(
                table.items,
                decisions.tags,
                decisions.predicted,
                decisions.probabilities,
                decisions.reasons,
                strict=True,
            )
        ]

    def embed(self, texts: Texts) -> FloatArray:
        """Return the vectors that the run's encoder makes of texts, (n, width).

        Raises:
            UserError: when the run has no encoder.
        """
        embedder = embedder_of(self._decider.classifier)
        if embedder is None:
            raise UserError(
                f"{self.path}: this run gives no vectors",
                hint="Fine-tuned and frozen ones do; of one that an earlier version compressed, "
                "export the original again.",
            )
        return embedder.embed(self._read(texts).items)

    def __repr__(self) -> str:
        return f"tagger.load({str(self.path)!r})"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return load, (str(self.path),)

    def _read(self, texts: Texts) -> TextTable:
        return read_texts(texts, self._how)

    def _decide(self, table: TextTable) -> Decisions:
        return self._decider.decide(table.items)


def load(run: str | Path, runs_dir: str | Path = "runs") -> Run:
    """Load a finished run, whole or compressed.

    Args:
        run: Its folder, or its name below `runs_dir`.
        runs_dir: Where runs lie.

    Raises:
        UserError: when it is missing, unfinished or damaged.
    """
    return Run(open_run(str(run), str(runs_dir)))
