"""Predicts the calibration rows of a compressed model, which its decision is fitted to."""

from collections.abc import Sequence

import numpy as np

from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.decision.calibrators import TINY
from tagger.decision.decider import CalibrationSet
from tagger.evaluation.rows import rows_in
from tagger.runs import RunFolder, read_calibration, read_ids
from tagger.scores import FloatArray, softmax


def compressed_calibration_rows(
    run: RunFolder, items: Sequence[Item], before: FloatArray, after: FloatArray
) -> tuple[list[Item], CalibrationSet]:
    """Predict a run's calibration rows as its compressed model would have.

    Validation rows were not trained on, so the compressed model's own predictions serve. Training
    rows were predicted out of fold by models that are gone, and the model that is left has been
    trained on them: its own predictions are too sure. There, what compression does to that model is
    carried over to what the others had said; see `carry_over`.

    Args:
        run: A finished run.
        items: All items of its source.
        before: What its model says of them, (n_items, n_tags).
        after: What the compressed model says of them, (n_items, n_tags).

    Returns:
        The rows' items, and their predictions; none where the run has none.

    Raises:
        UserError: when `calibration.csv` is missing or damaged.
    """
    path = run.path / "calibration.csv"
    kept, _, _ = read_calibration(path, run.tags)
    position = {item.id: index for index, item in enumerate(items)}
    ids = read_ids(path)
    places = np.array([position[one] for one in ids], dtype=np.int64)
    chosen = [items[place] for place in places]
    if rows_in(run, chosen, {"validation"}).all():
        probabilities = after[places]
        source = f"{len(ids)} validation rows, predicted by the compressed model"
    else:
        probabilities = carry_over(kept, before[places], after[places])
        source = f"{len(ids)} training rows, out of fold, with what compression changed"
    true = tag_positions(chosen, run.tags)
    row_sources = [item.source for item in chosen]
    return chosen, CalibrationSet(probabilities, true, None, source, row_sources)


def carry_over(out_of_fold: FloatArray, before: FloatArray, after: FloatArray) -> FloatArray:
    """Apply to some predictions what compression does to others of the same texts.

    The change of the log-probabilities is added, and rows are made to sum to 1 again. This is exact
    where compression shifts logits by as much in the model of a fold as in the final one, which is
    the same network trained on nearly the same rows.

    Args:
        out_of_fold: By models that did not see the row, (n, n_tags).
        before: By the final model, (n, n_tags).
        after: By the final model, compressed, (n, n_tags).
    """
    own, old, new = (np.log(np.maximum(one, TINY)) for one in (out_of_fold, before, after))
    return softmax(own + new - old)
