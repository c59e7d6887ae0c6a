import math

import numpy as np
import pytest
import torch

from tagger.data.items import Item
from tagger.runs import RunFolder, read_predictions
from tagger.training.losses import CrossEntropy, build_loss
from tagger.training.objectives import ContrastiveLoss, Objective, symmetric_divergence
from tagger.training.tracking import read_metrics
from tagger.training.train_run import train

ITEMS = [
    Item("1", "apple pear", "juice in a basket"),
    Item("2", "iron copper wire", ""),
    Item("3", "rain storm cloud", "wind"),
    Item("4", "plum", ""),
    Item("5", "zinc and nickel", "hot forge with much solder and rust"),
]
TARGETS = torch.tensor([0, 1, 2, 0, 1])


class FixedShare:
    """Stands for a random generator: mixes with the row before, and keeps a stated share."""

    def __init__(self, share):
        self.share = share

    def beta(self, a, b):
        return self.share

    def permutation(self, n):
        return np.roll(np.arange(n), 1)


class Scripted:
    """Stands for a model: gives prepared logits one after another, and notes what it was given."""

    def __init__(self, *logits, vectors=None):
        self.logits, self.vectors, self.mixes = list(logits), vectors, []

    def __call__(self, ids, mask, mix=None):
        self.mixes.append(mix)
        return self.logits[len(self.mixes) - 1], self.vectors


@pytest.fixture
def batch(tiny_classifier):
    return tiny_classifier.pad(tiny_classifier.tokenize(ITEMS))


@pytest.fixture
def losses(tiny_config, tiny_classifier, batch):
    """Computes the losses of the batch with the tiny model; without dropout unless asked for."""
    module = tiny_classifier.module

    def compute(*overrides, random=None, model=None, dropout=False):
        config = tiny_config("training.label_smoothing=0", *overrides).training
        objective = Objective(config, build_loss(config), module.encoder, None)
        module.train(dropout)
        random = random or np.random.default_rng(0)
        return objective(model or module, *batch, TARGETS, random, lesson=None)

    return compute


def plain_losses(logits, targets=TARGETS):
    return CrossEntropy(0.0)(logits, targets)


def test_without_additions_it_is_the_loss_and_one_pass(losses, tiny_classifier, batch):
    logits, _ = tiny_classifier.module.eval()(*batch)
    torch.testing.assert_close(losses(), plain_losses(logits))
    once = Scripted(logits)
    losses(model=once)
    assert once.mixes == [None]


def test_class_loss_is_a_factor(losses):
    torch.testing.assert_close(losses("training.class_loss_weight=2.5"), 2.5 * losses())


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


def test_contrast_is_added_with_its_weight_or_stands_alone(losses, tiny_classifier, batch):
    _, vectors = tiny_classifier.module.eval()(*batch)
    contrast = ContrastiveLoss(0.3)(vectors, TARGETS)
    asked = ("training.contrast_loss_weight=0.7", "training.contrast_temperature=0.3")
    torch.testing.assert_close(losses(*asked), losses() + 0.7 * contrast)
    torch.testing.assert_close(losses(*asked, "training.class_loss_weight=0"), 0.7 * contrast)


def test_divergence_is_the_mean_of_both_directions():
    first = torch.tensor([[1.0, 0.0, -2.0], [0.3, 0.3, 0.3]])
    second = torch.tensor([[0.0, 0.5, 0.0], [0.3, 0.3, 0.3]])
    p, q = first.softmax(-1), second.softmax(-1)
    expected = 0.5 * ((p * (p / q).log()).sum(1) + (q * (q / p).log()).sum(1))
    torch.testing.assert_close(symmetric_divergence(first, second), expected)
    torch.testing.assert_close(
        symmetric_divergence(first, second), symmetric_divergence(second, first)
    )
    assert symmetric_divergence(first, second)[0] > 0.1
    assert symmetric_divergence(first, first + 7).abs().max() < 1e-6


def test_agreement_costs_nothing_without_dropout(losses):
    torch.testing.assert_close(losses("training.r_drop=5"), losses())


