"""Trains the models of a build, their ensemble and its student, on one division of the rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.build.report import BuildPlan
from tagger.compare.runs import make_run
from tagger.compression.parity import ParityFailed
from tagger.compression.run_export import export_run
from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.schema import BuildConfig, ExportConfig, TrainConfig
from tagger.models.embedding import VectorCache
from tagger.runs import RunFolder

TEACHER = "teacher"
"""The mean of what the models say."""

PAIR = "pair"
"""The mean of what the plainest model and the student say: words beside meaning."""


@dataclass(frozen=True)
class Pipeline:
    """One division of the rows, and where the runs on it go.

    Attributes:
        folder: Holds a run folder for each step.
        split: Overrides of `data.split`.
        gate: Whether an export that changes too much is given up.
        vectors: What frozen encoders make of texts, shared by all pipelines.
    """

    folder: Path
    split: Sequence[str]
    gate: bool
    vectors: VectorCache


def step_names(config: BuildConfig, plan: BuildPlan) -> list[str]:
    """Return the names of the runs of a pipeline, in the order in which they are made."""
    teacher = [TEACHER] if len(plan.models) > 1 else []
    student = config.build.student.name
    return [*plan.models, *teacher, *([student, f"{student}-int8", PAIR] if plan.student else [])]


def train_pipeline(  # noqa: PLR0917
    config: BuildConfig,
    plan: BuildPlan,
    source: Sequence[str],
    pipeline: Pipeline,
    before: Callable[[str], object],
    say: Callable[[str], object],
) -> dict[str, RunFolder]:
    """Train what the plan says, or find it trained; return the runs by name, the plainest first.

    Args:
        config: What is asked for.
        plan: What is trained.
        source: Overrides of `data`.
        pipeline: On which rows, and where to.
        before: Is told the name of each step before it begins.
        say: Is told what went otherwise than planned.

    Raises:
        UserError: for what cannot be trained.
    """
    # In folds nothing is left to fit a promise to, before all of them are there.
    policy = "threshold" if plan.folds is None else "argmax"
    common = [
        f"seed={config.seed}",
        f"decision={policy}",
        "decision.folds=null",
        f"decision.target_precision={config.promise}",
        f"decision.confidence={config.confidence}",
        *source,
        *config.train,
        *pipeline.split,
        f"runs_dir={quoted(pipeline.folder)}",
        "if_exists=resume",
    ]

    def run(name: str, overrides: Sequence[str]) -> RunFolder:
        before(name)
        # The plan has been compared with what is asked for: what is finished need not be looked at.
        if (found := finished_run(pipeline.folder / name)) is not None:
            return found
        given = [*common, *overrides, f"name={name}"]
        return make_run(load_config(TrainConfig, compose_config("train", given)), pipeline.vectors)

    steps = config.build
    models = [one for one in steps.models if one.name in plan.models]
    runs = {one.name: run(one.name, one.overrides) for one in models}
    names = ",".join(runs)
    if len(models) > 1:
        runs[TEACHER] = run(TEACHER, ["model=ensemble", f"model.runs=[{names}]"])
    if plan.student:
        student = run(steps.student.name, student_overrides(config, plan, names))
        runs |= {student.name: student, **export_student(config, student, pipeline, before, say)}
        members = f"{models[0].name},{list(runs)[-1]}"
        runs[PAIR] = run(PAIR, ["model=ensemble", f"model.runs=[{members}]"])
    return runs


def finished_run(folder: Path) -> RunFolder | None:
    """Return the run in a folder; None where there is none, or one that did not end."""
    run = RunFolder(folder) if (folder / "meta.json").exists() else None
    return run if run is not None and run.finished else None


def student_overrides(config: BuildConfig, plan: BuildPlan, teachers: str) -> list[str]:
    """Return the overrides that make the student: its recipe, its teachers, its texts."""
    texts = ",".join(map(quoted, config.transfer if plan.texts else []))
    most = [f"distill.transfer_most={plan.texts}"] if plan.texts else []
    tokens = ",".join(map(quoted, [*config.files, *config.transfer]))
    return [
        *config.build.student.overrides,
        f"model.vocabulary_from=[{tokens}]",
        f"distill.teachers=[{teachers}]",
        f"distill.transfer=[{texts}]",
        *most,
    ]


def export_student(
    config: BuildConfig,
    student: RunFolder,
    pipeline: Pipeline,
    before: Callable[[str], object],
    say: Callable[[str], object],
) -> dict[str, RunFolder]:
    """Compress a student, or find it compressed; give it up where the gate refuses it."""
    name = f"{student.name}-int8"
    folder = pipeline.folder / name
    before(name)
    if finished_run(folder) is None:
        given = [
            f"run={student.name}",
            f"runs_dir={quoted(pipeline.folder)}",
            f"name={name}",
            f"compress={config.build.compress}",
            f"gate={str(pipeline.gate).lower()}",
        ]
        try:
            export_run(load_config(ExportConfig, compose_config("export", given)))
        except ParityFailed as error:
            say(f"the student stays as it is: {error.summary} {'; '.join(error.problems[:3])}")
            return {}
    return {name: RunFolder(folder)}
