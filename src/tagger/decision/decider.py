"""Decides on items by the model, its calibrator, the policy, and the out-of-distribution limit.

`decision.json` in the run folder holds what was fitted. Without it, and for runs that had no rows
to fit on, the most probable tag is published.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tagger.data.items import Item
from tagger.decision.calibrators import Calibrator, Number, Unchanged, fit_calibrator
from tagger.decision.ood import OOD_FILE, OodDetector, fit_detector
from tagger.decision.policies import (
    REVIEW,
    Argmax,
    DecisionCounts,
    Policy,
    count_decisions,
    fit_policy,
    has_answer,
    most_probable,
)
from tagger.documents import Document, Record
from tagger.errors import UserError
from tagger.files import sha256_of
from tagger.models.base import Classifier, embedder_of
from tagger.output import shell_command
from tagger.runs import read_calibration, read_row_sources, write_calibration
from tagger.scores import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from tagger.config.schema import DecisionConfig

FILE = "decision.json"

UNSURE = "not sure enough"
UNFAMILIAR = "unlike what was trained on"
NO_ANSWER = "the model has no answer"


@dataclass(frozen=True)
class CalibrationSet:
    """Predictions of labelled rows by models that did not see them; decisions are fitted to it.

    Attributes:
        probabilities: (n, n_tags), as the model gave them.
        true: Position of each row's tag, (n,).
        ood_scores: Of each row, by the model that predicted it, (n,); None where not asked for.
        source: Where the rows come from, in words.
        row_sources: Name of the file that each row comes from, (n,); empty, or "" for every row,
            where there is but one.
    """

    probabilities: FloatArray
    true: IntArray
    ood_scores: FloatArray | None
    source: str
    row_sources: Sequence[str] = ()

    @property
    def described(self) -> str:
        """Where the rows come from, in words, with the share of each file if there are several."""
        counts = Counter(self.row_sources)
        if len(counts) < 2:
            return self.source
        shares = (f"{name} {count / len(self.true):.1%}" for name, count in counts.items())
        return f"{self.source}: {', '.join(shares)}"


@dataclass(frozen=True)
class Decisions:
    """The decisions on some items.

    Attributes:
        raw: Probabilities as the model gave them, (n, n_tags).
        probabilities: Calibrated, (n, n_tags).
        tags: Position of the tag that is published, or `REVIEW`, (n,).
        out_of_distribution: Whether an item is sent to a person because of its OOD score, (n,);
            None where no such score was asked for.
        ood_scores: OOD score of each item, (n,); None likewise.
        vectors: Of the classifier's encoder, (n, width); None where it has none.
    """

    raw: FloatArray
    probabilities: FloatArray
    tags: IntArray
    out_of_distribution: BoolArray | None = None
    ood_scores: FloatArray | None = None
    vectors: FloatArray | None = None

    @property
    def reasons(self) -> list[str]:
        """Why each item needs review; "" for those that do not."""
        unfamiliar = self.out_of_distribution
        if unfamiliar is None:
            unfamiliar = np.zeros(len(self.tags), np.bool_)
        answered = has_answer(self.raw)
        return [
            "" if tag != REVIEW else UNFAMILIAR if far else UNSURE if has else NO_ANSWER
            for tag, far, has in zip(self.tags, unfamiliar, answered, strict=True)
        ]

    @property
    def predicted(self) -> IntArray:
        """Position of the predicted tag, whether it is published or not, (n,)."""
        return most_probable(self.probabilities)


@dataclass(frozen=True)
class Rule:
    """What was fitted: how probabilities are calibrated, and when a tag is published.

    Attributes:
        calibrator: Calibrates probabilities.
        policy: Decides on calibrated probabilities.
        ood_threshold: Items with a higher OOD score are sent to a person; None asks for no score.
    """

    calibrator: Calibrator
    policy: Policy
    ood_threshold: float | None

    def predict(self, probabilities: FloatArray) -> IntArray:
        """Return the predicted tags (n,) of probabilities as the model gave them (n, n_tags)."""
        return most_probable(self.calibrator.apply(probabilities))

    def apply(self, probabilities: FloatArray, ood_scores: FloatArray | None) -> Decisions:
        """Decide on rows: probabilities as the model gave them (n, n_tags), OOD scores (n,)."""
        calibrated = self.calibrator.apply(probabilities)
        decided = np.where(has_answer(probabilities), self.policy.decide(calibrated), REVIEW)
        if self.ood_threshold is None:
            return Decisions(probabilities, calibrated, decided)
        assert ood_scores is not None
        unfamiliar = ood_scores > self.ood_threshold
        decided = np.where(unfamiliar, REVIEW, decided)
        return Decisions(probabilities, calibrated, decided, unfamiliar, ood_scores)


PLAIN = Rule(Unchanged(), Argmax(), None)
"""Probabilities as they are, and the most probable tag."""


class FittedOn(Record):
    """The rows that a rule was fitted to: how many, and where they come from, in words."""

    rows: int
    source: str


class DecisionDocument(Document):
    """The content of `decision.json`.

    Attributes:
        asked: The `decision` section of the config, as last given; it takes no part in deciding.
        calibrator: Calibrates probabilities.
        policy: Decides on calibrated probabilities.
        ood_threshold: See `Rule`.
        fitted_on: The rows that were fitted to; null where there were none to read.
        on_these_rows: What the rule does to them; null without rows.
    """

    asked: Any = None
    calibrator: Calibrator
    policy: Policy
    ood_threshold: Number | None
    fitted_on: FittedOn | None = None
    on_these_rows: DecisionCounts | None = None

    @classmethod
    def upgrade(cls, plain: dict[str, Any]) -> dict[str, Any]:
        """Give the limit of the OOD score its name of today; see also `change.asked_last`."""
        return plain | {"ood_threshold": plain.pop("novelty_limit")}


def fit_rule(config: "DecisionConfig", rows: CalibrationSet) -> Rule:
    """Fit the calibrator, then the threshold of the OOD score, then the policy.

    The threshold is the `ood_quantile` of the rows' own scores. The policy is fitted to the rows
    within it for which the model has an answer, because only such rows reach it later.
    """
    if not len(rows.true):
        return PLAIN
    calibrator = fit_calibrator(config.calibration, rows.probabilities, rows.true.tolist())
    calibrated = calibrator.apply(rows.probabilities)
    threshold = None
    reached = has_answer(rows.probabilities)
    if config.ood != "none":
        assert rows.ood_scores is not None
        threshold = float(np.quantile(rows.ood_scores, config.ood_quantile))
        reached &= rows.ood_scores <= threshold
    sources = list(compress(rows.row_sources, reached))
    policy = fit_policy(config, calibrated[reached], rows.true[reached], sources)
    return Rule(calibrator, policy, threshold)


class Decider:
    """A classifier with the rule that was fitted for it."""

    def __init__(self, classifier: Classifier, rule: Rule, detector: OodDetector | None) -> None:
        self.classifier = classifier
        self.rule = rule
        self.detector = detector
        self.tags = classifier.tags
        self.embedder = embedder_of(classifier)  # which takes a tenth of the time of a small model

    def decide(self, items: Sequence[Item]) -> Decisions:
        """Predict and decide."""
        if self.embedder is None:
            return self.rule.apply(self.classifier.predict_proba(items), None)
        probabilities, vectors = self.embedder.predict_and_embed(items)
        scores = None if self.detector is None else self.detector.score(vectors)
        return replace(self.rule.apply(probabilities, scores), vectors=vectors)


def decision_hash(folder: Path) -> str:
    """Return the SHA-256 of a run folder's `decision.json`; "" where there is none."""
    path = folder / FILE
    return sha256_of(path) if path.exists() else ""


