import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import ExportConfig
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.base import embedder_of
from tagger.models.onnx import MANY, OnnxClassifier
from tagger.models.registry import load_classifier
from tagger.models.transformer import TransformerClassifier
from tagger.threads import usable_threads

TAGS = ("fruit", "metal", "weather")


@pytest.fixture(scope="module")
def folder(tiny_config, tmp_path_factory) -> Path:
    """A model folder in fp32; a test that changes it copies it before."""
    import torch

    from tagger.compression.export import export_model

    torch.manual_seed(0)
    classifier = TransformerClassifier.build(tiny_config().model, TAGS)
    torch.nn.init.normal_(classifier.module.head.weight)
    path = tmp_path_factory.mktemp("onnx")
    classifier.save(path / "original")
    given = ["run=any", "compress=fp32", "compress.threads=1"]
    config = load_config(ExportConfig, compose_config("export", given)).compress
    export_model(classifier, config, path / "model")
    return path


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    OnnxClassifier.load(folder / "model").save(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.slow
def test_answers_are_in_the_order_of_the_items(folder):
    classifier = OnnxClassifier.load(folder / "model")
    items = [Item(str(n), "alpha beta " * n, "gamma" if n % 2 else "") for n in (9, 1, 30, 2) * 20]
    together = classifier.predict_proba(items)
    alone = np.vstack([classifier.predict_proba([item]) for item in items])
    assert np.ptp(alone, axis=0).max() > 0.02
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-12)
    expected = TransformerClassifier.load(folder / "original").predict_proba(items)
    np.testing.assert_allclose(together, expected, atol=1e-6)


def test_one_pass_gives_the_vectors_too(folder):
    classifier = OnnxClassifier.load(folder / "model")
    original = TransformerClassifier.load(folder / "original")
    items = [Item(str(n), "alpha beta " * n, "gamma") for n in range(1, MANY + 2)]
    probabilities, vectors = classifier.predict_and_embed(items)
    np.testing.assert_array_equal(probabilities, classifier.predict_proba(items))
    np.testing.assert_array_equal(vectors, classifier.embed(items))
    expected = original.predict_and_embed(items)
    np.testing.assert_array_equal(expected[0], original.predict_proba(items))
    np.testing.assert_allclose(vectors, expected[1], atol=1e-5)
    assert classifier.vector_width == original.vector_width


def test_a_graph_that_an_older_version_exported_has_no_vectors(copied):
    model = onnx.load(copied / "model.onnx")
    del model.graph.output[1:]
    onnx.save(model, copied / "model.onnx")
    assert embedder_of(OnnxClassifier.load(copied)) is None


def test_in_int8_too_an_answer_does_not_depend_on_the_texts_beside_it(folder, tmp_path):
    from tagger.compression.export import export_model

    config = load_config(ExportConfig, compose_config("export", ["run=any"])).compress
    assert config.dtype == "int8"
    export_model(TransformerClassifier.load(folder / "original"), config, tmp_path)
    classifier = OnnxClassifier.load(tmp_path)
    items = [Item(str(n), "alpha beta " * n, "gamma" if n % 2 else "") for n in (9, 1, 30, 2) * 20]
    alone = np.vstack([classifier.predict_proba([item]) for item in items])
    for many in (items, items[: MANY - 1]):
        np.testing.assert_array_equal(classifier.predict_proba(many), alone[: len(many)])


@pytest.mark.parametrize("threads", [1, 2])
def test_many_texts_are_shared_out_to_single_cores(copied, threads):
    settings = json.loads((copied / "tagger.json").read_text())
    (copied / "tagger.json").write_text(json.dumps(settings | {"threads": threads}))
    classifier = OnnxClassifier.load(copied)
    items = [Item(str(n), "alpha " * (1 + n % 9), "") for n in range(MANY)]
    classifier.predict_proba(items[1:])
    assert "one_core" not in vars(classifier), "few texts need no second copy of the weights"
    # The file that it was loaded from may have been replaced meanwhile.
    (copied / "model.onnx").write_bytes(b"")
    together = classifier.predict_proba(items)
    assert ("one_core" in vars(classifier)) == (threads > 1)
    assert classifier.one_core.get_session_options().intra_op_num_threads == 1
    alone = np.vstack([classifier.predict_proba([item]) for item in items])
    np.testing.assert_allclose(together, alone, atol=1e-7)


