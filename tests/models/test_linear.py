import csv
from collections import Counter

import numpy as np
import pytest
from scipy.sparse import hstack
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from tagger.config.schema import LinearConfig
from tagger.data.items import Item
from tagger.models.linear import SHARPNESS, LinearClassifier, build_vectorizers

TAGS = ("fruit", "metal", "weather")
WILD = [
    Item("empty", "", ""),
    Item("unknown", "Ξένη γλώσσα", "קוד פתוח 日本語"),
    Item("emoji", "🍎🍐", "👍"),
    Item("one letter", "x", ""),
    Item("joined", "e\u0301 \u200d\ufeff", "\u0000"),
    Item("long", "apple " * 3000, "iron " * 3000),
]


def config(**changes):
    values = {"word_ngrams": 2, "char_ngrams": 4, "C": 10.0, "balanced": False}
    return LinearConfig(approach="linear", name="linear", **(values | changes))


@pytest.fixture(scope="module")
def items(toy_folder):
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [Item(r["id"], r["title"], r["description"], tag=r["tag"]) for r in rows]


@pytest.fixture(scope="module")
def fitted(items):
    return LinearClassifier.fit(items, [1.0] * len(items), config(), TAGS)


def positions(items, tags=TAGS):
    return np.array([tags.index(item.tag) for item in items])


def by_scikit_learn(items, weights, judged, *, words, characters, strength, balanced):
    """Logits of the same model, put together from the library's own parts."""
    vectorizers = [
        TfidfVectorizer(
            ngram_range=(1, words), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]"
        ),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, characters), sublinear_tf=True),
    ]
    texts = [item.text for item in items]
    features = hstack([one.fit_transform(texts) for one in vectorizers], format="csr")
    model = LinearSVC(
        C=strength, class_weight="balanced" if balanced else None, tol=1e-6, max_iter=100_000
    ).fit(features, positions(items), sample_weight=weights)
    texts = [item.text for item in judged]
    margins = model.decision_function(
        hstack([one.transform(texts) for one in vectorizers], format="csr")
    )
    if margins.ndim == 1:
        margins = np.stack([-margins, margins], axis=1)
    return softmax(SHARPNESS * margins, axis=1)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("words", "characters", "strength"), [(1, 2, 0.5), (2, 5, 30.0)])
def test_agrees_with_scikit_learn(items, balanced, words, characters, strength):
    train, judged = items[:30] + [one for one in items[30:45] if one.tag == "metal"], items[45:]
    weights = np.linspace(0.5, 2, len(train))
    asked = config(word_ngrams=words, char_ngrams=characters, C=strength, balanced=balanced)
    ours = LinearClassifier.fit(train, weights.tolist(), asked, TAGS)
    theirs = by_scikit_learn(
        train, weights, judged,
        words=words, characters=characters, strength=strength, balanced=balanced,
    )  # fmt: skip
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours.predict_proba(judged), theirs, atol=2e-3)


def test_two_tags_agree_with_scikit_learn_too(items):
    pair = [item for item in items if item.tag != "weather"]
    ours = LinearClassifier.fit(pair[:28], [1.0] * 28, config(), TAGS[:2])
    theirs = by_scikit_learn(
        pair[:28], None, pair[28:], words=2, characters=4, strength=10.0, balanced=False
    )
    np.testing.assert_allclose(ours.predict_proba(pair[28:]), theirs, atol=2e-3)


def test_balanced_lifts_a_rare_tag(items):
    skewed = [item for n, item in enumerate(items) if item.tag != "metal" or n % 2 == 0]
    assert Counter(item.tag for item in skewed) == {"fruit": 20, "weather": 20, "metal": 10}
    empty = [Item("1", "", "")]
    plain, balanced = (
        LinearClassifier.fit(skewed, [1.0] * len(skewed), config(balanced=one, C=0.1), TAGS)
        for one in (False, True)
    )
    assert balanced.predict_proba(empty)[0, 1] > plain.predict_proba(empty)[0, 1] + 0.03


def test_learns_what_there_is_to_learn(items, fitted):
    assert (fitted.predict_proba(items).argmax(axis=1) == positions(items)).all()
    half = LinearClassifier.fit(items[:40], [1.0] * 40, config(), TAGS)
    unseen = half.predict_proba(items[40:]).argmax(axis=1)
    assert (unseen == positions(items[40:])).mean() >= 0.95


def test_letters_tell_where_no_word_is_known(fitted):
    rows = fitted.predict_proba([Item("1", "stormy thunderclouds", ""), Item("2", "applepie", "")])
    assert [TAGS[at] for at in rows.argmax(axis=1)] == ["weather", "fruit"]


def test_order_of_words_counts_if_pairs_of_words_are_asked_for():
    dog = Item("1", "dog bites man", "", tag="fruit")
    man = Item("2", "man bites dog", "", tag="metal")
    alone = LinearClassifier.fit([dog, man], [1.0, 1.0], config(word_ngrams=1), TAGS[:2])
    pairs = LinearClassifier.fit([dog, man], [1.0, 1.0], config(word_ngrams=2), TAGS[:2])
    one, other = alone.predict_proba([dog, man])
    np.testing.assert_allclose(one, other)
    np.testing.assert_allclose(one, 0.5, atol=0.01)
    assert pairs.predict_proba([dog, man]).argmax(axis=1).tolist() == [0, 1]


