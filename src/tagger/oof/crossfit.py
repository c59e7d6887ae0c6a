"""Cross-fitting: a model is trained once more without each fold, and predicts that fold."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from tagger.config.schema import EnsembleConfig, TrainConfig
from tagger.data.items import Item
from tagger.data.splits import Split, group_items, split_items
from tagger.errors import UserError
from tagger.runs import read_calibration, write_calibration
from tagger.scores import FloatArray

FOLDS_FOLDER = "folds"

# Takes a division and a folder for the files of its training. Trains on the division's `train` and
# returns, of its `test`, the probabilities (n, n_tags) and the OOD scores (n,), None without any.
FitAndPredict = Callable[[Split, Path], tuple[FloatArray, FloatArray | None]]


def plan_folds(train: Sequence[Item], config: TrainConfig) -> list[Split]:
    """Divide the training rows into the folds of `decision.folds`; there are none without it.

    Nor are there for an ensemble: nothing of it is trained.

    Raises:
        UserError: when a fold would leave a tag without a row to train on.
    """
    folds = config.decision.folds
    if folds is None or isinstance(config.model, EnsembleConfig):
        return []
    group_of = group_items(train, config.data.split.group)
    asked = {"validation": 0.0, "test": 0.0, "folds": folds, "per_tag": None}
    try:
        return [
            split_items(
                train, config.data.split.model_copy(update=asked | {"fold": fold}), group_of
            )
            for fold in range(folds)
        ]
    except UserError as error:
        raise UserError(
            f"decision.folds={folds}: the training rows can't be divided so: {error.summary}",
            error.problems,
            "Give fewer decision.folds, or fit the decision to validation rows "
            "(decision.folds=null).",
        ) from None


def cross_fit(
    items: Sequence[Item],
    tags: Sequence[str],
    folds: Sequence[Split],
    fit_and_predict: FitAndPredict,
    *,
    folder: Path,
    accelerator: Accelerator,
) -> tuple[list[Item], FloatArray, FloatArray | None]:
    """Predict every item by a model that was trained without its fold.

    The predictions of a fold are kept below `folder/folds/` until all are done, so a run that is
    killed goes on with the fold that was going on. The main process writes, the others wait.

    Returns:
        The items, fold by fold; their probabilities (n, n_tags); their OOD scores (n,) or None.
    """
    order: list[Item] = []
    probabilities: list[FloatArray] = []
    ood_scores: list[FloatArray] = []
    for number, fold in enumerate(folds):
        judged = [items[index] for index in fold.test]
        scratch = folder / FOLDS_FOLDER / str(number)
        done = scratch / "predictions.csv"
        # One process decides for all, or a late one would find the file of this very fold.
        if not broadcast_object_list([done.exists()])[0]:
            scratch.mkdir(parents=True, exist_ok=True)
            predicted, scores = fit_and_predict(fold, scratch)
            if accelerator.is_main_process:
                # Checkpoints and curves of the fold are of no use any more. The file comes last:
                # it says that the fold is done.
                shutil.rmtree(scratch, ignore_errors=True)
                write_calibration(done, judged, tags, predicted, scores)
            accelerator.wait_for_everyone()
        predicted, _, scores = read_calibration(done, tags)
        order += judged
        probabilities.append(predicted)
        ood_scores += [] if scores is None else [scores]
    return order, np.concatenate(probabilities), np.concatenate(ood_scores) if ood_scores else None
