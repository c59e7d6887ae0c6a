"""Reports an evaluation: its page, the files that are written, and what the terminal shows."""

from collections.abc import Callable
from pathlib import Path
from textwrap import shorten

from tagger.environment import Revision
from tagger.evaluation.evaluate_run import Evaluation
from tagger.evaluation.report import (
    BehaviourReport,
    CorrectedCalibration,
    DecisionReport,
    ErrorGroup,
    EvaluationReport,
    Guards,
    Latency,
    OverallScores,
    RunComparison,
    Score,
    WeakSlices,
)
from tagger.reporting.errors import describe_error_group, describe_error_total
from tagger.reporting.explorer import draw_explorer
from tagger.reporting.html import write_html
from tagger.reporting.markdown import write_markdown
from tagger.reporting.numbers import (
    difference,
    label,
    number,
    plural,
    score,
    sentence,
    share,
    short_score,
)
from tagger.reporting.page import (
    Block,
    Cell,
    Column,
    Columns,
    Details,
    Figures,
    Heading,
    Listing,
    Number,
    Numbers,
    Page,
    Table,
    Text,
    numeric,
)
from tagger.reporting.terminal import print_page
from tagger.runs import write_predictions
from tagger.scores import OVERALL, PER_CLASS

CHANGES = {"fixed": "Fixed", "broken": "Broken", "still_wrong": "Wrong in another way"}
MOST_LETTERS = 400
"""Of a description that a page shows."""

ROWS, *COUNTS = numeric(["rows", "cases", "passed"])
ITEM = Column("item", "prose")


def report_evaluation(evaluation: Evaluation) -> EvaluationReport:
    """Write the report of an evaluation, attach it to its tracker, and print it."""
    written = write_evaluation(evaluation)
    _attach_to_tracker(evaluation)
    page = evaluation_page(evaluation.report, Figures([]))
    print_page(Page(page.title, [], [*page.summary, *(Text(str(path)) for path in written)]))
    return evaluation.report


def write_evaluation(evaluation: Evaluation) -> list[Path]:
    """Write `predictions.csv`, `report.json`, `report.md`, `report.html` and `plots/*.png`.

    Returns:
        The files of the report, the one for people first.
    """
    # Imported here: matplotlib costs a second that a mistake need not wait.
    from tagger.reporting.evaluation_figures import draw_figures
    from tagger.reporting.figures import write_figures

    folder, report, predictions = evaluation.folder, evaluation.report, evaluation.predictions
    write_predictions(
        folder / "predictions.csv",
        [item.id for item in predictions.items],
        report.tags,
        evaluation.raw,
        predictions.probabilities,
    )
    figures = write_figures(draw_figures(evaluation), folder / "plots")
    page = evaluation_page(report, figures)
    report.write(folder / "report.json")
    write_markdown(page, folder / "report.md")
    write_html(page, folder / "report.html")
    names = ("report.html", "report.md", "report.json")
    return [*(folder / name for name in names), *(one.path for one in figures.figures)]


def evaluation_page(report: EvaluationReport, figures: Figures) -> Page:
    """Build the page of a report, with the figures drawn of it."""
    data, latency = report.data, report.latency
    blocks: list[Block] = [
        Text(f"Evaluated on {data.explanation}. Square brackets hold 95% intervals."),
        *([Text(f"{data.warning}.", "warning")] if data.warning else []),
        headline(report),
        tags_table(report, score, "Tags"),
        _decisions(report),
        slices_table(report),
    ]
    if report.empty_slices:
        blocks.append(Text(f"No rows: {', '.join(report.empty_slices)}.", "soft"))
    blocks += _weak_slices(report.weak_slices)
    if report.behaviour:
        blocks += _behaviour(report.behaviour)
    if report.comparison:
        blocks += _comparison(report.comparison)
    if report.map:
        blocks += [Heading("Explore"), draw_explorer(report, report.map)]
    blocks += [
        Heading("Plots"),
        figures,
        Heading("Latency"),
        Text(
            f"Half of the items take at most {latency.p50_ms:.1f} ms, 95% at most "
            f"{latency.p95_ms:.1f} ms, 99% at most {latency.p99_ms:.1f} ms, from strings to "
            f"decision: {latency.items} items one by one after {latency.warmup} to warm up, on "
            f"{plural(latency.threads, 'thread')} of {report.environment.hardware.cpu}"
            f"{describe_budget(latency)}."
        ),
        *_errors(report),
    ]
    value = Column("value", "prose")
    blocks.append(Table(["fact", value], _provenance(report), "Provenance"))
    return Page(f"{report.run.name} on {data.name}", blocks, _summary(report))


