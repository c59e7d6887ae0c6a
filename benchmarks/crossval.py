"""Repeated cross-validation of a recipe beside simpler approaches, on the same folds.

    python benchmarks/crossval.py --data DATASET.csv [--recipe training.lr=3e-5 ...]

Each of the runs is an ordinary run folder below --out: a killed benchmark goes on where it was.
Out-of-fold predictions of each seed are pooled; figures are means and standard deviations over
seeds, and differences come with a paired bootstrap interval over items.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from tagger.config import TrainConfig, compose_config, load_config
from tagger.data.items import Item
from tagger.data.sources import load_items
from tagger.data.splits import split_items
from tagger.data.tags import load_tags
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import resolve_path, write_json
from tagger.models.transformer import TransformerClassifier
from tagger.runs import read_predictions
from tagger.scores import OVERALL, confusion_matrix, scores_from_confusion
from tagger.training.train_run import train

FOLDS = 5
COVERAGES = (0.80, 0.90, 0.95)
SHOWN = ("weighted_precision", "weighted_recall", "weighted_f1", "macro_f1", "accuracy")
Baseline = Callable[[list[Item], list[str], list[Item]], NDArray[np.float64]]


@exit_on_user_error
def main() -> None:
    """Run all folds of all seeds, then print and save the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a labelled CSV, JSONL or Parquet file")
    parser.add_argument("--name", default="mwml", help="what to call it (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/crossval"))
    parser.add_argument("--recipe", nargs="*", default=["experiment=mwml"], help="overrides")
    options = parser.parse_args()

    config = fold_config(options, 0, 0)
    tags = [tag.name for tag in load_tags(resolve_path(config.data.tags))]
    items = load_items(config.data, tags)
    truth = np.array([tags.index(item.tag or "") for item in items])
    torch.manual_seed(0)
    encoder = TransformerClassifier.build(config.model, tags)
    vectors = dict(zip((item.id for item in items), encoder.embed(items), strict=True))
    approaches: dict[str, Baseline | None] = {
        "fine-tuned": None,
        "frozen + logistic regression": lambda a, b, c: frozen_probe(vectors, a, b, c),
        "TF-IDF + logistic regression": tf_idf,
    }
    shape = (options.seeds, len(items), len(tags))
    probabilities = {name: np.zeros(shape) for name in approaches}
    for seed in range(options.seeds):
        for fold in range(FOLDS):
            config = fold_config(options, seed, fold)
            split = split_items(items, config.data.split)
            train_items = [items[index] for index in split.train]
            test_items = [items[index] for index in split.test]
            labels = [item.tag or "" for item in train_items]
            for name, approach in approaches.items():
                if approach is None:
                    saved = read_predictions(train(config) / "predictions.csv", tags)
                    rows = np.array([saved[item.id] for item in test_items])
                else:
                    rows = approach(train_items, labels, test_items)
                probabilities[name][seed, split.test] = rows

    results = {name: summarize(values, truth) for name, values in probabilities.items()}
    differences = {
        name: paired_difference(probabilities["fine-tuned"], values, truth)
        for name, values in probabilities.items()
        if name != "fine-tuned"
    }
    print_table(results, differences, options.seeds)
    write_json(
        options.out / "crossval.json",
        {"results": results, "differences": differences, "environment": describe_environment()},
    )
    np.savez(options.out / "probabilities.npz", truth=truth, **probabilities)


def fold_config(options: argparse.Namespace, seed: int, fold: int) -> TrainConfig:
    """Compose the config of one fold; nothing is kept for validation, epochs are fixed."""
    overrides = [
        *options.recipe,
        "data=file",
        f"data.path={options.data}",
        f"data.name={options.name}",
        f"data.split={{validation: 0.0, test: 0.0, seed: {seed}, folds: {FOLDS}, fold: {fold}}}",
        f"seed={seed}",
        f"runs_dir={options.out}",
        f"name=seed{seed}-fold{fold}",
        "if_exists=resume",
    ]
    return load_config(TrainConfig, compose_config("train", overrides))


