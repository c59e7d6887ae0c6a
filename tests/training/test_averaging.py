import torch
from torch import nn

from tagger.training.averaging import WeightAverage


def step(module, value):
    with torch.no_grad():
        module.weight.fill_(value)


def test_average_follows_the_recurrence():
    module = nn.Linear(2, 2, bias=False)
    step(module, 0.0)
    average = WeightAverage(module, 0.9, {})
    for value in (1.0, 2.0):
        step(module, value)
        average.update()
    expected = 0.9 * (0.9 * 0 + 0.1 * 1) + 0.1 * 2
    torch.testing.assert_close(average.weights["weight"], torch.full((2, 2), expected))


def test_applied_swaps_in_the_average_and_back():
    module = nn.Linear(2, 2, bias=False)
    step(module, 0.0)
    average = WeightAverage(module, 0.5, {})
    step(module, 1.0)
    average.update()
    with average.applied():
        assert module.weight[0, 0] == 0.5
    assert module.weight[0, 0] == 1.0


def test_saved_average_in_any_order_goes_to_its_own_parameters():
    # Equal shapes would hide a mix-up: safetensors hands weights back sorted by name.
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    average = WeightAverage(module, 0.9, {})
    saved = dict(sorted(average.weights.items(), reverse=True))
    restored = WeightAverage(module, 0.9, saved)
    for one in module.parameters():
        with torch.no_grad():
            one.add_(1.0)
    average.update()
    restored.update()
    for name, tensor in average.weights.items():
        torch.testing.assert_close(restored.weights[name], tensor)


def test_no_average_without_decay():
    module = nn.Linear(2, 2)
    average = WeightAverage(module, 0.0, {})
    average.update()
    assert average.weights == {}
    with average.applied():
        assert module.weight.requires_grad
