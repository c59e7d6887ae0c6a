import importlib.util
import re
from types import ModuleType

import pytest

from tagger import results
from tagger.config.messages import schema_keys
from tagger.config.schema import SCHEMAS
from tagger.files import REPO_ROOT
from tagger.service.settings import ServiceConfig


def load(name: str) -> ModuleType:
    """Import a module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, REPO_ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """What writes the pages."""
    return load("reference")


@pytest.mark.slow
def test_the_pages_are_as_the_code_has_them(reference: ModuleType) -> None:
    for name, page in (("config", reference.config_page()), ("api", reference.api_page())):
        written = (REPO_ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert written == page, f"docs/{name}.md: run: make docs"


@pytest.mark.slow
def test_every_key_is_on_the_page_with_its_type_and_what_it_does(reference: ModuleType) -> None:
    listed = [row for part in reference.PARTS for row in reference.rows(part)]
    assert not [row[0] for row in listed if not (row[1] and row[3])]
    keys = {row[0].strip("`") for row in listed}
    sections = {key.partition(".")[0] for key in keys if "." in key}
    for schema in (*SCHEMAS.values(), ServiceConfig):
        every = {re.sub(r"^build\.(models|student)\.", "", key) for key in schema_keys(schema)}
        leaves = {key for key in every if not any(one.startswith(f"{key}.") for one in every)}
        assert not leaves - keys - sections


@pytest.mark.slow
def test_ranges_and_defaults_are_those_of_the_config(reference: ModuleType) -> None:
    page = reference.config_page()
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert "integer (at least 1, at most 1000)" in lines["training.epochs"]
    assert "| `4` " in lines["training.epochs"]
    assert "to be given" in lines["run"]
    assert "number (above 0, below 1)" in lines["decision.target_precision"]


def test_every_table_for_notebooks_is_on_the_page(reference: ModuleType) -> None:
    page = reference.api_page()
    functions = [
        name
        for name, value in vars(results).items()
        if getattr(value, "__module__", "") == results.__name__ and not name.startswith("_")
    ]
    assert len(functions) > 15
    assert not [name for name in functions if f"### tagger.results.{name}\n" not in page]


def test_the_canvas_is_as_it_is_drawn() -> None:
    canvas = load("canvas")
    assert canvas.PICTURE.read_text(encoding="utf-8") == canvas.canvas(), "run: make docs"
