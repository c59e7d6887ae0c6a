"""Loads the tokenizer of a model folder, without the library that computes the model."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from tagger.errors import UserError

TOKENIZER = "tokenizer.json"


def load_tokenizer(folder: Path, max_length: int) -> Tokenizer:
    """Load `tokenizer.json` from a folder; it cuts at `max_length` tokens and does not pad."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise UserError(
            f"{folder} has no tokenizer.json", hint="Save the model's fast tokenizer there."
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise UserError(f"{path} cannot be read: {error}") from None
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return tokenizer


def share_cut(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Return the share of texts that a tokenizer cuts; 0 of no texts."""
    encodings = tokenizer.encode_batch_fast(list(texts))
    return sum(bool(one.overflowing) for one in encodings) / max(1, len(texts))
