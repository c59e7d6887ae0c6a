import shutil

import numpy as np
import pytest
import torch

from tagger.config.schema import FrozenConfig, LinearConfig
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.ensemble import EnsembleClassifier, average_weights
from tagger.models.linear import LinearClassifier
from tagger.models.rules import RulesClassifier
from tagger.models.transformer import TransformerClassifier

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
def transformer(tiny_config):
    def make(seed, *overrides, tags=TAGS):
        torch.manual_seed(seed)
        return TransformerClassifier.build(tiny_config(*overrides).model, tags)

    return make


@pytest.fixture
def members(transformer):
    """One of each approach."""
    linear = LinearClassifier.fit(ITEMS, [1.0] * 4, LINEAR, TAGS)
    rules = RulesClassifier(TAGS, "fruit:\n  sure: [apple]\nmetal:\n  likely: [iron]\n", "text")
    return [linear, rules, transformer(0)]


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


def test_a_soup_has_the_mean_of_all_weights(transformer):
    members = [transformer(seed) for seed in range(3)]
    soup = average_weights(members, ["a", "b", "c"])
    states = [member.module.state_dict() for member in members]
    found = soup.module.state_dict()
    assert found.keys() == states[0].keys()
    for name, value in found.items():
        expected = sum(state[name].double() for state in states) / 3
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-6)
        assert value.dtype == states[0][name].dtype
    assert max(float((found[n] - states[0][n]).abs().max()) for n in found) > 0.01
    assert soup.tags == TAGS


def test_a_soup_of_one_model_is_that_model_and_leaves_it_alone(transformer):
    one, other = transformer(0), transformer(1)
    before = one.predict_proba(ITEMS)
    np.testing.assert_allclose(
        average_weights([one, one], ["a", "a"]).predict_proba(ITEMS), before, atol=1e-7
    )
    soup = average_weights([one, other], ["a", "b"])
    assert np.abs(soup.predict_proba(ITEMS) - before).max() > 1e-3
    np.testing.assert_array_equal(one.predict_proba(ITEMS), before)


def test_order_of_a_soups_members_makes_no_difference(transformer):
    one, other = transformer(0), transformer(1)
    np.testing.assert_allclose(
        average_weights([one, other], ["a", "b"]).predict_proba(ITEMS),
        average_weights([other, one], ["b", "a"]).predict_proba(ITEMS),
        atol=1e-6,
    )


def test_a_saved_soup_is_a_transformer_like_any(transformer, tmp_path):
    soup = average_weights([transformer(0), transformer(1)], ["a", "b"])
    soup.save(tmp_path)
    again = TransformerClassifier.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(ITEMS), soup.predict_proba(ITEMS))


@pytest.mark.parametrize(
    "override",
    [
        "model.random.hidden=16",
        "model.random.layers=1",
        "model.random.intermediate=32",
        "model.max_length=32",
        "model.pooling=cls",
        "model.pooling=max",
    ],
)
def test_models_that_are_built_differently_are_refused_by_name(transformer, override):
    with pytest.raises(UserError, match="first and third are built differently") as e:
        average_weights(
            [transformer(0), transformer(1), transformer(2, override)], ["first", "second", "third"]
        )
    assert "combine=probabilities" in e.value.hint


def test_other_heads_are_refused(transformer):
    mlp = transformer(1, "model.head=mlp", "training.head_init=random")
    with pytest.raises(UserError, match="a and b are built differently"):
        average_weights([transformer(0), mlp], ["a", "b"])


def test_models_of_another_number_of_tags_are_refused(transformer):
    with pytest.raises(UserError, match="a and b are built differently"):
        average_weights([transformer(0), transformer(1, tags=TAGS[:2])], ["a", "b"])


def test_dropout_is_no_matter_of_how_a_model_is_built(transformer):
    # It is at work in training alone.
    one, other = transformer(0), transformer(1, "model.dropout=0.3", "model.encoder_dropout=0.2")
    soup = average_weights([one, other], ["a", "b"])
    same = average_weights([one, transformer(1)], ["a", "b"])
    np.testing.assert_array_equal(soup.predict_proba(ITEMS), same.predict_proba(ITEMS))


def test_frozen_models_may_be_averaged_with_each_other_but_not_with_fine_tuned_ones(
    transformer, tiny_config
):
    encoder = tiny_config().model.model_dump(
        include={"name", "encoder", "revision", "sha256", "random", "pooling", "max_length"}
    )
    frozen = FrozenConfig.model_validate(
        encoder | {"approach": "frozen", "C": 1.0, "balanced": False}
    )
    torch.manual_seed(0)
    members = [TransformerClassifier.build_frozen(frozen, TAGS) for _ in range(2)]
    heads = [member.module.head.weight.detach() for member in members]
    soup = average_weights(members, ["a", "b"])
    torch.testing.assert_close(soup.module.head.weight.detach(), (heads[0] + heads[1]) / 2)
    # The vectors of a frozen encoder are taken at length 1.
    with pytest.raises(UserError, match="a and b are built differently"):
        average_weights([members[0], transformer(0)], ["a", "b"])


@pytest.mark.parametrize("which", [0, 1], ids=["linear", "rules"])
def test_what_is_no_transformer_has_no_weights_to_average(members, which):
    with pytest.raises(UserError, match="words is no transformer"):
        average_weights([members[2], members[which]], ["tiny", "words"])
