"""Deals items into batches of similar length, and batches into parts for processes."""

from collections.abc import Sequence

import numpy as np

LENGTH_JITTER = 2.0
"""Tokens of noise on each length before sorting, so that batches differ between epochs."""


def length_bucketed_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Deal all items into batches of similar length, in an order that depends on seed and epoch.

    Padding to the longest row of a batch then costs little: about 5 % more tokens instead of
    50 % on titles with descriptions. The last batch may be short, and no item is left out.

    Args:
        lengths: Number of tokens of each item.
        batch_size: Items a batch, over all processes.
        seed: The run's seed.
        epoch: Counts from 0; a run that is resumed in an epoch deals that epoch alike.

    Returns:
        Batches of positions in `lengths`.
    """
    random = np.random.default_rng([seed, epoch])
    # Shuffled first, so that equal lengths don't keep the file's order.
    order = random.permutation(len(lengths))
    noisy = np.asarray(lengths)[order] + random.uniform(-LENGTH_JITTER, LENGTH_JITTER, len(order))
    order = order[np.argsort(noisy, kind="stable")]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[index].tolist() for index in random.permutation(len(batches))]


def share_of_batch(
    batch: Sequence[int], process: int, processes: int, parts: int
) -> list[tuple[list[int], bool]]:
    """Cut one process's share out of a batch, in parts to be computed one after another.

    Every process gets the same number of parts, whatever the size of the batch, because all must
    meet at each gradient exchange. Where a short batch leaves a part empty, it holds one item that
    must not count.

    Args:
        batch: Positions of the batch's items.
        process: This process, from 0.
        processes: How many there are.
        parts: Accumulation steps.

    Returns:
        For each part, its items and whether they count.
    """
    slices = [piece.tolist() for piece in np.array_split(np.asarray(batch), processes * parts)]
    own = slices[process * parts : (process + 1) * parts]
    return [(piece, True) if piece else ([batch[0]], False) for piece in own]
