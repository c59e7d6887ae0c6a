import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tagger.build import judging, plan, run_build
from tagger.build.report import BuildReport
from tagger.build.run_build import Outcome, build, build_config, refuse_contradictions
from tagger.compare.runs import LabelledFile
from tagger.config.schema import BuildConfig, LatencyConfig
from tagger.data.items import Item
from tagger.decision.decider import load_decider, load_rule
from tagger.errors import UserError
from tagger.models.samples import read_samples
from tagger.runs import open_run, read_calibration

Make = Callable[..., BuildConfig]
Start = Callable[..., Outcome]
STEPS = ["words", "rough", "teacher", "small", "small-int8", "pair"]


@pytest.fixture
def start(source: LabelledFile, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Builds; an encoder's pass is not measured, and few items are timed."""
    monkeypatch.setattr(plan, "measure_pass", lambda items, tags: 1000.0)
    monkeypatch.setattr(judging, "LATENCY", LatencyConfig(items=10, warmup=0, threads=1))

    def run(config: BuildConfig, told: list[str] | None = None) -> Outcome:
        return build(config, source, say=(told if told is not None else []).append)

    return run


@pytest.mark.slow
def test_few_rows_are_judged_out_of_folds_and_the_rule_is_fitted_to_these(
    toy_build: Make, start: Start, source: LabelledFile
) -> None:
    told: list[str] = []
    made = start(toy_build(budget_minutes=1000.0), told)
    report = made.report
    assert [one.name for one in report.candidates] == STEPS
    assert "60 rows, out of 2 folds" in report.judged_on
    assert report.published is None
    words = report.candidates[0]
    assert words.weighted_f1 > 0.9  # the toy tags are told by their words
    # Nothing is proven better than the plainest.
    run = open_run(str(made.run), "")
    said, true, _ = read_calibration(run.path / "calibration.csv", run.tags)
    assert len(true) == 60
    assert {row.split for row in run.split_rows()} == {"train"}
    rule = load_rule(run.path, len(run.tags))
    published = rule.apply(said, None).tags >= 0
    chosen = next(one for one in report.candidates if one.name == report.chosen)
    assert published.mean() == pytest.approx(chosen.published)
    # The promise is kept by each of the six that might be chosen with a sixth of the risk.
    asked = json.loads((run.path / "decision.json").read_text(encoding="utf-8"))["asked"]
    assert asked["confidence"] == pytest.approx(1 - 0.1 / 6)
    assert asked["target_precision"] == 0.8
    # A row was predicted by models that had not seen it.
    for fold in ("fold-0", "fold-1"):
        assert [one.name for one in sorted((made.steps / fold).iterdir())] == sorted(STEPS)
    assert any(line.startswith("[1/18] words: about ") for line in told)
    decided = load_decider(run.path, run.load_classifier()).decide(source.items[:3])
    assert len(decided.tags) == 3
    # Each can be served where none of the rows is: it kept what the final model says of some.
    for folder in (made.run, *(made.steps / name for name in STEPS)):
        one = open_run(str(folder), "")
        assert not (folder / "predictions.csv").exists()
        items, expected = read_samples(folder / "model", len(one.tags))
        found = one.load_classifier().predict_proba(items)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_enough_rows_are_held_out_and_the_chosen_run_is_scored_on_others(
    toy_build: Make, start: Start, source: LabelledFile
) -> None:
    made = start(toy_build(held_out=5, budget_minutes=10.0))
    report = made.report
    assert report.plan.folds is None
    assert report.published is not None
    run = open_run(str(made.run), "")
    parts = [row.split for row in run.split_rows()]
    assert report.published.rows == parts.count("test")
    assert f"{parts.count('validation')} rows" in report.judged_on
    assert run.name == run.config.name == "built"
    assert run.path.parent == made.steps.parent
    assert BuildReport.read(made.steps / "build.json") == report


@pytest.mark.slow
def test_a_build_that_was_stopped_goes_on_and_a_finished_one_is_not_made_again(
    toy_build: Make, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_build(held_out=5, budget_minutes=10.0)
    choose = run_build.choose_run

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_build, "choose_run", stop)
    with pytest.raises(KeyboardInterrupt):
        start(config)
    steps = Path(config.runs_dir) / "built.build"
    before = {name: (steps / name / "meta.json").stat().st_mtime_ns for name in STEPS}
    assert not (Path(config.runs_dir) / "built").exists()
    monkeypatch.setattr(run_build, "choose_run", choose)
    made = start(config)
    assert {name: (steps / name / "meta.json").stat().st_mtime_ns for name in STEPS} == before
    written = (made.run / "meta.json").stat().st_mtime_ns
    told: list[str] = []
    again = start(config, told)
    assert again.report == made.report
    assert told[-1].endswith("is built already, from this very data.")
    assert (made.run / "meta.json").stat().st_mtime_ns == written
    # Its place was lost: it is put there again, and nothing is trained.
    shutil.rmtree(made.run)
    assert start(config).run.exists()
    with pytest.raises(UserError, match="was begun with other settings") as caught:
        start(toy_build(held_out=5, promise=0.7, budget_minutes=10.0))
    assert caught.value.problems == ("promise: 0.8 then, 0.7 now",)


def test_a_run_of_that_name_that_no_build_made_is_left_alone(toy_build: Make, start: Start) -> None:
    config = toy_build()
    folder = Path(config.runs_dir) / "built"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="is there already, and no build made it"):
        start(config)
    assert list(folder.iterdir()) == []


def test_contradictions_are_refused() -> None:
    items = [Item(str(n), f"text number {n}", "", tag="a") for n in range(50)]
    refuse_contradictions(items)
    twice = [Item("x", "text number 7", "", tag="b")]
    with pytest.raises(UserError, match="2 of 51 rows have the text of a row with another tag"):
        refuse_contradictions([*items, *twice])


def test_what_a_build_decides_itself_is_no_override(source: LabelledFile) -> None:
    given = {
        "transfer": [], "promise": 0.98, "confidence": 0.95, "budget_minutes": 5.0,
        "runs_dir": "runs", "seed": 0,
    }  # fmt: skip

    def compose(*overrides: str, **more: object) -> BuildConfig:
        return build_config(
            source,
            tags=None,
            overrides=overrides,
            name=None,
            **{**given, **more},  # type: ignore[arg-type]
        )

    config = compose("training.epochs=1", "build.max_p99_ms=5.0")
    assert config.train == ["training.epochs=1"]
    assert config.build.max_p99_ms == 5.0
    assert config.name == "items"
    for override in ("decision.folds=3", "model=tiny", "data.split.test=0.5", "name=x"):
        with pytest.raises(UserError, match="a build decides itself on"):
            compose(override)
    with pytest.raises(UserError, match="the config has mistakes") as caught:
        compose("training.epoch=1")
    assert "did you mean training.epochs?" in caught.value.problems[0]
    with pytest.raises(UserError, match="the build has mistakes") as caught:
        compose(promise=1.5)
    assert "promise" in caught.value.problems[0]
