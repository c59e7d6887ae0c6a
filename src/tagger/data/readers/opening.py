"""Opens files that rows are read from, compressed or not."""

import bz2
import gzip
import io
import lzma
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from tagger.data.readers.rows import Unreadable

PIPE = "-"
"""Names standard input, or output, in place of a file."""

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")

_HEAD = 4096
_SAVE_AS_CSV = "save it as CSV (UTF-8) in the program that made it"
_UNPACK = "unpack it and give the file inside"
# First bytes of files that hold no rows of ours: what they are, and what to do.
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", _SAVE_AS_CSV),
    (b"%PDF", "a PDF document", "give the table that its texts come from"),
    (b"\x89PNG", "an image", "give a table of texts"),
    (b"\xff\xd8\xff", "an image", "give a table of texts"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file", "run: git lfs pull"),
    *((bytes([0x80, n]), "a pickle", "save the table as Parquet or CSV") for n in (2, 3, 4, 5)),
)


@dataclass(frozen=True)
class Opened:
    """A source of rows from its first byte on, decompressed.

    Attributes:
        name: The file's name without the ending of its compression.
        stream: Its bytes.
        head: A copy of the first of them.
        path: The file, if it is not compressed.
    """

    name: str
    stream: BinaryIO
    head: bytes
    path: Path | None


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file.

    Raises:
        Unreadable: when it is a workbook, a picture or the like.
    """
    with path.open("rb") as file:
        unpack = _decompressor(file.peek(_HEAD))
        stream = io.BufferedReader(unpack(file), 2**16) if unpack else file
        head = stream.peek(_HEAD)[:_HEAD]
        _refuse_foreign(head)
        packed = path.name.lower().endswith(COMPRESSED)
        name = path.name.rpartition(".")[0] if packed else path.name
        yield Opened(name, stream, head, None if unpack else path)


@contextmanager
def readable_twice(source: str | Path) -> Iterator[Path]:
    """Yield a file with the content of a source: itself, or a copy of what comes from a pipe."""
    path = Path(source)
    if str(source) != PIPE and (not path.exists() or path.is_file() or path.is_dir()):
        yield path
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder, "standard input" if str(source) == PIPE else path.name)
        with ExitStack() as stack:
            pipe = sys.stdin.buffer if str(source) == PIPE else stack.enter_context(path.open("rb"))
            shutil.copyfileobj(pipe, stack.enter_context(copy.open("wb")))
        yield copy


def _decompressor(head: bytes) -> Callable[[BinaryIO], Any] | None:
    if head.startswith(b"\x1f\x8b"):
        return lambda file: gzip.GzipFile(fileobj=file)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        return lambda file: pa.CompressedInputStream(file, "zstd")
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return bz2.BZ2File
    return lzma.LZMAFile if head.startswith(b"\xfd7zXZ\x00") else None


def _refuse_foreign(head: bytes) -> None:
    for magic, what, mend in _FOREIGN:
        if head.startswith(magic):
            raise Unreadable(f"this is {what}, not a table that can be read; {mend}")
    if head.startswith(b"PK\x03\x04"):
        if any(part in head for part in (b"xl/", b"[Content_Types]", b"opendocument.spread")):
            raise Unreadable(f"this is a workbook (Excel, LibreOffice); {_SAVE_AS_CSV}")
        raise Unreadable(f"this is a zip archive; {_UNPACK}")
    if head[257:262] == b"ustar":
        raise Unreadable(f"this is a tar archive; {_UNPACK}")
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise Unreadable(
            "this is a web page, not a table that can be read; download the file itself, or save "
            "the table as CSV"
        )
