"""How much of what is missed is the labels: rows on which all approaches and seeds agree otherwise.

    python benchmarks/disputed.py --data DATASET.csv

Out-of-fold predictions of `tagger compare --data DATASET.csv` are read, or made if they are not
there. Listed are the rows for which linear, frozen and fine-tuned models of all seeds prefer one
and the same other tag; then all approaches are scored without these rows. The models chose the
rows, so those scores flatter; they say what stands between a target and a figure, not what is true.
"""

import argparse
from pathlib import Path

import numpy as np

from tagger.compare.approaches import choose_approaches
from tagger.compare.comparison import threshold_config
from tagger.compare.cross_validation import cross_validate
from tagger.compare.runs import LabelledFile
from tagger.compare.scoring import score_out_of_fold
from tagger.errors import exit_on_user_error

JUDGES = ("linear", "frozen", "minilm")
SHOWN = ("weighted_f1", "macro_f1", "precision_at_90%", "coverage", "published_precision")


@exit_on_user_error
def main() -> None:
    """List the rows, then score with and without them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="a labelled file")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("comparisons"), help="where runs are")
    options = parser.parse_args()

    source = LabelledFile.load(options.data, Path("data/tags.yaml"))
    approaches = choose_approaches(JUDGES)
    results = cross_validate(
        approaches, source, options.out / source.name, seeds=options.seeds, folds=5
    )
    true = source.true
    votes = np.concatenate([results[name].probabilities.argmax(axis=2) for name in JUDGES])
    disputed = (votes == votes[0]).all(axis=0) & (votes[0] != true)
    print("| id | tag | all models prefer |\n|---|---|---|")
    for row in np.flatnonzero(disputed):
        preferred = source.tags[votes[0, row]]
        print(f"| {source.items[row].id} | {source.tags[true[row]]} | {preferred} |")

    print("\n| approach | rows | " + " | ".join(SHOWN) + " |")
    print("|---" * (len(SHOWN) + 2) + "|")
    for name, result in results.items():
        for kept in (np.ones_like(disputed), ~disputed):
            scores = score_out_of_fold(
                result.probabilities[:, kept], true[kept], result.fold[:, kept], threshold_config()
            )
            values = (scores[key] for key in SHOWN)
            cells = ("-" if value is None else f"{value:.4f}" for value in values)
            print(f"| {name} | {kept.sum()} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
