"""Writes a run's model card: what the hub shows of it, from the run's own files alone."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tagger.decision.calibrators import Temperature
from tagger.decision.decider import load_rule
from tagger.errors import UserError
from tagger.evaluation.report import EvaluationReport, Score
from tagger.hub import ON_HUB
from tagger.models.base import read_settings
from tagger.reporting.evaluation import (
    describe_correction,
    describe_decision,
    describe_weak_slices,
    headline,
    slices_table,
    tags_table,
)
from tagger.reporting.markdown import render_markdown
from tagger.reporting.numbers import number, score, sentence, share
from tagger.reporting.page import Block, Column, Heading, Listing, Page, Table, Text
from tagger.runs import RunFolder

SENTENCE_TRANSFORMERS = """
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{place}")
vectors = model.encode(texts)
logits = [one["logits"] for one in model.encode(texts, output_value=None)]
"""
OPTIMUM = """
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

model = ORTModelForSequenceClassification.from_pretrained("{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
"""
TRANSFORMERS_JS = """
import {{ pipeline }} from "@huggingface/transformers";

const options = {{ subfolder: "", dtype: "fp32" }};
const classify = await pipeline("text-classification", "{place}", options);
"""
OURS = """
import tagger

run = tagger.load("{run}")
run.predict(["Counting cars in aerial images"])
"""


def write_card(
    run: RunFolder, *, repository: str | None = None, more: Mapping[str, str] | None = None
) -> str:
    """Return a run's model card: the hub's metadata, then Markdown.

    Args:
        run: A finished run; with figures where it was evaluated.
        repository: Where it will be on the hub; None: the card speaks of the folder.
        more: Metadata that no run knows, such as `license` and `language`.

    Raises:
        UserError: when a file of the run is damaged.
    """
    path = run.path / "report.json"
    report = EvaluationReport.read(path) if path.exists() else None
    facts = _metadata(run, report, more or {})
    metadata = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)
    page = Page(run.name, [*_about(run), *_results(report), *_origin(run)])
    usage = "\n".join(_usage(run, repository))
    return f"---\n{metadata}---\n\n{render_markdown(page, run.path)}\n{usage}\n"


def _metadata(
    run: RunFolder, report: EvaluationReport | None, more: Mapping[str, str]
) -> dict[str, Any]:
    kind = _kind(run)
    facts: dict[str, Any] = dict(more)
    facts["pipeline_tag"] = "text-classification"
    if kind == "transformer":
        facts["library_name"] = "sentence-transformers"
    facts["tags"] = ["tagger", *(["onnx", "transformers.js"] if kind == "onnx" else [])]
    data = run.data_config
    if data.source == "hub":
        facts["datasets"] = [data.hub_id]
    if report is not None:
        facts["model-index"] = [{"name": run.name, "results": [_index(report)]}]
    return facts


def _index(report: EvaluationReport) -> dict[str, Any]:
    decision = report.decision
    overall, published = report.overall, f"precision of the {share(decision.coverage)} published"
    scores: list[tuple[str, str, Score | None]] = [
        ("accuracy", "accuracy", overall.accuracy),
        ("f1", "macro F1", overall.macro_f1),
        ("f1", "weighted F1", overall.weighted_f1),
        ("precision", published, decision.precision),
    ]
    return {
        "task": {"type": "text-classification", "name": "Text classification"},
        "dataset": {"type": report.data.name, "name": report.data.name},
        "metrics": [
            {"type": kind, "name": f"{name} {score(one)}", "value": one.value}
            for kind, name, one in scores
            if one is not None
        ],
    }


def _about(run: RunFolder) -> list[Block]:
    return [
        Text(
            f"Files a text, or a title with its description, under one of {len(run.tags)} tags, or "
            f"leaves it to a person: {', '.join(run.tags)}."
        ),
        Heading("Intended use"),
        Text(
            "Texts like those that it was trained on (below), in the same language. The tags are "
            "all that it knows: a text about anything else gets the nearest of them, unless the "
            "decision leaves it to a person."
        ),
    ]


def _results(report: EvaluationReport | None) -> Iterator[Block]:
    if report is None:
        yield Heading("Results and limits")
        yield Text("The run was not evaluated: nothing is known of its errors.", "warning")
        return
    yield Heading("Results")
    yield Text(f"On {report.data.explanation}. Square brackets hold 95% intervals.")
    yield headline(report)
    yield Text(f"{describe_decision(report.decision)} {describe_correction(report.calibration)}")
    yield tags_table(report, score, "Tags")
    yield slices_table(report)
    yield Heading("Limits")
    if report.data.warning:
        yield Text(f"{report.data.warning}.", "warning")
    yield Text(sentence(describe_weak_slices(report.weak_slices)))
    weak = [
        f"{one.name}: error rate {score(one.error_rate)}, elsewhere {one.elsewhere:.3f}"
        for one in report.weak_slices.slices
    ]
    behaviour = [] if report.behaviour is None else [
        f"behaviour, {name}: {one.passed} of {one.num_cases} cases pass ({one.about})"
        for name, one in report.behaviour.capabilities.items()
    ]  # fmt: skip
    if weak or behaviour:
        yield Listing([*weak, *behaviour])
    if report.empty_slices:
        yield Text(f"Nothing is known of: {', '.join(report.empty_slices)}.")


def _origin(run: RunFolder) -> list[Block]:
    meta, hardware = run.meta, run.meta.environment.hardware
    extra, git, original = meta.data.extra, meta.environment.git, meta.compressed_from
    told = f"{extra.rows:,}, SHA-256 {extra.sha256}" if extra is not None and extra.rows else None
    facts = {
        "data": meta.data.name,
        "data, SHA-256": meta.data.sha256,
        **{f"{part} rows": f"{count:,}" for part, count in meta.data.rows.items()},
        "further training rows": told,
        "model": run.model_name,
        "parameters": number(meta.parameters, 0),
        "compressed from": original and original.name,
        "seed": meta.seed,
        "steps": number(meta.steps, 0),
        "training time in s": number(meta.train_seconds, 1),
        "peak memory in MiB": number(meta.peak_memory_mib, 0),
        "processor": hardware.get("cpu"),
        "cores": hardware.get("cores"),
        "memory in GiB": hardware.get("memory_gib"),
        "GPU": hardware.get("gpu"),
        "made at": meta.finished_on,
        "code": git and git.revision + (" with changed files" if git.changed_files else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in meta.environment.versions.items()),
    }
    rows = [[name, str(value)] for name, value in facts.items() if value not in (None, "", "-")]
    files = [[name, digest] for name, digest in meta.model_files.items()]
    blocks: list[Block] = [
        Table(["fact", Column("value", "prose")], rows, "Data and training"),
        *([Listing(meta.data.notes)] if meta.data.notes else []),
        Table(["file", "SHA-256"], files, "Files of the model"),
    ]
    return blocks


def _usage(run: RunFolder, repository: str | None) -> Iterator[str]:
    """Yield the lines that say how to use it, for the libraries that can."""
    kind = _kind(run)
    place = repository or f"{run.name}/model"
    ours = run.name if repository is None else f"{ON_HUB}{repository}"
    yield f"## Use\n\n```python{OURS.format(run=ours)}```\n"
    yield f"```\ntagger predict --run {ours} --title TITLE\n```"
    if kind == "transformer" and (run.path / "model" / "modules.json").exists():
        yield f"\n```python{SENTENCE_TRANSFORMERS.format(place=place)}```"
    elif kind == "onnx":
        yield f"\n```python{OPTIMUM.format(place=place)}```"
        yield f"\n```js{TRANSFORMERS_JS.format(place=place)}```"
    else:
        return
    calibrator = load_rule(run.path, len(run.tags)).calibrator
    yield (
        "\nA text is the title, a full stop and the description. Only tagger knows the rule that "
        "leaves a text to a person, and corrects probabilities"
        + (
            f": here by dividing logits by {calibrator.temperature:.4g}."
            if isinstance(calibrator, Temperature)
            else "."
        )
    )


def _kind(run: RunFolder) -> str:
    try:
        return str(read_settings(run.path / "model")["approach"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{run.path}: the model is damaged: {error}") from None
