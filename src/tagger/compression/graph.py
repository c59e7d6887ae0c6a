"""Builds the ONNX graph of a fine-tuned model, node by node.

Our own `BertEncoder` is written by hand. torch's exporter spells attention out in a dozen nodes,
and onnxruntime's optimizer for transformers, tried on what it wrote, recognised none of them as
attention. By hand a layer is eleven nodes, just those that onnxruntime computes fastest: Attention
and BiasGelu of its own operators, but LayerNormalization of ONNX, since its own, which adds before
it normalizes, takes five times as long. Other encoders are traced by torch.

Every graph takes `input_ids` and `attention_mask`, both int64 (n, tokens), and gives `logits`
(n, n_tags); n and tokens are free.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from tagger.models.bert import BertEncoder
from tagger.models.transformer import TransformerClassifier, TransformerModule

OPSET, IR_VERSION = 17, 9
CONTRIB = "com.microsoft"
"""Domain of the operators that onnxruntime adds to those of ONNX."""

IDS, MASK, LOGITS = "input_ids", "attention_mask", "logits"
AXES = ["n", "tokens"]
HEAD = "head."
"""Prefix of the names of the head's weights, by hand and traced."""


def build_graph(classifier: TransformerClassifier) -> onnx.ModelProto:
    """Write the graph of a classifier, in fp32."""
    if isinstance(classifier.module.encoder, BertEncoder):
        return _write(classifier)
    return _trace(classifier.module)


def _write(classifier: TransformerClassifier) -> onnx.ModelProto:
    """Write the graph of a `BertEncoder`, its pooling and its head by hand."""
    encoder: BertEncoder = classifier.module.encoder
    shape = classifier.shape
    graph = _Graph()
    weights = _arrays(encoder.state_dict())
    states = _embed(graph, encoder, weights, int(shape["max_length"]))
    graph.add("Cast", [MASK], "mask", to=TensorProto.INT32)
    for number in range(len(encoder.encoder.layer)):
        states = _layer(graph, encoder, weights, number, states)
    vectors = _pool(graph, states, str(shape["pooling"]))
    if classifier.module.normalize:
        vectors = _normalize(graph, vectors)
    _head(graph, vectors, _arrays(classifier.module.head.state_dict()), str(shape["head"]))
    return graph.finish(len(classifier.tags))


