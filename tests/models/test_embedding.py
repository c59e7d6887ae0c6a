import numpy as np
import pytest

from tagger.config.schema import FrozenConfig, RandomEncoderConfig
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models import embedding
from tagger.models.embedding import VectorCache, embed_items, unit_rows
from tagger.scores import FloatArray

TEXTS = ("object detection", "finding things in images", "income tax law", "", "物体検出 😀")


@pytest.fixture(scope="module")
def vectors() -> FloatArray:
    patch = pytest.MonkeyPatch()
    patch.setattr(embedding, "EMBEDDED_AT_ONCE", 2)  # three steps
    items = [Item(str(number), text, "") for number, text in enumerate(TEXTS)]
    found = embed_items(items, "minilm", ("a", "b"))
    patch.undo()
    return found


def test_rows_get_length_one_and_zero_stays_zero() -> None:
    units = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0], [1e-5, 0.0]]))
    assert np.allclose(units, [[0.6, 0.8], [0, 0], [0, -1], [1, 0]])


def test_no_row_has_no_unit() -> None:
    assert unit_rows(np.empty((0, 3))).shape == (0, 3)


def test_each_text_has_a_vector_of_the_encoders_width(vectors: FloatArray) -> None:
    assert vectors.shape == (len(TEXTS), 384)
    assert np.isfinite(vectors).all()


def test_similar_meanings_are_closer_than_different_ones(vectors: FloatArray) -> None:
    query, near, far = unit_rows(vectors)[:3]
    assert query @ near > query @ far + 0.1


def test_vectors_come_in_the_order_of_the_items(vectors: FloatArray) -> None:
    alone = embed_items([Item("x", TEXTS[2], "")], "minilm", ("a", "b"))
    assert np.allclose(alone[0], vectors[2], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["linear", "rules"])
def test_a_model_without_an_encoder_is_refused(model: str) -> None:
    with pytest.raises(UserError, match=f"model {model} has no encoder"):
        embed_items([Item("1", "a", "")], model, ("a", "b"))


class Counting:
    """An encoder that counts the texts that it embeds: each by its length."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, items):  # type: ignore[no-untyped-def]
        self.texts += [item.text for item in items]
        return np.array([[len(item.text), 1.0] for item in items]).reshape(len(items), 2)

    @property
    def module(self):  # type: ignore[no-untyped-def]
        encoder = type("Encoder", (), {"config": type("Config", (), {"hidden_size": 2})})
        return type("Module", (), {"encoder": encoder})


def frozen(**given: object) -> FrozenConfig:
    values = {
        "approach": "frozen", "name": "frozen", "encoder": "package:one", "revision": None,
        "sha256": None, "random": None, "pooling": "mean", "max_length": 64, "C": 1.0,
        "balanced": False,
    }  # fmt: skip
    return FrozenConfig.model_validate(values | given)


def test_a_text_is_embedded_once_by_each_encoder() -> None:
    cache, encoder = VectorCache(), Counting()
    items = [Item("1", "ab", ""), Item("2", "abc", ""), Item("3", "ab", "")]
    assert cache.embed(frozen(), encoder, items).tolist() == [[2, 1], [3, 1], [2, 1]]
    # What a head is fitted by makes no other encoder.
    more = [*items[:2], Item("4", "abcd", "")]
    assert cache.embed(frozen(C=9.0), encoder, more).tolist() == [[2, 1], [3, 1], [4, 1]]
    assert encoder.texts == ["ab", "abc", "abcd"]
    for other in (frozen(encoder="package:two"), frozen(pooling="cls"), frozen(max_length=8)):
        cache.embed(other, encoder, items[:1])
    assert encoder.texts[3:] == ["ab"] * 3


def test_an_encoder_that_is_drawn_at_random_is_asked_anew() -> None:
    cache, encoder = VectorCache(), Counting()
    shape = RandomEncoderConfig(layers=1, hidden=8, heads=1, intermediate=8)
    drawn = frozen(encoder="random", random=shape)
    for _ in range(2):
        cache.embed(drawn, encoder, [Item("1", "ab", "")])
    assert encoder.texts == ["ab", "ab"]
