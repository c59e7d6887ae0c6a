"""Writes the files that other libraries open a model folder with, and keeps them from guessing.

The encoder lies as transformers' AutoModel and sentence-transformers read it. What comes after it
is listed in `modules.json`, which the latter alone reads. transformers has no class that computes
a BERT, its mean and a linear head (ModernBERT's and EuroBERT's take a mean, but are other encoders;
XLM's counts padding in): its classifiers would put a head of random weights on ours, with no more
than a warning. They are made to refuse: the weights of such a head are there, in a shape that fits
none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from tagger.files import replacing, write_json
from tagger.models.bert import BertEncoder
from tagger.models.tokenization import TOKENIZER

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER_CONFIG = "tokenizer_config.json"
MODULES = "sentence_transformers.models"
OPENED_BY = "SentenceTransformer"
"""Class that opens a folder whose head transformers does not know."""

NOTE = "modules.json names the head: open this folder with sentence-transformers or tagger.load"
"""Name of a tensor of one number: transformers lists it in the report above its refusal."""

SPECIAL_TOKENS = {
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
"""What the special tokens are called that transformers wants to know by their purpose."""


def write_tokenizer(folder: Path, tokenizer: Tokenizer, max_length: int, pad_token_id: int) -> None:
    """Write a tokenizer for the `tokenizers` library and for AutoTokenizer, cutting and padding."""
    tokenizer.save(str(folder / TOKENIZER))
    special = {
        purpose: name
        for purpose, names in SPECIAL_TOKENS.items()
        for name in names
        if tokenizer.token_to_id(name) is not None
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "pad_token": tokenizer.id_to_token(pad_token_id),
        **special,
    }
    write_json(folder / TOKENIZER_CONFIG, settings)


def write_encoder_config(folder: Path, encoder: Any, tags: Sequence[str], opened_by: str) -> None:
    """Write `config.json` of an encoder whose folder gives probabilities for these tags.

    Args:
        folder: Where to.
        encoder: Of any kind but a static one.
        tags: In the order of the logits.
        opened_by: Name of the class that computes all of the folder.
    """
    bert = isinstance(encoder, BertEncoder)
    settings = encoder.current_settings() if bert else encoder.config.to_diff_dict()
    labels = {
        "architectures": [opened_by],
        "id2label": {str(number): tag for number, tag in enumerate(tags)},
        "label2id": {tag: number for number, tag in enumerate(tags)},
    }
    write_json(folder / CONFIG, {**settings, **labels})


def write_modules(folder: Path, hidden: int, head: nn.Module, shape: Mapping[str, Any]) -> None:
    """Write what sentence-transformers is to compute: `sentence_embedding`, of it `logits`.

    Args:
        folder: Where the encoder and its tokenizer are.
        hidden: Width of the encoder.
        head: As `build_head` builds it.
        shape: Settings of the model: `pooling`, `normalize`, `max_length`.
    """
    modes = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens"}
    pooling = {f"pooling_mode_{mode}": kind == shape["pooling"] for kind, mode in modes.items()}
    modules: list[tuple[str, dict[str, Any], nn.Linear | None]] = [
        ("Pooling", {"word_embedding_dimension": hidden, **pooling}, None)
    ]
    if shape["normalize"]:
        modules.append(("Normalize", {}, None))
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    for linear, source in zip(layers, ("sentence_embedding", "hidden"), strict=False):
        last = linear is layers[-1]
        dense = {
            "in_features": linear.in_features,
            "out_features": linear.out_features,
            "bias": True,
            "activation_function": f"torch.nn.{'Identity' if last else 'GELU'}",
            "module_input_name": source,
            "module_output_name": "logits" if last else "hidden",
        }
        modules.append(("Dense", dense, linear))
    listed: list[dict[str, Any]] = [
        {"idx": 0, "name": "0", "path": "", "type": f"{MODULES}.Transformer"}
    ]
    limits = {"max_seq_length": shape["max_length"], "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", limits)
    for number, (kind, settings, layer) in enumerate(modules, 1):
        path = f"{number}_{kind}"
        listed.append(
            {"idx": number, "name": str(number), "path": path, "type": f"{MODULES}.{kind}"}
        )
        write_json(folder / path / CONFIG, settings)
        if layer is not None:
            weights = {f"linear.{name}": one for name, one in layer.state_dict().items()}
            _save(weights, folder / path / WEIGHTS)
    write_json(folder / "modules.json", listed)


def refuse_other_heads(folder: Path, encoder: nn.Module) -> None:
    """Let transformers' classifiers refuse the encoder's weights instead of inventing a head.

    `AutoModel` and sentence-transformers pass over these tensors.
    """
    tensors = load_file(folder / WEIGHTS)
    marks = {name: torch.zeros(1) for name in (NOTE, *_head_weights(encoder))}
    _save({**tensors, **marks}, folder / WEIGHTS)


def _head_weights(encoder: Any) -> list[str]:
    """Return the names of the weights that transformers' classifier has beside its encoder."""
    if isinstance(encoder, BertEncoder):
        return ["classifier.weight"]
    from transformers import AutoModelForSequenceClassification

    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(encoder.config)
    except ValueError:
        return []  # there is no such class, so none that could guess
    own = f"{model.base_model_prefix}."
    return [name for name, _ in model.named_parameters() if not name.startswith(own)]


def _save(weights: Mapping[str, Tensor], path: Path) -> None:
    # Not over the file itself: tensors that were read from it may still lie there.
    with replacing(path) as temporary:
        tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(tensors, temporary, metadata={"format": "pt"})