class _Graph:
    """Nodes and constants, as they come."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(
        self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any
    ) -> str:
        self.nodes.append(
            helper.make_node(
                kind, inputs, [output], name=f"{output}_{kind}", domain=domain, **attributes
            )
        )
        return output

    def finish(self, n_tags: int) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(x, TensorProto.INT64, AXES) for x in (IDS, MASK)]
        output = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["n", n_tags])
        graph = helper.make_graph(self.nodes, "tagger", inputs, [output], self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = IR_VERSION
        return model


def _arrays(state: dict[str, Tensor]) -> dict[str, Any]:
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in state.items()}


def _embed(graph: _Graph, encoder: BertEncoder, weights: dict[str, Any], longest: int) -> str:
    prefix = "embeddings."
    words = graph.constant("word_embeddings", weights[prefix + "word_embeddings.weight"])
    # Positions that no text reaches stay out of the file, and the one segment is added in advance.
    places = weights[prefix + "position_embeddings.weight"][:longest]
    segment = weights[prefix + "token_type_embeddings.weight"][0]
    table = graph.constant("position_embeddings", places + segment)
    graph.add("Gather", [words, IDS], "words")
    graph.add("Shape", [IDS], "width", start=1, end=2)
    graph.add("Slice", [table, graph.constant("zero", np.array([0])), "width", "zero"], "places")
    graph.add("Add", ["words", "places"], "embedded")
    scale = graph.constant("embeddings.scale", weights[prefix + "LayerNorm.weight"])
    shift = graph.constant("embeddings.shift", weights[prefix + "LayerNorm.bias"])
    return graph.add(
        "LayerNormalization", ["embedded", scale, shift], "states",
        epsilon=float(encoder.config.layer_norm_eps),
    )  # fmt: skip


def _layer(
    graph: _Graph, encoder: BertEncoder, weights: dict[str, Any], number: int, states: str
) -> str:
    """Add one layer, and return the name of its states."""
    heads, epsilon = encoder.config.num_attention_heads, float(encoder.config.layer_norm_eps)
    there, here = f"encoder.layer.{number}.", f"layer.{number}."

    def constant(name: str, value: Any) -> str:
        return graph.constant(here + name, value)

    def product(inputs: str, weight: str, output: str) -> str:
        # ONNX multiplies from the right, torch's Linear by the transpose.
        matrix = constant(f"{output}.weight", weights[there + weight + ".weight"].T)
        return graph.add("MatMul", [inputs, matrix], here + output)

    def add_and_normalize(inputs: str, residual: str, part: str, output: str) -> str:
        bias, scale, shift = (
            constant(f"{output}.{name}", weights[there + part + "." + key])
            for name, key in (
                ("bias", "dense.bias"), ("scale", "LayerNorm.weight"), ("shift", "LayerNorm.bias"),
            )
        )  # fmt: skip
        # The bias first: onnxruntime makes it part of the product before it.
        biased = graph.add("Add", [inputs, bias], f"{here}{output}.biased")
        total = graph.add("Add", [biased, residual], f"{here}{output}.total")
        return graph.add(
            "LayerNormalization", [total, scale, shift], here + output, epsilon=epsilon
        )

    parts = [there + f"attention.self.{part}." for part in ("query", "key", "value")]
    joined = [
        constant("attention.weight", np.hstack([weights[part + "weight"].T for part in parts])),
        constant("attention.bias", np.hstack([weights[part + "bias"] for part in parts])),
    ]
    mixed = graph.add(
        "Attention", [states, *joined, "mask"], here + "attention", CONTRIB, num_heads=heads
    )
    projected = product(mixed, "attention.output.dense", "projected")
    attended = add_and_normalize(projected, states, "attention.output", "attended")
    inner = product(attended, "intermediate.dense", "inner")
    bias = constant("inner.bias", weights[there + "intermediate.dense.bias"])
    active = graph.add("BiasGelu", [inner, bias], here + "active", CONTRIB)
    outer = product(active, "output.dense", "outer")
    return add_and_normalize(outer, attended, "output", "states")


def _pool(graph: _Graph, states: str, pooling: str) -> str:
    """Add the pooling, (n, tokens, hidden) to (n, hidden), as `POOLINGS` of the transformer."""
    if pooling == "cls":
        return graph.add(
            "Gather", [states, graph.constant("first", np.array(0))], "vectors", axis=1
        )
    graph.add("Unsqueeze", [MASK, graph.constant("last", np.array([-1]))], "mask3")
    if pooling == "max":
        graph.add("Cast", ["mask3"], "real", to=TensorProto.BOOL)
        lowest = graph.constant("lowest", np.array(-np.inf, np.float32))
        graph.add("Where", ["real", states, lowest], "masked")
        return graph.add("ReduceMax", ["masked"], "vectors", axes=[1], keepdims=0)
    one = graph.constant("one", np.array([1]))
    graph.add("Cast", ["mask3"], "real", to=TensorProto.FLOAT)
    graph.add("Mul", [states, "real"], "masked")
    graph.add("ReduceSum", ["masked", one], "total", keepdims=0)
    graph.add("ReduceSum", ["real", one], "count", keepdims=0)
    return graph.add("Div", ["total", "count"], "vectors")


def _normalize(graph: _Graph, vectors: str) -> str:
    graph.add("ReduceL2", [vectors], "length", axes=[1], keepdims=1)
    smallest = graph.constant("smallest", np.array(1e-12, np.float32))  # as torch's `normalize`
    graph.add("Max", ["length", smallest], "divisor")
    return graph.add("Div", [vectors, "divisor"], "units")


def _head(graph: _Graph, vectors: str, weights: dict[str, Any], kind: str) -> None:
    """Add the head, (n, hidden) to logits (n, n_tags), as `build_head` builds it."""

    def product(inputs: str, layer: str, output: str) -> str:
        matrix = graph.constant(f"{HEAD}{layer}weight", weights[layer + "weight"].T)
        return graph.add("MatMul", [inputs, matrix], output)

    def bias(layer: str) -> str:
        return graph.constant(f"{HEAD}{layer}bias", weights[layer + "bias"])

    last = ""
    if kind == "mlp":
        last = "2."
        inner = product(vectors, "0.", "head_inner")
        vectors = graph.add("BiasGelu", [inner, bias("0.")], "head_active", CONTRIB)
    graph.add("Add", [product(vectors, last, "head_outer"), bias(last)], LOGITS)


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
        warnings.simplefilter("ignore")  # that it is the older one, and what it holds constant
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module.eval(),
            (ids, mask),
            path,
            input_names=[IDS, MASK],
            output_names=[LOGITS, "vectors"],
            dynamic_axes={name: dict(enumerate(AXES)) for name in (IDS, MASK)} | {LOGITS: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    module.train(training)
    del model.graph.output[1:]
    return model
