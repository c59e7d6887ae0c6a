"""Gathers the results of a sweep: a record for each trial, importances, and the summary."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
from filelock import FileLock
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from tagger.config.overrides import script_command
from tagger.config.schema import OptimizeConfig
from tagger.environment import describe_environment
from tagger.files import remove_lock, replacing, write_text
from tagger.search.confirm import find_default
from tagger.search.fold_results import folds_of, mean_score, stored_folds
from tagger.search.metrics import as_loss, direction_of, is_better
from tagger.search.racing import find_winner
from tagger.search.recipe import write_experiment
from tagger.search.space import Parameter, SearchSpace
from tagger.search.study import ERROR, FINISHED, ORIGIN, WORKER, begun, hours_spent
from tagger.search.summary import Confirmation, SweepSummary, TrialResult

COMPLETE, STOPPED, FAILED = "complete", "stopped early", "failed"
STATES = {
    TrialState.COMPLETE: COMPLETE,
    TrialState.PRUNED: STOPPED,
    TrialState.FAIL: FAILED,
    TrialState.RUNNING: "running",
}
FEWEST_TRIALS = 4
"""Below this many, nothing is said of what mattered."""

TOP_SHARE = 0.25
"""The share of trials whose values are called good."""

MATTERS = 0.1
"""The share of variation from which on a parameter is worth a mention."""


@dataclass(frozen=True)
class SweepResults:
    """All that is reported of a sweep.

    Attributes:
        folder: Of the sweep.
        config: Of the sweep.
        parameters: What it changed.
        summary: Its outcome.
        trials: Those that have begun, in that order.
    """

    folder: Path
    config: OptimizeConfig
    parameters: Sequence[Parameter]
    summary: SweepSummary
    trials: Sequence[TrialResult]


def write_results(
    folder: Path,
    config: OptimizeConfig,
    space: SearchSpace,
    study: Study,
    confirmation: Confirmation | None,
    *,
    report: Callable[[SweepResults], None],
) -> None:
    """Write the files of a sweep from what it has found so far, and let it be reported.

    Args:
        folder: Of the sweep.
        config: Of the sweep.
        space: What it changes.
        study: With at least one complete trial.
        confirmation: What became of the winner's lead; None where that is not known.
        report: Is given the results once the files are written.
    """
    results = summarize(folder, config, space, study, confirmation)
    folder.mkdir(parents=True, exist_ok=True)
    # Two commands that share a sweep come to its end together, and each removes old files.
    with FileLock(folder / ".report.lock") as lock:
        write_table(folder / "trials.parquet", results)
        results.summary.write(folder / "summary.json")
        _write_recipes(results, space, study)
        report(results)
        remove_lock(lock)


def summarize(
    folder: Path,
    config: OptimizeConfig,
    space: SearchSpace,
    study: Study,
    confirmation: Confirmation | None,
) -> SweepResults:
    """Gather the results of a study with at least one complete trial."""
    metrics = config.search.objectives
    winner, default = find_winner(study), find_default(study)
    assert winner is not None
    trials = tabulate(study, space, metrics)
    states = [trial.state for trial in trials]
    summary = SweepSummary(
        sweep=folder.name,
        space=config.search.name,
        objectives=list(metrics),
        best=winner.number,
        default=None if default is None else default.number,
        front=[trial.number for trial in study.best_trials] if len(metrics) > 1 else [],
        states={state: states.count(state) for state in dict.fromkeys(states)},
        hours=hours_spent(study.get_trials(deepcopy=False)),
        overhead=overhead(trials),
        importances=importances(study, winner, metrics[0], config.seed),
        confirmation=confirmation,
        chosen=space.decode(winner.params),
        environment=describe_environment(),
        paragraph="",
    )
    told = summary.model_copy(update={"paragraph": tell(summary, trials, space.parameters)})
    return SweepResults(folder, config, space.parameters, told, trials)


def tabulate(study: Study, space: SearchSpace, metrics: Sequence[str]) -> list[TrialResult]:
    """Return a record for each trial that has begun."""
    results = []
    for trial in begun(study.get_trials(deepcopy=False)):
        folds = folds_of(trial.user_attrs)
        scores = {metric: mean_score(trial.user_attrs, metric) for metric in metrics}
        began = trial.datetime_start
        results.append(
            TrialResult(
                number=trial.number,
                state=STATES[trial.state],
                origin=trial.user_attrs.get(ORIGIN, "sampler"),
                scores={metric: score for metric, score in scores.items() if score is not None},
                folds=len(folds),
                model_seconds=sum(
                    fold.seconds + fold.predicting
                    for fold in folds
                    if began is not None and fold.done >= began
                ),
                wall_seconds=None if trial.duration is None else trial.duration.total_seconds(),
                chosen=space.decode(trial.params),
                worker=trial.user_attrs.get(WORKER),
                error=trial.user_attrs.get(ERROR),
            )
        )
    return results


def write_table(path: Path, results: SweepResults) -> None:
    """Write the trials as Parquet; what is chosen, and not from a range, stands there as JSON."""
    rows = []
    for trial in results.trials:
        row = trial.model_dump(include={"number", "state", "origin"})
        for metric in results.summary.objectives:
            score = trial.scores.get(metric)
            row[metric] = None if score is None else score.mean
            row[f"{metric}_error"] = None if score is None else score.error
        row |= trial.model_dump(include={"folds", "model_seconds", "wall_seconds"})
        for one in results.parameters:
            value = trial.chosen.get(one.path)
            row[one.path] = json.dumps(value) if one.choices and value is not None else value
        rows.append(row | {WORKER: trial.worker, ERROR: trial.error})
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)


def overhead(trials: Sequence[TrialResult]) -> float | None:
    """Return the share of the trials' time that was spent on neither training nor prediction."""
    ended = [trial for trial in trials if trial.wall_seconds and trial.state != FAILED]
    wall = sum(trial.wall_seconds or 0.0 for trial in ended)
    return 1 - sum(trial.model_seconds for trial in ended) / wall if wall else None


