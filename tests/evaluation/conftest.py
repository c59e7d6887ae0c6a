"""A finished run folder whose model is a stand-in, made in milliseconds."""

import csv
import json
import random
import runpy
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tagger.config.composition import compose_config, load_config
from tagger.config.saved import save_config
from tagger.config.schema import EvaluateConfig, TrainConfig
from tagger.data.items import Item
from tagger.data.sources import data_sha256
from tagger.data.splits import Split
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.report import EvaluationReport
from tagger.files import REPO_ROOT, write_json, write_text
from tagger.reporting.evaluation import report_evaluation
from tagger.reporting.evaluation_figures import draw_figures
from tagger.reporting.figures import Plot
from tagger.runs import RunFolder, write_predictions, write_splits

TAGS = ("apples", "pears-and-other-fruit", "plums", "never seen")


class StandIn:
    """Knows the answers; errs on the items it is told to."""

    def __init__(self, answers: Sequence[Item], errs_on: frozenset[str], tags: Sequence[str]):
        self.tags = tuple(tags)
        self.answers = {item.content_hash: str(item.tag) for item in answers}
        self.errs_on = errs_on
        self.asked: list[str] = []

    def predict_proba(self, items: Sequence[Item]) -> np.ndarray:
        rows = np.full((len(items), len(self.tags)), 0.1 / (len(self.tags) - 1))
        for row, item in enumerate(items):
            self.asked.append(item.id)
            position = self.tags.index(self.answers[item.content_hash])
            rows[row, (position + (item.id in self.errs_on)) % len(self.tags)] = 0.9
        return rows


def make_items(count: int, seed: int = 0, tags: Sequence[str] = TAGS[:3]) -> list[Item]:
    """Distinct items of random words, so that none resembles another."""
    rng = random.Random(seed)

    def words(many: int) -> str:
        return " ".join("".join(rng.choices("abcdefghijklm", k=7)) for _ in range(many))

    return [
        Item(
            f"i{seed}-{number}",
            words(4),
            words(12),
            datetime(2019 + number % 3, 5, 1),
            tags[number % len(tags)],
        )
        for number in range(count)
    ]


def write_items(path: Path, items: Sequence[Item]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "created_on", "title", "description", "tag"])
        for item in items:
            writer.writerow([item.id, item.created_on, item.title, item.description, item.tag])


@cache  # composing takes hundredths of a second, and a config can't be changed
def base_config(*overrides: str) -> TrainConfig:
    given = ["data=file", "data.path=items.csv", "data.name=orchard", "model=tiny", *overrides]
    return load_config(TrainConfig, compose_config("train", given))


class Runs:
    """Makes run folders below one folder, and configs to evaluate them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag_file = folder / "tags.yaml"
        tags = [{"name": tag, "definition": f"About {tag}."} for tag in TAGS]
        self.tag_file.write_text(json.dumps({"tags": tags}))  # yaml reads JSON
        # About no tag of a run: reading the project's own cases takes half a second.
        self.cases = folder / "no-cases.yaml"
        self.cases.write_text("x: {kind: minimum, about: x, cases: [{title: x, tag: nowhere}]}")
        self.models: dict[str, StandIn] = {}

    def make(
        self,
        name: str,
        items: Sequence[Item],
        split: Split,
        *,
        errs_on: Sequence[str] = (),
        tags: Sequence[str] = TAGS,
        answers: Sequence[Item] = (),
        overrides: Sequence[str] = (),
    ) -> RunFolder:
        path = self.folder / "runs" / name
        source = self.folder / f"{name}.csv"
        write_items(source, items)
        config = base_config(*overrides)
        places = {"path": str(source), "tags": str(self.tag_file)}
        config = config.model_copy(update={"data": config.data.model_copy(update=places)})
        path.mkdir(parents=True)
        save_config(config, path / "config.yaml")
        write_splits(path / "splits.csv", items, split)
        parts = {"train": split.train, "validation": split.validation, "test": split.test}
        meta = {
            "status": "finished",
            "tags": list(tags),
            "seed": 0,
            "model_files": {},
            "data": {
                "name": "orchard",
                "sha256": data_sha256(items),
                "rows": {part: len(rows) for part, rows in parts.items()},
            },
            "best_step": 20,
            "steps": 30,
            "train_seconds": 1.5,
            "peak_memory_mib": 500.0,
            "parameters": 1000,
            "environment": {"git": None, "versions": {}, "hardware": {}},
        }
        write_json(path / "meta.json", meta)
        model = StandIn([*items, *answers], frozenset(errs_on), tags)
        self.models[name] = model
        test = [items[index] for index in split.test]
        if test:
            probabilities = model.predict_proba(test)
            write_predictions(path / "predictions.csv", [i.id for i in test], tags, probabilities)
            model.asked.clear()
        lines = [
            {"step": step, "epoch": step / 10, "train/loss": 1 / step} for step in range(1, 31)
        ]
        lines += [
            {"step": step, "epoch": step / 10, "val/loss": 0.5, "val/accuracy": 0.9}
            for step in (10, 20, 30)
        ]
        write_text(path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        return RunFolder(path)

    def config(self, run: str, *overrides: str) -> EvaluateConfig:
        quick = ["resamples=200", "latency.items=10", "latency.warmup=1", "latency.threads=1"]
        # What is about exploration asks for it: embedding the rows takes seconds.
        quick += ["explore=off", f"behaviour_cases={self.cases}"]
        given = [f"run={run}", f"runs_dir={self.folder / 'runs'}", *quick, *overrides]
        return load_config(EvaluateConfig, compose_config("evaluate", given))

    def evaluate(self, run: str, *overrides: str) -> EvaluationReport:
        """Evaluate without writing the report."""
        return evaluate_run(self.config(run, *overrides)).report

    def report(self, run: str, *overrides: str) -> EvaluationReport:
        """Evaluate, write the report and print it."""
        return report_evaluation(evaluate_run(self.config(run, *overrides)))

    def call_script(self, *arguments: str) -> int:
        """Run `evaluate.py` in this process, and return its exit code."""
        quick = ["latency.items=10", "resamples=100", "explore=off", "behaviour=off"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["evaluate.py", *quick, *arguments])
            try:
                runpy.run_path(str(REPO_ROOT / "evaluate.py"), run_name="__main__")
            except SystemExit as stop:
                return int(stop.code or 0)
        return 0

    def other_source(self, items: Sequence[Item], name: str = "other") -> list[str]:
        """Overrides that evaluate on these items."""
        path = self.folder / f"source-{name}.csv"
        write_items(path, items)
        return [
            "data=file", f"data.path={path}", f"data.name={name}", f"data.tags={self.tag_file}",
        ]  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs(tmp_path)
    monkeypatch.setattr(RunFolder, "load_classifier", lambda run, _="cpu": made.models[run.name])
    # Drawing takes most of the time of a report; `real_figures` brings it back.
    plots = {"confusion": Plot(Figure(figsize=(1, 1)), "Nothing.")}
    monkeypatch.setattr("tagger.reporting.evaluation_figures.draw_figures", lambda _: plots)
    return made


@pytest.fixture
def real_figures(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.reporting.evaluation_figures.draw_figures", draw_figures)


@pytest.fixture
def items() -> list[Item]:
    return make_items(40)


@pytest.fixture
def new_items() -> Callable[..., list[Item]]:
    return make_items


@pytest.fixture
def split() -> Split:
    return Split(train=list(range(20)), validation=list(range(20, 25)), test=list(range(25, 40)))
