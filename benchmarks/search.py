"""Our sweep beside random search, other pruners and Hydra's multirun, on the same rows and folds.

    python benchmarks/search.py --data DATASET.csv --space linear --model linear --minutes 3
    python benchmarks/search.py --data DATASET.csv --space quick --model student --minutes 20

Race: for each seed, sweeps run at the same time for the same wall time, each with an equal share of
the cores: random search without pruning, ours, and ours without its pruner. All try the default
first, as every sweep of ours does and plain random search does not: there it counts for nothing,
and its time is taken off. Beside that, figures are given with the default in all, and in none.

Pruners: the trials of random search, whose folds are all known, are raced again by each pruner, in
20 random orders, the default first. `--replay-only` does it for races that were run before.

Multirun: a sweep of a few trials, then the same trials one by one by `train.py -m`, a job a fold,
both whole commands.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import OptimizeConfig, SearchConfig
from tagger.data.tags import tag_positions
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import REPO_ROOT, write_json, write_text
from tagger.runs import RunFolder, read_predictions
from tagger.search.fold_results import FOLD, folds_of, stored_folds
from tagger.search.folds import Folds
from tagger.search.metrics import score_rows
from tagger.search.racing import RUNNING_MEANS, build_pruner
from tagger.search.recipe import write_experiment
from tagger.search.space import SearchSpace
from tagger.search.study import (
    DEFAULT,
    ORIGIN,
    counted,
    open_storage,
    open_study,
    quiet_optuna,
    storage_url,
)
from tagger.search.summary import SweepSummary

SCOPES: dict[str, tuple[str, ...]] = {
    "the default in ours": ("random",),
    "the default in all": (),
    "the default in none": ("random", "ours", "unpruned"),
}
"""By what is compared, the arms whose default trial does not count."""

ARMS = {
    "random": ["search.sampler=random", "search.pruner=none"],
    "ours": [],
    "unpruned": ["search.pruner=none"],
}
METRIC = "weighted_f1"
ORDERS = 20
ROUNDING = 1e-9
PRUNERS = {
    "items": ["search.pruner=items"],
    "items, p 0.05": ["search.pruner=items", "search.prune_p=0.05"],
    "items, p 0.1": ["search.pruner=items", "search.prune_p=0.1"],
    "items, p 0.3": ["search.pruner=items", "search.prune_p=0.3"],
    "wilcoxon": ["search.pruner=wilcoxon", "search.prune_p=0.1"],
    "median": ["search.pruner=median"],
    "hyperband": ["search.pruner=hyperband"],
}


@exit_on_user_error
def main() -> None:
    """Run the race for each seed, then what its trials allow; print tables, save all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--space", default="linear")
    parser.add_argument("--model", default="linear")
    parser.add_argument("--minutes", type=float, default=3.0, help="of each sweep")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--replay-only", action="store_true", help="of the races that are in --out")
    parser.add_argument("--multirun", type=int, default=12, help="trials that multirun repeats")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/search"))
    parser.add_argument("overrides", nargs="*", help="further settings of all sweeps")
    options = parser.parse_args()
    quiet_optuna()
    out = options.out / f"{options.space}-{options.model}"
    if not options.replay_only:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
    settings = [
        *(f"search={options.space}", f"model={options.model}", "data=file", "data.name=mwml"),
        *(f"data.path={options.data}", "data.split.test=0", f"sweeps_dir={out}"),
        *("search.trials=null", f"search.hours={options.minutes / 60}", "search.confirm=0"),
        *options.overrides,
    ]

    races, replays = [], []
    for seed in range(options.seeds):
        seeded = [*settings, f"seed={seed}"]
        if not options.replay_only:
            races.append(race(seeded, options.arms, seed))
            print(json.dumps({"seed": seed, **races[-1]}), flush=True)
            show_races(races, options.arms)
        replays.append(replay(seeded, f"random-{seed}"))
        print(json.dumps(replays[-1]), flush=True)
        show_replays(replays)
    if options.replay_only:
        write_json(out / "replays.json", {"settings": settings, "replays": replays})
        return
    multirun = run_one_by_one([*settings, "seed=0"], options.multirun, out / "multirun")
    print(json.dumps(multirun, indent=2))
    write_json(
        out / "figures.json",
        {
            "settings": settings,
            "races": races,
            "replays": replays,
            "multirun": multirun,
            "environment": describe_environment().model_dump(),
        },
    )


