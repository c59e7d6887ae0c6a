import logging
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tagger.compression.graph import build_graph
from tagger.compression.quantization import (
    halve,
    quantize,
    quantize_rows,
    round_rows,
)
from tagger.models.transformer import TransformerClassifier, TransformerModule


def logits(model, rows):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    width = max(len(row) for row in rows)
    ids = np.array([row + [0] * (width - len(row)) for row in rows])
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]


def kinds(model):
    return Counter(node.op_type for node in model.graph.node)


def constants(model):
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def test_rows_are_off_by_half_a_step_of_their_own_at_most():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 16)) * np.logspace(-4, 3, 50)[:, None]
    table[7] = 0
    rounded, scales = round_rows(table)
    assert rounded.dtype == np.int8 and scales.shape == (50, 1)
    error = np.abs(rounded * scales.astype(np.float64) - table)
    assert (error <= np.abs(table).max(axis=1, keepdims=True) / 254 * 1.0001).all()
    assert (np.abs(rounded).max(axis=1)[np.arange(50) != 7] == 127).all()
    assert not (rounded[7] * scales[7]).any()


def test_a_table_is_looked_up_as_rows_of_int8(make_classifier, items):
    classifier = make_classifier()
    rows = classifier.tokenize(items)
    before = logits(build_graph(classifier), rows)
    model = build_graph(classifier)
    quantize_rows(model)
    onnx.checker.check_model(model)
    found = constants(model)
    assert "word_embeddings" not in found
    assert found["word_embeddings.int8"].dtype == np.int8
    assert found["position_embeddings"].dtype == np.float32
    difference = np.abs(logits(model, rows) - before)
    assert 0 < difference.max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-5), ("fp16", 0.005), ("int8", 0.1)])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_every_precision_says_nearly_the_same(
    make_classifier, compress_config, items, caplog, *, precision, most, head
):
    classifier = make_classifier(f"model.head={head}")
    rows = classifier.tokenize(items)
    before = logits(build_graph(classifier), rows)
    config = compress_config(f"dtype={precision}")
    with caplog.at_level(logging.WARNING):
        model = quantize(build_graph(classifier), config)
    assert not caplog.records  # nothing that a user is asked to mend
    assert np.abs(logits(model, rows) - before).max() < most
    # Padding has no part in it. (int8 takes its ranges from the whole batch.)
    alone = np.concatenate([logits(model, [row]) for row in rows])
    assert np.abs(alone - before).max() < most


def test_int8_has_no_product_in_fp32_but_the_head(make_classifier, compress_config):
    model = quantize(build_graph(make_classifier()), compress_config("dtype=int8"))
    found = kinds(model)
    assert (found["QAttention"], found["Attention"]) == (2, 0)
    assert (found["MatMulInteger"], found["MatMul"]) == (6, 1)
    assert constants(model)["head.weight"].dtype == np.float32
    tables = [value for value in constants(model).values() if value.shape[1:] > (1,)]
    large = {value.dtype for value in tables if value.size > 64 * 32}  # more than the positions
    assert large == {np.dtype(np.int8)}


def test_a_scale_a_column_is_nearer_than_one_for_all(make_classifier, compress_config, items):
    classifier = make_classifier()
    for layer in classifier.module.encoder.encoder.layer:
        layer.output.dense.weight.data[0] *= 40
    rows = classifier.tokenize(items)
    before = logits(build_graph(classifier), rows)
    errors = []
    for setting in ("true", "false"):
        config = compress_config("dtype=int8", f"per_channel={setting}")
        model = quantize(build_graph(classifier), config)
        errors.append(np.abs(logits(model, rows) - before).mean())
    assert errors[0] < errors[1]


def test_fp16_halves_the_file_and_keeps_to_fp32_in_computing(make_classifier):
    model = build_graph(make_classifier())
    whole = len(model.SerializeToString())
    halve(model)
    onnx.checker.check_model(model)
    assert len(model.SerializeToString()) < 0.52 * whole
    casts = [node for node in model.graph.node if node.name.endswith(".half")]
    assert casts and all(node.attribute[0].i == TensorProto.FLOAT for node in casts)


def test_what_fp16_cannot_hold_is_cut_off_not_infinite():
    table = np.full((64, 32), 1e6, np.float32)
    value = numpy_helper.from_array(table, "table")
    node = helper.make_node("Gather", ["table", "input_ids"], ["logits"])
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 32])
    model = helper.make_model(helper.make_graph([node], "g", [ids], [out], [value]))
    halve(model)
    assert np.isfinite(constants(model)["table.half"]).all()


@pytest.mark.slow
def test_a_traced_model_is_quantized_but_for_its_head(make_classifier, compress_config, items):
    import transformers

    torch.manual_seed(0)
    tiny = make_classifier()
    config = transformers.MPNetConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=66, attn_implementation="eager",
    )  # fmt: skip
    encoder = transformers.MPNetModel(config, add_pooling_layer=False)
    module = TransformerModule(encoder, 3, pooling="mean", head="linear", dropout=0.1).eval()
    torch.nn.init.normal_(module.head.weight)
    shape = {"max_length": 64}
    classifier = TransformerClassifier(module, tiny.tokenizer, tiny.tags, shape)
    rows = classifier.tokenize(items[:8])

    def alone(model):
        return np.concatenate([logits(model, [row]) for row in rows])

    before = alone(build_graph(classifier))
    model = quantize(build_graph(classifier), compress_config("dtype=int8"))
    found = constants(model)
    head = {name: value.dtype for name, value in found.items() if name.startswith("head.")}
    assert {*head.values()} == {np.dtype(np.float32)}
    whole = [value for value in found.values() if value.dtype == np.int8 and value.ndim == 2]
    assert len(whole) == 13  # six products a layer, and the tokens
    difference = np.abs(alone(model) - before).max()
    assert 0 < difference < 0.15 * np.ptp(before)
