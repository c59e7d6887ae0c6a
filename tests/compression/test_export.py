import json
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from tagger.compression.export import export_model
from tagger.data.items import Item
from tagger.environment import instruction_sets
from tagger.errors import UserError
from tagger.models.onnx import OnnxClassifier
from tagger.models.registry import load_classifier
from tagger.models.static import StaticClassifier
from tagger.models.static_encoder import StaticEncoder
from tagger.models.transformer import TransformerClassifier, TransformerModule
from tagger.run_meta import hash_files
from tagger.scores import softmax

pytestmark = pytest.mark.slow

TAGS = ("fruit", "metal", "weather")


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-6), ("fp16", 1e-3), ("int8", 0.02)])
def test_an_exported_model_says_what_the_original_says(
    make_classifier, compress_config, items, tmp_path, *, precision, most
):
    classifier = make_classifier()
    config = compress_config(f"dtype={precision}", "threads=1")
    export_model(classifier, config, tmp_path / "model")
    loaded = load_classifier(tmp_path / "model")
    assert type(loaded) is OnnxClassifier
    assert loaded.tags == TAGS
    found, expected = loaded.predict_proba(items), classifier.predict_proba(items)
    assert found.dtype == np.float64
    assert np.abs(found - expected).max() < most


def test_a_folder_says_what_it_was_made_as_and_where(make_classifier, compress_config, tmp_path):
    export_model(make_classifier(), compress_config("threads=1"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json", "tagger.json",
    }  # fmt: skip
    assert json.loads((tmp_path / "tagger.json").read_text()) == {
        "approach": "onnx",
        "tags": list(TAGS),
        "max_length": 64,
        "dtype": "int8",
        "threads": 1,
        "instructions": instruction_sets(),
    }


def test_it_opens_in_the_layout_of_optimum(make_classifier, compress_config, items, tmp_path):
    """As `ORTModelForSequenceClassification` does: config, tokenizer, graph, `logits`."""
    classifier = make_classifier()
    export_model(classifier, compress_config("dtype=fp32"), tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert config.id2label == dict(enumerate(TAGS))
    assert config.architectures == ["BertForSequenceClassification"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [item.text for item in items]
    inputs = dict(tokenizer(texts, padding=True, truncation=True, return_tensors="np"))
    assert sorted(inputs) == sorted(one.name for one in session.get_inputs())
    (logits,) = session.run(["logits"], inputs)
    np.testing.assert_allclose(softmax(logits), classifier.predict_proba(items), atol=1e-5)
    with pytest.raises(OSError, match="no file named"):
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)


JAVASCRIPT = """
const { env, pipeline } = require('@huggingface/transformers');
const [root, texts] = [process.argv[1], JSON.parse(process.argv[2])];
env.allowRemoteModels = false;
env.localModelPath = root;
const options = { subfolder: '', dtype: 'fp32' };
pipeline('text-classification', 'model', options).then(async (classify) => {
  console.log(JSON.stringify(await classify(texts, { top_k: null })));
});
"""


def test_transformers_js_computes_the_same(make_classifier, compress_config, items, tmp_path):
    """Where node finds the package: `npm install @huggingface/transformers`, and NODE_PATH."""
    look = ["node", "-e", "require.resolve('@huggingface/transformers')"]
    if (
        not shutil.which("node")
        or subprocess.run(look, capture_output=True, check=False).returncode
    ):
        pytest.skip("node does not find @huggingface/transformers")
    classifier = make_classifier()
    export_model(classifier, compress_config("dtype=fp32"), tmp_path / "model")
    # It cuts long texts in another way: the last token goes too, which says that a text ends.
    items = [item for item in items if len(classifier.tokenize([item])[0]) < 64]
    command = ["node", "-e", JAVASCRIPT, str(tmp_path), json.dumps([item.text for item in items])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    answers = [{one["label"]: one["score"] for one in row} for row in json.loads(done.stdout)]
    found = [[row[tag] for tag in TAGS] for row in answers]
    np.testing.assert_allclose(found, classifier.predict_proba(items), atol=1e-5)


def test_int8_takes_about_a_quarter(make_classifier, compress_config, tmp_path):
    sizes = {}
    for precision in ("fp32", "int8"):
        folder = tmp_path / precision
        export_model(make_classifier(), compress_config(f"dtype={precision}"), folder)
        sizes[precision] = (folder / "model.onnx").stat().st_size
    # Rows here are of 32 numbers, to which a scale adds an eighth.
    assert sizes["int8"] < 0.3 * sizes["fp32"]


def make_static(classifier, *, head, pooling="mean", normalize=False, width=24):
    """Put a static encoder of random vectors, longer and shorter ones, under a random head."""
    torch.manual_seed(0)
    encoder = StaticEncoder(classifier.tokenizer.get_vocab_size(), width, 0)
    with torch.no_grad():
        encoder.table.weight.normal_()
        encoder.weights.uniform_(0, 3)
    shape = {"pooling": pooling, "head": head, "dropout": 0.1, "normalize": normalize}
    module = TransformerModule(encoder, len(TAGS), **shape)
    with torch.no_grad():
        for parameter in module.head.parameters():
            parameter.normal_()
    return TransformerClassifier(
        module.eval(), classifier.tokenizer, TAGS, shape | {"max_length": 64}
    )


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-5), ("fp16", 0.002), ("int8", 0.03)])
def test_a_static_model_says_what_its_module_says(
    make_classifier, compress_config, items, tmp_path, *, head, precision, most
):
    classifier = make_static(make_classifier(), head=head)
    export_model(classifier, compress_config(f"dtype={precision}"), tmp_path)
    loaded = load_classifier(tmp_path)
    assert type(loaded) is StaticClassifier
    expected = classifier.predict_proba(items)
    assert np.ptp(expected) > 0.2
    if head == "linear":
        most = 1e-5  # of few numbers a token, which are kept as they are
    assert np.abs(loaded.predict_proba(items) - expected).max() < most


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"pooling": "max"}, "pooling=max"), ({"pooling": "cls"}, "pooling=cls"),
     ({"normalize": True}, "normalize=True")],
)  # fmt: skip
def test_what_a_static_model_cannot_compute_is_refused(
    make_classifier, compress_config, tmp_path, setting, words
):
    classifier = make_static(make_classifier(), head="linear", **setting)
    with pytest.raises(UserError, match=words):
        export_model(classifier, compress_config(), tmp_path)


