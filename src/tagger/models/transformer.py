"""The classifier that is fine-tuned: a transformer encoder, a pooling and a head."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from tagger.config.schema import EncoderConfig, TransformerConfig
from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled
from tagger.errors import UserError
from tagger.files import resolve_path, write_json
from tagger.models.base import SETTINGS, read_settings
from tagger.models.bert import LONG
from tagger.models.encoders import (
    as_declared,
    encoder_layers,
    fuse_attention,
    load_encoder,
    read_encoder,
)
from tagger.models.interchange import (
    OPENED_BY,
    refuse_other_heads,
    write_encoder_config,
    write_modules,
    write_tokenizer,
)
from tagger.models.static_encoder import StaticEncoder, make_static
from tagger.models.students import keep_layers, keep_neurons
from tagger.models.tokenization import load_tokenizer
from tagger.models.vocabulary import prune_vocabulary, tokens_in_use
from tagger.scores import softmax

PREDICTION_BATCH = 32
ARCHITECTURE = ("pooling", "head", "dropout", "max_length", "normalize")
"""Settings of a model folder beside its tags; `max_length` is the tokenizer's."""

FUSED = "fused_attention"
"""Setting of a model of long texts; models of before lack it, and compute all texts one way."""


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Average the token states that are not padding: (n, tokens, hidden) to (n, hidden)."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def max_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Take each feature's maximum over the tokens that are not padding."""
    return states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)


def cls_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Take the state of the first token."""
    return states[:, 0]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean_pool,
    "max": max_pool,
    "cls": cls_pool,
}


def build_head(kind: str, hidden: int, n_tags: int) -> nn.Module:
    """Build the layers that turn a pooled text (n, hidden) into logits (n, n_tags)."""
    if kind == "linear":
        return nn.Linear(hidden, n_tags)
    return nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, n_tags))


class TransformerModule(nn.Module):
    """Encoder, pooling, dropout and head as one trainable module."""

    def __init__(
        self,
        encoder: Any,
        n_tags: int,
        *,
        pooling: str,
        head: str,
        dropout: float,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = POOLINGS[pooling]
        self.normalize = normalize
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Module = build_head(head, encoder.config.hidden_size, n_tags)

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return one vector a text, in fp32: (n, tokens) to (n, hidden)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = self.pool(states.float(), attention_mask)
        return F.normalize(vectors) if self.normalize else vectors

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (n, n_tags) and vectors (n, hidden) of ids and mask (n, tokens)."""
        vectors = self.embed(input_ids, attention_mask)
        return self.head(self.dropout(vectors)), vectors

    def freeze(self, embeddings: bool, layers: int) -> None:
        """Exclude the token embeddings, or everything up to the lowest `layers`, from training."""
        frozen: list[nn.Module] = [self.encoder.get_input_embeddings()] if embeddings else []
        if layers:
            stack = encoder_layers(self.encoder)
            if layers > len(stack):
                raise UserError(
                    f"model.freeze_layers={layers}, but the encoder has {len(stack)} layers"
                )
            frozen += [self.encoder.embeddings, *stack[:layers]]
        for module in frozen:
            module.requires_grad_(False)


def make_student(config: TransformerConfig) -> tuple[nn.Module, Tokenizer]:
    """Load the encoder and the tokenizer that a config names, and cut out what is not to stay.

    Raises:
        UserError: for files of text that cannot be read, and for parts that there are not.
    """
    encoder, tokenizer = load_encoder(config)
    if config.keep_layers is not None:
        keep_layers(encoder, config.keep_layers)
    if config.keep_neurons is not None:
        keep_neurons(encoder, config.keep_neurons)
    if config.vocabulary_from is not None:
        files = [resolve_path(file) for file in config.vocabulary_from]
        texts = [item.text for file in files for item in iter_unlabelled(file)]
        kept = tokens_in_use(tokenizer, texts, config.vocabulary_size)
        tokenizer = prune_vocabulary(encoder, tokenizer, kept, config.max_length)
    if config.static is not None:
        first, *_, last = tokenizer.encode("").ids
        encoder = make_static(encoder, (first, last), config.static)
    return encoder, tokenizer


