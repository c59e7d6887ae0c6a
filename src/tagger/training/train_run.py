"""Trains from a config to a finished run folder."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from accelerate.utils import broadcast_object_list, gather_object

from tagger.config.overrides import script_command
from tagger.config.paths import portable_path, portable_run
from tagger.config.schema import (
    EncoderConfig,
    EnsembleConfig,
    RulesConfig,
    TrainConfig,
    TransformerConfig,
)
from tagger.data.sources import data_sha256, load_extra, load_labelled, scan_unlabelled
from tagger.data.splits import Split, split_items, unseen_items
from tagger.decision.decider import write_decision
from tagger.errors import UserError
from tagger.files import only_process, resolve_path, sha256_of
from tagger.models.embedding import VectorCache
from tagger.models.encoders import as_declared
from tagger.models.rules import RulesClassifier
from tagger.models.samples import choose_samples, write_samples
from tagger.models.tokenization import share_cut
from tagger.models.transformer import TransformerClassifier
from tagger.oof.crossfit import plan_folds
from tagger.oof.recorded import check_folds, check_teachers
from tagger.runs import RunFolder, SplitRow, open_run, resume_command, write_predictions
from tagger.training.calibration_set import make_calibration_set
from tagger.training.devices import build_accelerator, overridden_precision, resolve_precision
from tagger.training.ensembles import check_unseen, seen_rows
from tagger.training.fitting import Fitted, fit_classifier
from tagger.training.inputs import RunItems, TrainingContext, TrainingData
from tagger.training.lifecycle import (
    claim,
    finish,
    first_meta,
    start_or_resume,
    undone_if_it_fails,
)
from tagger.training.loop import TrainingStopped


def train(
    config: TrainConfig,
    say: Callable[[str], None] = print,
    vectors: VectorCache | None = None,
) -> Path:
    """Train as the config says, and return the finished run folder.

    Args:
        config: What to train, on what, how.
        say: Is told, once and on the main process, what has become of it.
        vectors: Shared with other trainings of this process; None: the run has its own.

    Raises:
        UserError: for data, encoders or folders that can't be used.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the run can be resumed.
    """
    config, folder = start_or_resume(config)
    accelerator = build_accelerator(config.training.threads)
    main = accelerator.is_main_process
    # Each process makes up a name of its own; the main one's counts.
    folder = Path(broadcast_object_list([str(folder)])[0])
    precision = resolve_precision(config.training.mixed_precision, accelerator.device)
    notes = overridden_precision(precision)
    if isinstance(config.model, EncoderConfig):
        model, declared = as_declared(config.model)
        config, notes = config.model_copy(update={"model": model}), [*notes, *declared]
    source = _load_source(config)
    for note in (*notes, *source.notes) if main else ():
        say(f"note: {note}")
    folds = plan_folds(source.part(source.split.train), source.config)
    inputs, seen = _examine_inputs(source)
    try:
        with only_process(folder, "training") if main else nullcontext():
            finished, taken_up = False, True
            if main:
                meta = first_meta(folder, source, inputs, precision)
                taken_up = config.if_exists == "resume" and (folder / "meta.json").exists()
                finished = claim(folder, source, meta, seen)
            if broadcast_object_list([finished])[0]:
                if main:
                    say(f"{folder} is finished already, from this very config and data.")
                return folder
            with nullcontext() if taken_up else undone_if_it_fails(folder):
                _check_shared(folder)
                shared = VectorCache() if vectors is None else vectors
                context = TrainingContext(accelerator, precision, folder, shared)
                fitted = _train_in(context, source, folds)
            if main:
                say(_summary(folder, config, fitted))
    except TrainingStopped:
        if main:
            say(f"\nstopped; go on with: {resume_command(folder)}")
        raise KeyboardInterrupt from None
    return folder


def _check_shared(folder: Path) -> None:
    """Refuse to train on machines that do not share the run folder, which all processes read."""
    if not all(gather_object([folder.is_dir()])):
        raise UserError(
            f"{folder} is not there on every machine, and the processes of a training share it",
            hint="Give a runs_dir that all machines have (docs/multi-node.md).",
        )


def _load_source(config: TrainConfig) -> RunItems:
    """Read and divide the items of a run's source."""
    labelled = load_labelled(config.data)
    items, notes = labelled.items, [*labelled.notes]
    split = split_items(items, config.data.split, parts=labelled.parts)
    placed = len(split.train) + len(split.validation) + len(split.test)
    if labelled.parts is not None and config.data.split.per_tag is None and placed < len(items):
        notes.append(
            f"{len(items) - placed:,} rows that repeat rows of the test or validation part were "
            "left out of training"
        )
    extra = load_extra(config.data, labelled.tags)
    if extra:
        held_out = [items[index] for index in (*split.validation, *split.test)]
        unseen = unseen_items(extra, held_out, config.data.split.group)
        extra = [extra[index] for index in unseen]
    # What was found is written down, so that whoever uses the run reads other tables likewise.
    data = config.data.model_copy(update={"columns": labelled.columns})
    config = config.model_copy(update={"data": data})
    return RunItems(config, items, labelled.tags, split, extra, notes)


