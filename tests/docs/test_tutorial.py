"""Every command of docs/tutorial.md is executed, in order, in a folder that stands for the clone.

What differs from a reader's machine: the folder has every twentieth row of the embedded set, the
build has 2 seconds in place of five minutes, the service listens on a free port in place of 8080,
what `make setup` would do is printed and not done, and `pip` installs nothing.
"""

import csv
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT

pytest.importorskip("fastapi")
pytestmark = pytest.mark.slow

PAGE = REPO_ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)

FILES = ("Makefile", "evaluate.py", "pyproject.toml", "constraints.txt", "requirements.txt")
PROGRAMS = {
    "python": 'exec "{python}" "$@"',
    "tagger": 'exec "{python}" -c "from tagger.cli import main; main()" "$@"',
    "pip": "exit 0",
}
"""What the clone's environment has."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what the commands need of a clone, and a small data file."""
    folder = tmp_path / "clone"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, line in PROGRAMS.items():
        program = programs / name
        program.write_text(f"#!/bin/sh\n{line.format(python=sys.executable)}\n")
        program.chmod(0o755)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    for name in FILES:
        (folder / name).symlink_to(REPO_ROOT / name)
    (folder / "data").mkdir()
    (folder / "data" / "tags.yaml").symlink_to(REPO_ROOT / "data" / "tags.yaml")
    head, *rows = (REPO_ROOT / "data" / "gold.csv").read_text(encoding="utf-8").splitlines(True)
    (folder / "data" / "gold.csv").write_text("".join([head, *rows[::20]]), encoding="utf-8")
    return folder


def execute_commands(clone: Path) -> str:
    """Execute the commands of the page, and return all that they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    lines = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        commands = block.replace("8080", port).replace("--budget 5min", "--budget 2s")
        if commands.startswith("tagger serve"):
            ready = f"curl -sf http://localhost:{port}/readyz >/dev/null"
            commands = f"{commands.strip()} &\nuntil {ready}; do kill -0 $!; sleep 0.1; done\n"
        lines.append(commands)
    paths = [str(REPO_ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "MAKEFLAGS": "--dry-run"}
    shell = subprocess.Popen(
        ["bash", "-c", "\n".join(lines)],
        cwd=clone, env=os.environ | environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said, _ = shell.communicate(timeout=240)
    finally:
        with suppress(ProcessLookupError):  # the service, and what a late end has left
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, said[-3000:]
    assert "Traceback" not in said
    return said


def test_every_command_does_what_the_page_says(clone: Path) -> None:
    told = execute_commands(clone)
    assert "-m pip install --quiet -r requirements.txt -c constraints.txt" in told
    assert (clone / "audits" / "gold" / "audit.html").exists()
    assert re.search(r"^first-run \(\w+\): published", told, re.MULTILINE)
    assert (clone / "runs" / "first-run" / "report.html").exists()
    with (clone / "answers.csv").open(encoding="utf-8") as file:
        answers = list(csv.DictReader(file))
    assert [one["id"] for one in answers] == ["1", "2", "3"]
    assert answers[2]["decision"] == "needs review"
    assert '"ready"' in told
    with (clone / "labels.csv").open(encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    assert [(one["tag"], one["source"]) for one in labels] == [("other", "review")]
    assert labels[0]["source_id"].startswith("tutorial:")
    assert (clone / "monitors" / "new" / "monitor.html").exists()
