import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT
from tagger.output import shell_command

PROGRAM = """
import os, subprocess, sys
from tagger.errors import exit_on_user_error

@exit_on_user_error
def main():
    sys.stdin.read()  # until the reader has left
    print("first")
    with open("work.txt", "w") as file:
        for number in range(5_000):
            print("a line of output", number)
            print("a word on the way", number, file=sys.stderr)
        file.write("done")
        file.flush()
        subprocess.run([sys.executable, "-c", "import sys; print('child', file=sys.__stdout__)"])
    sys.exit(3)

main()
"""


def run(
    folder: Path, program: str, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    (folder / "program.py").write_text(program, encoding="utf-8")
    return subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" program.py {redirect}'],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src"), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


@pytest.mark.skipif(os.name == "nt", reason="written for a POSIX shell")
@pytest.mark.parametrize("redirect", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_work_is_done_though_nobody_listens(redirect: str, tmp_path: Path) -> None:
    done = run(tmp_path, PROGRAM.replace("sys.stdin.read()", ""), redirect)
    assert done.returncode == 3
    assert (tmp_path / "work.txt").read_text() == "done"  # and nothing that was printed
    if ">&-" not in redirect.replace("2>&-", ""):
        assert done.stdout.startswith(b"first\n")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("gone", ["stdout", "stderr"])
def test_work_is_done_though_the_reader_leaves(gone: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if gone == "stdout" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if gone == "stderr" else subprocess.DEVNULL,
    )
    pipe = process.stdout or process.stderr
    assert pipe is not None
    pipe.close()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 3
    assert (tmp_path / "work.txt").read_text() == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
def test_output_that_finds_a_full_disk_is_said_once(tmp_path: Path) -> None:
    done = run(tmp_path, PROGRAM, "> /dev/full")
    assert done.returncode == 2
    assert b"the disk is full" in done.stderr.splitlines()[-1]
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "ascii:strict"])
def test_any_encoding_takes_any_text(encoding: str, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tagger.errors import exit_on_user_error\n"
        "@exit_on_user_error\ndef main():\n"
        "    for stream in (sys.stdout, sys.stderr):\n"
        "        print('Ökologie ✓ ━ \\udcff', file=stream)\n"
        "main()\n"
    )
    done = run(tmp_path, program, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    codec = encoding.partition(":")[0]
    expected = "Ökologie ✓ ━ \udcff".encode(codec, "backslashreplace")
    assert done.stdout.strip() == done.stderr.strip() == expected


def test_an_encodings_own_way_with_letters_is_kept(tmp_path: Path) -> None:
    program = (
        "from tagger.errors import exit_on_user_error\nexit_on_user_error(lambda: print('é'))()\n"
    )
    assert run(tmp_path, program, PYTHONIOENCODING="ascii:replace").stdout.strip() == b"?"


def test_streams_of_notebooks_and_tests_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    from tagger.errors import exit_on_user_error

    before = sys.stdout, sys.stderr
    exit_on_user_error(lambda: print("said"))()
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "said\n"


def test_output_stays_in_order(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tagger.errors import exit_on_user_error\n"
        "print('before')\nexit_on_user_error(lambda: print('within'))()\nprint('after')\n"
    )
    assert run(tmp_path, program).stdout.split() == [b"before", b"within", b"after"]


@pytest.mark.skipif(os.name == "nt", reason="written for a POSIX shell")
@pytest.mark.parametrize(
    "word", ["plain-1", "runs/my run", "a'b", 'a"b', "$HOME", "a`b", "a\\b", "!", ""]
)
def test_a_printed_command_can_be_pasted(word: str) -> None:
    command = shell_command("printf", "%s|%s", word, "end")
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert said.stdout == f"{word}|end"


def test_windows_shells_are_given_double_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert shell_command("tagger", "--run", "C:\\my runs\\a") == 'tagger --run "C:\\my runs\\a"'
