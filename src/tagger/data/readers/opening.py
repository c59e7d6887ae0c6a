"""Opens files that rows are read from, compressed or not."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tagger.data.problems import did_you_mean
from tagger.data.readers.rows import Unreadable
from tagger.errors import UserError

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")

_HEAD = 4096
_SAVE_AS_CSV = "save it as CSV (UTF-8) in the program that made it"
# First bytes of files that hold no rows of ours: what they are, and what to do.
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", _SAVE_AS_CSV),
    (b"%PDF", "a PDF document", "give the table that its texts come from"),
    (b"\x89PNG", "an image", "give a table of texts"),
    (b"\xff\xd8\xff", "an image", "give a table of texts"),
    (b"GIF8", "an image", "give a table of texts"),
    (b"{\\rtf", "an RTF document", "save it as plain text"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"\x93NUMPY", "a NumPy array", "save the texts as CSV or Parquet"),
    (b"\x89HDF", "an HDF5 file", "save the table as Parquet"),
    (b"FEA1", "a Feather file of version 1", "save the table as Parquet"),
    (b"ORC", "an ORC file", "save the table as Parquet"),
    (b"Obj\x01", "an Avro file", "save the table as Parquet"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it and give the file inside"),
    (b"Rar!", "a RAR archive", "unpack it and give the file inside"),
    (b"\x04\x22\x4d\x18", "an LZ4 archive", "unpack it and give the file inside"),
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
        path: The file, if it can be opened again and is not compressed.
    """

    name: str
    stream: BinaryIO
    head: bytes
    path: Path | None


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file or a named pipe. Nothing is read twice.

    Raises:
        UserError: when there is no such file.
        Unreadable: when it is a folder's archive, a picture or the like.
    """
    with path.open("rb") as file:
        yield _looked_into(file, path)


def missing_file(path: Path) -> UserError:
    """Return the error for a path where there is nothing; it names what is near."""
    try:
        near = did_you_mean(path.name, [file.name for file in path.parent.iterdir()])
    except OSError:
        near = f": there is no folder {path.parent}"
    return UserError(f"{path} does not exist{near}")


def _looked_into(file: BinaryIO, path: Path) -> Opened:
    head, stream = _peek(file.read)
    name = path.name
    unpack = _decompressor(head)
    if unpack:
        head, stream = _peek(unpack(stream))
    if name.lower().endswith(COMPRESSED):
        name = name.rpartition(".")[0]
    _refuse_foreign(head)
    return Opened(name, stream, head, None if unpack or not path.is_file() else path)


def _peek(read: Callable[[int], bytes]) -> tuple[bytes, BinaryIO]:
    """Return the first bytes, and a stream that still has them."""
    head = b""
    while len(head) < _HEAD and (more := read(_HEAD - len(head))):
        head += more
    return head, io.BufferedReader(_Stream(read, head), 2**16)


class _Stream(io.RawIOBase):
    """Reads by a function, after some bytes that were read from it before."""

    def __init__(self, read: Callable[[int], bytes], head: bytes) -> None:
        self._read = read
        self._head = head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return how many bytes were filled in, 0 at the end."""
        size = len(buffer)
        data, self._head = self._head[:size], self._head[size:]
        data = data or self._read(size)
        buffer[: len(data)] = data
        return len(data)


def _decompressor(head: bytes) -> Callable[[BinaryIO], Callable[[int], bytes]] | None:
    if head.startswith(b"\x1f\x8b"):
        return lambda stream: _told("gzip", gzip.GzipFile(fileobj=stream).read)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return lambda stream: _told("zstd", _zstd(stream))
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return lambda stream: _told("bzip2", bz2.BZ2File(stream).read)
    if head.startswith(b"\xfd7zXZ\x00"):
        return lambda stream: _told("xz", lzma.LZMAFile(stream).read)
    return None


def _zstd(stream: BinaryIO) -> Callable[[int], bytes]:
    import pyarrow as pa

    read: Callable[[int], bytes] = pa.CompressedInputStream(
        pa.PythonFile(stream, mode="r"), "zstd"
    ).read
    return read


def _told(name: str, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Return a function that reads, and that tells of a damaged archive in one way."""

    def read_on(size: int) -> bytes:
        try:
            return read(size)
        except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise Unreadable(
                f"the {name} archive is cut off or damaged ({error}); copy or download it again"
            ) from None

    return read_on


def _refuse_foreign(head: bytes) -> None:
    for magic, what, mend in _FOREIGN:
        if head.startswith(magic):
            raise Unreadable(f"this is {what}, not a table that can be read; {mend}")
    if head.startswith(b"PK\x03\x04"):
        if any(part in head for part in (b"xl/", b"[Content_Types]", b"opendocument.spread")):
            raise Unreadable(f"this is a workbook (Excel, LibreOffice); {_SAVE_AS_CSV}")
        raise Unreadable("this is a zip archive; unpack it and give the file inside")
    if head[257:262] == b"ustar":
        raise Unreadable("this is a tar archive; unpack it and give the file inside")
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Unreadable(
            "this is a web page or an XML file, not a table that can be read; download the file "
            "itself, or save the table as CSV"
        )