def race(settings: Sequence[str], arms: Sequence[str], seed: int) -> dict[str, Any]:
    """Run all arms side by side; say when each reached what random search had at its end."""
    cores = sorted(os.sched_getaffinity(0))
    processes = []
    started = datetime.now()
    for position, arm in enumerate(arms):
        # Each has one core, another one with each seed; more arms than cores share them all.
        mine = {cores[(position + seed) % len(cores)]} if len(cores) >= len(arms) else set(cores)
        command = ["optimize.py", *settings, *ARMS[arm], f"name={arm}-{seed}"]
        processes.append(start(command, mine))
    for process in processes:
        finish(process)

    curves = {}
    result: dict[str, Any] = {}
    for arm in arms:
        config = read_config([*settings, *ARMS[arm]])
        trials = read_trials(config, f"{arm}-{seed}")
        curves[arm] = [
            (trial, (trial.datetime_complete - started).total_seconds())
            for trial in trials
            if trial.state == TrialState.COMPLETE and trial.datetime_complete is not None
        ]
        summary = SweepSummary.read(Path(config.sweeps_dir, f"{arm}-{seed}", "summary.json"))
        result[arm] = {
            "trials": sum(trial.state.is_finished() for trial in trials),
            "complete": len(curves[arm]),
            "folds": sum(len(stored_folds(trial.user_attrs)) for trial in trials),
            "best": max(trial.values[0] for trial, _ in curves[arm]),
            "default": next(trial.values[0] for trial, _ in curves[arm] if is_default(trial)),
            "overhead": summary.overhead,
        }
    budget = 3600 * config.search.hours
    for scope, without_default in SCOPES.items():
        kept = {arm: points(curve, arm in without_default) for arm, curve in curves.items()}
        goal = max((score for _, score in kept["random"]), default=-math.inf)
        times = {arm: reached(curve, goal) for arm, curve in kept.items()}
        result[scope] = {"goal": goal} | {
            arm: {"of its time": seconds / times["random"], "of the budget": seconds / budget}
            for arm, seconds in times.items()
        }
    return result


def points(
    curve: Sequence[tuple[FrozenTrial, float]], without_default: bool
) -> list[tuple[float, float]]:
    """Return when each trial was complete, and its score; without the default, its time goes."""
    off = 0.0
    if without_default:
        first = next(trial for trial, _ in curve if is_default(trial))
        assert first.duration is not None
        off = first.duration.total_seconds()
    return [
        (seconds - off, trial.values[0])
        for trial, seconds in curve
        if not (without_default and is_default(trial))
    ]


def reached(curve: Sequence[tuple[float, float]], goal: float) -> float:
    """Return the seconds after which a score was reached first; infinite where it never was."""
    return min((seconds for seconds, score in curve if score >= goal), default=math.inf)


def replay(settings: Sequence[str], name: str) -> dict[str, Any]:
    """Race trials again whose folds are all known, by each pruner."""
    config = read_config(settings)
    trials = [trial for trial in read_trials(config, name) if trial.state == TrialState.COMPLETE]
    steps = config.search.folds * config.search.repeats
    truth = max(trials, key=lambda trial: trial.values[0]).values[0]
    outcome = {}
    for pruner, own in PRUNERS.items():
        search = read_config([*settings, *own]).search
        rng = np.random.default_rng(config.seed)
        orders = [
            race_again([trials[0], *(trials[1 + at] for at in order)], search, steps)
            for order in (rng.permutation(len(trials) - 1) for _ in range(ORDERS))
        ]
        outcome[pruner] = {
            "folds": statistics.mean(used for used, _, _ in orders) / (steps * len(trials)),
            "stopped": statistics.mean(stopped for _, _, stopped in orders) / len(trials),
            "lost": statistics.mean(truth - best for _, best, _ in orders),
            "times lost": sum(best < truth for _, best, _ in orders),
        }
    return outcome


def race_again(
    trials: Sequence[FrozenTrial], search: SearchConfig, steps: int
) -> tuple[int, float, int]:
    """Return the folds that a pruner lets be trained, the best score left, and trials stopped."""
    study = optuna.create_study(direction="maximize", pruner=build_pruner(search, steps))
    used = stopped = 0
    for known in trials:
        trial = study.ask()
        for step in range(steps):
            fold = known.user_attrs[FOLD.format(step)]
            trial.set_user_attr(FOLD.format(step), fold)
            scores = [one.scores[METRIC] for one in folds_of(known.user_attrs)[: step + 1]]
            running = search.pruner in RUNNING_MEANS
            trial.report(statistics.mean(scores) if running else scores[-1], step)
            used += 1
            if step != steps - 1 and not is_default(known) and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                stopped += 1
                break
        else:
            study.tell(trial, known.values[0])
    return used, study.best_value, stopped


