import json

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.registry import load_classifier
from tagger.models.tokenization import share_cut
from tagger.models.transformer import (
    TransformerClassifier,
    cls_pool,
    max_pool,
    mean_pool,
)

STATES = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
MASK = torch.tensor([[1, 1, 0]])


def items_of_many_lengths():
    return [Item(str(n), "alpha beta " * n, "gamma" if n % 2 else "") for n in (9, 1, 30, 2, 14)]


@pytest.mark.parametrize(
    ("pool", "expected"), [(mean_pool, [2.0, 4.0]), (max_pool, [3.0, 6.0]), (cls_pool, [1.0, 2.0])]
)
def test_pooling_ignores_padding(pool, expected):
    assert pool(STATES, MASK)[0].tolist() == expected


def test_probabilities_are_a_distribution_in_the_order_of_the_items(tiny_classifier):
    items = items_of_many_lengths()
    together = tiny_classifier.predict_proba(items)
    alone = np.vstack([tiny_classifier.predict_proba([item]) for item in items])
    assert together.shape == (5, len(tiny_classifier.tags))
    np.testing.assert_allclose(together.sum(1), 1.0, atol=1e-12)
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_no_items_give_no_rows(tiny_classifier):
    assert tiny_classifier.predict_proba([]).shape == (0, len(tiny_classifier.tags))


def test_prediction_leaves_training_mode_as_it_was(tiny_classifier):
    tiny_classifier.module.train()
    tiny_classifier.predict_proba(items_of_many_lengths())
    assert tiny_classifier.module.training


def test_long_text_is_cut_not_refused(tiny_classifier):
    item = Item("1", "word " * 5000, "")
    assert len(tiny_classifier.tokenize([item])[0]) == tiny_classifier.shape["max_length"]
    assert np.isfinite(tiny_classifier.predict_proba([item])).all()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_loaded_classifier_gives_the_same_probabilities(tmp_path, tiny_config, head):
    # training.head_init=random: a probe needs a linear head.
    config = tiny_config(f"model.head={head}", "training.head_init=random")
    classifier = TransformerClassifier.build(config.model, ["a", "b"])
    classifier.save(tmp_path / "model")
    loaded = TransformerClassifier.load(tmp_path / "model")
    items = items_of_many_lengths()
    assert loaded.tags == ("a", "b")
    np.testing.assert_array_equal(loaded.predict_proba(items), classifier.predict_proba(items))
    again = load_classifier(tmp_path / "model")
    assert isinstance(again, TransformerClassifier)
    np.testing.assert_array_equal(again.predict_proba(items), classifier.predict_proba(items))
    assert not list((tmp_path / "model").glob("*.bin"))


def test_saved_folder_serves_as_an_encoder_elsewhere(tmp_path, tiny_classifier, tiny_config):
    tiny_classifier.save(tmp_path / "model")
    assert AutoModel.from_pretrained(tmp_path / "model").config.num_hidden_layers == 2
    config = tiny_config(f"model.encoder={tmp_path / 'model'}", "model.random=null").model
    again = TransformerClassifier.build(config, tiny_classifier.tags)
    items = items_of_many_lengths()
    np.testing.assert_allclose(again.embed(items), tiny_classifier.embed(items), atol=1e-6)


def test_frozen_parts_are_out_of_training(tiny_config):
    frozen = TransformerClassifier.build(tiny_config("model.freeze_layers=1").model, ["a", "b"])
    trainable = {n for n, p in frozen.module.named_parameters() if p.requires_grad}
    assert not any("embeddings" in name or "layer.0." in name for name in trainable)
    assert any("layer.1." in name for name in trainable)
    with pytest.raises(UserError, match="freeze_layers=3"):
        TransformerClassifier.build(tiny_config("model.freeze_layers=3").model, ["a", "b"])


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_vectors_give_the_same_probabilities_as_their_items(tiny_config, head):
    config = tiny_config(f"model.head={head}", "training.head_init=random")
    classifier = TransformerClassifier.build(config.model, ["a", "b", "c"])
    classifier.module.eval()
    items = items_of_many_lengths()
    probabilities = classifier.predict_from_vectors(classifier.embed(items))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, classifier.predict_proba(items), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-12)


