"""Which recipe to fine-tune by, on one source and on several.

    python benchmarks/recipes.py --data DATASET.csv --judge LISTS.csv

Every variant of the recipe is trained on the embedded set, on DATASET.csv, and on both with the
contrasts beside them; on at most `PER_TAG` items of each tag of either set, over several seeds, and
never on a test part that is the same for all. It is scored on that test part (in-domain), on the
other source where it has not seen that one, and on LISTS.csv, which nothing is trained on. Rows
elsewhere that say the same as a training row are left out. Differences to the default come with
intervals that hold for all variants at once, and a last table ranks the variants over all places.

Each run is an ordinary run folder below --out: a killed benchmark goes on where it was. A long one
can be made in pieces (--only NAME), and is collected by the command without --only.

Encoders of benchmarks/adapt_encoder.py: --variant 'mlm=model.encoder=FOLDER'.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from tagger.compare.cross_validation import folder_name
from tagger.compare.report import Difference
from tagger.compare.runs import LabelledFile, drop_model, make_run, predict_other, run_config
from tagger.compare.scoring import compare_all
from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.schema import TrainConfig
from tagger.data.items import FIELDS, Item
from tagger.data.problems import did_you_mean
from tagger.data.splits import Split, split_items, unseen_items
from tagger.environment import describe_environment
from tagger.errors import UserError, exit_on_user_error
from tagger.evaluation.selective import area_under_risk_coverage, risk_coverage
from tagger.files import csv_text, write_json, write_text
from tagger.progress import progress_bar
from tagger.reporting.markdown import markdown_table
from tagger.runs import read_predictions
from tagger.scores import FloatArray, IntArray, confusion_matrix, scores_from_confusion

DEFAULT = "default"
SHARP = ["training.label_smoothing=0.0"]
NO_AVERAGE = ["training.ema_decay=0.0"]
RANDOM_HEAD = ["training.head_init=random", "training.head_lr=1e-3"]
DROPOUT = ["model.encoder_dropout=0.1"]
FULL = ["model.freeze_embeddings=false", "training.mixed_precision=fp32"]
VARIANTS = {
    DEFAULT: [],
    "no smoothing": SHARP,
    "no smoothing, no average": [*SHARP, *NO_AVERAGE],
    "no smoothing, random head": [*SHARP, *RANDOM_HEAD],
    "plain": [*SHARP, *NO_AVERAGE, *RANDOM_HEAD, "training.epochs=5", *DROPOUT, *FULL],
    "adversarial": [*SHARP, "training.adversarial=0.02"],
    "encoder dropout": [*SHARP, *DROPOUT],
}
TAGS, GOLD, CONTRASTS = (Path("data") / name for name in ("tags.yaml", "gold.csv", "contrasts.csv"))
PER_TAG = 150
SPLIT = {"test": 0.15, "seed": 0, "per_tag": PER_TAG}
PRECISION = 0.98
COMPARED = ("weighted_f1", "macro_f1")
"""Scores whose differences come with intervals."""
HIGHER_IS_BETTER = {"weighted_f1": True, "aurc": False, "published": True}
"""Scores that variants are ranked by."""
TITLES = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "aurc": "AURC",
    "published": f"published at {PRECISION}",
}


@dataclass(frozen=True)
class Place:
    """Rows that variants are scored on, with the position of each one's tag, (n,)."""

    name: str
    items: list[Item]
    true: IntArray

    @classmethod
    def of(cls, name: str, source: LabelledFile, rows: Sequence[int]) -> "Place":
        """Take some rows of a source."""
        return cls(name, [source.items[at] for at in rows], source.true[list(rows)])


@dataclass(frozen=True)
class Journey:
    """What variants are trained on, and where they are scored.

    Attributes:
        name: Of its folder.
        source: What is trained on; its test part is held out.
        overrides: What is trained on beside it.
        rows: How many rows are trained on.
        in_domain: The test part.
        elsewhere: Rows of other sources, none of which repeats a training row.
    """

    name: str
    source: LabelledFile
    overrides: list[str]
    rows: int
    in_domain: Place
    elsewhere: list[Place]

    @classmethod
    def plan(
        cls,
        name: str,
        source: LabelledFile,
        others: Sequence[LabelledFile],
        extra: Sequence[LabelledFile] = (),
    ) -> "Journey":
        """Divide a source, and choose the rows of the others that no training row repeats."""
        split = divide(source)
        seen = [source.items[at] for at in split.train]
        seen += [item for one in extra for item in one.items]
        beside = f"data.extra=[{','.join(quoted(one.path) for one in extra)}]"
        in_domain = Place.of("its test part", source, split.test)
        elsewhere = [Place.of(one.name, one, unseen_items(one.items, seen)) for one in others]
        return cls(name, source, [beside], len(seen), in_domain, elsewhere)


