"""Everything between an item and a decision: the model, its correction, the policy, novelty.

`decision.json` in the run folder holds what was fitted. Without it, and for runs that had no rows
to fit on, the most probable tag is published.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagger.config.schema import DecisionConfig
from tagger.data.items import Item
from tagger.decision.calibrators import (
    Calibrator,
    Unchanged,
    calibrator_from_json,
    calibrator_to_json,
    fit_calibrator,
)
from tagger.decision.novelty import Embeds, Novelty
from tagger.decision.policies import (
    REVIEW,
    Argmax,
    Policy,
    describe_policy,
    fit_policy,
    has_answer,
    most_probable,
    policy_from_json,
    policy_to_json,
)
from tagger.errors import UserError
from tagger.files import write_json
from tagger.models.base import Classifier
from tagger.output import shell_command
from tagger.runs import read_calibration
from tagger.scores import BoolArray, FloatArray, IntArray

FILE, NOVELTY_FILE = "decision.json", "novelty.safetensors"

UNSURE = "not sure enough"
STRANGE = "unlike what was trained on"
NO_ANSWER = "the model has no answer"


@dataclass(frozen=True)
class CalibrationRows:
    """Predictions of labelled rows by models that did not see them.

    Attributes:
        probabilities: (n, n_tags), as the model gave them.
        true: Position of each row's tag, (n,).
        novelty: How strange each row was to the model that predicted it, (n,); None where that was
            not asked for.
        source: Where they come from, in words.
    """

    probabilities: FloatArray
    true: IntArray
    novelty: FloatArray | None
    source: str


@dataclass(frozen=True)
class Decisions:
    """What became of some items.

    Attributes:
        raw: Probabilities as the model gave them, (n, n_tags).
        probabilities: Corrected, (n, n_tags).
        tags: Position of the tag that is published, or `REVIEW`, (n,).
        strange: Whether an item is sent to a person because it is novel, (n,); None where novelty
            was not asked for.
    """

    raw: FloatArray
    probabilities: FloatArray
    tags: IntArray
    strange: BoolArray | None = None

    @property
    def reasons(self) -> list[str]:
        """Why each item needs review; "" for those that do not."""
        strange = np.zeros(len(self.tags), np.bool_) if self.strange is None else self.strange
        answered = has_answer(self.raw)
        return [
            "" if tag != REVIEW else STRANGE if novel else UNSURE if has else NO_ANSWER
            for tag, novel, has in zip(self.tags, strange, answered, strict=True)
        ]

    @property
    def predicted(self) -> IntArray:
        """Position of the predicted tag, whether it is published or not, (n,)."""
        return most_probable(self.probabilities)


@dataclass(frozen=True)
class Rule:
    """What was fitted: how probabilities are corrected, and when a tag is published.

    Attributes:
        calibrator: Corrects probabilities.
        policy: Decides on corrected probabilities.
        novelty_limit: Items stranger than this are sent to a person; None asks for no novelty.
    """

    calibrator: Calibrator
    policy: Policy
    novelty_limit: float | None

    def predict(self, probabilities: FloatArray) -> IntArray:
        """Return the predicted tags (n,) of probabilities as the model gave them (n, n_tags)."""
        return most_probable(self.calibrator.apply(probabilities))

    def apply(self, probabilities: FloatArray, novelty: FloatArray | None) -> Decisions:
        """Decide on rows: probabilities as the model gave them (n, n_tags), novelty (n,)."""
        corrected = self.calibrator.apply(probabilities)
        decided = np.where(has_answer(probabilities), self.policy.decide(corrected), REVIEW)
        if self.novelty_limit is None:
            return Decisions(probabilities, corrected, decided)
        assert novelty is not None
        strange = novelty > self.novelty_limit
        return Decisions(probabilities, corrected, np.where(strange, REVIEW, decided), strange)


PLAIN = Rule(Unchanged(), Argmax(), None)
"""Probabilities as they are, and the most probable tag."""


def fit_rule(config: DecisionConfig, rows: CalibrationRows) -> Rule:
    """Fit the correction, then the limit of novelty, then the policy.

    The limit is the `novelty_quantile` of the rows' own scores. The policy is fitted to the rows
    within it for which the model has an answer, because only such rows reach it later.
    """
    if not len(rows.true):
        return PLAIN
    calibrator = fit_calibrator(config.calibration, rows.probabilities, rows.true.tolist())
    corrected = calibrator.apply(rows.probabilities)
    limit = None
    reached = has_answer(rows.probabilities)
    if config.ood != "none":
        assert rows.novelty is not None
        limit = float(np.quantile(rows.novelty, config.ood_quantile))
        reached &= rows.novelty <= limit
    return Rule(calibrator, fit_policy(config, corrected[reached], rows.true[reached]), limit)


class Decider:
    """A classifier with the rule that was fitted for it."""

    def __init__(self, classifier: Classifier, rule: Rule, novelty: Novelty | None) -> None:
        self.classifier = classifier
        self.rule = rule
        self.novelty = novelty
        self.tags = classifier.tags

    def decide(self, items: Sequence[Item]) -> Decisions:
        """Predict and decide."""
        if self.novelty is None:
            return self.rule.apply(self.classifier.predict_proba(items), None)
        assert isinstance(self.classifier, Embeds)
        vectors = self.classifier.embed(items)
        return self.rule.apply(
            self.classifier.predict_from_vectors(vectors), self.novelty.score(vectors)
        )


def save_rule(
    folder: Path, config: DecisionConfig, rule: Rule, rows: CalibrationRows | None
) -> dict[str, Any] | None:
    """Write `decision.json`: what was asked for, what was fitted, and on what.

    Returns:
        What the rule does to the rows that it was fitted to; None without such rows.
    """
    promise = None
    if rows is not None and len(rows.true):
        decided = rule.apply(rows.probabilities, rows.novelty)
        promise = describe_policy(decided.tags, rows.true, config.confidence)
    write_json(
        folder / FILE,
        {
            "asked": config.model_dump(),
            "calibrator": calibrator_to_json(rule.calibrator),
            "policy": policy_to_json(rule.policy),
            "novelty_limit": rule.novelty_limit,
            "fitted_on": None if rows is None else {"rows": len(rows.true), "source": rows.source},
            "on_these_rows": promise,
        },
    )
    return promise


def load_rule(folder: Path, n_tags: int) -> Rule:
    """Read a run's rule.

    Raises:
        UserError: when `decision.json` is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return PLAIN
    try:
        text = path.read_text(encoding="utf-8")
        values: dict[str, Any] = json.loads(text, parse_constant=_refuse_constant)
        rule = Rule(
            calibrator_from_json(values["calibrator"]),
            policy_from_json(values["policy"]),
            values["novelty_limit"],
        )
        if not isinstance(rule.novelty_limit, float | None):
            raise ValueError(f"novelty_limit is {rule.novelty_limit!r}")
        for part in (rule.calibrator, rule.policy):
            for name, numbers in vars(part).items():
                if isinstance(numbers, list) and len(numbers) != n_tags:
                    raise ValueError(f"{name} is about {len(numbers)} tags, there are {n_tags}")
        with np.errstate(all="ignore"):
            tried = rule.calibrator.apply(np.full((1, n_tags), 1 / n_tags))
        if not np.isfinite(tried).all():
            raise ValueError("the calibrator makes no probabilities of probabilities")
        return rule
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is damaged: {type(error).__name__} {reason}",
            hint=f"Make it again: {shell_command('tagger', 'decide', '--run', str(folder))}",
        ) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number to decide by")


