"""The one training loop.

Every random choice of a step follows from the run's seed and the step's place, so a run that is
killed and resumed takes the very steps that it would have taken.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tagger.config.schema import TrainingConfig
from tagger.data.items import Item
from tagger.models.transformer import TransformerClassifier
from tagger.progress import progress_bar
from tagger.scores import confusion_matrix, scores_from_confusion
from tagger.training.averaging import WeightAverage
from tagger.training.batching import drop_tokens, length_bucketed_batches, share_of_batch
from tagger.training.checkpoint import (
    Progress,
    load_checkpoint,
    restore_weights,
    save_checkpoint,
    trainable_weights,
)
from tagger.training.distillation import Distillation
from tagger.training.losses import build_loss, class_weights
from tagger.training.noise import disturb
from tagger.training.objectives import Objective
from tagger.training.optimizer import build_optimizer, schedule_factor, set_learning_rates
from tagger.training.probe import start_from_probe
from tagger.training.teaching import Lessons
from tagger.training.tracking import Metrics, Tracker

VALIDATION_METRICS = ("macro_f1", "weighted_f1", "accuracy")


class TrainingStopped(Exception):
    """Ctrl-C or SIGTERM arrived; the checkpoint has been written."""


@dataclass(frozen=True)
class Examples:
    """Tokenized items: token ids of each, and the position of its tag."""

    items: Sequence[Item]
    token_ids: list[list[int]]
    targets: Tensor

    @classmethod
    def build(cls, classifier: TransformerClassifier, items: Sequence[Item]) -> "Examples":
        """Tokenize labelled items once, for all epochs."""
        positions = {tag: position for position, tag in enumerate(classifier.tags)}
        targets = torch.tensor([positions[item.tag or ""] for item in items], dtype=torch.long)
        return cls(items, classifier.tokenize(items), targets)


def fit(
    classifier: TransformerClassifier,
    train_items: Sequence[Item],
    validation_items: Sequence[Item],
    *,
    item_weights: Sequence[float],
    config: TrainingConfig,
    seed: int,
    accelerator: Accelerator,
    precision: str,
    folder: Path,
    open_tracker: Callable[[int], Tracker],
    distillation: Distillation | None = None,
    lessons: Lessons | None = None,
) -> Progress:
    """Train a classifier in place; it ends with its best weights by the validation metric.

    Without validation items it ends with its last ones. The weights in question are the moving
    average, where the config asks for one. If `folder/checkpoints` holds a
    checkpoint, training goes on from there.

    Args:
        classifier: The model, on the accelerator's device when this returns.
        train_items: Labelled items.
        validation_items: Labelled items that pick the best epoch; may be empty.
        item_weights: What each training item counts in the loss, beside its tag's weight.
        config: The recipe.
        seed: Decides the order of batches and the dropout of every step.
        accelerator: Devices and processes.
        precision: `fp32`, or `bf16` to compute forward passes under autocast. Weights stay fp32.
        folder: The run folder.
        open_tracker: Given the step that training starts from, returns the tracker; called on the
            main process only.
        distillation: What is learnt beside the labels.
        lessons: With a distillation: the training items in their order, some of them without a
            label, and what the teacher thinks of each.

    Returns:
        How far training went.

    Raises:
        TrainingStopped: after Ctrl-C or SIGTERM, once the checkpoint is on disk.
    """
    module = classifier.module.to(accelerator.device)
    optimizer = build_optimizer(classifier.module, config)
    checkpoints = folder / "checkpoints"
    autocast = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=precision == "bf16")
    progress = load_checkpoint(checkpoints, module, optimizer, accelerator.device)
    # Its own tag is what a probe is fitted to, so it takes items that have one.
    n_labelled = len(train_items) if lessons is None else int(lessons.labelled.sum())
    labelled, their_weights = train_items[:n_labelled], item_weights[:n_labelled]
    if config.head_init == "probe" and progress.step == 0:
        with autocast:
            start_from_probe(classifier, labelled, their_weights, config.probe_C)
    steps_per_epoch = math.ceil(len(train_items) / config.batch_size)
    total_steps = steps_per_epoch * config.epochs
    first = None if config.average_from is None else int(config.average_from * total_steps)
    average = WeightAverage(module, config.ema_decay, first, progress.average_weights)
    progress.average_weights = average.weights
    # Not the optimizer: accelerate's wrapper would skip steps by its own count of accumulation.
    model = accelerator.prepare_model(module)

    examples = Examples.build(classifier, train_items)
    validation = Examples.build(classifier, validation_items)
    lengths = [len(row) for row in examples.token_ids]
    counts = torch.bincount(examples.targets[:n_labelled], minlength=len(classifier.tags))
    weights = class_weights(config.class_weights, counts)[examples.targets]
    weights[n_labelled:] = 1.0  # a text without a label has no tag to be weighed by
    weights *= torch.tensor(item_weights)
    loss_function = build_loss(config)
    objective = Objective(config, loss_function, module.encoder, distillation)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    main = accelerator.is_main_process
    tracker = open_tracker(progress.step) if main else None
    bar = progress_bar(total_steps, "train", "step", progress.step, main)
    started = time.monotonic() - progress.seconds
    last_checkpoint = time.monotonic()

    def refit_head() -> None:
        if config.refit_head:
            start_from_probe(classifier, labelled, their_weights, config.probe_C)

    def save() -> None:
        progress.seconds = time.monotonic() - started
        if main:
            save_checkpoint(checkpoints, module, optimizer, progress)

    with _stop_requests() as stop_requested, bar:
        model.train()
        while progress.epoch < config.epochs and not progress.stopped_early:
            batches = length_bucketed_batches(lengths, config.batch_size, seed, progress.epoch)
            for batch in batches[progress.batch :]:
                if stop_requested():
                    save()
                    raise TrainingStopped
                if time.monotonic() - last_checkpoint >= config.checkpoint_seconds:
                    save()
                    last_checkpoint = time.monotonic()

                factor = schedule_factor(config.schedule, progress.step, total_steps, config.warmup)
                set_learning_rates(optimizer, factor)
                shares = share_of_batch(
                    batch,
                    accelerator.process_index,
                    accelerator.num_processes,
                    config.accumulation_steps,
                )
                divisor = weights[batch].sum()
                loss = torch.zeros((), device=accelerator.device)
                for part, (indices, counts_in) in enumerate(shares):
                    place = (progress.step, part, accelerator.process_index)
                    random = _seed_step(seed, *place)
                    rows = [examples.token_ids[index] for index in indices]
                    if config.field_dropout or config.typos:
                        rows = classifier.tokenize(
                            [disturb(train_items[index], config, random) for index in indices]
                        )
                    if config.token_dropout:
                        rows = [drop_tokens(row, config.token_dropout, random) for row in rows]
                    ids, mask = classifier.pad(rows)
                    targets = examples.targets[indices].to(accelerator.device)
                    row_weights = weights[indices].to(accelerator.device) * counts_in
                    lesson = None if lessons is None else lessons.of(indices, accelerator.device)
                    last = part == len(shares) - 1
                    with nullcontext() if last else accelerator.no_sync(model):
                        with autocast:
                            losses = objective(model, ids, mask, targets, random, lesson=lesson)
                        share = (losses * row_weights).sum() / divisor
                        # Gradients are averaged over processes; the loss is a sum over them.
                        (share * accelerator.num_processes).backward()
                    loss += share.detach()
                norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                average.update(progress.step)

                step_loss = float(accelerator.reduce(loss, "sum"))
                progress.step += 1
                progress.batch += 1
                progress.epoch_loss += step_loss
                bar.update()
                shown = _postfix(step_loss, config.metric, progress.best_metric)
                bar.set_postfix_str(shown, refresh=False)
                if tracker is not None:
                    tracker.log(
                        {
                            "step": progress.step,
                            "epoch": round(progress.step / steps_per_epoch, 4),
                            "train/loss": step_loss,
                            "train/lr": config.lr * factor,
                            "train/grad_norm": float(norm),
                        }
                    )

            epoch_loss = progress.epoch_loss / steps_per_epoch
            progress.epoch, progress.batch, progress.epoch_loss = progress.epoch + 1, 0, 0.0
            if validation_items:
                with average.applied():
                    trained = trainable_weights(module) if config.refit_head else {}
                    refit_head()
                    with autocast:
                        metrics = validate(classifier, validation, loss_function)
                    _keep_best(progress, metrics, config, module)
                    restore_weights(module, trained)
                if tracker is not None:
                    line: Metrics = {"step": progress.step, "epoch": progress.epoch}
                    line["train/epoch_loss"] = epoch_loss
                    tracker.log(line | {f"val/{name}": value for name, value in metrics.items()})
                shown = _postfix(epoch_loss, config.metric, progress.best_metric)
                bar.set_postfix_str(shown, refresh=False)

    progress.seconds = time.monotonic() - started
    restore_weights(module, progress.best_weights or average.weights)
    if not progress.best_weights:
        refit_head()
    if tracker is not None:
        tracker.close()
    module.eval()
    return progress


def validate(
    classifier: TransformerClassifier, examples: Examples, loss_function: nn.Module
) -> dict[str, float]:
    """Score the classifier on labelled items.

    Every process does the same computation on the same weights, so all agree on when to stop.
    """
    probabilities = classifier.predict_proba(examples.items)
    targets = examples.targets.numpy()
    confusion = confusion_matrix(targets, probabilities.argmax(1), len(classifier.tags))
    scores = scores_from_confusion(confusion)
    losses = loss_function(torch.from_numpy(np.log(probabilities + 1e-12)), examples.targets)
    return {"loss": float(losses.mean())} | {
        name: float(scores[name]) for name in VALIDATION_METRICS
    }


def _keep_best(
    progress: Progress, metrics: dict[str, float], config: TrainingConfig, module: nn.Module
) -> None:
    value = -metrics["loss"] if config.metric == "loss" else metrics[config.metric]
    # Equal is better too: at a plateau of a small validation set the later weights saw more data.
    if progress.best_metric is None or value >= progress.best_metric:
        progress.best_metric, progress.best_step, progress.bad_epochs = value, progress.step, 0
        progress.best_weights = trainable_weights(module)
    else:
        progress.bad_epochs += 1
    progress.stopped_early = config.patience is not None and progress.bad_epochs >= config.patience


def _seed_step(seed: int, step: int, part: int, process: int) -> np.random.Generator:
    """Seed torch for one part of one step, and return a generator; nothing before it matters."""
    sequence = np.random.SeedSequence([seed, step, part, process])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(sequence)


def _postfix(loss: float, metric: str, best: float | None) -> str:
    shown = "" if best is None else f", best val/{metric} {abs(best):.4f}"
    return f"loss {loss:.4f}{shown}"


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request that is met between two steps.

    Half a step can't be saved. A second signal ends the program at once.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
