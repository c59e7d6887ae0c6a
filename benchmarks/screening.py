"""Screening for duplicates: what it costs as a store grows, and which planted duplicates it finds.

    python benchmarks/screening.py --texts STREAM.csv [--run RUN] [--data FILE.csv ...]
        [--parts cost quality] [--sizes 1000 10000 100000 1000000]

Cost: a SQLite store is filled with made-up texts, as long as those of the real file and of its
words, and its index is rebuilt. Then, for 1,000 further texts, the time to find what is alike and
to add the text is taken, without the commit. By meaning the same is done with random projections
of what the texts are, of a real width: it is cost that is measured. Each size is another process.

Quality: a file's rows are submitted one by one. Then a changed copy of every fifth row is looked
up: counted are copies that are linked to the row, or to one that is a near-duplicate of it (as
`tagger.data.duplicates` groups them), linked wrongly, sent to a person, or missed. Rows of the file
itself that are linked to one of no such group are wrong links too. With a run, its vectors are
asked where words say nothing.
"""

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from near_duplicates import EVERY, Change, change_case, change_punctuation, change_word
from tagger.data.duplicates import group_near_duplicates, normalise
from tagger.data.items import Item
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import REPO_ROOT, write_json
from tagger.models.base import Embeds, embedder_of
from tagger.runs import RunFolder
from tagger.service.database import open_store
from tagger.service.duplicates import Match, find_match
from tagger.service.events import append, rebuild_indexes
from tagger.service.meaning import MeaningIndex
from tagger.service.settings import DuplicatesConfig
from tagger.service.tables import EVENT

FURTHER = 1_000
WIDTH = 384
CHUNK = 10_000
Figures = dict[str, float]


def read(path: Path) -> list[Item]:
    """Read the rows of a file with a title and a description."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Item(str(n), row["title"], row["description"])
            for n, row in enumerate(csv.DictReader(file), start=1)
        ]


def made_up(real: Sequence[Item], rng: random.Random) -> Callable[[], dict[str, str]]:
    """Return a function that makes texts as long as real ones, of their words as often."""
    words = [word for item in real for word in item.text.split()]
    lengths = [(len(item.title.split()), len(item.description.split())) for item in real]

    def make() -> dict[str, str]:
        title, rest = rng.choice(lengths)
        return {
            "title": " ".join(rng.choices(words, k=title)),
            "description": " ".join(rng.choices(words, k=rest)),
        }

    return make


def milliseconds(taken: Sequence[float]) -> Figures:
    """Return quantiles of seconds."""
    p50, p99 = np.quantile(taken, [0.5, 0.99]) * 1_000
    return {"p50 ms": float(p50), "p99 ms": float(p99)}


def resident_mib() -> float:
    """Return the most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cost_by_words(size: int, real: Sequence[Item], folder: Path) -> Figures:
    """Fill a store, rebuild its index, then find and add further texts."""
    make = made_up(real, random.Random(0))
    file = folder / "store.db"
    with closing(open_store(f"sqlite:///{file}", create=True)) as store:
        for start in range(0, size, CHUNK):
            numbers = range(start + 1, min(start + CHUNK, size) + 1)
            with store.writing() as connection:
                rest: dict[str, Any] = {"at": 1, "kind": "submitted", "actor": "us", "tag": "a"}
                rest["status"] = "published"
                rows = [
                    rest | {"sequence": n, "item": n, "data": json.dumps(make())} for n in numbers
                ]
                connection.execute(insert(EVENT), rows)
            store.checkpoint()
        before = resident_mib()
        began = time.perf_counter()
        with store.writing() as connection:
            rebuild_indexes(connection)
        rebuilt = time.perf_counter() - began
        peak = resident_mib()
        store.checkpoint()
        taken = []
        for _ in range(FURTHER):
            data = make()
            with store.writing() as connection:
                began = time.perf_counter()
                find_match(connection, data["title"], data["description"])
                append(
                    connection, "submitted", at=1, actor="us", status="published", tag="a",
                    data=data,
                )  # fmt: skip
                taken.append(time.perf_counter() - began)
        store.checkpoint()
        pages = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'fingerprint%'"
        try:
            with store.reading() as connection:
                index = float(connection.exec_driver_sql(pages).scalar() or 0)
        except Exception:  # a SQLite that was built without dbstat
            index = float("nan")
    return milliseconds(taken) | {
        "rebuild s": rebuilt,
        "peak MiB": peak,
        "of them by the rebuild": peak - before,
        "store MiB": file.stat().st_size / 2**20,
        "index MiB": index / 2**20,
    }


