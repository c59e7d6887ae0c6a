from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tagger.compression.refit import carry_over, compressed_calibration_rows
from tagger.config.saved import save_config
from tagger.data.tags import tag_positions
from tagger.decision.calibrators import Temperature, fit_temperature
from tagger.evaluation.rows import own_items
from tagger.runs import RunFolder, write_calibration
from tagger.scores import softmax

RNG = np.random.default_rng(0)


def logits(count: int, n_tags: int = 3) -> np.ndarray:
    return RNG.normal(scale=2.0, size=(count, n_tags))


def test_where_nothing_changed_nothing_is_carried_over() -> None:
    out_of_fold, final = softmax(logits(50)), softmax(3 * logits(50))
    np.testing.assert_allclose(carry_over(out_of_fold, final, final), out_of_fold, atol=1e-12)


def test_a_change_of_logits_is_carried_over_exactly() -> None:
    ours, theirs, change = logits(50), 3 * logits(50), 0.3 * logits(50)
    carried = carry_over(softmax(ours), softmax(theirs), softmax(theirs + change))
    np.testing.assert_allclose(carried, softmax(ours + change), atol=1e-9)
    np.testing.assert_allclose(carried.sum(axis=1), 1)


def test_a_certain_answer_stays_a_number() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    carried = carry_over(
        np.array([[0.7, 0.3], [0.6, 0.4]]), sure, np.array([[0.0, 1.0], [0.0, 1.0]])
    )
    assert np.isfinite(carried).all()
    np.testing.assert_allclose(carried.sum(axis=1), 1)
    np.testing.assert_allclose(carried[1], [0.6, 0.4])


def test_no_rows_stay_no_rows() -> None:
    none = np.empty((0, 3))
    assert carry_over(none, none, none).shape == (0, 3)


def test_the_temperature_follows_a_model_that_compression_makes_less_sure() -> None:
    """What the models of the folds need is 2; a compressed model that is half as sure needs 1."""
    true_logits = logits(4000)
    true = np.array([RNG.choice(3, p=row) for row in softmax(true_logits)])
    out_of_fold = softmax(2 * true_logits)
    assert fit_temperature(out_of_fold, true).temperature == pytest.approx(2, rel=0.1)
    final, halved = softmax(2 * true_logits), softmax(true_logits)
    carried = carry_over(out_of_fold, final, halved)
    assert fit_temperature(carried, true).temperature == pytest.approx(1, rel=0.1)
    corrected = Temperature(fit_temperature(carried, true).temperature).apply(halved)
    np.testing.assert_allclose(corrected, softmax(true_logits), atol=0.05)


def test_validation_rows_are_predicted_by_the_compressed_model(tiny_run: RunFolder) -> None:
    items = own_items(tiny_run)
    before, after = softmax(logits(len(items))), softmax(logits(len(items)))
    chosen, rows = compressed_calibration_rows(tiny_run, items, before, after)
    validation = {row.id for row in tiny_run.split_rows() if row.split == "validation"}
    assert {item.id for item in chosen} == validation
    at = {item.id: index for index, item in enumerate(items)}
    np.testing.assert_array_equal(rows.probabilities, after[[at[item.id] for item in chosen]])
    np.testing.assert_array_equal(rows.true, tag_positions(chosen, tiny_run.tags))
    assert rows.ood_scores is None
    assert rows.row_sources == [""] * len(chosen)
    assert f"{len(validation)} validation rows" in rows.source


def test_rows_out_of_fold_keep_what_their_models_said(copy_run: Callable[..., RunFolder]) -> None:
    run = copy_run()
    items = own_items(run)
    decision = run.config.decision.model_copy(update={"folds": 3})
    save_config(run.config.model_copy(update={"decision": decision}), run.path / "config.yaml")
    train = [
        item for item in items if item.id in {r.id for r in run.split_rows() if r.split == "train"}
    ]
    kept = softmax(logits(len(train)))
    write_calibration(run.path / "calibration.csv", train, run.tags, kept, None)
    before = softmax(5 * logits(len(items)))
    run = RunFolder(run.path)
    chosen, rows = compressed_calibration_rows(run, items, before, before)
    assert [item.id for item in chosen] == [item.id for item in train]
    np.testing.assert_allclose(rows.probabilities, kept, atol=1e-7)
    # Where items come from several files, their rows say so.
    items = [replace(item, source="toy") for item in items]
    _, rows = compressed_calibration_rows(run, items, before, before)
    assert rows.row_sources == ["toy"] * len(train)
    assert "out of fold" in rows.source
