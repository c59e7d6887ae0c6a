import json

import pytest

from tagger.data.items import Item
from tagger.models.base import SETTINGS, Classifier, embedder_of, read_settings
from tagger.models.rules import RulesClassifier


def answer(classifier: Classifier, title: str) -> str:
    """What a caller that knows the interface alone makes of a classifier."""
    (row,) = classifier.predict_proba([Item("1", title, "")])
    assert row.sum() == pytest.approx(1)
    return classifier.tags[row.argmax()]


def test_a_class_with_the_methods_of_the_interface_is_a_classifier(tmp_path):
    rules = RulesClassifier(("fruit", "metal"), "metal:\n  sure: [iron]\n", "text")
    assert answer(rules, "iron") == "metal"
    rules.save(tmp_path)
    loaded: Classifier = RulesClassifier.load(tmp_path)
    assert answer(loaded, "iron") == "metal"
    assert read_settings(tmp_path) == {"approach": "rules", "tags": ["fruit", "metal"]}


def test_a_classifier_with_an_encoder_is_told_from_one_without(tiny_classifier):
    assert embedder_of(tiny_classifier) is tiny_classifier
    assert embedder_of(RulesClassifier(("a", "b"), "a:\n  sure: [iron]\n", "text")) is None


def test_settings_are_read_as_they_are_and_what_is_no_json_is_refused(tmp_path):
    (tmp_path / SETTINGS).write_text(json.dumps({"approach": "ü"}), encoding="utf-8")
    assert read_settings(tmp_path) == {"approach": "ü"}
    (tmp_path / SETTINGS).write_text("{")
    with pytest.raises(json.JSONDecodeError):
        read_settings(tmp_path)
    with pytest.raises(OSError):
        read_settings(tmp_path / "nowhere")
