from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tagger.batch.run_batch import BatchManifest, predict_batch
from tagger.data.columns import UNSAID
from tagger.runs import RunFolder

WORDS = ["apple", "rain", "iron", "storm", "pear", "copper", "cloud", "forge", "melon", "frost"]

Write = Callable[..., Path]


@pytest.fixture
def write() -> Write:
    def write(path: Path, titles: Sequence[str], *, group: int = 40, first: int = 0) -> Path:
        """Write a Parquet file of so many rows a group, with numbers as ids."""
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {
                "id": [first + n for n in range(len(titles))],
                "title": titles,
                "team": ["a"] * len(titles),
            }
        )
        parquet.write_table(table, path, row_group_size=group)
        return path

    return write


def titles(count: int) -> list[str]:
    """Texts of different lengths."""
    return [" ".join(WORDS[(n + k) % 10] for k in range(1 + n % 7)) for n in range(count)]


def predict(run: RunFolder, source: Path | str, output: Path | str) -> BatchManifest:
    """Predict in this process."""
    return predict_batch(run, str(source), str(output), UNSAID, engine="local")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, by their path in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def folder(tmp_path: Path, write: Write) -> Path:
    """Two files, of three row groups and of one; two rows have no text."""
    first = titles(100)
    first[3] = first[55] = " "
    write(tmp_path / "in" / "a.parquet", first)
    write(tmp_path / "in" / "sub" / "b.parquet", titles(30), first=100)
    return tmp_path / "in"
