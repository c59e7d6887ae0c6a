"""Reports a sweep: figures, one page, and what the terminal shows of it."""

import math
import shutil

from tagger.config.overrides import script_command
from tagger.reporting.figures import write_figures
from tagger.reporting.html import write_html
from tagger.reporting.numbers import label, number, plural, share
from tagger.reporting.page import (
    Block,
    Column,
    Columns,
    Command,
    Figures,
    Heading,
    Number,
    Numbers,
    Page,
    Table,
    Text,
    numeric,
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
    numbers = [Number(f"Best {label(metric)}", f"{best.mean:.4f}", note)]
    if summary.default is not None and summary.default != summary.best:
        default = by_number[summary.default].scores[metric]
        note = f"± {default.error:.4f}, trial {summary.default}"
        numbers.append(Number("Default", f"{default.mean:.4f}", note))
    if summary.confirmation is not None:
        found = summary.confirmation
        gain, ends = f"{found.gain:+.4f}", f"[{found.low:+.4f}, {found.high:+.4f}]"
        numbers.append(Number("Confirmed gain", gain, ends))
        luck = f"{found.luck:+.4f}"
        numbers.append(Number("Luck in the best score", luck, "search minus fresh seeds"))
    numbers.append(Number("Trials", str(len(results.trials)), duration(summary.hours)))
    if summary.overhead is not None:
        numbers.append(Number("Overhead", share(summary.overhead), "of the trials' time"))
    return Numbers(numbers)


def _best(results: SweepResults) -> Table:
    summary = results.summary
    shown = {"best": summary.best, "default": summary.default}
    chosen = {
        name: trial.chosen
        for name, number in shown.items()
        for trial in results.trials
        if trial.number == number
    }
    rows = [
        [
            one.path,
            *(_value(values.get(one.path)) for values in chosen.values()),
            share(summary.importances.get(one.path)),
        ]
        for one in results.parameters
    ]
    caption = "What it chose, beside where the search started."
    columns: Columns = ["parameter", *chosen, *numeric(["variation explained"])]
    return Table(columns, rows, "The best trial", caption)


def _confirmation(results: SweepResults) -> Table | None:
    found = results.summary.confirmation
    if found is None:
        return None
    columns: Columns = ["", *numeric(["in the search", "on fresh seeds"])]
    rows = [
        [one, f"{found.searched[one]:.4f}", f"{found.confirmed[one]:.4f}"]
        for one in ("winner", "default")
    ]
    caption = (
        f"Winner and default on {found.seeds} fresh divisions of the rows, which had no part in "
        "the choice."
    )
    return Table(columns, rows, "Confirmation", caption)


def _front(results: SweepResults) -> Table | None:
    summary = results.summary
    if len(summary.front) < 2:
        return None
    metrics, paths = summary.objectives, [one.path for one in results.parameters]
    rows = [
        [
            str(trial.number),
            *(_value(trial.mean(metric)) for metric in metrics),
            *(_value(trial.chosen.get(path)) for path in paths),
        ]
        for trial in _ranked(results)
        if trial.number in summary.front
    ]
    columns: Columns = ["trial", *numeric(map(label, metrics)), *paths]
    return Table(columns, rows, "Pareto front", "Each as an experiment in front/.")


def _all_trials(results: SweepResults) -> list[Block]:
    metrics, paths = results.summary.objectives, [one.path for one in results.parameters]
    rows = [
        [
            str(trial.number), trial.state, trial.origin,
            *(_score(trial.scores.get(metric)) for metric in metrics),
            str(trial.folds), number(trial.model_seconds, 0),
            *(_value(trial.chosen.get(path)) for path in paths),
        ]
        for trial in _ranked(results)
    ]  # fmt: skip
    numbers = numeric([*map(label, metrics), "folds", "seconds"])
    columns: Columns = ["trial", "state", "from", *numbers, *paths]
    caption = (
        "The best first; then those that were stopped early, by the folds that they have seen."
    )
    table = Table(columns, rows, "All trials", caption)
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