def test_logits_come_with_the_vectors_that_they_are_made_of(tiny_classifier):
    module = tiny_classifier.module.eval()
    ids, mask = tiny_classifier.pad(tiny_classifier.tokenize(items_of_many_lengths()))
    logits, vectors = module(ids, mask)
    torch.testing.assert_close(vectors, module.embed(ids, mask))
    torch.testing.assert_close(logits, module.head(vectors))


def test_a_frozen_encoder_is_as_it_was_pretrained_and_out_of_training(tiny_config, tmp_path):
    torch.manual_seed(3)
    config = tiny_config().model
    TransformerClassifier.build(config, ["a", "b"]).save(tmp_path / "model")
    pretrained = TransformerClassifier.load(tmp_path / "model")
    given = tiny_config(f"model.encoder={tmp_path / 'model'}", "model.random=null").model
    frozen = TransformerClassifier.build_frozen(given, ["a", "b", "c"])
    trainable = {n for n, p in frozen.module.named_parameters() if p.requires_grad}
    assert trainable == {"head.weight", "head.bias"}
    items = items_of_many_lengths()
    frozen.module.eval()
    vectors = pretrained.embed(items)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.01
    # Its vectors are taken at length 1.
    np.testing.assert_allclose(frozen.embed(items), vectors / lengths, atol=1e-6)
    assert frozen.predict_proba(items).shape == (5, 3)


@pytest.mark.slow
def test_saved_and_loaded_a_frozen_model_still_takes_its_vectors_at_length_1(tiny_config, tmp_path):
    config = tiny_config().model
    items = items_of_many_lengths()
    for name, build, unit in (
        ("frozen", TransformerClassifier.build_frozen, True),
        ("fine-tuned", TransformerClassifier.build, False),
    ):
        classifier = build(config, ["a", "b", "c"])
        classifier.module.eval()
        classifier.save(tmp_path / name)
        again = TransformerClassifier.load(tmp_path / name)
        np.testing.assert_array_equal(again.embed(items), classifier.embed(items))
        np.testing.assert_array_equal(again.predict_proba(items), classifier.predict_proba(items))
        at_one = np.isclose(np.linalg.norm(again.embed(items), axis=1), 1, atol=1e-5)
        assert at_one.all() if unit else not at_one.any()


@pytest.mark.slow
def test_encoder_dropout_is_what_the_config_says(tiny_config):
    def rates(*overrides):
        classifier = TransformerClassifier.build(tiny_config(*overrides).model, ["a", "b"])
        encoder = classifier.module.encoder
        return {m.p for m in encoder.modules() if isinstance(m, torch.nn.Dropout)}

    assert rates("model.encoder_dropout=0.3") == {0.3}
    assert rates("model.encoder_dropout=null") == {0.1}


@pytest.mark.parametrize(("length", "fused"), [(256, False), (257, True)])
def test_a_model_of_long_texts_is_loaded_with_the_attention_that_it_was_built_with(
    tiny_config, tmp_path, length, fused
):
    config = tiny_config(f"model.max_length={length}").model
    for build in (TransformerClassifier.build, TransformerClassifier.build_frozen):
        classifier = build(config, ["a", "b"])
        classifier.save(tmp_path)
        assert ("fused_attention" in json.loads((tmp_path / "tagger.json").read_text())) == fused
        again = TransformerClassifier.load(tmp_path)
        assert classifier.module.encoder.fused_attention == fused
        assert again.module.encoder.fused_attention == fused
        item = [Item("1", "alpha beta gamma " * 200, "")]
        np.testing.assert_array_equal(again.embed(item), classifier.embed(item))


def test_the_share_of_texts_that_are_cut_is_counted(tiny_classifier):
    texts = ["word " * n for n in (1, 61, 62, 63, 99)]  # two tokens of 64 are special
    assert share_cut(tiny_classifier.tokenizer, texts) == 2 / 5
    assert share_cut(tiny_classifier.tokenizer, []) == 0
