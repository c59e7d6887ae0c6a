"""Compares the predictions of a compressed model with its run's, and holds changes to limits.

Rounding a model's weights is harmless on one machine and one model, and ruins another: whether it
did is seen in the predictions alone. So both models predict the same texts, and changes are held
against limits: decisions and probabilities on all of them, and on labelled ones the scores, tag by
tag and slice by slice, where a change of few rows hides behind a mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tagger.compression.report import BeforeAfter, Changes, Quality, RowsBeforeAfter
from tagger.config.schema import CompressConfig
from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.decision.decider import Decisions
from tagger.decision.policies import NEEDS_REVIEW, REVIEW
from tagger.errors import UserError
from tagger.evaluation.calibration import adaptive_error
from tagger.evaluation.predictions import LabelledPredictions
from tagger.evaluation.slices import Slice, slice_mask
from tagger.scores import BoolArray, FloatArray, confusion_matrix, scores_from_confusion

FEWEST = 20
"""Fewest rows that scores are compared on: of a slice, and of rows not trained on."""

SHOWN = 5
"""Of the rows that changed most, in a message."""

ROUNDING = 1e-9


class ParityFailed(UserError):
    """A compressed model that changed more than is allowed."""


@dataclass(frozen=True)
class Answers:
    """Decisions of a run and of its compressed model on the same texts, each by its own rule.

    Attributes:
        name: Where the texts come from.
        items: The texts, n of them, at least one.
        before: Of the run, decided by its rule.
        after: Of the compressed model, decided by the rule that was fitted to it.
    """

    name: str
    items: list[Item]
    before: Decisions
    after: Decisions

    @property
    def shift(self) -> FloatArray:
        """Share of probability that went from one tag to another: total variation, (n,)."""
        moved: FloatArray = np.abs(self.after.probabilities - self.before.probabilities).sum(axis=1)
        return moved / 2

    @property
    def decided_otherwise(self) -> BoolArray:
        """Whether another tag is published, or a person asked who was not before, (n,)."""
        changed: BoolArray = self.before.tags != self.after.tags
        return changed

    @property
    def tag_changed(self) -> BoolArray:
        """Whether another tag is the most probable one, which `needs review` may hide, (n,)."""
        changed: BoolArray = self.before.predicted != self.after.predicted
        return changed

    @property
    def flipped(self) -> BoolArray:
        """Whether either of these changed, (n,)."""
        return self.decided_otherwise | self.tag_changed

    def take(self, mask: BoolArray) -> "Answers":
        """Return those about some of the texts, by a mask (n,)."""
        items = [self.items[index] for index in np.flatnonzero(mask)]
        before, after = (
            Decisions(one.raw[mask], one.probabilities[mask], one.tags[mask])
            for one in (self.before, self.after)
        )
        return Answers(self.name, items, before, after)


def describe_changes(answers: Answers) -> Changes:
    """Count what changed, which needs no labels."""
    return Changes(
        name=answers.name,
        rows=len(answers.items),
        decisions=int(answers.decided_otherwise.sum()),
        tags=int(answers.tag_changed.sum()),
        mean_shift=float(answers.shift.mean()),
        max_shift=float(answers.shift.max()),
    )


def describe_quality(
    answers: Answers, tags: Sequence[str], slices: Sequence[Slice], explanation: str
) -> Quality:
    """Score both models' corrected probabilities.

    Args:
        answers: On labelled items.
        tags: The approved tags.
        slices: Parts of the items; those without a row are left out.
        explanation: Which rows these are.
    """
    true = tag_positions(answers.items, tags)
    sides = {
        side: LabelledPredictions(answers.items, true, decided.probabilities, tags)
        for side, decided in (("before", answers.before), ("after", answers.after))
    }
    f1 = {
        side: scores_from_confusion(confusion_matrix(true, one.predicted, len(tags)))["f1"]
        for side, one in sides.items()
    }
    errors = {side: adaptive_error(one.confidence, ~one.wrong) for side, one in sides.items()}
    masks = {one.name: slice_mask(one, answers.items) for one in slices}
    return Quality(
        explanation=explanation,
        rows=len(true),
        ece_adaptive=BeforeAfter(**errors),
        f1={
            tag: RowsBeforeAfter(
                rows=int((true == place).sum()),
                **{side: float(f1[side][place]) for side in sides},
            )
            for place, tag in enumerate(tags)
        },
        slices={
            name: RowsBeforeAfter(
                rows=int(mask.sum()),
                **{side: float(1 - one.wrong[mask].mean()) for side, one in sides.items()},
            )
            for name, mask in masks.items()
            if mask.any()
        },
    )


def broken_limits(
    changes: Sequence[Changes], quality: Quality, mib: float, limits: CompressConfig
) -> list[str]:
    """Describe the limits that a compressed model breaks: a line each, with found and allowed.

    A limit below one row's share is broken by a single row; the line says so.

    Args:
        changes: Of each set of texts.
        quality: On the labelled ones.
        mib: Size of the compressed model.
        limits: What is allowed.
    """
    lines = []
    for texts in changes:
        share = max(texts.decisions, texts.tags) / texts.rows
        if share > limits.max_changed:
            lines.append(
                f"max_changed: {share:.2%} of {texts.name} ({texts.decisions} decisions and "
                f"{texts.tags} most probable tags of {texts.rows} rows), "
                f"allowed {limits.max_changed:.2%}{_one_row(texts.rows, limits.max_changed)}"
            )
        if texts.mean_shift > limits.max_shift + ROUNDING:
            lines.append(
                f"max_shift: on average {texts.mean_shift:.4f} of the probability of a row of "
                f"{texts.name} went to another tag, allowed {limits.max_shift:g}"
            )
    error = quality.ece_adaptive
    if error.after - error.before > limits.max_ece + ROUNDING:
        lines.append(
            f"max_ece: the calibration error rose by {error.after - error.before:.4f}, from "
            f"{error.before:.4f} to {error.after:.4f}, allowed {limits.max_ece:g}"
        )
    scored = [("max_class", f"F1 of {tag}", one) for tag, one in quality.f1.items()]
    scored += [
        ("max_slice", f"accuracy on the slice '{name}'", one)
        for name, one in quality.slices.items()
        if one.rows >= FEWEST
    ]
    for name, what, one in scored:
        limit = getattr(limits, name)
        if one.before - one.after > limit + ROUNDING:
            lines.append(
                f"{name}: {what} fell by {one.before - one.after:.4f}, from {one.before:.4f} to "
                f"{one.after:.4f}, allowed {limit:g}{_one_row(one.rows, limit)}"
            )
    if limits.max_mib is not None and mib > limits.max_mib:
        lines.append(f"max_mib: model/ has {mib:.1f} MiB, allowed {limits.max_mib:g}")
    return lines


def worst_rows(everything: Sequence[Answers], tags: Sequence[str]) -> list[str]:
    """Describe the rows that changed most, a line each: flipped ones first, by their shift."""
    ranked = [
        (bool(flipped), float(shift), answers, row)
        for answers in everything
        for row, (flipped, shift) in enumerate(zip(answers.flipped, answers.shift, strict=True))
        if flipped or shift > ROUNDING
    ]
    ranked.sort(key=lambda one: one[:2], reverse=True)
    lines = []
    for _, shift, answers, row in ranked[:SHOWN]:
        item = answers.items[row]
        before = int(answers.before.probabilities[row].argmax())
        true = "" if item.tag is None else f" (true: {item.tag})"
        lines.append(
            f"row {item.id} of {answers.name}{true}: "
            f"{_name(answers.before.tags[row], tags)} -> {_name(answers.after.tags[row], tags)}; "
            f"{tags[before]} {answers.before.probabilities[row, before]:.3f} -> "
            f"{answers.after.probabilities[row, before]:.3f}, shift {shift:.3f}: {item.text:.60}"
        )
    return lines


def flipped_table(everything: Sequence[Answers], tags: Sequence[str]) -> Iterator[list[str]]:
    """Yield the rows of `flipped.csv`, its header first: what flipped, with all probabilities."""
    yield [
        "texts", "id", "true", "before", "after",
        *(f"before {tag}" for tag in tags), *(f"after {tag}" for tag in tags),
    ]  # fmt: skip
    for answers in everything:
        for row in np.flatnonzero(answers.flipped):
            item = answers.items[row]
            numbers = [*answers.before.probabilities[row], *answers.after.probabilities[row]]
            decided = (answers.before.tags[row], answers.after.tags[row])
            yield [
                answers.name,
                item.id,
                item.tag or "",
                *(_name(tag, tags) for tag in decided),
                *(f"{number:.6f}" for number in numbers),
            ]


def _name(decided: int, tags: Sequence[str]) -> str:
    return NEEDS_REVIEW if decided == REVIEW else tags[int(decided)]


def _one_row(rows: int, limit: float) -> str:
    if not rows or 1 / rows <= limit:
        return ""
    return f" (a single one of {rows} rows is {1 / rows:.2%} and breaks it)"