class TransformerClassifier:
    """A `Classifier` around a `TransformerModule` and its tokenizer."""

    def __init__(
        self,
        module: TransformerModule,
        tokenizer: Tokenizer,
        tags: Sequence[str],
        shape: Mapping[str, Any],
    ) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.tags = tuple(tags)
        self.shape = shape

    @classmethod
    def build(cls, config: TransformerConfig, tags: Sequence[str]) -> Self:
        """Make a classifier to be trained: a pretrained encoder under a fresh head.

        The head, and an encoder that is not pretrained, take their weights from torch's global
        random state.
        """
        config, _ = as_declared(config)
        encoder, tokenizer = make_student(config)
        shape = config.model_dump(include={"pooling", "head", "dropout", "max_length"})
        shape |= {"normalize": config.normalize, **_attention(config)}
        classifier = cls._assemble(encoder, tokenizer, tags, shape)
        classifier.module.freeze(config.freeze_embeddings, config.freeze_layers)
        if config.encoder_dropout is not None:
            for part in encoder.modules():
                if isinstance(part, nn.Dropout):
                    part.p = config.encoder_dropout
        return classifier

    @classmethod
    def build_frozen(cls, config: EncoderConfig, tags: Sequence[str]) -> Self:
        """Put a linear head, yet to be fitted, on an encoder that stays as it was pretrained.

        Its vectors are taken at length 1, as encoders of sentences are pretrained to compare them.
        """
        config, _ = as_declared(config)
        encoder, tokenizer = load_encoder(config)
        encoder.requires_grad_(False)
        shape = {
            "pooling": config.pooling,
            "head": "linear",
            "dropout": 0.0,
            "max_length": config.max_length,
            "normalize": True,
            **_attention(config),
        }
        return cls._assemble(encoder, tokenizer, tags, shape)

    @classmethod
    def _assemble(
        cls, encoder: nn.Module, tokenizer: Tokenizer, tags: Sequence[str], shape: Mapping[str, Any]
    ) -> Self:
        if shape.get(FUSED):
            fuse_attention(encoder)
        settings = {name: shape[name] for name in ARCHITECTURE if name != "max_length"}
        return cls(TransformerModule(encoder, len(tags), **settings), tokenizer, tags, shape)

    def tokenize(self, items: Sequence[Item]) -> list[list[int]]:
        """Return the token ids of each item's text, cut at the model's maximal length."""
        encodings = self.tokenizer.encode_batch_fast([item.text for item in items])
        return [encoding.ids for encoding in encodings]

    def pad(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Return ids and attention mask, both (n, longest row), on the module's device."""
        width = max(len(row) for row in rows)
        ids = np.full((len(rows), width), self.module.encoder.config.pad_token_id or 0, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for position, row in enumerate(rows):
            ids[position, : len(row)] = row
            mask[position, : len(row)] = 1
        device = next(self.module.parameters()).device
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)

    def predict_proba(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return softmax probabilities of shape (n_items, n_tags)."""
        logits = self._compute(lambda *inputs: self.module(*inputs)[0], items, len(self.tags))
        return softmax(logits)

    @property
    def vector_width(self) -> int:
        """Length of the encoder's pooled vectors."""
        return int(self.module.encoder.config.hidden_size)

    def embed(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return the encoder's pooled vectors, (n_items, hidden)."""
        return self._compute(self.module.embed, items, self.vector_width)

    def predict_and_embed(
        self, items: Sequence[Item]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return softmax probabilities (n_items, n_tags) and vectors (n_items, hidden)."""
        n_tags = len(self.tags)
        both = self._compute(
            lambda *inputs: torch.cat(self.module(*inputs), 1), items, n_tags + self.vector_width
        )
        return softmax(both[:, :n_tags]), both[:, n_tags:]

    def predict_from_vectors(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return softmax probabilities (n, n_tags) of texts whose vectors (n, hidden) are known."""
        parameter = next(self.module.head.parameters())
        with torch.inference_mode():
            inputs = torch.from_numpy(vectors).to(parameter.dtype).to(parameter.device)
            logits = self.module.head(inputs).cpu().double()  # in this order: MPS has no float64
        probabilities: NDArray[np.float64] = logits.softmax(-1).numpy()
        return probabilities

    def _compute(
        self, function: Callable[[Tensor, Tensor], Tensor], items: Sequence[Item], width: int
    ) -> NDArray[np.float64]:
        """Apply a function of ids and mask to all items, in eval mode: (n_items, width).

        Texts of similar length are computed together, so that little time goes into padding.
        """
        rows = self.tokenize(items)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        outputs = np.zeros((len(rows), width))
        was_training = self.module.training
        self.module.eval()
        with torch.inference_mode():
            for start in range(0, len(order), PREDICTION_BATCH):
                chosen = order[start : start + PREDICTION_BATCH]
                output = function(*self.pad([rows[index] for index in chosen]))
                outputs[chosen] = output.float().cpu().numpy()
        self.module.train(was_training)
        return outputs

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads, and others as docs/run-folder.md says."""
        folder.mkdir(parents=True, exist_ok=True)
        encoder, weights = self.module.encoder, self.module.head.state_dict()
        head = {name: tensor.contiguous() for name, tensor in weights.items()}
        try:
            encoder.save_pretrained(folder)
            save_file(head, folder / "head.safetensors")
            if not isinstance(encoder, StaticEncoder):  # which nobody else knows
                hidden = encoder.config.hidden_size
                write_encoder_config(folder, encoder, self.tags, OPENED_BY)
                write_modules(folder, hidden, self.module.head, self.shape)
                refuse_other_heads(folder, encoder)
        except SafetensorError as error:  # a full disk, among others
            raise UserError(f"{folder} could not be written: {error}") from None
        write_tokenizer(
            folder, self.tokenizer, self.shape["max_length"], encoder.config.pad_token_id or 0
        )
        settings = {"approach": "transformer", "tags": list(self.tags), **self.shape}
        write_json(folder / SETTINGS, settings)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        settings = read_settings(folder)
        shape = {name: settings[name] for name in ARCHITECTURE}
        shape |= {FUSED: True} if settings.get(FUSED) else {}
        head_weights = load_file(folder / "head.safetensors")
        tokenizer = load_tokenizer(folder, shape["max_length"])
        classifier = cls._assemble(read_encoder(folder), tokenizer, settings["tags"], shape)
        classifier.module.head.load_state_dict(head_weights)
        classifier.module.eval()
        return classifier


def _attention(config: EncoderConfig) -> dict[str, bool]:
    return {FUSED: True} if config.max_length > LONG else {}
