"""Exports a fine-tuned model to a folder that predicts without torch."""

from pathlib import Path

import numpy as np
import onnx

from tagger.compression.graph import build_graph
from tagger.compression.quantization import quantize, round_rows
from tagger.config.schema import CompressConfig
from tagger.environment import instruction_sets
from tagger.errors import UserError
from tagger.files import replacing, write_json
from tagger.models.base import SETTINGS
from tagger.models.interchange import write_encoder_config, write_tokenizer
from tagger.models.onnx import GRAPH
from tagger.models.static import StaticClassifier, StaticWeights
from tagger.models.static_encoder import StaticEncoder
from tagger.models.transformer import TransformerClassifier


def export_model(classifier: TransformerClassifier, config: CompressConfig, folder: Path) -> None:
    """Write a model folder that `tagger.models.registry.load_classifier` reads.

    Args:
        classifier: Of any encoder. One of static vectors is written for numpy, all others as ONNX.
        config: Of what data type, and for how many threads.
        folder: Where to; made if need be.

    Raises:
        UserError: when the model cannot be written so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(classifier.module.encoder, StaticEncoder):
        _make_static(classifier, config).save(folder)
        return
    model = quantize(build_graph(classifier), config)
    with replacing(folder / GRAPH) as temporary:
        onnx.save(model, temporary)
    encoder = classifier.module.encoder
    kind = type(encoder).__name__.removesuffix("Encoder").removesuffix("Model")
    write_encoder_config(folder, encoder, classifier.tags, f"{kind}ForSequenceClassification")
    write_tokenizer(
        folder,
        classifier.tokenizer,
        classifier.shape["max_length"],
        encoder.config.pad_token_id or 0,
    )
    write_json(
        folder / SETTINGS,
        {
            "approach": "onnx",
            "tags": list(classifier.tags),
            "max_length": classifier.shape["max_length"],
            "dtype": config.dtype,
            "threads": config.threads,
            "instructions": instruction_sets(),
        },
    )


def _make_static(classifier: TransformerClassifier, config: CompressConfig) -> StaticClassifier:
    """Multiply static vectors with the layers that follow them, up to the first nonlinear one."""
    module, shape = classifier.module, classifier.shape
    if module.normalize or shape["pooling"] != "mean":
        raise UserError(
            f"a static model takes the mean of its vectors as it is, and this one has "
            f"pooling={shape['pooling']} and normalize={module.normalize}",
            hint="Train it with model.pooling=mean.",
        )
    encoder: StaticEncoder = module.encoder
    head = {name: value.detach().cpu().numpy() for name, value in module.head.state_dict().items()}
    vectors = encoder.table.weight.detach() * encoder.weights.detach().unsqueeze(-1)
    linear = shape["head"] == "linear"
    first = "" if linear else "0."
    table = vectors.cpu().numpy() @ head[f"{first}weight"].T
    second = None if linear else (head["2.weight"].T, head["2.bias"])
    scales = None
    # A few logits a token are small enough as they are, and nothing evens their errors out.
    if not linear and config.dtype == "fp16":
        table = table.astype(np.float16)
    elif not linear and config.dtype == "int8":
        table, scales = round_rows(table)
    weights = StaticWeights(table, scales, head[f"{first}bias"], second)
    return StaticClassifier(
        weights, classifier.tokenizer, classifier.tags, int(shape["max_length"])
    )
