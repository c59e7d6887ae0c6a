"""Reads what runs, builds, sweeps and comparisons have recorded into tidy pandas frames.

For notebooks: one row an observation, one column a variable, intervals as `NAME_low` and
`NAME_high`. A run is given by its name or its folder; `folder` is where names are looked up,
relative to the repository wherever the notebook lies. All figures were computed by the command
that wrote the file: nothing is measured here again. What is missing or damaged is a
`tagger.errors.UserError`, which says the command that makes it.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cycler import cycler

from tagger.audit.report import AuditReport, SuspectedLabel
from tagger.benchmark.report import BenchmarkReport
from tagger.build.report import BuildReport
from tagger.compare.report import ApproachesReport
from tagger.config.overrides import script_command
from tagger.decision.decider import load_rule
from tagger.decision.policies import most_probable
from tagger.documents import Record
from tagger.errors import UserError, first_line
from tagger.evaluation.report import (
    EvaluationReport,
    MapPoint,
    RunComparison,
    Score,
    WeakSlice,
    WrongItem,
)
from tagger.evaluation.rows import own_items
from tagger.files import resolve_path
from tagger.leaderboard import load_standings, read_report
from tagger.monitoring.report import MonitorReport, Year
from tagger.reporting.figures import COLOURS
from tagger.runs import RunFolder, open_run, read_calibration, read_predictions, read_row_sources
from tagger.scores import FloatArray
from tagger.search.summary import SweepSummary
from tagger.training.tracking import read_metrics

RUNS = "runs"
SWEEPS = "sweeps"


def plot_style() -> dict[str, Any]:
    """Return matplotlib settings with which notebooks draw as reports do.

    Give them to `matplotlib.pyplot.rcParams.update`. The colours are told apart by people with the
    common kinds of colour blindness.
    """
    return {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "figure.constrained_layout.use": True,
        "figure.figsize": (7.0, 3.6),
    }


def runs(folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the finished runs that were evaluated on their own test rows, one row a run.

    Runs of the same `data` and `sha` were judged on items of the same file; only these can be
    compared. `frame.attrs["left_out"]` says which folders are not in it, and why.
    """
    standings, unfinished, damaged = load_standings(resolve_path(str(folder)))
    left_out = [*damaged, *(f"{run.path} is unfinished" for run in unfinished)]
    left_out += [f"{one.run.path} was not evaluated" for one in standings if one.report is None]
    rows = [_describe(one.run, one.report) for one in standings if one.report is not None]
    frame = pd.DataFrame(rows)
    frame.attrs["left_out"] = left_out
    return frame


