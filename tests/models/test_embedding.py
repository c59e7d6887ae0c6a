import numpy as np
import pytest

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models import embedding
from tagger.models.embedding import embed_items, unit_rows
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
