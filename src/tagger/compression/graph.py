"""Builds the ONNX graph of a fine-tuned model.

Our own `BertEncoder` is written by hand. torch's exporter spells attention out in a dozen nodes,
and onnxruntime's optimizer for transformers, tried on what it wrote, recognised none of them as
attention. By hand a layer is eleven nodes, just those that onnxruntime computes fastest: Attention
and BiasGelu of its own operators, but LayerNormalization of ONNX, since its own, which adds before
it normalizes, takes five times as long. Other encoders are traced by torch.

Every graph takes `input_ids` and `attention_mask`, both int64 (n, tokens), and gives `logits`
(n, n_tags) and `vectors` (n, hidden), which the head computes them from; n and tokens are free.
"""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper, parser
from torch import nn

from tagger.models.bert import BertEncoder
from tagger.models.transformer import TransformerClassifier, TransformerModule

OPSET, IR_VERSION = 17, 9
CONTRIB = "com.microsoft"
"""Domain of the operators that onnxruntime adds to those of ONNX."""

IDS, MASK, LOGITS, VECTORS = "input_ids", "attention_mask", "logits", "vectors"
AXES = ["n", "tokens"]
HEAD = "head."
"""Prefix of the names of the head's weights, by hand and traced."""

# In the syntax of `onnx.parser`; of the types of casts, 1 is float, 6 int32 and 9 bool.
MODEL = """
<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.microsoft" : 1]>
tagger (int64[n, tokens] input_ids, int64[n, tokens] attention_mask)
    => (float[n, {tags}] logits, float[n, {hidden}] vectors)
{{ {nodes} }}
"""
EMBEDDINGS = """
words = Gather (word_embeddings, input_ids)
width = Shape <start = 1, end = 2> (input_ids)
places = Slice (position_embeddings, zero, width, zero)
embedded = Add (words, places)
states0 = LayerNormalization <epsilon = {epsilon}> (embedded, scale, shift)
mask = Cast <to = 6> (attention_mask)
"""
# Biases are added to products first, so that onnxruntime makes them part of these.
LAYER = """
mixed{n} = com.microsoft.Attention <num_heads = {heads}>
    (states{n}, joined{n}, joined_bias{n}, mask)
projected{n} = MatMul (mixed{n}, projection{n})
projected_biased{n} = Add (projected{n}, projection_bias{n})
residual{n} = Add (projected_biased{n}, states{n})
attended{n} = LayerNormalization <epsilon = {epsilon}> (residual{n}, scale{n}, shift{n})
inner{n} = MatMul (attended{n}, inner_weight{n})
active{n} = com.microsoft.BiasGelu (inner{n}, inner_bias{n})
outer{n} = MatMul (active{n}, outer_weight{n})
outer_biased{n} = Add (outer{n}, outer_bias{n})
total{n} = Add (outer_biased{n}, attended{n})
states{next} = LayerNormalization <epsilon = {epsilon}> (total{n}, outer_scale{n}, outer_shift{n})
"""
POOLINGS = {
    "cls": "vectors = Gather <axis = 1> ({states}, first)",
    "max": """
        mask3 = Unsqueeze (attention_mask, last)
        real = Cast <to = 9> (mask3)
        masked = Where (real, {states}, lowest)
        vectors = ReduceMax <axes = [1], keepdims = 0> (masked)
    """,
    "mean": """
        mask3 = Unsqueeze (attention_mask, last)
        real = Cast <to = 1> (mask3)
        masked = Mul ({states}, real)
        total = ReduceSum <keepdims = 0> (masked, one)
        count = ReduceSum <keepdims = 0> (real, one)
        vectors = Div (total, count)
    """,
}
"""From states (n, tokens, hidden) to vectors (n, hidden), as `POOLINGS` of the transformer."""

NORMALIZE = """
length = ReduceL2 <axes = [1], keepdims = 1> (vectors)
divisor = Max (length, smallest)
units = Div (vectors, divisor)
"""
HEADS = {
    "linear": """
        head_outer = MatMul ({vectors}, "head.weight")
        logits = Add (head_outer, "head.bias")
    """,
    "mlp": """
        head_inner = MatMul ({vectors}, "head.0.weight")
        head_active = com.microsoft.BiasGelu (head_inner, "head.0.bias")
        head_outer = MatMul (head_active, "head.2.weight")
        logits = Add (head_outer, "head.2.bias")
    """,
}
"""From vectors (n, hidden) to logits (n, n_tags), as `build_head` builds it."""

