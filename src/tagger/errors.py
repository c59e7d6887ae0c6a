"""Defines `UserError`, the one exception that users read, and ends programs on it."""

import errno
import functools
import sys
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from tagger.output import settle_output

P = ParamSpec("P")
R = TypeVar("R")

BAD_INPUT = 2
INTERRUPTED = 130
READER_LEFT = 141


class UserError(Exception):
    """Something the user gave, or the machine lacks, that the user can mend.

    Args:
        summary: One sentence that says what went wrong and where.
        problems: Every single problem found, so that all can be mended at once. Each says where,
            what was found, what was expected.
        hint: What to do about it.
    """

    def __init__(self, summary: str, problems: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.problems = tuple(problems)
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.summary, *(f"  - {problem}" for problem in self.problems)]
        if self.hint:
            lines.append(self.hint)
        return "\n".join(lines)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or else its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def describe_os_error(error: OSError) -> str:
    """Say in plain words what the operating system refused, and what would help."""
    where = f" '{error.filename}'" if error.filename else ""
    advice = {
        errno.ENOSPC: "the disk is full: free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
        errno.EACCES: "permission denied: choose a folder that you may write to",
        errno.EPERM: "permission denied: choose a folder that you may write to",
        errno.EROFS: "the file system is read-only: choose a folder that you may write to",
        errno.EEXIST: "there is a file of that name already, a folder is needed",
        errno.ENAMETOOLONG: "the name is too long",
        errno.ENOENT: "no such file or folder",
        errno.EISDIR: "that is a folder, a file was expected",
        errno.ENOTDIR: "a part of that path is a file, not a folder",
        errno.EFBIG: "the file grew past what the system allows here",
    }.get(error.errno or 0, error.strerror or str(error))
    return f"cannot use{where}: {advice}" if where else f"the system refused: {advice}"


def exit_on_user_error(program: Callable[P, R]) -> Callable[P, R]:
    """Make a program end with one clear message instead of a traceback, whoever reads its output.

    Exit code 2 for what the user can mend (a `UserError`, a refused file or a full disk), 130 for
    Ctrl-C. A reader that has left changes neither the work nor the code; only a program that
    writes its product to a pipe past `sys.stdout` ends, with 141, as the shell's own tools do.
    Anything else is a defect of ours and keeps its traceback.
    """

    @functools.wraps(program)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        settle_output()
        try:
            result = program(*args, **kwargs)
            sys.stdout.flush()  # here, where a full disk is still handled
            return result
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(BAD_INPUT)
        except BrokenPipeError:
            sys.exit(READER_LEFT)
        except OSError as error:
            print(f"error: {describe_os_error(error)}", file=sys.stderr)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt:
            print("interrupted: what was saved so far is kept", file=sys.stderr)
            sys.exit(INTERRUPTED)

    return wrapped
