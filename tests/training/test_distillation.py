import math

import pytest
import torch
from transformers import DistilBertConfig, DistilBertModel

from tagger.config.schema import DistillConfig
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.encoders import encoder_layers, load_encoder
from tagger.models.transformer import TransformerClassifier
from tagger.training.distillation import (
    Distillation,
    RelationLikeness,
    SoftTargets,
    Source,
    StateLikeness,
    VectorLikeness,
    evenly_spaced,
    needs_source,
)

SHAPE = "model.random={layers: 4, hidden: 32, heads: 4, intermediate: 64}"
ITEMS = [
    Item("1", "apple pear", "juice in a basket"),
    Item("2", "iron copper wire", ""),
    Item("3", "rain storm cloud", "wind and much snow"),
]
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -4.0]], dtype=torch.float64)
TEACHER = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05]], dtype=torch.float64)
NOTHING = {
    "teachers": [], "soft_loss_weight": 0.0, "temperature": 2.0, "class_loss_weight": 0.0,
    "vector_loss_weight": 0.0, "states": 0.0,
    "attention": 0.0, "layers": None, "transfer": [], "transfer_most": None,
    "transfer_weight": 1.0, "copies": 0, "changes": ["drop"],
}  # fmt: skip


def config_of(**given):
    if given.get("soft"):
        given["teachers"] = ["one"]
    return DistillConfig.model_validate(NOTHING | given)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.manual_seed(seed))


# Probabilities of a teacher


def softened(row, temperature):
    """A teacher's probabilities at a temperature, term by term."""
    raised = [value ** (1 / temperature) for value in row]
    return [value / sum(raised) for value in raised]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_soft_targets_are_the_divergence_of_softened_probabilities_by_the_squared_temperature(
    temperature,
):
    expected = []
    for logits, row in zip(LOGITS.tolist(), TEACHER.tolist(), strict=True):
        p = softened(row, temperature)
        powers = [math.exp(logit / temperature) for logit in logits]
        q = [power / sum(powers) for power in powers]
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        expected.append(temperature**2 * divergence)
    found = SoftTargets(temperature)(LOGITS, TEACHER)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_student_that_thinks_as_its_teacher_has_nothing_to_learn(temperature):
    logits = (TEACHER.log() + 5).requires_grad_()
    losses = SoftTargets(temperature)(logits, TEACHER)
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), torch.zeros(2, dtype=torch.float64))
    assert logits.grad.abs().max() < 1e-9
    assert (SoftTargets(temperature)(LOGITS, TEACHER) > 0.1).all()


def gradient_norm(temperature):
    logits = (LOGITS / 4).requires_grad_()
    SoftTargets(temperature)(logits, TEACHER).sum().backward()
    return logits.grad.norm().item()


def test_gradients_are_about_as_large_at_any_temperature():
    sizes = [gradient_norm(temperature) for temperature in (1, 2, 4, 8, 16, 64)]
    # In the limit they are those of the mean squared difference of logits (Hinton, section 2.1).
    teacher, student = TEACHER.log(), LOGITS / 4
    difference = student - student.mean(1, True) - teacher + teacher.mean(1, True)
    assert sizes[-1] == pytest.approx(difference.norm().item() / 3, rel=0.05)
    # Without the scaling the last would be a four-thousandth of the first.
    assert max(sizes) < 4 * min(sizes)


def test_probabilities_of_nought_and_one_keep_all_finite():
    logits = torch.tensor([[30.0, -30.0, 0.0]], requires_grad=True)
    for sure in ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0]):
        loss = SoftTargets(2.0)(logits, torch.tensor([sure]))
        loss.sum().backward()
        assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all()


# Insides of a source


def test_vectors_of_one_width_are_compared_by_their_angle():
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 4.0]])
    source = torch.tensor([[9.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [1.0, 0.0]])
    found = VectorLikeness()(student, source)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 2.0, 0.4]))


def test_vectors_of_other_widths_are_compared_by_what_they_resemble():
    units = torch.nn.functional.normalize
    student, source = normal(5, 8), normal(5, 3, seed=1)
    ours, theirs = units(student) @ units(student).T, units(source) @ units(source).T
    expected = torch.stack([((ours - theirs)[row] ** 2).sum() / 5 for row in range(5)])
    torch.testing.assert_close(VectorLikeness()(student, source), expected)
    assert (expected > 0.01).all()
    # Turned into more numbers and made longer, vectors resemble each other as before.
    turn, _ = torch.linalg.qr(normal(8, 8, seed=2))
    torch.testing.assert_close(
        VectorLikeness()(source, 7 * source @ turn[:3]), torch.zeros(5), atol=1e-10, rtol=0
    )


MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])


