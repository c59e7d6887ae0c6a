import subprocess
import sys

import numpy as np
import pytest

from tagger.evaluation.projection import FEWEST_ROWS, project
from tagger.scores import FloatArray


@pytest.fixture(scope="module")
def vectors() -> FloatArray:
    """Three crowds of 20 rows, far from each other."""
    random = np.random.default_rng(0)
    return np.repeat(np.eye(16)[:3], 20, axis=0) + random.normal(scale=0.02, size=(60, 16))


@pytest.fixture(scope="module")
def places(vectors: FloatArray) -> FloatArray:
    layout = project(vectors, seed=0)
    assert layout is not None
    return layout


def test_each_row_has_a_place_and_the_map_is_filled(places: FloatArray) -> None:
    assert places.shape == (60, 2)
    assert places.min(axis=0).tolist() == [0, 0]
    assert places.max(axis=0).tolist() == [1, 1]


def test_crowds_stay_apart(places: FloatArray) -> None:
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    crowd = np.arange(60) // 20
    assert (crowd[np.argsort(distances, axis=1)[:, :5]] == crowd[:, None]).all()


def test_the_same_seed_gives_the_same_layout(vectors: FloatArray, places: FloatArray) -> None:
    again = project(vectors, seed=0)
    assert np.array_equal(places, again)  # type: ignore[arg-type]


def test_length_does_not_matter(vectors: FloatArray, places: FloatArray) -> None:
    longer = project(vectors * (2.0 ** (np.arange(60) % 5))[:, None], seed=0)
    assert np.allclose(places, longer)  # type: ignore[arg-type]


@pytest.mark.parametrize("many", [0, 1, FEWEST_ROWS - 1])
def test_too_few_rows_make_no_map(vectors: FloatArray, many: int) -> None:
    assert project(vectors[:many], seed=0) is None


def test_few_rows_and_repeated_ones_make_a_map(vectors: FloatArray) -> None:
    repeated = np.vstack([np.repeat(vectors[:1], FEWEST_ROWS - 2, axis=0), vectors[30:32]])
    places = project(repeated, seed=0)
    assert places is not None
    assert np.isfinite(places).all()


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["np.ones((20, 8))", "np.zeros((20, 8))"])
def test_equal_vectors_do_not_crash(vectors: str) -> None:
    """In a process of its own: what fails here may take the interpreter with it."""
    lines = [
        "import numpy as np",
        "from tagger.evaluation.projection import project",
        f"places = project({vectors}, seed=0)",
        "assert places is None or (np.isfinite(places).all() and places.shape == (20, 2))",
    ]
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
