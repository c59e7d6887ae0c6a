"""Builds the page of a parity gate."""

from tagger.compression.report import BeforeAfter, ParityReport
from tagger.reporting.page import Block, Heading, Listing, Page, Table, Text, numeric

GATES = {
    "passed": "Every limit is kept.",
    "skipped": "The gate was skipped (--no-gate): limits were not enforced.",
}


def parity_page(report: ParityReport, title: str) -> Page:
    """Build the page of a parity gate under a title that names what was compressed, and how."""
    labelled, size = report.labelled, report.size_mib
    changes = [
        [
            one.name, str(one.rows), str(one.decisions), str(one.tags), f"{one.mean_shift:.4f}",
            f"{one.max_shift:.4f}",
        ]
        for one in report.texts
    ]  # fmt: skip
    head = ["rows", "decisions", "most probable tags", "mean shift", "largest shift"]
    scores = {"calibration error": _row(labelled.ece_adaptive, labelled.rows)}
    scores |= {f"F1 of {tag}": _row(one, one.rows) for tag, one in labelled.f1.items()}
    scores |= {f"accuracy: {name}": _row(one, one.rows) for name, one in labelled.slices.items()}
    blocks: list[Block] = [
        Text(GATES[report.gate]),
        *([Listing(report.broken)] if report.broken else []),
        Text(f"Size of model/: {size.before:.1f} MiB before, {size.after:.1f} after."),
        Table(["texts", *numeric(head)], changes, "What changed"),
        Text(
            "The decision was fitted again after compression: each model decides by its own rule. "
            "A shift is the share of probability that went to another tag."
        ),
        Table(
            ["score", *numeric(["rows", "before", "after", "difference"])],
            [[name, *cells] for name, cells in scores.items()],
            f"Scores on {labelled.explanation}",
        ),
    ]
    if report.worst:
        blocks.append(Heading("Rows that changed most (flipped.csv has all that flipped)"))
        blocks.append(Listing(report.worst))
    summary = [
        Text(f"{size.before:.1f} MiB before, {size.after:.1f} MiB after"),
        *(
            Text(
                f"{one.name}: {one.decisions} of {one.rows} decisions changed, mean shift of "
                f"probability {one.mean_shift:.4f}"
            )
            for one in report.texts
        ),
        *(Text(f"beyond its limit, {one}") for one in report.broken),
    ]
    return Page(title, blocks, summary)


def _row(one: BeforeAfter, rows: int) -> list[str]:
    difference = f"{one.after - one.before:+.4f}"
    return [str(rows), f"{one.before:.4f}", f"{one.after:.4f}", difference]
