import ast
import subprocess
import sys
import tomllib

import pytest

import tagger
from tagger.files import REPO_ROOT


def test_public_names_are_there_and_no_others() -> None:
    assert tagger.__all__ == ["Decision", "Run", "TextTagger", "UserError", "load"]
    assert dir(tagger) == tagger.__all__
    for name in tagger.__all__:
        assert getattr(tagger, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'tagger' has no attribute 'train'"):
        _ = tagger.train


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((REPO_ROOT / "src/tagger/__init__.py").read_text(encoding="utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = [
        name.name for one in guarded.body if isinstance(one, ast.ImportFrom) for name in one.names
    ]
    assert sorted(seen) == tagger.__all__
    assert (REPO_ROOT / "src/tagger/py.typed").exists()
    project = tomllib.loads((REPO_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["tagger"]


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, tagger; print([name for name in sys.modules if name.startswith('tagger.')])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
