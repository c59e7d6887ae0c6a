"""Decodes text files: UTF-8, or what a byte order mark names; bounds the length of lines."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from tagger.data.readers.rows import Unreadable

_BLOCK = 2**16
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a]")
_CONTINUATION = bytes(range(0x80, 0xC0))

# UTF-32's mark begins with that of UTF-16: it has to be looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def start_of_text(head: bytes) -> str:
    """Return the first characters of a file, to tell what it is."""
    mark, encoding = _encoding_of(head)
    return head[len(mark) :].decode(encoding, errors="replace")


@contextmanager
def opened_text(
    stream: BinaryIO, head: bytes, newline: str, longest: int
) -> Iterator[io.TextIOWrapper]:
    """Open a stream of bytes as text; what is wrong with it is raised as `Unreadable`.

    Args:
        stream: What is to be decoded, from its first byte.
        head: A copy of its first bytes.
        newline: As `open` takes it.
        longest: How many bytes a line may have. Without any limit, an endless one would be pulled
            into memory.
    """
    mark, encoding = _encoding_of(head)
    if encoding == "utf-8" and b"\0" in head.partition(b"\n")[0]:
        half = head[1::2] if head[1:2] == b"\0" else head[::2]
        if half.count(0) > len(half) / 2:
            name = "UTF-16LE" if head[1:2] == b"\0" else "UTF-16BE"
            raise Unreadable(
                f"this is {name} text without a byte order mark; convert it: "
                f"iconv -f {name} -t UTF-8 FILE > NEW"
            )
        raise Unreadable("its first line holds a NUL byte: this is not a text file")
    stream.read(len(mark))
    raw = _Utf8(stream, encoding, len(mark), longest)
    try:
        yield io.TextIOWrapper(raw, encoding="utf-8", newline=newline)
    except UnicodeDecodeError:
        raise Unreadable(raw.describe_bad_byte()) from None


def _encoding_of(head: bytes) -> tuple[bytes, str]:
    return next((found for found in _MARKS if head.startswith(found[0])), (b"", "utf-8"))


class _Utf8(io.BufferedIOBase):
    """Hands on a stream of text as UTF-8, bounds its lines, and knows where a byte is wrong.

    A pipe can't be read again to find the place, and the decoder of `io.TextIOWrapper`, which
    reads ahead, doesn't say it: the last two blocks are kept, one of which holds the byte.
    """

    name = "text"  # which io.TextIOWrapper shows

    def __init__(self, stream: BinaryIO, encoding: str, offset: int, longest: int) -> None:
        self._stream = stream
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._longest = longest
        self._line_bytes = 0  # of the line that is not yet at its end
        self._blocks = (b"", b"")
        # What lies before the two blocks:
        self._offset = offset
        self._lines = {b"\n": 0, b"\r": 0}

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """Return the next block, empty at the end. Whole blocks, whatever size is asked for."""
        block = self._stream.read(_BLOCK)
        if block:
            self._remember(block)
        return self._convert(block) or (self._convert(b"") if block else b"")

    def describe_bad_byte(self) -> str:
        """Say which byte is no UTF-8, and what may be done about it."""
        data = b"".join(self._blocks)
        # A character may lie across the first block's begin.
        begin = 0 if len(data) < 4 else len(data[:4]) - len(data[:4].lstrip(_CONTINUATION))
        begin = begin if self._offset > 4 else 0
        try:
            data[begin:].decode()
        except UnicodeDecodeError as error:
            start = begin + error.start
            offset = self._offset + start
            if error.reason == "unexpected end of data":
                return f"the file ends inside a character, at offset {offset:,}: it was cut off"
            if _CONTROL.search(data[:start]):
                return "it holds control characters and no UTF-8: this is not a text file"
            return (
                f"line {self._line(data[:start])}: byte 0x{data[start]:02x} at offset {offset:,} "
                "is not UTF-8; " + _guess_encoding(data, start)
            )
        raise AssertionError("the decoder found what is none")

    def _remember(self, block: bytes) -> None:
        oldest, before = self._blocks
        self._blocks = before, block
        self._offset += len(oldest)
        for end in self._lines:
            self._lines[end] += oldest.count(end)
        ended = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._line_bytes = len(block) - ended - 1 + (self._line_bytes if ended < 0 else 0)
        if self._line_bytes > self._longest:
            line = self._line(b"".join(self._blocks))
            raise Unreadable(f"line {line}: longer than {self._longest:,} bytes")

    def _convert(self, block: bytes) -> bytes:
        if self._encoding == "utf-8":
            return block
        try:
            return self._decoder.decode(block, final=not block).encode()
        except UnicodeDecodeError:
            name = self._encoding.upper()
            raise Unreadable(
                f"it begins as {name} text and does not go on so: it is damaged or cut off"
            ) from None

    def _line(self, more: bytes) -> int:
        """Return the number of the line that goes on after the two blocks' first bytes."""
        count = {end: lines + more.count(end) for end, lines in self._lines.items()}
        return 1 + (count[b"\n"] or count[b"\r"])


def _guess_encoding(data: bytes, start: int) -> str:
    """Say which encoding a text may have, how it reads then, and how to convert it."""
    runs = re.findall(rb"[\x80-\xff]+", data[start:])
    accents_only = sum(map(len, runs)) < 2 * len(runs)
    names = ["CP1252"] if accents_only else ["GB18030", "SHIFT_JIS", "CP1251"]
    before = re.split(rb"[\s,;|]", data[max(0, start - 20) : start])[-1]
    place = before + re.split(rb"[\s,;|]", data[start : start + 20])[0]
    readings = {}
    for name in names:
        try:
            readings[name] = place.decode(name)
        except UnicodeDecodeError as error:
            if error.start > 1 and error.end == len(place):  # only the excerpt is cut there
                readings[name] = place[: error.start].decode(name)
    if not readings:
        return "save the file as UTF-8"
    first = next(iter(readings))
    seen = " or ".join(f"as {name} it reads {text!r}" for name, text in readings.items())
    return f"{seen}: iconv -f {first} -t UTF-8 FILE > NEW"
