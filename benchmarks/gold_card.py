"""The figures of data/README.md: coverage, agreement, and how the set's style compares with others.

    python benchmarks/gold_card.py [--real DATASET.csv --real STREAM.csv]

Style is compared with real files in three ways: how often the same words follow each other
(distinct n-grams among equally many words), near-duplicates, and how well a linear classifier tells
two sets apart in cross-validation (0.5 is not at all). It sees one of three views: function words,
punctuation and the shape of all other words (`style`); the words themselves (`words`), which carry
the subjects too; the encoder's vectors (`meaning`). Two real sets, told apart in the same way, show
what such a figure means.
"""

import argparse
import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import spmatrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from tagger.audit.table import read_table
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.tags import load_tags
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import resolve_path, write_json
from tagger.models.transformer import TransformerClassifier

PERIODS = {
    "2012-15": (2012, 2015),
    "2016-19": (2016, 2019),
    "2020-22": (2020, 2022),
    "2023-26": (2023, 2026),
}
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about all also an and any are as at be been being both but by can do does each for from
        had has have here her his how i if in into is it its just may more most my new no not now of
        on one only or our out over own same so some such than that the their them then there these
        they this to too two up use used using very via was we were what when where which who why
        will with without you your
        """,
    )
)
WORDS_COMPARED = 12_000
MOST_COMPARED = 3_000
"""Rows of a real file that take part: a linear classifier learns no more from further ones."""


@exit_on_user_error
def main() -> None:
    """Print all figures and save them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gold", type=Path, default=Path("data/gold.csv"))
    parser.add_argument("--labels", type=Path, default=Path("data/gold-labels.csv"))
    parser.add_argument("--real", type=Path, action="append", default=[], help="a file to compare")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/gold_card.json"))
    options = parser.parse_args()

    config = load_config(TrainConfig, compose_config("train", []))
    tags = [tag.name for tag in load_tags(resolve_path(config.data.tags))]
    gold = read_rows(options.gold)
    figures: dict[str, Any] = {"coverage": describe_coverage(gold, tags)}
    figures["agreement"] = describe_agreement(read_rows(options.labels))
    if options.real:
        sets = {"gold": read_table(options.gold, tags).items}
        for path in options.real:
            sets[path.stem] = sample(read_table(path, tags).items)
        classifier = TransformerClassifier.build(config.model, tags)
        figures["style"] = compare_styles(sets, classifier)
    write_json(options.out, figures | {"environment": describe_environment().model_dump()})


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file as it is."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sample(items: list[Item]) -> list[Item]:
    """Draw at most `MOST_COMPARED` items."""
    if len(items) <= MOST_COMPARED:
        return items
    chosen = np.random.default_rng(0).choice(len(items), MOST_COMPARED, replace=False)
    return [items[at] for at in sorted(chosen)]


def describe_coverage(rows: Sequence[dict[str, str]], tags: Sequence[str]) -> dict[str, Any]:
    """Count tags by period, and kinds, difficulties and subfields by tag; print the tables."""
    print(f"{len(rows)} items\n\n| tag | items | share | no description | {' | '.join(PERIODS)} |")
    print("|---" * (4 + len(PERIODS)) + "|")
    for tag in (*tags, None):
        chosen = [row for row in rows if tag in (None, row["tag"])]
        years = [int(row["year"]) for row in chosen]
        counts = [sum(a <= year <= b for year in years) for a, b in PERIODS.values()]
        without = sum(not row["description"] for row in chosen)
        cells = [len(chosen), f"{len(chosen) / len(rows):.1%}", without, *counts]
        print(f"| {tag or 'all'} | " + " | ".join(map(str, cells)) + " |")
    counted: dict[str, Any] = {}
    for column in ("kind", "difficulty", "subfield"):
        table = {tag: Counter(row[column] for row in rows if row["tag"] == tag) for tag in tags}
        counted[column] = {tag: dict(counts) for tag, counts in table.items()}
        if column == "subfield":
            print()
            for tag, counts in table.items():
                print(f"- {tag}: " + ", ".join(f"{k} {n}" for k, n in counts.most_common()))
            continue
        values = [value for value, _ in Counter(row[column] for row in rows).most_common()]
        print(f"\n| {column} | {' | '.join(tags)} | all |\n" + "|---" * (len(tags) + 2) + "|")
        for value in values:
            cells = [table[tag][value] for tag in tags]
            print(f"| {value} | " + " | ".join(map(str, [*cells, sum(cells)])) + " |")
    return counted


def describe_agreement(rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Compute Cohen's kappa of the two labellings, with a bootstrap interval over items."""
    first, second = (np.array([row[name] for row in rows]) for name in ("first", "second"))
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(rows), len(rows)) for _ in range(1000)]
    kappas = [cohen_kappa_score(first[draw], second[draw]) for draw in draws]
    kappa = float(cohen_kappa_score(first, second))
    low, high = (float(end) for end in np.quantile(kappas, (0.025, 0.975)))
    different = [row for row in rows if row["first"] != row["second"]]
    final = Counter(
        next((name for name in ("first", "second") if row[name] == row["tag"]), "third")
        for row in different
    )
    print(
        f"\ntwo labels of {len(rows)} items: {len(different)} differ, kappa {kappa:.3f} "
        f"[{low:.3f}, {high:.3f}]; settled for the first {final['first']}, the second "
        f"{final['second']}, another tag {final['third']}"
    )
    pairs = Counter(tuple(sorted((row["first"], row["second"]))) for row in different)
    for (one, other), count in pairs.most_common():
        print(f"  {one} or {other}: {count}")
    return {"items": len(rows), "differ": len(different), "kappa": kappa, "low": low, "high": high}


