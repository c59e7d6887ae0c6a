"""An audit as a table in the terminal, as `audit.json` and as a page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import tagger.reporting
from tagger.files import write_json, write_text

SHOWN_DOUBTS = 15
PAGE_ROWS = 200
WIDE = 10_000  # columns without a terminal: a title that is cut off can't be searched


def write_audit(audit: Mapping[str, Any], folder: Path) -> None:
    """Write `audit.json` and `audit.html`, which needs nothing beside it, into a folder."""
    folders = [Path(__file__).parent, Path(tagger.reporting.__file__).parent]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "place": _place}
    page = environment.get_template("audit.html.j2").render(audit=audit, shown=PAGE_ROWS)
    write_json(folder / "audit.json", audit)
    write_text(folder / "audit.html", page)


def print_audit(audit: Mapping[str, Any]) -> None:
    """Print what a reader should know first; `audit.html` has all of it."""
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    data = audit["data"]
    console.print(f"{data['path']}: {data['rows']:,} rows, version {data['version'][:12]}")
    for note in data["notes"]:
        console.print(f"note: {note}")
    _print_schema(console, audit["schema"])
    _print_tags(console, audit)
    _print_repeats(console, audit)
    _print_labels(console, audit)
    _print_coverage(console, audit["coverage"])
    _print_drift(console, audit["drift"])


def _print_schema(console: Console, schema: Mapping[str, Any]) -> None:
    if not schema["problems"]:
        console.print("Schema: every row can be used.")
        return
    console.print(f"Schema: {schema['problems']} problems; the rows concerned are left out.")
    for problem in schema["first"][:SHOWN_DOUBTS]:
        console.print(f"  - {problem}")


def _print_tags(console: Console, audit: Mapping[str, Any]) -> None:
    tags, sample = audit["tags"], audit["sample"]
    words = sample["words"]
    table = _table("\nTags", "tag", "rows", "share", "words (median)", "no description")
    total = audit["data"]["rows"]
    for tag, rows in tags["rows"].items():
        if rows:
            median = f"{words[tag]['title'][3]:.0f} + {_median(words[tag]['description'])}"
            none = f"{sample['no_description'][tag]}"
            table.add_row(tag, f"{rows:,}", _share(rows / total), median, none)
        else:
            table.add_row(tag, "0", "", "", "")
    if tags["untagged"]:
        table.add_row("(none)", f"{tags['untagged']:,}", _share(tags["untagged"] / total), "", "")
    console.print(table, soft_wrap=False)
    years = sample["years"]
    if years:
        counts = ", ".join(f"{year}: {sum(tags.values()):,}" for year, tags in years.items())
        console.print(f"Years: {counts}; {sample['undated']:,} rows without a date.")
    else:
        console.print("Years: no row has a date (column created_on).")
    for key, what in (("created_on", "date"), ("words", "length")):
        p_value = sample["p_values"][key]
        if p_value is not None and p_value < 0.01:
            console.print(f"The tags differ in {what} (Kruskal-Wallis p = {p_value:.1g}).")


def _print_repeats(console: Console, audit: Mapping[str, Any]) -> None:
    table = _table("\nRepeats", "same", "groups", "rows repeated", "conflicts", "across parts")
    for kind, counts in audit["repeats"]["kinds"].items():
        if kind == "meaning" and audit["model"] is None:
            table.add_row(kind, "not looked for: no embeddings", "", "", "")
            continue
        keys = ("groups", "repeated_rows", "conflicts", "across")
        table.add_row(kind, *(f"{counts[key]:,}" for key in keys))
    console.print(table, soft_wrap=False)


def _print_labels(console: Console, audit: Mapping[str, Any]) -> None:
    labels = audit["labels"]
    if labels is None:
        console.print("Labels: not checked; that takes two tags and ten different rows at least.")
        return
    doubts = [row for row in labels["rows"] if row["suspected"] or row["unlearned"]]
    console.print(
        f"Labels: {labels['suspected']} rows ({_share(labels['share'])}) are probably wrong; "
        f"{labels['unlearned']} that no model learns; models that did not see them agree with "
        f"{_share(labels['agreement'])}. {audit['decisions']} rows are settled by a person."
    )
    table = _table("", "rank", "row", "title", "tag", "models say", "opinions")
    for row in [row for row in doubts if row["settled"] is None][:SHOWN_DOUBTS]:
        opinions = ", ".join(
            f"{name} {tag} {probability:.2f}"
            for name, (tag, probability) in row["opinions"].items()
        )
        said = f"{row['suggested']} {row['probability']:.2f}"
        table.add_row(
            str(row["rank"]), f"{row['id']}, {row['place']}", row["title"][:80], row["tag"], said,
            opinions,
        )  # fmt: skip
    if table.row_count:
        console.print(table, soft_wrap=False)


def _print_coverage(console: Console, coverage: Mapping[str, Any]) -> None:
    thin = [
        f"{facet} {value!r} ({block['rows']})"
        for facet, values in coverage.items()
        for value, block in values.items()
        if block["thin"]
    ]
    console.print(
        "Coverage: "
        + (f"thin slices: {', '.join(thin[:SHOWN_DOUBTS])}" if thin else "no slice is thin")
        + (f" and {len(thin) - SHOWN_DOUBTS} more." if len(thin) > SHOWN_DOUBTS else ".")
    )


def _print_drift(console: Console, drift: Mapping[str, Any] | None) -> None:
    if drift is None:
        console.print("Drift: not measured; that takes 40 rows with different dates at least.")
        return
    first, last = drift["periods"][0], drift["periods"][-1]
    auc = "not measured" if drift["auc"] is None else f"{drift['auc']:.2f}"
    console.print(
        f"Drift from {first['from']}..{first['to']} to {last['from']}..{last['to']}: texts told "
        f"apart with AUC {auc}; rising {_words(drift['rise'])}; falling {_words(drift['fall'])}."
    )


def _words(ranked: list[dict[str, Any]]) -> str:
    return ", ".join(one["word"] for one in ranked[:8]) or "none"


def _median(quantiles: list[float]) -> str:
    return f"{quantiles[3]:.0f}" if quantiles else "0"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['id']}, {row['place']}"


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title or None,
        title_justify="left",
        padding=(0, 1, 0, 0),
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for column in columns:
        right = column in ("rows", "share", "groups", "rank", "no description", "rows repeated")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table
