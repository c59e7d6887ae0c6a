import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tagger.cli import main
from tagger.config.saved import save_config
from tagger.errors import UserError
from tagger.evaluation.report import EvaluationReport
from tagger.models.base import read_settings
from tagger.reporting.card import write_card
from tagger.reporting.numbers import score
from tagger.run_meta import ExtraData, Original
from tagger.runs import RunFolder

GOLDEN = Path(__file__).parents[1] / "evaluation" / "golden" / "report.json"


@pytest.fixture
def evaluated(copy_run: Callable[..., RunFolder]) -> RunFolder:
    """A run with the report of an evaluation that found errors."""
    run = copy_run("evaluated")
    shutil.copyfile(GOLDEN, run.path / "report.json")
    return run


def test_the_hub_reads_our_figures_with_their_intervals(evaluated):
    report = EvaluationReport.read(GOLDEN)
    card = ModelCard(write_card(evaluated, more={"license": "mit", "language": "en"}))
    assert (card.data.license, card.data.language, card.data.model_name) == (
        "mit", "en", evaluated.name,
    )  # fmt: skip
    found = {one.metric_name: (one.metric_type, one.metric_value) for one in card.data.eval_results}
    overall = report.overall
    assert found[f"accuracy {score(overall.accuracy)}"] == ("accuracy", overall.accuracy.value)
    assert found[f"macro F1 {score(overall.macro_f1)}"] == ("f1", overall.macro_f1.value)
    assert {one.dataset_name for one in card.data.eval_results} == {report.data.name}


def test_it_says_what_the_run_is_and_where_it_fails_and_quotes_no_item(evaluated):
    report = EvaluationReport.read(GOLDEN)
    text = write_card(evaluated)
    meta = evaluated.meta
    for fact in (
        meta.data.sha256, *meta.model_files.values(), *meta.tags,
        str(meta.environment.hardware["cpu"]), *(f"| {name} " for name in report.slices),
    ):  # fmt: skip
        assert fact.replace("_", "\\_") in text or fact in text
    assert report.weak_slices.slices and report.errors.groups
    for weak in report.weak_slices.slices:
        assert f"{weak.name}: error rate" in text
        assert not [one for one in weak.examples if one.title and one.title in text]
    for group in report.errors.groups:
        assert not [one for one in group.errors if one.title and one.title in text]
    assert str(evaluated.path) not in text


def test_of_a_run_that_was_not_evaluated_no_figure_is_invented(tiny_run):
    text = write_card(tiny_run)
    card = ModelCard(text)
    assert card.data.eval_results is None and card.data.license is None
    assert "was not evaluated" in text


def test_use_is_shown_for_the_libraries_that_open_it(copy_run, runs):
    text = write_card(copy_run("torch"), repository="us/toy")
    assert 'tagger.load("hf:us/toy")' in text and "tagger predict --run hf:us/toy" in text
    assert 'SentenceTransformer("us/toy")' in text and "dividing logits by" in text
    assert ModelCard(text).data.library_name == "sentence-transformers"
    words = write_card(runs.open("words"))
    assert "tagger.load" in words and "SentenceTransformer" not in words
    assert "library_name" not in words
    run = copy_run("graph")
    settings = read_settings(run.path / "model") | {"approach": "onnx"}
    (run.path / "model" / "tagger.json").write_text(str(settings).replace("'", '"').lower())
    graph = write_card(run)
    assert "ORTModelForSequenceClassification" in graph and 'subfolder: ""' in graph
    assert "SentenceTransformer" not in graph
    assert ModelCard(graph).data.tags == ["tagger", "onnx", "transformers.js"]


def test_what_else_a_run_was_made_of_is_said(copy_run):
    run = copy_run()
    data = run.meta.data.model_copy(
        update={"extra": ExtraData(rows=2, sha256="ab" * 32), "notes": ["a column was guessed"]}
    )
    run.meta = run.meta.model_copy(
        update={"data": data, "compressed_from": Original(name="whole", model_files={})}
    )
    text = write_card(run)
    assert f"2, SHA-256 {'ab' * 32}" in text
    assert "a column was guessed" in text and "whole" in text


def test_a_dataset_of_the_hub_is_named(copy_run):
    run = copy_run()
    data = run.config.data.model_copy(update={"source": "hub", "hub_id": "us/items"})
    save_config(run.config.model_copy(update={"data": data}), run.path / "config.yaml")
    assert ModelCard(write_card(RunFolder(run.path))).data.datasets == ["us/items"]


def test_the_command_writes_it_into_the_run_or_where_it_is_told(evaluated, tmp_path, capsys):
    main(["card", "--run", str(evaluated.path)])
    assert capsys.readouterr().out.strip() == str(evaluated.path / "README.md")
    main(["card", "--run", str(evaluated.path), "--out", str(tmp_path / "card.md")])
    written = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert written == (evaluated.path / "README.md").read_text(encoding="utf-8")
    assert written.startswith("---\n")


def test_a_damaged_report_or_model_is_one_message(evaluated):
    (evaluated.path / "report.json").write_text("{")
    with pytest.raises(UserError, match=r"report\.json"):
        write_card(evaluated)
    (evaluated.path / "report.json").unlink()
    (evaluated.path / "model" / "tagger.json").unlink()
    with pytest.raises(UserError, match="the model is damaged"):
        write_card(evaluated)