CONSTANTS = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "first": np.array(0),
    "last": np.array([-1]),
    "lowest": np.array(-np.inf, np.float32),
    "smallest": np.array(1e-12, np.float32),  # as torch's `normalize`
}
Arrays = Mapping[str, npt.NDArray[np.generic]]


def build_graph(classifier: TransformerClassifier) -> onnx.ModelProto:
    """Write the graph of a classifier, in fp32."""
    module, shape = classifier.module, classifier.shape
    if not isinstance(module.encoder, BertEncoder):
        return _trace(module)
    config = module.encoder.config
    layers = len(module.encoder.encoder.layer)
    sizes = {"epsilon": float(config.layer_norm_eps), "heads": config.num_attention_heads}
    parts = [
        EMBEDDINGS.format(**sizes),
        *(LAYER.format(n=number, next=number + 1, **sizes) for number in range(layers)),
        POOLINGS[str(shape["pooling"])].format(states=f"states{layers}"),
        NORMALIZE if module.normalize else "",
        HEADS[str(shape["head"])].format(vectors="units" if module.normalize else "vectors"),
    ]
    model: onnx.ModelProto = parser.parse_model(
        MODEL.format(
            ir_version=IR_VERSION,
            opset=OPSET,
            tags=len(classifier.tags),
            hidden=classifier.vector_width,
            nodes="\n".join(parts),
        )
    )
    head = {f"{HEAD}{name}": value.T for name, value in _arrays(module.head).items()}
    constants = (
        CONSTANTS | head | _weights(_arrays(module.encoder), layers, int(shape["max_length"]))
    )
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, order="C"), name)
        for name, value in constants.items()
        if name in used
    )
    for node in model.graph.node:  # quantization knows nodes by their names
        node.name = f"{node.output[0]}_{node.op_type}"
    return model


def _arrays(module: nn.Module) -> Arrays:
    return {name: one.detach().float().cpu().numpy() for name, one in module.state_dict().items()}


def _weights(found: Arrays, layers: int, longest: int) -> dict[str, npt.NDArray[np.generic]]:
    """Return an encoder's weights by the names of `EMBEDDINGS` and `LAYER`.

    ONNX multiplies from the right, torch's Linear by the transpose: matrices are transposed.
    """
    at = "embeddings."
    # Positions that no text reaches stay out of the file, and the one segment is added in advance.
    places = found[f"{at}position_embeddings.weight"][:longest]
    weights = {
        "word_embeddings": found[f"{at}word_embeddings.weight"],
        "position_embeddings": places + found[f"{at}token_type_embeddings.weight"][0],
        "scale": found[f"{at}LayerNorm.weight"],
        "shift": found[f"{at}LayerNorm.bias"],
    }
    for n in range(layers):
        at = f"encoder.layer.{n}."
        parts = [f"{at}attention.self.{part}" for part in ("query", "key", "value")]
        weights |= {
            f"joined{n}": np.hstack([found[f"{part}.weight"].T for part in parts]),
            f"joined_bias{n}": np.hstack([found[f"{part}.bias"] for part in parts]),
            f"projection{n}": found[f"{at}attention.output.dense.weight"].T,
            f"projection_bias{n}": found[f"{at}attention.output.dense.bias"],
            f"scale{n}": found[f"{at}attention.output.LayerNorm.weight"],
            f"shift{n}": found[f"{at}attention.output.LayerNorm.bias"],
            f"inner_weight{n}": found[f"{at}intermediate.dense.weight"].T,
            f"inner_bias{n}": found[f"{at}intermediate.dense.bias"],
            f"outer_weight{n}": found[f"{at}output.dense.weight"].T,
            f"outer_bias{n}": found[f"{at}output.dense.bias"],
            f"outer_scale{n}": found[f"{at}output.LayerNorm.weight"],
            f"outer_shift{n}": found[f"{at}output.LayerNorm.bias"],
        }
    return weights


def _trace(module: TransformerModule) -> onnx.ModelProto:
    """Let torch trace any encoder.

    By the older of torch's two exporters: it takes a tenth of a second where the newer one takes
    seconds and another package, and computes the same.
    """
    # One text of two is padded: how padding is left out must be in the trace.
    ids = torch.ones((2, 8), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    training = module.training
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "model.onnx"
        warnings.simplefilter("ignore")  # that it is the older one, and what it holds constant
        torch.onnx.export(
            module.eval(),
            (ids, mask),
            path,
            input_names=[IDS, MASK],
            output_names=[LOGITS, VECTORS],
            dynamic_axes={name: dict(enumerate(AXES)) for name in (IDS, MASK)}
            | {name: {0: "n"} for name in (LOGITS, VECTORS)},
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    module.train(training)
    return model
