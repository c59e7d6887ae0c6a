"""From a config to a finished run folder."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import differences, flatten, script_command
from tagger.config.paths import portable_path, portable_run, with_portable_paths
from tagger.config.saved import save_config
from tagger.config.schema import EnsembleConfig, RulesConfig, TrainConfig, TransformerConfig
from tagger.data.items import Item
from tagger.data.sources import data_sha256, load_extra, load_labelled, scan_unlabelled
from tagger.data.splits import Split, split_items, unseen_items
from tagger.environment import describe_environment, peak_memory_mib
from tagger.errors import UserError
from tagger.files import expand_home, only_process, resolve_path, sha256_of, write_json
from tagger.models.rules import RulesClassifier
from tagger.runs import (
    FINISHED,
    RUNNING,
    RunFolder,
    SplitRow,
    describe_place,
    find_run,
    open_run,
    resume_command,
    write_predictions,
    write_splits,
)
from tagger.threads import usable_threads
from tagger.training.calibration_rows import (
    FOLDS_FOLDER,
    calibration_rows,
    known_items,
    plan_folds,
    write_decision,
)
from tagger.training.combining import check_folds, check_unseen, seen_rows
from tagger.training.fitting import Fitted, Rows, Surroundings, fit_classifier
from tagger.training.loop import TrainingStopped
from tagger.training.teaching import check_teachers
from tagger.training.tracking import read_metrics

# These say how a run is started, not what it is.
START_KEYS = {"runs_dir", "name", "if_exists", "resume"}


def train(config: TrainConfig, say: Callable[[str], None] = print) -> Path:
    """Train as the config says, and return the finished run folder.

    Args:
        config: What to train, on what, how.
        say: Is told, once and on the main process, what has become of it.

    Raises:
        UserError: for data, encoders or folders that can't be used.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the run can be resumed.
    """
    if config.resume is not None:
        config, folder = _config_to_resume(config)
    else:
        folder = expand_home(config.runs_dir) / (config.name or _default_name(config))

    make_deterministic()
    # Autocast is ours (training.mixed_precision): weights stay fp32, and so does what is served.
    # Without cpu=True, processes on CPUs would not find each other.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")
    torch.set_num_threads(_threads(config, accelerator))
    # Each process makes up a name of its own; the main one's counts.
    folder = Path(broadcast_object_list([str(folder)])[0])
    precision = resolve_precision(config.training.mixed_precision, accelerator.device)

    labelled = load_labelled(config.data)
    items, tags = labelled.items, labelled.tags
    # What was found is written down, so that whoever uses the run reads other tables likewise.
    columns = config.data.model_copy(update={"columns": labelled.columns})
    config = config.model_copy(update={"data": columns})
    notes = [*labelled.notes]
    split = split_items(items, config.data.split, parts=labelled.parts)
    placed = len(split.train) + len(split.validation) + len(split.test)
    if labelled.parts is not None and config.data.split.per_tag is None and placed < len(items):
        notes.append(
            f"{len(items) - placed:,} rows that repeat rows of the test or validation part were "
            "left out of training"
        )
    if accelerator.is_main_process:
        for note in notes:
            say(f"note: {note}")
    extra = load_extra(config.data, tags)
    if extra:
        held_out = [items[index] for index in (*split.validation, *split.test)]
        unseen = unseen_items(extra, held_out, config.data.split.group)
        extra = [extra[index] for index in unseen]
    inner = plan_folds([items[index] for index in split.train], config)
    inputs, members = _examine_model(config, tags, items, split)

    alone = only_process(folder, "training") if accelerator.is_main_process else nullcontext()
    try:
        with alone:
            if accelerator.is_main_process:
                meta = _first_meta(config, tags, items, split, precision)
                meta |= describe_place(folder)
                meta["data"]["extra"] = {"rows": len(extra), "sha256": data_sha256(extra)}
                meta["data"]["notes"] = notes
                meta["inputs"] = inputs
                write_rows = partial(
                    write_splits, items=items, split=split, extra=extra, members=members
                )
                taken_up = config.if_exists == "resume" and (folder / "meta.json").exists()
                finished = _claim(folder, config, meta, write_rows)
            else:
                finished, taken_up = False, True
            if broadcast_object_list([finished])[0]:
                if accelerator.is_main_process:
                    say(f"{folder} is finished already, from this very config and data.")
                return folder
            with nullcontext() if taken_up else _kept_once_begun(folder):
                fitted = _train_in(
                    folder,
                    config,
                    tags=tags,
                    items=items,
                    split=split,
                    extra=extra,
                    inner=inner,
                    surroundings=Surroundings(accelerator, precision, folder),
                )
            if accelerator.is_main_process:
                say(_summary(folder, config, fitted))
    except TrainingStopped:
        accelerator.print(f"\nstopped; go on with: {resume_command(folder)}")
        raise KeyboardInterrupt from None
    return folder


def _train_in(
    folder: Path,
    config: TrainConfig,
    *,
    tags: list[str],
    items: list[Item],
    split: Split,
    extra: list[Item],
    inner: list[Split],
    surroundings: Surroundings,
) -> Fitted:
    rows = Rows(
        train=[items[index] for index in split.train],
        validation=[items[index] for index in split.validation],
        extra=extra,
        held_out=[items[index] for index in split.test],
    )
    fitted = fit_classifier(config, tags, rows, surroundings)
    judged, predictions = calibration_rows(
        config, tags, rows, inner, classifier=fitted.classifier, surroundings=surroundings
    )
    if not surroundings.accelerator.is_main_process:
        return fitted
    write_decision(
        folder, config, fitted.classifier, known=known_items(rows), items=judged, rows=predictions
    )
    model_folder = folder / "model"
    shutil.rmtree(model_folder, ignore_errors=True)
    fitted.classifier.save(model_folder)
    test = [items[index] for index in split.test]
    if test:
        probabilities = fitted.classifier.predict_proba(test)
        write_predictions(folder / "predictions.csv", [i.id for i in test], tags, probabilities)
    files = sorted(path for path in model_folder.rglob("*") if path.is_file())
    meta = RunFolder(folder).meta
    meta |= {
        "status": FINISHED,
        "finished_on": _now(),
        "model_files": {
            path.relative_to(model_folder).as_posix(): sha256_of(path) for path in files
        },
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "best_validation": fitted.best_validation,
        "stopped_early": fitted.stopped_early,
        "train_seconds": round(fitted.seconds, 2),
        "peak_memory_mib": peak_memory_mib(),
        "parameters": fitted.parameters,
        "processes": surroundings.accelerator.num_processes,
    }
    write_json(folder / "meta.json", meta)
    for scratch in (folder / "checkpoints", folder / FOLDS_FOLDER, _replaced(folder)):
        shutil.rmtree(scratch, ignore_errors=True)
    return fitted


def _examine_model(
    config: TrainConfig, tags: list[str], items: list[Item], split: Split
) -> tuple[dict[str, str], list[SplitRow]]:
    """Look at what a model is made of beside its items, before anything is written.

    Returns:
        A digest of each file or run that it is made of or learns from, and the rows that such runs
        have seen.

    Raises:
        UserError: for what can't be used.
    """
    if isinstance(config.model, RulesConfig):
        path = resolve_path(config.model.rules)
        RulesClassifier.read(path, tags)
        return {portable_path(config.model.rules): sha256_of(path)}, []
    runs, files, role = [], [], "members of an ensemble"
    if isinstance(config.model, EnsembleConfig):
        runs = config.model.runs
        if config.decision.folds is not None:
            check_folds(config.model, config.runs_dir, data_sha256(items))
    if isinstance(config.model, TransformerConfig):
        files += config.model.vocabulary_from or []
    if config.distill is not None:
        files += config.distill.transfer
        if config.distill.teachers:
            runs, role = config.distill.teachers, "teachers"
            check_teachers(runs, config.runs_dir, tags)
    for name in files:
        scan_unlabelled(resolve_path(name))
    check_unseen(
        runs,
        config.runs_dir,
        role,
        test=[items[index].content_hash for index in split.test],
        validation=[items[index].content_hash for index in split.validation],
    )
    digests = {portable_path(name): sha256_of(resolve_path(name)) for name in files}
    for one in runs:
        meta = open_run(one, config.runs_dir).path / "meta.json"
        digests[portable_run(one, config.runs_dir)] = sha256_of(meta)
    return digests, seen_rows(runs, config.runs_dir)


def _config_to_resume(config: TrainConfig) -> tuple[TrainConfig, Path]:
    """Take the config of the run to resume; what is given beside it must be what it says.

    Raises:
        UserError: for other settings, or when the run's config or items cannot be read any more.
    """
    assert config.resume is not None
    folder = find_run(config.resume, config.runs_dir)
    run = RunFolder(folder)
    run.check_source()
    defaults, given, saved = (
        _settings(one)
        for one in (load_config(TrainConfig, compose_config("train", [])), config, run.config)
    )
    other = {key for key in given if key not in defaults or given[key] != defaults[key]}
    changed = differences(
        {key: saved[key] for key in other if key in saved}, {key: given[key] for key in other}
    )
    if changed:
        raise UserError(
            f"resume={config.resume} goes on with the config that the run was begun with; "
            "these can't be changed on the way:",
            changed,
            "Leave them out, or give the run's own values.",
        )
    return run.config.model_copy(update={"if_exists": "resume", "resume": None}), folder


def _claim(
    folder: Path,
    config: TrainConfig,
    meta: dict[str, Any],
    write_rows: Callable[[Path], None],
) -> bool:
    """Make the run folder, or take up the one that is there; True when it is finished already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if config.if_exists == "fail":
            raise UserError(
                f"{folder} exists already",
                hint="Choose another name=, or go on with it (if_exists=resume), or start over "
                "(if_exists=replace).",
            )
        if config.if_exists == "resume":
            return _take_up(folder, config, meta)
        RunFolder(folder)  # only what is a run folder may be replaced
    # Made beside and renamed, so that a kill leaves a whole run folder or none.
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    scratch.mkdir()
    try:
        save_config(config, scratch / "config.yaml")
        write_json(scratch / "meta.json", meta)
        write_rows(scratch / "splits.csv")
        if folder.exists():
            shutil.rmtree(_replaced(folder), ignore_errors=True)
            folder.rename(_replaced(folder))
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return False


