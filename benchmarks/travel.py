"""Training that travels: what helps on content from another source, and what it costs in-domain.

    python benchmarks/travel.py --data DATASET.csv --stream STREAM.csv

Every variant is trained on the embedded set and on DATASET.csv, on at most `PER_TAG` items of each
tag, so that a hundred trainings take an hour on two cores; each without a test part that is the
same for all, over several seeds. It is scored on that test part (in-domain) and on all of the other
source (cross-domain). Differences to the default recipe come with intervals that hold for all
variants at once. Each run is an ordinary run folder below --out: a killed benchmark goes on where
it was.

`self-training` adds items of STREAM.csv with the tags that the default of the same seed and source
is surest of.

Encoders of benchmarks/adapt_encoder.py: --variant 'mlm=model.encoder=FOLDER model.sha256=null'.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagger.compare.cross_validation import folder_name
from tagger.compare.report import Difference
from tagger.compare.runs import LabelledFile, drop_model, make_run, predict_other, run_config
from tagger.compare.scoring import compare_all
from tagger.data.sources import iter_unlabelled, scan_unlabelled
from tagger.data.splits import split_items, unseen_items
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.evaluation.selective import precision_at_coverage
from tagger.files import csv_text, write_json, write_text
from tagger.runs import open_run, read_predictions
from tagger.scores import FloatArray, confusion_matrix, scores_from_confusion

DEFAULT = "default"
VARIANTS = {
    DEFAULT: [],
    "plain": [
        "training.head_init=random",
        "training.ema_decay=0.0",
        "training.label_smoothing=0.0",
        "training.head_lr=1e-3",
        "training.epochs=5",
    ],
    "no average": ["training.ema_decay=0.0"],
    "smoothing 0.2": ["training.label_smoothing=0.2"],
    "adversarial 0.02": ["training.adversarial=0.02"],
    "contrast 0.3": ["training.contrast_loss_weight=0.3"],
    "token dropout 0.1": ["training.token_dropout=0.1"],
    "two layers frozen": ["model.freeze_layers=2"],
    "layer decay 0.8": ["training.layer_decay=0.8"],
}
SELF_TRAINING = "self-training"
TEST = 0.15
PER_TAG = 150
SURE = 0.95
PSEUDO_PER_TAG, PSEUDO_WEIGHT = 300, 0.3
SCORES = ("weighted_f1", "macro_f1")


@exit_on_user_error
def main() -> None:
    """Train and score all variants, print the table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="the other labelled source")
    parser.add_argument("--stream", type=Path, help="unlabelled items, for self-training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variant", action="append", default=[], help="NAME=OVERRIDES, a further")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/travel"))
    options = parser.parse_args()

    tags = Path("data/tags.yaml")
    gold, other = (
        LabelledFile.load(Path("data/gold.csv"), tags),
        LabelledFile.load(options.data, tags),
    )
    variants = VARIANTS | {
        name: overrides.split()
        for name, _, overrides in (entry.partition("=") for entry in options.variant)
    }
    journeys = [(gold, other), (other, gold)]
    results: dict[str, dict[str, dict[str, FloatArray]]] = {}
    for in_domain, cross_domain in journeys:
        out = options.out / in_domain.name
        table: dict[str, dict[str, FloatArray]] = {}
        for name, overrides in variants.items():
            runs = [
                train_and_predict(
                    overrides, in_domain, cross_domain, run_folder(out, name, seed), seed
                )
                for seed in range(options.seeds)
            ]
            table[name] = stack(runs)
        if options.stream is not None:
            pseudo = [
                write_pseudo_labels(options.stream, [in_domain, cross_domain], out, seed)
                for seed in range(options.seeds)
            ]
            overrides = [f"data.extra_weight={PSEUDO_WEIGHT}"]
            table[SELF_TRAINING] = stack(
                [
                    train_and_predict(
                        [*overrides, f"data.extra=['{path}']"],
                        in_domain,
                        cross_domain,
                        run_folder(out, SELF_TRAINING, seed),
                        seed,
                    )
                    for seed, path in enumerate(pseudo)
                ]
            )
        results[in_domain.name] = table
    summary = {
        in_domain.name: summarize(results[in_domain.name], in_domain, cross_domain, options.seeds)
        for in_domain, cross_domain in journeys
    }
    print_tables(summary)
    write_json(
        options.out / "travel.json",
        {"results": summary, "environment": describe_environment().model_dump()},
    )


def run_folder(out: Path, name: str, seed: int) -> Path:
    """Return the folder of one run."""
    return out / f"{folder_name(name)}-seed{seed}"