def test_agreement_compares_two_passes_under_dropout(losses):
    one = torch.randn(5, 3, generator=torch.manual_seed(0))
    two = torch.randn(5, 3, generator=torch.manual_seed(1))
    model = Scripted(one, two)
    expected = 0.5 * (plain_losses(one) + plain_losses(two)) + 3 * symmetric_divergence(one, two)
    torch.testing.assert_close(losses("training.r_drop=3", model=model), expected)
    assert len(model.mixes) == 2
    halved = losses("training.r_drop=3", "training.class_loss_weight=0.5", model=Scripted(one, two))
    torch.testing.assert_close(halved, expected - 0.25 * (plain_losses(one) + plain_losses(two)))


def test_agreement_grows_with_its_weight_under_dropout(losses):
    def under_dropout(weight):
        torch.manual_seed(0)
        return losses(f"training.r_drop={weight}", "model.dropout=0.1", dropout=True)

    low, high = under_dropout(1), under_dropout(100)
    assert (high > low).all()


def test_mixing_with_a_share_of_one_changes_nothing(losses):
    torch.testing.assert_close(losses("training.mixup=0.4", random=FixedShare(1.0)), losses())


def test_mixing_with_a_share_of_nothing_gives_the_partners_losses(losses):
    mixed = losses("training.mixup=0.4", random=FixedShare(0.0))
    torch.testing.assert_close(mixed, losses().roll(1))


def test_mixed_vectors_are_held_against_both_targets(losses, tiny_classifier, batch):
    module = tiny_classifier.module.eval()
    vectors = module.embed(*batch)
    logits = module.head(0.3 * vectors + 0.7 * vectors.roll(1, dims=0))
    expected = 0.3 * plain_losses(logits) + 0.7 * plain_losses(logits, TARGETS.roll(1))
    torch.testing.assert_close(losses("training.mixup=0.4", random=FixedShare(0.3)), expected)


