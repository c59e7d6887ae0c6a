import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from tagger.config.schema import DistillConfig
from tagger.data.items import Item
from tagger.models.encoders import encoder_layers
from tagger.models.transformer import TransformerClassifier
from tagger.runs import RunFolder, read_predictions
from tagger.training.distillation import embed_by_source
from tagger.training.inputs import TrainingContext
from tagger.training.losses import ContrastiveLoss
from tagger.training.objectives import Batch, Objective
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


@pytest.fixture
def batch(tiny_classifier):
    return tiny_classifier.pad(tiny_classifier.tokenize(ITEMS))


@pytest.fixture
def terms(tiny_config, tiny_classifier, batch):
    """Computes the terms of the loss of the batch with the tiny model, without dropout."""
    module = tiny_classifier.module

    def compute(*overrides):
        config = tiny_config("training.label_smoothing=0", *overrides).training
        module.train(False)
        return Objective(config, module.encoder)(module, Batch(*batch, TARGETS))

    return compute


@pytest.fixture
def losses(terms):
    """Computes the losses of the batch: the sum of the terms."""
    return lambda *overrides: sum(terms(*overrides).values())


def plain_losses(logits, targets=TARGETS):
    return F.cross_entropy(logits, targets, reduction="none")


def test_without_further_terms_it_is_the_classification_loss(terms, tiny_classifier, batch):
    logits, _ = tiny_classifier.module.eval()(*batch)
    found = terms()
    assert list(found) == ["class_loss"]
    torch.testing.assert_close(found["class_loss"], plain_losses(logits))


def test_every_term_has_its_name(terms):
    assert list(terms("training.contrast_loss_weight=1")) == ["class_loss", "contrast_loss"]
    assert list(terms("training.adversarial=0.1")) == ["class_loss", "adversarial_loss"]


def test_class_loss_is_a_factor(losses):
    torch.testing.assert_close(losses("training.class_loss_weight=2.5"), 2.5 * losses())


def test_contrast_is_added_with_its_weight_or_stands_alone(losses, tiny_classifier, batch):
    _, vectors = tiny_classifier.module.eval()(*batch)
    contrast = ContrastiveLoss(0.3)(vectors, TARGETS)
    asked = ("training.contrast_loss_weight=0.7", "training.contrast_temperature=0.3")
    torch.testing.assert_close(losses(*asked), losses() + 0.7 * contrast)
    torch.testing.assert_close(losses(*asked, "training.class_loss_weight=0"), 0.7 * contrast)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        ("training.adversarial=0.02", "training.accumulation_steps=3"),
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


# Distillation

SHAPE = "model.random={layers: 4, hidden: 32, heads: 4, intermediate: 64}"
SIMPLE = DistillConfig(
    teachers=[], soft_loss_weight=0.0, temperature=2.0, class_loss_weight=0.0,
    vector_loss_weight=1.0, transfer=[], transfer_most=None, transfer_weight=1.0,
)  # fmt: skip


@pytest.fixture
def whole(tiny_config, tmp_path):
    """A folder of an encoder of four layers, which differ widely."""
    torch.manual_seed(0)
    classifier = TransformerClassifier.build(tiny_config(SHAPE).model, ["a", "b", "c"])
    for parameter in encoder_layers(classifier.module.encoder).parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.nn.init.normal_(classifier.module.encoder.get_input_embeddings().weight)
    classifier.save(tmp_path / "whole")
    return tmp_path / "whole"


