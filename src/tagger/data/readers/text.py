"""Decodes text files: UTF-8, or what a byte order mark names; bounds the length of lines."""

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from tagger.data.readers.rows import Unreadable

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


def read_lines(stream: BinaryIO, head: bytes, newline: str, longest: int) -> Iterator[str]:
    """Yield the lines of a stream of bytes.

    Args:
        stream: What is to be decoded, from its first byte.
        head: A copy of its first bytes.
        newline: As `open` takes it.
        longest: How many characters a line may have. Without any limit, an endless one would be
            pulled into memory.

    Raises:
        Unreadable: for what is no text, or a line that is too long.
    """
    mark, encoding = _encoding_of(head)
    if encoding == "utf-8" and b"\0" in head.partition(b"\n")[0]:
        raise Unreadable(
            "its first line holds a NUL byte: this is not a text file, or UTF-16 without a byte "
            "order mark; convert that: iconv -f UTF-16LE -t UTF-8 FILE > NEW"
        )
    stream.read(len(mark))
    # What is no UTF-8 passes the decoder, which reads ahead, and is found in its line.
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    text = io.TextIOWrapper(stream, encoding, errors, newline)
    number = 0
    try:
        while line := text.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise Unreadable(f"line {number}: longer than {longest:,} characters")
            if not line.isascii():
                line.encode("utf-8", errors).decode()
            yield line
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            reason = f"it begins as {encoding.upper()} text and does not go on so"
            raise Unreadable(f"{reason}: it is damaged or cut off") from None
        if error.reason == "unexpected end of data":
            reason = "the file ends inside a character: it was cut off"
        else:
            byte = error.object[error.start]
            reason = f"byte 0x{byte:02x} is not UTF-8; {_guess_encoding(error.object, error.start)}"
        raise Unreadable(f"line {number}: {reason}") from None


def _encoding_of(head: bytes) -> tuple[bytes, str]:
    return next((found for found in _MARKS if head.startswith(found[0])), (b"", "utf-8"))


def _guess_encoding(line: bytes, start: int) -> str:
    """Say which encoding a line may have, how a word reads then, and how to convert the file."""
    runs = re.findall(rb"[\x80-\xff]+", line)
    accents_only = sum(map(len, runs)) < 2 * len(runs)
    names = ["CP1252"] if accents_only else ["GB18030", "SHIFT_JIS", "CP1251"]
    word = next(one[0] for one in re.finditer(rb"[^\s,;|]+", line) if one.end() > start)[:40]
    seen = " or ".join(f"as {name} it reads {word.decode(name, 'ignore')!r}" for name in names)
    return f"{seen}: iconv -f {names[0]} -t UTF-8 FILE > NEW"
