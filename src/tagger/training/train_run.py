"""From a config to a finished run folder."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from tagger.config import TrainConfig, compose_config, load_config, save_config
from tagger.data.items import Item
from tagger.data.sources import data_sha256, load_items
from tagger.data.splits import Split, split_items
from tagger.data.tags import load_tags
from tagger.environment import available_cores, describe_environment, peak_memory_mib
from tagger.errors import UserError
from tagger.files import resolve_path, sha256_of, write_json
from tagger.models.transformer import TransformerClassifier
from tagger.runs import FINISHED, RUNNING, RunFolder, find_run, write_predictions, write_splits
from tagger.training.doubtful_labels import settle_doubtful_labels, write_doubtful
from tagger.training.loop import TrainingStopped, fit
from tagger.training.tracking import Tracker

# These say how a run is started, not what it is.
START_KEYS = {"runs_dir", "name", "if_exists", "resume"}


def train(config: TrainConfig) -> Path:
    """Train as the config says, and return the finished run folder.

    Raises:
        UserError: for data, encoders or folders that can't be used.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the run can be resumed.
    """
    if config.resume is not None:
        config, folder = _config_to_resume(config)
    else:
        folder = Path(config.runs_dir) / (config.name or _default_name(config))

    _make_deterministic()
    # Autocast is ours (training.precision): weights stay fp32, and so does what is served.
    # Without cpu=True, processes on CPUs would not find each other.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")
    torch.set_num_threads(_threads(config, accelerator))
    # Each process makes up a name of its own; the main one's counts.
    folder = Path(broadcast_object_list([str(folder)])[0])
    precision = _resolve_precision(config.training.precision, accelerator.device)

    tags = [tag.name for tag in load_tags(resolve_path(config.data.tags))]
    items = load_items(config.data, tags)
    split = split_items(items, config.data.split)

    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    if accelerator.is_main_process:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"another process is training {folder}") from None
    try:
        if accelerator.is_main_process:
            meta = _first_meta(config, tags, items, split, precision)
            finished = _claim(folder, config, meta, items, split)
        else:
            finished = False
        if broadcast_object_list([finished])[0]:
            accelerator.print(f"{folder} is finished already, from this very config and data.")
            return folder
        _train_in(
            folder,
            config,
            tags=tags,
            items=items,
            split=split,
            precision=precision,
            accelerator=accelerator,
        )
    except TrainingStopped:
        accelerator.print(f"\nstopped; go on with: python train.py resume={folder}")
        raise KeyboardInterrupt from None
    finally:
        if lock.is_locked:
            # Unlinked while it is held: afterwards the file might be another process's lock.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
    return folder


def _train_in(
    folder: Path,
    config: TrainConfig,
    *,
    tags: list[str],
    items: list[Item],
    split: Split,
    precision: str,
    accelerator: Accelerator,
) -> None:
    torch.manual_seed(config.seed)
    classifier = TransformerClassifier.build(config.model, tags)
    action = config.training.doubtful_labels
    rows = settle_doubtful_labels(classifier, [items[index] for index in split.train], action)
    if rows.doubtful and accelerator.is_main_process:
        write_doubtful(folder / "doubtful.csv", rows, action)
    progress = fit(
        classifier,
        rows.items,
        [items[index] for index in split.validation],
        item_weights=rows.weights,
        config=config.training,
        seed=config.seed,
        accelerator=accelerator,
        precision=precision,
        folder=folder,
        open_tracker=lambda step: Tracker(folder, config.tracking, config.model_dump(), step),
    )
    if not accelerator.is_main_process:
        return
    model_folder = folder / "model"
    shutil.rmtree(model_folder, ignore_errors=True)
    classifier.save(model_folder)
    test = [items[index] for index in split.test]
    if test:
        probabilities = classifier.predict_proba(test)
        write_predictions(folder / "predictions.csv", [i.id for i in test], tags, probabilities)
    # A loss was turned around, so that larger was better.
    best = None if progress.best_metric is None else abs(progress.best_metric)
    meta = RunFolder(folder).meta
    meta |= {
        "status": FINISHED,
        "finished_on": _now(),
        "model_files": {p.name: sha256_of(p) for p in sorted(model_folder.iterdir())},
        "steps": progress.step,
        "best_step": progress.best_step if split.validation else progress.step,
        "best_validation": best,
        "stopped_early": progress.stopped_early,
        "train_seconds": round(progress.seconds, 2),
        "peak_memory_mib": peak_memory_mib(),
        "parameters": sum(p.numel() for p in classifier.module.parameters()),
        "processes": accelerator.num_processes,
    }
    write_json(folder / "meta.json", meta)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    print(_summary(folder, config, best, progress.seconds))


def _config_to_resume(config: TrainConfig) -> tuple[TrainConfig, Path]:
    """Take the config of the run to resume; other settings given beside it are refused."""
    assert config.resume is not None
    folder = find_run(config.resume, config.runs_dir)
    defaults = load_config(TrainConfig, compose_config("train", []))
    changed = _differences(config, defaults, ignored=START_KEYS)
    if changed:
        raise UserError(
            f"resume={config.resume} goes on with the config that the run was begun with; "
            "these can't be changed on the way:",
            changed,
        )
    saved = RunFolder(folder).config
    return saved.model_copy(update={"if_exists": "resume", "resume": None}), folder


def _claim(
    folder: Path, config: TrainConfig, meta: dict[str, Any], items: list[Item], split: Split
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
        shutil.rmtree(folder)
    # Made beside and renamed, so that a kill leaves a whole run folder or none.
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    scratch.mkdir()
    try:
        save_config(config, scratch / "config.yaml")
        write_json(scratch / "meta.json", meta)
        write_splits(scratch / "splits.csv", items, split)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return False


def _take_up(folder: Path, config: TrainConfig, meta: dict[str, Any]) -> bool:
    run = RunFolder(folder)
    changed = _differences(run.config, config, ignored=START_KEYS)
    if run.meta.get("data", {}).get("sha256") != meta["data"]["sha256"]:
        changed.append("the items themselves changed since the run was begun")
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
            "sha256": data_sha256(items),
            "rows": {
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
            },
        },
        "begun_on": _now(),
        "environment": describe_environment(),
    }


def _differences(one: TrainConfig, other: TrainConfig, ignored: set[str]) -> list[str]:
    before, after = _flat(one.model_dump(exclude=ignored)), _flat(other.model_dump(exclude=ignored))
    return [
        f"{key}: {before.get(key)!r} and {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _default_name(config: TrainConfig) -> str:
    now = datetime.now(UTC)
    return f"{config.model.name}-{config.data.name}-{now:%Y%m%d-%H%M%S-%f}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make_deterministic() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # `use_deterministic_algorithms` does the same and imports torch's compiler, 1.5 s, on the way.
    torch.set_deterministic_debug_mode("warn")
    # Meant for finding reads of memory that was never written; it costs an eighth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _threads(config: TrainConfig, accelerator: Accelerator) -> int:
    """Share the cores out among this machine's processes, whatever OMP_NUM_THREADS says."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    return config.training.threads or max(1, available_cores() // local)


def _resolve_precision(wanted: str, device: torch.device) -> str:
    """Decide on bf16: it pays on GPUs that compute in it, and on CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported()
    else:
        supported = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    if wanted == "auto":
        return "bf16" if supported else "fp32"
    return wanted


def _summary(folder: Path, config: TrainConfig, best: float | None, seconds: float) -> str:
    score = "" if best is None else f", best val/{config.training.metric} {best:.4f}"
    return f"trained in {seconds:.1f} s{score}\n{folder}\nnext: python evaluate.py run={folder}"
