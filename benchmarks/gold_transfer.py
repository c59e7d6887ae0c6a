"""What the embedded set alone is worth on real content: scores over seeds, and the learning curve.

    python benchmarks/gold_transfer.py --data DATASET.csv

DATASET.csv is a labelled file that is never trained on. Rows of it that resemble an item of the
embedded set are left out. Each run is an ordinary run folder below --out: a killed benchmark goes
on where it was. Smaller sets are drawn with their near-duplicates, in proportion to the tags; each
seed draws sets of its own.

Famous things are in any collection. A second table therefore leaves out the rows that name what an
item of the embedded set names, in whatever words: by the title up to a colon, or by a cosine of the
encoder's vectors of `MEANING`.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tagger.audit.repeats import MEANING
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import SplitConfig, TrainConfig
from tagger.data.items import Item, fold
from tagger.data.sources import load_labelled
from tagger.data.splits import split_items, unseen_items
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import csv_text, write_json, write_text
from tagger.models.transformer import TransformerClassifier
from tagger.reporting.figures import BLUE, VERMILION, write_figure
from tagger.runs import open_run
from tagger.scores import FloatArray, confusion_matrix, scores_from_confusion
from tagger.training.train_run import train

SIZES = (100, 250, 500, 1000, 2500)
SHOWN = ("weighted_precision", "weighted_recall", "weighted_f1", "macro_f1")


@exit_on_user_error
def main() -> None:
    """Train on growing parts of the set, score on the file, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a labelled CSV, JSONL or Parquet file")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", nargs="*", default=[], help="overrides of experiment=gold")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/gold_transfer"))
    options = parser.parse_args()

    gold_config = gold_run(options, "unused", 0)
    labelled = load_labelled(gold_config.data)
    gold, tags = labelled.items, labelled.tags
    other = load_config(
        TrainConfig, compose_config("train", ["data=file", f"data.path={options.data}"])
    )
    everything = load_labelled(other.data, tags).items
    items = [everything[index] for index in unseen_items(everything, gold)]
    print(f"{len(items)} of {len(everything)} rows; the others resemble an item that is trained on")
    encoder = load_config(TrainConfig, compose_config("train", ["model=frozen"])).model
    classifier = TransformerClassifier.build_frozen(encoder, tags)
    strangers = ~same_subject(gold, items, classifier)

    sizes = [size for size in SIZES if size < len(gold)] + [len(gold)]
    scores: dict[int, list[dict[str, float]]] = {}
    strict: list[dict[str, float]] = []
    for size in sizes:
        for seed in range(options.seeds):
            if size == len(gold):
                config = gold_run(options, f"all-seed{seed}", seed)
            else:
                path = options.out / f"gold-{size}-seed{seed}.csv"
                write_items(path, draw(gold, size, seed))
                config = gold_run(options, f"{size}-seed{seed}", seed, path)
            run = open_run(str(train(config)), "")
            probabilities = run.load_classifier().predict_proba(items)
            scores.setdefault(size, []).append(score(probabilities, items, tags))
            if size == len(gold):
                rest = [item for item, keep in zip(items, strangers, strict=True) if keep]
                strict.append(score(probabilities[strangers], rest, tags))
    print_table(scores)
    print(f"\nall items, on the {strangers.sum()} rows that name nothing that the set names:")
    print_table({len(gold): strict})
    write_json(
        options.out / "gold_transfer.json",
        {
            "rows": len(items),
            "scores": {str(size): values for size, values in scores.items()},
            "strict_rows": int(strangers.sum()),
            "strict_scores": strict,
            "environment": describe_environment().model_dump(),
        },
    )
    write_figure(plot_curve(scores), options.out / "gold-learning-curve.png")
    print(options.out / "gold-learning-curve.png")


def gold_run(
    options: argparse.Namespace, name: str, seed: int, path: Path | None = None
) -> TrainConfig:
    """Compose the config of one run of `experiment=gold`, or of one on a part of the set."""
    part = [] if path is None else [f"data.path={path}"]
    return load_config(
        TrainConfig,
        compose_config(
            "train",
            [
                "experiment=gold",
                *options.recipe,
                *part,
                f"seed={seed}",
                f"runs_dir={options.out}",
                f"name={name}",
                "if_exists=resume",
            ],
        ),
    )


def draw(items: Sequence[Item], size: int, seed: int) -> list[Item]:
    """Draw about `size` items in proportion to their tags, near-duplicates together."""
    share = 1 - size / len(items)
    config = SplitConfig(
        validation=share, test=0.0, seed=seed, column=None, folds=None, fold=None, per_tag=None
    )
    return [items[index] for index in split_items(items, config).train]


def write_items(path: Path, items: Sequence[Item]) -> None:
    """Write items as a file that `data=file` reads."""
    rows = [(i.id, i.created_on, i.title, i.description, i.tag) for i in items]
    write_text(path, csv_text([("id", "created_on", "title", "description", "tag"), *rows]))


def same_subject(
    gold: Sequence[Item], items: Sequence[Item], classifier: TransformerClassifier
) -> NDArray[np.bool_]:
    """Say for each item, (n_items,), whether the set has something of the same name or meaning."""

    def names(item: Item) -> set[str]:
        title = fold(item.title)
        parts = (title, re.split(r": | - | \| |\(", title)[0])
        return {name for part in parts if len(name := re.sub(r"\W", "", part)) > 2}

    known = set[str]().union(*(names(item) for item in gold))
    by_name = np.array([not known.isdisjoint(names(item)) for item in items])
    ours, theirs = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for vectors in (classifier.embed(gold), classifier.embed(items))
    )
    by_meaning: NDArray[np.bool_] = (theirs @ ours.T).max(axis=1) >= MEANING
    return by_name | by_meaning


def score(
    probabilities: FloatArray, items: Sequence[Item], tags: Sequence[str]
) -> dict[str, float]:
    """Score one run's probabilities (n, n_tags)."""
    true = [tags.index(item.tag or "") for item in items]
    scores = scores_from_confusion(confusion_matrix(true, probabilities.argmax(1), len(tags)))
    return {name: float(scores[name]) for name in SHOWN}


def print_table(scores: dict[int, list[dict[str, float]]]) -> None:
    """Print means and standard deviations over seeds as a Markdown table."""
    print("\n| items | " + " | ".join(name.replace("_", " ") for name in SHOWN) + " |")
    print("|---" * (len(SHOWN) + 1) + "|")
    for size, values in scores.items():
        columns = [[one[name] for one in values] for name in SHOWN]
        cells = [f"{np.mean(c):.4f} ({np.std(c, ddof=min(1, len(c) - 1)):.4f})" for c in columns]
        print(f"| {size} | " + " | ".join(cells) + " |")


def plot_curve(scores: dict[int, list[dict[str, float]]]) -> Figure:
    """Draw F1 by the number of items: each seed a point, the means a line."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    sizes = list(scores)
    for name, colour, marker in (("weighted_f1", BLUE, "o"), ("macro_f1", VERMILION, "s")):
        means = [np.mean([one[name] for one in scores[size]]) for size in sizes]
        axes.plot(sizes, means, color=colour, marker=marker, label=name.replace("_f1", " F1"))
        for size in sizes:
            points = [one[name] for one in scores[size]]
            axes.scatter([size] * len(points), points, color=colour, marker=marker, s=10, alpha=0.5)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set(
        xlabel="items trained on (logarithmic)",
        ylabel="F1 on content from elsewhere",
        title="What more items of the embedded set bring",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    main()
