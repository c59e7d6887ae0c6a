"""An encoder without layers: a static vector and a weight for each token, from a larger encoder.

After Model2Vec (Tulkens & van Dongen 2024): every token goes through the encoder by itself, and
principal components make the vectors shorter. What a word means beside others is lost, and with it
nearly all of the cost.
"""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tagger.errors import UserError
from tagger.files import write_json
from tagger.models.bert import EncoderOutput

STATIC = "static"
TOKENS_AT_ONCE = 512


class StaticEncoder(nn.Module):
    """A table of token vectors, and a weight for each token.

    Args:
        vocabulary: Number of tokens.
        width: Numbers in a vector.
        pad_token_id: Id that fills up rows.
    """

    def __init__(self, vocabulary: int, width: int, pad_token_id: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            model_type=STATIC,
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=0,
            pad_token_id=pad_token_id,
        )
        self.table = nn.Embedding(vocabulary, width)
        self.weights = nn.Parameter(torch.ones(vocabulary))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Map ids (n, tokens) to weighted vectors (n, tokens, width); the mask has no effect."""
        return EncoderOutput(self.table(input_ids) * self.weights[input_ids].unsqueeze(-1))

    def get_input_embeddings(self) -> nn.Module:
        """Return the table of token vectors."""
        return self.table

    def save_pretrained(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        write_json(folder / "config.json", vars(self.config))
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def make_static(encoder: nn.Module, special: tuple[int, int], width: int) -> StaticEncoder:
    """Make a vector of every token of an encoder's vocabulary.

    A token's vector is the mean of the states that the encoder gives to the token between the two
    special ones, less the mean over all tokens, in the directions in which tokens differ most. Its
    weight rises with the logarithm of its rank, since BERT's vocabulary is sorted by frequency and
    what is frequent says little (Zipf's law in place of a count).

    Args:
        encoder: Its table of embeddings says how many tokens there are.
        special: Ids of the tokens that begin and end a text.
        width: Numbers in a vector, at most the encoder's own.

    Raises:
        UserError: for a width that there is not.
    """
    reader: Any = encoder
    vocabulary = reader.get_input_embeddings().num_embeddings
    parts = []
    was_training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        for start in range(0, vocabulary, TOKENS_AT_ONCE):
            tokens = torch.arange(start, min(start + TOKENS_AT_ONCE, vocabulary))
            first, last = (torch.full_like(tokens, one) for one in special)
            ids = torch.stack([first, tokens, last], dim=1)
            states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            parts.append(states.mean(dim=1))
    encoder.train(was_training)
    vectors = torch.cat(parts).clone()
    if width > min(vectors.shape):
        raise UserError(
            f"model.static={width}: expected at most {min(vectors.shape)}, as the encoder has "
            f"{vectors.shape[1]} numbers for each of {vectors.shape[0]} tokens"
        )
    vectors -= vectors.mean(dim=0)
    _, _, directions = torch.linalg.svd(vectors, full_matrices=False)
    static = StaticEncoder(vocabulary, width, reader.config.pad_token_id or 0)
    static.table.weight.data.copy_(vectors @ directions[:width].T)
    weights = torch.arange(vocabulary).add(1).log1p()
    static.weights.data.copy_(weights / weights.mean())
    return static


def load_static(folder: Path, settings: Mapping[str, Any]) -> StaticEncoder:
    """Load what `save_pretrained` wrote.

    Raises:
        KeyError: naming a setting or a weight that is missing.
    """
    encoder = StaticEncoder(
        settings["vocab_size"], settings["hidden_size"], settings["pad_token_id"]
    )
    weights = load_file(folder / "model.safetensors")
    encoder.load_state_dict({name: weights[name].float() for name in encoder.state_dict()})
    return encoder
