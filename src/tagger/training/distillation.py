"""Builds what a student learns from: texts with or without labels, and the teachers' predictions.

With several teachers, the mean of their predictions counts.
"""

from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tagger.config.schema import DistillConfig, Grouping, TrainConfig, TransformerConfig
from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled
from tagger.data.splits import unseen_items
from tagger.files import resolve_path
from tagger.models.transformer import TransformerClassifier
from tagger.oof.recorded import predict_as_teacher, teacher_predictions
from tagger.runs import open_run
from tagger.training.inputs import DistillationSet, TrainingContext, TrainingSet


def build_distillation_set(
    config: TrainConfig,
    tags: Sequence[str],
    labelled: TrainingSet,
    *,
    held_out: Sequence[Item],
    context: TrainingContext,
) -> DistillationSet:
    """Add the texts without labels to the labelled items, and predict all with the teachers.

    Texts like the items that are held out for judging the student are left out. The main process
    predicts, the others wait.

    Raises:
        UserError: for a teacher or files that can't be used.
    """
    distill, accelerator = config.distill, context.accelerator
    assert distill is not None
    n_labelled = len(labelled.items)
    others = transfer_items(distill, labelled.items, held_out, config.data.split.group, config.seed)
    everything = [*labelled.items, *others]
    has_label = np.arange(len(everything)) < n_labelled
    probabilities = np.full((len(everything), len(tags)), 1 / len(tags))
    if distill.teachers:
        teachers = [open_run(name, config.runs_dir) for name in distill.teachers]
        if accelerator.is_main_process:
            for teacher in teachers:
                predict_as_teacher(teacher, everything, context.vectors)
        accelerator.wait_for_everyone()
        predictions = np.array([teacher_predictions(one, everything) for one in teachers])
        known = ~np.isnan(predictions)
        with np.errstate(invalid="ignore"):  # NaN stays where no teacher predicts
            probabilities = np.where(known, predictions, 0).sum(axis=0) / known.sum(axis=0)
        # A text without a label whose tag the teachers were trained on teaches nothing.
        useful = has_label | ~np.isnan(probabilities).any(axis=1)
        others = [item for item, one in zip(others, useful[n_labelled:], strict=True) if one]
        has_label, probabilities = has_label[useful], probabilities[useful]
    best = np.nan_to_num(probabilities).argmax(axis=1)[n_labelled:]
    others = [replace(item, tag=tags[at]) for item, at in zip(others, best.tolist(), strict=True)]
    everything = [*labelled.items, *others]
    vectors = None
    if distill.vector_loss_weight:
        vectors = embed_by_source(config, tags, everything, context)
    return DistillationSet(
        everything,
        [*labelled.weights, *[distill.transfer_weight] * len(others)],
        torch.from_numpy(has_label),
        torch.from_numpy(probabilities).float(),
        vectors,
    )


def embed_by_source(
    config: TrainConfig, tags: Sequence[str], items: Sequence[Item], context: TrainingContext
) -> Tensor:
    """Embed each text once by the whole encoder that the student was cut out of, (n, width)."""
    assert isinstance(config.model, TransformerConfig)
    # A source that is drawn at random is the one that the student was cut out of.
    torch.manual_seed(config.seed)
    source = TransformerClassifier.build_frozen(config.model, tags)
    source.module.to(context.accelerator.device)
    vectors = context.vectors.embed(config.model, source, items)
    return torch.from_numpy(vectors).float()


def transfer_items(
    distill: DistillConfig,
    items: Sequence[Item],
    held_out: Sequence[Item],
    group: Grouping,
    seed: int,
) -> list[Item]:
    """Return the texts without labels, each once: those of files, and parts of labelled items.

    Raises:
        UserError: for files that can't be read.
    """
    found: dict[str, Item] = {}
    known = {item.content_hash for item in items}
    for name in distill.transfer:
        found |= {item.content_hash: item for item in iter_unlabelled(resolve_path(name))}
    texts = [item for key, item in found.items() if key not in known]
    if distill.transfer_most is not None and distill.transfer_most < len(texts):
        drawn = np.random.default_rng(seed).choice(len(texts), distill.transfer_most, replace=False)
        texts = [texts[index] for index in sorted(drawn)]
    if distill.parts:
        texts += parts_of(items, known | {item.content_hash for item in texts})
    if held_out:
        texts = [texts[index] for index in unseen_items(texts, held_out, group)]
    return texts


def parts_of(items: Sequence[Item], known: Container[str]) -> list[Item]:
    """Return title and description of each item that has both, as items of their own, each once.

    Bare titles are frequent in collections, and rare among labelled items; a teacher knows what is
    left of a tag without the rest.

    Args:
        items: Labelled items.
        known: Content hashes of texts that are learnt from anyway.
    """
    halves = [
        half
        for item in items
        if item.title and item.description
        for half in (Item(item.id, item.title, ""), Item(item.id, "", item.description))
    ]
    once = {half.content_hash: half for half in halves}
    return [half for key, half in once.items() if key not in known]
