"""Writes docs/schemas, and the tables of fields in docs/run-folder.md (`make docs`)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tagger.documents import Document
from tagger.files import REPO_ROOT, write_text
from tagger.reporting.markdown import markdown_table

DOCS = REPO_ROOT / "docs"
BEGIN, END = "<!-- schemas: written by make docs -->", "<!-- end of schemas -->"

Schema = Mapping[str, Any]
BOUNDS = {
    "minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most",
    "exclusiveMaximum": "below",
}  # fmt: skip
"""How a range is said in words, by the key of JSON schema."""


def documents() -> dict[str, type[Document]]:
    """Return the document of each kind of JSON file, by what the file is called."""
    from tagger.audit.report import AuditReport
    from tagger.batch.plan import BatchPlan
    from tagger.batch.run_batch import BatchManifest
    from tagger.benchmark.report import BenchmarkReport
    from tagger.build.report import BuildPlan, BuildReport
    from tagger.compare.report import ApproachesReport, FewLabelsReport, SourcesReport
    from tagger.compression.report import ParityReport
    from tagger.decision.decider import DecisionDocument
    from tagger.evaluation.report import EvaluationReport
    from tagger.leaderboard import Leaderboard
    from tagger.monitoring.report import MonitorReport
    from tagger.run_meta import RunMeta
    from tagger.search.summary import SweepSummary

    return {
        "meta.json": RunMeta,
        "decision.json": DecisionDocument,
        "report.json": EvaluationReport,
        "parity.json": ParityReport,
        "what `tagger leaderboard --json` prints": Leaderboard,
        "audit.json, of `tagger audit`": AuditReport,
        "approaches.json, of `tagger compare`": ApproachesReport,
        "few-labels.json, of `tagger compare --few-labels`": FewLabelsReport,
        "sources.json, of `tagger compare` with two files": SourcesReport,
        "summary.json, of a sweep": SweepSummary,
        "the file of `tagger benchmark --out`": BenchmarkReport,
        "plan.json, of `tagger build`": BuildPlan,
        "build.json, of `tagger build`": BuildReport,
        "monitor.json, of `tagger monitor`": MonitorReport,
        "plan.json, of `tagger predict --engine`": BatchPlan,
        "manifest.json, of `tagger predict --engine`": BatchManifest,
    }


def schema_files() -> dict[str, str]:
    """Return the content of each file in docs/schemas, by its name."""
    return {
        f"{document.__name__}.json": json.dumps(document.model_json_schema(), indent=1) + "\n"
        for document in documents().values()
    }


def schema_section() -> str:
    """Return the section of docs/run-folder.md about the fields of all documents."""
    lines: list[str] = []
    told: set[str] = set()
    for file, document in documents().items():
        name = document.__name__
        schema = document.model_json_schema()
        summary = schema["description"].split("\n\n")[0].replace("\n", " ")
        lines += [
            f"### {name}",
            "",
            f"File: {file}.",
            "",
            f"{summary} [JSON schema](schemas/{name}.json)",
            "",
        ]
        lines += [*_fields(schema), ""]
        for part, inner in schema.get("$defs", {}).items():
            if part in told or "properties" not in inner:
                continue
            told.add(part)
            lines += [f"**{part}**", "", *_fields(inner), ""]
    return "\n".join(lines).rstrip()


def with_section(text: str) -> str:
    """Return the text of docs/run-folder.md with the section as it is to be."""
    section = f"{BEGIN}\n\n{schema_section()}\n\n{END}"
    return re.sub(f"{BEGIN}.*?{END}", lambda _: section, text, flags=re.DOTALL)


def main() -> None:
    """Write docs/run-folder.md and docs/schemas."""
    page = DOCS / "run-folder.md"
    write_text(page, with_section(page.read_text(encoding="utf-8")))
    for name, content in schema_files().items():
        write_text(DOCS / "schemas" / name, content)


def _fields(schema: Schema) -> list[str]:
    about = dict(_attributes(schema.get("description", "")))
    rows = [
        [f"`{name}`", type_in_words(field), field.get("description", about.get(name, ""))]
        for name, field in schema["properties"].items()
    ]
    if not any(row[-1] for row in rows):
        return markdown_table(["field", "type"], [row[:-1] for row in rows])
    return markdown_table(["field", "type", "what it is"], rows)


def _attributes(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield the fields that a docstring tells of under `Attributes`, and what it says."""
    _, _, listed = docstring.partition("Attributes:\n")
    for found in re.finditer(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE):
        yield found[1], " ".join(found[2].split())


def type_in_words(field: Schema) -> str:
    """Return the type of a field with its range: `list of Slice`, `number (above 0) or null`."""
    if "$ref" in field:
        return str(field["$ref"]).rsplit("/", 1)[-1]
    if choices := field.get("anyOf", field.get("oneOf")):
        return " or ".join(map(type_in_words, choices))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    kind = str(field.get("type", "any"))
    if kind == "array":
        inner: Sequence[Schema] = field.get("prefixItems", [])
        of = ", ".join(map(type_in_words, inner)) or type_in_words(field.get("items", {}))
        return f"list of {of}"
    if kind == "object" and isinstance(values := field.get("additionalProperties"), dict):
        return f"mapping to {type_in_words(values)}"
    bounds = [f"{word} {field[key]}" for key, word in BOUNDS.items() if key in field]
    return f"{kind} ({', '.join(bounds)})" if bounds else kind


if __name__ == "__main__":
    main()
