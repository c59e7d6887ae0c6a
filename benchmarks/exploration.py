"""Does the search find weak slices that are there, and only those? And which labels does it mark?

    python benchmarks/exploration.py

Models are logistic regressions on the frozen encoder's vectors of the embedded set, out of five
folds that keep near-duplicates together.

- Planted: one subfield of the embedded set, a column that no model and no search ever reads, gets
  wrong labels: in training, each of its rows has another tag than its own, drawn at random. The
  slice is found if, of the first five slices reported, one has at least half of its errors in it.
  Some subfields are recognised by their neighbours all the same, and then there is nothing to find:
  so it is also said how many slices were weak, by a test of the slice alone (p < 0.001), as nobody
  who does not know the slice could do.
- Clean: the errors of the plain model are dealt out among all rows at random, and searched.
- Labels: 3 % of the labels that are evaluated against are made wrong. Of what is marked as
  doubtful, how many are these, and how many of these are marked?

Each is done with all rows and with 764 of them, as many as Made With ML's set has.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import hypergeom
from sklearn.model_selection import StratifiedGroupKFold

from tagger.compare.runs import LabelledFile
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.errors import exit_on_user_error
from tagger.evaluation.error_groups import nearest_items, suspected_label_errors
from tagger.evaluation.explore import ENCODER
from tagger.evaluation.parts import FEWEST_ROWS, found_parts, named_parts
from tagger.evaluation.predictions import LabelledPredictions
from tagger.evaluation.slices import build_slices
from tagger.evaluation.weak_slices import LEVEL, find_weak_slices
from tagger.files import write_json
from tagger.models.embedding import embed_items, unit_rows
from tagger.progress import progress_bar
from tagger.scores import BoolArray, FloatArray, IntArray, softmax
from tagger.training.probe import fit_logistic_regression

FOLDS, STRENGTH = 5, 10.0
FIRST = 5
WEAK = 1e-3
SMALLER = 764
FLIPPED = 0.03


@dataclass(frozen=True)
class World:
    """The embedded set, ready to be modelled.

    Attributes:
        items: All rows, n.
        tags: Names.
        true: Position of each row's tag, (n,).
        subfield: Of each row, n.
        vectors: (n, width), of length 1.
        folds: Test rows of each fold.
    """

    items: list[Item]
    tags: Sequence[str]
    true: IntArray
    subfield: list[str]
    vectors: FloatArray
    folds: list[IntArray]

    @classmethod
    def load(cls, path: Path) -> "World":
        """Read the set and compute its vectors."""
        source = LabelledFile.load(path, Path("data/tags.yaml"))
        true = tag_positions(source.items, source.tags)
        with path.open(encoding="utf-8", newline="") as file:
            subfield = [row["subfield"] for row in csv.DictReader(file)]
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        groups = group_near_duplicates(source.items)
        folds = [test for _, test in splitter.split(true, true, groups)]
        vectors = unit_rows(embed_items(source.items, ENCODER, source.tags))
        return cls(source.items, source.tags, true, subfield, vectors, folds)

    def predict(self, labels: IntArray) -> FloatArray:
        """Return out-of-fold probabilities, (n, n_tags), of models trained with some labels."""
        probabilities = np.zeros((len(labels), len(self.tags)))
        for test in self.folds:
            train = np.setdiff1d(np.arange(len(labels)), test)
            weight, bias = fit_logistic_regression(
                torch.from_numpy(self.vectors[train]),
                torch.from_numpy(labels[train]),
                len(self.tags),
                STRENGTH,
                balanced=True,
            )
            probabilities[test] = softmax(self.vectors[test] @ weight.numpy().T + bias.numpy())
        return probabilities

    def other_tags(self, rows: IntArray, random: np.random.Generator) -> IntArray:
        """Return all labels, those of some rows made wrong."""
        labels = self.true.copy()
        steps = random.integers(1, len(self.tags), len(rows))
        labels[rows] = (labels[rows] + steps) % len(self.tags)
        return labels


@exit_on_user_error
def main() -> None:
    """Run all three, and print a table each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/gold.csv"))
    parser.add_argument("--plantings", type=int, default=69, help="subfields")
    parser.add_argument("--shuffles", type=int, default=400)
    parser.add_argument("--flips", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/exploration.json"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    world = World.load(options.data)
    plain = world.predict(world.true)
    results = {
        "plantings": plant(world, options.plantings),
        "clean": shuffle(world, plain, options.shuffles),
        "labels": flip(world, plain, options.flips),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, results)
    print(json.dumps({name: part["summary"] for name, part in results.items()}, indent=2))


def plant(world: World, many: int) -> dict[str, object]:
    """Plant one weak slice after another, and search for it."""
    names = np.array(sorted(set(world.subfield)))
    chosen = np.random.default_rng(0).permutation(names)[:many]
    lines = []
    with progress_bar(2 * len(chosen), "plant", "search") as bar:
        for number, name in enumerate(chosen):
            random = np.random.default_rng(number)
            planted = np.array([one == name for one in world.subfield])
            labels = world.other_tags(np.flatnonzero(planted), random)
            probabilities = world.predict(labels)
            for size in (len(world.items), SMALLER):
                rows = _choose(world, size, random)
                lines.append(
                    {"subfield": str(name), "rows": size}
                    | _search_for(world, probabilities, rows, planted)
                )
                bar.update()
    summary = {}
    for size in (len(world.items), SMALLER):
        own = [line for line in lines if line["rows"] == size]
        weak = [line for line in own if line["weak"]]
        summary[f"{size} rows"] = {
            "plantings": len(own),
            "found": sum(bool(line["found"]) for line in own),
            "weak": len(weak),
            "weak and found": sum(bool(line["found"]) for line in weak),
        }
    return {"summary": summary, "lines": lines}


def shuffle(world: World, plain: FloatArray, many: int) -> dict[str, object]:
    """Search where errors are dealt out at random."""
    summary: dict[str, object] = {}
    with progress_bar(2 * many, "shuffle", "search") as bar:
        for size in (len(world.items), SMALLER):
            random = np.random.default_rng(size)
            rows = _choose(world, size, random)
            parts = _parts(world, rows)
            wrong = plain[rows].argmax(axis=1) != world.true[rows]
            reports = 0
            for number in range(many):
                reports += bool(find_weak_slices(parts, random.permutation(wrong), number))
                bar.update()
            summary[f"{size} rows"] = {
                "searches": many,
                "that report anything": reports,
                "allowed share": LEVEL,
            }
    return {"summary": summary}


def flip(world: World, plain: FloatArray, many: int) -> dict[str, object]:
    """Make some labels wrong that are evaluated against, and see which are marked."""
    marked = hits = flipped = 0
    for number in range(many):
        random = np.random.default_rng(number)
        rows = np.flatnonzero(random.random(len(world.items)) < FLIPPED)
        labels = world.other_tags(rows, random)
        for test in world.folds:
            known = np.setdiff1d(np.arange(len(labels)), test)
            near = nearest_items(
                world.vectors[test], [world.items[row] for row in known], world.vectors[known]
            )
            results = LabelledPredictions(
                [world.items[row] for row in test], labels[test], plain[test], world.tags
            )
            found = test[suspected_label_errors(results, near)]
            marked += len(found)
            hits += int((labels[found] != world.true[found]).sum())
            flipped += int((labels[test] != world.true[test]).sum())
    return {
        "summary": {
            "made wrong": flipped,
            "marked": marked,
            "of these made wrong": hits / marked,
            "of the wrong ones marked": hits / flipped,
        }
    }


def _choose(world: World, size: int, random: np.random.Generator) -> IntArray:
    return np.sort(random.permutation(len(world.items))[:size])


def _parts(world: World, rows: IntArray) -> list:  # type: ignore[type-arg]
    items = [world.items[row] for row in rows]
    counts = {tag: int((world.true == place).sum()) for place, tag in enumerate(world.tags)}
    named = [
        part
        for part in named_parts(items, world.tags, build_slices(items, counts))
        if FEWEST_ROWS <= len(part.rows) < len(items)
    ]
    return [*named, *found_parts(items, world.true[rows], world.tags, world.vectors[rows])]


def _search_for(
    world: World, probabilities: FloatArray, rows: IntArray, planted: BoolArray
) -> dict[str, object]:
    wrong = probabilities[rows].argmax(axis=1) != world.true[rows]
    inside = planted[rows]
    found = find_weak_slices(_parts(world, rows), wrong, seed=0)[:FIRST]
    chance = hypergeom.sf(wrong[inside].sum() - 1, len(rows), wrong.sum(), inside.sum())
    return {
        "planted_rows": int(inside.sum()),
        "error_rate": float(wrong[inside].mean()),
        "elsewhere": float(wrong[~inside].mean()),
        "weak": bool(chance < WEAK),
        "found": any(inside[one.rows[wrong[one.rows]]].mean() >= 0.5 for one, _ in found),
        "reported": [one.name for one, _ in found],
    }


if __name__ == "__main__":
    main()
