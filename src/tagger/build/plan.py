"""Plans a build: what is trained, on how many texts, and how promises are kept, within a budget.

Times are estimated from a pass of the encoder that is measured here, so the same command trains
more on a faster machine.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from tagger.build.report import BuildPlan
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import BuildConfig, BuildModel, FrozenConfig, TrainConfig
from tagger.data.items import Item
from tagger.models.transformer import TransformerClassifier

HELD_OUT = 0.15
"""Share of the rows that the decision is fitted to, and as much again to judge the result."""

FEW_ROWS = 50
"""Rows of a tag below which a warning is due."""

SAMPLE = 128
"""Texts by which a pass of the encoder is timed."""

FIXED_SECONDS = 5.0
"""What a step takes beside its texts: loading, writing, choosing a decision."""


@dataclass
class Budget:
    """Seconds that are left to plan with, and what they are spent on."""

    left: float
    spent: dict[str, float] = field(default_factory=dict)

    def take(self, name: str, seconds: float) -> bool:
        """Spend seconds on a step if they are there."""
        if seconds > self.left:
            return False
        self.left -= seconds
        self.spent[name] = self.spent.get(name, 0.0) + seconds
        return True


def plan_build(
    config: BuildConfig,
    asked: Mapping[str, JsonValue],
    items: Sequence[Item],
    tags: Sequence[str],
    texts: int,
) -> BuildPlan:
    """Decide what is trained.

    Args:
        config: What is asked for.
        asked: The same with digests of its files, to be recorded.
        items: The labelled rows.
        tags: The approved tags.
        texts: How many texts without a label there are.
    """
    steps, rows = config.build, len(items)
    pass_ms = measure_pass(items, tags)
    held_out = rows * HELD_OUT >= steps.held_out
    pipelines = 1 if held_out else steps.folds + 1
    counts = Counter(str(item.tag) for item in items)
    notes = describe_rows(config, {tag: counts[tag] for tag in tags}, held_out)

    def seconds(model: BuildModel, count: int) -> float:
        return pipelines * (FIXED_SECONDS + count * model.passes * pass_ms / 1000)

    budget = Budget(config.budget_minutes * 60)
    first, *dearer = steps.models
    # Without it there is nothing at all.
    budget.spent[first.name] = seconds(first, rows)
    budget.left -= budget.spent[first.name]
    chosen = [first.name]
    student = budget.take(steps.student.name, seconds(steps.student, rows))
    if not student:
        notes.append(_too_dear(steps.student.name, seconds(steps.student, rows), budget))
    # A text is answered by every teacher, once, beside what the student's training takes.
    each = pipelines * (steps.student.passes + len(dearer)) * pass_ms / 1000
    learnt = 0
    if student:
        learnt = min(texts, steps.few_texts, max(0, math.floor(budget.left / each)))
        budget.take(steps.student.name, learnt * each)
    for model in dearer:
        if budget.take(model.name, seconds(model, rows)):
            chosen.append(model.name)
        else:
            notes.append(_too_dear(model.name, seconds(model, rows), budget))
    if student:
        more = min(texts - learnt, max(0, math.floor(budget.left / each)))
        budget.take(steps.student.name, more * each)
        learnt += more
        if learnt < texts:
            notes.append(f"the student learns from {learnt:,} of {texts:,} further texts")
    return BuildPlan(
        asked=dict(asked),
        rows=rows,
        tags={tag: counts[tag] for tag in tags},
        folds=None if held_out else steps.folds,
        models=chosen,
        student=student,
        texts=learnt,
        pass_ms=round(pass_ms, 3),
        expected_seconds={name: round(value, 1) for name, value in budget.spent.items()},
        notes=notes,
    )


def measure_pass(items: Sequence[Item], tags: Sequence[str]) -> float:
    """Return the milliseconds that the encoder takes for a text, many at a time."""
    model = load_config(TrainConfig, compose_config("train", ["model=frozen"])).model
    assert isinstance(model, FrozenConfig)
    encoder = TransformerClassifier.build_frozen(model, tags)
    sample = items[:: max(1, len(items) // SAMPLE)][:SAMPLE]
    encoder.embed(sample)
    begun = time.perf_counter()
    encoder.embed(sample)
    return 1000 * (time.perf_counter() - begun) / len(sample)


def describe_rows(config: BuildConfig, tags: Mapping[str, int], held_out: bool) -> list[str]:
    """Say how the promise will be kept, and what few rows mean for it, a sentence each."""
    rows, steps = sum(tags.values()), config.build
    fitted = math.floor(rows * HELD_OUT) if held_out else rows
    notes = []
    if held_out:
        notes.append(
            f"{HELD_OUT:.0%} of the rows are held out to fit the decision to, and as many to judge "
            "the result"
        )
    else:
        notes.append(
            f"{rows:,} rows are too few to hold some out: all is trained again without each of "
            f"{steps.folds} folds, and judged on these"
        )
    # So many rows without an error does the exact binomial test need.
    fewest = math.ceil(math.log(1 - config.confidence) / math.log(config.promise))
    if fitted < fewest:
        notes.append(
            f"a precision of {config.promise:g} cannot be promised with {config.confidence:.0%} "
            f"confidence: that takes {fewest} rows without an error, and {fitted} are there, so "
            "everything will go to a person"
        )
    if few := {tag: count for tag, count in tags.items() if count < FEW_ROWS}:
        named = ", ".join(f"{tag} ({count})" for tag, count in few.items())
        notes.append(f"tags with fewer than {FEW_ROWS} rows, of which little is known: {named}")
    return notes


def _too_dear(name: str, seconds: float, budget: Budget) -> str:
    return (
        f"{name} is left out: it would take about {seconds / 60:.1f} minutes, and "
        f"{max(0.0, budget.left) / 60:.1f} of the budget are left"
    )
