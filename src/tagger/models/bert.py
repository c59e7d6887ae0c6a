"""A BERT encoder whose import takes a fraction of the time that transformers takes.

transformers' own module is the reference, and tests hold this one against it. It is not used for
encoders of type `bert` because importing it takes longer than importing torch and this project
together, in every training run and every prediction (benchmarks/RESULTS.md has the figures).
Parameters have the names and shapes that transformers gives them, so weights go back and forth as
they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tagger.files import write_json

LONG = 256
"""Tokens above which torch's fused attention is faster, and takes less memory, on a CPU too."""

SUPPORTED = {"model_type": "bert", "hidden_act": "gelu", "is_decoder": False}
"""Settings that a config.json must have, or leave out, for `BertEncoder` to compute it rightly."""


@dataclass
class EncoderOutput:
    """What transformers calls a model output: the token states, (n, tokens, hidden)."""

    last_hidden_state: Tensor


class BertEncoder(nn.Module):
    """Devlin et al. 2019, without the pooling layer, for inference and fine-tuning.

    Args:
        settings: The content of a `config.json`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        self.fused_attention = False
        self.config = SimpleNamespace(**{"pad_token_id": 0, **settings})
        self.embeddings = _Embeddings(self.config)
        layers = (_Layer(self.config) for _ in range(self.config.num_hidden_layers))
        self.encoder: Any = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Map ids and mask, both (n, tokens), to token states (n, tokens, hidden)."""
        states = self.embeddings(input_ids)
        # (n, 1, 1, tokens): for every head and query, 0 where it may look and -inf at padding.
        padding = attention_mask[:, None, None, :] == 0
        bias = torch.zeros(padding.shape, device=states.device).masked_fill(padding, float("-inf"))
        fused = self.fused_attention and input_ids.shape[1] > LONG
        for layer in self.encoder.layer:
            states = layer(states, bias, fused)
        return EncoderOutput(states)

    def get_input_embeddings(self) -> nn.Module:
        """Return the table of token embeddings."""
        return self.embeddings.word_embeddings

    def current_settings(self) -> dict[str, Any]:
        """Return the content of a `config.json`, which for a student says what is left of it."""
        own = {
            "num_hidden_layers": len(self.encoder.layer),
            "vocab_size": self.config.vocab_size,
            "pad_token_id": self.config.pad_token_id,
        }
        return {"architectures": ["BertModel"], **self.settings, **own}

    def save_pretrained(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` as transformers writes and reads them."""
        write_json(folder / "config.json", self.current_settings())
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    def initialize(self) -> None:
        """Draw all weights anew, as BERT did: normal with standard deviation 0.02, no bias."""
        spread = self.settings.get("initializer_range", 0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=spread)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)


class _Embeddings(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.word_embeddings = _table(config.vocab_size, config.hidden_size)
        self.position_embeddings = _table(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = _table(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor) -> Tensor:
        # All tokens are of one segment, and positions count from 0.
        places = self.position_embeddings.weight[: input_ids.shape[1]]
        states = self.word_embeddings(input_ids) + (places + self.token_type_embeddings.weight[0])
        result: Tensor = self.dropout(self.LayerNorm(states))
        return result


class _Layer(nn.Module):
    """Attention, then a feed-forward block; nested as in transformers, for the weights' names."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.attention: Any = nn.ModuleDict(
            {
                "self": nn.ModuleDict(
                    {
                        **{name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")},
                        "dropout": nn.Dropout(config.attention_probs_dropout_prob),
                    }
                ),
                "output": _Output(hidden, hidden, config),
            }
        )
        self.intermediate: Any = nn.ModuleDict({"dense": nn.Linear(hidden, inner)})
        self.output = _Output(inner, hidden, config)

    def forward(self, states: Tensor, bias: Tensor, fused: bool) -> Tensor:
        attended = self.attention.output(self._attend(states, bias, fused), states)
        result: Tensor = self.output(F.gelu(self.intermediate.dense(attended)), attended)
        return result

    def _attend(self, states: Tensor, bias: Tensor, fused: bool) -> Tensor:
        n, tokens, hidden = states.shape
        parts = self.attention.self
        query, key, value = (
            projection(states).view(n, tokens, self.heads, -1).transpose(1, 2)
            for projection in (parts.query, parts.key, parts.value)
        )
        if fused:
            rate = parts.dropout.p if self.training else 0.0
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=bias.to(query.dtype), dropout_p=rate
            )
        else:
            # Written out: on a CPU the backward pass of torch's fused attention takes longer, for
            # short texts, than all matrix products of the layer together.
            scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5 + bias
            weights = scores.softmax(-1)
            mixed = parts.dropout(weights.to(value.dtype)) @ value
        joined: Tensor = mixed.transpose(1, 2).reshape(n, tokens, hidden)
        return joined


class _Output(nn.Module):
    def __init__(self, width: int, hidden: int, config: SimpleNamespace) -> None:
        super().__init__()
        self.dense = nn.Linear(width, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        result: Tensor = self.LayerNorm(self.dropout(self.dense(states)) + residual)
        return result


def _table(rows: int, width: int) -> nn.Embedding:
    weights = torch.empty(rows, width)
    # Drawing on the meta device would import torch's compiler: over a second, and for nothing.
    return nn.Embedding(rows, width, _weight=weights if weights.is_meta else None)


def is_supported(settings: Mapping[str, Any]) -> bool:
    """Whether a `config.json` describes what `BertEncoder` computes."""
    absolute = settings.get("position_embedding_type", "absolute") == "absolute"
    return absolute and all(settings.get(key, value) == value for key, value in SUPPORTED.items())


def load_bert(folder: Path, settings: Mapping[str, Any]) -> BertEncoder:
    """Load an encoder from `model.safetensors`.

    Raises:
        KeyError: naming a weight that is missing.
    """
    weights = load_file(folder / "model.safetensors")
    # Some files hold a model with a head, whose encoder's names have a prefix.
    weights = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
    with torch.device("meta"):
        encoder = BertEncoder(settings)
    expected = encoder.state_dict().keys()
    # Other weights, of a pooling layer or a head, are not ours to use.
    encoder.load_state_dict({name: weights[name].float() for name in expected}, assign=True)
    return encoder
