"""Lists the runs: finished ones by score, then unfinished ones, then damaged ones."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tagger.config.overrides import script_command
from tagger.errors import UserError
from tagger.files import resolve_path
from tagger.runs import RunFolder, resume_command

ABSENT = "-"
WIDE = 10_000  # columns without a terminal: a name that is cut off can't be copied or searched


@dataclass(frozen=True)
class Standing:
    """A finished run and what its report says of it.

    Attributes:
        run: The run.
        test_rows: Content hashes of its own test rows.
        report: The content of its `report.json`; None when it was not evaluated.
    """

    run: RunFolder
    test_rows: frozenset[str]
    report: dict[str, Any] | None

    @property
    def data(self) -> str:
        """Name and short hash of the items: only runs on the same ones are ranked together."""
        data = self.run.meta["data"]
        return f"{data['name']} {data['sha256'][:8]}"

    @property
    def macro_f1(self) -> float:
        """The score that ranks; below all others when the run was not evaluated."""
        return -1.0 if self.report is None else float(self.report["overall"]["macro_f1"]["value"])


def print_leaderboard(runs_dir: str) -> None:
    """Print all runs below a folder, as a table that also reads well in a file.

    Raises:
        UserError: when there is no such folder.
    """
    folder = resolve_path(runs_dir)
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {runs_dir}",
            hint="Give the one that holds the runs: --runs-dir PATH",
        )
    standings, unfinished, damaged = load_standings(folder)
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    if not (standings or unfinished or damaged):
        console.print(f"No runs in {folder} yet; python train.py makes one.")
    if standings:
        console.print(build_table(standings), soft_wrap=False)
    for note in notes(standings):
        console.print(note)
    if unfinished:
        console.print("Unfinished, still in training or stopped:")
        for run in unfinished:
            console.print(f"  {run.name}: go on with {resume_command(run.path)}")
    if damaged:
        console.print("Damaged:")
        for problem in damaged:
            console.print("  " + problem.replace("\n", "\n  "))


def load_standings(folder: Path) -> tuple[list[Standing], list[RunFolder], list[str]]:
    """Read all run folders below a folder.

    Returns:
        The finished runs, in the order of their ranks within their data; the unfinished ones; and
        what is wrong with the others.
    """
    standings: list[Standing] = []
    unfinished: list[RunFolder] = []
    damaged: list[str] = []
    # Hidden ones are being made, or wait for what replaces them.
    for meta in sorted(folder.glob("[!.]*/meta.json")):
        try:
            run = RunFolder(meta.parent)
            if run.finished:
                test = (row.content_hash for row in run.split_rows() if row.split == "test")
                standings.append(Standing(run, frozenset(test), _read_report(run)))
            else:
                unfinished.append(run)
        except UserError as error:
            damaged.append(str(error))
    standings.sort(key=lambda one: (one.data, -one.macro_f1, one.run.name))
    return standings, unfinished, damaged


def build_table(standings: list[Standing]) -> Table:
    """Lay out finished runs, a section for each data."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("run", "data", "model"):
        table.add_column(title, overflow="fold")
    scores = ("macro F1\nand 95%", "weighted\nF1", "accuracy")
    for title in ("seed", "test\nrows", *scores, "p50\nms", "train\ns"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True)
    before = standings[0].data
    for one in standings:
        if one.data != before:
            table.add_section()
        before = one.data
        table.add_row(*_cells(one))
    return table


def notes(standings: list[Standing]) -> list[str]:
    """Say what a reader of the table should know before comparing two of its rows."""
    sentences = []
    test_rows: dict[str, set[frozenset[str]]] = defaultdict(set)
    for one in standings:
        if one.report is not None:
            test_rows[one.data].add(one.test_rows)
    for data, kinds in test_rows.items():
        if len(kinds) > 1:
            sentences.append(
                f"{data}: these runs were tested on different rows (their data.split differs), so "
                "a part of the difference between their scores is chance."
            )
    if len({one.data for one in standings}) > 1:
        sentences.append("Runs on different data are listed apart: their scores don't compare.")
    missing = [one for one in standings if one.report is None]
    if missing:
        command = script_command("evaluate.py", run=missing[0].run.path)
        sentences.append(f"{ABSENT}: not evaluated; {command}")
    return sentences


def _cells(one: Standing) -> list[str]:
    meta, report = one.run.meta, one.report
    scores = [ABSENT] * 4
    rows = meta["data"]["rows"].get("test", 0)
    if report is not None:
        overall = report["overall"]
        rows = overall["num_samples"]
        macro = overall["macro_f1"]
        scores = [
            f"{macro['value']:.3f} {_end(macro['low'])}-{_end(macro['high'])}",
            f"{overall['weighted_f1']['value']:.3f}",
            f"{overall['accuracy']['value']:.3f}",
            f"{report['latency']['p50_ms']:.1f}",
        ]
    seconds = meta.get("train_seconds")
    trained = f"{seconds:.0f}" if isinstance(seconds, int | float) else ABSENT
    when = str(meta.get("finished_on", ABSENT))[:10]
    named = [one.run.name, one.data, one.run.model_name]
    return [*named, str(meta["seed"]), str(rows), *scores, trained, when]


def _end(value: float) -> str:
    """Write an end of an interval short: .20, 1.0."""
    return f"{value:.2f}"[1:] if value < 0.995 else f"{value:.1f}"


def _read_report(run: RunFolder) -> dict[str, Any] | None:
    """Read a run's report on its own test rows.

    Raises:
        UserError: when it is there and lacks what the table shows.
    """
    path = run.path / "report.json"
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        overall = report["overall"]
        numbers = [report["latency"]["p50_ms"], overall["num_samples"]]
        numbers += [overall["macro_f1"][end] for end in ("value", "low", "high")]
        numbers += [overall[score]["value"] for score in ("weighted_f1", "accuracy")]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        numbers = [None]
    if not all(isinstance(number, int | float) for number in numbers):
        raise UserError(
            f"{path} is damaged",
            hint=f"Make it again: {script_command('evaluate.py', run=run.path)}",
        )
    return report
