"""The report of an evaluation: for programs (JSON), for people (HTML, Markdown, terminal)."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tagger.evaluation.map_page import draw_map
from tagger.evaluation.plots import (
    plot_confusion,
    plot_learning_curves,
    plot_precision_recall,
    plot_reliability,
    plot_reliability_by_tag,
    plot_risk_coverage,
    plot_slices,
    write_figure,
)
from tagger.files import write_json, write_text
from tagger.scores import PER_CLASS, FloatArray, IntArray
from tagger.training.tracking import read_metrics

HEADLINE = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "weighted_f1": "Weighted F1"}


def write_report(
    report: dict[str, Any],
    folder: Path,
    probabilities: FloatArray,
    true: IntArray,
    metrics: Path,
) -> list[Path]:
    """Write `report.json`, `report.md`, `report.html` and `plots/*.png`.

    Args:
        report: What `tagger.evaluation.evaluate_run` puts together.
        folder: Where to; made when missing.
        probabilities: Of the rows evaluated, shape (n, n_tags).
        true: Positions of their true tags, shape (n,).
        metrics: The run's `metrics.jsonl`; without it there are no learning curves.

    Returns:
        The files written, the report for people first.
    """
    plots = _write_plots(report, folder / "plots", probabilities, true, metrics)
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", render_markdown(report, plots))
    write_text(folder / "report.html", render_html(report, plots))
    names = ("report.html", "report.md", "report.json")
    return [*(folder / name for name in names), *(path for path, _ in plots)]


def render_html(report: Mapping[str, Any], plots: Sequence[tuple[Path, str]]) -> str:
    """Render one page that needs nothing beside itself.

    Args:
        report: The content of `report.json`.
        plots: PNG files and what they show, in words.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": format_score,
        "signed": format_signed,
        "label": _label,
        "or_none": _or_none,
        "decision": _decision,
        "calibration": _calibration,
        "behaviour": _behaviour,
        "budget": _budget,
        "guards": _guards,
        "weak_slices": _weak_slices,
        "errors": describe_error_total,
        "error_group": describe_error_group,
        "sentence": _sentence,
    }
    script = (Path(__file__).parent / "map.js").read_text(encoding="utf-8")
    images = [
        {"source": base64.b64encode(path.read_bytes()).decode("ascii"), "text": text}
        for path, text in plots
    ]
    return environment.get_template("report.html.j2").render(
        report=report,
        headline=HEADLINE,
        per_class=PER_CLASS,
        images=images,
        provenance=provenance(report),
        map=None if report["map"] is None else draw_map(report["map"], report["tags"]),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def render_markdown(report: Mapping[str, Any], plots: Sequence[tuple[Path, str]]) -> str:
    """Render the report as Markdown, its plots as links to files beside it."""
    run, data, latency = report["run"], report["data"], report["latency"]
    lines = [
        f"# {_cell(run['name'])} on {_cell(data['name'])}",
        "",
        f"{_sentence(data['explanation'])} Intervals hold 95%.",
        "",
        *([f"**Warning:** {_sentence(data['warning'])}", ""] if data["warning"] else []),
        "| score | value |",
        "|---|---|",
        *(
            f"| {title} | {format_score(report['overall'][key])} |"
            for key, title in HEADLINE.items()
        ),
        f"| Latency p50 / p95 / p99 | {_latency(latency)} |",
        "",
        "## Decisions",
        "",
        f"{_decision(report['decision'])} {_calibration(report['calibration'])}",
        "",
        "| tag | published | precision | recall |",
        "|---|---:|---|---|",
        *(
            f"| {_cell(tag)} | {block['published']} | {_or_none(block['precision'])} | "
            f"{_or_none(block['recall'])} |"
            for tag, block in report["decision"]["per_class"].items()
        ),
        "",
        "## Tags",
        "",
        "| tag | rows | precision | recall | F1 |",
        "|---|---:|---|---|---|",
    ]
    for tag, block in report["per_class"].items():
        scores = " | ".join(format_score(block[key]) for key in PER_CLASS)
        lines.append(f"| {_cell(tag)} | {block['num_samples']} | {scores} |")
    lines += ["", "## Slices", "", "| slice | rows | accuracy | weighted F1 | rule |"]
    lines += ["|---|---:|---|---|---|"]
    for name, block in report["slices"].items():
        scores = f"{format_score(block['accuracy'])} | {format_score(block['weighted_f1'])}"
        rule = _cell(block["description"])
        lines.append(f"| {_cell(name)} | {block['num_samples']} | {scores} | {rule} |")
    if report["empty_slices"]:
        lines += ["", f"No rows: {', '.join(map(_cell, report['empty_slices']))}."]
    lines += _weak_slices_markdown(report["weak_slices"])
    if report["comparison"]:
        lines += _comparison_markdown(report["comparison"])
    if report["behaviour"]:
        lines += _behaviour_markdown(report["behaviour"])
    lines += ["", "## Plots", ""]
    lines += [f"![{_cell(text)}](plots/{path.name})\n" for path, text in plots]
    lines += _errors_markdown(report["errors"])
    lines += ["", "## Provenance", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in provenance(report).items()]
    return "\n".join(lines) + "\n"


def print_report(report: Mapping[str, Any], written: Sequence[Path]) -> None:
    """Print tables of tags and slices, latency, comparison, and where the report lies."""
    console = Console(highlight=False, markup=False, emoji=False)
    run, data, overall = report["run"], report["data"], report["overall"]
    title = f"{run['name']} on {data['name']}, with 95% intervals"
    table = _table(title, ("tag", "rows", *map(_label, PER_CLASS)))
    for tag, block in report["per_class"].items():
        scores = [format_short(block[key]) for key in PER_CLASS]
        table.add_row(tag, str(block["num_samples"]), *scores)
    table.add_section()
    for average in ("macro", "weighted"):
        scores = [format_short(overall[f"{average}_{key}"]) for key in PER_CLASS]
        table.add_row(average, str(overall["num_samples"]), *scores)
    console.print(table)
    console.print()

    table = _table("", ("slice", "rows", "accuracy", "weighted F1"))
    for name, block in {"all rows": overall, **report["slices"]}.items():
        scores = [format_short(block[key]) for key in ("accuracy", "weighted_f1")]
        table.add_row(name, str(block["num_samples"]), *scores)
    console.print(table)
    console.print()

    behaviour = report["behaviour"]
    if behaviour:
        table = _table("", ("behaviour", "cases", "passed", "rate"))
        for name, block in {"all": behaviour, **behaviour["capabilities"]}.items():
            counts = (str(block["num_cases"]), str(block["passed"]))
            table.add_row(name, *counts, format_short(block["rate"]))
        console.print(table)
        console.print()

    # Lines, not tables: a path that a terminal's width breaks in two cannot be copied.
    lines = [
        f"rows: {data['explanation']}",
        *([f"WARNING: {data['warning']}"] if data["warning"] else []),
        f"decision: {_decision(report['decision'])}",
        f"calibration: {_calibration(report['calibration'])}",
        f"latency p50/p95/p99: {_latency(report['latency'])}",
        f"weak slices: {_weak_slices(report['weak_slices'])}",
    ]
    lines += [f"  {_weak_slice(one)}" for one in report["weak_slices"]["slices"]]
    lines.append(f"errors: {describe_error_total(report['errors'])}")
    comparison = report["comparison"]
    if comparison:
        lines.append(f"against {comparison['against']}: {comparison['explanation']}")
        lines += [
            f"  {_label(key)}: {format_signed(difference)}"
            for key, difference in comparison["differences"].items()
        ]
        lines.append(f"  {_mcnemar(comparison['mcnemar'])}")
        lines.append(f"  {_guards(comparison['guards'])}")
    lines += [str(path) for path in written]
    for line in lines:
        console.print(line, soft_wrap=True)


def _weak_slices_markdown(weak: Mapping[str, Any]) -> list[str]:
    lines = ["", "## Weak slices", "", _sentence(_weak_slices(weak)), ""]
    if weak["slices"]:
        lines += ["| slice | rows | errors | error rate | elsewhere | p | examples |"]
        lines += ["|---|---:|---:|---|---:|---:|---|"]
    for one in weak["slices"]:
        examples = "; ".join(_cell(row["title"] or row["id"]) for row in one["examples"])
        rate = f"{format_score(one['error_rate'])} | {one['elsewhere']:.3f} | {one['p_value']:.3g}"
        counts = f"{one['num_samples']} | {one['errors']}"
        lines.append(f"| {_cell(one['name'])} | {counts} | {rate} | {examples} |")
    return lines


def _weak_slices(weak: Mapping[str, Any]) -> str:
    """Say what the search found."""
    found = len(weak["slices"])
    many = weak["looked_at"]
    looked = f"of {many:,} part{'s' if many != 1 else ''} looked at"
    if not found:
        return f"none {looked} has more errors than chance allows"
    verb = "has" if found == 1 else "have"
    return f"{found} {looked} {verb} more errors than chance allows"


def _weak_slice(one: Mapping[str, Any]) -> str:
    return (
        f"{one['name']}: {one['errors']} of {one['num_samples']} wrong, elsewhere "
        f"{one['elsewhere']:.1%}"
    )


def _errors_markdown(errors: Mapping[str, Any]) -> list[str]:
    lines = ["## Errors", "", _sentence(describe_error_total(errors))]
    for group in errors["groups"]:
        lines += ["", f"### {_cell(describe_error_group(group))}", ""]
        lines += ["| title | true | decided | probability | label | nearest items trained on |"]
        lines += ["|---|---|---|---:|---|---|"]
        for one in group["errors"]:
            cells = [_cell(one["title"] or one["id"]), _cell(one["true"]), _cell(one["predicted"])]
            label = "doubtful" if one["label_doubtful"] else ""
            near = "; ".join(f"{row['title']} ({row['tag']})" for row in one["neighbours"])
            cells += [f"{one['probability']:.3f}", label, _cell(near)]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def describe_error_total(errors: Mapping[str, Any]) -> str:
    """Say in a line how many errors there are, given the `errors` of a report."""
    if not errors["total"]:
        return "none"
    shown = "" if errors["shown"] == errors["total"] else f", the {errors['shown']} surest shown"
    groups, doubtful = len(errors["groups"]), errors["doubtful_labels"]
    return (
        f"{errors['total']:,} of the rows{shown}, in {groups} group{'s' if groups != 1 else ''}; "
        + ("1 label looks wrong" if doubtful == 1 else f"{doubtful} labels look wrong")
    )


def describe_error_group(group: Mapping[str, Any]) -> str:
    """Say what the errors of a group have in common, and how rich in errors that is."""
    many = len(group["errors"])
    text = f"{group['name']}: {many} error{'s' if many != 1 else ''}"
    if group["error_rate"] is None:
        return text
    return f"{text}; of its {group['num_samples']} rows {format_score(group['error_rate'])} wrong"


def _behaviour_markdown(behaviour: Mapping[str, Any]) -> list[str]:
    lines = ["", "## Behaviour", "", _behaviour(behaviour), ""]
    lines += ["| capability | cases | passed | rate | what it is |", "|---|---:|---:|---|---|"]
    for name, block in behaviour["capabilities"].items():
        counts = f"{block['num_cases']} | {block['passed']}"
        rate = format_score(block["rate"])
        lines.append(f"| {_cell(name)} | {counts} | {rate} | {_cell(block['about'])} |")
    failures = [
        (name, one)
        for name, block in behaviour["capabilities"].items()
        for one in block["failures"]
    ]
    if failures:
        lines += [
            "",
            "| failed | title | description | expected | found |",
            "|---|---|---|---|---|",
        ]
    for name, one in failures:
        cells = (one[key] for key in ("title", "description", "expected", "found"))
        lines.append(f"| {_cell(name)} | {' | '.join(_cell(cell[:200]) for cell in cells)} |")
    return lines


def _behaviour(behaviour: Mapping[str, Any]) -> str:
    return (
        f"{behaviour['passed']} of {behaviour['num_cases']} cases of "
        f"{behaviour['cases']['path']} pass: {format_score(behaviour['rate'])}."
    )


def provenance(report: Mapping[str, Any]) -> dict[str, str]:
    """Say in a flat table what the numbers depend on."""
    run, data, environment = report["run"], report["data"], report["environment"]
    trained = run["trained_on"]
    hardware = environment["hardware"]
    machine = f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB memory"
    if hardware["gpu"]:
        machine += f", {hardware['gpu']}"
    rows = ", ".join(f"{count} {part}" for part, count in trained.get("rows", {}).items())
    facts = {
        "Run": run["path"],
        "Model": run["model"],
        "Parameters": _count(run["parameters"]),
        "Seed": run["seed"],
        "Steps": _count(run["steps"]),
        "Kept step": _count(run["best_step"]),
        "Training time": _unit(run["train_seconds"], "s"),
        "Peak memory of training": _unit(run["peak_memory_mib"], "MiB"),
        "Trained on": f"{trained['name']}: {rows}",
        "Trained on, SHA-256": trained["sha256"],
        "Trained at revision": _revision(run["environment"].get("git")),
        "Evaluated on": data["name"],
        "Evaluated on, SHA-256": data["sha256"],
        "Evaluated at": report["evaluated_on"],
        "Evaluated at revision": _revision(environment["git"]),
        "Machine": machine,
        "System": hardware["system"],
        "Bootstrap": f"{report['intervals']['resamples']} resamples, "
        f"seed {report['intervals']['seed']}",
        "Versions": ", ".join(f"{k} {v}" for k, v in environment["versions"].items()),
    }
    return {key: str(value) for key, value in facts.items() if value is not None}


def format_score(score: Mapping[str, float]) -> str:
    """Format a value with its interval: `0.913 [0.848, 0.952]`."""
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def format_short(score: Mapping[str, float]) -> str:
    """Format a value with its interval for a terminal of 80 columns: `0.913 .85-1.0`."""
    ends = [f"{score[end]:.2f}".removeprefix("0").replace("1.00", "1.0") for end in ("low", "high")]
    return f"{score['value']:.3f} {'-'.join(ends)}"


def format_signed(score: Mapping[str, float]) -> str:
    """Format a difference with its interval: `+0.026 [-0.009, +0.061]`."""
    return f"{score['value']:+.3f} [{score['low']:+.3f}, {score['high']:+.3f}]"


def _label(key: str) -> str:
    """Write a score's key as people do: `macro_f1` as `macro F1`."""
    return key.replace("_", " ").replace("f1", "F1")


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(
        title=title or None,
        title_justify="left",
        padding=(0, 1, 0, 0),
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for column in columns:
        # Folded, not cut: a tag or slice whose name ends in "..." could be any.
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    return table


def _write_plots(
    report: Mapping[str, Any],
    folder: Path,
    probabilities: FloatArray,
    true: IntArray,
    metrics: Path,
) -> list[tuple[Path, str]]:
    """Write the plots; return each file with what it shows, in words."""
    tags, rows = report["tags"], report["overall"]["num_samples"]
    confusion = np.array(report["confusion"])
    curves = plot_learning_curves(read_metrics(metrics), report["run"]["best_step"])
    accuracy = format_score(report["overall"]["accuracy"])
    figures = {
        "confusion": (plot_confusion(confusion, tags), _confusion_text(confusion, tags)),
        "precision-recall": (
            plot_precision_recall(probabilities, true, tags),
            f"Precision over recall for each of {len(tags)} tags, with its average precision.",
        ),
        "reliability": (
            plot_reliability(report["calibration"]),
            "Share of right decisions over their probability, with the number of rows of each "
            f"bin, before and after correction. {_calibration(report['calibration'])}",
        ),
        "reliability-by-tag": (
            plot_reliability_by_tag(report["calibration"]),
            "For each tag, the share of rows that carry it over its probability, before and after "
            f"correction. {_calibration_by_tag(report['calibration'])}.",
        ),
        "risk-coverage": (
            plot_risk_coverage(report["decision"]),
            "Share of wrong decisions over the share of rows that are published, the surest "
            f"first. {_decision(report['decision'])}",
        ),
        "slices": (
            plot_slices(report["overall"], report["slices"]),
            f"Accuracy of {len(report['slices'])} slices with 95% intervals; on all {rows} rows "
            f"it is {accuracy}.",
        ),
        "learning-curves": (
            curves,
            "Training and validation loss, and validation scores, over the steps of training.",
        ),
    }
    written = []
    for name, (figure, text) in figures.items():
        path = folder / f"{name}.png"
        if figure is None:  # of an earlier report on other logs, it would be out of place
            path.unlink(missing_ok=True)
            continue
        write_figure(figure, path)
        written.append((path, text))
    return written


def _confusion_text(confusion: IntArray, tags: Sequence[str]) -> str:
    errors = confusion - np.diag(np.diagonal(confusion))
    text = f"Confusion matrix of {confusion.sum()} rows: {errors.sum()} errors."
    if errors.any():
        row, column = np.unravel_index(int(errors.argmax()), errors.shape)
        text += (
            f" The most frequent, {errors[row, column]} times: {tags[int(row)]} taken for "
            f"{tags[int(column)]}."
        )
    return text


def _comparison_markdown(comparison: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        f"## Against {_cell(comparison['against'])}",
        "",
        f"{_sentence(comparison['explanation'])} {_sentence(_mcnemar(comparison['mcnemar']))} "
        f"{_sentence(_guards(comparison['guards']))}",
        "",
        "| score | this run | the other | difference |",
        "|---|---|---|---|",
    ]
    for key, difference in comparison["differences"].items():
        pair = f"{difference['ours']:.3f} | {difference['theirs']:.3f}"
        lines.append(f"| {_label(key)} | {pair} | {format_signed(difference)} |")
    for kind in ("fixed", "broken", "still_wrong"):
        items = comparison[kind]
        title = kind.replace("_", " ").capitalize()
        lines += ["", f"### {title}: {len(items)}", ""]
        lines += [
            f"- {_cell(item['title'] or item['id'])}: true {_cell(item['true'])}, this run "
            f"{_cell(item['ours'])}, the other {_cell(item['theirs'])}"
            for item in items
        ]
    return lines


def _guards(guards: Mapping[str, Any]) -> str:
    worse = [one["name"] for one in guards["parts"] if one["worse"]]
    found = f"worse beyond chance: {', '.join(worse)}" if worse else "none worse beyond chance"
    return f"{guards['looked_at']:,} guarded parts, {found}"


def _mcnemar(test: Mapping[str, Any]) -> str:
    return (
        f"{test['fixed']} rows fixed, {test['broken']} broken, "
        f"exact McNemar p = {test['p_value']:.3g}"
    )


def _latency(latency: Mapping[str, Any]) -> str:
    times = " / ".join(f"{latency[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
    threads = f"{latency['threads']} thread" + ("s" if latency["threads"] != 1 else "")
    measured = f"{latency['items']} items one by one, {threads}"
    return f"{times} ms an item, end to end ({measured}){_budget(latency)}"


def _budget(latency: Mapping[str, Any]) -> str:
    """Say how p99 stands to the budget, as the end of a sentence; nothing without one."""
    if latency["within_budget"] is None:
        return ""
    stands = "within" if latency["within_budget"] else "over"
    return f", p99 {stands} the budget of {latency['budget_ms']:g} ms"


def _decision(decision: Mapping[str, Any]) -> str:
    """Say in two sentences what is published, and how good that is."""
    kind = decision["policy"]["kind"]
    precision = decision["precision"]
    text = (
        f"Policy {kind} publishes {decision['coverage']:.1%} of the rows and sends "
        f"{decision['review_per_1000']:,.0f} of 1,000 to a person"
    )
    if precision is None:
        return f"{text}."
    surest = ", ".join(f"{v:.3f} of {name}" for name, v in decision["at_coverage"].items())
    return (
        f"{text}; precision of what is published {format_score(precision)}. "
        f"Of the surest rows it would be {surest}; AURC {decision['aurc']:.4f}."
    )


def _calibration(calibration: Mapping[str, Any]) -> str:
    before = calibration["before"]
    return (
        f"Calibration error {calibration['ece_adaptive']:.3f} (before correction "
        f"{before['ece_adaptive']:.3f}), Brier score {calibration['brier']:.3f} "
        f"({before['brier']:.3f})."
    )


def _calibration_by_tag(calibration: Mapping[str, Any]) -> str:
    before = calibration["before"]["per_class"]
    return "; ".join(
        f"{tag}: error {one['ece_adaptive']:.3f} ({before[tag]['ece_adaptive']:.3f}), Brier score "
        f"{one['brier']:.3f} ({before[tag]['brier']:.3f})"
        for tag, one in calibration["per_class"].items()
    )


def _or_none(score: Mapping[str, float] | None) -> str:
    return "-" if score is None else format_score(score)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _cell(text: object) -> str:
    """Make text safe for a Markdown table: one line, nothing that Markdown or HTML reads."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#!" else letter for letter in line)


def _revision(git: Mapping[str, Any] | None) -> str | None:
    if git is None:
        return None
    return str(git["revision"]) + (" with changed files" if git["changed_files"] else "")


def _count(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _unit(number: float | None, unit: str) -> str | None:
    return None if number is None else f"{number:,.1f} {unit}"
