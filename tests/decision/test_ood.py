import numpy as np
import pytest
from safetensors.numpy import save_file

from tagger.decision.ood import NEIGHBOURS, OodDetector
from tagger.errors import UserError

CENTRES = np.array([[6.0, 0, 0, 0, 0, 0], [0, 6.0, 0, 0, 0, 0], [0, 0, 6.0, 0, 0, 0]])


def vectors_of_three_tags(count, seed=0):
    random = np.random.default_rng(seed)
    tags = np.arange(count) % 3
    return CENTRES[tags] + random.normal(0, 1, (count, 6)), tags


def test_what_is_unlike_the_training_items_is_stranger():
    known, _ = vectors_of_three_tags(300)
    detector = OodDetector.fit(known)
    alike = detector.score(vectors_of_three_tags(200, seed=1)[0])
    elsewhere = np.random.default_rng(2).normal([0, 0, 0, 0, 8.0, 0], 1, (200, 6))
    strange = detector.score(elsewhere)
    assert alike.shape == strange.shape == (200,)
    assert np.quantile(alike, 0.95) < np.quantile(strange, 0.05)


def test_farther_is_stranger():
    known, _ = vectors_of_three_tags(300)
    detector = OodDetector.fit(known)
    steps = CENTRES[0] + np.outer([0, 2, 5, 10, 30], [0, 0, 0, 1.0, 0, 0])
    assert (np.diff(detector.score(steps)) > 0).all()


def test_saved_and_loaded_it_gives_the_same_scores(tmp_path):
    known, _ = vectors_of_three_tags(60)
    detector = OodDetector.fit(known)
    detector.save(tmp_path / "ood.safetensors")
    again = OodDetector.load(tmp_path / "ood.safetensors")
    fresh = vectors_of_three_tags(20, seed=1)[0]
    np.testing.assert_array_equal(again.score(fresh), detector.score(fresh))


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"ood\.safetensors cannot be read"):
        OodDetector.load(tmp_path / "ood.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:7],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"!",
        lambda content: bytes(range(256)),
        lambda content: b"\xff" * len(content),
    ],
    ids=["empty", "cut in its size", "half", "less", "more", "noise", "ones"],
)
def test_a_file_that_is_damaged_is_named(tmp_path, damage):
    known, _ = vectors_of_three_tags(60)
    path = tmp_path / "ood.safetensors"
    OodDetector.fit(known).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"ood\.safetensors cannot be read"):
        OodDetector.load(path)


@pytest.mark.parametrize("names", [[], ["means", "whitening"], ["means", "units"]])
def test_a_file_of_other_arrays_is_named_with_what_it_holds(tmp_path, names):
    path = tmp_path / "ood.safetensors"
    save_file({name: np.eye(3, dtype=np.float32) for name in names}, path)
    with pytest.raises(UserError, match=r"ood\.safetensors holds") as error:
        OodDetector.load(path)
    assert str(names) in str(error.value)


def test_each_row_is_judged_by_itself():
    known, _ = vectors_of_three_tags(60)
    detector = OodDetector.fit(known)
    fresh = vectors_of_three_tags(20, seed=1)[0]
    alone = np.concatenate([detector.score(row[None]) for row in fresh])
    np.testing.assert_allclose(alone, detector.score(fresh), rtol=1e-6, atol=1e-6)
    assert detector.score(np.zeros((0, 6))).shape == (0,)


def test_knn_distance_is_one_minus_the_mean_cosine_to_the_nearest():
    known, _ = vectors_of_three_tags(100)
    fresh = vectors_of_three_tags(7, seed=1)[0]
    expected = []
    for row in fresh:
        cosines = known @ row / np.linalg.norm(known, axis=1) / np.linalg.norm(row)
        expected.append(1 - np.sort(cosines)[-NEIGHBOURS:].mean())
    detector = OodDetector.fit(known)
    np.testing.assert_allclose(detector.score(fresh), expected, atol=1e-6)


def test_fewer_items_than_neighbours_are_all_asked():
    detector = OodDetector.fit(np.eye(3))
    np.testing.assert_allclose(detector.score(np.array([[5.0, 0, 0]])), [1 - 1 / 3], atol=1e-6)


def test_knn_distances_compare_directions_alone():
    known, _ = vectors_of_three_tags(60)
    detector = OodDetector.fit(known)
    fresh = vectors_of_three_tags(20, seed=1)[0]
    np.testing.assert_allclose(detector.score(9 * fresh), detector.score(fresh), atol=1e-6)


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_neither_unit_nor_rotation_of_the_space_matters(factor):
    known, _ = vectors_of_three_tags(300)
    fresh = vectors_of_three_tags(50, seed=1)[0]
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(0, 1, (6, 6)))
    plain = OodDetector.fit(known)
    turned = OodDetector.fit(factor * known @ rotation)
    scores = turned.score(factor * fresh @ rotation)
    np.testing.assert_allclose(scores, plain.score(fresh), rtol=1e-4, atol=1e-6)


def test_a_vector_of_zeros_breaks_nothing():
    known, _ = vectors_of_three_tags(60)
    scores = OodDetector.fit(known).score(np.zeros((1, 6)))
    assert np.isfinite(scores).all()
