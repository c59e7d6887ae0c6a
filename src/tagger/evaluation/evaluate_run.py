"""Evaluates a finished run: predictions, scores, and all else that its report says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tagger.config.schema import EvaluateConfig
from tagger.data.items import Item
from tagger.data.tags import list_tags, tag_positions
from tagger.decision.decider import Decider, load_decider, refit_decider
from tagger.environment import describe_environment
from tagger.errors import UserError
from tagger.evaluation.behaviour import Suite, check_behaviour, load_suite
from tagger.evaluation.calibration import describe_calibration
from tagger.evaluation.comparison import compare_runs, pair_rows
from tagger.evaluation.explore import embed_rows, explore
from tagger.evaluation.intervals import LEVEL, add_intervals
from tagger.evaluation.latency import cores_limited, measure_within_budget
from tagger.evaluation.predictions import LabelledPredictions, decide
from tagger.evaluation.report import (
    CorrectedCalibration,
    DataFacts,
    EvaluationReport,
    IntervalSettings,
    OverallScores,
    RunFacts,
    SliceScores,
    TagScores,
)
from tagger.evaluation.rows import EvaluationRows, load_rows
from tagger.evaluation.selective import describe_decisions
from tagger.evaluation.slices import slice_mask
from tagger.files import check_writable, expand_home, resolve_path
from tagger.models.base import Classifier
from tagger.models.tokenization import share_cut
from tagger.run_meta import TrainedOn, TrainingEnvironment
from tagger.runs import RunFolder, open_run
from tagger.scores import BoolArray, FloatArray, confusion_matrix


@dataclass(frozen=True)
class Evaluation:
    """An evaluated run.

    Attributes:
        run: The run.
        report: What is said of it.
        predictions: Of the rows evaluated.
        raw: What the model gave for these, without correction, (n, n_tags).
        folder: Where the report goes.
    """

    run: RunFolder
    report: EvaluationReport
    predictions: LabelledPredictions
    raw: FloatArray
    folder: Path


def evaluate_run(config: EvaluateConfig) -> Evaluation:
    """Evaluate a finished run; `tagger.reporting.evaluation` writes and prints the result.

    The report is meant for the folder that the config names. Without one it goes into the run
    folder when the rows are its own test rows, else into a subfolder `on-<source>`
    (`on-<source>-all` for rows=all) of it.

    Args:
        config: What to evaluate, on what, how.

    Raises:
        UserError: for a run, data or a folder that cannot be used, or when no row is left.
    """
    run = open_run(config.run, config.runs_dir)
    rows = load_rows(run, config)
    folder = choose_folder(run, rows, config)
    # Paired before any work is done: a mistake should not cost the wait for predictions.
    pairing = None if config.against is None else pair_rows(run, rows.items, config)

    suite = choose_suite(run, config)
    decider = open_decider(run, config, config.device)
    decisions = decide(decider, rows.items)
    probabilities = decisions.probabilities
    true = tag_positions(rows.items, run.tags)
    predictions = LabelledPredictions(rows.items, true, probabilities, run.tags)
    vectors = None
    if config.explore == "on":
        vectors = embed_rows(rows.items, run.tags, config.device)
    # Loaded again, because some engines count the cores when they load a model, and keep to that.
    with cores_limited(config.latency.threads):
        timed = open_decider(run, config)
    latency = measure_within_budget(timed, rows.items, config.latency, config.latency_budget_ms)
    del timed  # memory

    overall, per_class, slices = score_rows(predictions, rows, config)
    weak_slices, errors, points = explore(
        run, predictions, rows.slices, vectors, seed=config.seed, device=config.device
    )
    comparison = None
    if pairing is not None:
        comparison = compare_runs(
            pairing,
            predictions,
            decisions.raw,
            slices=rows.slices,
            vectors=vectors,
            config=config,
        )
    report = EvaluationReport(
        run=describe_run(run),
        data=DataFacts(
            name=rows.source,
            sha256=rows.sha256,
            rows=config.rows,
            own=rows.own,
            loaded=rows.loaded,
            evaluated=len(rows.items),
            explanation=rows.explanation,
            warning=rows.warning,
            texts_cut=share_cut_by(decider.classifier, rows.items),
        ),
        intervals=IntervalSettings(level=LEVEL, resamples=config.resamples, seed=config.seed),
        tags=list(run.tags),
        overall=overall,
        per_class=per_class,
        slices=slices,
        empty_slices=[one.name for one in rows.slices if one.name not in slices],
        confusion=confusion_matrix(true, predictions.predicted, len(run.tags)).tolist(),
        calibration=CorrectedCalibration(
            **dict(describe_calibration(probabilities, true, run.tags)),
            before=describe_calibration(decisions.raw, true, run.tags),
        ),
        decision=describe_decisions(probabilities, decisions.tags, true, run.tags, decider.rule),
        behaviour=None if suite is None else check_behaviour(decider, suite),
        weak_slices=weak_slices,
        errors=errors,
        map=points,
        latency=latency,
        comparison=comparison,
        environment=describe_environment(),
        evaluated_on=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Evaluation(run, report, predictions, decisions.raw, folder)


def choose_folder(run: RunFolder, rows: EvaluationRows, config: EvaluateConfig) -> Path:
    """Return the folder that the report goes to, after trying whether files can be made in it.

    The run folder itself keeps the report on the run's own test rows: one on rows that the run has
    trained on must not take that place.

    Raises:
        UserError: when not, or when `out` is a run folder, whose report is about other rows.
    """
    if config.out is not None:
        folder = expand_home(config.out)
        if (folder / "meta.json").exists():
            raise UserError(
                f"out={config.out} is a run folder, which keeps the report on its own test rows",
                hint="Give another folder, or leave it out.",
            )
    elif rows.own and config.rows == "unseen":
        folder = run.path
    else:
        folder = run.path / (f"on-{rows.source}" + ("-all" if config.rows == "all" else ""))
    try:
        check_writable(folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to: {error.strerror or error}",
            hint="Give a folder for the report: out=FOLDER",
        ) from None
    return folder


def choose_suite(run: RunFolder, config: EvaluateConfig) -> Suite | None:
    """Read the behaviour cases; None where they are not asked for, or do not fit the run's tags.

    Raises:
        UserError: for cases that cannot be read, or asked for outright though they do not fit.
    """
    if config.behaviour == "off":
        return None
    suite = load_suite(resolve_path(config.behaviour_cases))
    unknown = suite.unknown_tags(run.tags)
    if unknown and config.behaviour == "on":
        raise UserError(
            f"{suite.path} is about other tags than the run:",
            [f"of the cases alone: {list_tags(unknown)}", f"of the run: {list_tags(run.tags)}"],
            "Write cases for your tags, and give the file: behaviour_cases=FILE",
        )
    return None if unknown else suite


def open_decider(run: RunFolder, config: EvaluateConfig, device: str = "cpu") -> Decider:
    """Load a run's classifier with the rule that it was made with, or with one fitted anew.

    Raises:
        UserError: for a model or a rule that cannot be used, or when there is nothing to fit to.
    """
    classifier = run.load_classifier(device)
    if config.decision is None:
        return load_decider(run.path, classifier)
    return refit_decider(run.path, classifier, config.decision)


def share_cut_by(classifier: Classifier, items: Sequence[Item]) -> float | None:
    """Return the share of texts that a model cuts; None for one that reads whole texts."""
    tokenizer = getattr(classifier, "tokenizer", None)
    return None if tokenizer is None else share_cut(tokenizer, [item.text for item in items])


def score_rows(
    predictions: LabelledPredictions, rows: EvaluationRows, config: EvaluateConfig
) -> tuple[OverallScores, dict[str, TagScores], dict[str, SliceScores]]:
    """Score all rows, each tag, and each slice that has rows, with intervals."""
    # Imported here: the `evaluate` library costs seconds that a mistake need not wait.
    from tagger.evaluation.metrics import TaggingScores

    metric = TaggingScores(predictions.tags)

    def score(chosen: BoolArray | slice) -> tuple[OverallScores, dict[str, TagScores]]:
        true, predicted = predictions.true[chosen], predictions.predicted[chosen]
        values = metric.compute(predictions=predicted, references=true)
        confusion = confusion_matrix(true, predicted, len(predictions.tags))
        return add_intervals(values, confusion, config.resamples, config.seed)

    slices = {
        one.name: SliceScores(description=one.description, **dict(score(mask)[0]))
        for one in rows.slices
        if (mask := slice_mask(one, rows.items)).any()
    }
    return *score(slice(None)), slices


def describe_run(run: RunFolder) -> RunFacts:
    """Return what the report says of a run."""
    facts = ("seed", "best_step", "steps", "train_seconds", "peak_memory_mib", "parameters")
    return RunFacts(
        name=run.name,
        path=str(run.path),
        model=run.model_name,
        trained_on=TrainedOn(**run.meta.data.model_dump(include={"name", "sha256", "rows"})),
        environment=TrainingEnvironment(
            **run.meta.environment.model_dump(exclude={"command"}, exclude_none=True)
        ),
        **run.meta.model_dump(include={*facts}),
    )
