import errno
import os

import pytest

from tagger.errors import (
    BAD_INPUT,
    INTERRUPTED,
    UserError,
    describe_os_error,
    exit_on_user_error,
)


def test_the_message_lists_summary_problems_and_hint() -> None:
    error = UserError("two things:", ["the first", "the second"], "Mend them.")
    assert str(error) == "two things:\n  - the first\n  - the second\nMend them."
    assert str(UserError("one thing")) == "one thing"


def raise_it(error: BaseException) -> None:
    exit_on_user_error(lambda: (_ for _ in ()).throw(error))()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("bad", ["a", "b"]), BAD_INPUT, "error: bad\n  - a\n  - b\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "x/y"),
            BAD_INPUT,
            "error: cannot use 'x/y': permission denied: choose a folder that you may write to\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            BAD_INPUT,
            "error: the system refused: the disk is full: free some space and run the same "
            "command again\n",
        ),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted: what was saved so far is kept\n"),
    ],
)
def test_what_users_can_mend_ends_in_a_message(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        raise_it(error)
    assert caught.value.code == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("error", [KeyError("x"), ZeroDivisionError(), AssertionError()])
def test_our_own_defects_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        raise_it(error)


def test_a_program_that_goes_well_returns_its_result() -> None:
    assert exit_on_user_error(lambda number: number + 1)(1) == 2


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EROFS, "read-only"),
        (errno.EISDIR, "a file was expected"),
        (errno.ENOTDIR, "not a folder"),
        (errno.EEXIST, "a folder is needed"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EFBIG, "grew past"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_refusals_are_put_in_plain_words(number: int, word: str) -> None:
    message = describe_os_error(OSError(number, os.strerror(number), "some/path"))
    assert word in message
    assert "'some/path'" in message


def test_an_unforeseen_refusal_keeps_the_systems_words() -> None:
    assert "Too many open files" in describe_os_error(OSError(errno.EMFILE, "Too many open files"))
    assert "odd" in describe_os_error(OSError("odd"))
