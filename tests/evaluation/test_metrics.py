"""Slow because importing `evaluate` takes seconds, so little is tested beside what it adds."""

from pathlib import Path

import numpy as np
import pytest

from tagger.scores import OVERALL, confusion_matrix, scores_from_confusion

pytestmark = pytest.mark.slow


def test_absent_tags_keep_their_place() -> None:
    from tagger.evaluation.metrics import TaggingScores

    scores = TaggingScores(["a", "absent", "c"]).compute(
        references=[0, 0, 2], predictions=[0, 2, 2]
    )
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["per_class"]["absent"] == {"precision": 0, "recall": 0, "f1": 0}
    assert scores["per_class"]["c"] == {"precision": 0.5, "recall": 1, "f1": pytest.approx(2 / 3)}
    assert scores["macro_recall"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert scores["micro_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_scores_of_resamples_are_those_of_reports(seed: int) -> None:
    """A report's interval is of the score that it stands beside."""
    from tagger.evaluation.metrics import TaggingScores

    random = np.random.default_rng(seed)
    tags = [f"tag {number}" for number in range(2 + seed)]
    true, predicted = random.integers(0, len(tags), (2, 40))
    predicted = np.where(random.random(40) < 0.6, true, predicted)
    theirs = TaggingScores([*tags, "absent"]).compute(references=true, predictions=predicted)
    ours = scores_from_confusion(confusion_matrix(true, predicted, len(tags) + 1))
    assert {name: theirs[name] for name in OVERALL} == pytest.approx(
        {name: float(ours[name]) for name in OVERALL}
    )
    for place, scores in enumerate(theirs["per_class"].values()):
        assert scores == pytest.approx({name: ours[name][place] for name in scores})


def test_batches_add_up_and_are_forgotten_after_computing() -> None:
    from tagger.evaluation.metrics import TaggingScores

    metric = TaggingScores(["a", "b"])
    metric.add_batch(predictions=[0, 1], references=[0, 1])
    metric.add_batch(predictions=[1, 1], references=[0, 0])
    assert metric.compute()["accuracy"] == 0.5
    assert metric.compute(predictions=[1], references=[1])["accuracy"] == 1.0


def test_positions_outside_the_list_are_refused() -> None:
    from tagger.evaluation.metrics import TaggingScores

    with pytest.raises(ValueError, match=r"count from 0 to 1, found \[2\]"):
        TaggingScores(["a", "b"]).compute(predictions=[2], references=[1])


def test_two_metrics_at_once_leave_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tagger.evaluation.metrics import TaggingScores

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for cache in ("HF_METRICS_CACHE", "HF_EVALUATE_CACHE"):
        monkeypatch.setattr(f"evaluate.config.{cache}", tmp_path / cache)
    metrics = [TaggingScores(["a", "b"]) for _ in range(2)]
    for metric, reference in zip(metrics, (0, 1), strict=True):
        metric.add_batch(predictions=[0, 1], references=[reference, 1])
    assert [metric.compute()["accuracy"] for metric in metrics] == [1.0, 0.5]
    assert list(tmp_path.rglob("*")) == []