def compare_styles(
    sets: dict[str, list[Item]], classifier: TransformerClassifier
) -> dict[str, Any]:
    """Print n-gram variety, near-duplicates and AUCs of each pair of sets."""
    print("\n| | " + " | ".join(sets) + " |\n" + "|---" * (len(sets) + 1) + "|")
    variety = {name: distinct_ngrams(items) for name, items in sets.items()}
    for n in (1, 2, 3, 4):
        shares = [f"{variety[name][n]:.3f}" for name in sets]
        print(f"| distinct {n}-grams among {WORDS_COMPARED:,} words | " + " | ".join(shares) + " |")
    duplicates = {}
    for name, items in sets.items():
        groups = group_near_duplicates(items)
        duplicates[name] = len(items) - len(set(groups))
    print("| near-duplicates | " + " | ".join(str(n) for n in duplicates.values()) + " |")
    across = group_near_duplicates([item for items in sets.values() for item in items])
    own = set(across[: len(sets["gold"])])
    print(f"groups of near-duplicates that gold shares with the others: "
          f"{len(own & set(across[len(sets['gold']):]))}")  # fmt: skip

    names = list(sets)
    pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    vectors = {name: classifier.embed(items) for name, items in sets.items()}
    result: dict[str, Any] = {"distinct": variety, "near_duplicates": duplicates, "auc": {}}
    print("\n| told apart (AUC) | style | words | meaning |\n|---|---|---|---|")
    for one, other in pairs:
        items = [*sets[one], *sets[other]]
        side = np.array([1] * len(sets[one]) + [0] * len(sets[other]))
        style, words = style_features(items), word_features(items)
        meaning = np.concatenate([vectors[one], vectors[other]])
        scores = [separability(view, side) for view in (style[0], words[0], meaning)]
        result["auc"][f"{one} or {other}"] = dict(
            zip(("style", "words", "meaning"), scores, strict=True)
        )
        print(f"| {one} or {other} | " + " | ".join(f"{score:.3f}" for score in scores) + " |")
        if one == "gold":
            for view, (features, vocabulary) in (("style", style), ("words", words)):
                for name, which in ((one, -1), (other, 1)):
                    found = telling(features, vocabulary, side, which)
                    print(f"  <!-- {view}, gives {name} away: {' · '.join(found)} -->")
    return result


def distinct_ngrams(items: Sequence[Item]) -> dict[int, float]:
    """Compute the share of different n-grams among `WORDS_COMPARED`, from items in random order."""
    order = np.random.default_rng(0).permutation(len(items))
    texts = [re.findall(r"\w+", items[at].text.lower()) for at in order]
    shares = {}
    for n in (1, 2, 3, 4):
        grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
        grams = grams[:WORDS_COMPARED]
        shares[n] = len(set(grams)) / len(grams)
    return shares


def style_features(items: Sequence[Item]) -> tuple[spmatrix, NDArray[np.str_]]:
    """Count n-grams of function words, punctuation and word shapes (x, Xx, XX, N)."""
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 3), sublinear_tf=True, token_pattern=r"\S+", lowercase=False, min_df=3
    )
    features = vectorizer.fit_transform(
        [f"{shape(item.title)} TITLE-ENDS {shape(item.description)}" for item in items]
    )
    return features, vectorizer.get_feature_names_out()


def shape(text: str) -> str:
    """Hide what a text is about: "Using BERT in 2019." becomes "using XX in N ."."""
    shown = []
    for word in re.findall(r"\w+|[^\w\s]", text):
        if word.lower() in FUNCTION_WORDS or not word[0].isalnum():
            shown.append(word.lower())
        elif word[0].isdigit():
            shown.append("N")
        elif word[0].isupper():
            shown.append("XX" if word.isupper() else "Xx")
        else:
            shown.append("x")
    return " ".join(shown)


def word_features(items: Sequence[Item]) -> tuple[spmatrix, NDArray[np.str_]]:
    """Weigh words, signs and pairs of them by TF-IDF."""
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]", min_df=3
    )
    features = vectorizer.fit_transform([f"{i.title}\n{i.description}" for i in items])
    return features, vectorizer.get_feature_names_out()


def separability(features: Any, side: NDArray[np.int64]) -> float:
    """Area under the ROC curve of a logistic regression, over five folds."""
    scores = cross_val_predict(
        LogisticRegression(C=3, max_iter=5000, class_weight="balanced"),
        features,
        side,
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        method="decision_function",
    )
    return float(roc_auc_score(side, scores))


def telling(
    features: spmatrix, vocabulary: NDArray[np.str_], side: NDArray[np.int64], which: int
) -> list[str]:
    """Name the features that speak most for one side: -1 for the first set, 1 for the second."""
    model = LogisticRegression(C=3, max_iter=5000, class_weight="balanced").fit(features, side)
    return [str(vocabulary[at]) for at in np.argsort(which * model.coef_[0])[:15]]


if __name__ == "__main__":
    main()
