import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from tagger.compression.export import export_model
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import ExportConfig, FrozenConfig, LinearConfig
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.ensemble import EnsembleClassifier
from tagger.models.linear import LinearClassifier
from tagger.models.onnx import OnnxClassifier
from tagger.models.registry import CLASSES as WRITERS
from tagger.models.registry import load_classifier
from tagger.models.rules import RulesClassifier
from tagger.models.static import StaticClassifier, StaticWeights
from tagger.models.transformer import TransformerClassifier

TAGS = ("fruit", "metal", "weather")
ITEMS = [
    Item("1", "apple orchard", "sweet juice", tag="fruit"),
    Item("2", "iron furnace", "", tag="metal"),
    Item("3", "rain", "", tag="weather"),
]
LINEAR = LinearConfig(
    approach="linear", name="linear", word_ngrams=1, char_ngrams=3, C=1.0, balanced=False
)
CLASSES = {
    "transformer": TransformerClassifier,
    "frozen": TransformerClassifier,  # a fitted one is a transformer like any
    "linear": LinearClassifier,
    "rules": RulesClassifier,
    "ensemble": EnsembleClassifier,
    "onnx": OnnxClassifier,
    "static": StaticClassifier,
}


@pytest.fixture(scope="module")
def classifiers(tiny_config, tmp_path_factory):
    torch.manual_seed(0)
    tiny = tiny_config("model.random.layers=1").model
    encoder = tiny.model_dump(
        include={"name", "encoder", "revision", "sha256", "random", "pooling", "max_length"}
    )
    frozen = FrozenConfig.model_validate(
        encoder | {"approach": "frozen", "C": 1.0, "balanced": False}
    )
    linear = LinearClassifier.fit(ITEMS, [1.0] * 3, LINEAR, TAGS)
    rules = RulesClassifier(TAGS, "fruit:\n  sure: [apple]\n", "text")
    transformer = TransformerClassifier.build(tiny, TAGS)
    exported = tmp_path_factory.mktemp("exported")
    compress = load_config(ExportConfig, compose_config("export", ["run=any"])).compress
    export_model(transformer, compress, exported)
    table = np.random.default_rng(0).standard_normal((30522, 3)).astype(np.float32)
    static = StaticWeights(table, None, np.zeros(3, np.float32), None)
    return {
        "transformer": transformer,
        "frozen": TransformerClassifier.build_frozen(frozen, TAGS),
        "linear": linear,
        "rules": rules,
        "ensemble": EnsembleClassifier([linear, rules]),
        "onnx": OnnxClassifier.load(exported),
        "static": StaticClassifier(static, transformer.tokenizer, TAGS, 64),
    }


@pytest.fixture(scope="module")
def saved(classifiers, tmp_path_factory):
    """Folders of models; a test that damages one copies it before."""
    root = tmp_path_factory.mktemp("models")
    for approach, classifier in classifiers.items():
        classifier.save(root / approach)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("approach", CLASSES)
def test_each_approach_is_read_as_its_class_with_the_same_answers(classifiers, saved, approach):
    loaded = load_classifier(saved / approach)
    assert type(loaded) is CLASSES[approach]
    assert loaded.tags == TAGS
    expected = classifiers[approach].predict_proba(ITEMS)
    np.testing.assert_array_equal(loaded.predict_proba(ITEMS), expected)


@pytest.mark.parametrize("approach", CLASSES)
def test_no_approach_saves_a_pickle(saved, approach):
    endings = {path.suffix for path in (saved / approach).rglob("*") if path.is_file()}
    assert endings <= {".json", ".safetensors", ".yaml", ".onnx"}


def test_every_approach_that_is_saved_can_be_read(saved):
    written = {
        json.loads((saved / approach / "tagger.json").read_text())["approach"]
        for approach in CLASSES
    }
    assert written == set(WRITERS)


def test_an_unknown_approach_is_refused_by_name(tmp_path):
    (tmp_path / "tagger.json").write_text(json.dumps({"approach": "magic", "tags": ["a", "b"]}))
    with pytest.raises(UserError, match="does not hold a whole model") as error:
        load_classifier(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} does not hold a whole model: approach 'magic' is none of transformer, linear, "
        "rules, ensemble, onnx, static"
    )


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", '"linear"', '{"approach": ["x"]}'])
def test_settings_that_say_nothing_are_refused(tmp_path, content):
    (tmp_path / "tagger.json").write_text(content)
    with pytest.raises(UserError, match="does not hold a whole model"):
        load_classifier(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="No such file"):
            load_classifier(folder)


