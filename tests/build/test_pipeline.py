from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.build import pipeline as pipelines
from tagger.build.pipeline import Pipeline, export_student, step_names, student_overrides
from tagger.build.report import BuildPlan
from tagger.compression.parity import ParityFailed
from tagger.config.schema import BuildConfig
from tagger.models.embedding import VectorCache
from tagger.runs import RunFolder

Make = Callable[..., BuildConfig]


def plan(**given: object) -> BuildPlan:
    values = {
        "asked": {}, "rows": 60, "tags": {}, "folds": None, "models": ["words", "rough"],
        "student": True, "texts": 0, "pass_ms": 1.0, "expected_seconds": {}, "notes": [],
    }  # fmt: skip
    return BuildPlan.model_validate(values | given)


def test_steps_are_named_in_the_order_in_which_they_are_made(toy_build: Make) -> None:
    config = toy_build()
    assert step_names(config, plan()) == [
        "words", "rough", "teacher", "small", "small-int8", "pair",
    ]  # fmt: skip
    assert step_names(config, plan(models=["words"], student=False)) == ["words"]
    assert step_names(config, plan(models=["words"])) == ["words", "small", "small-int8", "pair"]


def test_a_student_reads_tokens_of_all_files_and_as_many_texts_as_planned(toy_build: Make) -> None:
    config = toy_build(files=["a b.csv"], transfer=["more.csv"])
    without = student_overrides(config, plan(), "words,rough")
    assert "model.vocabulary_from=['a b.csv','more.csv']" in [
        one.replace('"', "'") for one in without
    ]
    assert "distill.teachers=[words,rough]" in without
    assert "distill.transfer=[]" in without
    some = student_overrides(config, plan(texts=40), "words")
    assert "distill.transfer_most=40" in some
    assert any(one.startswith("distill.transfer=[") and "more.csv" in one for one in some)


def test_a_student_that_the_gate_refuses_stays_as_it_is(
    toy_build: Make, tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise ParityFailed("tiny is not exported", ["3 of 60 decisions changed"])

    monkeypatch.setattr(pipelines, "export_run", refuse)
    begun: list[str] = []
    told: list[str] = []
    place = Pipeline(tmp_path, (), gate=True, vectors=VectorCache())
    made = export_student(toy_build(), tiny_run, place, begun.append, told.append)
    assert made == {}
    assert begun == ["tiny-int8"]
    assert told == ["the student stays as it is: tiny is not exported 3 of 60 decisions changed"]
    assert list(tmp_path.iterdir()) == []
