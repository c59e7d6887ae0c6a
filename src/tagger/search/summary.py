"""The results of a sweep as typed documents: `summary.json`, and a record for each trial."""

from typing import ClassVar

from pydantic import JsonValue

from tagger.documents import Document, Record
from tagger.environment import Environment


class Score(Record):
    """A trial's score by one objective.

    Attributes:
        mean: Over the folds that it was judged on.
        error: Standard error of that mean over folds; 0 where it is measured once.
    """

    mean: float
    error: float


class TrialResult(Record):
    """The outcome of one trial.

    Attributes:
        number: In the order in which trials began.
        state: `complete`, `stopped early`, `failed` or `running`.
        origin: `default`, a run or file that was enqueued, `grid`, or `sampler`.
        scores: By objective; without those that were not measured.
        folds: How many it was judged on.
        model_seconds: Of training and prediction, without folds that it took over.
        wall_seconds: From its start to its end; None while it runs.
        chosen: By dotted key, the value of each parameter that applied.
        worker: Who ran it.
        error: Why it failed.
    """

    number: int
    state: str
    origin: str
    scores: dict[str, Score]
    folds: int
    model_seconds: float
    wall_seconds: float | None
    chosen: dict[str, JsonValue]
    worker: str | None
    error: str | None

    def mean(self, metric: str) -> float:
        """Return the mean score by a metric that was measured."""
        return self.scores[metric].mean


class Confirmation(Record):
    """The winner's lead over the default on seeds that had no part in the search.

    Attributes:
        metric: What trials were ranked by.
        seeds: How many fresh divisions.
        searched: Mean score by candidate, as the search saw it.
        confirmed: Mean score by candidate, on the fresh seeds.
        gain: The winner's confirmed score minus the default's, of pooled predictions.
        low: Lower end of its 95 % interval over items.
        high: Upper end.
        luck: How much worse the winner is on seeds that are new to it: the search's optimism.
        proven: Whether the winner is better than the default beyond the chance draw of items.
    """

    metric: str
    seeds: int
    searched: dict[str, float]
    confirmed: dict[str, float]
    gain: float
    low: float
    high: float
    luck: float
    proven: bool


class SweepSummary(Document):
    """The outcome of a sweep: the content of `summary.json`.

    Attributes:
        sweep: Its name.
        space: The name of what it searched.
        objectives: Metrics; trials are ranked by the first.
        best: The winner's number.
        default: The number of the config that the search started from, if it was judged.
        front: Numbers of the trials of a Pareto front; empty with one objective.
        states: How many trials are in each state.
        hours: In which a trial was worked at.
        overhead: The share of the trials' time that was neither training nor prediction.
        importances: The share of the score's variation that each parameter explains.
        confirmation: None where the winner was not confirmed.
        chosen: By dotted key, what the winner chose.
        environment: Versions, hardware, git revision.
        paragraph: All of it in a few sentences.
    """

    WRITTEN_BY: ClassVar[str] = "python optimize.py, with the settings of config.yaml beside it"

    sweep: str
    space: str
    objectives: list[str]
    best: int
    default: int | None
    front: list[int]
    states: dict[str, int]
    hours: float
    overhead: float | None
    importances: dict[str, float]
    confirmation: Confirmation | None
    chosen: dict[str, JsonValue]
    environment: Environment
    paragraph: str