@dataclass(frozen=True)
class Cell:
    """What the variants of a journey are worth in one place.

    Attributes:
        journey: What they are trained on.
        place: What they are scored on.
        scores: Mean and standard deviation over seeds, by variant and name of `TITLES`.
        differences: To the default, by name of `COMPARED`; none where it is not among the variants.
    """

    journey: Journey
    place: Place
    scores: dict[str, dict[str, dict[str, float]]]
    differences: dict[str, list[Difference]]

    @classmethod
    def of(cls, journey: Journey, place: Place, probabilities: Mapping[str, FloatArray]) -> "Cell":
        """Score and compare probabilities, (n_seeds, n, n_tags) by variant."""
        names = [name for name in probabilities if name != DEFAULT]
        pairs = [(name, DEFAULT) for name in names if DEFAULT in probabilities]
        scores = {name: score(rows, place.true) for name, rows in probabilities.items()}
        differences = {
            key: compare_all(probabilities, place.true, key, pairs=pairs) for key in COMPARED
        }
        return cls(journey, place, scores, differences)

    def as_json(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        pairs = {key: [one.model_dump() for one in many] for key, many in self.differences.items()}
        places = {"trained_on": self.journey.name, "scored_on": self.place.name}
        rows = {"training_rows": self.journey.rows, "rows": len(self.place.items)}
        return {**places, **rows, "scores": self.scores, "differences": pairs}


@exit_on_user_error
def main() -> None:
    """Train and score all variants, print the tables, write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="the other labelled source")
    parser.add_argument("--judge", required=True, type=Path, help="labelled, never trained on")
    parser.add_argument("--variant", action="append", default=[], help="NAME=OVERRIDES, a further")
    parser.add_argument("--only", action="append", default=[], help="NAME of a variant: no others")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/recipes"))
    options = parser.parse_args()

    variants = choose_variants(options.variant, options.only)
    other, judge = (LabelledFile.load(path, TAGS) for path in (options.data, options.judge))
    journeys = plan_journeys(other, judge, options.out)
    cells: list[Cell] = []
    with progress_bar(len(journeys) * len(variants) * options.seeds, "recipes", "run") as bar:
        for journey in journeys:
            said: dict[str, list[list[FloatArray]]] = {name: [] for name in variants}
            for name, overrides in variants.items():
                for seed in range(options.seeds):
                    folder = options.out / journey.name / f"{folder_name(name)}-seed{seed}"
                    said[name].append(train_and_predict(overrides, journey, folder, seed))
                    bar.update()
            for at, place in enumerate([journey.in_domain, *journey.elsewhere]):
                rows = {name: np.array([one[at] for one in runs]) for name, runs in said.items()}
                cells.append(Cell.of(journey, place, rows))
    ranks = mean_ranks(cells)
    for cell in cells:
        print_cell(cell)
    print_ranks(ranks, len(cells))
    document = {
        "seeds": options.seeds,
        "results": [cell.as_json() for cell in cells],
        "mean_ranks": ranks,
        "environment": describe_environment().model_dump(),
    }
    write_json(options.out / "recipes.json", document)


def choose_variants(further: Sequence[str], only: Sequence[str]) -> dict[str, list[str]]:
    """Return the overrides of each variant that is asked for.

    Raises:
        UserError: for an unknown variant, or overrides that no run can be made with.
    """
    variants = dict(VARIANTS)
    for entry in further:
        name, equals, overrides = entry.partition("=")
        if not equals:
            hint = "Write --variant 'NAME=KEY=VALUE KEY=VALUE'."
            raise UserError(f"--variant {entry!r} has no overrides", hint=hint)
        variants[name] = overrides.split()
    if unknown := [f"{one!r}{did_you_mean(one, variants)}" for one in only if one not in variants]:
        raise UserError("--only names unknown variants:", unknown, f"Known: {'; '.join(variants)}.")
    chosen = {name: one for name, one in variants.items() if name in (only or variants)}
    for given in chosen.values():
        # A mistake in the last variant should not cost the training of the others.
        load_config(TrainConfig, compose_config("train", given))
    return chosen


def plan_journeys(other: LabelledFile, judge: LabelledFile, out: Path) -> list[Journey]:
    """Plan to train on the embedded set, on the other source, and on both.

    For both, the other source comes first, so that the two journeys share its test part; the rows
    drawn from the embedded set are those of its own journey.
    """
    gold = LabelledFile.load(GOLD, TAGS)
    drawn = [gold.items[at] for at in divide(gold).train]
    path = out / f"gold-{PER_TAG}.csv"
    rows = [(one.id, one.created_on, one.title, one.description, one.tag) for one in drawn]
    write_text(path, csv_text([FIELDS, *rows]))
    extra = [LabelledFile.load(path, TAGS), LabelledFile.load(CONTRASTS, TAGS)]
    return [
        Journey.plan(gold.name, gold, [other, judge]),
        Journey.plan(other.name, other, [gold, judge]),
        Journey.plan("both", other, [judge], extra),
    ]


def divide(source: LabelledFile) -> Split:
    """Divide a source as all of its runs do."""
    config = run_config([], source, Path("unused"), 0, SPLIT)
    return split_items(source.items, config.data.split)


def train_and_predict(
    overrides: Sequence[str], journey: Journey, folder: Path, seed: int
) -> list[FloatArray]:
    """Train one run; return what it says of its test part and of each place elsewhere."""
    given = [*journey.overrides, *overrides]
    run = make_run(run_config(given, journey.source, folder, seed, SPLIT))
    saved = read_predictions(run.path / "predictions.csv", run.tags)
    further = predict_other(run, [item for place in journey.elsewhere for item in place.items])
    drop_model(run)
    ends = list(accumulate(len(place.items) for place in journey.elsewhere))
    own = np.array([saved[item.id] for item in journey.in_domain.items])
    return [own, *np.split(further, ends[:-1])]


def score(probabilities: FloatArray, true: IntArray) -> dict[str, dict[str, float]]:
    """Score a variant on one place: mean and standard deviation over seeds by name of `TITLES`."""
    values: dict[str, list[float]] = {name: [] for name in TITLES}
    for rows in probabilities:
        predicted, confidence = rows.argmax(axis=1), rows.max(axis=1)
        found = scores_from_confusion(confusion_matrix(true, predicted, rows.shape[1]))
        coverages, risks = risk_coverage(confidence, predicted == true)
        for name in COMPARED:
            values[name].append(float(found[name]))
        values["aurc"].append(area_under_risk_coverage(confidence, predicted == true))
        kept = coverages[risks <= 1 - PRECISION + 1e-9]
        values["published"].append(float(kept.max(initial=0.0)))
    return {
        name: {"mean": float(np.mean(one)), "sd": float(np.std(one, ddof=1)) if one[1:] else 0.0}
        for name, one in values.items()
    }


def mean_ranks(cells: Sequence[Cell]) -> dict[str, dict[str, float]]:
    """Average the ranks of each variant over places, 1 the best; the best variant comes first."""
    names = list(cells[0].scores)
    ranks: dict[str, FloatArray] = {}
    for which, higher in HIGHER_IS_BETTER.items():
        means = np.array([[cell.scores[name][which]["mean"] for name in names] for cell in cells])
        ranks[which] = rankdata(-means if higher else means, axis=1).mean(axis=0)
    ranks["mean"] = np.mean(list(ranks.values()), axis=0)
    best_first = np.argsort(ranks["mean"], kind="stable")
    return {names[at]: {key: float(one[at]) for key, one in ranks.items()} for at in best_first}


def print_cell(cell: Cell) -> None:
    """Print what the variants of a journey are worth in one place."""
    trained = f"{cell.journey.name} ({cell.journey.rows} rows)"
    print(f"\nTrained on {trained}, scored on {cell.place.name} ({len(cell.place.items)} rows)\n")
    told = {(one.one, key): tell(one) for key, found in cell.differences.items() for one in found}
    head = ["variant", *TITLES.values(), *(f"{TITLES[key]}, difference" for key in COMPARED)]
    rows = []
    for name, values in cell.scores.items():
        scores = [f"{values[key]['mean']:.4f} ({values[key]['sd']:.4f})" for key in TITLES]
        rows.append([name, *scores, *(told.get((name, key), "") for key in COMPARED)])
    print("\n".join(markdown_table(head, rows)))


def tell(one: Difference) -> str:
    """Write a difference with its interval, bold where it is proven."""
    text = f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
    return f"**{text}**" if one.proven else text


def print_ranks(ranks: Mapping[str, Mapping[str, float]], places: int) -> None:
    """Print the mean ranks of all variants."""
    print(f"\nMean rank over {places} places, 1 the best\n")
    head = ["variant", *(f"by {TITLES[which]}" for which in HIGHER_IS_BETTER), "mean of these"]
    rows = [[name, *(f"{one:.2f}" for one in values.values())] for name, values in ranks.items()]
    print("\n".join(markdown_table(head, rows)))


if __name__ == "__main__":
    main()
