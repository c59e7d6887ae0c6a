"""Words and meaning: two models averaged, or one head over both; and the tag list as items.

    python benchmarks/one_head.py --data DATASET.csv --judge LISTS.csv

`linear` goes by words and characters, `frozen` by the vectors of the pretrained MiniLM. Their
average is set beside support vector machines over both kinds of features, the vectors times
`SCALES`, which is what a wide-and-deep model has on top of a frozen encoder (Cheng et al. 2016). It
is also set beside an average whose training items include the definitions, examples and
counter-examples of the tag list. Three journeys: from the embedded set to DATASET.csv, back, and
from both to LISTS.csv. Seeds are random nine tenths of the training rows. Rows that say the same as
a training row are left out; intervals hold for all differences of a journey at once.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from tagger.compare.runs import LabelledFile
from tagger.compare.scoring import compare_all
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import FrozenConfig, LinearConfig, TrainConfig
from tagger.data.columns import UNSAID
from tagger.data.items import Item
from tagger.data.sources import open_file, read_labelled
from tagger.data.splits import unseen_items
from tagger.data.tags import load_tags, tag_positions
from tagger.errors import exit_on_user_error
from tagger.evaluation.selective import area_under_risk_coverage, precision_at_coverage
from tagger.models.embedding import embed_items
from tagger.models.linear import SHARPNESS, build_vectorizers
from tagger.reporting.markdown import markdown_table
from tagger.scores import FloatArray, IntArray, softmax

AVERAGE = "average"
SCALES = (0.5, 1.0, 2.0)
KEPT = 0.9


@exit_on_user_error
def main() -> None:
    """Fit everything on each journey and print a table of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--judge", required=True, type=Path)
    parser.add_argument("--gold", type=Path, default=Path("data/gold.csv"))
    parser.add_argument("--tags", type=Path, default=Path("data/tags.yaml"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()

    gold, other = (LabelledFile.load(path, options.tags) for path in (options.gold, options.data))
    tags = gold.tags
    lists = read_labelled([open_file(options.judge)], UNSAID, tags).items
    journeys = {
        f"{options.gold.stem} to {options.data.stem}": (gold.items, other.items),
        f"{options.data.stem} to {options.gold.stem}": (other.items, gold.items),
        f"both to {options.judge.stem}": ([*gold.items, *other.items], lists),
    }
    said = tag_items(options.tags)
    for name, (known, there) in journeys.items():
        items = [there[at] for at in unseen_items(there, known)]
        made = travel(known, items, said, tags, options.seeds)
        show(name, made, tag_positions(items, tags), len(known))


def travel(
    known: Sequence[Item], items: Sequence[Item], said: Sequence[Item], tags: Sequence[str],
    seeds: int,
) -> dict[str, FloatArray]:  # fmt: skip
    """Return what each variant says of the items, (seeds, n_items, n_tags)."""
    linear, frozen = model_config("linear"), model_config("frozen")
    assert isinstance(linear, LinearConfig)
    assert isinstance(frozen, FrozenConfig)
    rows = [*known, *said]
    vectors, there = embed_items(rows, "frozen", tags), embed_items(items, "frozen", tags)
    targets = tag_positions(rows, tags)
    found: dict[str, list[FloatArray]] = {}
    for seed in range(seeds):
        kept = np.random.default_rng(seed).permutation(len(known))[: round(KEPT * len(known))]
        for name, train in {"": kept, ", tag list": [*kept, *range(len(known), len(rows))]}.items():
            words = build_vectorizers((linear.word_ngrams, linear.char_ngrams))
            texts = [rows[at].text for at in train]
            features = hstack([one.fit_transform(texts) for one in words], format="csr")
            new = hstack([one.transform([item.text for item in items]) for one in words])
            regression = LogisticRegression(C=frozen.C, class_weight="balanced", max_iter=2000)
            regression.fit(vectors[train], targets[train])
            meaning = regression.predict_proba(there)
            surface = machines(features, targets[train], new, linear)
            made = {AVERAGE: (surface + meaning) / 2}
            if not name:
                made |= {"linear": surface, "frozen": meaning}
                for scale in SCALES:
                    both = hstack([features, csr_matrix(scale * vectors[train])], format="csr")
                    over = hstack([new, csr_matrix(scale * there)], format="csr")
                    made[f"one head, {scale:g}"] = machines(both, targets[train], over, linear)
            for variant, probabilities in made.items():
                found.setdefault(variant + name, []).append(probabilities)
    return {name: np.stack(each) for name, each in found.items()}


def machines(
    features: csr_matrix, targets: IntArray, new: csr_matrix, config: LinearConfig
) -> FloatArray:
    """Fit as `linear` does, and return probabilities of new rows."""
    model = LinearSVC(C=config.C, class_weight="balanced", random_state=0)
    probabilities: FloatArray = softmax(
        SHARPNESS * model.fit(features, targets).decision_function(new)
    )
    return probabilities


def tag_items(path: Path) -> list[Item]:
    """Return the definitions, examples and counter-examples of a tag list as items."""
    items = []
    for tag in load_tags(path):
        texts = [(text, tag.name) for text in [tag.definition, *tag.examples] if text]
        texts += [(one.text, one.tag) for one in tag.counter_examples]
        items += [Item(f"{tag.name} {at}", text, "", tag=of) for at, (text, of) in enumerate(texts)]
    return items


def show(name: str, made: dict[str, FloatArray], true: IntArray, known: int) -> None:
    """Print means over seeds, and the difference of each to the average."""
    others = [one for one in made if one != AVERAGE]
    against = {
        one.one: one
        for one in compare_all(made, true, "weighted_f1", pairs=[(one, AVERAGE) for one in others])
    }
    rows = []
    for variant, probabilities in made.items():
        per_seed = [(one.max(axis=1), one.argmax(axis=1) == true) for one in probabilities]
        risk = np.mean([area_under_risk_coverage(*each) for each in per_seed])
        surest = np.mean([precision_at_coverage(*each, 0.8) for each in per_seed])
        difference = against.get(variant)
        shown = "" if difference is None else (
            f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
        )  # fmt: skip
        accuracy = np.mean([right.mean() for _, right in per_seed])
        rows.append([variant, f"{accuracy:.4f}", shown, f"{risk:.4f}", f"{surest:.4f}"])
    print(f"\n{name}: {known} rows, {len(true)} judged\n")
    head = ["variant", "accuracy", "weighted F1 minus average", "AURC", "P of surest 80 %"]
    print("\n".join(markdown_table(head, rows)))


def model_config(name: str) -> object:
    """Return the config of an approach."""
    return load_config(TrainConfig, compose_config("train", [f"model={name}"])).model


if __name__ == "__main__":
    main()