def write_decision(
    folder: Path,
    config: "DecisionConfig",
    classifier: Classifier,
    *,
    known: Sequence[Item],
    items: Sequence[Item],
    rows: CalibrationSet,
) -> Rule:
    """Fit a run's decision; write `calibration.csv`, `decision.json` and `ood.safetensors`.

    Args:
        folder: The run folder.
        config: How to decide.
        classifier: The run's own.
        known: What it was trained on.
        items: Of the calibration set.
        rows: Their predictions.

    Returns:
        What was fitted.
    """
    path = folder / "calibration.csv"
    write_calibration(path, items, classifier.tags, rows.probabilities, rows.ood_scores)
    if config.ood != "none":
        fit_detector(classifier, known).save(folder / OOD_FILE)
    rule = fit_rule(config, rows)
    save_rule(folder, config, rule, rows)
    return rule


def save_rule(
    folder: Path, config: "DecisionConfig", rule: Rule, rows: CalibrationSet | None
) -> DecisionCounts | None:
    """Write `decision.json`: what was asked for, what was fitted, and on what.

    Returns:
        What the rule does to the rows that it was fitted to; None without such rows.
    """
    counts = None
    if rows is not None and len(rows.true):
        decided = rule.apply(rows.probabilities, rows.ood_scores)
        counts = count_decisions(decided.tags, rows.true, config.confidence)
    DecisionDocument(
        asked=config.model_dump(),
        calibrator=rule.calibrator,
        policy=rule.policy,
        ood_threshold=rule.ood_threshold,
        fitted_on=None if rows is None else FittedOn(rows=len(rows.true), source=rows.described),
        on_these_rows=counts,
    ).write(folder / FILE)
    return counts


