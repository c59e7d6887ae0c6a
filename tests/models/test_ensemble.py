import shutil

import numpy as np
import pytest

from tagger.config.schema import LinearConfig
from tagger.data.items import Item
from tagger.models.base import embedder_of
from tagger.models.ensemble import EnsembleClassifier
from tagger.models.linear import LinearClassifier
from tagger.models.rules import RulesClassifier

TAGS = ("fruit", "metal", "weather")
ITEMS = [
    Item("1", "apple orchard", "sweet juice", tag="fruit"),
    Item("2", "iron furnace", "hot steel in the forge", tag="metal"),
    Item("3", "rain", "", tag="weather"),
    Item("4", "apple storm", "", tag="weather"),
]
LINEAR = LinearConfig(
    approach="linear", name="linear", word_ngrams=1, char_ngrams=3, C=1.0, balanced=False
)


class Says:
    """A stand-in that answers every item alike."""

    def __init__(self, *row, tags=TAGS):
        self.tags, self.row = tags, row

    def predict_proba(self, items):
        return np.tile(self.row, (len(items), 1))


@pytest.fixture
def members(tiny_classifier):
    """One of each approach."""
    linear = LinearClassifier.fit(ITEMS, [1.0] * 4, LINEAR, TAGS)
    rules = RulesClassifier(TAGS, "fruit:\n  sure: [apple]\nmetal:\n  likely: [iron]\n", "text")
    return [linear, rules, tiny_classifier]


def test_answers_with_the_mean_of_its_members():
    ensemble = EnsembleClassifier([Says(0.9, 0.1, 0.0), Says(0.2, 0.8, 0.0), Says(0.1, 0.3, 0.6)])
    assert ensemble.tags == TAGS
    np.testing.assert_allclose(ensemble.predict_proba(ITEMS[:2]), [[0.4, 0.4, 0.2]] * 2)


def test_members_of_all_approaches_answer_together(members):
    rows = EnsembleClassifier(members).predict_proba(ITEMS)
    parts = [member.predict_proba(ITEMS) for member in members]
    np.testing.assert_allclose(rows, (parts[0] + parts[1] + parts[2]) / 3)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    assert np.abs(rows - parts[0]).max() > 0.01


def test_vectors_are_those_of_the_member_that_has_an_encoder(members, monkeypatch):
    pair = EnsembleClassifier([*members, members[2]])
    assert embedder_of(pair) is pair
    assert pair.vector_width == members[2].vector_width
    probabilities, vectors = pair.predict_and_embed(ITEMS)
    np.testing.assert_array_equal(probabilities, pair.predict_proba(ITEMS))
    np.testing.assert_array_equal(vectors, pair.embed(ITEMS))
    np.testing.assert_array_equal(vectors, members[2].embed(ITEMS))
    assert embedder_of(EnsembleClassifier(members[:2])) is None


def test_no_items_give_no_rows(members):
    assert EnsembleClassifier(members).predict_proba([]).shape == (0, 3)


def test_saved_it_holds_its_members_and_needs_nothing_else(members, tmp_path):
    originals = []
    for number, member in enumerate(members):
        member.save(tmp_path / f"run-{number}")
        originals.append(type(member).load(tmp_path / f"run-{number}"))
    ensemble = EnsembleClassifier(originals)
    ensemble.save(tmp_path / "model")
    for number in range(3):
        shutil.rmtree(tmp_path / f"run-{number}")
    moved = (tmp_path / "model").rename(tmp_path / "elsewhere")
    again = EnsembleClassifier.load(moved)
    assert again.tags == TAGS
    assert [type(one) for one in again.members] == [type(one) for one in members]
    np.testing.assert_array_equal(again.predict_proba(ITEMS), ensemble.predict_proba(ITEMS))


def test_an_ensemble_may_be_a_member(members, tmp_path):
    inner = EnsembleClassifier(members[:2])
    outer = EnsembleClassifier([inner, members[2]])
    outer.save(tmp_path)
    again = EnsembleClassifier.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(ITEMS), outer.predict_proba(ITEMS))
    np.testing.assert_allclose(
        outer.predict_proba(ITEMS),
        0.5 * inner.predict_proba(ITEMS) + 0.5 * members[2].predict_proba(ITEMS),
    )


def test_more_than_ten_members_keep_their_places(tmp_path):
    texts = [f"fruit:\n  sure: [w{number}]\n" for number in range(12)]
    members = [RulesClassifier(TAGS, text, "text") for text in texts]
    EnsembleClassifier(members).save(tmp_path)
    assert [member.text for member in EnsembleClassifier.load(tmp_path).members] == texts
