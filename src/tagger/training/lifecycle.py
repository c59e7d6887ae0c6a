"""The life of a run folder: start or resume, claim, undo a failed start, finish."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch

from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import differences, flatten
from tagger.config.paths import with_portable_paths
from tagger.config.saved import START_KEYS, save_config
from tagger.config.schema import TrainConfig
from tagger.data.sources import data_sha256
from tagger.environment import peak_memory_mib
from tagger.errors import UserError
from tagger.files import expand_home
from tagger.oof.crossfit import FOLDS_FOLDER
from tagger.run_meta import (
    FINISHED,
    RUNNING,
    ExtraData,
    RunData,
    RunMeta,
    describe_training,
    hash_files,
)
from tagger.runs import RunFolder, SplitRow, describe_place, find_run, write_splits
from tagger.training.fitting import Fitted
from tagger.training.inputs import RunItems
from tagger.training.loop import TrainingStopped
from tagger.training.tracking import read_metrics


def start_or_resume(config: TrainConfig) -> tuple[TrainConfig, Path]:
    """Return the config and the folder of the run to begin, or of the one that `resume` names.

    Raises:
        UserError: for other settings than those of the run to resume, or when its config or items
            cannot be read any more.
    """
    if config.resume is None:
        now = datetime.now(UTC)
        name = config.name or f"{config.model.name}-{config.data.name}-{now:%Y%m%d-%H%M%S-%f}"
        return config, expand_home(config.runs_dir) / name
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


def claim(folder: Path, source: RunItems, meta: RunMeta, seen: Sequence[SplitRow]) -> bool:
    """Make the run folder, or take up the one that is there, as `if_exists` says.

    Returns:
        Whether the run is finished already.

    Raises:
        UserError: for a folder that may not be used so.
    """
    config = source.config
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if config.if_exists == "fail":
            raise UserError(
                f"{folder} exists already",
                hint="Choose another name=, or go on with it (if_exists=resume), or start over "
                "(if_exists=replace).",
            )
        run = RunFolder(folder)  # only what is a run folder may be replaced
        if config.if_exists == "resume":
            _check_same(run, config, meta)
            return run.finished
    # Made beside and renamed, so that a kill leaves a whole run folder or none.
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    scratch.mkdir()
    try:
        save_config(config, scratch / "config.yaml")
        meta.write(scratch / "meta.json")
        write_splits(scratch / "splits.csv", source.items, source.split, source.extra, seen)
        if folder.exists():
            shutil.rmtree(_replaced(folder), ignore_errors=True)
            folder.rename(_replaced(folder))
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return False


@contextmanager
def undone_if_it_fails(folder: Path) -> Iterator[None]:
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


def first_meta(folder: Path, source: RunItems, inputs: dict[str, str], precision: str) -> RunMeta:
    """Return the content of `meta.json` of a run that begins."""
    config, split = source.config, source.split
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return RunMeta(
        status=RUNNING,
        tags=source.tags,
        seed=config.seed,
        mixed_precision=precision,
        threads=torch.get_num_threads(),
        data=RunData(
            name=config.data.name,
            columns=config.data.columns,
            sha256=data_sha256(source.items),
            rows={part: len(rows) for part, rows in parts.items()},
            extra=ExtraData(rows=len(source.extra), sha256=data_sha256(source.extra)),
            notes=source.notes,
        ),
        inputs=inputs,
        begun_on=_now(),
        environment=describe_training(),
        made_in=describe_place(folder),
    )


def finish(folder: Path, fitted: Fitted, processes: int) -> None:
    """Mark a run as finished, once its model is saved, and remove what only training needed."""
    facts = {
        "status": FINISHED,
        "finished_on": _now(),
        "model_files": hash_files(folder / "model"),
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "best_validation": fitted.best_validation,
        "stopped_early": fitted.stopped_early,
        "train_seconds": round(fitted.seconds, 2),
        "peak_memory_mib": peak_memory_mib(),
        "parameters": fitted.parameters,
        "processes": processes,
    }
    RunFolder(folder).meta.model_copy(update=facts).write(folder / "meta.json")
    for scratch in (folder / "checkpoints", folder / FOLDS_FOLDER, _replaced(folder)):
        shutil.rmtree(scratch, ignore_errors=True)


def _check_same(run: RunFolder, config: TrainConfig, meta: RunMeta) -> None:
    """Refuse to go on with a run that was begun with other settings, items or files."""
    changed = differences(_settings(run.config), _settings(config))
    before = run.meta.data
    if (before.sha256, before.extra) != (meta.data.sha256, meta.data.extra):
        changed.append("the items themselves changed since the run was begun")
    changed += [
        f"{name} changed since the run was begun"
        for name, digest in meta.inputs.items()
        # By content, since the project may have been moved meanwhile.
        if digest not in run.meta.inputs.values()
    ]
    if changed:
        raise UserError(
            f"{run.path} was begun with other settings, so it can't go on with these:",
            changed,
            "Choose another name=, or start over with if_exists=replace.",
        )


def _settings(config: TrainConfig) -> Mapping[str, object]:
    """Return what a config asks for by dotted key, the same from whatever folder it is given."""
    plain = with_portable_paths(config.model_dump())
    return flatten({key: value for key, value in plain.items() if key not in START_KEYS})


def _replaced(folder: Path) -> Path:
    """Return where a run waits while another one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
