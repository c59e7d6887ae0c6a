import ast
import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tagger.files import REPO_ROOT

NAMED = {
    "torch", "transformers", "datasets", "evaluate", "accelerate", "optuna", "wandb", "pytest",
}  # fmt: skip
"""Packages that users of this repository were promised."""

ROOMS = (
    "config", "data", "models", "oof", "decision", "training", "evaluation", "audit", "compare",
    "search", "compression", "benchmark", "build", "monitoring", "rollout", "batch", "reporting",
    "api", "service", "cli",
)  # fmt: skip
"""Each imports only from those before it."""

TEXT = {".py", ".md", ".yaml", ".toml", ".txt", ".j2", ".css", ".js", ".ipynb", ".sh"}


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "-C", str(REPO_ROOT), "ls-files", "-z"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git repository")
    names = done.stdout.decode().split("\0")
    return [path for name in names if name and (path := REPO_ROOT / name).is_file()]


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {one.name.lower(): one for one in parsed}


def pinned(name: str = "requirements.txt") -> dict[str, Requirement]:
    lines = (REPO_ROOT / name).read_text().splitlines()
    return requirements([line for line in lines if line and not line.startswith("#")])


def test_requirements_pin_what_the_package_needs_and_nothing_else() -> None:
    project = tomllib.loads((REPO_ROOT / "pyproject.toml").read_text())["project"]
    asked = requirements(
        [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    )
    pins = pinned()
    for name in ("service", "track", "ray"):
        pins |= pinned(f"requirements-{name}.txt")
    assert asked.keys() == pins.keys()
    for name, requirement in asked.items():
        (version,) = (pin.version for pin in pins[name].specifier)
        assert requirement.specifier.contains(version), f"{requirement}, pinned to {version}"
    assert pins.keys() >= NAMED


def test_every_pin_is_repeated_by_the_constraints() -> None:
    text = (REPO_ROOT / "constraints.txt").read_text().splitlines()
    constraints = requirements([line for line in text if line and not line.startswith("#")])
    for name, pin in (
        pinned() | pinned("requirements-service.txt") | pinned("requirements-track.txt")
    ).items():
        if name in constraints:
            assert constraints[name].specifier == pin.specifier, name


def test_text_files_are_tidy() -> None:
    untidy = []
    for path in tracked():
        assert path.stat().st_size < 2_000_000 or path.suffix == ".csv", f"{path} is over 2 MB"
        if path.suffix not in TEXT:
            continue
        text = path.read_text(encoding="utf-8")
        marker = "<" * 7 + " "
        if text and not text.endswith("\n"):
            untidy.append(f"{path}: no newline at its end")
        if re.search(r"[ \t]+$", text, re.MULTILINE):
            untidy.append(f"{path}: spaces at the end of a line")
        if any(line.startswith(marker) for line in text.splitlines()):
            untidy.append(f"{path}: a conflict marker")
    assert not untidy


def test_workflow_and_hooks_run_what_the_readme_says() -> None:
    workflow = yaml.safe_load((REPO_ROOT / ".github/workflows/test.yaml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["test"]["steps"]]
    assert ".ci/run" in steps
    assert "make test" in (REPO_ROOT / ".ci/run").read_text()
    hooks = yaml.safe_load((REPO_ROOT / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert any("ruff check" in entry for entry in entries)
    assert any("mypy" in entry for entry in entries)


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms that a module imports at its head, not those of its functions."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tagger."):
            found.add(str(node.module).split(".")[1])
    return found & {*ROOMS}


@pytest.mark.parametrize("room", ROOMS[:-1])
def test_a_room_imports_only_from_those_to_its_left(room: str) -> None:
    modules = sorted((REPO_ROOT / "src/tagger" / room).rglob("*.py"))
    assert modules
    allowed = {*ROOMS[: ROOMS.index(room) + 1]}
    wrong = {path.name: rooms - allowed for path in modules if (rooms := imported_rooms(path))}
    assert not {name: rooms for name, rooms in wrong.items() if rooms}


def test_no_room_but_reporting_renders() -> None:
    rendering = re.compile(r"^\s*(from|import) (jinja2|rich|matplotlib)\b", re.MULTILINE)
    for path in (REPO_ROOT / "src/tagger").rglob("*.py"):
        if "reporting" not in path.parts:
            assert not rendering.search(path.read_text(encoding="utf-8")), path


def test_only_the_service_imports_a_web_framework() -> None:
    serving = re.compile(r"^\s*(from|import) (fastapi|starlette|uvicorn)\b", re.MULTILINE)
    for path in (REPO_ROOT / "src/tagger").rglob("*.py"):
        if "service" not in path.parts:
            assert not serving.search(path.read_text(encoding="utf-8")), path


def test_only_the_command_line_imports_the_service_and_only_when_asked() -> None:
    imported = re.compile(r"^(\s*)(?:from|import) tagger\.service\b", re.MULTILINE)
    for path in (REPO_ROOT / "src/tagger").rglob("*.py"):
        if "service" not in path.parts:
            found = imported.findall(path.read_text(encoding="utf-8"))
            assert not found or (path.name == "cli.py" and all(found)), path


def test_every_module_has_its_mirror_test() -> None:
    source, tests = REPO_ROOT / "src/tagger", REPO_ROOT / "tests"
    modules = [path.relative_to(source) for path in source.rglob("*.py") if path.stem[0] != "_"]
    missing = [
        str(module)
        for module in modules
        if not (tests / module.with_name(f"test_{module.name}")).exists()
    ]
    assert not missing
