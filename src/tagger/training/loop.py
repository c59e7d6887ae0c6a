"""The training loop of fine-tuned models, as a recipe: setup, train, cleanup.

Every random choice of a step follows from the run's seed and the step's place, so a run that is
killed and resumed takes the very steps that it would have taken.
"""

import math
import operator
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import reduce
from types import FrameType

import numpy as np
import torch
from torch import Tensor, nn

from tagger.config.schema import TrainConfig
from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.models.transformer import TransformerClassifier
from tagger.progress import progress_bar
from tagger.scores import confusion_matrix, scores_from_confusion
from tagger.training.augmentation import drop_tokens, misspell_item
from tagger.training.averaging import WeightAverage
from tagger.training.batching import length_bucketed_batches, share_of_batch
from tagger.training.checkpoint import (
    Progress,
    load_checkpoint,
    restore_weights,
    save_checkpoint,
    trainable_weights,
)
from tagger.training.inputs import DistillationSet, TrainingContext, TrainingSet
from tagger.training.losses import class_weights
from tagger.training.objectives import Batch, Objective
from tagger.training.optimizer import build_optimizer, schedule_factor
from tagger.training.probe import start_from_probe
from tagger.training.profiling import profile_steps
from tagger.training.tracking import Metrics, Tracker

VALIDATION_METRICS = ("macro_f1", "weighted_f1", "accuracy")


class TrainingStopped(Exception):
    """Ctrl-C or SIGTERM arrived; the checkpoint has been written."""


