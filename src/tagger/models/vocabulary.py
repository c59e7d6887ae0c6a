"""Prunes an encoder's vocabulary to the tokens that a domain uses.

WordPiece takes, again and again, the longest token that a word begins with. A word whose tokens all
stay is therefore cut as before; any other is cut into shorter ones, down to single letters, all of
which stay. Where the vocabulary has every letter, as BERT's has, nothing that could be read becomes
unreadable.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from tagger.errors import UserError

CONTINUES = "##"
"""What a token begins with that goes on a word."""

TEXTS_AT_ONCE = 1024


def tokens_in_use(tokenizer: Tokenizer, texts: Sequence[str], most: int | None) -> list[int]:
    """Return the ids that stay, ascending: those of the texts, special ones and single letters.

    Args:
        tokenizer: With its whole vocabulary.
        texts: Of the domain.
        most: How many tokens of the texts stay, the most frequent first, letters and special ones
            counted like others; None: all.
    """
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + TEXTS_AT_ONCE])):
            counts.update(encoding.ids)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    letters = {at for token, at in vocabulary.items() if len(token.removeprefix(CONTINUES)) == 1}
    special = set(tokenizer.get_added_tokens_decoder())
    # Of equally frequent ones the lower id first: BERT's vocabulary is sorted by frequency.
    frequent = sorted(counts, key=lambda token: (-counts[token], token))[:most]
    return sorted({*frequent, *letters, *special})


def prune_vocabulary(
    encoder: nn.Module, tokenizer: Tokenizer, kept: Sequence[int], max_length: int
) -> Tokenizer:
    """Leave only some tokens in an encoder, in place, and return the tokenizer that fits it.

    Args:
        encoder: With a table of token embeddings.
        tokenizer: Of type WordPiece.
        kept: Ids that stay, ascending, the special ones among them.
        max_length: Tokens after which the new tokenizer cuts.

    Raises:
        UserError: for tokenizers of another type.
    """
    content = json.loads(tokenizer.to_str())
    if content["model"]["type"] != "WordPiece":
        raise UserError(
            f"model.vocabulary_from needs a tokenizer of type WordPiece, and this one is "
            f"{content['model']['type']}"
        )
    place = {old: new for new, old in enumerate(kept)}
    words = content["model"]["vocab"]
    content["model"]["vocab"] = {word: place[at] for word, at in words.items() if at in place}
    for added in content["added_tokens"]:
        added["id"] = place[added["id"]]
    _renumber(content["post_processor"], place)
    pruned = Tokenizer.from_str(json.dumps(content))
    pruned.enable_truncation(max_length)
    pruned.no_padding()

    reader: Any = encoder
    table = reader.get_input_embeddings()
    smaller = nn.Embedding(len(kept), table.embedding_dim)
    smaller.weight.data.copy_(table.weight.data[torch.tensor(list(kept))])
    for parent in reader.modules():
        for name, child in parent.named_children():
            if child is table:
                setattr(parent, name, smaller)
    config: Any = reader.config
    config.vocab_size = len(kept)
    if config.pad_token_id is not None:
        config.pad_token_id = place[config.pad_token_id]
    return pruned


def _renumber(processor: Any, place: dict[int, int]) -> None:
    """Give the special tokens that are put around a text their new ids."""
    kinds: Iterable[Any] = processor.get("processors", [processor]) if processor else []
    for one in kinds:
        for name in ("sep", "cls"):  # BertProcessing, RobertaProcessing
            if name in one:
                one[name][1] = place[one[name][1]]
        for token in one.get("special_tokens", {}).values():  # TemplateProcessing
            token["ids"] = [place[at] for at in token["ids"]]
