from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.training.batching import length_bucketed_batches, share_of_batch

lengths_lists = st.lists(st.integers(1, 128), min_size=1, max_size=200)


@given(lengths_lists, st.integers(1, 64), st.integers(0, 9), st.integers(0, 9))
def test_every_item_is_dealt_exactly_once(lengths, batch_size, seed, epoch):
    batches = length_bucketed_batches(lengths, batch_size, seed, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert sum(len(batch) < batch_size for batch in batches) <= 1


def test_order_follows_from_seed_and_epoch_alone():
    lengths = list(range(100))
    first = length_bucketed_batches(lengths, 8, seed=3, epoch=1)
    assert first == length_bucketed_batches(lengths, 8, seed=3, epoch=1)
    assert first != length_bucketed_batches(lengths, 8, seed=3, epoch=2)
    assert first != length_bucketed_batches(lengths, 8, seed=4, epoch=1)


def test_buckets_waste_little_padding_and_are_not_in_order_of_length():
    lengths = np.random.default_rng(0).integers(4, 60, 800).tolist()
    batches = length_bucketed_batches(lengths, 16, seed=0, epoch=0)
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest != sorted(longest)


@given(
    st.lists(st.integers(0, 999), min_size=1, max_size=40, unique=True),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_shares_cover_the_batch_and_have_equal_numbers_of_parts(batch, processes, parts):
    shares = [share_of_batch(batch, process, processes, parts) for process in range(processes)]
    counted = Counter(
        index for share in shares for indices, counts in share if counts for index in indices
    )
    assert counted == Counter(batch)
    assert {len(share) for share in shares} == {parts}
    assert all(indices for share in shares for indices, _ in share)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_short_batch_leaves_parts_that_do_not_count(processes):
    share = share_of_batch([7], processes - 1, processes, parts=3)
    assert [indices for indices, _ in share] == [[7], [7], [7]]
    assert sum(counts for _, counts in share) == (1 if processes == 1 else 0)
