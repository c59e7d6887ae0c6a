"""Model folders as other libraries open them: what they compute is ours, or they refuse."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from tagger.config.schema import TrainConfig
from tagger.data.items import Item
from tagger.models.interchange import NOTE
from tagger.models.registry import load_classifier
from tagger.models.transformer import TransformerClassifier
from tagger.scores import softmax

TAGS = ["fruit", "metal", "weather"]
ITEMS = [
    Item("1", "apple", "pear cherry"),
    Item("2", "iron " * 99, "rain"),
    Item("3", "", "fog 雾"),
]
TEXTS = [item.text for item in ITEMS]
SHAPES = [
    ("mean", "linear", False),
    ("mean", "linear", True),
    ("max", "mlp", False),
    ("cls", "mlp", True),
]

Make = Callable[..., TransformerClassifier]


@pytest.fixture
def make(tiny_config: Callable[..., TrainConfig]) -> Make:
    """Makes an untrained model whose every weight, of the head too, has an effect."""

    def make(pooling: str, head: str, normalize: bool) -> TransformerClassifier:
        torch.manual_seed(0)
        given = (f"model.pooling={pooling}", f"model.head={head}", "training.head_init=random")
        config = tiny_config(*given).model
        classifier = TransformerClassifier.build(config, TAGS)
        classifier.shape = {**classifier.shape, "normalize": normalize}
        classifier.module.normalize = normalize
        with torch.no_grad():
            for parameter in classifier.module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return classifier

    return make


def compute_modules(folder: Path) -> dict[str, torch.Tensor]:
    """Compute what `modules.json` says, with torch and transformers alone."""
    modules = json.loads((folder / "modules.json").read_text())
    assert [one["idx"] for one in modules] == list(range(len(modules)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    encoder = transformers.AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        states, mask = encoder(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        features: dict[str, torch.Tensor] = {}
        for module in modules[1:]:
            kind = module["type"].removeprefix("sentence_transformers.models.")
            settings = json.loads((folder / module["path"] / "config.json").read_text())
            if kind == "Pooling":
                (mode,) = (name for name, value in settings.items() if value is True)
                features["sentence_embedding"] = {
                    "pooling_mode_mean_tokens": (states * mask).sum(1) / mask.sum(1),
                    "pooling_mode_max_tokens": states.masked_fill(mask == 0, -1e9).amax(1),
                    "pooling_mode_cls_token": states[:, 0],
                }[mode]
            elif kind == "Normalize":
                vectors = features["sentence_embedding"]
                features["sentence_embedding"] = vectors / vectors.norm(dim=1, keepdim=True)
            else:
                assert kind == "Dense"
                weights = load_file(folder / module["path"] / "model.safetensors")
                values = features[settings["module_input_name"]] @ weights["linear.weight"].T
                values = values + weights["linear.bias"]
                assert list(weights["linear.weight"].shape) == [
                    settings["out_features"],
                    settings["in_features"],
                ]
                name = settings["activation_function"]
                function = {"torch.nn.Identity": lambda one: one, "torch.nn.GELU": torch.nn.GELU()}
                features[settings["module_output_name"]] = function[name](values)
    return features


@pytest.mark.slow
@pytest.mark.parametrize(("pooling", "head", "normalize"), SHAPES)
def test_modules_say_what_the_model_computes(make, tmp_path, pooling, head, normalize):
    classifier = make(pooling, head, normalize)
    classifier.save(tmp_path)
    features = compute_modules(tmp_path)
    embedded, probabilities = classifier.embed(ITEMS), classifier.predict_proba(ITEMS)
    assert np.ptp(probabilities, axis=0).max() > 0.01
    np.testing.assert_allclose(features["sentence_embedding"], embedded, atol=1e-5)
    np.testing.assert_allclose(softmax(features["logits"].numpy()), probabilities, atol=1e-5)
    np.testing.assert_array_equal(load_classifier(tmp_path).predict_proba(ITEMS), probabilities)


@pytest.mark.slow
@pytest.mark.parametrize(("pooling", "head", "normalize"), SHAPES)
def test_sentence_transformers_computes_the_same(make, tmp_path, pooling, head, normalize):
    library = pytest.importorskip("sentence_transformers")
    classifier = make(pooling, head, normalize)
    classifier.save(tmp_path)
    opened = library.SentenceTransformer(str(tmp_path), device="cpu")
    assert opened.max_seq_length == classifier.shape["max_length"]
    np.testing.assert_allclose(opened.encode(TEXTS), classifier.embed(ITEMS), atol=1e-5)
    logits = [one["logits"].numpy() for one in opened.encode(TEXTS, output_value=None)]
    expected = classifier.predict_proba(ITEMS)
    np.testing.assert_allclose(softmax(np.array(logits)), expected, atol=1e-5)


def test_the_config_names_the_tags_and_the_tokenizer_pads_and_cuts(make, tmp_path):
    classifier = make("mean", "linear", False)
    classifier.save(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert config.id2label == dict(enumerate(TAGS))
    assert config.label2id == {tag: number for number, tag in enumerate(TAGS)}
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == classifier.shape["max_length"]
    for purpose in ("pad", "unk", "cls", "sep", "mask"):
        assert getattr(tokenizer, f"{purpose}_token") == f"[{purpose.upper()}]"
    ids = tokenizer(TEXTS, truncation=True)["input_ids"]
    assert ids == classifier.tokenize(ITEMS)


def small(**changes: int) -> dict[str, int]:
    return {
        "vocab_size": 30522, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "pad_token_id": 0, **changes,
    }  # fmt: skip


ENCODERS = {
    "bert": lambda: transformers.BertConfig(**small(), hidden_act="relu"),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=30522, dim=16, n_layers=1, n_heads=2, hidden_dim=16
    ),
    "mpnet": lambda: transformers.MPNetConfig(**small()),
    "roberta": lambda: transformers.RobertaConfig(**small(max_position_embeddings=80)),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**small(max_position_embeddings=80)),
    "electra": lambda: transformers.ElectraConfig(**small(embedding_size=16)),
    "deberta-v2": lambda: transformers.DebertaV2Config(**small()),
    "modernbert": lambda: transformers.ModernBertConfig(
        **small(), bos_token_id=101, eos_token_id=102, cls_token_id=101, sep_token_id=102
    ),
}


@pytest.fixture
def foreign(make: Make, tmp_path: Path) -> Callable[[str], TransformerClassifier]:
    """Saves a model around an encoder of transformers below `tmp_path`, and returns it."""

    def save(kind: str) -> TransformerClassifier:
        ours = make("mean", "linear", False)
        encoder = transformers.AutoModel.from_config(ENCODERS[kind](), attn_implementation="eager")
        tokenizer = ours.tokenizer
        classifier = TransformerClassifier._assemble(encoder, tokenizer, TAGS, ours.shape)
        classifier.save(tmp_path)
        return classifier

    return save


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODERS)
def test_transformers_refuses_to_invent_a_head(foreign, tmp_path, kind, caplog, monkeypatch):
    classifier = foreign(kind)
    monkeypatch.setattr(transformers.logging.get_logger("transformers"), "propagate", True)
    transformers.logging.set_verbosity_warning()  # our own loading had turned it down
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert NOTE in caplog.text, "the report above the refusal says what to do"
    with pytest.raises(ValueError, match="Could not load model"):
        transformers.pipeline("text-classification", model=str(tmp_path), device="cpu")
    features = compute_modules(tmp_path)
    np.testing.assert_allclose(features["sentence_embedding"], classifier.embed(ITEMS), atol=1e-5)
    again = load_classifier(tmp_path).predict_proba(ITEMS)
    np.testing.assert_allclose(again, classifier.predict_proba(ITEMS), atol=1e-6)


def test_our_own_encoder_is_refused_alike(make, tmp_path):
    make("mean", "linear", False).save(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)


@pytest.mark.slow
def test_static_vectors_are_opened_by_nobody_else(tiny_config, tmp_path):
    config = tiny_config("model.static=16", "training.head_init=random").model
    TransformerClassifier.build(config, TAGS).save(tmp_path)
    assert not (tmp_path / "modules.json").exists()
    with pytest.raises(ValueError, match="static"):
        transformers.pipeline("text-classification", model=str(tmp_path), device="cpu")
