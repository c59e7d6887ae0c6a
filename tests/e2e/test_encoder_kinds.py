"""Encoders of all types in docs/encoders.md, tiny: trained, resumed, saved, loaded, exported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tagger.compression.export import export_model
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import ExportConfig, TrainConfig
from tagger.data.items import Item
from tagger.models.encoders import fuse_attention
from tagger.models.registry import load_classifier
from tagger.runs import RunFolder
from tagger.training import loop
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

POSITIONS = 40
SHAPE = {
    "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": POSITIONS,
}  # fmt: skip
FROM_PADDING = {**SHAPE, "pad_token_id": 1, "max_position_embeddings": POSITIONS + 2}
ENDS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}

KINDS: dict[str, tuple[str, Callable[[], Any]]] = {
    "bert": ("words", lambda: transformers.BertConfig(**SHAPE)),
    "distilbert": (
        "words",
        lambda: transformers.DistilBertConfig(
            vocab_size=400, dim=32, n_layers=2, n_heads=2, hidden_dim=48,
            max_position_embeddings=POSITIONS,
        ),
    ),
    "mpnet": ("words", lambda: transformers.MPNetConfig(**FROM_PADDING)),
    "roberta": ("bytes", lambda: transformers.RobertaConfig(**FROM_PADDING)),
    "xlm-roberta": ("pieces", lambda: transformers.XLMRobertaConfig(**FROM_PADDING)),
    "modernbert": (
        "bytes",
        lambda: transformers.ModernBertConfig(
            **SHAPE, **ENDS, pad_token_id=0, local_attention=8, global_attn_every_n_layers=2
        ),
    ),
    "deberta-v2": (
        "pieces",
        lambda: transformers.DebertaV2Config(
            **SHAPE, relative_attention=True, position_buckets=16, pos_att_type="p2c|c2p",
            norm_rel_ebd="layer_norm", share_att_key=True, position_biased_input=False,
            type_vocab_size=0,
        ),
    ),
}  # fmt: skip
"""The tokenizer and the config of each kind; of DeBERTa the settings of version 3."""


NOT_FUSED = ("mpnet", "deberta-v2")
"""Types for which transformers has no fused attention."""


@pytest.fixture(scope="module")
def tokenizers(toy_folder: Path) -> dict[str, Tokenizer]:
    """Tokenizers of the toy file's words, of the three types that encoders come with."""
    lines = (toy_folder / "items.csv").read_text(encoding="utf-8").splitlines()
    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    made = {
        "words": (models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer),
        "bytes": (models.BPE(), trainers.BpeTrainer),
        "pieces": (models.Unigram(), trainers.UnigramTrainer),
    }
    split = {
        "words": pre_tokenizers.BertPreTokenizer(),
        "bytes": pre_tokenizers.ByteLevel(add_prefix_space=False),
        "pieces": pre_tokenizers.Metaspace(),
    }
    found = {}
    for kind, (model, trainer) in made.items():
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = split[kind]
        more = {"unk_token": "<unk>"} if kind == "pieces" else {}
        tokenizer.train_from_iterator(
            lines, trainer(vocab_size=390, special_tokens=special, show_progress=False, **more)
        )
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
        tokenizer.decoder = decoders.WordPiece()
        found[kind] = tokenizer
    return found


def save_encoder(kind: str, tokenizers: dict[str, Tokenizer], folder: Path) -> None:
    """Write a random encoder as its publishers do, with a declaration that it is read by CLS."""
    tokenizer, config = KINDS[kind]
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config()).save_pretrained(folder)
    tokenizers[tokenizer].save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [{"path": at, "type": f"sentence_transformers.models.{one}"} for at, one in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "", "Classification": "apple: "}}'
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_alone_is_trained_resumed_saved_loaded_and_exported(
    kind: str,
    tokenizers: dict[str, Tokenizer],
    tiny_config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_encoder(kind, tokenizers, tmp_path / "encoder")
    given = [
        f"model.encoder={tmp_path / 'encoder'}", f"runs_dir={tmp_path}", "model.dropout=0.1",
        "training.epochs=1", "training.batch_size=16", "training.checkpoint_seconds=0",
        "training.layer_decay=0.9", "model.freeze_layers=1",
    ]  # fmt: skip
    told: list[str] = []
    whole = RunFolder(train(tiny_config(*given, "name=whole"), told.append))
    assert any(f"reads at most {POSITIONS} tokens" in line for line in told), told
    assert whole.config.model.max_length == POSITIONS
    assert (whole.config.model.pooling, whole.config.model.prompt) == ("cls", "apple: ")
    assert whole.config.model.normalize is True
    assert whole.model_name == "encoder"

    step = loop.FinetuningRecipe._take_step

    def killed(recipe: Any, batch: list[int]) -> None:
        if recipe.progress.step == 2:
            raise RuntimeError("killed")
        step(recipe, batch)

    monkeypatch.setattr(loop.FinetuningRecipe, "_take_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(tiny_config(*given, "name=killed"), told.append)
    monkeypatch.undo()
    again = [f"resume={tmp_path / 'killed'}", given[0]]
    resumed = RunFolder(
        train(load_config(TrainConfig, compose_config("train", again)), told.append)
    )
    assert resumed.meta.model_files == whole.meta.model_files

    classifier: Any = whole.load_classifier()
    items = [Item("1", "apple", ""), Item("2", "iron " * 99, ""), Item("3", "rain fog", "雾 é")]
    expected = classifier.predict_proba(items)
    theirs: Any = transformers.AutoModel.from_pretrained(whole.path / "model")
    inputs = transformers.AutoTokenizer.from_pretrained(whole.path / "model")(
        [item.text for item in items], padding=True, truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        states = theirs.eval()(**inputs).last_hidden_state[:, 0]
    vectors = torch.nn.functional.normalize(states).numpy()
    np.testing.assert_allclose(classifier.embed(items), vectors, atol=1e-5)

    for dtype, most in (("fp32", 1e-5), ("int8", 0.05)):
        settings = ["run=any", f"compress.dtype={dtype}", "compress.threads=1"]
        compress = load_config(ExportConfig, compose_config("export", settings)).compress
        export_model(classifier, compress, tmp_path / dtype)
        found = load_classifier(tmp_path / dtype).predict_proba(items)
        assert np.abs(found - expected).max() < most, dtype
        fuse_attention(classifier.module.encoder)  # the second export is of fused attention
        np.testing.assert_allclose(classifier.predict_proba(items), expected, atol=1e-5)
    attention = getattr(classifier.module.encoder.config, "_attn_implementation", "sdpa")
    assert attention == ("eager" if kind in NOT_FUSED else "sdpa")