class FinetuningRecipe:
    """Fine-tunes a classifier in place; it ends with its best weights by the validation metric.

    Without validation items it ends with its last ones. The weights in question are the moving
    average, where the config asks for one. If the folder of the run holds a checkpoint, training
    goes on from there. Weights stay fp32 whatever the precision.

    Args:
        config: Of the run; its `training` is the recipe's.
        context: Devices, precision, and the folder for curves and checkpoints.
        classifier: The model; training moves it to the device.
        train_set: What to train on.
        validation: Labelled items that pick the best epoch; may be empty.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: TrainingContext,
        classifier: TransformerClassifier,
        *,
        train_set: TrainingSet,
        validation: Sequence[Item],
    ) -> None:
        self.run_config, self.config = config, config.training
        self.accelerator, self.device = context.accelerator, context.accelerator.device
        self.folder = context.folder
        self.classifier, self.train_set = classifier, train_set
        self.validation = validation
        self.autocast = context.autocast()

    def setup(self) -> None:
        """Restore the newest checkpoint, then prepare model, objective, data and tracker."""
        config, classifier, items = self.config, self.classifier, self.train_set.items
        self.module = classifier.module.to(self.device)
        self.optimizer = build_optimizer(self.module, config)
        self.progress = load_checkpoint(
            self.folder / "checkpoints", self.module, self.optimizer, self.device
        )
        self.n_labelled = len(items)
        if isinstance(self.train_set, DistillationSet):
            self.n_labelled = int(self.train_set.labelled.sum())
        if config.head_init == "probe" and self.progress.step == 0:
            with self.autocast:
                self._fit_head()
        self.average = WeightAverage(self.module, config.ema_decay, self.progress.average_weights)
        self.progress.average_weights = self.average.weights
        # Not the optimizer: accelerate's wrapper would skip steps by its own count of accumulation.
        self.model = self.accelerator.prepare_model(self.module)
        self.objective = Objective(config, self.module.encoder, self.run_config.distill)
        self.token_ids = classifier.tokenize(items)
        self.targets = torch.from_numpy(tag_positions(items, classifier.tags))
        self.weights = self._item_weights()
        self.steps_per_epoch = math.ceil(len(items) / config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.tracker: Tracker | None = None
        if self.accelerator.is_main_process:
            run_config = self.run_config.model_dump()
            tracking = self.run_config.tracking
            self.tracker = Tracker(self.folder, tracking, run_config, self.progress.step)

    def train(self) -> None:
        """Take all steps that are left, validating after each epoch.

        Raises:
            TrainingStopped: after Ctrl-C or SIGTERM, once the checkpoint is on disk.
        """
        config, progress = self.config, self.progress
        lengths = [len(row) for row in self.token_ids]
        main = self.accelerator.is_main_process
        self.bar = progress_bar(self.total_steps, "train", "step", progress.step, main)
        self.started = time.monotonic() - progress.seconds
        last_checkpoint = time.monotonic()
        tracked = nullcontext() if self.tracker is None else closing(self.tracker)
        profiled = profile_steps(config.profile_steps if main else 0, self.folder)
        with _stop_requests() as stop_requested, self.bar, tracked, profiled as step_done:
            self.model.train()
            while progress.epoch < config.epochs and not progress.stopped_early:
                seed, epoch = self.run_config.seed, progress.epoch
                batches = length_bucketed_batches(lengths, config.batch_size, seed, epoch)
                for batch in batches[progress.batch :]:
                    if stop_requested():
                        self._save_checkpoint()
                        raise TrainingStopped
                    if time.monotonic() - last_checkpoint >= config.checkpoint_seconds:
                        self._save_checkpoint()
                        last_checkpoint = time.monotonic()
                    self._take_step(batch)
                    step_done()
                self._finish_epoch()

    def cleanup(self) -> Progress:
        """Put the best weights in place, and return how far training went."""
        self.progress.seconds = time.monotonic() - self.started
        restore_weights(self.module, self.progress.best_weights or self.average.weights)
        if not self.progress.best_weights and self.config.refit_head:
            self._fit_head()
        self.module.eval()
        return self.progress

    def _take_step(self, batch: list[int]) -> None:
        """Compute the gradient of a batch, update the weights, and log every term of the loss."""
        config, progress, accelerator = self.config, self.progress, self.accelerator
        factor = schedule_factor(config.schedule, progress.step, self.total_steps, config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]
        process, processes = accelerator.process_index, accelerator.num_processes
        shares = share_of_batch(batch, process, processes, config.accumulation_steps)
        divisor = self.weights[batch].sum()
        sums: dict[str, Tensor] = {}
        for part, (indices, counts_in) in enumerate(shares):
            inputs = self._load_batch(indices, part)
            weights = self.weights[indices].to(self.device) * counts_in
            last = part == len(shares) - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                with self.autocast:
                    terms = self.objective(self.model, inputs)
                total = reduce(operator.add, terms.values())
                loss = (total * weights).sum() / divisor
                # Gradients are averaged over processes; the loss is a sum over them.
                (loss * processes).backward()
            means = {name: (one.detach() * weights).sum() / divisor for name, one in terms.items()}
            for name, value in {"loss": loss.detach(), **means}.items():
                sums[name] = sums[name] + value if name in sums else value
        norm = nn.utils.clip_grad_norm_(
            [one for one in self.module.parameters() if one.requires_grad], config.max_grad_norm
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()

        values: list[float] = accelerator.reduce(torch.stack(list(sums.values())), "sum").tolist()
        progress.step += 1
        progress.batch += 1
        progress.epoch_loss += values[0]
        self.bar.update()
        self._show(values[0])
        line: Metrics = {"epoch": round(progress.step / self.steps_per_epoch, 4)}
        line |= {f"train/{name}": value for name, value in zip(sums, values, strict=True)}
        self._log(line | {"train/lr": config.lr * factor, "train/grad_norm": float(norm)})

    def _load_batch(self, indices: list[int], part: int) -> Batch:
        """Augment and pad some training items, with the random state of their place in the run."""
        config = self.config
        random = _seed_step(
            self.run_config.seed, self.progress.step, part, self.accelerator.process_index
        )
        rows = [self.token_ids[index] for index in indices]
        if config.typos:
            items = [self.train_set.items[index] for index in indices]
            rows = self.classifier.tokenize(
                [misspell_item(item, config.typos, random) for item in items]
            )
        if config.token_dropout:
            rows = [drop_tokens(row, config.token_dropout, random) for row in rows]
        ids, mask = self.classifier.pad(rows)
        targets = self.targets[indices].to(self.device)
        if not isinstance(self.train_set, DistillationSet):
            return Batch(ids, mask, targets)
        train_set = self.train_set
        vectors = train_set.source_vectors
        return Batch(
            ids,
            mask,
            targets,
            train_set.labelled[indices].to(self.device),
            train_set.teacher_predictions[indices].to(self.device),
            None if vectors is None else vectors[indices].to(self.device),
        )

    def _finish_epoch(self) -> None:
        """Validate, and keep the weights if they are the best so far."""
        progress = self.progress
        epoch_loss = progress.epoch_loss / self.steps_per_epoch
        progress.epoch, progress.batch, progress.epoch_loss = progress.epoch + 1, 0, 0.0
        if not self.validation:
            return
        with self.average.applied():
            trained = trainable_weights(self.module) if self.config.refit_head else {}
            if self.config.refit_head:
                self._fit_head()
            with self.autocast:
                metrics = self._validate()
            self._keep_best(metrics)
            restore_weights(self.module, trained)
        line: Metrics = {"epoch": progress.epoch, "train/epoch_loss": epoch_loss}
        self._log(line | {f"val/{name}": value for name, value in metrics.items()})
        self._show(epoch_loss)

    def _validate(self) -> dict[str, float]:
        """Score the classifier on the validation items.

        Every process does the same computation on the same weights, so all agree on when to stop.
        """
        tags = self.classifier.tags
        probabilities = self.classifier.predict_proba(self.validation)
        true = tag_positions(self.validation, tags)
        scores = scores_from_confusion(confusion_matrix(true, probabilities.argmax(1), len(tags)))
        logits = torch.from_numpy(np.log(probabilities + 1e-12))
        losses = self.objective.class_loss(logits, torch.from_numpy(true))
        return {"loss": float(losses.mean())} | {
            name: float(scores[name]) for name in VALIDATION_METRICS
        }

    def _keep_best(self, metrics: dict[str, float]) -> None:
        config, progress = self.config, self.progress
        value = -metrics["loss"] if config.metric == "loss" else metrics[config.metric]
        # Equal is better too: at a plateau of a small validation set later weights saw more data.
        if progress.best_metric is None or value >= progress.best_metric:
            progress.best_metric, progress.best_step, progress.bad_epochs = value, progress.step, 0
            progress.best_weights = trainable_weights(self.module)
        else:
            progress.bad_epochs += 1
        patience = config.patience
        progress.stopped_early = patience is not None and progress.bad_epochs >= patience

    def _fit_head(self) -> None:
        """Fit the head as a linear probe to the labelled items."""
        items = self.train_set.items[: self.n_labelled]
        weights = self.train_set.weights[: self.n_labelled]
        start_from_probe(self.classifier, items, weights, self.config.probe_C)

    def _item_weights(self) -> Tensor:
        """Return what each training item counts in the loss: its own weight times its tag's."""
        n_tags, labelled = len(self.classifier.tags), self.n_labelled
        counts = torch.bincount(self.targets[:labelled], minlength=n_tags)
        weights = class_weights(self.config.class_weights, counts)[self.targets]
        weights[labelled:] = 1.0  # a text without a label has no tag to be weighed by
        return weights * torch.tensor(self.train_set.weights)

    def _save_checkpoint(self) -> None:
        self.progress.seconds = time.monotonic() - self.started
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder / "checkpoints", self.module, self.optimizer, self.progress)

    def _log(self, line: Metrics) -> None:
        if self.tracker is not None:
            self.tracker.log({"step": self.progress.step, **line})

    def _show(self, loss: float) -> None:
        best, metric = self.progress.best_metric, self.config.metric
        shown = "" if best is None else f", best val/{metric} {abs(best):.4f}"
        self.bar.set_postfix_str(f"loss {loss:.4f}{shown}", refresh=False)


def _seed_step(seed: int, step: int, part: int, process: int) -> np.random.Generator:
    """Seed torch for one part of one step, and return a generator; nothing before it matters."""
    sequence = np.random.SeedSequence([seed, step, part, process])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(sequence)


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request that is met between two steps.

    Half a step can't be saved. A second signal ends the program at once. Only the main thread may
    ask for signals: training in another one is ended by them as any work is.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
