import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagger import environment
from tagger.environment import (
    describe_environment,
    git_revision,
    hardware,
    instruction_sets,
    library_version,
)
from tagger.files import REPO_ROOT
from tagger.threads import available_cores


def test_the_description_is_ready_for_json() -> None:
    described = json.loads(describe_environment().model_dump_json())
    assert set(described) == {"git", "versions", "hardware", "command"}
    assert described["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert described["command"] == sys.argv


def test_versions_of_what_figures_depend_on_are_there() -> None:
    import torch

    assert library_version("torch").split("+")[0] == torch.__version__.split("+")[0]
    assert library_version("no-such-library") == "not installed"


def make_repository(folder: Path) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


def test_the_revision_says_whether_files_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_repository(tmp_path)
    monkeypatch.setattr(environment, "REPO_ROOT", tmp_path)
    found = git_revision()
    assert found is not None
    assert len(found.revision) == 40
    assert found.changed_files is False
    (tmp_path / "new.py").touch()
    assert git_revision() == found.model_copy(update={"changed_files": True})


def test_without_a_history_or_git_there_is_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "REPO_ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision() is None


def test_the_hardware_is_described() -> None:
    found = hardware()
    assert found.cpu
    assert found.cores == available_cores()
    assert 0.1 < found.memory_gib < 100_000


def test_peak_memory_is_in_mib_and_does_not_fall() -> None:
    code = (
        "from tagger.environment import peak_memory_mib as peak\n"
        "before = peak()\n"
        "block = b'x' * 100 * 2**20\n"
        "del block\n"
        "print(peak() - before)"
    )
    env = {**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(100, abs=15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu fma avx2 amx_int8\n", ["amx_int8", "avx2", "fma"]),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm\n", ["asimd", "i8mm"]),
        ("flags\t: fpu\n", []),
        ("processor\t: 0\n", ["riscv64"]),
        (None, ["riscv64"]),
    ],
)  # fmt: skip
def test_sets_of_instructions_are_those_that_matter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, expected: list[str]
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(environment, "CPU_INFORMATION", tmp_path / "cpuinfo")
    monkeypatch.setattr(environment.platform, "machine", lambda: "riscv64")
    assert instruction_sets() == expected


def test_peak_memory_is_known_without_the_module_that_windows_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from types import SimpleNamespace

    import psutil

    monkeypatch.setattr(environment, "PROCESS_STATUS", Path("/no/such/file"))
    monkeypatch.setitem(sys.modules, "resource", None)
    memory = SimpleNamespace(peak_wset=300 * 2**20, rss=200 * 2**20)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: memory)
    assert environment.peak_memory_mib() == 300