def test_mixing_takes_its_chances_from_the_generator_alone(losses):
    one, same, other = (
        losses("training.mixup=0.4", random=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_both_passes_of_agreement_see_the_same_mixture(losses):
    logits = torch.zeros(5, 3)
    model = Scripted(logits, logits)
    losses("training.r_drop=1", "training.mixup=0.4", model=model)
    first, second = model.mixes
    assert first is second is not None


@pytest.mark.parametrize("size", [0.001, 0.01, 0.05])
def test_noise_against_the_model_makes_each_loss_worse(losses, size):
    plain, worse = losses(), losses(f"training.adversarial={size}")
    assert (worse > plain).all()


def test_more_noise_is_worse_and_without_any_it_is_the_plain_loss(losses):
    plain, little, more = (
        losses(),
        losses("training.adversarial=0.001"),
        losses("training.adversarial=0.02"),
    )
    assert (more > little).all()
    torch.testing.assert_close(losses("training.adversarial=1e-9"), plain, atol=1e-6, rtol=0)


def test_half_of_the_loss_is_as_it_is_and_half_where_noise_has_moved_the_embeddings(
    losses, tiny_classifier, batch
):
    module, kept = tiny_classifier.module.eval(), []
    handle = module.encoder.embeddings.register_forward_hook(lambda *call: kept.append(call[2]))
    plain = plain_losses(module(*batch)[0])
    handle.remove()
    embedded = kept[0]
    (gradient,) = torch.autograd.grad(plain.sum(), embedded)
    moved = embedded.detach().clone()
    for at in range(len(ITEMS)):  # as long as a twentieth of the item's own embeddings
        moved[at] += 0.05 * embedded[at].norm() * gradient[at] / gradient[at].norm()
    handle = module.encoder.embeddings.register_forward_hook(lambda *_: moved)
    worst = plain_losses(module(*batch)[0])
    handle.remove()
    torch.testing.assert_close(losses("training.adversarial=0.05"), (plain.detach() + worst) / 2)


def test_noise_along_the_gradient_is_worse_than_as_much_noise_at_random(
    losses, tiny_classifier, batch
):
    module = tiny_classifier.module.eval()
    plain = losses()
    worst = 2 * losses("training.adversarial=0.02") - plain  # the half that is moved

    def shift(_module, _inputs, output):
        noise = torch.randn(output.shape)
        sizes = output.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        return output + 0.02 * sizes[:, None, None] * noise

    torch.manual_seed(0)
    handle = module.encoder.embeddings.register_forward_hook(shift)
    at_random = torch.stack([plain_losses(module(*batch)[0]) for _ in range(20)])
    handle.remove()
    assert (worst > at_random.max(dim=0).values).all()


def test_no_hook_stays_behind(losses, tiny_classifier, batch):
    module = tiny_classifier.module.eval()
    before = module(*batch)[0]
    losses("training.adversarial=0.1").sum().backward()
    assert not any(part._forward_hooks for part in module.modules())
    assert torch.equal(module.eval()(*batch)[0], before)


def test_noise_reaches_all_trained_weights_and_none_that_are_frozen(losses, tiny_classifier):
    module = tiny_classifier.module
    losses("training.adversarial=0.01").sum().backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    # Nothing below the first layer is trained: the noise has nowhere else to come from.
    module.freeze(embeddings=True, layers=1)
    module.zero_grad()
    losses("training.adversarial=0.01").sum().backward()
    with_gradient = {n for n, p in module.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, p in module.named_parameters() if p.requires_grad}
    assert "head.weight" in with_gradient
    assert not any("embeddings" in name for name in with_gradient)


def test_class_loss_is_a_factor_beside_noise_too(losses):
    asked = ("training.adversarial=0.01", "training.class_loss_weight=2")
    torch.testing.assert_close(losses(*asked), 2 * losses(asked[0]))


@pytest.mark.parametrize(
    "recipe",
    [
        ("training.r_drop=1", "model.dropout=0.1"),
        ("training.mixup=0.2",),
        ("training.adversarial=0.02",),
        ("training.adversarial=0.02", "training.accumulation_steps=3"),
        ("training.contrast_loss_weight=0.5", "training.mixup=0.2", "training.r_drop=0.5"),
        (
            "training.contrast_loss_weight=1",
            "training.class_loss_weight=0",
            "training.refit_head=true",
        ),
    ],
    ids="+".join,
)
def test_a_model_learns_with_each_of_them(tiny_config, tmp_path, recipe):
    run = RunFolder(train(tiny_config("name=run", f"runs_dir={tmp_path}", *recipe)))
    lines = read_metrics(run.path / "metrics.jsonl")
    values = [line["train/loss"] for line in lines if "train/loss" in line]
    assert all(math.isfinite(value) for value in values)
    true = {row.id: row.tag for row in run.split_rows() if row.split == "test"}
    predictions = read_predictions(run.path / "predictions.csv", run.tags)
    right = [run.tags[row.argmax()] == true[one] for one, row in predictions.items()]
    assert len(right) == 12
    assert np.mean(right) > 0.6


def test_a_distillation_makes_of_the_losses_what_it_will(tiny_config, tiny_classifier, batch):
    given = {}

    def distillation(**named):
        given.update(named)
        return named["losses"] + 7

    config = tiny_config("training.label_smoothing=0", "training.class_loss_weight=3").training
    module = tiny_classifier.module.eval()
    objective = Objective(config, build_loss(config), module.encoder, distillation)
    lesson = (torch.ones(5, dtype=torch.bool), torch.full((5, 3), 1 / 3))
    found = objective(module, *batch, TARGETS, np.random.default_rng(0), lesson=lesson)
    logits, vectors = module(*batch)
    torch.testing.assert_close(found, 3 * plain_losses(logits) + 7)
    torch.testing.assert_close(given["logits"], logits)
    torch.testing.assert_close(given["vectors"], vectors)
    assert given["ids"] is batch[0] and given["mask"] is batch[1] and given["lesson"] is lesson
