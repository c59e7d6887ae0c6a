"""Fits and applies policies that turn probabilities into a tag, or into `REVIEW`: ask a person.

`other` is a tag like any. `REVIEW` is not a tag: it says that the machine does not know.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from tagger.decision.calibrators import STORED, Number
from tagger.documents import Record
from tagger.scores import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from tagger.config.schema import DecisionConfig

REVIEW = -1
NEEDS_REVIEW = "needs review"
NEVER = 2.0
"""A threshold that no probability reaches."""

TIE = 1e-9
ROUNDING = 1e-9
START = 0.25
"""Share of the rows, the surest, with which a search begins."""

STEPS = 100
"""Most thresholds that are tried from there on."""


class DecisionCounts(Record):
    """What a policy does to labelled rows.

    Attributes:
        rows: Number of rows.
        published: How many of them get a tag.
        coverage: Their share.
        precision: Share of the published that is right; None where nothing is published.
        precision_low: One-sided lower end of the precision; None likewise.
    """

    rows: int
    published: int
    coverage: float
    precision: float | None
    precision_low: float | None


def most_probable(probabilities: FloatArray) -> IntArray:
    """Return the position of each row's predicted tag, (n,).

    Args:
        probabilities: (n, n_tags), corrected: the order that calibration gives tags is the one by
            which they are served, and by which a run is scored and compared.
    """
    highest: IntArray = probabilities.argmax(axis=1)
    return highest


@dataclass(frozen=True, config=STORED)
class Argmax:
    """Publish the most probable tag."""

    kind: Literal["argmax"] = "argmax"

    def decide(self, probabilities: FloatArray) -> IntArray:
        """Ask nobody."""
        return most_probable(probabilities)


@dataclass(frozen=True, config=STORED)
class Threshold:
    """Publish the most probable tag where its probability reaches that tag's threshold."""

    thresholds: list[Number]
    kind: Literal["threshold"] = "threshold"

    def decide(self, probabilities: FloatArray) -> IntArray:
        """Ask a person below the threshold of the most probable tag."""
        best = most_probable(probabilities)
        reached = probabilities.max(axis=1) >= np.asarray(self.thresholds)[best]
        return np.where(reached, best, REVIEW)


@dataclass(frozen=True, config=STORED)
class Conformal:
    """Publish the only tag of a set that holds the true tag with stated confidence.

    Attributes:
        least: For each tag the probability from which it is in the set.
    """

    least: list[Number]
    kind: Literal["conformal"] = "conformal"

    def sets(self, probabilities: FloatArray) -> BoolArray:
        """Say which tags are in each row's set, (n, n_tags)."""
        inside: BoolArray = probabilities >= np.asarray(self.least)
        return inside

    def decide(self, probabilities: FloatArray) -> IntArray:
        """Ask a person where the set has no tag or several."""
        sets = self.sets(probabilities)
        return np.where(sets.sum(axis=1) == 1, sets.argmax(axis=1), REVIEW)


Policy = Annotated[Argmax | Threshold | Conformal, Field(discriminator="kind")]
"""Its `decide` maps probabilities (n, n_tags) to positions of tags, or `REVIEW`, (n,)."""


def has_answer(probabilities: FloatArray) -> BoolArray:
    """Say for which rows a model has an answer, (n,): one tag is more probable than any other.

    Args:
        probabilities: As the model gave them, (n, n_tags): a correction may tell ties apart.
    """
    if probabilities.shape[1] < 2 or not len(probabilities):
        return np.ones(len(probabilities), dtype=np.bool_)
    top = np.partition(probabilities, -2, axis=1)
    ahead: BoolArray = top[:, -1] - top[:, -2] > TIE
    return ahead


def fit_policy(
    config: "DecisionConfig",
    probabilities: FloatArray,
    true: IntArray,
    sources: Sequence[str] = (),
) -> Policy:
    """Fit a policy to (corrected) predictions of rows that the model did not see.

    Args:
        config: Which policy, and what it must keep.
        probabilities: (n, n_tags).
        true: Position of each row's tag, (n,).
        sources: Name of the file that each row comes from, (n,); () where there is but one. A
            promise that is kept for every source is then the one for all rows.
    """
    if config.policy == "argmax":
        return Argmax()
    if config.policy == "conformal":
        return fit_conformal(probabilities, true, config.alpha)
    n_tags = probabilities.shape[1]
    best = most_probable(probabilities)
    if config.scope != "per_tag":
        least = least_threshold(
            probabilities.max(axis=1),
            best == true,
            config.target_precision,
            config.confidence,
            sources if config.scope == "per_source" else (),
        )
        return Threshold([least] * n_tags)
    # Every tag keeps the promise by itself, and all of them at once with the stated confidence.
    confidence = 1 - (1 - config.confidence) / n_tags
    thresholds = []
    for tag in range(n_tags):
        rows = best == tag
        thresholds.append(
            least_threshold(
                probabilities[rows, tag], true[rows] == tag, config.target_precision, confidence
            )
        )
    return Threshold(thresholds)