def test_no_addition_is_joined_to_the_normalization_after_it(folder, monkeypatch, tmp_path):
    start = onnxruntime.InferenceSession

    def saving(graph, options, **rest):
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        return start(graph, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", saving)
    OnnxClassifier.load(folder / "model")
    found = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "LayerNormalization" in found and "SkipLayerNormalization" not in found


def test_no_items_give_no_rows(folder):
    assert OnnxClassifier.load(folder / "model").predict_proba([]).shape == (0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["🍏🍎", "東京", "é", "\u202e\u0000x", "?"])
def test_any_script_is_answered(folder, text):
    items = [Item("1", text, "")]
    found = OnnxClassifier.load(folder / "model").predict_proba(items)
    expected = TransformerClassifier.load(folder / "original").predict_proba(items)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_saved_copy_is_the_same_files(folder, copied):
    names = {path.name for path in (folder / "model").iterdir()}
    assert names == {path.name for path in copied.iterdir()}
    for name in names:
        assert (copied / name).read_bytes() == (folder / "model" / name).read_bytes()


def test_samples_are_saved_along(copied, tmp_path):
    (copied / "parity_samples.json").write_text("{}")
    OnnxClassifier.load(copied).save(tmp_path / "again")
    assert (tmp_path / "again" / "parity_samples.json").read_text() == "{}"


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (2, 2), (None, usable_threads())])
def test_it_computes_with_as_many_threads_as_it_was_told(copied, threads, expected):
    settings = json.loads((copied / "tagger.json").read_text())
    (copied / "tagger.json").write_text(json.dumps(settings | {"threads": threads}))
    options = OnnxClassifier.load(copied).session.get_session_options()
    assert options.intra_op_num_threads == expected


@pytest.mark.parametrize(
    ("threads", "taken", "spins"), [(2, True, False), (2, False, True), (1, True, True)]
)
def test_idle_threads_do_not_spin_on_cores_that_others_compute_on(
    copied, threads, taken, spins, monkeypatch
):
    monkeypatch.setattr("tagger.models.onnx.cores_are_taken", lambda _: taken)
    settings = json.loads((copied / "tagger.json").read_text())
    (copied / "tagger.json").write_text(json.dumps(settings | {"threads": threads}))
    options = OnnxClassifier.load(copied).session.get_session_options()
    key = "session.intra_op.allow_spinning"
    if spins:
        with pytest.raises(RuntimeError, match=key):  # not set: it spins
            options.get_session_config_entry(key)
    else:
        assert options.get_session_config_entry(key) == "0"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "tagger.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_file_is_one_clear_message(copied, name, damage):
    file = copied / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        half = content[: len(content) // 2]
        file.write_bytes({"empty": b"", "cut": half, "noise": bytes(range(256))}[damage])
    with pytest.raises(UserError) as error:
        load_classifier(copied)
    assert str(copied) in str(error.value)
    if name == "model.onnx":
        assert "does not hold a whole model" in str(error.value)
    assert len(str(error.value).splitlines()) < 4


@pytest.mark.parametrize(
    "changes",
    [{"tags": ["fruit", "metal"]}, {"threads": "many"}, {"max_length": None}, {"tags": 3}],
)
def test_settings_that_do_not_fit_are_one_clear_message(copied, changes):
    settings = json.loads((copied / "tagger.json").read_text())
    (copied / "tagger.json").write_text(json.dumps(settings | changes))
    with pytest.raises(UserError, match="does not hold a whole model"):
        load_classifier(copied)


def test_a_graph_of_something_else_is_refused(copied):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, copied / "model.onnx")
    with pytest.raises(UserError, match=r"maps \['x'\] to \{'y': \['n', 3\]\}, expected"):
        load_classifier(copied)
