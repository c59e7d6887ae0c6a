"""Reports a sweep: figures, one page, and what the terminal shows of it."""

import math
import shutil

from tagger.config.overrides import script_command
from tagger.reporting.figures import write_figures
from tagger.reporting.html import write_html
from tagger.reporting.numbers import plural
from tagger.reporting.page import (
    Block,
    Column,
    Command,
    Figures,
    Heading,
    Number,
    Numbers,
    Page,
    Table,
    Text,
)
from tagger.reporting.sweep_figures import sweep_figures
from tagger.reporting.terminal import print_page
from tagger.search.metrics import as_loss
from tagger.search.results import COMPLETE, SweepResults, duration
from tagger.search.summary import Score, TrialResult


def report_sweep(results: SweepResults) -> None:
    """Write `plots/` and `report.html` into the folder of a sweep, and print what it found."""
    plots = results.folder / "plots"
    shutil.rmtree(plots, ignore_errors=True)
    plots.mkdir()
    page = sweep_page(results, write_figures(sweep_figures(results), plots))
    write_html(page, results.folder / "report.html")
    print_page(page)


def sweep_page(results: SweepResults, figures: Figures) -> Page:
    """Build the page of a sweep."""
    summary = results.summary
    command = script_command("train.py", experiment=results.folder / "best.yaml")
    blocks: list[Block | None] = [
        Text(summary.paragraph),
        _numbers(results),
        Command("Take it as it is", command),
        _best(results),
        _confirmation(results),
        _front(results),
        Heading("Plots"),
        figures,
        *_all_trials(results),
        _provenance(results),
    ]
    return Page(
        f"Sweep {summary.sweep}",
        [block for block in blocks if block is not None],
        [
            Text(summary.paragraph),
            Text(str(results.folder / "report.html")),
            Command("next", command),
        ],
    )


def _numbers(results: SweepResults) -> Numbers:
    summary = results.summary
    metric = summary.objectives[0]
    by_number = {trial.number: trial for trial in results.trials}
    best = by_number[summary.best].scores[metric]
    note = f"± {best.error:.4f}, trial {summary.best}"
    numbers = [Number(f"Best {_name(metric)}", f"{best.mean:.4f}", note)]
    if summary.default is not None and summary.default != summary.best:
        default = by_number[summary.default].scores[metric]
        note = f"± {default.error:.4f}, trial {summary.default}"
        numbers.append(Number("Default", f"{default.mean:.4f}", note))
    if summary.confirmation is not None:
        found = summary.confirmation
        numbers += [
            Number(
                "Confirmed gain", f"{found.gain:+.4f}", f"[{found.low:+.4f}, {found.high:+.4f}]"
            ),
            Number("Luck in the best score", f"{found.luck:+.4f}", "search minus fresh seeds"),
        ]
    numbers.append(Number("Trials", str(len(results.trials)), duration(summary.hours)))
    if summary.overhead is not None:
        share = f"{100 * summary.overhead:.1f} %"
        numbers.append(Number("Overhead", share, "of the trials' time"))
    return Numbers(numbers)


def _best(results: SweepResults) -> Table:
    summary = results.summary
    shown = {"best": summary.best} | (
        {} if summary.default is None else {"default": summary.default}
    )
    chosen = {trial.number: trial.chosen for trial in results.trials}
    rows = []
    for one in results.parameters:
        share = summary.importances.get(one.path)
        rows.append(
            [
                one.path,
                *(_value(chosen[number].get(one.path)) for number in shown.values()),
                "-" if share is None else f"{100 * share:.0f} %",
            ]
        )
    return Table(
        ["parameter", *shown, Column("variation explained", "number")],
        rows,
        "The best trial",
        "What it chose, beside where the search started.",
    )


def _confirmation(results: SweepResults) -> Table | None:
    found = results.summary.confirmation
    if found is None:
        return None
    return Table(
        ["", Column("in the search", "number"), Column("on fresh seeds", "number")],
        [
            [one, f"{found.searched[one]:.4f}", f"{found.confirmed[one]:.4f}"]
            for one in ("winner", "default")
        ],
        "Confirmation",
        f"Winner and default on {found.seeds} fresh divisions of the rows, which had no part in "
        "the choice.",
    )


def _front(results: SweepResults) -> Table | None:
    summary = results.summary
    if len(summary.front) < 2:
        return None
    metrics = [Column(_name(metric), "number") for metric in summary.objectives]
    return Table(
        ["trial", *metrics, *(one.path for one in results.parameters)],
        [
            [
                str(trial.number),
                *(_value(trial.mean(metric)) for metric in summary.objectives),
                *(_value(trial.chosen.get(one.path)) for one in results.parameters),
            ]
            for trial in _ranked(results)
            if trial.number in summary.front
        ],
        "Pareto front",
        "Each as an experiment in front/.",
    )


def _all_trials(results: SweepResults) -> list[Block]:
    metrics = results.summary.objectives
    table = Table(
        [
            "trial", "state", "from", *(Column(_name(metric), "number") for metric in metrics),
            Column("folds", "number"), Column("seconds", "number"),
            *(one.path for one in results.parameters),
        ],
        [
            [
                str(trial.number), trial.state, trial.origin,
                *(_score(trial.scores.get(metric)) for metric in metrics),
                str(trial.folds), f"{trial.model_seconds:.0f}",
                *(_value(trial.chosen.get(one.path)) for one in results.parameters),
            ]
            for trial in _ranked(results)
        ],
        "All trials",
        "The best first; then those that were stopped early, by the folds that they have seen.",
    )  # fmt: skip
    failed = [trial for trial in results.trials if trial.error is not None]
    return [table, *(Text(f"trial {one.number} failed: {one.error}", "soft") for one in failed)]


def _ranked(results: SweepResults) -> list[TrialResult]:
    metric = results.summary.objectives[0]

    def key(trial: TrialResult) -> tuple[bool, float]:
        unknown = metric not in trial.scores
        return trial.state != COMPLETE, math.inf if unknown else as_loss(metric, trial.mean(metric))

    return sorted(results.trials, key=key)


def _provenance(results: SweepResults) -> Table:
    config, environment = results.config, results.summary.environment
    search = config.search
    rows = [
        ["folds", f"{search.folds}, divided {plural(search.repeats, 'time')}; seed {config.seed}"],
        ["sampler, pruner", f"{search.sampler}, {search.pruner}"],
        ["data", config.data.name],
    ]
    if environment.git is not None:
        changed = ", with changed files" if environment.git.changed_files else ""
        rows.append(["revision", environment.git.revision[:12] + changed])
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    rows += [
        ["processor", f"{environment.hardware.cpu}, {environment.hardware.cores} cores"],
        ["versions", versions],
    ]
    return Table(["", Column("", "prose")], rows, "Provenance")


def _score(score: Score | None) -> str:
    if score is None:
        return "-"
    return f"{score.mean:.4f}" + (f" ± {score.error:.4f}" if score.error else "")


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _name(metric: str) -> str:
    return metric.replace("_", " ")
