"""From a finished run to its report."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tagger.config import EvaluateConfig
from tagger.data.tags import list_tags, tag_positions
from tagger.decision.calibrators import calibrator_to_json
from tagger.decision.decider import Decider, load_decider, refit_decider
from tagger.decision.policies import policy_to_json
from tagger.environment import describe_environment
from tagger.errors import UserError
from tagger.evaluation.against import compare_runs, pair_rows
from tagger.evaluation.behaviour import Suite, check_behaviour, load_suite
from tagger.evaluation.calibration import describe_calibration
from tagger.evaluation.explore import embed_rows, explore
from tagger.evaluation.intervals import LEVEL, measure
from tagger.evaluation.latency import cores_limited, measure_within_budget
from tagger.evaluation.predicting import decide
from tagger.evaluation.results import Results
from tagger.evaluation.rows import Rows, load_rows
from tagger.evaluation.selective import describe_decisions
from tagger.evaluation.slices import slice_mask
from tagger.files import check_writable, expand_home, resolve_path
from tagger.runs import RunFolder, open_run, write_predictions
from tagger.scores import (
    OVERALL,
    PER_CLASS,
    IntArray,
    compute_scores,
    confusion_matrix,
)


def evaluate_run(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate a finished run: predictions, scores, report and plots.

    The files go into the folder that the config names. Without one they go into the run folder
    when the rows are its own test rows, else into a subfolder `on-<source>` (`on-<source>-all` for
    rows=all) of it.

    Args:
        config: What to evaluate, on what, how.

    Returns:
        The content of `report.json`.

    Raises:
        UserError: for a run, data or a folder that cannot be used, or when no row is left.
    """
    run = open_run(config.run, config.runs_dir)
    rows = load_rows(run, config)
    folder = choose_folder(run, rows, config.out)
    # Paired before any work is done: a mistake should not cost the wait for predictions.
    pairing = None if config.against is None else pair_rows(run, rows.items, config)

    suite = choose_suite(run, config)
    decider = open_decider(run, config)
    decisions = decide(decider, rows.items)
    probabilities = decisions.probabilities
    true = tag_positions(rows.items, run.tags)
    results = Results(rows.items, true, probabilities, run.tags)
    vectors = embed_rows(rows.items, run.tags) if config.explore == "on" else None
    # Loaded again, because some engines count the cores when they load a model, and keep to that.
    with cores_limited(config.latency.threads):
        timed = open_decider(run, config)
    latency = measure_within_budget(timed, rows.items, config.latency, config.latency_budget_ms)
    del timed  # memory

    report = {
        "run": _describe_run(run),
        "data": {
            "name": rows.source,
            "sha256": rows.sha256,
            "rows": rows.policy,
            "own": rows.own,
            "loaded": rows.loaded,
            "evaluated": len(rows.items),
            "explanation": rows.explanation,
            "warning": rows.warning,
        },
        "intervals": {"level": LEVEL, "resamples": config.resamples, "seed": config.seed},
        "tags": list(run.tags),
        **score_rows(rows, true, results.predicted, run.tags, config),
        "calibration": describe_calibration(probabilities, true, run.tags)
        | {"before": describe_calibration(decisions.raw, true, run.tags)},
        "decision": {
            "policy": policy_to_json(decider.rule.policy),
            "calibrator": calibrator_to_json(decider.rule.calibrator),
            "novelty_limit": decider.rule.novelty_limit,
            **describe_decisions(probabilities, decisions.tags, true, run.tags),
        },
        "behaviour": None if suite is None else check_behaviour(decider, suite),
        **explore(run, results, rows.slices, vectors, config.seed),
        "latency": latency,
        "comparison": None
        if pairing is None
        else compare_runs(
            pairing,
            results,
            decisions.raw,
            slices=rows.slices,
            vectors=vectors,
            config=config,
        ),
        "environment": describe_environment().model_dump(),
        "evaluated_on": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Imported here: matplotlib, scikit-learn and jinja2 cost a second that a mistake need not wait.
    from tagger.evaluation.report import print_report, write_report

    write_predictions(
        folder / "predictions.csv", [item.id for item in rows.items], run.tags, decisions.raw
    )
    written = write_report(report, folder, probabilities, true, run.path / "metrics.jsonl")
    if folder == run.path:
        _attach_to_tracker(run, report, folder)
    print_report(report, written)
    return report


def choose_folder(run: RunFolder, rows: Rows, out: str | None) -> Path:
    """Return the folder that the report goes to, after trying whether files can be made in it.

    Raises:
        UserError: when not, or when `out` is a run folder, whose report is about other rows.
    """
    if out is None:
        folder = run.path / rows.folder_name if rows.folder_name else run.path
    else:
        folder = expand_home(out)
        if (folder / "meta.json").exists():
            raise UserError(
                f"out={out} is a run folder, which keeps the report on its own test rows",
                hint="Give another folder, or leave it out.",
            )
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


def open_decider(run: RunFolder, config: EvaluateConfig) -> Decider:
    """Load a run's classifier with the rule that it was made with, or with one fitted anew.

    Raises:
        UserError: for a model or a rule that cannot be used, or when there is nothing to fit to.
    """
    classifier = run.load_classifier()
    if config.decision is None:
        return load_decider(run.path, classifier)
    return refit_decider(run.path, classifier, config.decision)


def score_rows(
    rows: Rows, true: IntArray, predicted: IntArray, tags: Sequence[str], config: EvaluateConfig
) -> dict[str, Any]:
    """Score all rows, each tag and each slice, with intervals.

    Returns:
        Ready for JSON: `overall`, `per_class`, `slices`, each block with `num_samples`; the names
        of `empty_slices`; and the `confusion` matrix.
    """
    confusion = confusion_matrix(true, predicted, len(tags))
    overall, per_class = measure(confusion, tags, config.resamples, config.seed)
    check_against_library(true, predicted, tags)
    slices: dict[str, dict[str, Any]] = {}
    empty = []
    for one in rows.slices:
        mask = slice_mask(one, rows.items)
        if not mask.any():
            empty.append(one.name)
            continue
        counts = confusion_matrix(true[mask], predicted[mask], len(tags))
        block, _ = measure(counts, tags, config.resamples, config.seed)
        slices[one.name] = {"description": one.description, **block}
    return {
        "overall": overall,
        "per_class": per_class,
        "slices": slices,
        "empty_slices": empty,
        "confusion": confusion.tolist(),
    }


def check_against_library(true: IntArray, predicted: IntArray, tags: Sequence[str]) -> None:
    """Refuse to report a number that `evaluate` with scikit-learn does not confirm.

    Raises:
        RuntimeError: if the two computations differ, which would be a defect of ours.
    """
    from tagger.evaluation.metrics import build_metrics

    ours = compute_scores(true, predicted, tags)
    theirs = {
        name: metric.compute(predictions=predicted, references=true)
        for name, metric in build_metrics(tags).items()
    }
    overall = theirs["accuracy"] | theirs["averaged"]
    pairs = [(name, ours.overall[name], overall[name]) for name in OVERALL]
    pairs += [
        (f"{name} of {tag}", ours.per_class[tag][name], theirs["per_class"][tag][name])
        for tag in tags
        for name in (*PER_CLASS, "support")
    ]
    different = [f"{name}: {one}, {two}" for name, one, two in pairs if abs(one - two) > 1e-9]
    if different:
        raise RuntimeError("scores differ from scikit-learn's: " + "; ".join(different))


def _describe_run(run: RunFolder) -> dict[str, Any]:
    facts = ("seed", "best_step", "steps", "train_seconds", "peak_memory_mib", "parameters")
    environment = run.meta.get("environment", {})
    return {
        "name": run.name,
        "path": str(run.path),
        "model": run.model_name,
        "trained_on": run.meta["data"],
        **{fact: run.meta.get(fact) for fact in facts},
        "environment": {key: environment.get(key) for key in ("git", "versions", "hardware")},
    }


def _attach_to_tracker(run: RunFolder, report: dict[str, Any], folder: Path) -> None:
    tracking = run.tracking_config
    if tracking.kind == "none":
        return
    from tagger.training.tracking import attach_report

    scores = {f"test/{name}": report["overall"][name]["value"] for name in OVERALL}
    attach_report(run.path, tracking, folder / "report.html", scores)
