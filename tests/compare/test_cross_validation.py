import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tagger.compare.approaches import Approaches
from tagger.compare.cross_validation import (
    OutOfFold,
    cross_validate,
    folder_name,
    measure_size_and_latency,
    predict_other_source,
    run_folder,
)
from tagger.compare.runs import LabelledFile, run_config
from tagger.config.schema import LatencyConfig
from tagger.data.splits import split_items
from tagger.runs import RunFolder, read_predictions

pytestmark = pytest.mark.slow

LINEAR = Approaches({"linear": ["model=linear", "training.threads=1"]}, {})


def test_every_item_is_predicted_by_a_run_that_did_not_see_it(
    results: Mapping[str, OutOfFold], source: LabelledFile, out: Path
) -> None:
    assert list(results) == ["linear", "tiny", "linear + tiny"]
    for fold in range(3):
        run = RunFolder(run_folder(out, "linear", 0, fold))
        seen = {row.id for row in run.split_rows() if row.split == "train"}
        inside = [source.items[at].id for at in np.flatnonzero(results["linear"].fold[0] == fold)]
        assert inside and seen.isdisjoint(inside)
        saved = read_predictions(run.path / "predictions.csv", run.tags)
        for at in np.flatnonzero(results["linear"].fold[0] == fold):
            expected = saved[source.items[at].id]
            assert results["linear"].probabilities[0, at] == pytest.approx(expected)
    assert np.allclose(results["linear"].probabilities.sum(axis=2), 1, atol=1e-5)
    assert np.array_equal(results["linear"].fold, results["tiny"].fold)


def test_an_ensemble_is_the_mean_of_its_members(results: Mapping[str, OutOfFold]) -> None:
    members = [results[name].probabilities for name in ("linear", "tiny")]
    assert results["linear + tiny"].probabilities == pytest.approx(np.mean(members, axis=0))
    seconds = results["linear"].seconds + results["tiny"].seconds
    assert results["linear + tiny"].seconds == pytest.approx(seconds)


def test_what_is_done_is_not_done_again(
    results: Mapping[str, OutOfFold],
    approaches: Approaches,
    source: LabelledFile,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("tagger.training.train_run.fit_classifier", refuse)
    again = cross_validate(approaches, source, out, seeds=1, folds=3)
    for name, result in results.items():
        assert np.array_equal(result.probabilities, again[name].probabilities)


@pytest.mark.usefixtures("results")
def test_only_the_first_model_is_kept_and_measured(
    approaches: Approaches, source: LabelledFile, out: Path
) -> None:
    assert (run_folder(out, "tiny", 0, 0) / "model").is_dir()
    assert not (run_folder(out, "tiny", 0, 1) / "model").exists()
    config = LatencyConfig(items=10, warmup=1, threads=1)
    costs = measure_size_and_latency(approaches, source, out, config)
    assert costs["linear + tiny"].mib == pytest.approx(costs["linear"].mib + costs["tiny"].mib)
    for cost in costs.values():
        assert 0 < cost.p50_ms <= cost.p99_ms


def test_few_labels_are_at_most_so_many_of_each_tag(source: LabelledFile, tmp_path: Path) -> None:
    results = cross_validate(LINEAR, source, tmp_path, seeds=1, folds=3, split={"per_tag": 4})
    rows = RunFolder(run_folder(tmp_path, "linear", 0, 0)).split_rows()
    train = [row.tag for row in rows if row.split == "train"]
    assert sorted(train) == sorted(4 * source.tags)
    assert (results["linear"].probabilities.sum(axis=2) > 0.99).all()


def test_another_source_is_predicted_by_a_run_on_all_of_the_first(
    source: LabelledFile, toy_folder: Path, tmp_path: Path
) -> None:
    text = (toy_folder / "items.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "away.csv").write_text("\n".join(text[:10]), encoding="utf-8")
    away = LabelledFile.load(tmp_path / "away.csv")
    rows = predict_other_source(LINEAR, source, away, tmp_path, seeds=2)["linear"]
    assert rows.shape == (2, 9, 3)
    run = RunFolder(tmp_path / "linear-seed0")
    assert all(row.split == "train" for row in run.split_rows())
    assert np.array_equal(rows[0].argmax(axis=1), away.true)  # it was trained on them
    shutil.rmtree(run.path / "model", ignore_errors=True)
    again = predict_other_source(LINEAR, source, away, tmp_path, seeds=2)["linear"]
    assert np.array_equal(rows, again)


def test_folds_of_a_cell_are_those_of_its_config(source: LabelledFile) -> None:
    config = run_config([], source, Path("x"), 1, {"folds": 3, "fold": 2, "seed": 1})
    assert config.data.split.validation == 0.0
    assert 18 <= len(split_items(source.items, config.data.split).test) <= 22


def test_names_of_approaches_become_folders() -> None:
    assert folder_name("linear + frozen") == "linear---frozen"
