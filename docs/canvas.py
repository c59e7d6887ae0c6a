"""Draws the ML canvas, docs/images/ml-canvas.svg, out of what it says below (`make docs`)."""

import textwrap
from html import escape

from tagger.files import REPO_ROOT, write_text

PICTURE = REPO_ROOT / "docs" / "images" / "ml-canvas.svg"

WIDTH, MARGIN, GAP, LINE = 960, 14, 12, 19
LETTERS = {1: 39, 3: 130}
"""Letters that fit a line, by the columns that a box takes."""

Box = tuple[str, str, tuple[str, ...]]
BOXES: tuple[Box, ...] = (
    ("Value", "#1f7a4d", (
        "A tag that is right saves an editor's minute; a wrong one hides the item and costs trust.",
        "Precision leads: publish a tag where it is nearly certain, and ask a person elsewhere.",
    )),
    ("Users", "#2f5f9e", (
        "Researchers: cheap, repeatable, honestly compared experiments",
        "The platform: a command, a service, Python",
        "Editors: settle what is doubtful",
        "Readers: only see what is nearly certain",
    )),
    ("Data", "#2f5f9e", (
        "5,000 items written for it; Made With ML's 764; any table, any hub dataset",
        "Validated at each load; near-duplicates in one part; a split that leaks is refused",
        "tagger audit",
    )),
    ("Labels", "#2f5f9e", (
        "One tag an item, of an approved list",
        "The subject decides; what fits nowhere is other",
        "A guide; every item labelled twice, the second time blind",
    )),
    ("Features", "#2f5f9e", (
        "Title and description as one text, 128 tokens",
        "No metadata: neither date nor id",
    )),
    ("Approaches", "#2f5f9e", (
        "Rules, words, frozen and fine-tuned encoders, ensembles, students in 8 bits",
        "Each has to beat the plainer ones on the same folds",
    )),
    ("Decisions", "#2f5f9e", (
        "A tag, or needs review, which is no tag",
        "A promised precision, with confidence",
        "Unlike content goes to a person",
    )),
    ("Evaluation, offline", "#6b3fa0", (
        "Folds, seeds; intervals beside every score; slices; behaviour; weak parts, searched for",
        "Paired comparison; gates",
        "A holdout that is never read",
    )),
    ("Evaluation, online", "#6b3fa0", (
        "A blind random sample of all items, each with its probability",
        "Readers are asked, and may report",
        "Share published, share reviewed",
    )),
    ("Feedback", "#6b3fa0", (
        "People's labels, with who and when, are audited and trained on: tagger data pull",
        "Reports reorder the queue; they never publish",
    )),
    ("Monitoring", "#a86400", (
        "Drift of text, tags and confidence: one bound on false alarms, ever",
        "The promise, tested after each label",
    )),
    ("Constraints", "#a86400", (
        "A CPU serves, in milliseconds; no GPU, no account, no hub needed",
        "Safetensors and ONNX; nothing is unpickled, no code is fetched",
    )),
    ("Risks", "#a86400", (
        "Few and noisy labels: intervals, audit",
        "Content from elsewhere: distance, drift",
        "Luck of one test set: fresh seeds",
    )),
)  # fmt: skip
"""Title, colour and points of each box: the first takes a row, the others a third of one."""


def canvas() -> str:
    """Return the picture."""
    first, *others = [_lines(points, 3 if not at else 1) for at, (*_, points) in enumerate(BOXES)]
    rows = [[first], *(others[at : at + 3] for at in range(0, len(others), 3))]
    third = (WIDTH - 2 * MARGIN - 2 * GAP) / 3
    shapes, top, number = [], MARGIN, 0
    for row in rows:
        height = 44 + LINE * max(map(len, row))
        for column, lines in enumerate(row):
            left = MARGIN + column * (third + GAP)
            width = WIDTH - 2 * MARGIN if len(row) == 1 else third
            shapes.append(_frame(left, top, width, height, BOXES[number][1]))
            shapes += _texts(left + 14, top + 27, BOXES[number], lines)
            number += 1
        top += height + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 2}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14.5" role="img" '
        'aria-labelledby="title">\n<title id="title">ML canvas</title>\n'
        f'<rect width="{WIDTH}" height="{top + 2}" rx="10" fill="#ffffff"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def main() -> None:
    """Write the picture."""
    write_text(PICTURE, canvas())


def _lines(points: tuple[str, ...], columns: int) -> list[str]:
    """Return the points broken into lines; the first of each begins with a bullet."""
    lines = []
    for point in points:
        head, *rest = textwrap.wrap(point, LETTERS[columns])
        lines += [f"• {head}", *(f"\u2003{line}" for line in rest)]
    return lines


def _frame(left: float, top: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" rx="8" '
        f'fill="#fbfcfe" stroke="{colour}" stroke-width="2"/>'
    )


def _texts(left: float, top: float, box: Box, lines: list[str]) -> list[str]:
    title, colour, _ = box
    bold = f'font-size="17" font-weight="bold" fill="{colour}"'
    texts = [f'<text x="{left:.0f}" y="{top:.0f}" {bold}>{escape(title)}</text>']
    for at, line in enumerate(lines):
        place = f'x="{left:.0f}" y="{top + 23 + LINE * at:.0f}"'
        texts.append(f'<text {place} fill="#1b2a3d">{escape(line, quote=False)}</text>')
    return texts


if __name__ == "__main__":
    main()