FILES = [
    ("linear", "linear.safetensors"),
    ("linear", "vocabulary.json"),
    ("linear", "tagger.json"),
    ("rules", "rules.yaml"),
    ("rules", "tagger.json"),
    ("transformer", "config.json"),
    ("transformer", "model.safetensors"),
    ("transformer", "tokenizer.json"),
    ("transformer", "head.safetensors"),
    ("transformer", "tagger.json"),
    ("ensemble", "tagger.json"),
    ("ensemble", "member-00/linear.safetensors"),
    ("ensemble", "member-01/rules.yaml"),
    ("ensemble", "member-01/tagger.json"),
]


@pytest.mark.parametrize(("approach", "name"), FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_file_is_one_clear_message(saved, tmp_path, approach, name, damage):
    folder = tmp_path / "model"
    shutil.copytree(saved / approach, folder)
    file = folder / name
    if damage == "missing":
        file.unlink()
    else:
        content = {"empty": b"", "cut": file.read_bytes()[:13], "noise": bytes(range(256))}
        file.write_bytes(content[damage])
    with pytest.raises(UserError) as error:
        load_classifier(folder)
    assert str(file.parent) in str(error.value)


@pytest.mark.parametrize(
    ("approach", "changes"),
    [
        ("linear", {"ngrams": [2]}),
        ("linear", {"ngrams": None}),
        ("linear", {"tags": 3}),
        ("transformer", {"pooling": "magic"}),
        ("transformer", {"tags": ["fruit", "metal"]}),
        ("transformer", {"dropout": "much"}),
        ("ensemble", {"members": "2"}),
        ("ensemble", {"members": 3}),
        ("rules", {"tags": ["metal", "weather"]}),  # not those that the rules speak of
        ("ensemble", {"members": 0}),
    ],
)
def test_settings_that_do_not_fit_are_one_clear_message(saved, tmp_path, approach, changes):
    folder = tmp_path / "model"
    shutil.copytree(saved / approach, folder)
    settings = json.loads((folder / "tagger.json").read_text())
    (folder / "tagger.json").write_text(json.dumps(settings | changes))
    with pytest.raises(UserError) as error:
        load_classifier(folder)
    assert str(folder) in str(error.value)


def test_an_ensemble_of_no_members_is_said_to_be_one(saved, tmp_path):
    shutil.copytree(saved / "ensemble", tmp_path / "model")
    path = tmp_path / "model" / "tagger.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"members": 0}))
    with pytest.raises(UserError) as error:
        load_classifier(tmp_path / "model")
    assert str(error.value) == (
        f"{tmp_path / 'model'} does not hold a whole model: tagger.json speaks of no members"
    )


def test_a_member_of_an_unknown_approach_is_named_with_its_folder(saved, tmp_path):
    shutil.copytree(saved / "ensemble", tmp_path / "model")
    member = tmp_path / "model" / "member-01"
    settings = json.loads((member / "tagger.json").read_text())
    (member / "tagger.json").write_text(json.dumps(settings | {"approach": "magic"}))
    with pytest.raises(UserError, match="approach 'magic' is none of transformer") as error:
        load_classifier(tmp_path / "model")
    assert str(member) in str(error.value)


def test_terms_and_weights_that_do_not_fit_are_refused(saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved / "linear", folder)
    words, characters = json.loads((folder / "vocabulary.json").read_text())
    for wrong in ([words[:-1], characters], [words], [words, None], {"a": 1, "b": 2}):
        (folder / "vocabulary.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match="does not hold a whole model"):
            load_classifier(folder)


def test_rules_do_without_the_libraries_that_take_seconds(saved):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tagger.data.items import Item\n"
        "from tagger.models.registry import load_classifier\n"
        f"rules = load_classifier(Path({str(saved / 'rules')!r}))\n"
        "assert rules.predict_proba([Item('1', 'apple', '')])[0].argmax() == 0\n"
        "print(*sorted({'torch', 'sklearn', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
