import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.bert import BertEncoder
from tagger.models.encoders import encoder_layers, read_encoder
from tagger.models.static_encoder import StaticEncoder, make_static
from tagger.models.transformer import TransformerClassifier
from tagger.runs import RunFolder
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

ITEMS = [Item("1", "apple pear", "juice in a basket"), Item("2", "iron", "")]
STATIC = ("model.static=8", "model.freeze_embeddings=false")


@pytest.fixture
def encoder():
    """An encoder of 700 tokens, more than are computed at once."""
    torch.manual_seed(0)
    encoder = BertEncoder(
        {
            "model_type": "bert", "vocab_size": 700, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 8,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1, "initializer_range": 0.5, "pad_token_id": 3,
        }
    )  # fmt: skip
    encoder.initialize()
    return encoder.eval()


def alone(encoder, token):
    """What an encoder makes of a token between the two special ones, whose ids are 5 and 6."""
    ids = torch.tensor([[5, token, 6]])
    with torch.inference_mode():
        return encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]


def test_a_vector_is_that_of_the_token_by_itself(encoder):
    vectors = torch.stack([alone(encoder, token).mean(0) for token in range(700)])
    centred = vectors - vectors.mean(0)
    found = make_static(encoder, (5, 6), 16).table.weight.detach()
    # Directions are free: all products between vectors say where they lie.
    torch.testing.assert_close(found @ found.T, centred @ centred.T, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.mean(0), torch.zeros(16), atol=1e-4, rtol=0)


def test_fewer_numbers_are_the_first_ones_and_those_that_vary_most(encoder):
    whole = make_static(encoder, (5, 6), 16).table.weight.detach()
    fewer = make_static(encoder, (5, 6), 8).table.weight.detach()
    assert fewer.shape == (700, 8)
    torch.testing.assert_close(fewer, whole[:, :8])
    spread = whole.square().sum(0)
    assert torch.equal(spread, spread.sort(descending=True).values)
    # No other eight directions hold more.
    vectors = torch.stack([alone(encoder, token).mean(0) for token in range(700)])
    centred = vectors - vectors.mean(0)
    for seed in range(5):
        other, _ = torch.linalg.qr(torch.randn(16, 8, generator=torch.manual_seed(seed)))
        assert (centred @ other).square().sum() < spread[:8].sum()


def test_weights_rise_with_a_tokens_rank_and_are_one_on_average(encoder):
    weights = make_static(encoder, (5, 6), 8).weights.detach()
    assert (weights.diff() > 0).all()
    assert weights.mean().item() == pytest.approx(1)
    assert (weights[99] / weights[9]).item() == pytest.approx(math.log(101) / math.log(11))


