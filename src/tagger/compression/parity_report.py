"""What the parity gate found, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from tagger.ladder.show import markdown_table

GATES = {
    "passed": "Every limit is kept.",
    "skipped": "The gate was skipped (--no-gate): limits were not enforced.",
}


def render_parity(title: str, parity: Mapping[str, Any], flips: Sequence[str]) -> str:
    """Render `parity.md`.

    Args:
        title: What was compressed, and how.
        parity: The content of `parity.json`.
        flips: Lines about the rows that changed most.
    """
    labelled, size = parity["labelled"], parity["size_mib"]
    lines = [f"# {title}", "", GATES[parity["gate"]]]
    lines += [f"- {one}" for one in parity["broken"]]
    lines += [
        "",
        f"Size of model/: {size['before']:.1f} MiB before, {size['after']:.1f} after.",
        "",
    ]
    lines += ["## What changed", ""]
    lines += markdown_table(
        ["texts", "rows", "decisions", "most probable tags", "mean shift", "largest shift"],
        [
            [
                one["name"], str(one["rows"]), str(one["decisions"]), str(one["tags"]),
                f"{one['mean_shift']:.4f}", f"{one['max_shift']:.4f}",
            ]
            for one in parity["texts"]
        ],
    )  # fmt: skip
    lines += [
        "",
        "The decision was fitted again after compression: each model decides by its own rule. A "
        "shift is the share of probability that went to another tag.",
        "",
        f"## What answers are worth, on {labelled['explanation']}",
        "",
    ]
    ece = labelled["ece_adaptive"]
    rows = [["calibration error", str(labelled["rows"]), *_before_after(ece)]]
    rows += [
        [f"F1 of {tag}", str(one["rows"]), *_before_after(one)]
        for tag, one in labelled["f1"].items()
    ]
    rows += [
        [f"accuracy: {name}", str(one["rows"]), *_before_after(one)]
        for name, one in labelled["slices"].items()
    ]
    lines += markdown_table(["", "rows", "before", "after", "difference"], rows)
    if flips:
        lines += ["", "## Rows that changed most (flipped.csv has all that flipped)", ""]
        lines += [f"- {one}" for one in flips]
    return "\n".join(lines) + "\n"


def _before_after(one: Mapping[str, float]) -> list[str]:
    before, after = one["before"], one["after"]
    return [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"]
