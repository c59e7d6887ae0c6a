import json
import math

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.registry import load_classifier
from tagger.models.static import StaticClassifier, StaticWeights, gelu
from tagger.scores import softmax

WORDS = {"apple": 0, "iron": 1, "rain": 2}
TABLE = np.array([[4.0, 0.0], [0.0, 2.0], [1.0, 1.0]], np.float32)
BIAS = np.array([0.5, -0.5], np.float32)


def build(table=TABLE, scales=None, second=None, max_length=4):
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token=None))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(max_length)
    weights = StaticWeights(np.asarray(table), scales, BIAS, second)
    return StaticClassifier(weights, tokenizer, ["a", "b"], max_length)


def ask(classifier, *texts):
    return classifier.predict_proba([Item(str(n), text, "") for n, text in enumerate(texts)])


def test_a_text_is_the_mean_of_its_tokens():
    found = ask(build(), "apple iron", "rain", "apple apple iron rain")
    logits = np.array([[2.0, 1.0], [1.0, 1.0], [9 / 4, 3 / 4]]) + BIAS
    np.testing.assert_allclose(found, softmax(logits), atol=1e-7)


def test_tokens_beyond_the_longest_text_do_not_count():
    np.testing.assert_array_equal(
        ask(build(), "apple iron rain rain apple apple"), ask(build(), "apple iron rain rain")
    )


def test_a_text_without_tokens_is_the_bias():
    found = ask(build(), "apple", "", "iron")
    np.testing.assert_allclose(found[1], softmax(BIAS[None].astype(np.float64))[0])
    np.testing.assert_array_equal(found[[0, 2]], ask(build(), "apple", "iron"))


def test_no_items_give_no_rows():
    assert ask(build()).shape == (0, 2)


def test_integers_are_multiplied_by_the_scale_of_their_row():
    scales = np.array([[0.5], [2.0], [1.0]], np.float32)
    table = np.array([[8, 0], [0, 1], [1, 1]], np.int8)
    np.testing.assert_array_equal(
        ask(build(table, scales), "apple iron", "rain"), ask(build(), "apple iron", "rain")
    )


def test_a_second_layer_comes_after_a_gelu():
    weight = np.array([[1.0, -1.0], [2.0, 0.5]], np.float32)
    bias = np.array([0.1, 0.2], np.float32)
    found = ask(build(second=(weight, bias)), "apple iron")
    inner = np.array([2.5, 0.5])
    active = np.array([x * (1 + math.erf(x / 2**0.5)) / 2 for x in inner])
    np.testing.assert_allclose(found, softmax((active @ weight + bias)[None]), atol=1e-6)


def test_gelu_is_exact_to_single_precision():
    values = np.concatenate([np.linspace(-8, 8, 4001), [0.0, -60.0, 60.0, 1e-6]])
    exact = np.array([x * math.erfc(-x / 2**0.5) / 2 for x in values])
    error = np.abs(gelu(values.astype(np.float32)) - exact)
    assert (error <= 4e-7 * np.maximum(np.abs(values), 1)).all()


@pytest.mark.parametrize(
    ("table", "scales"),
    [(TABLE, None), (TABLE.astype(np.float16), None),
     (TABLE.astype(np.int8), np.full((3, 1), 0.25, np.float32))],
)  # fmt: skip
@pytest.mark.parametrize("second", [None, (np.eye(2, dtype=np.float32), BIAS)])
def test_loaded_it_says_the_same(tmp_path, table, scales, second):
    classifier = build(table, scales, second)
    classifier.save(tmp_path)
    loaded = load_classifier(tmp_path)
    assert type(loaded) is StaticClassifier
    assert loaded.tags == ("a", "b")
    assert loaded.weights.table.dtype == table.dtype
    texts = ("apple iron", "rain", "iron iron apple rain rain")
    np.testing.assert_array_equal(ask(loaded, *texts), ask(classifier, *texts))


@pytest.mark.parametrize("name", ["static.safetensors", "tokenizer.json", "tagger.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_a_damaged_file_is_one_clear_message(tmp_path, name, damage):
    build().save(tmp_path)
    file = tmp_path / name
    if damage == "missing":
        file.unlink()
    else:
        content = {"empty": b"", "cut": file.read_bytes()[:13], "noise": bytes(range(256))}
        file.write_bytes(content[damage])
    with pytest.raises(UserError) as error:
        load_classifier(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_tags_and_tokens_that_do_not_fit_are_refused(tmp_path):
    build().save(tmp_path)
    settings = json.loads((tmp_path / "tagger.json").read_text())
    (tmp_path / "tagger.json").write_text(json.dumps(settings | {"tags": ["a", "b", "c"]}))
    with pytest.raises(UserError, match="of 2 tags and 3 tokens, expected 3 and 3"):
        load_classifier(tmp_path)
    build(TABLE[:2]).save(tmp_path)
    with pytest.raises(UserError, match="of 2 tags and 2 tokens, expected 2 and 3"):
        load_classifier(tmp_path)