def test_states_are_compared_by_their_squared_difference_without_padding():
    student, source = normal(3, 4, 6), normal(3, 4, 6, seed=1)
    expected = [
        ((student - source)[row, :length] ** 2).mean() for row, length in enumerate((4, 2, 1))
    ]
    torch.testing.assert_close(StateLikeness()(student, source, MASK), torch.stack(expected))
    assert StateLikeness()(student, student, MASK).tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss", [StateLikeness(), RelationLikeness(2)], ids=["states", "relation"])
def test_what_stands_at_padding_does_not_matter(loss):
    student, source = normal(3, 4, 6), normal(3, 4, 6, seed=1)
    padding = MASK[:, :, None] == 0
    found = loss(student, source, MASK)
    noise = 1e3 * normal(3, 4, 6, seed=2)
    for changed in (student + padding * noise, student + padding * 1e6):
        torch.testing.assert_close(loss(changed, source, MASK), found)
        torch.testing.assert_close(loss(source, changed, MASK), loss(source, student, MASK))
    # Alone, without any padding, a row has the same loss.
    alone = loss(student[1:2, :2], source[1:2, :2], MASK[1:2, :2])
    torch.testing.assert_close(alone[0], found[1])
    assert found[1] > 1e-3
    moved = student.requires_grad_()
    loss(moved, source, MASK).sum().backward()
    assert torch.isfinite(moved.grad).all()
    assert not moved.grad[padding.expand_as(moved)].any()


def relations(states, heads, length):
    """Relations of a row's tokens: of each head and token, probabilities over the tokens."""
    width = states.shape[-1] // heads
    found = []
    for head in range(heads):
        part = states[:length, head * width : (head + 1) * width]
        found.append((part @ part.T / math.sqrt(width)).softmax(-1))
    return torch.stack(found)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_relations_are_compared_as_probabilities_whatever_the_widths(heads):
    student, source = normal(3, 4, 8), normal(3, 4, 12, seed=1)
    expected = []
    for row, length in enumerate((4, 2, 1)):
        p, q = relations(source[row], heads, length), relations(student[row], heads, length)
        expected.append((p * (p / q).log()).sum(-1).mean())
    found = RelationLikeness(heads)(student, source, MASK)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-6, rtol=1e-5)
    assert found[0] > 0.01
    # A token has one relation to itself alone.
    assert found[2].abs() < 1e-6
    torch.testing.assert_close(RelationLikeness(heads)(student, student, MASK), torch.zeros(3))


@pytest.mark.parametrize(
    ("student", "source", "places"),
    [
        (3, 6, [1, 3, 5]), (2, 6, [2, 5]), (6, 6, [0, 1, 2, 3, 4, 5]), (1, 6, [5]),
        (4, 6, [0, 2, 3, 5]), (2, 12, [5, 11]), (1, 1, [0]),
    ],
)  # fmt: skip
def test_layers_are_spaced_evenly_and_the_last_learns_from_the_last(student, source, places):
    assert evenly_spaced(student, source) == places


def test_every_student_learns_from_other_layers_in_their_order():
    for source in range(1, 13):
        for student in range(1, source + 1):
            places = evenly_spaced(student, source)
            assert len(set(places)) == student
            assert places == sorted(places)
            assert places[0] >= 0 and places[-1] == source - 1


@pytest.mark.parametrize("loss", ["vectors", "states", "attention"])
def test_the_source_is_needed_by_what_looks_into_it(loss):
    assert needs_source(config_of(**{loss: 0.1}))
    assert not needs_source(config_of(soft=1.0, hard=1.0))


# Both together


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
    """Computes the losses of a student that was cut out of the whole encoder."""

    def compute(given, *cuts, losses=None, lesson=None, student=None):
        config = tiny_config(f"model.encoder={whole}", "model.random=null", *cuts).model
        student = student or TransformerClassifier.build(config, ["a", "b", "c"])
        student.module.eval()
        source = None
        if needs_source(given):
            encoder, tokenizer = load_encoder(config)
            source = Source(encoder, tokenizer, student.tokenizer, config.pooling)
        distillation = Distillation(given, student.module, source)
        ids, mask = student.pad(student.tokenize(ITEMS))
        logits, vectors = student.module(ids, mask)
        n = len(ITEMS)
        return distillation(
            losses=torch.zeros(n) if losses is None else losses,
            logits=logits,
            vectors=vectors,
            ids=ids,
            mask=mask,
            lesson=lesson or (torch.ones(n, dtype=torch.bool), torch.full((n, 3), 1 / 3)),
        )

    return compute


@pytest.fixture
def few_tokens(tmp_path):
    """A file whose tokens cover the items."""
    path = tmp_path / "domain.csv"
    lines = "".join(f"{item.id},{item.title},{item.description}\n" for item in ITEMS)
    path.write_text(f"id,title,description\n{lines}", encoding="utf-8")
    return f"model.vocabulary_from=[{path}]"


