"""How many planted errors an audit finds: wrong tags, and rows told twice.

    python benchmarks/audit_planted.py --data DATASET.csv [--paraphrases benchmarks/paraphrases.csv]

Wrong tags: 5 % of the rows, drawn at random, get another tag at random; counted are those among
the first 8 % of the audit's ranking. The file's own errors, which nobody counted, compete with
them for these places. Repeats: as in near_duplicates.py.
"""

import argparse
import csv
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from near_duplicates import CHANGES, planted_repeats
from tagger.audit.repeats import MEANING, close_pairs
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import write_json
from tagger.models.transformer import TransformerClassifier
from tagger.oof.label_check import check_labels

FLIPPED = 0.05
READ = 0.08


@exit_on_user_error
def main() -> None:
    """Plant, audit, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a labelled CSV, JSONL or Parquet file")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--paraphrases", type=Path, default=Path("benchmarks/paraphrases.csv"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/audit_planted.json"))
    options = parser.parse_args()
    overrides = ["data=file", f"data.path={options.data}", "data.name=planted"]
    config = load_config(TrainConfig, compose_config("train", overrides))
    labelled = load_labelled(config.data)
    items, tags = labelled.items, labelled.tags
    classifier = TransformerClassifier.build(config.model, tags)
    vectors = classifier.embed(items)

    shares = [planted_errors(items, tags, vectors, seed) for seed in range(options.seeds)]
    print(f"wrong tags among the first {READ:.0%} of {len(items)} rows, {FLIPPED:.0%} planted:")
    print(f"  mean {np.mean(shares):.3f}, least {min(shares):.3f}, {len(shares)} draws")
    print("repeats: recall and precision")
    repeats = {}
    for name, change in CHANGES.items():
        counts = np.sum(
            [planted_repeats(items, change, seed) for seed in range(options.seeds)], axis=0
        )
        repeats[name] = {"recall": counts[0] / counts[1], "precision": counts[2] / counts[3]}
        print(f"  {name:<14} {repeats[name]['recall']:.3f}  {repeats[name]['precision']:.3f}")
    paraphrases = count_paraphrases(classifier, options.paraphrases, tags)
    print(
        f"paraphrases: {paraphrases['near']} of {paraphrases['rows']} by words, "
        f"{paraphrases['found']} by words or meaning (cosine {MEANING}); "
        f"{paraphrases['false_pairs']} other pairs"
    )
    write_json(
        options.out,
        {
            "errors": shares,
            "repeats": repeats,
            "paraphrases": paraphrases,
            "environment": describe_environment().model_dump(),
        },
    )


def planted_errors(
    items: list[Item], tags: list[str], vectors: NDArray[np.float64], seed: int
) -> float:
    """Return the share of turned tags among the first `READ` of the ranking."""
    rng = random.Random(seed)
    chosen = rng.sample(range(len(items)), round(FLIPPED * len(items)))
    turned = list(items)
    for row in chosen:
        others = [tag for tag in tags if tag != items[row].tag]
        turned[row] = replace(items[row], tag=rng.choice(others))
    check = check_labels(turned, tags, groups=group_near_duplicates(turned), vectors=vectors)
    assert check is not None
    first = np.argsort(check.doubt_rank)[: round(READ * len(items))]
    return len(set(chosen) & set(first.tolist())) / len(chosen)


def count_paraphrases(
    classifier: TransformerClassifier, path: Path, tags: list[str]
) -> dict[str, int]:
    """Count the paraphrases of items of the embedded set that are linked to their original."""
    config = load_config(TrainConfig, compose_config("train", ["data=gold"]))
    gold = load_labelled(config.data, tags).items
    row_of = {item.id: row for row, item in enumerate(gold)}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    copies = [Item(f"p{row['id']}", row["title"], row["description"]) for row in rows]
    everything = [*gold, *copies]
    groups = group_near_duplicates(everything)
    pairs = set(close_pairs(classifier.embed(everything), MEANING))
    planted = [(row_of[row["id"]], len(gold) + at) for at, row in enumerate(rows)]
    near = [groups[one] == groups[two] for one, two in planted]
    found = [n or pair in pairs for n, pair in zip(near, planted, strict=True)]
    return {
        "rows": len(rows),
        "near": sum(near),
        "found": sum(found),
        "false_pairs": len(pairs - set(planted)),
    }


if __name__ == "__main__":
    main()
