"""Builds the page of a build: what each step brought and cost, and what was chosen and why."""

from tagger.build.report import BuildReport, Candidate
from tagger.reporting.numbers import milliseconds, number, plural, sentence, share
from tagger.reporting.page import (
    Block,
    Heading,
    Listing,
    Number,
    Numbers,
    Page,
    Table,
    Text,
    numeric,
)


def build_page(report: BuildReport) -> Page:
    """Build the page; the terminal shows the table and what was chosen."""
    steps = _steps(report)
    why = Listing([sentence(one) for one in report.reasons])
    blocks: list[Block] = [
        Text(headline(report)),
        _figures(report),
        Heading("What each step brought and cost"),
        steps,
        Heading("Why it was chosen"),
        Text(
            "A run takes the place of a plainer one only where it is proven better on the same "
            "rows: by what it publishes at the promise, then by F1, then by time."
        ),
        why,
        Heading("How it was planned"),
        Listing([sentence(one) for one in [*report.plan.notes, *report.notes]]),
        _plan(report),
    ]
    return Page(f"Build of {report.name}", blocks, [steps, why, Text(headline(report))])


def headline(report: BuildReport) -> str:
    """Say in a line what the chosen run publishes, how many items go to a person, and its p99."""
    chosen = _chosen(report)
    known, rows = report.published, ""
    published = chosen.published if known is None else known.share
    precision = chosen.precision if known is None else known.precision
    if known is not None:
        rows = f" of {plural(known.rows, 'test row')}"
    published = published or 0.0
    right = "" if precision is None else f", {precision:.1%} of it right"
    return (
        f"{report.name} ({report.chosen}): published {published:.1%}{rows} at a promise of "
        f"{report.promise:g}{right}; {1000 * (1 - published):.0f} per 1,000 to a person; p99 "
        f"{milliseconds(chosen.p99_ms)} ms"
    )


def _chosen(report: BuildReport) -> Candidate:
    return next(one for one in report.candidates if one.name == report.chosen)


def _figures(report: BuildReport) -> Numbers:
    chosen, known = _chosen(report), report.published
    scores = chosen if known is None else known
    return Numbers(
        [
            Number("published", share(chosen.published if known is None else known.share)),
            Number("weighted F1", number(scores.weighted_f1, 3)),
            Number("macro F1", number(scores.macro_f1, 3)),
            Number("p99", f"{milliseconds(chosen.p99_ms)} ms", "one item, one core"),
            Number("size", f"{chosen.mib:.1f} MiB"),
            Number("built in", f"{report.seconds / 60:.1f} min"),
        ]
    )


def _steps(report: BuildReport) -> Table:
    rows = []
    for one in report.candidates:
        mark = "chosen" if one.name == report.chosen else "" if one.quick else "too slow"
        rows.append(
            [
                one.name,
                number(one.seconds, 0),
                number(one.weighted_f1, 3),
                number(one.macro_f1, 3),
                number(one.aurc, 4),
                share(one.published),
                share(one.precision),
                milliseconds(one.p50_ms),
                milliseconds(one.p99_ms),
                number(one.mib, 1),
                mark,
            ]
        )
    head = ["train s", "weighted F1", "macro F1", "AURC", "published", "its P"]
    return Table(
        ["step", *numeric([*head, "p50 ms", "p99 ms", "MiB"]), ""],
        rows,
        caption=f"On {report.judged_on}. Published: at a promise of {report.promise:g}, which "
        f"holds with {report.confidence:.0%} confidence for whichever run is chosen. Each step is "
        f"a run folder below {report.name}.build.",
        label="Steps",
    )


def _plan(report: BuildReport) -> Table:
    plan = report.plan
    rows = [
        ["rows", f"{plan.rows:,}"],
        ["tags", ", ".join(f"{tag} {count:,}" for tag, count in plan.tags.items())],
        ["further texts for the student", f"{plan.texts:,}"],
        ["a pass of the encoder over a text", f"{plan.pass_ms:.2f} ms"],
        [
            "expected",
            ", ".join(f"{name} {value:.0f} s" for name, value in plan.expected_seconds.items()),
        ],
        ["git", report.environment.git.revision if report.environment.git else "-"],
    ]
    return Table(["plan", ""], rows, label="Plan")
