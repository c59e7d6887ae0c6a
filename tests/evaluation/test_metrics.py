"""Slow because importing `evaluate` takes seconds, so little is tested beside what it adds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT

pytestmark = pytest.mark.slow


def test_absent_tags_keep_their_place() -> None:
    from tagger.evaluation.metrics import build_metrics

    metrics = build_metrics(["a", "absent", "c"])
    given = {"references": [0, 0, 2], "predictions": [0, 2, 2]}
    assert metrics["accuracy"].compute(**given) == {"accuracy": pytest.approx(2 / 3)}
    per_class = metrics["per_class"].compute(**given)
    assert per_class["absent"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert per_class["c"] == {
        "precision": 0.5,
        "recall": 1,
        "f1": pytest.approx(2 / 3),
        "support": 1,
    }
    averaged = metrics["averaged"].compute(**given)
    assert averaged["macro_recall"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert averaged["micro_f1"] == pytest.approx(2 / 3)


def test_batches_add_up_and_are_forgotten_after_computing() -> None:
    from tagger.evaluation.metrics import Accuracy

    metric = Accuracy(["a", "b"])
    metric.add_batch(predictions=[0, 1], references=[0, 1])
    metric.add_batch(predictions=[1, 1], references=[0, 0])
    assert metric.compute() == {"accuracy": 0.5}
    assert metric.compute(predictions=[1], references=[1]) == {"accuracy": 1.0}


def test_positions_outside_the_list_are_refused() -> None:
    from tagger.evaluation.metrics import Accuracy

    with pytest.raises(ValueError, match=r"count from 0 to 1, found \[2\]"):
        Accuracy(["a", "b"]).compute(predictions=[2], references=[1])


def test_two_processes_at_once_leave_no_file_behind(tmp_path: Path) -> None:
    code = (
        "from tagger.evaluation.metrics import build_metrics\n"
        "metrics = build_metrics(['a', 'b'])\n"
        "for _ in range(20):\n"
        "    for metric in metrics.values():\n"
        "        metric.compute(predictions=[0, 1], references=[{0}, 1])\n"
        "print(metrics['accuracy'].compute(predictions=[0, 1], references=[{0}, 1]))"
    )
    home = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))
    } | {"HOME": str(tmp_path), "PYTHONPATH": str(REPO_ROOT / "src")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-B", "-c", code.format(reference)],
            cwd=tmp_path,
            env=home,
            stdout=subprocess.PIPE,
            text=True,
        )
        for reference in (0, 1)
    ]
    answers = [process.communicate()[0].strip() for process in processes]
    assert answers == ["{'accuracy': 1.0}", "{'accuracy': 0.5}"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
