from pathlib import Path

import numpy as np
from tests.conftest import Runs

from tagger.data.items import Item
from tagger.models.samples import choose_samples, read_samples, write_samples


def test_samples_are_spread_over_the_tags() -> None:
    items = [Item(str(at), "x", "", tag="ab"[at % 2]) for at in range(10)]
    assert choose_samples(items, 4) == [0, 3, 6, 9]
    assert choose_samples(items) == list(range(10))
    assert len(choose_samples(items * 9)) == 50


def test_what_is_written_is_read(tmp_path: Path) -> None:
    said = np.array([[0.1, 0.9], [1 / 3, 2 / 3]])
    write_samples(tmp_path, [Item("1", "a\nb", ""), Item("2", "", "深")], said)
    items, found = read_samples(tmp_path, 2)
    assert [(item.title, item.description) for item in items] == [("a\nb", ""), ("", "深")]
    np.testing.assert_allclose(found, said, atol=1e-7)


def test_a_trained_run_keeps_samples_of_all_its_tags(shared_runs: Runs) -> None:
    run = shared_runs.open("words")
    items, expected = read_samples(run.path / "model", len(run.tags))
    assert len(items) == 50
    assert {*expected.argmax(axis=1)} == {0, 1, 2}
    found = run.load_classifier().predict_proba(items)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert "parity_samples.json" in run.meta.model_files
