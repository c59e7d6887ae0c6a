"""Reads all runs below a folder, and the reports of finished ones."""

from dataclasses import dataclass
from pathlib import Path

from tagger.config.overrides import script_command
from tagger.errors import UserError
from tagger.evaluation.report import EvaluationReport
from tagger.runs import RunFolder


@dataclass(frozen=True)
class Standing:
    """A finished run and its report.

    Attributes:
        run: The run.
        test_rows: Content hashes of its own test rows.
        report: On these rows; None when it was not evaluated.
    """

    run: RunFolder
    test_rows: frozenset[str]
    report: EvaluationReport | None

    @property
    def data(self) -> str:
        """Name and short hash of the items: only runs on the same ones are ranked together."""
        data = self.run.meta.data
        return f"{data.name} {data.sha256[:8]}"

    @property
    def macro_f1(self) -> float:
        """The score that ranks; below all others when the run was not evaluated."""
        return -1.0 if self.report is None else self.report.overall.macro_f1.value


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
                path = run.path / "report.json"
                report = read_report(run, path) if path.exists() else None
                standings.append(Standing(run, frozenset(test), report))
            else:
                unfinished.append(run)
        except UserError as error:
            damaged.append(str(error))
    standings.sort(key=lambda one: (one.data, -one.macro_f1, one.run.name))
    return standings, unfinished, damaged


def read_report(run: RunFolder, path: Path) -> EvaluationReport:
    """Read a report of a run.

    Raises:
        UserError: naming the command that writes it again, where it cannot be read.
    """
    try:
        return EvaluationReport.read(path)
    except UserError as error:
        command = script_command("evaluate.py", run=run.path)
        raise UserError(error.summary, hint=f"Make it again: {command}") from None