def test_an_item_of_one_enormous_text_is_answered(make_classifier, compress_config, tmp_path):
    enormous = [Item("1", "word " * 200_000, "東京 🍏 " * 1000)]
    whole = make_classifier()
    for name, classifier in (("onnx", whole), ("static", make_static(whole, head="mlp"))):
        export_model(classifier, compress_config("dtype=fp32"), tmp_path / name)
        found = load_classifier(tmp_path / name).predict_proba(enormous)
        np.testing.assert_allclose(found, classifier.predict_proba(enormous), atol=1e-5)


def test_answers_need_no_torch(make_classifier, compress_config, copy_run):
    """From opening the run to the decision, for both kinds of model folders."""
    whole = make_classifier()
    paths = []
    for kind, classifier in (("onnx", whole), ("static", make_static(whole, head="mlp"))):
        run = copy_run(kind)
        folder = run.path / "model"
        shutil.rmtree(folder)
        export_model(classifier, compress_config("threads=1"), folder)
        run.meta.model_copy(update={"model_files": hash_files(folder)}).write(
            run.path / "meta.json"
        )
        paths.append(str(run.path))
    program = (
        "import sys\n"
        "from tagger.data.items import Item\n"
        "from tagger.decision.decider import load_decider\n"
        "from tagger.runs import open_run\n"
        "for path in sys.argv[1:]:\n"
        "    run = open_run(path, 'runs')\n"
        "    decider = load_decider(run.path, run.load_classifier())\n"
        "    assert decider.decide([Item('', 'apple orchard', 'juice')]).raw.shape == (1, 3)\n"
        "print(*sorted({'torch', 'sklearn', 'transformers', 'onnx', 'pandas'} & {*sys.modules}))\n"
    )
    command = [sys.executable, "-c", program, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
