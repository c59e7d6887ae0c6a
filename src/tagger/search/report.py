"""What a sweep leaves: `best.yaml`, `trials.parquet`, `summary.json`, plots and one page."""

import base64
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from filelock import FileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tagger.config.overrides import script_command
from tagger.config.schema import OptimizeConfig
from tagger.environment import describe_environment
from tagger.files import remove_lock, write_json, write_text
from tagger.reporting.figures import write_figure
from tagger.search.confirm import Confirmation, describe, find_default
from tagger.search.metrics import as_loss, is_better
from tagger.search.plots import (
    plot_front,
    plot_history,
    plot_importances,
    plot_parallel,
    plot_slices,
)
from tagger.search.racing import find_winner
from tagger.search.recipe import write_experiment
from tagger.search.space import SearchSpace
from tagger.search.study import hours_spent
from tagger.search.table import importances, tabulate, write_table

TOP_SHARE = 0.25
"""The share of trials whose values are called good."""

FEW = 3
"""Parameters whose plots fit beside others."""

MATTERS = 0.1
"""The share of variation from which on a parameter is worth a mention."""


def write_results(
    folder: Path,
    config: OptimizeConfig,
    space: SearchSpace,
    study: Study,
    confirmation: Confirmation | None,
) -> str:
    """Write all that a sweep leaves, of what it has found so far.

    Args:
        folder: Of the sweep.
        config: Of the sweep.
        space: What it changes.
        study: With at least one complete trial.
        confirmation: What became of the winner's lead; None where that is not known.

    Returns:
        What to say to the user at the end.
    """
    metrics = config.search.objectives
    winner = find_winner(study)
    assert winner is not None
    rows = tabulate(study, space, metrics)
    shares = importances(study, winner, metrics[0], config.seed)
    default = find_default(study)
    front = [trial.number for trial in study.best_trials] if len(metrics) > 1 else []
    summary: dict[str, Any] = {
        "sweep": folder.name,
        "space": config.search.name,
        "objectives": list(metrics),
        "best": winner.number,
        "default": None if default is None else default.number,
        "front": front,
        "states": {
            state: sum(row["state"] == state for row in rows)
            for state in dict.fromkeys(row["state"] for row in rows)
        },
        "hours": hours_spent(study.get_trials(deepcopy=False)),
        "overhead": overhead(rows),
        "importances": shares,
        "confirmation": None if confirmation is None else describe(confirmation),
        "chosen": space.decode(winner.params),
        "environment": describe_environment().model_dump(),
    }
    summary["paragraph"] = tell(summary, rows, space)

    page = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    # Two commands that share a sweep come to its end together, and each removes the old plots.
    with FileLock(folder / ".report.lock") as lock:
        write_table(folder / "trials.parquet", rows, space)
        write_json(folder / "summary.json", summary)
        _write_recipes(folder, space, study, summary)
        plots = _write_plots(folder / "plots", rows, space, summary)
        write_text(page, _render(config, summary, rows, space, plots))
        remove_lock(lock)
    return "\n".join(
        [
            summary["paragraph"],
            str(page),
            f"next: {script_command('train.py', experiment=folder / 'best.yaml')}",
        ]
    )


def overhead(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of the trials' time that was spent on neither training nor prediction."""
    whole = [row for row in rows if row["wall_seconds"] and row["state"] != "failed"]
    wall = sum(row["wall_seconds"] for row in whole)
    return 1 - sum(row["model_seconds"] for row in whole) / wall if wall else None


def tell(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], space: SearchSpace) -> str:
    """Say in one plain paragraph what was found, what mattered, and how much of it is luck."""
    metric = summary["objectives"][0]
    name = metric.replace("_", " ")
    by_number = {row["number"]: row for row in rows}
    best = by_number[summary["best"]]
    states = summary["states"]
    stopped, failed = states.get("stopped early", 0), states.get("failed", 0)
    asides = [f"{stopped} were stopped early"] if stopped else []
    asides += [f"{failed} failed"] if failed else []
    sentences = [
        f"Of {_many(len(rows), 'trial')} in {_duration(summary['hours'])} "
        f"{states.get('complete', 0)} were judged on all folds"
        + "".join(f", {aside}" for aside in asides)
        + "."
    ]
    score = f"{name} {best[metric]:.4f} ± {best[f'{metric}_error']:.4f}"
    sentences.append(f"The best is trial {best['number']}, with {score} over {best['folds']} folds")
    default = by_number.get(summary["default"])
    if default is None:
        sentences[-1] += "; the default config was not judged."
    elif default["number"] == best["number"]:
        sentences[-1] += ": the default config, which no trial surpassed."
    else:
        its = f"{default[metric]:.4f} ± {default[f'{metric}_error']:.4f}"
        sentences[-1] += f"; the default config has {its}."
    if len(summary["front"]) > 1:
        sentences.append(
            f"{len(summary['front'])} trials are on the Pareto front of "
            f"{', '.join(one.replace('_', ' ') for one in summary['objectives'])}: for each of "
            "them, nothing is better in one without being worse in another."
        )
    sentences.append(_what_mattered(summary["importances"], rows, space, metric))
    if summary["confirmation"] is not None:
        sentences.append(_what_held(summary["confirmation"], name))
    elif default is not None and default["number"] != best["number"]:
        sentences.append("The winner was not confirmed on fresh seeds, so part of this is luck.")
    return " ".join(sentences)