def headline(report: EvaluationReport) -> Numbers:
    """Build the figures that a reader should see first."""
    overall, decision, calibration = report.overall, report.decision, report.calibration
    precision = "-" if decision.precision is None else f"{decision.precision.value:.3f}"
    before = f"before correction {calibration.before.ece_adaptive:.3f}"
    latency = f"{report.latency.p95_ms:.1f} ms"
    return Numbers(
        [
            Number("Accuracy", *score(overall.accuracy).split(" ", 1)),
            Number("Macro F1", *score(overall.macro_f1).split(" ", 1)),
            Number("Weighted F1", *score(overall.weighted_f1).split(" ", 1)),
            Number("Published", share(decision.coverage), f"of the rows, precision {precision}"),
            Number("Calibration error", f"{calibration.ece_adaptive:.3f}", before),
            Number("Latency, 95th percentile", latency, "an item, end to end"),
        ]
    )


def tags_table(report: EvaluationReport, form: Callable[[Score], str], title: str) -> Table:
    """Build the table of tags and averages, each score in one of the forms of `numbers`."""
    rows = [
        [tag, str(block.num_samples), *(form(getattr(block, name)) for name in PER_CLASS)]
        for tag, block in report.per_class.items()
    ]
    for average in ("macro", "weighted"):
        scores = [form(getattr(report.overall, f"{average}_{name}")) for name in PER_CLASS]
        rows.append([f"{average} average", str(report.overall.num_samples), *scores])
    return Table(["tag", ROWS, *map(label, PER_CLASS)], rows, title)


def _decisions(report: EvaluationReport) -> Table:
    calibration = report.calibration
    rows = []
    for tag, block in report.decision.per_class.items():
        scores = map(score, (block.precision, block.recall))
        both = (calibration.per_class[tag], calibration.before.per_class[tag])
        rows.append([tag, str(block.published), *scores, *(f"{c.ece_adaptive:.3f}" for c in both)])
    published, *errors = numeric(["published", "calibration error", "before"])
    caption = f"{describe_decision(report.decision)} {describe_correction(calibration)}"
    columns: Columns = ["tag", published, "precision", "recall", *errors]
    return Table(columns, rows, "Decisions", caption)


def slices_table(report: EvaluationReport) -> Table:
    """Build the table of named slices."""
    rows = []
    for name, block in report.slices.items():
        scores = map(score, (block.accuracy, block.weighted_f1))
        rows.append([name, str(block.num_samples), *scores, block.description])
    columns: Columns = ["slice", ROWS, "accuracy", "weighted F1", Column("rule", "prose")]
    return Table(columns, rows, "Slices", "Intervals tell how little a slice of few rows can say.")


def _weak_slices(weak: WeakSlices) -> list[Block]:
    found = sentence(describe_weak_slices(weak))
    if not weak.slices:
        return [Heading("Weak slices"), Text(found)]
    rows = []
    for one in weak.slices:
        counts, rate = map(str, (one.num_samples, one.errors)), score(one.error_rate)
        examples = "; ".join(row.title or row.id for row in one.examples)
        compared = [f"{one.elsewhere:.3f}", f"{one.p_value:.3g}"]
        rows.append([one.name, *counts, rate, *compared, examples])
    errors, *numbers = numeric(["errors", "elsewhere", "p, adjusted"])
    last = Column("examples", "prose")
    columns: Columns = ["slice", ROWS, errors, "error rate", *numbers, last]
    caption = (
        f"{found} p-values are adjusted for multiple comparisons; each slice stands without the "
        "rows of those above it."
    )
    return [Table(columns, rows, "Weak slices", caption)]


def _behaviour(behaviour: BehaviourReport) -> list[Block]:
    rows = [
        [name, str(block.num_cases), str(block.passed), score(block.rate), block.about]
        for name, block in behaviour.capabilities.items()
    ]
    columns: Columns = ["capability", *COUNTS, "rate", Column("what it is", "prose")]
    caption = (
        f"{behaviour.passed} of {behaviour.num_cases} cases of {behaviour.cases.path} pass: "
        f"{score(behaviour.rate)}."
    )
    blocks: list[Block] = [Table(columns, rows, "Behaviour", caption)]
    for name, block in behaviour.capabilities.items():
        failures = [
            (_item(one.title, one.description), one.expected, one.found) for one in block.failures
        ]
        if failures:
            title = f"Failed, {name}"
            inner = Table([ITEM, "expected", "found"], failures, label=title)
            blocks.append(Details(f"{title}: {len(failures)}", [inner]))
    return blocks