def load_rule(folder: Path, n_tags: int) -> Rule:
    """Read a run's rule.

    Raises:
        UserError: when `decision.json` is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return PLAIN
    try:
        stored = DecisionDocument.read(path)
        rule = Rule(stored.calibrator, stored.policy, stored.ood_threshold)
        for name, numbers in (vars(rule.calibrator) | vars(rule.policy)).items():
            if isinstance(numbers, list) and len(numbers) != n_tags:
                raise ValueError(f"{name} is about {len(numbers)} tags, there are {n_tags}")
        return rule
    except (UserError, ValueError) as error:
        reason = error.summary if isinstance(error, UserError) else str(error)
        raise UserError(
            f"{path} is damaged: {reason}",
            hint=f"Make it again: {shell_command('tagger', 'decide', '--run', str(folder))}",
        ) from None


def load_decider(folder: Path, classifier: Classifier, rule: Rule | None = None) -> Decider:
    """Put a run's classifier and its rule together, or another rule.

    Raises:
        UserError: when a file that they need is missing or damaged.
    """
    rule = rule or load_rule(folder, len(classifier.tags))
    detector = None if rule.ood_threshold is None else OodDetector.load(folder / OOD_FILE)
    return Decider(classifier, rule, detector)


def refit_rule(
    folder: Path, tags: Sequence[str], config: "DecisionConfig"
) -> tuple[Rule, CalibrationSet]:
    """Fit another rule to a run's calibration set, without training; return it and the set.

    Raises:
        UserError: when the run has no such rows, or lacks the OOD scores that are asked for.
    """
    probabilities, true, ood_scores = read_calibration(folder / "calibration.csv", tags)
    if not len(true):
        raise UserError(
            f"{folder}/calibration.csv has no rows: there is nothing to fit a decision to",
            hint="Train with decision.folds=5, or with data.split.validation above 0.",
        )
    if config.ood != "none":
        if ood_scores is None:
            raise UserError(
                f"{folder} was trained with decision.ood=none, not {config.ood}",
                hint="Train again with the decision.ood that you want.",
            )
        OodDetector.load(folder / OOD_FILE)  # lest a rule be written that cannot be used
    source = f"{len(true)} rows of calibration.csv"
    row_sources = read_row_sources(folder / "calibration.csv", tags)
    rows = CalibrationSet(probabilities, true, ood_scores, source, row_sources)
    return fit_rule(config, rows), rows


def refit_decider(folder: Path, classifier: Classifier, config: "DecisionConfig") -> Decider:
    """Put a run's classifier and a rule that is fitted anew together."""
    rule, _ = refit_rule(folder, classifier.tags, config)
    return load_decider(folder, classifier, rule)