def per_tag(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return precision, recall and F1 of each tag, one row a run and tag."""
    return _of_reports(
        names,
        folder,
        lambda report: [{"tag": tag} | _flat(one) for tag, one in report.per_class.items()],
    )


def per_slice(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return all scores of each named slice, one row a run and slice."""
    return _of_reports(
        names,
        folder,
        lambda report: [{"slice": name} | _flat(one) for name, one in report.slices.items()],
    )


def per_capability(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the pass rate of the behaviour cases, one row a run and capability."""
    return _of_reports(
        names,
        folder,
        lambda report: [
            {"capability": name} | _flat(one)
            for name, one in (report.behaviour.capabilities.items() if report.behaviour else ())
        ],
    )


def confusion(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return how often each tag was taken for each, one row a run, true and predicted tag."""
    return _of_reports(
        names,
        folder,
        lambda report: [
            {"true": true, "predicted": predicted, "rows": count}
            for true, counts in zip(report.tags, report.confusion, strict=True)
            for predicted, count in zip(report.tags, counts, strict=True)
        ],
    )


def risk_coverage(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the share of wrong tags among the surest rows of each coverage."""
    return _of_reports(
        names,
        folder,
        lambda report: [{"coverage": x, "risk": y} for x, y in report.decision.curve],
    )


def reliability(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return confidence and accuracy by bins of the predicted tag's corrected probability."""
    return _of_reports(
        names, folder, lambda report: [_flat(one) for one in report.calibration.bins]
    )


def weak_slices(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the parts of the rows with more errors than chance allows, p-values adjusted."""
    return _of_reports(
        names,
        folder,
        lambda report: [_flat(one) for one in report.weak_slices.slices],
        WeakSlice.model_fields,
    )


def errors(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return wrong predictions with their group, the most confident ones of each group first.

    `nearest` holds the training items nearest to each, as a list of (title, tag, cosine).
    """
    return _of_reports(
        names,
        folder,
        lambda report: [
            {"group": group.name}
            | wrong.model_dump(exclude={"nearest_items"})
            | {"nearest": [(n.title, n.tag, n.similarity) for n in wrong.nearest_items]}
            for group in report.errors.groups
            for wrong in group.errors
        ],
        ["group", *(name for name in WrongItem.model_fields if name != "nearest_items"), "nearest"],
    )


def error_map(name: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the rows of a report's map with their places, 0 to 1; empty where there is no map."""
    return _of_reports(
        [name],
        folder,
        lambda report: [_flat(one) for one in report.map or []],
        MapPoint.model_fields,
    )


def items(name: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the items of a run's source, and the part that each went into.

    Columns: `id`, `title`, `description`, `tag`, and `part`: `train`, `validation`, `test`, or
    empty for items that were left out.
    """
    return _items(open_run(str(name), str(folder)))


def predictions(name: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return a run's own test rows, with a column `p:TAG` of corrected probability for each tag.

    Also `id`, `title`, `description`, `true`, `predicted`, `confidence`, `right`. The texts come
    from the run's source, which has to be where the run found it.
    """
    run = open_run(str(name), str(folder))
    frame = _items(run).query("part == 'test'").drop(columns="part").rename(columns={"tag": "true"})
    raw = read_predictions(run.path / "predictions.csv", run.tags)
    rows = np.array([raw[one] for one in frame["id"]]).reshape(-1, len(run.tags))
    rule = load_rule(run.path, len(run.tags))
    return _judged(frame.reset_index(drop=True), run, rule.calibrator.apply(rows))


def calibration_rows(name: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the rows that a run's decision was fitted to, which the predicting model had not seen.

    Columns as of `predictions`, without texts, with the probabilities before their correction,
    and `source`, the file that a row comes from; "" where there is but one.
    """
    run = open_run(str(name), str(folder))
    path = run.path / "calibration.csv"
    probabilities, true, ood_scores = read_calibration(path, run.tags)
    frame = pd.DataFrame(
        {
            "true": [run.tags[one] for one in true],
            "source": read_row_sources(path, run.tags),
            "ood_score": ood_scores,
        }
    )
    return _judged(frame, run, probabilities)


def curves(*names: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the metrics of each training step and validation, one row a run and line."""
    lines = []
    for name in names:
        run = open_run(str(name), str(folder))
        lines += [{"run": run.name} | line for line in read_metrics(run.path / "metrics.jsonl")]
    return pd.DataFrame(lines)


def differences(name: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return paired differences to the run that `evaluate.py against=RUN` compared with."""
    comparison = _comparison(name, folder)
    return pd.DataFrame(
        [
            {"score": score, "against": comparison.against} | one.model_dump()
            for score, one in comparison.differences.items()
        ]
    )


def changed(name: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return the items that a run and the one that it was compared with tag differently.

    `change` is `fixed`, `broken` or `still wrong`.
    """
    comparison = _comparison(name, folder)
    kinds = {
        "fixed": comparison.fixed,
        "broken": comparison.broken,
        "still wrong": comparison.still_wrong,
    }
    return pd.DataFrame(
        [{"change": kind} | one.model_dump() for kind, items in kinds.items() for one in items],
        columns=["change", "id", "title", "true", "ours", "theirs"],
    )


def build_steps(name: str | Path, folder: str | Path = RUNS) -> pd.DataFrame:
    """Return what each step of `tagger build --name NAME` brought and cost; one was chosen."""
    path = resolve_path(str(folder)) / f"{name}.build" / "build.json"
    report = BuildReport.read(path)
    frame = pd.DataFrame([one.model_dump() for one in report.candidates])
    return frame.assign(chosen=frame["name"] == report.chosen)


def trials(sweep: str | Path, folder: str | Path = SWEEPS) -> pd.DataFrame:
    """Return the trials of a sweep that `optimize.py` made, one row a trial."""
    path = resolve_path(str(folder)) / sweep / "trials.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {first_line(error)}",
            hint=f"Make it: {script_command('optimize.py', name=sweep)}",
        ) from None


def importances(sweep: str | Path, folder: str | Path = SWEEPS) -> pd.DataFrame:
    """Return the share of the score's variation that each parameter explains, the largest first."""
    shares = _sweep(sweep, folder).importances
    return pd.DataFrame(shares.items(), columns=["parameter", "share"])


def confirmation(sweep: str | Path, folder: str | Path = SWEEPS) -> pd.DataFrame:
    """Return what became of the winner's lead on fresh seeds; no row where it was not confirmed.

    `winner_searched` and `default_searched` are scores as the search saw them, `..._confirmed`
    those on the fresh seeds; `gain` is the winner's lead there, with its interval.
    """
    found = _sweep(sweep, folder).confirmation
    if found is None:
        return pd.DataFrame(columns=["metric", "seeds", "gain"])
    row = found.model_dump(exclude={"searched", "confirmed", "low", "high"})
    row |= {"gain_low": found.low, "gain_high": found.high}
    row |= {f"{name}_searched": score for name, score in found.searched.items()}
    row |= {f"{name}_confirmed": score for name, score in found.confirmed.items()}
    return pd.DataFrame([row])


def suspected_labels(folder: str | Path) -> pd.DataFrame:
    """Return the labels that `tagger audit` lists, the least credible first.

    `settled` is who decided on a label that was looked at.
    """
    labels = AuditReport.read(resolve_path(str(folder)) / "audit.json").labels
    rows = [
        _flat(one) | {"settled": one.settled.by if one.settled else None}
        for one in (labels.rows if labels else ())
    ]
    frame = pd.DataFrame(rows, columns=list(SuspectedLabel.model_fields))
    return frame.astype({"suspected": bool, "unlearned": bool})  # where there are no rows, too


def audit_coverage(folder: str | Path) -> pd.DataFrame:
    """Return what `tagger audit` found of each part: its rows, in all and by tag, and agreement."""
    report = AuditReport.read(resolve_path(str(folder)) / "audit.json")
    rows = [
        {"by": by, "part": part, "rows": one.rows, "agreement": one.agreement, "thin": one.thin}
        | {f"tag:{tag}": count for tag, count in one.tags.items()}
        for by, parts in report.coverage.items()
        for part, one in parts.items()
    ]
    columns = None if rows else ["by", "part", "rows", "agreement", "thin"]
    return pd.DataFrame(rows, columns=columns)


def approaches(path: str | Path) -> pd.DataFrame:
    """Return the approaches of `tagger compare --out`'s JSON file, one row an approach."""
    report = ApproachesReport.read(Path(path))
    return pd.DataFrame(
        [
            {"approach": name, "seconds": one.seconds} | one.scores | one.costs.model_dump()
            for name, one in report.approaches.items()
        ]
    )


def _verdict(year: Year) -> list[Any]:
    return [year.year, year.drift, "; ".join(year.changed), year.estimate_valid]


def monitoring(folder: str | Path, *, by_year: bool = False) -> pd.DataFrame:
    """Return the time line of a stream that `tagger monitor --out` watched, one row a stretch.

    Shares are of its rows: `published`, `confidence` in the mean, and `tag:TAG`, the most probable
    one. `expected` and `measured` are the precision of what is published, without labels and by
    labels; NaN where nothing is, or nothing was labelled. `evidence:NAME` is that of each score
    after its last row, `evidence` that of all, `highest` the largest value of that. `frame.attrs`
    has what stands (`alarms`), and the evidence from which on an alarm is raised (`needed`).

    Args:
        folder: The folder of the watch.
        by_year: One row a calendar year, with its verdict (`drift`), what `changed`, and whether
            `expected` may be relied on (`estimate_valid`); none where rows have no dates.
    """
    report = MonitorReport.read(resolve_path(str(folder)) / "monitor.json")
    verdict = ["year", "drift", "changed", "estimate_valid"] if by_year else []
    rows = [
        [
            *(_verdict(one) if isinstance(one, Year) else []),
            one.first_row,
            one.first_date,
            one.rows,
            one.published / one.rows,
            one.confidence / one.rows,
            one.expected / one.published if one.published else np.nan,
            one.right / one.labelled if one.labelled else np.nan,
            *(count / one.rows for count in one.tags),
            *one.evidence,
            one.highest,
        ]
        for one in (report.years if by_year else report.timeline.stretches)
    ]
    sums = ["rows", "published", "confidence", "expected", "measured"]
    tags = [f"tag:{tag}" for tag in report.tags]
    scores = [f"evidence:{one.name}" for one in report.scores]
    columns = [*verdict, "first_row", "first_date", *sums, *tags, *scores, "evidence", "highest"]
    frame = pd.DataFrame(rows, columns=columns)
    frame.attrs = {"alarms": [one.told for one in report.standing], "needed": 1 / report.alpha}
    return frame


def timings(path: str | Path) -> pd.DataFrame:
    """Return times of single items and throughput of `tagger benchmark --out`'s JSON file.

    One row a run and number of threads; times are milliseconds, and `ratio` is how many times as
    long as the first run each takes. `frame.attrs["load_before"]` is the mean number of processes
    that wanted a core in the minute before.
    """
    report = BenchmarkReport.read(Path(path))
    frame = pd.DataFrame(
        [
            {"run": name, "threads": int(threads), "mib": costs.mib}
            | _flat(timing.batch_1)
            | {"items_per_second": timing.throughput.items_per_second}
            for name, costs in report.runs.items()
            for threads, timing in costs.threads.items()
        ]
    )
    frame.attrs["load_before"] = report.settings.load_before
    return frame


def timings_by_length(path: str | Path) -> pd.DataFrame:
    """Return times of single items by their number of words, one row a run, threads and length."""
    return pd.DataFrame(
        [
            {"run": name, "threads": int(threads), "words": int(words)} | _flat(times)
            for name, costs in BenchmarkReport.read(Path(path)).runs.items()
            for threads, timing in costs.threads.items()
            for words, times in timing.lengths.items()
        ]
    )


def cold_starts(path: str | Path) -> pd.DataFrame:
    """Return what a fresh process's first decision takes of time and memory, one row a run."""
    return pd.DataFrame(
        [
            {"run": name, "mib": costs.mib, "peak_memory_mib": costs.peak_memory_mib}
            | _flat(costs.cold_start)
            for name, costs in BenchmarkReport.read(Path(path)).runs.items()
        ]
    )


def _of_reports(
    names: Iterable[str | Path],
    folder: str | Path,
    rows_of: Callable[[EvaluationReport], list[dict[str, Any]]],
    columns: Iterable[str] = (),
) -> pd.DataFrame:
    """Gather rows of several reports; where there are none, the frame still has `columns`."""
    rows = []
    for name in names:
        run = open_run(str(name), str(folder))
        report = read_report(run, run.path / "report.json")
        rows += [{"run": run.name} | row for row in rows_of(report)]
    return pd.DataFrame(rows, columns=None if rows else ["run", *columns])


def _sweep(sweep: str | Path, folder: str | Path) -> SweepSummary:
    return SweepSummary.read(resolve_path(str(folder)) / sweep / "summary.json")


def _items(run: RunFolder) -> pd.DataFrame:
    parts = {(row.id, row.content_hash): row.split for row in run.split_rows()}
    columns = ["id", "title", "description", "tag", "part"]
    rows = [
        (one.id, one.title, one.description, one.tag, parts.get((one.id, one.content_hash), ""))
        for one in own_items(run)
    ]
    return pd.DataFrame(rows, columns=columns)


def _describe(run: RunFolder, report: EvaluationReport) -> dict[str, Any]:
    decision, latency = report.decision, report.latency
    return {
        "run": run.name,
        "model": report.run.model,
        "data": report.data.name,
        "sha": report.data.sha256[:8],
        "seed": report.run.seed,
        **_flat(report.overall),
        "coverage": decision.coverage,
        **_flat_score("published_precision", decision.precision),
        "aurc": decision.aurc,
        "ece": report.calibration.ece,
        "p50_ms": latency.p50_ms,
        "p99_ms": latency.p99_ms,
        "train_seconds": report.run.train_seconds,
        "parameters": report.run.parameters,
    }


def _flat(record: Record) -> dict[str, Any]:
    """Return a record's fields; a score becomes its value and the two ends of its interval."""
    flat: dict[str, Any] = {}
    for name in type(record).model_fields:
        value = getattr(record, name)
        flat |= _flat_score(name, value) if isinstance(value, Score) else {name: value}
    return flat


def _flat_score(name: str, score: Score | None) -> dict[str, float | None]:
    if score is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}


def _judged(frame: pd.DataFrame, run: RunFolder, probabilities: FloatArray) -> pd.DataFrame:
    """Add what was predicted, how surely, and whether it is right."""
    predicted = np.array(run.tags)[most_probable(probabilities)]
    columns = {f"p:{tag}": probabilities[:, at] for at, tag in enumerate(run.tags)}
    return frame.assign(
        predicted=predicted,
        confidence=probabilities.max(axis=1),
        right=predicted == frame["true"].to_numpy(),
        **columns,
    )


def _comparison(name: str | Path, folder: str | Path) -> RunComparison:
    run = open_run(str(name), str(folder))
    comparison = read_report(run, run.path / "report.json").comparison
    if comparison is None:
        raise UserError(
            f"{run.path}: its report compares it with no other run",
            hint=f"Make one that does: {script_command('evaluate.py', run=run.path)} against=RUN",
        )
    return comparison