@pytest.fixture
def distil(whole, tiny_config):
    """Computes the terms of the loss of a student that was cut out of the whole encoder."""

    def compute(*cuts, labelled=None, teacher=None, student=None, **given):
        config = tiny_config(
            f"model.encoder={whole}", "model.random=null", "training.label_smoothing=0", *cuts
        )
        torch.manual_seed(0)
        student = student or TransformerClassifier.build(config.model, ["a", "b", "c"])
        student.module.eval()
        context = TrainingContext(Accelerator(cpu=True), "fp32", whole)
        vectors = embed_by_source(config, ["a", "b", "c"], ITEMS, context)
        ids, mask = student.pad(student.tokenize(ITEMS))
        objective = Objective(
            config.training, student.module.encoder, SIMPLE.model_copy(update=given)
        )
        return objective(student.module, Batch(ids, mask, TARGETS, labelled, teacher, vectors))

    return compute


@pytest.fixture
def few_tokens(tmp_path):
    """A file whose tokens cover the items."""
    path = tmp_path / "domain.csv"
    lines = "".join(f"{item.id},{item.title},{item.description}\n" for item in ITEMS)
    path.write_text(f"id,title,description\n{lines}", encoding="utf-8")
    return f"model.vocabulary_from=[{path}]"


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_the_whole_encoder_has_the_vectors_of_its_source_even_with_fewer_tokens(
    distil, few_tokens, pooling
):
    given = (few_tokens, f"model.pooling={pooling}")
    losses = distil(*given)["vector_loss"]
    torch.testing.assert_close(losses, torch.zeros(5), atol=1e-5, rtol=0)
    assert (distil(*given, "model.keep_layers=[0,2]")["vector_loss"] > 1e-4).all()


TAUGHT = {"teachers": ["one"], "soft_loss_weight": 1.0, "vector_loss_weight": 0.0}


def test_rows_without_a_label_have_no_loss_of_labels(distil):
    labelled = torch.tensor([True, False, True, True, False])
    teacher = torch.full((5, 3), 1 / 3)
    half = distil(labelled=labelled, teacher=teacher, class_loss_weight=0.5, **TAUGHT)
    whole = distil(teacher=teacher, class_loss_weight=1.0, **TAUGHT)
    torch.testing.assert_close(half["class_loss"], 0.5 * labelled * whole["class_loss"])
    torch.testing.assert_close(half["soft_loss"], whole["soft_loss"])
    assert (whole["soft_loss"] > 0).all()


def test_terms_of_a_distillation_have_their_weights_and_names(distil):
    cut, teacher = "model.keep_layers=[1,3]", torch.tensor([[0.8, 0.1, 0.1]] * 5)
    weights = {"class_loss": 0.3, "soft_loss": 2.0, "vector_loss": 0.7}
    given = {"teachers": ["one"], "teacher": teacher}
    alone = distil(cut, **given, **{f"{name}_weight": 1.0 for name in weights})
    found = distil(cut, **given, **{f"{name}_weight": one for name, one in weights.items()})
    assert list(found) == list(weights)
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight * alone[name])
        assert (alone[name] > 1e-5).all()


def test_what_is_learnt_reaches_the_student_and_never_the_source(distil, whole, tiny_config):
    config = tiny_config(
        f"model.encoder={whole}", "model.random=null", "model.keep_layers=[0,1]"
    ).model
    student = TransformerClassifier.build(config, ["a", "b", "c"])
    distil(student=student)["vector_loss"].sum().backward()
    lowest = encoder_layers(student.module.encoder)[0].attention.self.value.weight
    assert lowest.grad.abs().max() > 0
    assert student.module.head.weight.grad is None


@pytest.mark.slow
def test_vectors_of_another_width_are_compared_too(distil):
    losses = distil("model.static=16")["vector_loss"]
    assert losses.shape == (5,)
    assert (losses > 0).all()


def test_rows_without_teacher_predictions_teach_their_label_alone(distil):
    teacher = torch.full((5, 3), 1 / 3)
    teacher[1] = float("nan")
    found = distil(teacher=teacher, class_loss_weight=0.5, **TAUGHT)
    assert found["soft_loss"][1] == 0
    assert (found["soft_loss"][[0, 2, 3, 4]] > 0).all()
    assert (found["class_loss"] > 0).all()
