"""What tests of the service share; they are skipped where its requirements are missing."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

LACKING = "fastapi is missing: pip install -r requirements-service.txt -c constraints.txt"


class Skipped(pytest.Module):
    """A module of tests that cannot be imported."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip(LACKING, allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Skip all modules of this folder where they could not be imported."""
    return None if find_spec("fastapi") else Skipped.from_parent(parent, path=module_path)