def train_and_predict(
    overrides: Sequence[str],
    in_domain: LabelledFile,
    cross_domain: LabelledFile,
    folder: Path,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """Train one run; return what it says of its test part and of the other source."""
    split = {"test": TEST, "seed": 0, "per_tag": PER_TAG}
    config = run_config(overrides, in_domain, folder, seed, split)
    run = make_run(config)
    saved = read_predictions(run.path / "predictions.csv", run.tags)
    test = [in_domain.items[at].id for at in test_rows(in_domain)]
    elsewhere = predict_other(run, cross_domain.items)
    if not folder.name.startswith(DEFAULT):  # its models make tags for others
        drop_model(run)
    return np.array([saved[one] for one in test]), elsewhere


def test_rows(in_domain: LabelledFile) -> list[int]:
    """Return the places of the rows that no variant is trained on."""
    config = run_config([], in_domain, Path("unused"), 0, {"test": TEST, "seed": 0})
    return split_items(in_domain.items, config.data.split).test


def write_pseudo_labels(stream: Path, known: Sequence[LabelledFile], out: Path, seed: int) -> Path:
    """Write the items of each tag that the default is surest of, none like a labelled one."""
    path = out / f"pseudo-seed{seed}.csv"
    if path.exists():
        return path
    scan_unlabelled(stream)
    first = {item.content_hash: item for item in reversed(list(iter_unlabelled(stream)))}
    items = list(first.values())
    seen = [item for source in known for item in source.items]
    items = [items[at] for at in unseen_items(items, seen)]
    run = open_run(str(run_folder(out, DEFAULT, seed)), "")
    probabilities = run.load_classifier().predict_proba(items)
    rows = []
    drawn: Counter[str] = Counter()
    for at in np.argsort(-probabilities.max(axis=1), kind="stable").tolist():
        item, tag = items[at], run.tags[int(probabilities[at].argmax())]
        if probabilities[at].max() >= SURE and drawn[tag] < PSEUDO_PER_TAG:
            drawn[tag] += 1
            rows.append((f"s{item.id}", item.created_on, item.title, item.description, tag))
    write_text(path, csv_text([("id", "created_on", "title", "description", "tag"), *rows]))
    return path


def stack(runs: Sequence[tuple[FloatArray, FloatArray]]) -> dict[str, FloatArray]:
    """Put the seeds' predictions together: (n_seeds, n, n_tags) in-domain and cross-domain."""
    return {
        "in_domain": np.array([one for one, _ in runs]),
        "cross_domain": np.array([other for _, other in runs]),
    }


def summarize(
    table: dict[str, dict[str, FloatArray]],
    in_domain: LabelledFile,
    cross_domain: LabelledFile,
    seeds: int,
) -> dict[str, Any]:
    """Score all variants in-domain and cross-domain, and their differences to the default."""
    true = {"in_domain": in_domain.true[test_rows(in_domain)], "cross_domain": cross_domain.true}
    summary: dict[str, Any] = {
        "in_domain": in_domain.name,
        "cross_domain": cross_domain.name,
        "seeds": seeds,
    }
    rows: dict[str, Any] = {name: {} for name in table}
    for place, labels in true.items():
        for name, predictions in table.items():
            rows[name][place] = score(predictions[place], labels)
        for which in SCORES:
            parts = {name: predictions[place] for name, predictions in table.items()}
            pairs = [(name, DEFAULT) for name in parts if name != DEFAULT]
            for one in compare_all(parts, labels, which, pairs=pairs):
                rows[one.one][place][f"{which}_difference"] = interval(one)
    return summary | {"variants": rows}


def score(probabilities: FloatArray, true: NDArray[np.int64]) -> dict[str, Any]:
    """Score by means over seeds, with the standard deviation of the F1s."""
    values: dict[str, list[float]] = {}
    for rows in probabilities:
        counts = confusion_matrix(true, rows.argmax(1), rows.shape[1])
        for name in SCORES:
            values.setdefault(name, []).append(float(scores_from_confusion(counts)[name]))
        right = rows.argmax(1) == true
        surest = precision_at_coverage(rows.max(1), right, 0.7)
        values.setdefault("precision_at_70%", []).append(surest)
    result = {name: float(np.mean(one)) for name, one in values.items()}
    for name in SCORES:
        result[f"{name}_sd"] = float(np.std(values[name], ddof=1)) if len(values[name]) > 1 else 0.0
    return result


def interval(one: Difference) -> dict[str, float]:
    """Turn a difference into JSON."""
    return {"value": one.value, "low": one.low, "high": one.high}


def print_tables(summary: dict[str, Any]) -> None:
    """Print one Markdown table a journey."""
    for one in summary.values():
        trained, scored = one["in_domain"], one["cross_domain"]
        print(f"\ntrained on {trained}, scored on {scored} too, {one['seeds']} seeds\n")
        print(
            "| variant | in-domain: weighted F1 | macro F1 | cross-domain: weighted F1 | macro F1 "
            "| P of surest 70 % | cross-domain, weighted F1, difference | in-domain |"
        )
        print("|---" * 8 + "|")
        for name, row in one["variants"].items():
            cells = [
                f"{row[place][which]:.4f} ({row[place][f'{which}_sd']:.4f})"
                for place in ("in_domain", "cross_domain")
                for which in SCORES
            ]
            cells.append(f"{row['cross_domain']['precision_at_70%']:.4f}")
            for place in ("cross_domain", "in_domain"):
                pair = row[place].get("weighted_f1_difference")
                ends = f" [{pair['low']:+.4f}, {pair['high']:+.4f}]" if pair else ""
                cells.append(f"{pair['value']:+.4f}{ends}" if pair else "")
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
