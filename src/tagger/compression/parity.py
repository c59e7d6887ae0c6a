"""Whether a compressed model still says what its run says: the gate before it becomes a run.

Rounding a model's weights is harmless on one machine and one model, and ruins another: whether it
did is seen in the answers alone. So both models answer the same texts, and what changed is held
against limits: decisions and probabilities on all of them, and on labelled ones what the answers
are worth, tag by tag and slice by slice, where a change of few rows hides behind a mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.config.schema import CompressConfig
from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.decision.decider import Decisions
from tagger.decision.policies import NEEDS_REVIEW, REVIEW, most_probable
from tagger.errors import UserError
from tagger.evaluation.calibration import adaptive_error
from tagger.evaluation.slices import Slice, slice_mask
from tagger.scores import BoolArray, FloatArray, compute_scores

FEWEST = 20
"""Rows that say something: of a slice, and of those that no model has seen."""

SHOWN = 5
"""Of the rows that changed most, in a message."""

ROUNDING = 1e-9


class ParityFailed(UserError):
    """A compressed model that changed more than is allowed."""


@dataclass(frozen=True)
class Answers:
    """What a run and its compressed model say of the same texts, each by its own rule.

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
        return Answers(self.name, items, _take(self.before, mask), _take(self.after, mask))


def describe_changes(answers: Answers) -> dict[str, Any]:
    """Count what changed, which needs no labels.

    Returns:
        Ready for JSON: `name`; `rows`; how many `decisions` and most probable `tags` changed;
        `mean_shift` and `max_shift` of probability.
    """
    return {
        "name": answers.name,
        "rows": len(answers.items),
        "decisions": int(answers.decided_otherwise.sum()),
        "tags": int(answers.tag_changed.sum()),
        "mean_shift": float(answers.shift.mean()),
        "max_shift": float(answers.shift.max()),
    }


def describe_quality(
    answers: Answers, tags: Sequence[str], slices: Sequence[Slice]
) -> dict[str, Any]:
    """Compare what both models' answers are worth, of corrected probabilities.

    Args:
        answers: About labelled items.
        tags: The approved tags.
        slices: Parts of the items; those without a row are left out.

    Returns:
        Ready for JSON: `rows`; `ece_adaptive`; `f1` by tag, and accuracy of `slices` by name, each
        with the `rows` that it is of; all of them with `before` and `after`.
    """
    true = tag_positions(answers.items, tags)
    sides = {"before": answers.before.probabilities, "after": answers.after.probabilities}
    right = {side: most_probable(values) == true for side, values in sides.items()}
    scores = {
        side: compute_scores(true, most_probable(values), tags).per_class
        for side, values in sides.items()
    }
    masks = {one.name: slice_mask(one, answers.items) for one in slices}
    return {
        "rows": len(true),
        "ece_adaptive": {
            side: adaptive_error(values.max(axis=1), right[side]) for side, values in sides.items()
        },
        "f1": {
            tag: {"rows": int((true == place).sum())}
            | {side: scores[side][tag]["f1"] for side in sides}
            for place, tag in enumerate(tags)
        },
        "slices": {
            name: {"rows": int(mask.sum())}
            | {side: float(right[side][mask].mean()) for side in sides}
            for name, mask in masks.items()
            if mask.any()
        },
    }


def broken_limits(parity: Mapping[str, Any], limits: CompressConfig) -> list[str]:
    """Say which limits a compressed model breaks: a line each, with found and allowed.

    A limit below one row's share is broken by a single row; the line says so.

    Args:
        parity: `texts`, a list from `describe_changes`; `labelled` from `describe_quality`;
            `size_mib` with `after`.
        limits: What is allowed.
    """
    lines = []
    for texts in parity["texts"]:
        rows = texts["rows"]
        share = max(texts["decisions"], texts["tags"]) / rows
        if share > limits.max_changed:
            lines.append(
                f"max_changed: {share:.2%} of {texts['name']} ({texts['decisions']} decisions and "
                f"{texts['tags']} most probable tags of {rows} rows), "
                f"allowed {limits.max_changed:.2%}{_one_row(rows, limits.max_changed)}"
            )
        if texts["mean_shift"] > limits.max_shift + ROUNDING:
            lines.append(
                f"max_shift: on average {texts['mean_shift']:.4f} of the probability of a row of "
                f"{texts['name']} went to another tag, allowed {limits.max_shift:g}"
            )
    labelled = parity["labelled"]
    error = labelled["ece_adaptive"]
    if error["after"] - error["before"] > limits.max_ece + ROUNDING:
        lines.append(
            f"max_ece: the calibration error rose by {error['after'] - error['before']:.4f}, from "
            f"{error['before']:.4f} to {error['after']:.4f}, allowed {limits.max_ece:g}"
        )
    for tag, one in labelled["f1"].items():
        if one["before"] - one["after"] > limits.max_class + ROUNDING:
            lines.append(
                f"max_class: F1 of {tag} {_fall(one)}, allowed {limits.max_class:g}"
                f"{_one_row(one['rows'], limits.max_class)}"
            )
    for name, one in labelled["slices"].items():
        if one["rows"] >= FEWEST and one["before"] - one["after"] > limits.max_slice + ROUNDING:
            lines.append(
                f"max_slice: accuracy on the slice '{name}' {_fall(one)}, allowed "
                f"{limits.max_slice:g}{_one_row(one['rows'], limits.max_slice)}"
            )
    size = parity["size_mib"]["after"]
    if limits.max_mib is not None and size > limits.max_mib:
        lines.append(f"max_mib: model/ has {size:.1f} MiB, allowed {limits.max_mib:g}")
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


def _take(decisions: Decisions, mask: BoolArray) -> Decisions:
    return Decisions(decisions.raw[mask], decisions.probabilities[mask], decisions.tags[mask])


def _name(decided: int, tags: Sequence[str]) -> str:
    return NEEDS_REVIEW if decided == REVIEW else tags[int(decided)]


def _fall(one: Mapping[str, float]) -> str:
    return (
        f"fell by {one['before'] - one['after']:.4f}, from {one['before']:.4f} to "
        f"{one['after']:.4f}"
    )


def _one_row(rows: int, limit: float) -> str:
    if not rows or 1 / rows <= limit:
        return ""
    return f" (a single one of {rows} rows is {1 / rows:.2%} and breaks it)"