def _comparison(comparison: RunComparison) -> list[Block]:
    rows = [
        [label(key), f"{one.ours:.3f}", f"{one.theirs:.3f}", difference(one)]
        for key, one in comparison.differences.items()
    ]
    test = comparison.mcnemar
    columns = ["score", "this run", "the other", "difference"]
    blocks: list[Block] = [
        Table(columns, rows, f"Against {comparison.against}", f"{comparison.explanation}."),
        Text(
            f"{test.fixed} rows fixed, {test.broken} broken. Were both runs equally good, a split "
            f"at least this uneven would come up with probability {test.p_value:.3g} (exact "
            f"McNemar test). {sentence(describe_guards(comparison.guards))}"
        ),
    ]
    for kind, title in CHANGES.items():
        items = getattr(comparison, kind)
        cells = [[one.title or one.id, one.true, one.ours, one.theirs] for one in items]
        if cells:
            inner = Table([ITEM, "true", "this run", "the other"], cells, label=title)
            blocks.append(Details(f"{title}: {len(items)}", [inner]))
    return blocks


def _errors(report: EvaluationReport) -> list[Block]:
    errors = report.errors
    text = sentence(describe_error_total(errors))
    if errors.total:
        text += " Groups share what their title says, the most confident errors come first."
    if errors.total and report.map:
        text += (
            " Beside each stand the nearest items that the run was trained on. A label is marked "
            "where the run, and more of these items than bear it, speak against it."
        )
    groups = [
        Details(describe_error_group(group), [_error_table(group)], opened=number == 0)
        for number, group in enumerate(errors.groups)
    ]
    return [Heading("Errors"), Text(text), *groups]


def _error_table(group: ErrorGroup) -> Table:
    rows = []
    for one in group.errors:
        mark = "suspected label error" if one.suspected_label_error else ""
        item = _item(one.title or one.id, one.description, mark)
        near = Cell(items=[f"{n.tag}: {_shorten(n.title, 80)}" for n in one.nearest_items])
        rows.append((item, one.true, one.predicted, f"{one.probability:.3f}", near))
    columns: Columns = [
        ITEM, "true", "predicted", *numeric(["probability"]),
        Column("nearest training items", "prose"),
    ]  # fmt: skip
    return Table(columns, rows, label=group.name)


def _summary(report: EvaluationReport) -> list[Block]:
    """Build what the terminal shows: tables of tags, slices and behaviour, then lines."""
    data, latency = report.data, report.latency
    title = f"{report.run.name} on {data.name}, with 95% intervals"
    blocks: list[Block] = [tags_table(report, short_score, title)]
    slices: dict[str, OverallScores] = {"all rows": report.overall, **report.slices}
    rows = [
        [name, str(one.num_samples), short_score(one.accuracy), short_score(one.weighted_f1)]
        for name, one in slices.items()
    ]
    blocks.append(Table(["slice", ROWS, "accuracy", "weighted F1"], rows))
    if behaviour := report.behaviour:
        rows = [
            [name, str(one.num_cases), str(one.passed), short_score(one.rate)]
            for name, one in [("all", behaviour), *behaviour.capabilities.items()]
        ]
        blocks.append(Table(["behaviour", *COUNTS, "rate"], rows))
    blocks.append(Text(f"rows: {data.explanation}"))
    if data.warning:
        blocks.append(Text(data.warning, "warning"))
    blocks += [
        Text(f"decision: {describe_decision(report.decision)}"),
        Text(f"calibration: {describe_correction(report.calibration)}"),
        Text(
            f"latency p50/p95/p99: {latency.p50_ms:.1f} / {latency.p95_ms:.1f} / "
            f"{latency.p99_ms:.1f} ms an item, end to end ({latency.items} items one by one, "
            f"{plural(latency.threads, 'thread')}){describe_budget(latency)}"
        ),
        Text(f"weak slices: {describe_weak_slices(report.weak_slices)}"),
        Listing(
            [
                f"{one.name}: {one.errors} of {one.num_samples} wrong, elsewhere "
                f"{share(one.elsewhere)}"
                for one in report.weak_slices.slices
            ]
        ),
        Text(f"errors: {describe_error_total(report.errors)}"),
    ]
    if comparison := report.comparison:
        test = comparison.mcnemar
        lines = [f"{label(key)}: {difference(one)}" for key, one in comparison.differences.items()]
        lines.append(
            f"{test.fixed} rows fixed, {test.broken} broken, exact McNemar p = {test.p_value:.3g}"
        )
        lines.append(describe_guards(comparison.guards))
        blocks.append(Text(f"against {comparison.against}: {comparison.explanation}"))
        blocks.append(Listing(lines))
    return blocks


