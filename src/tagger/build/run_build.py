"""Builds the best run for this machine from a labelled file, in steps that can be looked at.

Each step is a run folder below `NAME.build`; the chosen one becomes `NAME`. Killed anywhere, the
same command goes on.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from tagger.audit.repeats import find_repeats
from tagger.build.judging import Choice, Judged, choose_run
from tagger.build.pipeline import Pipeline, step_names, train_pipeline
from tagger.build.plan import FITTED, JUDGED, plan_build
from tagger.build.report import BuildPlan, BuildReport, Published
from tagger.compare.runs import LabelledFile
from tagger.compare.scoring import mean_score
from tagger.config.composition import compose_config, load_config
from tagger.config.messages import validate_config
from tagger.config.paths import portable_path
from tagger.config.saved import read_yaml, write_yaml
from tagger.config.schema import BuildConfig
from tagger.data.items import Item
from tagger.data.sources import AUTO, data_sha256, iter_unlabelled
from tagger.data.tags import tag_positions
from tagger.decision.decider import CalibrationSet, fit_rule, refit_rule, save_rule
from tagger.decision.policies import REVIEW
from tagger.environment import describe_environment
from tagger.errors import UserError
from tagger.evaluation.rows import rows_in
from tagger.files import expand_home, only_process, resolve_path, sha256_of
from tagger.models.embedding import VectorCache
from tagger.runs import RunFolder, read_predictions, write_calibration
from tagger.scores import FloatArray

STEPS = ".build"
"""Ending of the folder that holds the steps of a build."""

CONFLICTS = 0.02
"""Share of rows that contradict another row of the same text from which on a build is refused."""


NOTHING_HELD_OUT = ("data.split.validation=0", "data.split.test=0")

RESERVED = (
    "decision", "distill", "model", "experiment", "data", "data.path", "data.tags", "data.split",
    "name", "runs_dir", "seed", "if_exists", "resume",
)  # fmt: skip
"""What a build decides itself, so that no override may."""


def build_config(
    source: LabelledFile,
    *,
    tags: Path | None,
    overrides: Sequence[str],
    name: str | None,
    **given: str | float | Sequence[str],
) -> BuildConfig:
    """Compose the config of a build.

    Args:
        source: The labelled files.
        tags: The list of tags; None: those of the files.
        overrides: `build=CHOICE`, `build.KEY=VALUE`, and overrides of `train.py` for all models.
        name: Of the run; None: the source's.
        given: Further keys of `BuildConfig`.

    Raises:
        UserError: for values that are not valid, and overrides of what a build decides itself.
    """
    own = [one for one in overrides if one.partition("=")[0].split(".")[0] == "build"]
    train = [one for one in overrides if one not in own]
    keys = [one.partition("=")[0].lstrip("+~") for one in train]
    if refused := [
        key for key in keys if key in RESERVED or key.startswith(("decision.", "data.split."))
    ]:
        raise UserError(
            f"a build decides itself on {', '.join(refused)}",
            hint="Choose its steps instead: build=CHOICE, a file of configs/build.",
        )
    composed = load_config(BuildConfig, compose_config("build", ["files=[x]", "name=x", *own]))
    asked = {
        "files": [str(one) for one in (source.path, *source.further)],
        "tags": AUTO if tags is None else str(tags),
        "name": name or source.name,
        "train": train,
        **given,
    }
    return validate_config(BuildConfig, composed.model_dump() | asked, "the build has mistakes:")


@dataclass(frozen=True)
class Outcome:
    """What a build made: its report, the folder of its steps, and that of the chosen run."""

    report: BuildReport
    steps: Path
    run: Path


def build(
    config: BuildConfig, source: LabelledFile, say: Callable[[str], object] = print
) -> Outcome:
    """Train what the budget allows, choose a run by its promise, and put it in its place.

    Args:
        config: What is asked for.
        source: The first labelled file, and how it is read.
        say: Is told what is planned, and each step before it begins.

    Raises:
        UserError: for data that would spoil the result, a name that is taken, or a build of that
            name that was begun with other settings.
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
    """
    runs_dir = expand_home(config.runs_dir)
    folder, steps = runs_dir / config.name, runs_dir / f"{config.name}{STEPS}"
    overrides = [*source.overrides, f"data.name={source.name}"]
    items = source.items
    refuse_contradictions(items)
    asked = describe_request(config, items)
    if folder.exists() and not steps.exists():
        raise UserError(
            f"{folder} is there already, and no build made it", hint="Give another --name."
        )
    with only_process(steps, "building"):
        plan = read_or_make_plan(config, asked, items, source.tags, steps)
        for note in plan.notes:
            say(f"note: {note}")
        done = steps / "build.json"
        if done.exists() and (folder / "meta.json").exists():
            say(f"{folder} is built already, from this very data.")
            return Outcome(BuildReport.read(done), steps, folder)
        begun = time.monotonic()
        notes: list[str] = []
        judged, rows, judged_on = _train(config, plan, overrides, items, steps, say, notes.append)
        say("choosing: what each publishes by the promise, its F1, its time")
        choice = choose_run(config, judged, rows)
        put_in_place(judged[choice.name], choice, folder)
        published = score_on_test_rows(judged[choice.name].run, choice, items)
        report = BuildReport(
            name=config.name,
            plan=plan,
            promise=config.promise,
            confidence=config.confidence,
            judged_on=judged_on,
            candidates=choice.candidates,
            chosen=choice.name,
            reasons=choice.reasons,
            published=published,
            seconds=round(time.monotonic() - begun, 1),
            notes=notes,
            environment=describe_environment(),
        )
        report.write(done)
    return Outcome(report, steps, folder)


def describe_request(config: BuildConfig, items: Sequence[Item]) -> dict[str, JsonValue]:
    """Return what a build is asked for, with digests of its data, to tell it from another."""
    plain = config.model_dump(exclude={"name", "runs_dir", "files", "transfer"})
    return plain | {
        "data": {"rows": len(items), "sha256": data_sha256(items)},
        "transfer": {portable_path(one): sha256_of(resolve_path(one)) for one in config.transfer},
    }


def read_or_make_plan(
    config: BuildConfig,
    asked: Mapping[str, JsonValue],
    items: Sequence[Item],
    tags: Sequence[str],
    steps: Path,
) -> BuildPlan:
    """Return the plan of a build that was begun, or make one.

    Raises:
        UserError: when it was begun with other settings or other data.
    """
    path = steps / "plan.json"
    if not path.exists():
        texts = {
            item.content_hash
            for name in config.transfer
            for item in iter_unlabelled(resolve_path(name))
        }
        plan = plan_build(config, asked, items, tags, len(texts))
        plan.write(path)
        return plan
    plan = BuildPlan.read(path)
    now = json.loads(json.dumps(asked))
    if changed := [key for key in now if now[key] != plan.asked.get(key)]:
        raise UserError(
            f"{steps} was begun with other settings, so it can't go on with these:",
            [
                f"{key}: {json.dumps(plan.asked.get(key))} then, {json.dumps(now[key])} now"
                for key in changed
            ],
            f"Give another --name, or remove {steps} and the run itself to start over.",
        )
    return plan


def refuse_contradictions(items: Sequence[Item]) -> None:
    """Stop where many rows say the same and have another tag: no model can learn from them.

    Raises:
        UserError: with the first of them.
    """
    repeats = find_repeats(items, [""] * len(items), None)
    conflicts = [one for one in repeats if one.kind == "text" and one.conflict]
    rows = sum(len(one.rows) for one in conflicts)
    if rows > CONFLICTS * len(items):
        shown = [
            " and ".join(f"id {items[at].id!r} is {items[at].tag}" for at in one.rows[:3])
            for one in conflicts[:5]
        ]
        raise UserError(
            f"{rows} of {len(items)} rows have the text of a row with another tag, at most "
            f"{CONFLICTS:.0%} may:",
            shown,
            "`tagger audit --data FILE` lists them all; keep one tag for each text.",
        )


def _train(  # noqa: PLR0917
    config: BuildConfig,
    plan: BuildPlan,
    source: Sequence[str],
    items: Sequence[Item],
    steps: Path,
    say: Callable[[str], object],
    note: Callable[[str], object],
) -> tuple[dict[str, Judged], list[Item], str]:
    """Train all pipelines; return the runs, the rows to judge them on, and which these are."""
    vectors = VectorCache()
    splits = [
        Pipeline(
            steps / f"fold-{fold}",
            [
                f"data.split.folds={plan.folds}",
                f"data.split.fold={fold}",
                *NOTHING_HELD_OUT,
            ],
            gate=False,
            vectors=vectors,
        )
        for fold in range(plan.folds or 0)
    ]
    parts_of = [f"data.split.validation={FITTED}", f"data.split.test={JUDGED}"]
    split = parts_of if plan.folds is None else NOTHING_HELD_OUT
    last = Pipeline(steps, split, gate=True, vectors=vectors)
    names = step_names(config, plan)
    total, number = len(names) * (len(splits) + 1), 0
    left = sum(plan.expected_seconds.values())

    def before(name: str) -> None:
        nonlocal number, left
        number += 1
        say(f"[{number}/{total}] {name}: about {left / 60:.1f} minutes left")
        left -= plan.expected_seconds.get(name, 0.0) / (len(splits) + 1)

    parts = [train_pipeline(config, plan, source, one, before, note) for one in splits]
    runs = train_pipeline(config, plan, source, last, before, note)
    if plan.folds is None:
        return _judge_held_out(runs, items)
    return _judge_folds(runs, parts, items, plan.folds)


def _judge_held_out(
    runs: Mapping[str, RunFolder], items: Sequence[Item]
) -> tuple[dict[str, Judged], list[Item], str]:
    first = next(iter(runs.values()))
    rows = [items[at] for at in np.flatnonzero(rows_in(first, items, {"validation"})).tolist()]
    judged = {}
    for name, run in runs.items():
        _, fitted_to = refit_rule(run.path, run.tags, run.decision_config)
        said = run.load_classifier().predict_proba(rows)
        judged[name] = Judged(run, said, fitted_to, run.meta.train_seconds or 0.0)
    return judged, rows, f"{len(rows):,} rows that no model was trained on"


def _judge_folds(
    runs: Mapping[str, RunFolder],
    parts: Sequence[Mapping[str, RunFolder]],
    items: Sequence[Item],
    folds: int,
) -> tuple[dict[str, Judged], list[Item], str]:
    """Judge each run by what the models of its folds said, which become its calibration rows."""
    judged = {}
    for name, run in runs.items():
        said: dict[str, FloatArray] = {}
        for part in parts:
            said |= read_predictions(part[name].path / "predictions.csv", run.tags)
        rows = np.array([said[item.id] for item in items])
        write_calibration(run.path / "calibration.csv", items, run.tags, rows, None)
        source = f"{len(items)} rows, each predicted by models of {folds} folds without it"
        row_sources = [item.source for item in items]
        fitted_to = CalibrationSet(rows, tag_positions(items, run.tags), None, source, row_sources)
        save_rule(
            run.path, run.decision_config, fit_rule(run.decision_config, fitted_to), fitted_to
        )
        judged[name] = Judged(run, rows, fitted_to, run.meta.train_seconds or 0.0)
    return judged, list(items), f"all {len(items):,} rows, out of {folds} folds"


def put_in_place(judged: Judged, choice: Choice, folder: Path) -> None:
    """Copy the chosen run to its place, with the decision that its promise needs."""
    scratch = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(judged.run.path, scratch)
    saved = read_yaml(scratch / "config.yaml") | {"name": folder.name}
    write_yaml(saved, scratch / "config.yaml")
    save_rule(scratch, choice.decision, choice.rule, judged.fitted_to)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)


def score_on_test_rows(run: RunFolder, choice: Choice, items: Sequence[Item]) -> Published | None:
    """Score the chosen run on the rows that were kept for that; None where there are none."""
    rows = [items[at] for at in np.flatnonzero(rows_in(run, items, {"test"})).tolist()]
    if not rows:
        return None
    true = tag_positions(rows, run.tags)
    raw = run.load_classifier().predict_proba(rows)
    result = choice.rule.apply(raw, None)
    out, right = result.tags != REVIEW, result.predicted == true
    return Published(
        rows=len(rows),
        share=float(out.mean()),
        precision=float(right[out].mean()) if out.any() else None,
        weighted_f1=mean_score(result.probabilities[None], true, "weighted_f1"),
        macro_f1=mean_score(result.probabilities[None], true, "macro_f1"),
    )