def estimate(trial: FrozenTrial, best: FrozenTrial, metric: str) -> float | None:
    """Estimate what a trial would have scored on all folds; None for one without a fold.

    That is the best trial's score, and the mean gap to it on the folds that both have seen.
    """
    mine, its = (
        pd.Series(
            {key: fold["scores"].get(metric) for key, fold in stored_folds(one.user_attrs).items()},
            dtype=float,
        )
        for one in (trial, best)
    )
    gap = (mine - its).mean()  # nan without a fold of both
    return None if math.isnan(gap) else float(its.mean() + gap)


def importances(study: Study, best: FrozenTrial, metric: str, seed: int) -> dict[str, float]:
    """Return the share of the score's variation that each parameter explains, the largest first.

    Functional ANOVA over a forest (Hutter, Hoos and Leyton-Brown, ICML 2014), which sees the
    parameters that all trials have; trials that were stopped early count with their estimate.
    Empty where there are too few trials, or all scored the same.
    """
    copy = optuna.create_study(direction=direction_of(metric))
    values = []
    for trial in study.get_trials(deepcopy=False, states=FINISHED):
        value = estimate(trial, best, metric)
        if value is not None:
            values.append(value)
            copy.add_trial(
                create_trial(params=trial.params, distributions=trial.distributions, value=value)
            )
    if len(values) < FEWEST_TRIALS or len(set(values)) == 1:
        return {}
    shares = get_param_importances(copy, evaluator=FanovaImportanceEvaluator(seed=seed))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def tell(
    summary: SweepSummary, trials: Sequence[TrialResult], parameters: Sequence[Parameter]
) -> str:
    """Say in one plain paragraph what was found, what mattered, and how much of it is luck."""
    metric = summary.objectives[0]
    name = metric.replace("_", " ")
    by_number = {trial.number: trial for trial in trials}
    best = by_number[summary.best]

    def score(trial: TrialResult) -> str:
        return f"{trial.scores[metric].mean:.4f} ± {trial.scores[metric].error:.4f}"

    stopped, failed = (summary.states.get(state, 0) for state in (STOPPED, FAILED))
    sentences = [
        f"Of {_count(len(trials), 'trial')} in {duration(summary.hours)} "
        f"{summary.states.get(COMPLETE, 0)} were judged on all folds"
        + (f", {stopped} were stopped early" if stopped else "")
        + (f", {failed} failed" if failed else "")
        + ".",
        f"The best is trial {best.number}, with {name} {score(best)} over {best.folds} folds",
    ]
    default = None if summary.default is None else by_number.get(summary.default)
    if default is None:
        sentences[-1] += "; the default config was not judged."
    elif default is best:
        sentences[-1] += ": the default config, which no trial surpassed."
    else:
        sentences[-1] += f"; the default config has {score(default)}."
    if len(summary.front) > 1:
        sentences.append(
            f"{len(summary.front)} trials are on the Pareto front of "
            f"{', '.join(one.replace('_', ' ') for one in summary.objectives)}: for each of "
            "them, nothing is better in one without being worse in another."
        )
    sentences.append(_what_mattered(summary, trials, parameters))
    if summary.confirmation is not None:
        sentences.append(_what_held(summary.confirmation, name))
    elif default is not None and default is not best:
        sentences.append("The winner was not confirmed on fresh seeds, so part of this is luck.")
    return " ".join(sentences)