def load_decider(folder: Path, classifier: Classifier) -> Decider:
    """Put a run's classifier and its rule together.

    Raises:
        UserError: when a file that they need is missing or damaged.
    """
    return _with_novelty(folder, classifier, load_rule(folder, len(classifier.tags)))


def refit_rule(
    folder: Path, tags: Sequence[str], config: DecisionConfig
) -> tuple[Rule, CalibrationRows]:
    """Fit another rule to a run's calibration rows, without training; return it and the rows.

    Raises:
        UserError: when the run has no such rows, or lacks the novelty that is asked for.
    """
    probabilities, true, novelty = read_calibration(folder / "calibration.csv", tags)
    if not len(true):
        raise UserError(
            f"{folder}/calibration.csv has no rows: there is nothing to fit a decision to",
            hint="Train with decision.folds=5, or with data.split.validation above 0.",
        )
    if config.ood != "none":
        file = folder / NOVELTY_FILE
        kind = Novelty.load(file).kind if novelty is not None else "none"
        if kind != config.ood:
            raise UserError(
                f"{folder} was trained with decision.ood={kind}, not {config.ood}",
                hint="Train again with the novelty that you want.",
            )
    source = f"{len(true)} rows of calibration.csv"
    rows = CalibrationRows(probabilities, true, novelty, source)
    return fit_rule(config, rows), rows


def refit_decider(folder: Path, classifier: Classifier, config: DecisionConfig) -> Decider:
    """Put a run's classifier and a rule that is fitted anew together."""
    rule, _ = refit_rule(folder, classifier.tags, config)
    return _with_novelty(folder, classifier, rule)


def _with_novelty(folder: Path, classifier: Classifier, rule: Rule) -> Decider:
    novelty = None if rule.novelty_limit is None else Novelty.load(folder / NOVELTY_FILE)
    return Decider(classifier, rule, novelty)
