"""Cross-validates approaches repeatedly, on the same folds for all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagger.compare.approaches import Approaches
from tagger.compare.report import Costs
from tagger.compare.runs import (
    LabelledFile,
    drop_model,
    make_run,
    predict_other,
    run_config,
)
from tagger.config.schema import LatencyConfig
from tagger.decision.decider import PLAIN, Decider
from tagger.evaluation.latency import measure_latency
from tagger.files import folder_mib
from tagger.models.base import Classifier
from tagger.models.ensemble import EnsembleClassifier
from tagger.progress import progress_bar
from tagger.runs import open_run, read_predictions
from tagger.scores import FloatArray, IntArray


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions of an approach for all items of a source.

    Attributes:
        probabilities: (n_seeds, n, n_tags).
        fold: Which fold each item is in, (n_seeds, n).
        seconds: Median of the time that a training took; of an ensemble, the sum of its members'.
    """

    probabilities: FloatArray
    fold: IntArray
    seconds: float


def cross_validate(
    approaches: Approaches,
    source: LabelledFile,
    out: Path,
    *,
    seeds: int,
    folds: int,
    split: Mapping[str, float] | None = None,
) -> dict[str, OutOfFold]:
    """Train every approach on every fold of every seed, the same folds for all.

    Each is a run folder below `out`, so a comparison that was stopped goes on where it was. The
    model of the first fold is kept, for `measure_size_and_latency`.

    Args:
        approaches: What to compare.
        source: What to train and test on.
        out: A folder.
        seeds: How often to divide the items anew; the seed of the runs too.
        folds: Into how many parts.
        split: Further keys of `data.split`.
    """
    shape = (seeds, len(source.items))
    results: dict[str, OutOfFold] = {}
    with progress_bar(len(approaches.overrides) * seeds * folds, "comparison", "run") as bar:
        for name, overrides in approaches.overrides.items():
            probabilities = np.zeros((*shape, len(source.tags)))
            fold_of = np.zeros(shape, dtype=np.int64)
            seconds = []
            for seed in range(seeds):
                for fold in range(folds):
                    keys: dict[str, float] = {"folds": folds, "fold": fold, "seed": seed}
                    folder = run_folder(out, name, seed, fold)
                    config = run_config(overrides, source, folder, seed, keys | dict(split or {}))
                    run = make_run(config)
                    if seed or fold:
                        drop_model(run)
                    saved = read_predictions(run.path / "predictions.csv", run.tags)
                    test = [at for at, item in enumerate(source.items) if item.id in saved]
                    rows = [saved[source.items[at].id] for at in test]
                    probabilities[seed, test] = np.array(rows)
                    fold_of[seed, test] = fold
                    seconds.append(run.meta.train_seconds or 0.0)
                    bar.update()
            results[name] = OutOfFold(probabilities, fold_of, float(np.median(seconds)))
    for name, members in approaches.ensembles.items():
        parts = [results[member] for member in members]
        results[name] = OutOfFold(
            np.mean([part.probabilities for part in parts], axis=0),
            parts[0].fold,
            sum(part.seconds for part in parts),
        )
    return results


def measure_size_and_latency(
    approaches: Approaches, source: LabelledFile, out: Path, config: LatencyConfig
) -> dict[str, Costs]:
    """Measure size and latency of each approach by its first run."""
    sizes: dict[str, float] = {}
    classifiers: dict[str, Classifier] = {}
    for name in approaches.overrides:
        run = open_run(str(run_folder(out, name, 0, 0)), "")
        classifiers[name] = run.load_classifier()
        sizes[name] = folder_mib(run.path / "model")
    for name, members in approaches.ensembles.items():
        classifiers[name] = EnsembleClassifier([classifiers[member] for member in members])
        sizes[name] = sum(sizes[member] for member in members)
    costs = {}
    for name, classifier in classifiers.items():
        timed = measure_latency(Decider(classifier, PLAIN, None), source.items, config)
        times = timed.model_dump(include={"p50_ms", "p99_ms", "threads"})
        costs[name] = Costs(mib=sizes[name], **times)
    return costs


def predict_other_source(
    approaches: Approaches, source: LabelledFile, other: LabelledFile, out: Path, *, seeds: int
) -> dict[str, FloatArray]:
    """Train on all of one source, and predict another: (n_seeds, n, n_tags) by approach."""
    results: dict[str, FloatArray] = {}
    with progress_bar(len(approaches.overrides) * seeds, "other source", "run") as bar:
        for name, overrides in approaches.overrides.items():
            rows = []
            for seed in range(seeds):
                folder = out / f"{folder_name(name)}-seed{seed}"
                run = make_run(run_config(overrides, source, folder, seed, {}))
                rows.append(predict_other(run, other.items))
                drop_model(run)
                bar.update()
            results[name] = np.array(rows)
    for name, members in approaches.ensembles.items():
        results[name] = np.mean([results[member] for member in members], axis=0)
    return results


def run_folder(out: Path, approach: str, seed: int, fold: int) -> Path:
    """Return the run folder of an approach, a seed and a fold."""
    return out / f"{folder_name(approach)}-seed{seed}-fold{fold}"


def folder_name(approach: str) -> str:
    """Return the name of an approach without what a folder should not have."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in approach)