def frozen_probe(
    vectors: dict[str, NDArray[np.float64]],
    train_items: Sequence[Item],
    labels: Sequence[str],
    test_items: Sequence[Item],
) -> NDArray[np.float64]:
    """Fit a logistic regression on the encoder's vectors of length 1, as they come pretrained."""

    def unit(items: Sequence[Item]) -> NDArray[np.float64]:
        rows = np.array([vectors[item.id] for item in items])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    # C=10 is the best of 1, 5, 10, 30 for this baseline on these folds.
    model = LogisticRegression(C=10, max_iter=5000).fit(unit(train_items), labels)
    result: NDArray[np.float64] = model.predict_proba(unit(test_items))
    return result


def tf_idf(
    train_items: Sequence[Item], labels: Sequence[str], test_items: Sequence[Item]
) -> NDArray[np.float64]:
    """Fit a logistic regression on TF-IDF of words, pairs of words and characters."""
    model = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
        ),
        LogisticRegression(C=30, max_iter=5000),
    )
    model.fit([item.text for item in train_items], labels)
    result: NDArray[np.float64] = model.predict_proba([item.text for item in test_items])
    return result


def summarize(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over seeds of each score; probabilities (seeds, n, n_tags)."""
    per_seed: dict[str, list[float]] = {}
    for rows in probabilities:
        predicted = rows.argmax(1)
        scores = scores_from_confusion(confusion_matrix(truth, predicted, rows.shape[1]))
        for name in OVERALL:
            per_seed.setdefault(name, []).append(float(scores[name]))
        hits = (predicted == truth)[np.argsort(-rows.max(1), kind="stable")]
        for coverage in COVERAGES:
            kept = hits[: round(coverage * len(hits))]
            per_seed.setdefault(f"accuracy_at_{coverage:.0%}", []).append(float(kept.mean()))
    return {
        name: {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        }
        for name, values in per_seed.items()
    }


def paired_difference(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    truth: NDArray[np.int64],
    resamples: int = 2000,
) -> dict[str, dict[str, float]]:
    """Difference of the mean scores, with a 95 % paired bootstrap interval over items."""
    random = np.random.default_rng(0)
    n, n_tags = one.shape[1:]
    samples = [np.arange(n), *(random.integers(0, n, (resamples, n)))]
    values: dict[str, list[float]] = {"weighted_f1": [], "macro_f1": []}
    for sample in samples:
        for name, value in values.items():
            means = [
                np.mean([score(rows[sample], truth[sample], n_tags, name) for rows in approach])
                for approach in (one, other)
            ]
            value.append(float(means[0] - means[1]))
    return {
        name: {
            "difference": value[0],
            "low": float(np.quantile(value[1:], 0.025)),
            "high": float(np.quantile(value[1:], 0.975)),
        }
        for name, value in values.items()
    }


def score(rows: NDArray[np.float64], truth: NDArray[np.int64], n_tags: int, name: str) -> float:
    """Compute one named score of one seed's out-of-fold probabilities."""
    return float(scores_from_confusion(confusion_matrix(truth, rows.argmax(1), n_tags))[name])


def print_table(
    results: dict[str, dict[str, dict[str, float]]],
    differences: dict[str, dict[str, dict[str, float]]],
    seeds: int,
) -> None:
    """Print the comparison as a Markdown table."""
    columns = [*SHOWN, *(f"accuracy_at_{coverage:.0%}" for coverage in COVERAGES)]
    print(f"\n{FOLDS}-fold cross-validation x {seeds} seeds, mean (sd over seeds)\n")
    print("| approach | " + " | ".join(name.replace("_", " ") for name in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for approach, scores in results.items():
        cells = [f"{scores[name]['mean']:.4f} ({scores[name]['sd']:.4f})" for name in columns]
        print(f"| {approach} | " + " | ".join(cells) + " |")
    for approach, values in differences.items():
        for name, value in values.items():
            print(
                f"fine-tuned minus {approach}, {name}: {value['difference']:+.4f} "
                f"[{value['low']:+.4f}, {value['high']:+.4f}]"
            )


if __name__ == "__main__":
    main()