@pytest.mark.parametrize("training", [True, False])
def test_the_encoder_stays_as_it_was_and_is_read_without_dropout(encoder, training):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    first = make_static(encoder.train(training), (5, 6), 8)
    assert encoder.training is training
    again = make_static(encoder, (5, 6), 8)
    assert torch.equal(first.table.weight, again.table.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert first.config.pad_token_id == 3


def test_a_state_is_the_tokens_vector_by_its_weight():
    static = StaticEncoder(4, 2, 0)
    static.table.weight.data.copy_(torch.tensor([[0.0, 0], [1, 2], [3, 4], [5, 6]]))
    static.weights.data.copy_(torch.tensor([1.0, 10, 0.5, 2]))
    ids = torch.tensor([[1, 2], [3, 1]])
    states = static(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert states.tolist() == [[[10, 20], [1.5, 2]], [[10, 12], [10, 20]]]
    assert static.get_input_embeddings() is static.table


def test_words_beside_it_and_their_order_do_not_matter(tiny_config):
    classifier = TransformerClassifier.build(tiny_config(*STATIC).model, ["a", "b"])
    classifier.module.eval()
    one, turned, alone = classifier.embed(
        [Item("1", "apple pear", ""), Item("2", "pear apple", ""), Item("3", "apple", "")]
    )
    np.testing.assert_allclose(one, turned, atol=1e-6)
    assert np.abs(one - alone).max() > 1e-6
    # Padding has no part in it.
    together = classifier.predict_proba([*ITEMS, Item("3", "apple " * 40, "")])
    apart = np.vstack([classifier.predict_proba([item]) for item in ITEMS])
    np.testing.assert_allclose(together[:2], apart, atol=1e-6)


def test_what_is_saved_is_loaded(encoder, tmp_path):
    static = make_static(encoder, (5, 6), 8)
    static.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "model_type": "static", "vocab_size": 700, "hidden_size": 8, "num_hidden_layers": 0,
        "pad_token_id": 3,
    }  # fmt: skip
    again = read_encoder(tmp_path)
    assert isinstance(again, StaticEncoder)
    assert vars(again.config) == vars(static.config)
    ids = torch.randint(700, (3, 5), generator=torch.manual_seed(0))
    one, other = (
        each(input_ids=ids, attention_mask=torch.ones_like(ids)) for each in (static, again)
    )
    assert torch.equal(one.last_hidden_state, other.last_hidden_state)


@pytest.mark.parametrize("name", ["weights", "table.weight"])
def test_a_missing_weight_is_named(encoder, tmp_path, name):
    make_static(encoder, (5, 6), 8).save_pretrained(tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    del kept[name]
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"it lacks '{name}'"):
        read_encoder(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("vocab_size", 699), ("hidden_size", None)])
def test_settings_that_do_not_fit_the_weights_are_refused(encoder, tmp_path, key, value):
    make_static(encoder, (5, 6), 8).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="does not hold a model that can be loaded"):
        read_encoder(tmp_path)


def test_a_classifier_of_token_vectors_is_saved_and_loaded(tiny_config, tmp_path):
    torch.manual_seed(0)
    classifier = TransformerClassifier.build(tiny_config(*STATIC).model, ["a", "b"])
    classifier.module.eval()
    classifier.save(tmp_path)
    again = TransformerClassifier.load(tmp_path)
    assert again.module.encoder.config.model_type == "static"
    np.testing.assert_array_equal(again.predict_proba(ITEMS), classifier.predict_proba(ITEMS))
    # What was saved serves as an encoder elsewhere.
    config = tiny_config(f"model.encoder={tmp_path}", "model.random=null").model
    elsewhere = TransformerClassifier.build(config, ["x", "y", "z"])
    np.testing.assert_allclose(elsewhere.embed(ITEMS), classifier.embed(ITEMS), atol=1e-6)


def test_what_there_is_no_layer_for_is_refused(tiny_config, tmp_path):
    static = TransformerClassifier.build(tiny_config(*STATIC).model, ["a", "b"])
    with pytest.raises(UserError, match="no stack of 0 layers"):
        encoder_layers(static.module.encoder)
    static.save(tmp_path)
    given = [f"model.encoder={tmp_path}", "model.random=null"]
    for cut in ("model.keep_layers=[0]", "model.keep_neurons=8", "model.freeze_layers=1"):
        with pytest.raises(UserError):
            TransformerClassifier.build(tiny_config(*given, cut).model, ["a", "b"])


def test_a_run_of_token_vectors_learns_what_there_is_to_learn(tiny_config, tmp_path):
    config = tiny_config(
        "name=run", f"runs_dir={tmp_path}", *STATIC, "distill=source",
        "distill.class_loss_weight=1",
        "training.lr=0.02",
    )  # fmt: skip
    run = RunFolder(train(config))
    assert run.finished
    assert run.meta.best_validation > 0.8
    assert run.load_classifier().module.encoder.config.hidden_size == 8
    assert run.meta.parameters == 30522 * 9 + 8 * 3 + 3


@pytest.mark.parametrize("width", [17, 4000])
def test_more_numbers_than_the_encoder_has_are_refused(encoder, width):
    with pytest.raises(UserError, match=f"model.static={width}: expected at most 16, as the enc"):
        make_static(encoder, (5, 6), width)