def _what_mattered(
    summary: SweepSummary, trials: Sequence[TrialResult], parameters: Sequence[Parameter]
) -> str:
    if not summary.importances:
        return "There are too few trials, or too little between them, to say what mattered."
    metric = summary.objectives[0]
    complete = [trial for trial in trials if trial.state == COMPLETE]
    complete.sort(key=lambda trial: as_loss(metric, trial.mean(metric)))
    top = complete[: max(3, round(TOP_SHARE * len(complete)))]
    by_path = {one.path: one for one in parameters}
    parts: list[str] = []
    for path, share in summary.importances.items():
        if share < MATTERS and parts:
            break
        choices = by_path[path].choices
        values: list[object] = [trial.chosen[path] for trial in top if path in trial.chosen]
        where = ""
        if values and choices:
            where = f", mostly {max(choices, key=values.count)} in the best {len(top)} trials"
        elif values:
            low, high = min(values), max(values)  # type: ignore[type-var]  # numbers of a range
            where = f", from {low:.3g} to {high:.3g} in the best {len(top)} trials"
        parts.append(f"{path} ({share:.0%} of the variation{where})")
    return f"What mattered most: {'; '.join(parts)}."


def _what_held(confirmation: Confirmation, name: str) -> str:
    searched, confirmed = confirmation.searched, confirmation.confirmed
    low, high, gain = confirmation.low, confirmation.high, confirmation.gain
    promised = searched["winner"] - searched["default"]
    is_less = is_better(confirmation.metric, promised, gain)
    kept = f"of which {promised - gain:+.4f} was luck" if is_less else "which held"
    verdict = "which is more than chance makes" if confirmation.proven else "which may be chance"
    if not confirmation.proven and (low > 0 or high < 0):
        verdict = "so the default is the better one"
    return (
        f"On {_count(confirmation.seeds, 'fresh seed')} the winner has {name} "
        f"{confirmed['winner']:.4f} and the default {confirmed['default']:.4f}: a difference of "
        f"{gain:+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}], {verdict}. "
        f"The search had promised {promised:+.4f}, {kept}; the winner's own score was "
        f"{searched['winner']:.4f} there, an optimism of {confirmation.luck:+.4f}."
    )


def duration(hours: float) -> str:
    """Format a time in seconds, minutes or hours."""
    minutes = round(60 * hours)
    if minutes < 1:
        return f"{3600 * hours:.0f} seconds"
    return f"{minutes} min" if minutes < 120 else f"{hours:.1f} hours"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _write_recipes(results: SweepResults, space: SearchSpace, study: Study) -> None:
    """Write the winner, and each trial of a front, as experiments."""
    folder, summary = results.folder, results.summary

    def write(path: Path, trial: FrozenTrial) -> None:
        scores = ", ".join(
            f"{name} {value:.4f}"
            for name, value in zip(summary.objectives, trial.values, strict=True)
        )
        comment = [
            f"Trial {trial.number} of the sweep {folder.name}: {scores}.",
            script_command("train.py", experiment=path),
        ]
        config = space.apply(space.decode(trial.params))
        write_text(path, write_experiment(config, comment))

    shutil.rmtree(folder / "front", ignore_errors=True)
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        if trial.number == summary.best:
            write(folder / "best.yaml", trial)
        if trial.number in summary.front:
            write(folder / "front" / f"{trial.number:04}.yaml", trial)
