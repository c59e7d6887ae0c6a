"""Reads how an encoder is meant to be used, which the files beside its weights say.

`config.json` and `tokenizer_config.json` are transformers', all others sentence-transformers'.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer, normalizers

from tagger.config.schema import EncoderConfig, TransformerConfig
from tagger.errors import UserError

DECLARATIONS = [
    "modules.json",
    "*_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
]
"""Files beside `config.json` that are read here, as patterns for a download."""

POOLINGS = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean"}
"""Poolings that are computed here, by their former names."""

COUNTED_FROM_PADDING = (
    "camembert", "data2vec-text", "ibert", "longformer", "luke", "markuplm", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Types of encoders whose first token has the position after `pad_token_id`, not position 0."""

PURPOSE = "classification"
"""Name of the prompt that is taken where an encoder has several."""

UNLIMITED = 1_000_000
"""Lengths above it are transformers' way to write that there is no limit."""

EncoderT = TypeVar("EncoderT", bound=EncoderConfig)


@dataclass(frozen=True)
class Declarations:
    """What an encoder's folder says.

    Attributes:
        poolings: Names of its poolings, which are concatenated; () where it says nothing.
        normalized: Whether its vectors are meant at length 1.
        dense: Whether layers follow the pooling.
        prompts: Texts that it was trained to read before an item's, by purpose.
        default_prompt: The purpose that is meant where none is said; it need not be there.
        positions: Most tokens that it has positions for; None: any number.
        trained_length: Most tokens that it was trained on; None where it does not say.
    """

    poolings: tuple[str, ...]
    normalized: bool
    dense: bool
    prompts: Mapping[str, str]
    default_prompt: str
    positions: int | None
    trained_length: int | None

    @property
    def prompt(self) -> str:
        """The prompt for classification, or else the one that is meant by default."""
        by_purpose = {purpose.lower(): text for purpose, text in self.prompts.items()}
        return by_purpose.get(PURPOSE, self.prompts.get(self.default_prompt, ""))


def read_declarations(folder: Path) -> Declarations:
    """Read the declarations of a folder; those that it lacks say nothing.

    Raises:
        UserError: for a file that is no JSON, or holds something else than it should.
    """
    config, chain = _read(folder, "config.json"), _read_modules(folder)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in chain]
    poolings: tuple[str, ...] = ()
    if "Pooling" in kinds:
        path = str(chain[kinds.index("Pooling")].get("path", ""))
        poolings = _poolings(_read(folder, f"{path}/config.json"))
    usage = _read(folder, "config_sentence_transformers.json")
    prompts = usage.get("prompts")
    named = prompts.items() if isinstance(prompts, dict) else ()
    lengths = [
        _read(folder, "sentence_bert_config.json").get("max_seq_length"),
        _read(folder, "tokenizer_config.json").get("model_max_length"),
    ]
    known = [int(one) for one in lengths if isinstance(one, int | float) and one < UNLIMITED]
    return Declarations(
        poolings=poolings,
        normalized="Normalize" in kinds,
        dense="Dense" in kinds,
        prompts={purpose: text for purpose, text in named if text and isinstance(text, str)},
        default_prompt=str(usage.get("default_prompt_name")),
        positions=_positions(config),
        trained_length=min(known, default=None),
    )


def apply_declarations(config: EncoderT, folder: Path) -> tuple[EncoderT, list[str]]:
    """Return a config whose pooling, prompt and so on are settled by what a folder declares.

    Returns:
        The config, and what is to be told of it, a sentence each.

    Raises:
        UserError: for a pooling that is left to the encoder, whose own is none of ours.
    """
    said, name = read_declarations(folder), config.encoder
    pooling: str = config.pooling
    prompt, length = config.prompt, config.max_length
    declared = "+".join(said.poolings)
    notes = []
    if pooling == "auto":
        if declared and declared not in POOLINGS.values():
            raise UserError(
                f"{name} declares pooling={declared}, which is not computed here",
                hint="Give model.pooling=mean, cls or max to use it another way than it was "
                "trained for, or take another encoder.",
            )
        pooling = declared or "mean"
        if not declared:
            notes.append(f"{name} declares no pooling: model.pooling=mean is taken")
    elif declared and declared != pooling:
        notes.append(f"{name} declares pooling={declared}, and model.pooling={pooling} is taken")
    if prompt is None:
        prompt = said.prompt
        if said.prompts and not prompt:
            named = ", ".join(said.prompts)
            notes.append(f"{name} has prompts for {named}, none for {PURPOSE}: none is taken")
    if said.dense:
        notes.append(f"{name} has Dense layers after its pooling, which are left out")
    if said.positions is not None and length > said.positions:
        notes.append(
            f"{name} reads at most {said.positions} tokens: model.max_length={length} is "
            f"{said.positions} now"
        )
        length = said.positions
    if said.trained_length is not None and length > said.trained_length:
        notes.append(
            f"{name} was trained on at most {said.trained_length} tokens, and "
            f"model.max_length={length} is taken"
        )
    if config.pooling == "auto" and declared:
        notes.append(f"{name} is used as it declares: pooling={pooling}, prompt={prompt!r}")
    taken: dict[str, object] = {"pooling": pooling, "prompt": prompt, "max_length": length}
    if isinstance(config, TransformerConfig) and config.normalize is None:
        taken["normalize"] = said.normalized
    return config.model_copy(update=taken), notes


def adapt_tokenizer(tokenizer: Tokenizer, folder: Path, prompt: str) -> None:
    """Let a tokenizer lower letters where the encoder's files ask for it, and begin with a prompt.

    Both become part of the tokenizer, and of every file that it is saved to. A text that spells out
    a special token, such as [MASK], gets the prompt after it once more.
    """
    steps: list[normalizers.Normalizer] = [normalizers.Prepend(prompt)] if prompt else []
    if _read(folder, "sentence_bert_config.json").get("do_lower_case"):
        steps.append(normalizers.Lowercase())
    if steps:
        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = normalizers.Sequence([*steps, *own])


def _poolings(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of poolings, which have been written in two ways."""
    if mode := settings.get("pooling_mode"):
        return (mode,) if isinstance(mode, str) else tuple(map(str, mode))
    prefix = "pooling_mode_"
    old = [key.removeprefix(prefix) for key, on in settings.items() if on and prefix in key]
    return tuple(POOLINGS.get(name, name) for name in old)


def _positions(config: Mapping[str, Any]) -> int | None:
    most = config.get("max_position_embeddings")
    if not isinstance(most, int) or most <= 0:
        return None
    if config.get("model_type") in COUNTED_FROM_PADDING:
        padding = config.get("pad_token_id")
        return most - (padding if isinstance(padding, int) else 1) - 1
    return most


def _read_modules(folder: Path) -> list[Mapping[str, Any]]:
    modules = _parse(folder / "modules.json", [])
    if not isinstance(modules, list) or not all(isinstance(one, dict) for one in modules):
        raise UserError(f"{folder / 'modules.json'} holds no list of modules")
    return modules


def _read(folder: Path, name: str) -> Mapping[str, Any]:
    content = _parse(folder / name, {})
    if not isinstance(content, dict):
        raise UserError(f"{folder / name} holds no settings")
    return content


def _parse(path: Path, absent: object) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return absent
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged: it is no JSON") from None