def _train_in(context: TrainingContext, source: RunItems, folds: list[Split]) -> Fitted:
    """Train, fit the decision, predict the test rows, and write it all into the run folder."""
    config, tags, folder = source.config, source.tags, context.folder
    test = source.part(source.split.test)
    data = TrainingData(
        train=source.part(source.split.train),
        validation=source.part(source.split.validation),
        extra=source.extra,
        held_out=test,
    )
    fitted = fit_classifier(config, tags, data, context)
    classifier = fitted.classifier
    items, rows = make_calibration_set(
        config, tags, data, folds, classifier=classifier, context=context
    )
    if not context.accelerator.is_main_process:
        return fitted
    known = data.trained_on
    decision = config.decision
    rule = write_decision(folder, decision, classifier, known=known, items=items, rows=rows)
    shutil.rmtree(folder / "model", ignore_errors=True)
    classifier.save(folder / "model")
    samples = [source.items[at] for at in choose_samples(source.items)]
    write_samples(folder / "model", samples, classifier.predict_proba(samples))
    if test:
        raw = classifier.predict_proba(test)
        corrected = rule.calibrator.apply(raw)
        write_predictions(folder / "predictions.csv", [i.id for i in test], tags, raw, corrected)
    cut = None
    if isinstance(classifier, TransformerClassifier):
        cut = share_cut(classifier.tokenizer, [item.text for item in (*known, *data.validation)])
    finish(folder, fitted, context.accelerator.num_processes, cut)
    return fitted


def _examine_inputs(source: RunItems) -> tuple[dict[str, str], list[SplitRow]]:
    """Check the files and runs that a model is made of beside its items.

    Returns:
        A digest of each such file or run, and the rows that such runs have seen.

    Raises:
        UserError: for what can't be used.
    """
    config, runs_dir = source.config, source.config.runs_dir
    if isinstance(config.model, RulesConfig):
        path = resolve_path(config.model.rules)
        RulesClassifier.read(path, source.tags)
        return {portable_path(config.model.rules): sha256_of(path)}, []
    runs, files, role = [], [], "members of an ensemble"
    if isinstance(config.model, EnsembleConfig):
        runs = config.model.runs
        if config.decision.folds is not None:
            check_folds(config.model, runs_dir, data_sha256(source.items))
    if isinstance(config.model, TransformerConfig):
        files += config.model.vocabulary_from or []
    if config.distill is not None:
        files += config.distill.transfer
        if config.distill.teachers:
            runs, role = config.distill.teachers, "teachers"
            others = bool(config.distill.transfer) or config.distill.parts
            check_teachers(runs, runs_dir, source.tags, others=others)
    for name in files:
        scan_unlabelled(resolve_path(name))
    check_unseen(
        runs,
        runs_dir,
        role,
        test=[item.content_hash for item in source.part(source.split.test)],
        validation=[item.content_hash for item in source.part(source.split.validation)],
    )
    digests = {portable_path(name): sha256_of(resolve_path(name)) for name in files}
    for one in runs:
        meta = open_run(one, runs_dir).path / "meta.json"
        digests[portable_run(one, runs_dir)] = sha256_of(meta)
    return digests, seen_rows(runs, runs_dir)


def _summary(folder: Path, config: TrainConfig, fitted: Fitted) -> str:
    best = fitted.best_validation
    score = "" if best is None else f", best val/{config.training.metric} {best:.4f}"
    cut = RunFolder(folder).meta.texts_cut
    told = ""
    if cut:
        told = f"{cut:.1%} of the texts have more tokens than model.max_length, and were cut\n"
    following = script_command("evaluate.py", run=folder)
    return f"trained in {fitted.seconds:.1f} s{score}\n{told}{folder}\nnext: {following}"
