"""The figures of a report, held to those that were computed before its code was rewritten.

`golden/items.csv` holds items and the probabilities that two runs gave them, `golden/report.json`
what was reported of them at commit 35ad9b4. Latency, time and machine are left out.
"""

import csv
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.decision.calibrators import Vector
from tagger.decision.decider import Rule, save_rule
from tagger.decision.policies import Threshold
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.report import EvaluationReport
from tagger.runs import RunFolder

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
TAGS = ("apples", "pears", "plums")
LEFT_OUT = {"run", "latency", "environment", "evaluated_on"}


class Stored:
    """Answers with stored probabilities."""

    def __init__(self, rows: dict[str, np.ndarray]) -> None:
        self.tags = TAGS
        self.rows = rows

    def predict_proba(self, items: list[Item]) -> np.ndarray:
        return np.array([self.rows[item.content_hash] for item in items]).reshape(-1, len(TAGS))


def read_items() -> tuple[list[Item], list[str], dict[str, dict[str, np.ndarray]]]:
    items, parts = [], []
    probabilities: dict[str, dict[str, np.ndarray]] = {"ours": {}, "theirs": {}}
    with (GOLDEN / "items.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            created = datetime.fromisoformat(row["created_on"])
            item = Item(row["id"], row["title"], row["description"], created, row["tag"])
            items.append(item)
            parts.append(row["split"])
            for run, stored in probabilities.items():
                stored[item.content_hash] = np.array([float(row[f"{run} {t}"]) for t in TAGS])
    return items, parts, probabilities


@pytest.fixture
def golden_run(runs: Any) -> RunFolder:
    items, parts, probabilities = read_items()
    rows = {part: [at for at, one in enumerate(parts) if one == part] for part in ("train", "test")}
    split = Split(train=rows["train"], validation=[], test=rows["test"])
    for name, stored in probabilities.items():
        run = runs.make(name, items, split, tags=TAGS)
        (run.path / "predictions.csv").unlink()
        runs.models[name] = Stored(stored)
    vector = Vector([0.8, 1.1, 1.3], [0.1, 0.0, -0.2])
    save_rule(
        runs.folder / "runs" / "ours",
        run.decision_config,
        Rule(vector, Threshold([0.6, 0.7, 0.55]), None),
        None,
    )
    return RunFolder(runs.folder / "runs" / "ours")


def figures(report: EvaluationReport) -> dict[str, Any]:
    return report.model_dump(exclude=LEFT_OUT)


def assert_equal(found: Any, expected: Any, where: str = "report") -> None:
    """Compare nested values: numbers to 12 digits, all else exactly."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            assert_equal(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for number, value in enumerate(expected):
            assert_equal(found[number], value, f"{where}.{number}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-12), where
    else:
        assert found == expected, where


def test_a_report_has_the_figures_that_it_had(golden_run: RunFolder, runs: Any) -> None:
    evaluation = evaluate_run(runs.config("ours", "against=theirs", "behaviour=off"))
    expected = EvaluationReport.read(GOLDEN / "report.json")
    assert len(expected.weak_slices.slices) == 1
    assert expected.comparison is not None
    assert_equal(figures(evaluation.report), figures(expected))
    evaluation.report.write(golden_run.path / "report.json")
    assert EvaluationReport.read(golden_run.path / "report.json") == evaluation.report
