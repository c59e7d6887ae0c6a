import copy
import re

import numpy as np
import pytest
import torch
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.bert import BertEncoder
from tagger.models.encoders import encoder_layers, load_encoder, read_encoder
from tagger.models.students import keep_layers, keep_neurons
from tagger.models.transformer import TransformerClassifier

SHAPE = "model.random={layers: 4, hidden: 32, heads: 4, intermediate: 64}"
ITEMS = [Item("1", "alpha beta", "gamma"), Item("2", "one two three four", "")]
IDS = torch.tensor([[101, 7592, 2088, 102], [101, 2748, 2003, 102]])


@pytest.fixture
def four_layers(tiny_config):
    """An encoder of four layers, which differ widely."""
    torch.manual_seed(0)
    encoder, _ = load_encoder(tiny_config(SHAPE).model)
    for parameter in encoder_layers(encoder).parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder.eval()


def states(encoder):
    with torch.inference_mode():
        return encoder(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state


@pytest.mark.parametrize("kept", [[0, 1, 2, 3], [1, 3], [0], [3]])
def test_the_layers_that_are_named_stay_in_their_order(four_layers, kept):
    before, whole = list(encoder_layers(four_layers)), states(four_layers)
    keep_layers(four_layers, kept)
    after = list(encoder_layers(four_layers))
    assert len(after) == four_layers.config.num_hidden_layers == len(kept)
    assert all(layer is before[number] for layer, number in zip(after, kept, strict=True))
    assert torch.equal(states(four_layers), whole) == (len(kept) == 4)


def test_fewer_layers_compute_what_they_would_beside_layers_that_do_nothing(four_layers):
    """What is left out passes on what it is given, as if it were not there."""
    hidden = []
    hook = encoder_layers(four_layers)[2].register_forward_hook(
        lambda layer, inputs, output: hidden.append(output)
    )
    states(four_layers)
    hook.remove()
    keep_layers(four_layers, [0, 1, 2])
    torch.testing.assert_close(states(four_layers), hidden[0])


@pytest.mark.parametrize(("kept", "absent"), [([1, 4], 4), ([7, 9], 7)])
def test_a_layer_that_is_not_there_is_refused(four_layers, kept, absent):
    message = re.escape(f"model.keep_layers={kept}: there is no layer {absent}")
    with pytest.raises(UserError, match=message) as caught:
        keep_layers(four_layers, kept)
    assert caught.value.hint == "The encoder has 4 layers, counted from 0."
    assert len(encoder_layers(four_layers)) == 4


def distilbert(folder):
    """An encoder that transformers computes."""
    config = DistilBertConfig(vocab_size=8000, dim=32, n_layers=3, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(folder)
    encoder = read_encoder(folder).eval()
    assert not isinstance(encoder, BertEncoder)
    return encoder


def test_layers_of_an_encoder_of_the_library_are_kept_too(tmp_path):
    encoder = distilbert(tmp_path / "whole")
    keep_layers(encoder, [0, 2])
    encoder.save_pretrained(tmp_path / "student")
    again = read_encoder(tmp_path / "student").eval()
    assert len(encoder_layers(again)) == 2
    torch.testing.assert_close(states(again), states(encoder))


def cut(encoder, neurons):
    """A copy of an encoder with fewer neurons."""
    student = copy.deepcopy(encoder)
    keep_neurons(student, neurons)
    return student


def test_with_all_its_neurons_an_encoder_computes_what_it_did(four_layers):
    torch.testing.assert_close(states(cut(four_layers, 64)), states(four_layers))


@pytest.mark.parametrize("neurons", [24, 1])
def test_an_encoder_has_the_neurons_that_it_was_left(four_layers, neurons):
    student = cut(four_layers, neurons)
    assert states(student).shape == (2, 4, 32)
    assert student.config.intermediate_size == neurons
    layer = encoder_layers(student)[3]
    assert layer.intermediate.dense.weight.shape == (neurons, 32)
    assert layer.output.dense.weight.shape == (32, neurons)


def marked(matrix, rows, columns):
    """The part of a matrix where some rows and columns meet."""
    return matrix[rows][:, columns]


def test_the_neurons_with_the_largest_weights_stay(four_layers):
    kept = torch.tensor([3, 11, 40, 63])
    for layer in encoder_layers(four_layers):
        layer.intermediate.dense.weight.data[kept] *= 100
        # Half of what makes a neuron strong is not enough.
        layer.output.dense.weight.data[:, [5, 6]] *= 20
    student = cut(four_layers, 4)
    everything = torch.arange(32)
    for mine, its in zip(encoder_layers(student), encoder_layers(four_layers), strict=True):
        assert torch.equal(
            mine.intermediate.dense.weight, marked(its.intermediate.dense.weight, kept, everything)
        )
        assert torch.equal(mine.intermediate.dense.bias, its.intermediate.dense.bias[kept])
        assert torch.equal(
            mine.output.dense.weight, marked(its.output.dense.weight, everything, kept)
        )
        assert torch.equal(mine.output.dense.bias, its.output.dense.bias)


def test_neurons_without_an_effect_can_go_and_nothing_changes(four_layers):
    dead = torch.arange(0, 64, 2)
    for layer in encoder_layers(four_layers):
        layer.output.dense.weight.data[:, dead] = 0
    torch.testing.assert_close(states(cut(four_layers, 32)), states(four_layers))


def test_more_neurons_than_there_are_are_refused(four_layers):
    with pytest.raises(UserError, match=r"keep_neurons=65: the encoder has 64 in each layer"):
        cut(four_layers, 65)


def test_encoders_of_the_library_keep_their_neurons(tmp_path):
    encoder = distilbert(tmp_path)
    with pytest.raises(UserError, match="of type BERT, and this is DistilBertModel"):
        keep_neurons(encoder, 16)


CUTS = [
    ["model.keep_layers=[0,3]"],
    ["model.keep_neurons=20"],
    ["model.keep_layers=[1]", "model.keep_neurons=9"],
]


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS, ids=" ".join)
def test_a_student_is_saved_and_loaded(tmp_path, tiny_config, cut):
    torch.manual_seed(0)
    config = tiny_config(SHAPE, *cut).model
    student = TransformerClassifier.build(config, ["a", "b"])
    assert len(encoder_layers(student.module.encoder)) == len(config.keep_layers or range(4))
    student.save(tmp_path)
    loaded = TransformerClassifier.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(ITEMS), student.predict_proba(ITEMS))
    theirs = AutoModel.from_pretrained(tmp_path).eval()
    assert theirs.config.hidden_size == 32
    torch.testing.assert_close(
        states(theirs), states(student.module.encoder.eval()), atol=1e-5, rtol=1e-4
    )


@pytest.mark.slow
def test_a_student_of_the_real_encoder_has_its_layers(tiny_config):
    teacher, _ = load_encoder(tiny_config("model=minilm").model)
    student = TransformerClassifier.build(tiny_config("model=student").model, ["a", "b"])
    mine, its = encoder_layers(student.module.encoder), encoder_layers(teacher)
    assert len(mine) == 3
    for layer, number in zip(mine, [1, 3, 5], strict=True):
        for name, weights in layer.state_dict().items():
            assert torch.equal(weights, its[number].state_dict()[name])


def test_frozen_layers_are_counted_among_those_that_stay(tiny_config):
    given = [SHAPE, "model.keep_layers=[1,3]", "model.freeze_layers=1"]
    built = TransformerClassifier.build(tiny_config(*given).model, ["a", "b"])
    trained = [
        all(p.requires_grad for p in layer.parameters())
        for layer in encoder_layers(built.module.encoder)
    ]
    assert trained == [False, True]
    with pytest.raises(UserError, match="freeze_layers=3, but the encoder has 2 layers"):
        TransformerClassifier.build(
            tiny_config(*given[:2], "model.freeze_layers=3").model, ["a", "b"]
        )