@contextmanager
def _kept_once_begun(folder: Path) -> Iterator[None]:
    """Undo a start that fails, at an encoder that cannot be loaded for one, before any step.

    The run folder goes if it holds nothing to go on with, and a run that it was to replace is put
    back in its place.
    """
    try:
        yield
    except TrainingStopped:
        raise
    except BaseException:
        kept = ("checkpoints", FOLDS_FOLDER, "calibration.csv")
        begun = any((folder / name).exists() for name in kept)
        if not begun and not read_metrics(folder / "metrics.jsonl"):
            shutil.rmtree(folder, ignore_errors=True)
            if _replaced(folder).exists():
                _replaced(folder).rename(folder)
        raise
    finally:
        shutil.rmtree(_replaced(folder), ignore_errors=True)


def _replaced(folder: Path) -> Path:
    """Where a run waits while another one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def _take_up(folder: Path, config: TrainConfig, meta: dict[str, Any]) -> bool:
    run = RunFolder(folder)
    changed = differences(_settings(run.config), _settings(config))
    before = run.meta.get("data", {})
    if any(before.get(key) != meta["data"][key] for key in ("sha256", "extra")):
        changed.append("the items themselves changed since the run was begun")
    used = run.meta.get("inputs", {})
    changed += [
        f"{name} changed since the run was begun"
        for name, digest in meta["inputs"].items()
        if digest not in used.values()  # by content: the project may have been moved meanwhile
    ]
    if changed:
        raise UserError(
            f"{folder} was begun with other settings, so it can't go on with these:",
            changed,
            "Choose another name=, or start over with if_exists=replace.",
        )
    return run.finished


def _first_meta(
    config: TrainConfig, tags: list[str], items: list[Item], split: Split, precision: str
) -> dict[str, Any]:
    return {
        "status": RUNNING,
        "tags": tags,
        "seed": config.seed,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "data": {
            "name": config.data.name,
            "columns": config.data.columns,
            "sha256": data_sha256(items),
            "rows": {
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
            },
        },
        "begun_on": _now(),
        "environment": describe_environment().model_dump(),
    }


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Return what a config asks for by dotted key, the same from whatever folder it is given."""
    plain = with_portable_paths(config.model_dump())
    return flatten({key: value for key, value in plain.items() if key not in START_KEYS})


def _default_name(config: TrainConfig) -> str:
    now = datetime.now(UTC)
    return f"{config.model.name}-{config.data.name}-{now:%Y%m%d-%H%M%S-%f}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def make_deterministic() -> None:
    """Ask torch for algorithms that give the same numbers each time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # `use_deterministic_algorithms` does the same and imports torch's compiler, 1.5 s, on the way.
    torch.set_deterministic_debug_mode("warn")
    # Meant for finding reads of memory that was never written; it costs an eighth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _threads(config: TrainConfig, accelerator: Accelerator) -> int:
    """Share the cores out among this machine's processes."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    return config.training.threads or usable_threads(sharers=local)


def resolve_precision(wanted: str, device: torch.device) -> str:
    """Decide on bf16: it pays on GPUs that compute in it, and on CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported()
    else:
        supported = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    if wanted == "auto":
        return "bf16" if supported else "fp32"
    return wanted


def _summary(folder: Path, config: TrainConfig, fitted: Fitted) -> str:
    best = fitted.best_validation
    score = "" if best is None else f", best val/{config.training.metric} {best:.4f}"
    following = script_command("evaluate.py", run=folder)
    return f"trained in {fitted.seconds:.1f} s{score}\n{folder}\nnext: {following}"