def least_threshold(
    scores: FloatArray,
    right: BoolArray,
    precision: float,
    confidence: float,
    sources: Sequence[str] = (),
) -> float:
    """Find a low threshold above which the precision is at least `precision`, with `confidence`.

    Learn then Test (Angelopoulos et al. 2021) with fixed-sequence testing: thresholds are tried
    from strict to lenient, and the search stops at the first at which the exact binomial test does
    not reject that the promise is broken. The order is set by numbers of rows, not by whether they
    are right, so the chance that the threshold breaks the promise is at most 1 - `confidence`.

    The path begins at the surest quarter of the rows: among fewer, a few wrong labels end it at
    once, and a model that is less sure would not get past a later start. From there it leads over
    the numbers of rows at which the test allows one more error. Between two of them no more errors
    are allowed while there are more rows to err on, so a test there would end the path by chance.

    With several sources, the promise is kept for every one of them at once. What is tested at a
    threshold is then that *some* source breaks it, and that is rejected where the test of every
    source rejects (intersection-union test: Berger 1982). Where it is true, some source breaks the
    promise, and its own test rejects with a chance of at most 1 - `confidence`; the others can only
    make that rarer. So no risk is divided among sources, and the threshold is the highest of those
    at which each of them would stop by itself on this path. It begins where the surest quarter of
    every source is published, and has the numbers of rows of all of them. To search each source on
    a path of its own and take the highest would prove less, because what is stricter than the end
    of a path need not lie on it.

    Args:
        scores: (n,), higher is surer.
        right: (n,), whether the decision is right.
        precision: What is promised of rows at or above the threshold.
        confidence: How sure the promise is.
        sources: Which source each row is from, (n,), if it is promised of each; () for one.

    Returns:
        The threshold; `NEVER` where the search does not get past its start.
    """
    if not len(scores):
        return NEVER
    names = np.asarray(sources) if len(sources) else np.zeros(len(scores))
    groups = [(scores[names == name], right[names == name]) for name in np.unique(names)]
    start, places = NEVER, [scores.min()]
    for own, _ in groups:
        ordered = np.sort(own)[::-1]
        needed = rows_needed(len(own), precision, confidence)
        if not len(needed):
            return NEVER
        # Every source has at least so many rows at the first threshold that is tested.
        start = min(start, ordered[max(needed[0], round(START * len(own))) - 1])
        places += ordered[needed - 1].tolist()
    path = np.unique(places)[::-1]
    path = path[path <= start]
    found = NEVER
    for step in np.unique(np.linspace(0, len(path) - 1, STEPS).round().astype(int)):
        for own, own_right in groups:
            chosen = own >= path[step]
            errors = int((~own_right[chosen]).sum())
            if p_value_of_precision(errors, int(chosen.sum()), precision) > 1 - confidence:
                return found
        found = float(path[step])
    return found


def rows_needed(most: int, precision: float, confidence: float) -> IntArray:
    """Return how many rows it takes to promise `precision` despite no error, one, two, and so on.

    Args:
        most: What takes more rows is left out.
        precision: Of the promise.
        confidence: Of the promise.
    """
    # Not scipy.stats: its functions take a hundred times as long. Here, since deciding needs none.
    from scipy.special import bdtrin

    errors = np.arange(math.ceil(most * (1 - precision)) + 1)
    needed = np.ceil(bdtrin(errors, 1 - confidence, 1 - precision) - ROUNDING)
    within: IntArray = needed[needed <= most].astype(np.int64)
    return within


def fit_conformal(probabilities: FloatArray, true: IntArray, error: float) -> Conformal:
    """Fit class-conditional conformal sets (Vovk 2012; Sadinle, Lei & Wasserman 2019).

    For each tag, the probability that all but a share `error` of its rows reach, with the
    correction for a finite sample: of new items of that tag, the set misses at most that share on
    average. A tag with too few rows is in every set. Own code, because it is one quantile a tag;
    the maintained libraries wrap estimators of scikit-learn, which ours are not.
    """
    least = []
    for tag in range(probabilities.shape[1]):
        scores = np.sort(probabilities[true == tag, tag])
        allowed = math.floor(error * (len(scores) + 1))
        least.append(float(scores[allowed - 1]) if allowed >= 1 else 0.0)
    return Conformal(least)


def count_decisions(decided: IntArray, true: IntArray, confidence: float) -> DecisionCounts:
    """Count what is published and how much of it is right.

    Args:
        decided: Positions of tags, or `REVIEW`, (n,), n >= 1.
        true: Position of each row's tag, (n,).
        confidence: Of the lower end.
    """
    published = decided != REVIEW
    right = int((decided[published] == true[published]).sum())
    count = int(published.sum())
    return DecisionCounts(
        rows=len(true),
        published=count,
        coverage=count / len(true),
        precision=right / count if count else None,
        precision_low=clopper_pearson_lower(right, count, confidence) if count else None,
    )


def clopper_pearson_lower(successes: int, trials: int, confidence: float) -> float:
    """Return the lower end of the one-sided exact interval of a proportion.

    Clopper & Pearson (Biometrika 1934): whatever the true proportion is, the end lies above it in
    at most a share of 1 - `confidence` of all samples.

    Args:
        successes: From 0 to `trials`.
        trials: Without a trial the end is 0.
        confidence: Between 0 and 1.
    """
    from scipy.special import betaincinv

    if successes == 0:
        return 0.0
    return float(betaincinv(successes, trials - successes + 1, 1 - confidence))


def p_value_of_precision(errors: int, published: int, precision: float) -> float:
    """Return the chance of so few errors, or fewer, if the precision were only `precision`.

    The p-value of the hypothesis that the promise is not kept; a small one rejects it.
    """
    from scipy.special import bdtr

    return float(bdtr(errors, published, 1 - precision)) if published else 1.0
