"""Reads all runs below a folder, and the reports of finished ones; compares the configs of two."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tagger.config.overrides import flatten, script_command
from tagger.config.saved import START_KEYS, read_yaml
from tagger.documents import Document, Record
from tagger.errors import UserError
from tagger.evaluation.report import EvaluationReport, Score
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


class LeaderboardRow(Record):
    """A finished run; the scores are null where it was not evaluated."""

    run: str
    data: str
    data_sha256: str
    model: str
    seed: int
    test_rows: int
    macro_f1: Score | None
    weighted_f1: Score | None
    accuracy: Score | None
    p50_ms: float | None
    train_seconds: float | None
    finished_on: str | None


class Leaderboard(Document):
    """The runs below a folder: finished ones, best first within their data, and the others."""

    WRITTEN_BY = "tagger leaderboard --json"

    runs: list[LeaderboardRow]
    unfinished: list[str]
    damaged: list[str]


def as_document(
    standings: Sequence[Standing], unfinished: Sequence[RunFolder], damaged: Sequence[str]
) -> Leaderboard:
    """Return what `load_standings` found as a document."""
    rows = []
    for one in standings:
        meta, report = one.run.meta, one.report
        overall = None if report is None else report.overall
        rows.append(
            LeaderboardRow(
                run=str(one.run.path),
                data=meta.data.name,
                data_sha256=meta.data.sha256,
                model=one.run.model_name,
                seed=meta.seed,
                test_rows=len(one.test_rows) if overall is None else overall.num_samples,
                macro_f1=None if overall is None else overall.macro_f1,
                weighted_f1=None if overall is None else overall.weighted_f1,
                accuracy=None if overall is None else overall.accuracy,
                p50_ms=None if report is None else report.latency.p50_ms,
                train_seconds=meta.train_seconds,
                finished_on=meta.finished_on,
            )
        )
    names = [str(run.path) for run in unfinished]
    return Leaderboard(runs=rows, unfinished=names, damaged=list(damaged))


def saved_settings(run: RunFolder) -> dict[str, object]:
    """Return what a run's config says of the run itself, by dotted key.

    Raises:
        UserError: when the config cannot be read.
    """
    values = read_yaml(run.path / "config.yaml")
    return flatten({key: one for key, one in values.items() if key not in START_KEYS})


def load_standings(
    folder: Path, where: Mapping[str, str] | None = None
) -> tuple[list[Standing], list[RunFolder], list[str]]:
    """Read all run folders below a folder.

    Args:
        folder: The folder.
        where: What the values of some keys of their configs have to be like, by dotted key;
            `*` stands for any letters.

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
            if where and not _fits(saved_settings(run), where):
                continue
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


def _fits(settings: Mapping[str, object], where: Mapping[str, str]) -> bool:
    """Whether a config has these values, in yaml's spelling: `null`, `true`, `0.1`."""

    def spelt(value: object) -> str:
        return value if isinstance(value, str) else json.dumps(value)

    return all(
        key in settings and fnmatchcase(spelt(settings[key]), pattern)
        for key, pattern in where.items()
    )


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
