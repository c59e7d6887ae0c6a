import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tagger.decision import ood as module
from tagger.decision.ood import ARRAYS, NEIGHBOURS, SHRINKAGE, Embeds, OodDetector
from tagger.errors import UserError

KINDS = ["knn", "mahalanobis"]
CENTRES = np.array([[6.0, 0, 0, 0, 0, 0], [0, 6.0, 0, 0, 0, 0], [0, 0, 6.0, 0, 0, 0]])


def vectors_of_three_tags(count, seed=0):
    random = np.random.default_rng(seed)
    tags = np.arange(count) % 3
    return CENTRES[tags] + random.normal(0, 1, (count, 6)), tags


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_unlike_the_training_items_is_stranger(kind):
    known, tags = vectors_of_three_tags(300)
    detector = OodDetector.fit(kind, known, tags.tolist())
    alike = detector.score(vectors_of_three_tags(200, seed=1)[0])
    elsewhere = np.random.default_rng(2).normal([0, 0, 0, 0, 8.0, 0], 1, (200, 6))
    strange = detector.score(elsewhere)
    assert alike.shape == strange.shape == (200,)
    assert np.quantile(alike, 0.95) < np.quantile(strange, 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_farther_is_stranger(kind):
    known, tags = vectors_of_three_tags(300)
    detector = OodDetector.fit(kind, known, tags.tolist())
    steps = CENTRES[0] + np.outer([0, 2, 5, 10, 30], [0, 0, 0, 1.0, 0, 0])
    assert (np.diff(detector.score(steps)) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_gives_the_same_scores(kind, tmp_path):
    known, tags = vectors_of_three_tags(60)
    detector = OodDetector.fit(kind, known, tags.tolist())
    detector.save(tmp_path / "ood.safetensors")
    again = OodDetector.load(tmp_path / "ood.safetensors")
    fresh = vectors_of_three_tags(20, seed=1)[0]
    np.testing.assert_array_equal(again.score(fresh), detector.score(fresh))
    assert again.kind == kind, "what is kept says which kind it is"
    with safe_open(tmp_path / "ood.safetensors", "numpy") as file:
        assert set(file.keys()) == set(detector.arrays) == ARRAYS[kind]


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"ood\.safetensors cannot be read"):
        OodDetector.load(tmp_path / "ood.safetensors")


@pytest.mark.parametrize("kind", KINDS)
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
def test_a_file_that_is_damaged_is_named(tmp_path, kind, damage):
    known, tags = vectors_of_three_tags(60)
    path = tmp_path / "ood.safetensors"
    OodDetector.fit(kind, known, tags.tolist()).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"ood\.safetensors cannot be read"):
        OodDetector.load(path)


@pytest.mark.parametrize(
    "names", [[], ["means"], ["means", "units"], ["means", "units", "whitening"], ["unit"]]
)
def test_a_file_of_other_arrays_is_named_with_what_it_holds(tmp_path, names):
    path = tmp_path / "ood.safetensors"
    save_file({name: np.eye(3, dtype=np.float32) for name in names}, path)
    with pytest.raises(UserError, match=r"ood\.safetensors holds") as error:
        OodDetector.load(path)
    assert str(names) in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_judged_by_itself(kind):
    known, tags = vectors_of_three_tags(60)
    detector = OodDetector.fit(kind, known, tags.tolist())
    fresh = vectors_of_three_tags(20, seed=1)[0]
    alone = np.concatenate([detector.score(row[None]) for row in fresh])
    np.testing.assert_allclose(alone, detector.score(fresh), rtol=1e-6, atol=1e-6)
    assert detector.score(np.zeros((0, 6))).shape == (0,)


def test_knn_distance_is_one_minus_the_mean_cosine_to_the_nearest():
    known, tags = vectors_of_three_tags(100)
    fresh = vectors_of_three_tags(7, seed=1)[0]
    expected = []
    for row in fresh:
        cosines = known @ row / np.linalg.norm(known, axis=1) / np.linalg.norm(row)
        expected.append(1 - np.sort(cosines)[-NEIGHBOURS:].mean())
    detector = OodDetector.fit("knn", known, tags.tolist())
    np.testing.assert_allclose(detector.score(fresh), expected, atol=1e-6)


