"""Repeated cross-validation: every item is predicted by models that did not see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagger.config.schema import LatencyConfig
from tagger.decision.decider import PLAIN, Decider
from tagger.evaluation.latency import measure_latency
from tagger.files import folder_mib
from tagger.ladder.cells import (
    Source,
    cell_config,
    drop_model,
    make_run,
    predict_elsewhere,
)
from tagger.ladder.rungs import Ladder
from tagger.models.base import Classifier
from tagger.models.ensemble import EnsembleClassifier
from tagger.progress import progress_bar
from tagger.runs import open_run, read_predictions
from tagger.scores import FloatArray, IntArray


@dataclass(frozen=True)
class OutOfFold:
    """What an approach says of all items of a source, out of fold.

    Attributes:
        probabilities: (n_seeds, n, n_tags).
        fold: Which fold each item is in, (n_seeds, n).
        seconds: Median of the time that a training took; of an ensemble, the sum of its members'.
    """

    probabilities: FloatArray
    fold: IntArray
    seconds: float


def cross_validate(
    ladder: Ladder,
    source: Source,
    out: Path,
    *,
    seeds: int,
    folds: int,
    split: Mapping[str, float] | None = None,
) -> dict[str, OutOfFold]:
    """Train every rung on every fold of every seed, the same folds for all.

    Each is a run folder below `out`, so a comparison that was stopped goes on where it was. The
    model of the first fold is kept, for `measure_size_and_latency`.

    Args:
        ladder: What to compare.
        source: What to train and test on.
        out: A folder.
        seeds: How often to divide the items anew; the seed of the runs too.
        folds: Into how many parts.
        split: Further keys of `data.split`.
    """
    shape = (seeds, len(source.items))
    results: dict[str, OutOfFold] = {}
    with progress_bar(len(ladder.rungs) * seeds * folds, "ladder", "run") as bar:
        for name, overrides in ladder.rungs.items():
            probabilities = np.zeros((*shape, len(source.tags)))
            fold_of = np.zeros(shape, dtype=np.int64)
            seconds = []
            for seed in range(seeds):
                for fold in range(folds):
                    keys: dict[str, float] = {"folds": folds, "fold": fold, "seed": seed}
                    folder = cell_folder(out, name, seed, fold)
                    config = cell_config(overrides, source, folder, seed, keys | dict(split or {}))
                    run = make_run(config)
                    if seed or fold:
                        drop_model(run)
                    saved = read_predictions(run.path / "predictions.csv", run.tags)
                    test = [at for at, item in enumerate(source.items) if item.id in saved]
                    rows = [saved[source.items[at].id] for at in test]
                    probabilities[seed, test] = np.array(rows)
                    fold_of[seed, test] = fold
                    seconds.append(run.meta["train_seconds"])
                    bar.update()
            results[name] = OutOfFold(probabilities, fold_of, float(np.median(seconds)))
    for name, members in ladder.ensembles.items():
        parts = [results[member] for member in members]
        results[name] = OutOfFold(
            np.mean([part.probabilities for part in parts], axis=0),
            parts[0].fold,
            sum(part.seconds for part in parts),
        )
    return results


def measure_size_and_latency(
    ladder: Ladder, source: Source, out: Path, config: LatencyConfig
) -> dict[str, dict[str, Any]]:
    """Measure what a rung costs to keep and to ask, by its first run: `mib`, `p50_ms`, `p99_ms`."""
    results: dict[str, dict[str, Any]] = {}
    classifiers: dict[str, Classifier] = {}
    for name in ladder.rungs:
        run = open_run(str(cell_folder(out, name, 0, 0)), "")
        classifiers[name] = run.load_classifier()
        results[name] = {"mib": folder_mib(run.path / "model")}
    for name, members in ladder.ensembles.items():
        classifiers[name] = EnsembleClassifier([classifiers[member] for member in members])
        results[name] = {"mib": sum(results[member]["mib"] for member in members)}
    for name, classifier in classifiers.items():
        timed = measure_latency(Decider(classifier, PLAIN, None), source.items, config)
        results[name] |= timed.model_dump(include={"p50_ms", "p99_ms", "threads"})
    return results


def predict_other_source(
    ladder: Ladder, source: Source, other: Source, out: Path, *, seeds: int
) -> dict[str, FloatArray]:
    """Train on all of one source, and return what is said of another: (n_seeds, n, n_tags)."""
    results: dict[str, FloatArray] = {}
    with progress_bar(len(ladder.rungs) * seeds, "abroad", "run") as bar:
        for name, overrides in ladder.rungs.items():
            rows = []
            for seed in range(seeds):
                folder = out / f"{folder_name(name)}-seed{seed}"
                run = make_run(cell_config(overrides, source, folder, seed, {}))
                rows.append(predict_elsewhere(run, other.items))
                drop_model(run)
                bar.update()
            results[name] = np.array(rows)
    for name, members in ladder.ensembles.items():
        results[name] = np.mean([results[member] for member in members], axis=0)
    return results


def cell_folder(out: Path, rung: str, seed: int, fold: int) -> Path:
    """Return the run folder of one cell."""
    return out / f"{folder_name(rung)}-seed{seed}-fold{fold}"


def folder_name(rung: str) -> str:
    """Return the name of a rung without what a folder should not have."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in rung)
