"""Finds what means the same as an item, in other words, by the vectors of the run's encoder.

The index is made of the store: it holds a vector for each item that was not a duplicate when it
came in. It is one file, named after the version of the run, the number of the last event that is in
it, and its own hash; what is no longer true of the run or the store is not used, but made anew.
"""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime  # noqa: F401  (imported after usearch 2.26 it ends the process: SIGSEGV)
from numpy.typing import NDArray
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from usearch.index import Index

from tagger.files import replace_file, sha256_of
from tagger.models.base import Embeds
from tagger.service.database import database_file
from tagger.service.events import CHUNK, DUPLICATE, every_event
from tagger.service.inference import as_read

HELD = text(
    "SELECT count(*), (SELECT max(sequence) FROM event) FROM event "
    "WHERE kind = 'submitted' AND status != 'duplicate' AND sequence <= :last"
)
ADD_EFFORT, SEARCH_EFFORT = 64, 48
"""Candidates that are looked at to add or find one vector: half, and three quarters, of usearch's
own numbers."""
SAVED_AFTER, SAVED_SHARE = 500, 0.1
"""Items, and share of all, that are added before the index is saved again: what a killed process
has not saved is embedded again at the next start."""
HASH_DIGITS = 16

Vector = NDArray[np.floating] | NDArray[np.int8]


class MeaningIndex:
    """Vectors of items by their numbers. One thread adds; others may look items up meanwhile.

    Args:
        base: Path that the names of its files begin with.
        version: Of the run whose encoder the vectors are of.
        width: Of a vector.
    """

    def __init__(self, base: Path, version: str, width: int) -> None:
        self.base = base.absolute()
        self.version = version
        self.width = width
        self.last = 0  # number of the last event that is in it
        self._unsaved = 0
        self._lock = Lock()  # an index that grows moves what others read
        self._index = self._empty()

    def _empty(self) -> Index:
        return Index(
            ndim=self.width,
            metric="cos",
            dtype="i8",
            expansion_add=ADD_EFFORT,
            expansion_search=SEARCH_EFFORT,
        )

    def __len__(self) -> int:
        return len(self._index)

    def add(self, items: Sequence[int], vectors: NDArray[np.floating], last: int) -> None:
        """Add items that are in the store for good; `last` is the number of the last event."""
        new = [at for at, item in enumerate(items) if item not in self._index]
        if new:
            keys = np.array([items[at] for at in new], np.uint64)
            with self._lock:
                self._index.add(keys, np.asarray(vectors, np.float32)[new], threads=1)
        self.last = max(self.last, last)
        self._unsaved += len(new)
        if self._unsaved >= max(SAVED_AFTER, SAVED_SHARE * len(self)):
            self.save()

    def nearest(self, vector: Vector, count: int) -> list[tuple[int, float]]:
        """Return the items nearest to a vector with their cosines, the nearest first."""
        if not len(self):
            return []
        with self._lock:
            found = self._index.search(vector, count)
        return [
            (int(item), 1 - float(distance))
            for item, distance in zip(found.keys, found.distances, strict=True)
        ]

    def neighbours(self, item: int, count: int) -> list[int]:
        """Return the items nearest to one that is in the index, without it."""
        with self._lock:
            vector = self._index.get(item)
        if vector is None:
            return []
        vector = np.asarray(vector)
        return [other for other, _ in self.nearest(vector, count + 1) if other != item][:count]

    def save(self) -> None:
        """Write the index beside its former file, and remove that one."""
        temporary = self.base.with_name(f".{self.base.name}.usearch")
        self._index.save(str(temporary))
        digits = sha256_of(temporary)[:HASH_DIGITS]
        saved = self.base.with_name(f"{self.base.name}.{self.version}.{self.last}.{digits}.usearch")
        replace_file(temporary, saved)
        remove_files(self.base, but=saved)
        self._unsaved = 0

    def load(self, connection: Connection) -> None:
        """Read the file that is of this version, undamaged, and of this store; if there is one."""
        for file in _files(self.base):
            version, last, digits = file.name.removesuffix(".usearch").split(".")[-3:]
            if version != self.version or sha256_of(file)[:HASH_DIGITS] != digits:
                continue
            self._index.load(str(file))
            self.last = int(last)
            count, end = connection.execute(HELD, {"last": self.last}).one()
            if len(self) == count and self.last <= (end or 0):
                return
            self._index, self.last = self._empty(), 0

    def catch_up(self, connection: Connection, embedder: Embeds, characters: int) -> int:
        """Add the items that came in since; return how many. Texts are cut as the model's are."""
        before = len(self)
        events = every_event(connection, "submitted", after=self.last)
        while chunk := list(islice(events, CHUNK)):
            kept = [one for one in chunk if one.status != DUPLICATE]
            texts = [(one.data["title"], one.data["description"]) for one in kept]
            vectors = embedder.embed([as_read(*both, characters) for both in texts])
            self.add([one.item for one in kept], vectors, chunk[-1].sequence)
        if len(self) > before:
            self.save()
        return len(self) - before


def base_of(url: str) -> Path:
    """Return the path that the names of a store's files of this kind begin with."""
    return Path(f"{database_file(url) or make_url(url).database}.meaning")


def remove_files(base: Path, but: Path | None = None) -> None:
    """Remove the files of an index, except one."""
    for file in _files(base):
        if file != but:
            file.unlink()


def _files(base: Path) -> list[Path]:
    named = re.compile(re.escape(base.name) + rf"\.\w+\.\d+\.[0-9a-f]{{{HASH_DIGITS}}}\.usearch")
    return [file for file in base.absolute().parent.iterdir() if named.fullmatch(file.name)]