def test_fewer_items_than_neighbours_are_all_asked():
    detector = OodDetector.fit("knn", np.eye(3), [0, 1, 2])
    np.testing.assert_allclose(detector.score(np.array([[5.0, 0, 0]])), [1 - 1 / 3], atol=1e-6)


def test_knn_distances_compare_directions_alone():
    known, tags = vectors_of_three_tags(60)
    detector = OodDetector.fit("knn", known, tags.tolist())
    fresh = vectors_of_three_tags(20, seed=1)[0]
    np.testing.assert_allclose(detector.score(9 * fresh), detector.score(fresh), atol=1e-6)


def test_mahalanobis_is_zero_at_each_tags_mean():
    known, tags = vectors_of_three_tags(300)
    means = np.stack([known[tags == tag].mean(axis=0) for tag in range(3)])
    detector = OodDetector.fit("mahalanobis", known, tags.tolist())
    np.testing.assert_allclose(detector.score(means), 0, atol=1e-4)
    assert (detector.score(known) > 0.1).all()


def test_mahalanobis_counts_spreads_not_lengths():
    random = np.random.default_rng(0)
    known = random.normal(0, [1.0, 5.0], (4000, 2))
    detector = OodDetector.fit("mahalanobis", known, [0] * 4000)
    along, across = detector.score(np.array([[0.0, 10.0], [10.0, 0.0]]))
    assert across > 2.5 * along


def test_mahalanobis_is_the_distance_to_the_nearest_mean_under_a_shrunk_covariance():
    known, tags = vectors_of_three_tags(300)
    fresh = vectors_of_three_tags(7, seed=1)[0]
    means = np.stack([known[tags == tag].mean(axis=0) for tag in range(3)])
    covariance = np.cov((known - means[tags]).T, bias=True)
    round_one = np.diag([np.trace(covariance) / 6] * 6)
    inverse = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * round_one)
    expected = [
        min(np.sqrt((row - mean) @ inverse @ (row - mean)) for mean in means) for row in fresh
    ]
    scores = OodDetector.fit("mahalanobis", known, tags.tolist()).score(fresh)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_neither_unit_nor_rotation_of_the_space_matters(kind, factor):
    known, tags = vectors_of_three_tags(300)
    fresh = vectors_of_three_tags(50, seed=1)[0]
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(0, 1, (6, 6)))
    plain = OodDetector.fit(kind, known, tags.tolist())
    turned = OodDetector.fit(kind, factor * known @ rotation, tags.tolist())
    scores = turned.score(factor * fresh @ rotation)
    np.testing.assert_allclose(scores, plain.score(fresh), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_shrinkage_aside_mahalanobis_does_not_depend_on_the_scale_of_an_axis(factor, monkeypatch):
    monkeypatch.setattr(module, "SHRINKAGE", 0.0)
    known, tags = vectors_of_three_tags(300)
    fresh = vectors_of_three_tags(50, seed=1)[0]
    stretch = np.array([1.0, 1.0, 1.0, 1.0, factor, 1.0])
    plain = OodDetector.fit("mahalanobis", known, tags.tolist())
    stretched = OodDetector.fit("mahalanobis", known * stretch, tags.tolist())
    np.testing.assert_allclose(stretched.score(fresh * stretch), plain.score(fresh), rtol=1e-3)


def test_mahalanobis_works_with_fewer_items_than_axes_and_with_tags_that_are_absent():
    random = np.random.default_rng(0)
    known = random.normal(0, 1, (12, 50))
    detector = OodDetector.fit("mahalanobis", known, [0, 2] * 6)
    scores = detector.score(random.normal(0, 1, (5, 50)))
    assert np.isfinite(scores).all()
    assert detector.arrays["means"].shape == (2, 50)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_of_zeros_breaks_nothing(kind):
    known, tags = vectors_of_three_tags(60)
    scores = OodDetector.fit(kind, known, tags.tolist()).score(np.zeros((1, 6)))
    assert np.isfinite(scores).all()


def test_a_model_with_an_encoder_is_known_by_its_methods(tiny_classifier):
    assert isinstance(tiny_classifier, Embeds)
    assert not isinstance(object(), Embeds)
