"""What teachers think of texts, and which texts a student is given.

A teacher has seen the labels of the rows that it was trained on, so its answer there is no opinion.
For these rows the run's own `calibration.csv` is taken instead: what models thought of them that
had not seen them (`decision.folds`). All else is asked once, and kept in the teacher's run folder
by the hash of its content. With several teachers, the mean of their opinions counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from tagger.config.schema import DistillConfig, Grouping, TrainConfig
from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled
from tagger.data.splits import unseen_items
from tagger.data.tags import list_tags
from tagger.errors import UserError
from tagger.files import resolve_path
from tagger.progress import progress_bar
from tagger.runs import (
    RunFolder,
    open_run,
    read_calibration,
    read_ids,
    read_predictions,
    write_predictions,
)
from tagger.scores import FloatArray
from tagger.training.copies import changed_copies

SAID = "said.csv"
"""What a run has said of texts that it was asked about as a teacher, by their content's hash."""

ASKED_AT_ONCE = 512


@dataclass(frozen=True)
class Lessons:
    """What a student is trained on.

    Attributes:
        items: Labelled ones first. The others bear the tag that the teachers think best, or,
            without teachers, the first one; it is for form's sake, and no loss looks at it.
        weights: What each counts.
        labelled: Whether each has a label of its own, (n,).
        soft: The teachers' probabilities, (n, n_tags), not numbers where they have no opinion;
            without teachers they are all alike.
    """

    items: list[Item]
    weights: list[float]
    labelled: Tensor
    soft: Tensor

    def of(self, indices: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return `labelled` (n,) and `soft` (n, n_tags) of some of the items, on a device."""
        return self.labelled[indices].to(device), self.soft[indices].to(device)


def prepare_lessons(
    config: TrainConfig,
    tags: Sequence[str],
    items: Sequence[Item],
    weights: Sequence[float],
    *,
    held_out: Sequence[Item],
    accelerator: Accelerator,
) -> Lessons:
    """Gather the texts that a student learns from, and what its teacher thinks of them.

    Args:
        config: Its `distill` says which.
        tags: The approved tags.
        items: Labelled training items.
        weights: What each of them counts.
        held_out: Items that the student will be judged on; texts like them are left out.
        accelerator: The main process asks the teacher, the others wait.

    Raises:
        UserError: for a teacher or files that can't be used.
    """
    distill = config.distill
    assert distill is not None
    others = transfer_items(distill, items, held_out, config.data.split.group, config.seed)
    everything = [*items, *others]
    labelled = torch.zeros(len(everything), dtype=torch.bool)
    labelled[: len(items)] = True
    probabilities = np.full((len(everything), len(tags)), 1 / len(tags))
    if distill.teachers:
        teachers = [open_run(name, config.runs_dir) for name in distill.teachers]
        if accelerator.is_main_process:
            for teacher in teachers:
                ask(teacher, everything)
        accelerator.wait_for_everyone()
        probabilities = mean_opinion([opinions(one, everything) for one in teachers])
        # A text that teachers were told the tag of, and nothing else is known of, teaches nothing.
        heard = labelled.numpy() | ~np.isnan(probabilities).any(axis=1)
        others = [item for item, one in zip(others, heard[len(items) :], strict=True) if one]
        labelled, probabilities = labelled[torch.from_numpy(heard)], probabilities[heard]
    best = np.nan_to_num(probabilities).argmax(axis=1)
    named = [
        replace(item, tag=tags[int(at)])
        for item, at in zip(others, best[len(items) :], strict=True)
    ]
    return Lessons(
        [*items, *named],
        [*weights, *[distill.transfer_weight] * len(others)],
        labelled,
        torch.from_numpy(probabilities).float(),
    )


def transfer_items(
    distill: DistillConfig,
    items: Sequence[Item],
    held_out: Sequence[Item],
    group: Grouping,
    seed: int,
) -> list[Item]:
    """Return the texts without labels: those of files, each once, and changed copies of all.

    Raises:
        UserError: for files that can't be read.
    """
    found: dict[str, Item] = {}
    known = {item.content_hash for item in items}
    for name in distill.transfer:
        path = resolve_path(name)
        found |= {item.content_hash: item for item in iter_unlabelled(path)}
    texts = [item for key, item in found.items() if key not in known]
    if distill.transfer_most is not None and distill.transfer_most < len(texts):
        drawn = np.random.default_rng(seed).choice(len(texts), distill.transfer_most, replace=False)
        texts = [texts[index] for index in sorted(drawn)]
    if held_out:
        texts = [texts[index] for index in unseen_items(texts, held_out, group)]
    return [*texts, *changed_copies([*items, *texts], distill.copies, distill.changes, seed)]


def ask(teacher: RunFolder, items: Sequence[Item]) -> None:
    """Let a teacher answer what it has not answered yet, and keep that beside its run."""
    known = _said(teacher) | _out_of_fold(teacher)
    missing = list(
        {key: item for item in items if (key := item.content_hash) not in known}.values()
    )
    if not missing:
        return
    classifier = teacher.load_classifier()
    said = []
    with progress_bar(len(missing), "teacher", "text") as bar:
        for start in range(0, len(missing), ASKED_AT_ONCE):
            said.append(classifier.predict_proba(missing[start : start + ASKED_AT_ONCE]))
            bar.update(len(said[-1]))
    # Only what it was asked: what it thought out of fold stands in calibration.csv.
    asked = dict(zip([item.content_hash for item in missing], np.concatenate(said), strict=True))
    # Again, if another student's process has put a file in its place that lacks ours.
    while not asked.keys() <= (kept := _said(teacher)).keys():
        kept |= asked
        write_predictions(
            teacher.path / SAID, list(kept), teacher.tags, np.array(list(kept.values()))
        )


def opinions(teacher: RunFolder, items: Sequence[Item]) -> FloatArray:
    """Return what a teacher that was asked thinks of items, (n_items, n_tags).

    Of a row that it was trained on without being asked out of fold (`data.extra`) it has no opinion
    of its own: not a number.
    """
    known = _out_of_fold(teacher)
    told = {row.content_hash for row in teacher.split_rows() if row.split in ("train", "extra")}
    nothing = np.full(len(teacher.tags), np.nan)
    known |= dict.fromkeys(told - known.keys(), nothing)
    known = _said(teacher) | known
    rows: FloatArray = np.array([known[item.content_hash] for item in items])
    rows /= rows.sum(axis=1, keepdims=True)
    return rows


def mean_opinion(said: Sequence[FloatArray]) -> FloatArray:
    """Return the mean of what those say that have an opinion, (n_items, n_tags); else NaN."""
    stacked = np.array(said)
    known = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        mean: FloatArray = np.where(known, stacked, 0).sum(axis=0) / known.sum(axis=0)
    return mean


def check_teachers(names: Sequence[str], runs_dir: str, tags: Sequence[str]) -> None:
    """Refuse a teacher of other tags, or one that has no opinion of its own training rows.

    Raises:
        UserError: saying why, and how to train one that has.
    """
    for name in names:
        teacher = open_run(name, runs_dir)
        if teacher.tags != tuple(tags):
            raise UserError(
                f"distill.teachers: {name} has other tags than the approved list:",
                [f"teacher: {list_tags(teacher.tags)}", f"approved: {list_tags(tags)}"],
            )
        if teacher.decision_config.folds is None:
            raise UserError(
                f"distill.teachers: {name} was trained without decision.folds, so what it says of "
                "the rows that it was trained on is what it was told, not what it thinks",
                hint="Train it again with decision.folds=5; an ensemble, from such runs.",
            )


def _said(teacher: RunFolder) -> dict[str, FloatArray]:
    path = teacher.path / SAID
    return read_predictions(path, teacher.tags) if path.exists() else {}


def _out_of_fold(teacher: RunFolder) -> dict[str, FloatArray]:
    """Return what models thought of training rows that had not seen them, by content hash."""
    path = teacher.path / "calibration.csv"
    probabilities, _, _ = read_calibration(path, teacher.tags)
    # A row of a further file may have the id of another one.
    hash_of = {row.id: row.content_hash for row in teacher.split_rows() if row.split != "extra"}
    return {
        hash_of[key]: row
        for key, row in zip(read_ids(path), probabilities, strict=True)
        if key in hash_of
    }
