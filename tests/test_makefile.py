"""What `make setup` installs; what stands in for Python and uv only notes what it is asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT

PYTHON = """#!/bin/sh
echo "$@" >> "$ASKED"
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/uv" ;;
    *"--report "*) printf '{"install": [{"metadata": {"name": "%s"}}]}' "$BROUGHT" > "$7" ;;
    "pip install --python"*) exit "$UV_ENDS" ;;
esac
"""


@pytest.fixture
def setup(tmp_path: Path) -> list[str]:
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(REPO_ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return ["make", "-C", str(tmp_path), "setup", f"PYTHON={python}"]


def asked(setup: list[str], brought: str, uv_ends: int = 0) -> list[str]:
    log = Path(setup[2]) / "asked"
    environment = {"ASKED": str(log), "BROUGHT": brought, "UV_ENDS": str(uv_ends)}
    subprocess.run(setup, env=os.environ | environment, check=True, capture_output=True)
    return log.read_text().splitlines()


def pinned_torch() -> str:
    lines = (REPO_ROOT / "requirements.txt").read_text().splitlines()
    (torch,) = (line for line in lines if line.startswith("torch=="))
    return torch


def test_an_index_that_has_the_small_torch_is_asked_and_no_other(setup: list[str]) -> None:
    lines = asked(setup, "sympy")
    assert lines[1].endswith(pinned_torch()) and "--dry-run" in lines[1]
    assert not [line for line in lines if "uv" in line]
    assert "-r requirements.txt -c constraints.txt" in lines[2]


def test_where_torch_would_bring_cuda_uv_chooses_the_build_first(setup: list[str]) -> None:
    lines = asked(setup, "nvidia-cublas")
    (at,) = (place for place, line in enumerate(lines) if "--torch-backend auto" in line)
    assert lines[at].endswith(f"--no-deps {pinned_torch()}")
    assert "-r requirements.txt" in lines[at + 1]


def test_setup_goes_on_where_uv_cannot_reach_another_index(setup: list[str]) -> None:
    lines = asked(setup, "nvidia-cublas", uv_ends=2)
    assert any("-r requirements.txt" in line for line in lines)
    assert (Path(setup[2]) / ".venv" / ".installed").exists()