def run_one_by_one(settings: Sequence[str], count: int, out: Path) -> dict[str, Any]:
    """Sweep a few trials, train the same with `train.py -m`, and compare time and scores."""
    cores = set(os.sched_getaffinity(0))
    name = "few"
    few = [*settings, f"search.trials={count}", "search.hours=null", f"name={name}"]
    ours = measure(["optimize.py", *few], cores)
    config = read_config(few)
    space = SearchSpace.parse(config.search.space, config.base)
    trials = read_trials(config, name)
    place = out.resolve() / "choices"
    for trial in trials:
        text = write_experiment(space.apply(space.decode(trial.params)), [f"trial {trial.number}"])
        write_text(place / "experiment" / f"t{trial.number}.yaml", text)
    seconds = 0.0
    for repeat in range(config.search.repeats):
        seed = config.seed + repeat
        command = [
            *("train.py", "-m", f"hydra.searchpath=['file://{place}']"),
            "experiment=" + ",".join(f"t{trial.number}" for trial in trials),
            "data.split.fold=" + ",".join(map(str, range(config.search.folds))),
            *(f"data.split.folds={config.search.folds}", f"seed={seed}", f"data.split.seed={seed}"),
            *(f"runs_dir={out}", "training.checkpoint_seconds=1e9"),
            f"name=${{hydra:runtime.choices.experiment}}-{repeat}-${{data.split.fold}}",
        ]
        seconds += measure(command, cores)

    folds = Folds(config, confirming=False)
    differing = 0
    for trial in trials:
        for step, fold in enumerate(folds_of(trial.user_attrs)):
            repeat, number = divmod(step, config.search.folds)
            run = RunFolder(out / f"t{trial.number}-{repeat}-{number}")
            judged = [folds.items[row] for row in folds.split(step).test]
            predictions = read_predictions(run.path / "predictions.csv", run.tags)
            scores = [predictions[item.id] for item in judged]
            true = tag_positions(judged, folds.tags)
            score = score_rows(METRIC, np.array(scores), true)
            differing += abs(score - fold.scores[METRIC]) > ROUNDING
    return {
        "trials": len(trials),
        "folds": {
            "multirun": len(trials) * folds.steps,
            "ours": sum(len(stored_folds(trial.user_attrs)) for trial in trials),
        },
        "folds that scored differently": differing,
        "seconds": {"multirun": seconds, "ours": ours},
    }


def measure(command: Sequence[str], cores: set[int]) -> float:
    """Run a script of ours to its end; return wall seconds."""
    began = time.perf_counter()
    finish(start(command, cores))
    return time.perf_counter() - began


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a script; what it says of a failure ends this one."""
    errors = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{process.args!r} failed:\n{errors[-2000:]}")


def start(command: Sequence[str], cores: set[int]) -> subprocess.Popen[str]:
    """Start a script of ours on some cores."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=REPO_ROOT,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src"), "TQDM_DISABLE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509  # no threads here
    )


def read_config(settings: Sequence[str]) -> OptimizeConfig:
    """Return the config of a command line."""
    return load_config(OptimizeConfig, compose_config("optimize", list(settings)))


def read_trials(config: OptimizeConfig, name: str) -> list[FrozenTrial]:
    """Return the trials of a sweep, in the order in which they began."""
    url = storage_url(config.search, Path(config.sweeps_dir, name))
    storage = open_storage(url, config.search.heartbeat)
    study = open_study(storage, name, config.search, config.search.objectives, 1)
    return counted(study.get_trials())


def is_default(trial: FrozenTrial) -> bool:
    """Whether a trial is that of the config that the sweep started from."""
    return bool(trial.user_attrs.get(ORIGIN) == DEFAULT)


def show_races(races: Sequence[dict[str, Any]], arms: Sequence[str]) -> None:
    """Print the medians over seeds."""
    print("\n| search | trials begun | folds | final best | overhead |\n|---|---|---|---|---|")
    for arm in arms:
        cells = [statistics.median(one[arm][key] for one in races) for key in ("trials", "folds")]
        best = statistics.median(one[arm]["best"] for one in races)
        spent = statistics.median(one[arm]["overhead"] for one in races)
        print(f"| {arm} | {cells[0]:g} | {cells[1]:g} | {best:.4f} | {spent:.1%} |")
    print("\n| until random's final best | share | each seed | median |\n|---|---|---|---|")
    for scope in SCOPES:
        for arm in arms:
            for share in ("of its time", "of the budget"):
                shares = [one[scope][arm][share] for one in races]
                each = ", ".join(f"{one:.2f}" for one in shares)
                median = statistics.median(shares)
                print(f"| {arm}, {scope} | {share} | {each} | {median:.2f} |")


def show_replays(replays: Sequence[dict[str, Any]]) -> None:
    """Print the means over seeds."""
    print("\n| pruner | folds trained | trials stopped | best lost | by |\n|---|---|---|---|---|")
    for pruner in PRUNERS:
        folds, stopped, lost = (
            statistics.mean(one[pruner][key] for one in replays)
            for key in ("folds", "stopped", "lost")
        )
        times = f"{sum(one[pruner]['times lost'] for one in replays)} of {ORDERS * len(replays)}"
        print(f"| {pruner} | {folds:.0%} | {stopped:.0%} | {times} | {lost:.4f} |")
    print(flush=True)


if __name__ == "__main__":
    main()
