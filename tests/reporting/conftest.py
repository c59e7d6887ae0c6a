"""What tests of reports share: a page with a block of each kind, and the check of a figure."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tagger.evaluation.report import EvaluationReport
from tagger.reporting.page import (
    Cell,
    Column,
    Command,
    Details,
    Heading,
    Listing,
    Number,
    Numbers,
    Page,
    Table,
    Text,
)

DPI = 144
GOLDEN = Path(__file__).parents[1] / "evaluation" / "golden" / "report.json"


@pytest.fixture
def page() -> Page:
    table = Table(
        ["tag", Column("rows", "number"), Column("why", "prose")],
        [["a|b", "3", Cell("<first>", "more", "look", ["x", "y"])], ["c", "12", "plain"]],
        title="Tags",
        caption="How many.",
    )
    blocks = [
        Numbers([Number("Rows", "15", "in all")]),
        Text("Leaks.", "warning"),
        Heading("Part"),
        Listing(["one", "two"]),
        Command("Go on", "python train.py"),
        table,
        Details("More", [Text("Inside.")]),
    ]
    return Page("Run <one>", blocks, [table, *blocks[:2], Listing(["one"]), blocks[4]])


@pytest.fixture
def check() -> Iterator[Callable[[Figure], None]]:
    """Lays a figure out; a layout that does not fit, or a glyph that a font lacks, fails."""

    def draw(figure: Figure) -> None:
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * DPI
        assert width >= 500
        assert height >= 200

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield draw


@pytest.fixture(scope="session")
def report() -> EvaluationReport:
    """A report that has everything: errors, nearest items, a map, behaviour, a comparison."""
    plain = EvaluationReport.read(GOLDEN).model_dump()
    listed = [one for group in plain["errors"]["groups"] for one in group["errors"]]
    for number, one in enumerate(listed):
        one["nearest_items"] = [{"title": f"near {number}", "tag": "plums", "similarity": 0.8}]
    keys = ("id", "title", "description", "true", "predicted", "probability")
    points = [{key: one[key] for key in keys} for one in listed]
    for at, tag in enumerate(plain["tags"]):
        for number in range(plain["confusion"][at][at]):
            row = {"id": f"right {at} {number}", "title": f"A right row {number}"}
            row |= {"true": tag, "predicted": tag, "description": "", "probability": 0.5}
            points.append(row | {"slices": ["terse title"] if number % 2 else []})
    plain["map"] = [
        point | {"x": number / len(points), "y": number % 10 / 10}
        for number, point in enumerate(points)
    ]
    rate = {"num_cases": 2, "passed": 1, "rate": {"value": 0.5, "low": 0.1, "high": 0.9}}
    failure = {"title": "APPLE", "description": "x", "expected": "apples", "found": "plums"}
    shouting = {"kind": "minimum", "about": "Reads capitals.", "failures": [failure], **rate}
    cases = {"path": "cases.yaml", "sha256": "0"}
    plain["behaviour"] = {"cases": cases, "capabilities": {"shouting": shouting}, **rate}
    plain["data"]["warning"] = "near-duplicates were not kept apart"
    return EvaluationReport.model_validate(plain)
