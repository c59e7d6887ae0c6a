"""Quantizes the weights of an ONNX graph to fp16 or int8.

There is no bf16 here: onnxruntime has no kernel for CPUs that multiplies bf16 matrices, and does
not load a graph that asks for one.
"""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, parser
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from tagger.compression.graph import CONTRIB, HEAD, IDS
from tagger.config.schema import CompressConfig

Int8Array = npt.NDArray[np.int8]
Float32Array = npt.NDArray[np.float32]

LARGEST = 127
SMALL = 1024
"""Numbers in a constant that is not worth halving, such as a bias."""


def quantize(model: onnx.ModelProto, config: CompressConfig) -> onnx.ModelProto:
    """Return a graph whose weights have the data type that a config asks for.

    Args:
        model: In fp32; it may be changed.
        config: `dtype` and `per_channel`.
    """
    if config.dtype == "fp16":
        halve(model)
    if config.dtype == "int8":
        quantize_rows(model)
        model = quantize_products(model, config.per_channel)
    return model


def halve(model: onnx.ModelProto) -> None:
    """Store large fp32 constants as fp16, in place: half the file.

    They are cast back when the file is loaded, where onnxruntime does so once, and everything is
    computed in fp32, for which CPUs have the faster instructions.
    """
    graph = model.graph
    casts = []
    limit = np.finfo(np.float16).max
    for constant in graph.initializer:
        value = numpy_helper.to_array(constant)
        if constant.data_type == TensorProto.FLOAT and value.size >= SMALL:
            name, stored = constant.name, constant.name + ".half"
            half = np.clip(value, -limit, limit).astype(np.float16)
            constant.CopyFrom(numpy_helper.from_array(half, stored))
            cast = helper.make_node("Cast", [stored], [name], name=stored, to=TensorProto.FLOAT)
            casts.append(cast)
    for position, cast in enumerate(casts):
        graph.node.insert(position, cast)


def round_rows(table: npt.NDArray[np.floating]) -> tuple[Int8Array, Float32Array]:
    """Round each row of a table (rows, width) to int8, by a scale of its own.

    Returns:
        Integers (rows, width), and scales (rows, 1): their product is no further from the table
        than half a scale.
    """
    scales = (np.abs(table).max(axis=1, keepdims=True) / LARGEST).astype(np.float32)
    divisors = np.where(scales == 0, 1, scales)
    rounded = np.rint(table / divisors).clip(-LARGEST, LARGEST).astype(np.int8)
    return rounded, scales


def quantize_rows(model: onnx.ModelProto) -> None:
    """Store the tables that token ids look up as int8 with a scale a row, in place.

    onnxruntime's own quantization would give a table of all tokens one scale, which a few rare
    tokens with long vectors dictate to all others.
    """
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Gather" or node.input[1] != IDS or node.input[0] not in constants:
            nodes.append(node)
            continue
        name, (output,) = node.input[0], node.output
        rounded, scales = round_rows(numpy_helper.to_array(constants[name]))
        graph.initializer.append(numpy_helper.from_array(rounded, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
        lookup = f"""
            "{output}.int8" = Gather ("{name}.int8", {IDS})
            "{output}.whole" = Cast <to = {TensorProto.FLOAT}> ("{output}.int8")
            "{output}.scales" = Gather ("{name}.scales", {IDS})
            "{output}" = Mul ("{output}.whole", "{output}.scales")
        """
        nodes += [parser.parse_node(line) for line in lookup.strip().splitlines()]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    for name, constant in constants.items():
        if name not in used:
            graph.initializer.remove(constant)


def quantize_products(model: onnx.ModelProto, per_channel: bool) -> onnx.ModelProto:
    """Return a graph whose products with weights are of int8.

    Ranges of activations are taken anew from all that is computed together. The head stays in
    fp32: it is small, and nothing after it evens its errors out.

    Args:
        model: In fp32, tables of tokens aside.
        per_channel: Whether each column of a weight has a scale of its own.
    """
    # Its own operators have no rules of types in ONNX, and what has no type it leaves out.
    for node in model.graph.node:
        if node.domain == CONTRIB:
            value = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
            model.graph.value_info.append(value)
    # Else it asks for a rewriting of the graph first, which gains nothing here.
    add_pre_process_metadata(model)
    # The head; a Gemm, of which a traced head is made, is split before names are looked at.
    head = [n.name for n in model.graph.node if any(name.startswith(HEAD) for name in n.input)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["Attention", "MatMul"],
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=head + [f"{name}_MatMul" for name in head],
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(path)