def cost_by_meaning(size: int, folder: Path) -> Figures:
    """Make an index of random vectors, then find and add further ones."""
    rng = np.random.default_rng(0)
    # Of fewer dimensions than they have numbers, as those of texts are.
    projection = rng.normal(size=(64, WIDTH)).astype(np.float32)

    def make(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return rng.normal(size=(count, 64)).astype(np.float32) @ projection

    before = resident_mib()
    index = MeaningIndex(folder / "meaning", "v", WIDTH)
    began = time.perf_counter()
    for start in range(0, size, CHUNK):
        count = min(CHUNK, size - start)
        index.add(range(start + 1, start + count + 1), make(count), start + count)
    rebuilt = time.perf_counter() - began
    began = time.perf_counter()
    index.save()
    saved = time.perf_counter() - began
    taken = []
    for number, vector in enumerate(make(FURTHER), start=size + 1):
        began = time.perf_counter()
        index.nearest(vector, 10)
        index.add([number], vector[None], number)
        taken.append(time.perf_counter() - began)
    files = sum(file.stat().st_size for file in folder.glob("*.usearch"))
    return milliseconds(taken) | {
        "rebuild s": rebuilt,
        "save s": saved,
        "peak MiB": resident_mib() - before,
        "file MiB": files / 2**20,
    }


def cut_description(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Leave out the last fifth of the description, as a feed that cuts it does."""
    parts = item.description.split()
    kept = " ".join(parts[: max(1, round(0.8 * len(parts)))])
    return replace(item, description=f"{kept} ..." if parts else "")


def add_source(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Put the name of a source before the title and behind the description."""
    name = rng.choice(["HN", "arXiv", "reddit", "GitHub"])
    return replace(item, title=f"[{name}] {item.title}", description=f"{item.description} ({name})")


def reorder(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Put the end of the description before its beginning; the title stays."""
    parts = item.description.split()
    half = len(parts) // 2
    return replace(item, description=" ".join(parts[half:] + parts[:half]))


def change_form(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Change the case of letters and the punctuation."""
    return change_punctuation(change_case(item, rng, words), rng, words)


def change_three_words(item: Item, rng: random.Random, words: list[str]) -> Item:
    """Replace a word of the title and two of the description by words of other rows."""
    once = change_word(item, rng, words)
    parts = once.description.split()
    if len(parts) > 1:
        parts[rng.randrange(len(parts))] = rng.choice(words)
    return replace(once, description=" ".join(parts))


KINDS: dict[str, Change] = {
    "case and punctuation": change_form,
    "description cut": cut_description,
    "source added": add_source,
    "description reordered": reorder,
    "words substituted": change_word,
}
HARSHER: dict[str, Change] = {"three words substituted": change_three_words}
"""Looked up too; recall is over the five kinds alone."""


def quality(
    items: Sequence[Item], embedder: Embeds | None, folder: Path, certain: float
) -> dict[str, Figures]:
    """Submit all rows, then look their changed copies up."""
    limits = DuplicatesConfig(certain=certain, likely=min(certain, DuplicatesConfig().likely))
    group = group_near_duplicates(items)
    words = [word for item in items for word in item.text.split()]
    rng = random.Random(0)
    meaning = None
    if embedder is not None:
        meaning = MeaningIndex(folder / "meaning", "v", embedder.vector_width)
    vectors = None if embedder is None else embedder.embed(items)
    row_of: dict[int, int] = {}
    results: dict[str, Counter[str]] = {"rows of the file": Counter()}

    def judge(match: Match | None, vector: Any, row: int) -> str:
        if match is not None and match.is_certain(limits.certain):
            same = group[row_of[match.item]] == group[row]
            return "linked" if same else "linked wrongly"
        near = meaning.nearest(vector, 1) if meaning is not None else []
        likely = match is not None and match.overlap >= limits.likely
        return "to review" if likely or (near and near[0][1] >= limits.meaning) else "no match"

    with closing(open_store(f"sqlite:///{folder / 'store.db'}", create=True)) as store:
        repeated: set[str] = set()
        results["repeats of a description"] = Counter()
        with store.writing() as connection:
            for row, item in enumerate(items):
                match = find_match(connection, item.title, item.description)
                vector = None if vectors is None else vectors[row]
                said = judge(match, vector, row)
                rest = normalise(item.description)
                kind = "repeats of a description" if rest in repeated - {""} else "rows of the file"
                repeated.add(rest)
                results[kind][said] += 1
                linked = said.startswith("linked")
                event = append(
                    connection, "submitted", at=1, actor="us", tag=None,
                    status="duplicate" if linked else "published",
                    data={"title": item.title, "description": item.description},
                )  # fmt: skip
                row_of[event.item] = row
                if meaning is not None and vector is not None and not linked:
                    meaning.add([event.item], vector[None], event.item)
        with store.reading() as connection:
            for name, change in (KINDS | HARSHER).items():
                rows = range(0, len(items), EVERY)
                copies = [change(items[row], rng, words) for row in rows]
                asked = None if embedder is None else embedder.embed(copies)
                results[name] = Counter(
                    judge(
                        find_match(connection, one.title, one.description),
                        None if asked is None else asked[at],
                        row,
                    )
                    for at, (row, one) in enumerate(zip(rows, copies, strict=True))
                )
    return {name: dict(counts) for name, counts in results.items()}


def print_quality(results: dict[str, Figures], name: str) -> None:
    """Print shares of each kind, and precision and recall of links over all that were planted."""
    columns = ("linked", "linked wrongly", "to review", "no match")
    print(f"\n| {name} | rows | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for kind, counts in results.items():
        total = sum(counts.values())
        cells = [f"{counts.get(column, 0) / max(1, total):.2%}" for column in columns]
        print(f"| {kind} | {total} | " + " | ".join(cells) + " |")
    judged = [counts for kind, counts in results.items() if kind not in HARSHER]
    right = sum(counts.get("linked", 0) for counts in judged)
    wrong = sum(counts.get("linked wrongly", 0) for counts in judged)
    planted = [counts for kind, counts in results.items() if kind in KINDS]
    found = sum(counts.get("linked", 0) for counts in planted)
    total = sum(sum(counts.values()) for counts in planted)
    print(f"\nlinks: precision {right / max(1, right + wrong):.4f}, recall {found / total:.4f}")


@exit_on_user_error
def main() -> None:
    """Measure the parts that are asked for, print tables, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=Path, required=True, help="CSV with title, description")
    parser.add_argument(
        "--data", nargs="*", type=Path, default=[], help="further ones, for quality"
    )
    parser.add_argument("--run", type=Path, help="folder of a run with an encoder, for quality")
    parser.add_argument(
        "--parts", nargs="+", choices=["cost", "quality"], default=["cost", "quality"]
    )
    parser.add_argument(
        "--certain", type=float, default=DuplicatesConfig().certain, help="overlap that links"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[10**n for n in (3, 4, 5, 6)])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/screening.json"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        if options.one:
            by, size = options.one[0], int(options.one[1])
            found = (
                cost_by_words(size, read(options.texts), Path(folder))
                if by == "words"
                else cost_by_meaning(size, Path(folder))
            )
            print(json.dumps(found))
            return
    cost: dict[str, dict[str, Figures]] = {"words": {}, "meaning": {}}
    for by, rows in cost.items() if "cost" in options.parts else ():
        for size in options.sizes:
            command = [sys.executable, __file__, "--texts", str(options.texts)]
            given = ["--one", by, str(size)]
            done = subprocess.run([*command, *given], check=True, stdout=subprocess.PIPE, text=True)
            rows[str(size)] = figures = json.loads(done.stdout)
            if len(rows) == 1:
                print(f"\n| by {by}, items | " + " | ".join(figures) + " |")
                print("|---" * (len(figures) + 1) + "|")
            print(f"| {size:,} | " + " | ".join(f"{v:.3g}" for v in figures.values()) + " |")
    results = {}
    if "quality" in options.parts:
        embedder = None
        if options.run is not None:
            embedder = embedder_of(RunFolder(options.run).load_classifier())
        for path in [REPO_ROOT / "data/gold.csv", options.texts, *options.data]:
            with tempfile.TemporaryDirectory() as folder:
                results[path.name] = quality(read(path), embedder, Path(folder), options.certain)
            print_quality(results[path.name], path.name)
    write_json(
        options.out,
        {"environment": describe_environment().model_dump(), "cost": cost, "quality": results},
    )
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
