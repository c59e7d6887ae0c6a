import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tagger.environment import describe_environment
from tagger.errors import UserError
from tagger.search.summary import Confirmation, Score, SweepSummary, TrialResult


@pytest.fixture
def summary() -> SweepSummary:
    confirmation = Confirmation(
        metric="weighted_f1", seeds=3, searched={"winner": 0.9, "default": 0.8},
        confirmed={"winner": 0.87, "default": 0.81}, gain=0.06, low=0.01, high=0.11, luck=0.03,
        proven=True,
    )  # fmt: skip
    return SweepSummary(
        sweep="one", space="linear", objectives=["weighted_f1"], best=3, default=0, front=[],
        states={"complete": 4}, hours=0.5, overhead=0.1, importances={"model.C": 0.8},
        confirmation=confirmation, chosen={"model.C": 4.0, "data.extra": ["a.csv"]},
        environment=describe_environment(), paragraph="Of 4 trials all were judged.",
    )  # fmt: skip


def test_a_summary_is_read_back(summary: SweepSummary, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    summary.write(path)
    assert SweepSummary.read(path) == summary


@pytest.mark.parametrize("version", [None, 1, 99])
def test_one_of_another_version_is_refused(
    summary: SweepSummary, tmp_path: Path, version: int | None
) -> None:
    """The same command goes on with the sweep, and writes it again."""
    path = tmp_path / "summary.json"
    plain = summary.model_dump(mode="json") | {"schema_version": version}
    if version is None:
        del plain["schema_version"]
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(UserError, match=r"summary\.json"):
        SweepSummary.read(path)


def test_a_trial_tells_its_mean_by_a_metric() -> None:
    trial = TrialResult(
        number=0, state="complete", origin="default",
        scores={"accuracy": Score(mean=0.75, error=0.02)}, folds=5, model_seconds=2.0,
        wall_seconds=None, chosen={}, worker=None, error=None,
    )  # fmt: skip
    assert trial.mean("accuracy") == 0.75
    with pytest.raises(KeyError):
        trial.mean("aurc")
    with pytest.raises(ValidationError):
        TrialResult.model_validate(trial.model_dump() | {"loss": 0.1})
