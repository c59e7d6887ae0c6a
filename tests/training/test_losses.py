import math

import pytest
import torch
from torch.nn import functional as F

from tagger.training.losses import (
    ContrastiveLoss,
    FocalLoss,
    SoftTargetLoss,
    build_loss,
    class_weights,
    vector_losses,
)

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.2, 0.1]])
TARGETS = torch.tensor([0, 2])


def cross_entropy(smoothing: float = 0.0) -> torch.Tensor:
    return F.cross_entropy(LOGITS, TARGETS, label_smoothing=smoothing, reduction="none")


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_a_loss_is_smoothed_and_gives_one_value_an_item(tiny_config, loss):
    asked = ("training.focal_gamma=0", "training.label_smoothing=0.1")
    losses = build_loss(tiny_config(f"training.loss={loss}", *asked).training)
    torch.testing.assert_close(losses(LOGITS, TARGETS), cross_entropy(0.1))


def test_focal_loss_discounts_what_is_easy():
    probabilities = LOGITS.softmax(-1)[[0, 1], TARGETS]
    expected = (1 - probabilities) ** 2 * -probabilities.log()
    torch.testing.assert_close(FocalLoss(2.0, 0.0)(LOGITS, TARGETS), expected)


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
    losses = cross_entropy()
    ours = (losses * weights[TARGETS]).sum() / weights[TARGETS].sum()
    torch.testing.assert_close(ours, F.cross_entropy(LOGITS, TARGETS, weight=weights))


def contrast_by_hand(vectors, targets, temperature):
    """One sum after another, as the paper writes them."""
    units = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in vectors]
    found = []
    for i, anchor in enumerate(units):
        others = [j for j in range(len(units)) if j != i]
        scaled = {
            j: sum(x * y for x, y in zip(anchor, units[j], strict=True)) / temperature
            for j in others
        }
        total = math.log(sum(math.exp(value) for value in scaled.values())) if others else 0.0
        same = [j for j in others if targets[j] == targets[i]]
        found.append(-sum(scaled[j] - total for j in same) / len(same) if same else 0.0)
    return found


@pytest.mark.parametrize("temperature", [0.07, 0.5, 3.0])
@pytest.mark.parametrize("targets", [[0, 1, 0, 2, 1, 0], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])
def test_contrast_agrees_with_a_loop(temperature, targets):
    vectors = torch.randn(6, 4, generator=torch.manual_seed(0), dtype=torch.float64)
    ours = ContrastiveLoss(temperature)(vectors, torch.tensor(targets))
    expected = contrast_by_hand(vectors.tolist(), targets, temperature)
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64))


def test_the_only_item_of_its_tag_has_no_contrast():
    vectors = torch.randn(3, 4, generator=torch.manual_seed(0))
    values = ContrastiveLoss(0.1)(vectors, torch.tensor([0, 0, 1]))
    assert values[2] == 0
    assert (values[:2] > 0).all()
    assert ContrastiveLoss(0.1)(vectors[:1], torch.tensor([0])).tolist() == [0]


def test_contrast_is_less_where_tags_lie_apart_and_lengths_do_not_matter():
    apart = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0]])
    loss = ContrastiveLoss(0.1)
    sorted_tags, mixed_tags = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert loss(apart, sorted_tags).max() < loss(apart, mixed_tags).min()
    torch.testing.assert_close(
        loss(apart * torch.tensor([[1.0], [5.0], [0.2], [9.0]]), sorted_tags),
        loss(apart, sorted_tags),
    )


def test_following_the_gradient_of_contrast_brings_equal_tags_together():
    vectors = torch.randn(8, 4, generator=torch.manual_seed(0)).requires_grad_()
    targets = torch.arange(8) % 2
    optimizer = torch.optim.SGD([vectors], lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        ContrastiveLoss(0.2)(vectors, targets).sum().backward()
        optimizer.step()
    units = torch.nn.functional.normalize(vectors.detach(), dim=1)
    similarity = units @ units.T
    same = targets[:, None] == targets[None]
    assert similarity[same].min() > similarity[~same].max() + 0.5


def test_equal_and_zero_vectors_keep_the_gradient_of_contrast_finite():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = ContrastiveLoss(0.05)(vectors, torch.tensor([0, 0, 1, 1]))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(vectors.grad).all()


STUDENT = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -4.0]], dtype=torch.float64)
TEACHER = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05]], dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.manual_seed(seed))


def softened(row, temperature):
    """A teacher's probabilities at a temperature, term by term."""
    raised = [value ** (1 / temperature) for value in row]
    return [value / sum(raised) for value in raised]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_soft_targets_are_the_divergence_of_softened_probabilities_by_the_squared_temperature(
    temperature,
):
    expected = []
    for logits, row in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        p = softened(row, temperature)
        powers = [math.exp(logit / temperature) for logit in logits]
        q = [power / sum(powers) for power in powers]
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        expected.append(temperature**2 * divergence)
    found = SoftTargetLoss(temperature)(STUDENT, TEACHER)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_student_that_thinks_as_its_teacher_has_nothing_to_learn(temperature):
    logits = (TEACHER.log() + 5).requires_grad_()
    losses = SoftTargetLoss(temperature)(logits, TEACHER)
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), torch.zeros(2, dtype=torch.float64))
    assert logits.grad.abs().max() < 1e-9
    assert (SoftTargetLoss(temperature)(STUDENT, TEACHER) > 0.1).all()


def gradient_norm(temperature):
    logits = (STUDENT / 4).requires_grad_()
    SoftTargetLoss(temperature)(logits, TEACHER).sum().backward()
    return logits.grad.norm().item()


def test_gradients_are_about_as_large_at_any_temperature():
    sizes = [gradient_norm(temperature) for temperature in (1, 2, 4, 8, 16, 64)]
    # In the limit they are those of the mean squared difference of logits (Hinton, section 2.1).
    teacher, student = TEACHER.log(), STUDENT / 4
    difference = student - student.mean(1, True) - teacher + teacher.mean(1, True)
    assert sizes[-1] == pytest.approx(difference.norm().item() / 3, rel=0.05)
    # Without the scaling the last would be a four-thousandth of the first.
    assert max(sizes) < 4 * min(sizes)


def test_probabilities_of_nought_and_one_keep_all_finite():
    logits = torch.tensor([[30.0, -30.0, 0.0]], requires_grad=True)
    for sure in ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0]):
        loss = SoftTargetLoss(2.0)(logits, torch.tensor([sure]))
        loss.sum().backward()
        assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()


def test_vectors_of_one_width_are_compared_by_their_angle():
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 4.0]])
    source = torch.tensor([[9.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [1.0, 0.0]])
    found = vector_losses(student, source)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 2.0, 0.4]))


def test_vectors_of_other_widths_are_compared_by_what_they_resemble():
    units = torch.nn.functional.normalize
    student, source = normal(5, 8), normal(5, 3, seed=1)
    ours, theirs = units(student) @ units(student).T, units(source) @ units(source).T
    expected = torch.stack([((ours - theirs)[row] ** 2).sum() / 5 for row in range(5)])
    torch.testing.assert_close(vector_losses(student, source), expected)
    assert (expected > 0.01).all()
    # Turned into more numbers and made longer, vectors resemble each other as before.
    turn, _ = torch.linalg.qr(normal(8, 8, seed=2))
    torch.testing.assert_close(
        vector_losses(source, 7 * source @ turn[:3]), torch.zeros(5), atol=1e-10, rtol=0
    )