def _what_mattered(
    shares: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    space: SearchSpace,
    metric: str,
) -> str:
    if not shares:
        return "There are too few trials, or too little between them, to say what mattered."
    known = [row for row in rows if row["state"] == "complete"]
    known.sort(key=lambda row: as_loss(metric, row[metric]))
    top = known[: max(3, round(TOP_SHARE * len(known)))]
    parts: list[str] = []
    for path, share in shares.items():
        if share < MATTERS and parts:
            break
        one = next(one for one in space.parameters if one.path == path)
        values = [row[path] for row in top if row[path] is not None or None in one.choices]
        if not values:
            where = ""
        elif one.choices:
            most = max(one.choices, key=values.count)
            where = f", mostly {most} in the best {len(top)} trials"
        else:
            low, high = min(values), max(values)
            where = f", from {low:.3g} to {high:.3g} in the best {len(top)} trials"
        parts.append(f"{path} ({share:.0%} of the variation{where})")
    return f"What mattered most: {'; '.join(parts)}."


def _what_held(confirmation: Mapping[str, Any], name: str) -> str:
    confirmed, searched = confirmation["confirmed"], confirmation["searched"]
    low, high, gain = (confirmation[key] for key in ("low", "high", "gain"))
    promised = searched["winner"] - searched["default"]
    is_less = is_better(confirmation["metric"], promised, gain)
    kept = f"of which {promised - gain:+.4f} was luck" if is_less else "which held"
    verdict = "which is more than chance makes" if confirmation["proven"] else "which may be chance"
    if not confirmation["proven"] and (low > 0 or high < 0):
        verdict = "so the default is the better one"
    return (
        f"On {_many(confirmation['seeds'], 'fresh seed')} the winner has {name} "
        f"{confirmed['winner']:.4f} and the default {confirmed['default']:.4f}: a difference of "
        f"{gain:+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}], {verdict}. "
        f"The search had promised {promised:+.4f}, {kept}; the winner's own score was "
        f"{searched['winner']:.4f} there, an optimism of {confirmation['luck']:+.4f}."
    )


def _write_recipes(
    folder: Path,
    space: SearchSpace,
    study: Study,
    summary: Mapping[str, Any],
) -> None:
    """Write the winner, and each trial of a front, as experiments."""

    def write(path: Path, trial: FrozenTrial) -> None:
        scores = ", ".join(
            f"{name} {value:.4f}"
            for name, value in zip(summary["objectives"], trial.values, strict=True)
        )
        comment = [
            f"Trial {trial.number} of the sweep {folder.name}: {scores}.",
            script_command("train.py", experiment=path),
        ]
        config = space.apply(space.decode(trial.params))
        write_text(path, write_experiment(config, comment))

    shutil.rmtree(folder / "front", ignore_errors=True)
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        if trial.number == summary["best"]:
            write(folder / "best.yaml", trial)
        if trial.number in summary["front"]:
            write(folder / "front" / f"{trial.number:04}.yaml", trial)


def _write_plots(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    space: SearchSpace,
    summary: Mapping[str, Any],
) -> list[tuple[Path, str]]:
    """Write the plots; return each file with what it shows, in words."""
    metrics, best = summary["objectives"], summary["best"]
    judged = [row for row in rows if row[metrics[0]] is not None and row["state"] != "failed"]
    name = metrics[0].replace("_", " ")
    figures = {
        "history": (
            plot_history(judged, metrics[0], best),
            f"{name} of each trial, with the standard error over folds, and the best so far.",
        ),
    }
    if summary["importances"]:
        figures["importances"] = (
            plot_importances(summary["importances"]),
            f"What share of the variation of {name} each parameter explains. Trials that were "
            "stopped early count with an estimate: the best trial's score, and the mean gap to it "
            "on the folds that both have seen.",
        )
    if len(metrics) > 1:
        figures["front"] = (
            plot_front(judged, metrics, summary["front"], best),
            "The Pareto front: trials that nothing surpasses in all objectives.",
        )
    figures["slices"] = (
        plot_slices(judged, space.parameters, metrics[0], best),
        f"{name} over each parameter.",
    )
    figures["parallel"] = (
        plot_parallel(judged, space.parameters, metrics[0], best),
        "A line through the values of each trial; the darker, the better.",
    )
    shutil.rmtree(folder, ignore_errors=True)
    written = []
    for stem, (figure, text) in figures.items():
        path = folder / f"{stem}.png"
        write_figure(figure, path)
        written.append((path, text))
    return written


def _render(
    config: OptimizeConfig,
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    space: SearchSpace,
    plots: Sequence[tuple[Path, str]],
) -> str:
    """Render one page that needs nothing beside itself."""
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, here.parent / "reporting"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["value"] = _value
    metric = config.search.objectives[0]
    unknown = np.inf
    ranked = sorted(
        rows,
        key=lambda row: (
            row["state"] != "complete",
            unknown if row[metric] is None else as_loss(metric, row[metric]),
        ),
    )
    sweep = Path(config.sweeps_dir) / summary["sweep"]
    return environment.get_template("sweep.html.j2").render(
        command=script_command("train.py", experiment=sweep / "best.yaml"),
        config=config,
        summary=summary,
        rows=ranked,
        by_number={row["number"]: row for row in rows},
        parameters=[one.path for one in space.parameters],
        images=[
            {
                "source": base64.b64encode(path.read_bytes()).decode("ascii"),
                "text": text,
                "wide": (path.stem in ("slices", "parallel") and len(space.parameters) > FEW)
                or (path.stem == "front" and len(summary["objectives"]) >= FEW),
            }
            for path, text in plots
        ],
        duration=_duration(summary["hours"]),
    )


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _duration(hours: float) -> str:
    minutes = round(60 * hours)
    if minutes < 1:
        return f"{3600 * hours:.0f} seconds"
    return f"{minutes} min" if minutes < 120 else f"{hours:.1f} hours"


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
