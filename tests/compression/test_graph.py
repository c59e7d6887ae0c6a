import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tagger.compression.graph import build_graph
from tagger.models.transformer import TransformerClassifier, TransformerModule

pytestmark = pytest.mark.slow


def run(model, ids, mask):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]


def padded_batch(vocabulary, pad_id=0):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, vocabulary, (4, 23), generator=generator)
    mask = torch.ones_like(ids)
    for row, length in ((1, 9), (2, 2)):
        mask[row, length:], ids[row, length:] = 0, pad_id
    return ids, mask


def kinds(model):
    return [node.op_type for node in model.graph.node]


def answers_as_torch(model, module, vocabulary, pad_id=0):
    ids, mask = padded_batch(vocabulary, pad_id)
    found = run(model, ids, mask)
    with torch.inference_mode():
        expected = module(ids, mask)[0].numpy()
    assert np.ptp(expected) > 0.05  # else any graph would do
    np.testing.assert_allclose(found, expected, atol=2e-6)
    # Padding has no part in it: each row by itself gives the same.
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = run(model, ids[row : row + 1, :length], mask[row : row + 1, :length])
        np.testing.assert_allclose(alone[0], found[row], atol=2e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_graph_computes_what_torch_does(make_classifier, pooling, head, normalize):
    classifier = make_classifier(
        f"model.pooling={pooling}", f"model.head={head}", normalize=normalize
    )
    model = build_graph(classifier)
    onnx.checker.check_model(model)
    answers_as_torch(model, classifier.module, 20_000)


def test_a_layer_is_of_the_operators_that_onnxruntime_computes_fastest(make_classifier):
    found = kinds(build_graph(make_classifier()))
    expected = {"Attention": 2, "LayerNormalization": 1 + 4, "BiasGelu": 2}
    assert {kind: found.count(kind) for kind in expected} == expected
    assert not {"Softmax", "Erf", "SkipLayerNormalization"} & set(found)


def test_positions_that_no_text_reaches_stay_out(make_classifier):
    classifier = make_classifier("model.max_length=32")
    classifier.shape["max_length"] = 20
    tables = {one.name: one.dims for one in build_graph(classifier).graph.initializer}
    assert tables["position_embeddings"][0] == 20


def of_transformers(name):
    import transformers

    common = {"vocab_size": 200, "attn_implementation": "eager"}
    if name == "mpnet":
        config = transformers.MPNetConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=66, **common,
        )  # fmt: skip
        return transformers.MPNetModel(config, add_pooling_layer=False)
    config = transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, **common)
    return transformers.DistilBertModel(config)


@pytest.mark.parametrize("name", ["mpnet", "distilbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_other_encoders_are_traced_and_compute_the_same(name, pooling):
    torch.manual_seed(0)
    encoder = of_transformers(name)
    module = TransformerModule(encoder, 3, pooling=pooling, head="linear", dropout=0.1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    module.train()
    classifier = TransformerClassifier(module, None, ["a", "b", "c"], {"max_length": 64})
    model = build_graph(classifier)
    assert module.training  # as it was
    assert [output.name for output in model.graph.output] == ["logits", "vectors"]
    assert model.graph.output[1].type.tensor_type.shape.dim[1].dim_value == classifier.vector_width
    answers_as_torch(model, module.eval(), 200, encoder.config.pad_token_id)