@pytest.mark.parametrize("loss", ["vectors", "states", "attention"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_the_whole_encoder_is_just_like_its_source_even_with_fewer_tokens(
    distil, few_tokens, loss, pooling
):
    given = config_of(**{loss: 1.0})
    losses = distil(given, few_tokens, f"model.pooling={pooling}")
    torch.testing.assert_close(losses, torch.zeros(3), atol=1e-5, rtol=0)
    assert (distil(given, few_tokens, "model.keep_layers=[0,2]").detach() > 1e-4).all()


def test_the_source_is_asked_about_the_tokens_by_their_own_ids(distil, whole, few_tokens):
    """With the student's ids it would read other words."""
    torch.manual_seed(1)
    losses = distil(config_of(vectors=1.0), few_tokens)
    assert losses.max() < 1e-5
    encoder, tokenizer = load_encoder_of(whole)
    source = Source(encoder, tokenizer, tokenizer, "mean")
    ids = torch.tensor([tokenizer.encode("apple pear").ids])
    mask = torch.ones_like(ids)
    whole_vectors = source(ids, mask)
    assert not whole_vectors.requires_grad
    with torch.inference_mode():
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(whole_vectors, states.mean(1))


def load_encoder_of(folder):
    loaded = TransformerClassifier.load(folder)
    return loaded.module.encoder, loaded.tokenizer


def test_a_source_is_frozen_and_without_dropout(whole):
    encoder, tokenizer = load_encoder_of(whole)
    source = Source(encoder.train(), tokenizer, tokenizer, "mean")
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in source.parameters())


def test_rows_without_a_label_have_no_loss_of_labels(distil):
    labelled = torch.tensor([True, False, True])
    losses = torch.tensor([1.0, 2.0, 4.0])
    lesson = (labelled, torch.full((3, 3), 1 / 3))
    torch.manual_seed(0)
    both = distil(config_of(soft=1.0, hard=0.5), losses=losses, lesson=lesson)
    torch.manual_seed(0)
    soft_alone = distil(config_of(soft=1.0), losses=losses, lesson=lesson)
    torch.testing.assert_close(both - soft_alone, torch.tensor([0.5, 0.0, 2.0]))
    assert soft_alone[1] > 0


def test_losses_are_added_with_their_weights(distil):
    cut = "model.keep_layers=[1,3]"
    lesson = (torch.ones(3, dtype=torch.bool), torch.tensor([[0.8, 0.1, 0.1]] * 3))

    def found(**given):
        torch.manual_seed(0)
        return distil(config_of(**given), cut, losses=torch.ones(3), lesson=lesson)

    weights = {
        "class_loss_weight": 0.3,
        "soft_loss_weight": 2.0,
        "vector_loss_weight": 0.7,
        "states": 5.0,
        "attention": 0.4,
    }
    alone = {name: found(**{name: 1.0}) for name in weights if name != "hard"}
    expected = 0.3 + sum(weights[name] * loss for name, loss in alone.items())
    torch.testing.assert_close(found(**weights), expected)
    assert all((loss > 1e-5).all() for loss in alone.values())


def hidden_of(encoder, ids, mask):
    """What each layer of an encoder puts out."""
    kept = []
    hooks = [
        layer.register_forward_hook(lambda *call: kept.append(call[2]))
        for layer in encoder_layers(encoder)
    ]
    encoder.eval()(input_ids=ids, attention_mask=mask)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.mark.parametrize(("layers", "places"), [(None, [1, 3]), ([0, 2], [0, 2]), ([3, 3], [3, 3])])
def test_states_are_those_of_the_layers_that_are_named(distil, whole, tiny_config, layers, places):
    config = tiny_config(
        f"model.encoder={whole}", "model.random=null", "model.keep_layers=[0,1]"
    ).model
    student = TransformerClassifier.build(config, ["a", "b", "c"])
    found = distil(config_of(states=1.0, layers=layers), student=student)
    ids, mask = student.pad(student.tokenize(ITEMS))
    ours = hidden_of(student.module.encoder, ids, mask)
    theirs = hidden_of(load_encoder_of(whole)[0], ids, mask)
    expected = [StateLikeness()(ours[n], theirs[place], mask) for n, place in enumerate(places)]
    torch.testing.assert_close(found, torch.stack(expected).mean(0))


def projections(layer, states):
    inner = layer.attention.self
    return [each(states) for each in (inner.query, inner.key, inner.value)]


@pytest.mark.parametrize("cut", [["model.keep_width=16"], ["model.keep_width=8"], []], ids=str)
def test_attention_relations_are_those_of_the_last_layers(distil, whole, tiny_config, cut):
    config = tiny_config(
        f"model.encoder={whole}", "model.random=null", "model.keep_layers=[0,1]", *cut
    ).model
    student = TransformerClassifier.build(config, ["a", "b", "c"])
    found = distil(config_of(attention=1.0), student=student)
    ids, mask = student.pad(student.tokenize(ITEMS))
    mine, its = student.module.encoder, load_encoder_of(whole)[0]
    ours = projections(encoder_layers(mine)[-1], hidden_of(mine, ids, mask)[-2])
    theirs = projections(encoder_layers(its)[-1], hidden_of(its, ids, mask)[-2])
    compare = RelationLikeness(mine.config.num_attention_heads)
    expected = [compare(one, other, mask) for one, other in zip(ours, theirs, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected).mean(0))
    assert (found > 1e-4).all()


def test_a_named_last_layer_is_where_attention_is_learnt_from(distil):
    def found(layers):
        torch.manual_seed(0)
        return distil(config_of(attention=1.0, layers=layers), "model.keep_layers=[0,1]")

    torch.testing.assert_close(found([0, 1]), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(found([1, 3]), found(None))
    assert not torch.allclose(found([0, 2]), found(None))


@pytest.mark.parametrize(
    "given", [{"vector_loss_weight": 1.0}, {"states": 1.0}, {"attention": 1.0}]
)
def test_what_is_learnt_reaches_the_student_and_never_the_source(distil, whole, tiny_config, given):
    config = tiny_config(
        f"model.encoder={whole}", "model.random=null", "model.keep_layers=[0,1]"
    ).model
    student = TransformerClassifier.build(config, ["a", "b", "c"])
    distil(config_of(**given), student=student).sum().backward()
    lowest = encoder_layers(student.module.encoder)[0].attention.self.value.weight
    assert lowest.grad.abs().max() > 0
    assert student.module.head.weight.grad is None


def test_vectors_of_a_narrower_student_are_compared_too(distil):
    losses = distil(config_of(vectors=1.0), "model.keep_width=16")
    assert losses.shape == (3,)
    assert (losses > 0).all()


# Mistakes


@pytest.mark.parametrize("layers", [[1], [0, 1, 2], [0, 4]])
def test_layers_that_do_not_fit_are_refused(distil, layers):
    message = (
        f"distill.layers={layers}: expected a layer of the source, 0 to 3, for each of the "
        "student's 2"
    )
    for loss in ("states", "attention"):
        with pytest.raises(UserError) as caught:
            distil(config_of(layers=layers, **{loss: 1.0}), "model.keep_layers=[0,3]")
        assert caught.value.summary == message


def test_states_of_another_width_are_refused_and_say_what_takes_any(distil):
    with pytest.raises(UserError) as caught:
        distil(config_of(states=1.0), "model.keep_width=16")
    assert caught.value.summary == (
        "distill.states compares states of one width: the student has 16 numbers a token, the "
        "source 32"
    )
    assert "distill.attention and distill.vector_loss_weight" in caught.value.hint


def test_heads_that_the_source_can_not_be_divided_into_are_refused(distil):
    with pytest.raises(UserError, match="in 3 parts, the student's attention heads, which the so"):
        distil(config_of(attention=1.0), "model.keep_width=24")


def test_rows_that_teachers_have_no_opinion_of_teach_their_label_alone(distil):
    losses = torch.tensor([1.0, 2.0, 4.0])
    soft = torch.full((3, 3), 1 / 3)
    soft[1] = float("nan")
    lesson = (torch.ones(3, dtype=torch.bool), soft)
    found = distil(config_of(soft=1.0, hard=0.5), losses=losses, lesson=lesson)
    assert found[1] == 1.0
    assert found[0] > 0.5
    assert found[2] > 2.0


@pytest.mark.parametrize("loss", ["states", "attention"])
def test_encoders_of_the_library_have_no_insides_to_compare(whole, tiny_config, tmp_path, loss):
    folder = tmp_path / "distilbert"
    config = DistilBertConfig(vocab_size=30522, dim=32, n_layers=3, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((whole / "tokenizer.json").read_bytes())
    config = tiny_config(f"model.encoder={folder}", "model.random=null").model
    student = TransformerClassifier.build(config, ["a", "b"])
    encoder, tokenizer = load_encoder(config)
    source = Source(encoder, tokenizer, student.tokenizer, "mean")
    with pytest.raises(UserError, match="of type BERT, and this is DistilBertModel") as caught:
        Distillation(config_of(**{loss: 1.0}), student.module, source)
    assert "distill.vector_loss_weight work with any encoder" in caught.value.hint
    Distillation(config_of(vectors=1.0), student.module, source)
