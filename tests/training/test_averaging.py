import pytest
import torch
from torch import nn

from tagger.training.averaging import WeightAverage


def step(module, value):
    with torch.no_grad():
        module.weight.fill_(value)


def test_average_follows_the_recurrence():
    module = nn.Linear(2, 2, bias=False)
    step(module, 0.0)
    average = WeightAverage(module, 0.9, None, {})
    for number, value in enumerate((1.0, 2.0)):
        step(module, value)
        average.update(number)
    expected = 0.9 * (0.9 * 0 + 0.1 * 1) + 0.1 * 2
    torch.testing.assert_close(average.weights["weight"], torch.full((2, 2), expected))


WEIGHTS = (5.0, 7.0, 1.0, 2.0, 6.0, 3.0)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        # Until then the last weights count, as if there were no average.
        (2, [5.0, 7.0, 1.0, 1.5, 3.0, 3.0]),
        # From the first step on: what training set out from is not part of the mean.
        (0, [5.0, 6.0, 13 / 3, 15 / 4, 21 / 5, 4.0]),
        (100, WEIGHTS),
    ],
)
def test_from_a_step_on_the_plain_mean_is_kept(first, expected):
    module = nn.Linear(2, 2, bias=False)
    step(module, 100.0)
    average = WeightAverage(module, 0.9, first, {})
    for number, (value, mean) in enumerate(zip(WEIGHTS, expected, strict=True)):
        step(module, value)
        average.update(number)
        torch.testing.assert_close(average.weights["weight"], torch.full((2, 2), mean))


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_plain_mean_goes_on_from_a_checkpoint(stop):
    module = nn.Linear(2, 2, bias=False)
    average = WeightAverage(module, 0.9, 2, {})
    for number, value in enumerate(WEIGHTS):
        if number == stop:
            average = WeightAverage(module, 0.9, 2, dict(average.weights))
        step(module, value)
        average.update(number)
    torch.testing.assert_close(average.weights["weight"], torch.full((2, 2), 3.0))


def test_applied_swaps_in_the_average_and_back():
    module = nn.Linear(2, 2, bias=False)
    step(module, 0.0)
    average = WeightAverage(module, 0.5, None, {})
    step(module, 1.0)
    average.update(0)
    with average.applied():
        assert module.weight[0, 0] == 0.5
    assert module.weight[0, 0] == 1.0


def test_saved_average_in_any_order_goes_to_its_own_parameters():
    # Equal shapes would hide a mix-up: safetensors hands weights back sorted by name.
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    average = WeightAverage(module, 0.9, None, {})
    saved = dict(sorted(average.weights.items(), reverse=True))
    restored = WeightAverage(module, 0.9, None, saved)
    for one in module.parameters():
        with torch.no_grad():
            one.add_(1.0)
    average.update(0)
    restored.update(0)
    for name, tensor in average.weights.items():
        torch.testing.assert_close(restored.weights[name], tensor)


@pytest.mark.parametrize("first", [None, 0])
def test_no_average_without_decay(first):
    module = nn.Linear(2, 2)
    average = WeightAverage(module, 0.0, first, {})
    average.update(0)
    assert average.weights == {}
    with average.applied():
        assert module.weight.requires_grad