def test_a_weight_of_two_is_the_row_twice(items):
    # Only to the regression: how rare a word is, is counted in texts.
    train = items[:30]
    heavy = [2.0 if n % 4 == 0 else 1.0 for n in range(30)]
    weighted = LinearClassifier.fit(train, heavy, config(C=0.1), TAGS)
    texts = [item.text for item in train]
    vectorizers = build_vectorizers((2, 4))
    features = hstack([one.fit_transform(texts) for one in vectorizers], format="csr")
    twice = [*range(30), *range(0, 30, 4)]
    model = LinearSVC(C=0.1, tol=1e-6, max_iter=100_000)
    model.fit(features[twice], positions(train)[twice])
    judged = [item.text for item in items[30:]]
    margins = model.decision_function(hstack([one.transform(judged) for one in vectorizers]))
    expected = softmax(SHARPNESS * margins, axis=1)
    np.testing.assert_allclose(weighted.predict_proba(items[30:]), expected, atol=1e-4)
    plain = LinearClassifier.fit(train, [1.0] * 30, config(C=0.1), TAGS)
    assert np.abs(plain.predict_proba(items[30:]) - expected).max() > 2e-3


def test_of_two_rows_that_disagree_the_heavier_is_believed():
    rows = [Item("1", "same text", "", tag="fruit"), Item("2", "same text", "", tag="metal")]
    for weights, believed in (([3.0, 1.0], 0), ([1.0, 3.0], 1)):
        model = LinearClassifier.fit(rows, weights, config(), TAGS[:2])
        assert (model.predict_proba(rows)[:, believed] > 0.6).all()


def test_a_tag_that_no_item_has_is_never_probable(items):
    tags = ("fruit", "never seen", "metal", "weather")
    model = LinearClassifier.fit(items, [1.0] * len(items), config(), tags)
    rows = model.predict_proba([*items, *WILD])
    assert (rows[:, 1] < 1e-9).all()
    assert (rows[:60].argmax(axis=1) == positions(items, tags)).all()
    pair = [item for item in items if item.tag != "weather"]
    model = LinearClassifier.fit(pair, [1.0] * len(pair), config(), tags)
    assert (model.predict_proba(WILD)[:, [1, 3]] < 1e-9).all()


@pytest.mark.parametrize("item", WILD, ids=lambda item: item.id)
def test_any_text_has_finite_probabilities_that_sum_to_one(fitted, item):
    row = fitted.predict_proba([item])
    assert np.isfinite(row).all()
    assert (row > 0).all()
    np.testing.assert_allclose(row.sum(), 1)


def test_of_a_text_without_anything_known_the_bias_decides(fitted):
    exponentials = np.exp(fitted.bias.astype(np.float64))
    expected = exponentials / exponentials.sum()
    np.testing.assert_allclose(fitted.predict_proba(WILD[:1])[0], expected)


def test_texts_of_emoji_alone_can_be_told_apart():
    rows = [Item(str(n), "🍎" if n % 2 else "🔩", "", tag=TAGS[n % 2]) for n in range(8)]
    model = LinearClassifier.fit(rows, [1.0] * 8, config(), TAGS[:2])
    assert (model.predict_proba(rows).argmax(axis=1) == positions(rows)).all()


def test_each_item_is_judged_by_itself_in_the_order_given(items, fitted):
    mixed = [*WILD, *items[:5]]
    alone = np.vstack([fitted.predict_proba([item]) for item in mixed])
    np.testing.assert_allclose(fitted.predict_proba(mixed), alone, atol=1e-12)


def test_no_items_give_no_rows(fitted):
    assert fitted.predict_proba([]).shape == (0, 3)


def test_saved_and_loaded_it_gives_the_same_probabilities(items, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    again = LinearClassifier.load(tmp_path / "model")
    assert again.tags == TAGS
    assert again.ngrams == fitted.ngrams
    judged = [*items, *WILD]
    np.testing.assert_array_equal(again.predict_proba(judged), fitted.predict_proba(judged))
    endings = {path.suffix for path in (tmp_path / "model").iterdir()}
    assert endings == {".json", ".safetensors"}


def test_terms_of_any_script_survive_saving(tmp_path):
    rows = [
        Item("1", "яблоко груша", "", tag="fruit"),
        Item("2", "铁 🔩 “quoted”\u2028line", "", tag="metal"),
    ] * 3
    model = LinearClassifier.fit(rows, [1.0] * 6, config(), TAGS[:2])
    model.save(tmp_path)
    again = LinearClassifier.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(rows), model.predict_proba(rows))


def test_fitting_twice_gives_the_same_numbers(items, fitted):
    again = LinearClassifier.fit(items, [1.0] * len(items), config(), TAGS)
    np.testing.assert_array_equal(again.weight, fitted.weight)
    np.testing.assert_array_equal(again.bias, fitted.bias)
