"""Compresses a finished run into a new run folder, behind the parity gate."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tagger.compression.export import export_model
from tagger.compression.parity import (
    FEWEST,
    Answers,
    ParityFailed,
    broken_limits,
    describe_changes,
    describe_quality,
    flipped_table,
    worst_rows,
)
from tagger.compression.refit import compressed_calibration_rows
from tagger.compression.report import BeforeAfter, ParityReport, Quality
from tagger.config.saved import read_yaml, write_yaml
from tagger.config.schema import DecisionConfig, ExportConfig
from tagger.data.columns import TableFormat
from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled
from tagger.decision.change import asked_last
from tagger.decision.decider import fit_rule, load_rule, save_rule
from tagger.errors import UserError
from tagger.evaluation.predictions import predict
from tagger.evaluation.rows import own_items, rows_in, train_counts
from tagger.evaluation.slices import build_slices
from tagger.files import (
    csv_text,
    expand_home,
    folder_mib,
    only_process,
    write_text,
)
from tagger.models.base import read_settings
from tagger.models.registry import load_classifier
from tagger.models.samples import choose_samples, write_samples
from tagger.models.transformer import TransformerClassifier
from tagger.run_meta import Original, describe_training, hash_files
from tagger.runs import RunFolder, open_run, write_calibration, write_predictions

HINTS = {
    "ensemble": "Export one of its members, or train a student of it: distill.teachers=[RUN].",
    "onnx": "It is compressed already: export the run that it was made from.",
    "static": "It is compressed already: export the run that it was made from.",
}
"""What to do about a model that is not exported, by its approach."""


@dataclass(frozen=True)
class Export:
    """A compressed run: its folder, a title that names how it was made, and what the gate found."""

    folder: Path
    title: str
    parity: ParityReport


def export_run(config: ExportConfig) -> Export:
    """Compress a finished run into a new run folder, unless that changes too much.

    The folder has all that a run has: evaluation, decisions and comparisons work on it.

    Args:
        config: Which run, how, and what may change.

    Raises:
        UserError: for a run that can't be compressed, texts that are gone, or a name that is taken.
        ParityFailed: when more changed than `config.compress` allows; nothing is written then.
    """
    run = open_run(config.run, config.runs_dir)
    folder = expand_home(config.runs_dir) / (config.name or f"{run.name}-{config.compress.name}")
    with only_process(folder, "writing"):
        _check_place(folder, replace=config.replace)
        classifier, decision = _open_model(run)
        texts = [(run.data_config.name, own_items(run))]
        if config.rows is not None:
            path = expand_home(config.rows)
            texts.append((path.name, list(iter_unlabelled(path, TableFormat(known=run.columns)))))
            if not texts[-1][1]:
                raise UserError(f"--rows {path} has no rows to compare on")
        with _made_beside(folder) as scratch:
            parity = _fill(scratch, folder.name, run, classifier, decision, texts, config)
    title = f"{folder.name}: {run.name}, compressed to {config.compress.dtype}"
    return Export(folder, title, parity)


def _fill(  # noqa: PLR0917
    scratch: Path,
    name: str,
    run: RunFolder,
    classifier: TransformerClassifier,
    decision: DecisionConfig,
    texts: Sequence[tuple[str, list[Item]]],
    config: ExportConfig,
) -> ParityReport:
    """Write all files of the new run, `meta.json` last; return what the gate found."""
    tags, model = run.tags, scratch / "model"
    export_model(classifier, config.compress, model)
    compressed = load_classifier(model)

    predicted = [(predict(classifier, one), predict(compressed, one)) for _, one in texts]
    (_, items), (before, after) = texts[0], predicted[0]
    judged, rows = compressed_calibration_rows(run, items, before, after)
    old_rule, rule = load_rule(run.path, len(tags)), fit_rule(decision, rows)
    everything = [
        Answers(source, own, old_rule.apply(old, None), rule.apply(new, None))
        for (source, own), (old, new) in zip(texts, predicted, strict=True)
    ]

    test = rows_in(run, items, {"test"})
    if test.any():
        ids = [items[index].id for index in np.flatnonzero(test)]
        corrected = rule.calibrator.apply(after[test])
        write_predictions(scratch / "predictions.csv", ids, tags, after[test], corrected)
    write_calibration(scratch / "calibration.csv", judged, tags, rows.probabilities, None)
    save_rule(scratch, decision, rule, rows)
    samples = choose_samples(items, config.compress.samples)
    write_samples(model, [items[index] for index in samples], after[samples])

    changes = [describe_changes(answers) for answers in everything]
    quality = _judge(everything[0], run)
    mib = folder_mib(model)
    broken = broken_limits(changes, quality, mib, config.compress)
    worst = worst_rows(everything, tags)
    if broken and config.gate:
        raise ParityFailed(
            f"{run.name} is not exported: compress={config.compress.name} changes more than it "
            "may, so nothing was written:",
            [*broken, *worst],
            "Compress less (compress=fp16), allow more (compress.KEY=VALUE), or write it all the "
            "same with --no-gate.",
        )
    parity = ParityReport(
        gate="passed" if config.gate else "skipped",
        broken=broken,
        texts=changes,
        labelled=quality,
        size_mib=BeforeAfter(before=folder_mib(run.path / "model"), after=mib),
        worst=worst,
    )
    parity.write(scratch / "parity.json")
    write_text(scratch / "flipped.csv", csv_text(flipped_table(everything, tags)))

    shutil.copyfile(run.path / "splits.csv", scratch / "splits.csv")
    # As it stands, so that a run of an older version can be exported, and paths stay as recorded.
    write_yaml(read_yaml(run.path / "config.yaml") | {"name": name}, scratch / "config.yaml")
    # How it was trained stays true.
    meta = run.meta.model_copy(
        update={
            "finished_on": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": describe_training(),
            "model_files": hash_files(model),
            "compressed_from": Original(name=run.name, model_files=run.meta.model_files),
            "compress": config.compress.model_dump(),
            "gate": parity.gate,
            "size_mib": mib,
        }
    )
    meta.write(scratch / "meta.json")
    return parity


def _judge(labelled: Answers, run: RunFolder) -> Quality:
    """Score both models on the rows that the run was not trained on, or on all if these are few."""
    unseen = rows_in(run, labelled.items, {"validation", "test"})
    count = int(unseen.sum())
    explanation = f"the {count} rows of {labelled.name} that the run was not trained on"
    if count >= FEWEST:
        labelled = labelled.take(unseen)
    else:
        explanation = (
            f"all {len(labelled.items)} rows of {labelled.name}, as only {count} of them were not "
            "trained on"
        )
    slices = build_slices(labelled.items, train_counts(run))
    return describe_quality(labelled, run.tags, slices, explanation)


def _open_model(run: RunFolder) -> tuple[TransformerClassifier, DecisionConfig]:
    """Load the model of a run that can be compressed, and what was last asked of its decision."""
    classifier = run.load_classifier()
    if not isinstance(classifier, TransformerClassifier):
        approach = str(read_settings(run.path / "model")["approach"])
        raise UserError(
            f"{run.path} can't be exported: its model is of approach {approach}, expected "
            "transformer",
            hint=HINTS.get(approach, f"A model of approach {approach} is small and fast as it is."),
        )
    decision = asked_last(run)
    if decision.ood != "none":
        raise UserError(
            f"{run.path} can't be exported: it asks a person about items unlike those trained on "
            f"(decision.ood={decision.ood}), for which a compressed model has no vectors",
            hint="Train it with decision.ood=none.",
        )
    return classifier, decision


def _check_place(folder: Path, *, replace: bool) -> None:
    """Refuse a name that is taken, unless by an earlier export that may go."""
    if not folder.exists():
        return
    if not replace:
        raise UserError(
            f"{folder} exists already",
            hint="Choose another --name, or put the new one in its place: --replace",
        )
    if RunFolder(folder).meta.compressed_from is None:
        raise UserError(
            f"{folder} was trained, not exported: it is not replaced",
            hint="Choose another --name.",
        )


@contextmanager
def _made_beside(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to that takes its place once it is whole.

    Its name is always the same, so that what a killed attempt left is cleared away by the next.
    """
    scratch, retired = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
        shutil.rmtree(retired, ignore_errors=True)
        if folder.exists():
            folder.rename(retired)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(retired, ignore_errors=True)