def describe_decision(decision: DecisionReport) -> str:
    """Say in two sentences what is published, and how good that is."""
    text = (
        f"Policy {decision.policy.kind} publishes {decision.coverage:.1%} of the rows and sends "
        f"{decision.review_per_1000:,.0f} of 1,000 to a person"
    )
    if decision.precision is None:
        return f"{text}."
    surest = ", ".join(f"{value:.3f} of {name}" for name, value in decision.at_coverage.items())
    return (
        f"{text}; precision of what is published {score(decision.precision)}. "
        f"Of the surest rows it would be {surest}; AURC {decision.aurc:.4f}."
    )


def describe_correction(calibration: CorrectedCalibration) -> str:
    """Say in a sentence how well probabilities are calibrated, after and before correction."""
    before = calibration.before
    return (
        f"Calibration error {calibration.ece_adaptive:.3f} (before correction "
        f"{before.ece_adaptive:.3f}), Brier score {calibration.brier:.3f} "
        f"({before.brier:.3f})."
    )


def describe_budget(latency: Latency) -> str:
    """Say how p99 stands to the budget, as the end of a sentence; nothing without one."""
    if latency.within_budget is None:
        return ""
    stands = "within" if latency.within_budget else "over"
    return f", p99 {stands} the budget of {latency.budget_ms:g} ms"


def describe_weak_slices(weak: WeakSlices) -> str:
    """Say in a line what the search found."""
    found = len(weak.slices)
    searched = f"{found or 'none'} of {plural(weak.comparisons, 'part')} compared"
    return f"{searched} {'have' if found > 1 else 'has'} more errors than chance allows"


def describe_guards(guards: Guards) -> str:
    """Say in a line which guarded parts are worse."""
    worse = [one.name for one in guards.parts if one.worse]
    found = f"worse beyond chance: {', '.join(worse)}" if worse else "none worse beyond chance"
    return f"{guards.comparisons:,} guarded parts, {found}"


def _provenance(report: EvaluationReport) -> list[list[str]]:
    """Return what the numbers depend on, without what is not known."""
    run, data, environment = report.run, report.data, report.environment
    trained, hardware = run.trained_on, environment.hardware
    machine = f"{hardware.cpu}, {hardware.cores} cores, {hardware.memory_gib} GiB memory"
    if hardware.gpu:
        machine += f", {hardware.gpu}"
    rows = ", ".join(f"{count} {part}" for part, count in trained.rows.items())
    facts = {
        "Run": run.path,
        "Model": run.model,
        "Parameters": number(run.parameters, 0),
        "Seed": run.seed,
        "Steps": number(run.steps, 0),
        "Kept step": number(run.best_step, 0),
        "Training time in s": number(run.train_seconds, 1),
        "Peak memory of training in MiB": number(run.peak_memory_mib, 1),
        "Trained on": f"{trained.name}: {rows}",
        "Trained on, SHA-256": trained.sha256,
        "Trained at revision": _revision(run.environment.git),
        "Evaluated on": data.name,
        "Evaluated on, SHA-256": data.sha256,
        "Evaluated at": report.evaluated_on,
        "Evaluated at revision": _revision(environment.git),
        "Machine": machine,
        "System": hardware.system,
        "Bootstrap": f"{report.intervals.resamples} resamples, seed {report.intervals.seed}",
        "Versions": ", ".join(f"{k} {v}" for k, v in environment.versions.items()),
    }
    return [[key, str(value)] for key, value in facts.items() if value not in (None, "-")]


def _attach_to_tracker(evaluation: Evaluation) -> None:
    run, folder = evaluation.run, evaluation.folder
    if folder != run.path or run.tracking_config.kind == "none":
        return
    from tagger.training.trackers import attach_run

    overall = evaluation.report.overall
    scores = {f"test/{name}": getattr(overall, name).value for name in OVERALL}
    attach_run(run.path, run.tracking_config, scores)


def _item(title: str, description: str, mark: str = "") -> Cell:
    return Cell(title, _shorten(description, MOST_LETTERS), mark)


def _shorten(text: str, width: int) -> str:
    return shorten(text, width, placeholder=" …")


def _revision(git: Revision | None) -> str | None:
    if git is None:
        return None
    return git.revision + (" with changed files" if git.changed_files else "")
