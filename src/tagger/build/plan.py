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

FITTED, JUDGED = 0.25, 0.1
"""Shares of the rows that are held out: to fit the decision to, and to judge the result."""

FEW_ROWS = 50
"""Rows of a tag below which a warning is due."""

SAMPLE = 128
"""Texts by which a pass of the encoder is timed."""

FIXED_SECONDS = 5.0
"""What a step takes beside its texts: loading, writing, timing."""

TEXTS_OF_A_ROW = 3
"""What a student learns from of a labelled row: title and description together, and each alone."""


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


@dataclass(frozen=True)
class Selection:
    """What is trained with so many folds: models, the student and its texts; what that takes."""

    folds: int | None
    models: list[str]
    student: bool
    texts: int
    seconds: dict[str, float]
    notes: list[str]


def plan_build(
    config: BuildConfig,
    asked: Mapping[str, JsonValue],
    items: Sequence[Item],
    tags: Sequence[str],
    texts: int,
) -> BuildPlan:
    """Decide what is trained.

    All rows are trained on and decided by, in folds, where time allows. Where it does not and there
    are rows enough, or the steps have no folds, some are held out.

    Args:
        config: What is asked for.
        asked: The same with digests of its files, to be recorded.
        items: The labelled rows.
        tags: The approved tags.
        texts: How many texts without a label there are.
    """
    steps, rows = config.build, len(items)
    pass_ms = measure_pass(items, tags)
    chosen = select_steps(config, rows, texts, pass_ms, steps.folds)
    whole = chosen.student and len(chosen.models) == len(steps.models)
    whole = whole and chosen.texts >= min(texts, steps.few_texts)
    if not whole and rows * FITTED >= steps.held_out:
        chosen = select_steps(config, rows, texts, pass_ms, None)
    counts = Counter(str(item.tag) for item in items)
    of_tags = {tag: counts[tag] for tag in tags}
    return BuildPlan(
        asked=dict(asked),
        rows=rows,
        tags=of_tags,
        folds=chosen.folds,
        models=chosen.models,
        student=chosen.student,
        texts=chosen.texts,
        pass_ms=round(pass_ms, 3),
        expected_seconds={name: round(value, 1) for name, value in chosen.seconds.items()},
        notes=[*describe_rows(config, of_tags, chosen.folds), *chosen.notes],
    )


def select_steps(
    config: BuildConfig, rows: int, texts: int, pass_ms: float, folds: int | None
) -> Selection:
    """Choose what fits into the budget: words, the student, then dearer teachers, then its texts.

    Args:
        config: The steps and the budget.
        rows: Number of labelled rows.
        texts: Number of texts without a label.
        pass_ms: Milliseconds of a pass of the encoder over a text.
        folds: In which all is trained anew; None: rows are held out.
    """
    steps = config.build
    runs = 1 if folds is None else folds + 1
    # Each fold is trained on all rows but its own, the last run on all.
    trained = 1 - FITTED - JUDGED if folds is None else float(folds)

    def seconds(model: BuildModel, count: int) -> float:
        return runs * FIXED_SECONDS + trained * count * model.passes * pass_ms / 1000

    budget, notes = Budget(config.budget_minutes * 60), []
    first, *dearer = steps.models
    # Without it there is nothing at all.
    budget.left -= seconds(first, rows)
    budget.spent[first.name] = seconds(first, rows)
    chosen = [first.name]
    taught = seconds(steps.student, TEXTS_OF_A_ROW * rows)
    student = budget.take(steps.student.name, taught)
    if not student:
        notes.append(_too_dear(steps.student.name, taught, budget))
    each = runs * steps.student.passes * pass_ms / 1000
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
    return Selection(folds, chosen, student, learnt, budget.spent, notes)


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


def describe_rows(config: BuildConfig, tags: Mapping[str, int], folds: int | None) -> list[str]:
    """Say how the promise will be kept, and what few rows mean for it, a sentence each."""
    rows = sum(tags.values())
    fitted = math.floor(rows * FITTED) if folds is None else rows
    notes = []
    if folds is None:
        notes.append(
            f"{FITTED:.0%} of the rows are held out to fit the decision to, and {JUDGED:.0%} to "
            "judge the result"
        )
    else:
        notes.append(
            f"all is trained again without each of {folds} folds, so that the decision is fitted "
            "to all rows, and the result is trained on all"
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
