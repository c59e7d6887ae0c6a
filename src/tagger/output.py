"""Makes standard output and standard error safe from closed pipes and poor encodings."""

import errno
import io
import os
import re
import shlex
import sys
from typing import Any, TextIO

READER_GONE = {errno.EPIPE, errno.EIO, errno.EINVAL, errno.EBADF, errno.ECONNRESET}
"""What writing to a pipe or a terminal without another end gives; EINVAL is what Windows says."""


def settle_output() -> None:
    r"""Let whatever is printed from here on go through, or go nowhere, but never end a program.

    A stream that was closed (`2>&-`) or whose reader has left (`| head -1`) swallows what is
    written to it: the work goes on, and the exit code says what became of the work. Letters that an
    encoding lacks are written as `\xe9`. Streams that were put in place of the system's own, as
    notebooks and tests do, are left alone.
    """
    _fill_closed_descriptors()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _settled(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _settled(sys.stderr, 2)


def shell_command(*words: str) -> str:
    """Return a command as it can be pasted into a shell, whatever its words hold."""
    return " ".join(_shell_word(word) for word in words)


def _shell_word(word: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./-]+", word):
        return word
    if not re.search(r'["$`\\!]', word):
        return f'"{word}"'  # which Windows' shells understand too, and Hydra's quotes stay readable
    return f'"{word}"' if sys.platform == "win32" and '"' not in word else shlex.quote(word)


def _fill_closed_descriptors() -> None:
    """Open what was closed as nothing, lest a file that is opened later be taken for it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # else a process that we start finds it closed again
    os.close(descriptor)


def _settled(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        return _open_patient(descriptor, "utf-8", "backslashreplace", line_buffering=False)
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    strict = stream.errors in (None, "strict", "surrogateescape")
    errors = "backslashreplace" if strict else str(stream.errors)
    if type(getattr(stream.buffer, "raw", stream.buffer)) is not io.FileIO:
        stream.reconfigure(errors=errors)  # a console of Windows, which has a way of its own
        return stream
    stream.flush()
    at_once = stream.line_buffering or stream.write_through
    return _open_patient(descriptor, stream.encoding, errors, line_buffering=at_once)


def _open_patient(
    descriptor: int, encoding: str, errors: str, *, line_buffering: bool
) -> io.TextIOWrapper:
    raw: Any = _PatientFile(descriptor, "wb", closefd=False)
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, encoding, errors, line_buffering=line_buffering)


class _PatientFile(io.FileIO):
    """A descriptor that leads nowhere once writing to it has failed."""

    def write(self, data: Any) -> int:
        """Write, or swallow what cannot be written."""
        try:
            return super().write(data)
        except OSError as error:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            # A full disk under what a program prints is the user's to know; what is said on the
            # way is not worth its work.
            if self.fileno() == 1 and error.errno not in READER_GONE:
                raise
            return len(memoryview(data))
