import pytest
import torch
from torch.nn import functional as F

from tagger.training.losses import CrossEntropy, Focal, class_weights

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.2, 0.1]])
TARGETS = torch.tensor([0, 2])


def test_cross_entropy_gives_one_value_an_item():
    losses = CrossEntropy(0.0)(LOGITS, TARGETS)
    expected = -LOGITS.log_softmax(-1)[[0, 1], TARGETS]
    torch.testing.assert_close(losses, expected)


def test_label_smoothing_mixes_in_the_uniform_distribution():
    logs = LOGITS.log_softmax(-1)
    expected = -(0.9 * logs[[0, 1], TARGETS] + 0.1 * logs.mean(-1))
    torch.testing.assert_close(CrossEntropy(0.1)(LOGITS, TARGETS), expected)


def test_focal_loss_without_gamma_is_cross_entropy():
    torch.testing.assert_close(Focal(0.0, 0.1)(LOGITS, TARGETS), CrossEntropy(0.1)(LOGITS, TARGETS))


def test_focal_loss_discounts_what_is_easy():
    probabilities = LOGITS.softmax(-1)[[0, 1], TARGETS]
    expected = (1 - probabilities) ** 2 * -probabilities.log()
    torch.testing.assert_close(Focal(2.0, 0.0)(LOGITS, TARGETS), expected)


def test_balanced_weights_give_each_tag_the_same_total_and_an_average_of_one():
    counts = torch.tensor([30, 10, 5])
    weights = class_weights("balanced", counts)
    totals = weights * counts
    torch.testing.assert_close(totals, totals[:1].expand(3))
    assert float(totals.sum()) == pytest.approx(45)


def test_a_tag_without_rows_weighs_nothing_and_breaks_nothing():
    weights = class_weights("balanced", torch.tensor([4, 0, 4]))
    assert weights.tolist() == [1.0, 0.0, 1.0]
    assert class_weights("none", torch.tensor([4, 0])).tolist() == [1.0, 1.0]


def test_weighted_mean_agrees_with_torchs_own():
    weights = torch.tensor([0.5, 1.0, 2.0])
    losses = CrossEntropy(0.0)(LOGITS, TARGETS)
    ours = (losses * weights[TARGETS]).sum() / weights[TARGETS].sum()
    torch.testing.assert_close(ours, F.cross_entropy(LOGITS, TARGETS, weight=weights))
