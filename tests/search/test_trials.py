import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from accelerate import Accelerator
from optuna.study import Study
from optuna.trial import create_trial

from tagger.config.saved import load_saved_config
from tagger.config.schema import OptimizeConfig, TrainConfig
from tagger.search.fold_results import FOLD, folds_of, stored_folds
from tagger.search.folds import Folds
from tagger.search.racing import build_pruner
from tagger.search.study import quiet_optuna
from tagger.search.trials import run_trial
from tagger.training.loop import TrainingStopped

Config = Callable[..., OptimizeConfig]
KEYS = ["fold_0", "fold_1", "fold_2"]


@pytest.fixture(autouse=True)
def quiet() -> None:
    quiet_optuna()


@pytest.fixture
def mixed_up(toy_folder: Path, tmp_path: Path) -> str:
    """An override: the toy file with tags that have nothing to do with the texts."""
    head, *lines = (toy_folder / "items.csv").read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(0).permutation(len(lines))
    tags = [line.rsplit(",", 1)[1] for line in lines]
    mixed = [f"{line.rsplit(',', 1)[0]},{tags[at]}" for line, at in zip(lines, order, strict=True)]
    path = tmp_path / "mixed.csv"
    path.write_text("\n".join([head, *mixed]), encoding="utf-8")
    return f"data.path={path}"


class Sweep:
    """A study in memory, and what runs its trials in this process."""

    def __init__(self, config: OptimizeConfig, folder: Path) -> None:
        self.config = config
        self.folds = Folds(config, confirming=False)
        self.folder = folder / "sweep" / "trials"
        self.accelerator = Accelerator(cpu=True)
        self.study: Study = optuna.create_study(
            direction="maximize", pruner=build_pruner(config.search, self.folds.steps)
        )

    @property
    def kept(self) -> dict[str, Any]:
        """What the last trial keeps in the study."""
        return self.study.trials[-1].user_attrs

    def run(
        self,
        *,
        before: dict[str, Any] | None = None,
        prune: bool = True,
        stopped: Callable[[], bool] = lambda: False,
        config: TrainConfig | None = None,
    ) -> dict[str, float]:
        trial = self.study.ask()
        for key, value in (before or {}).items():
            trial.set_user_attr(key, value)
        return run_trial(
            trial,
            config or self.config.base,
            self.folds,
            range(self.folds.steps),
            accelerator=self.accelerator,
            folder=self.folder / f"{trial.number:04}",
            prune=prune,
            stopped=stopped,
        )

    def add_best(self) -> None:
        """Add a complete trial that is never wrong."""
        steps = range(self.folds.steps)
        attributes: dict[str, Any] = {FOLD.format(step): {"wrong": []} for step in steps}
        values = {step: 1.0 for step in steps}
        self.study.add_trial(
            create_trial(value=1.0, user_attrs=attributes, intermediate_values=values)
        )


def test_each_fold_is_kept_at_once(sweep_config: Config, tmp_path: Path) -> None:
    sweep = Sweep(sweep_config(tmp_path), tmp_path)
    seen: list[list[str]] = []

    def watch() -> bool:
        seen.append(sorted(sweep.kept))
        return False

    values = sweep.run(stopped=watch)
    assert seen == [[], ["fold_0"], ["fold_0", "fold_1"]]
    scores = [fold.scores["weighted_f1"] for fold in folds_of(sweep.kept)]
    assert len(scores) == 3 and values == {"weighted_f1": pytest.approx(np.mean(scores))}
    assert json.loads(json.dumps(sweep.kept)) == sweep.kept


def test_it_stops_between_folds(sweep_config: Config, tmp_path: Path) -> None:
    sweep = Sweep(sweep_config(tmp_path), tmp_path)
    with pytest.raises(TrainingStopped):
        sweep.run(stopped=lambda: len(sweep.kept) == 2)
    assert sorted(sweep.kept) == ["fold_0", "fold_1"]
    assert list(sweep.folder.iterdir()) == []


def test_folds_that_are_there_are_not_done_again(sweep_config: Config, tmp_path: Path) -> None:
    sweep = Sweep(sweep_config(tmp_path, "model.C=0.1"), tmp_path)
    sweep.run()
    whole = sweep.kept
    before = {
        "fold_0": {"scores": {"weighted_f1": 0.125}, "wrong": []},
        "fold_2": {"scores": {"weighted_f1": 0.25}, "wrong": []},
    }
    values = sweep.run(before=before)
    again = sweep.kept
    assert {key: again[key] for key in before} == before
    scores = whole["fold_1"]["scores"]["weighted_f1"]
    assert again["fold_1"]["scores"]["weighted_f1"] == scores
    assert again["fold_1"]["of_true"] == whole["fold_1"]["of_true"]
    assert values == {"weighted_f1": pytest.approx((0.125 + scores + 0.25) / 3)}
    assert sweep.study.trials[-1].intermediate_values == {0: 0.125, 1: scores, 2: 0.25}


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 1, 2])  # folds that a stopped worker left
def test_a_trial_that_is_clearly_worse_is_given_up(
    sweep_config: Config, mixed_up: str, tmp_path: Path, before: int
) -> None:
    sweep = Sweep(sweep_config(tmp_path, mixed_up), tmp_path)
    sweep.add_best()
    bad = {"scores": {"weighted_f1": 0.3}, "wrong": list(range(9))}
    given = dict.fromkeys(KEYS[:before], bad)
    with pytest.raises(optuna.TrialPruned):
        sweep.run(before=given)
    assert sorted(sweep.kept) == KEYS[: max(before, 1)]
    assert list(sweep.folder.iterdir()) == []
    assert list(sweep.study.trials[-1].intermediate_values) == [0]


def test_what_all_is_compared_with_is_never_given_up(
    sweep_config: Config, mixed_up: str, tmp_path: Path
) -> None:
    sweep = Sweep(sweep_config(tmp_path, mixed_up), tmp_path)
    sweep.add_best()
    assert 0 < sweep.run(prune=False)["weighted_f1"] < 0.7
    assert sorted(sweep.kept) == KEYS


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["items", "wilcoxon", "median", "hyperband"])
def test_pruners_are_told_of_folds_or_of_the_mean_so_far(
    sweep_config: Config, mixed_up: str, tmp_path: Path, pruner: str
) -> None:
    sweep = Sweep(sweep_config(tmp_path, mixed_up, f"search.pruner={pruner}"), tmp_path)
    sweep.study.pruner = optuna.pruners.NopPruner()
    sweep.run()
    scores = [fold.scores["weighted_f1"] for fold in folds_of(sweep.kept)]
    assert len(set(scores)) == 3
    means = [float(np.mean(scores[: at + 1])) for at in range(3)]
    expected = scores if pruner in ("items", "wilcoxon") else means
    assert list(sweep.study.trials[-1].intermediate_values.values()) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["well", "stopped", "failed"])
@pytest.mark.parametrize("keep", [True, False])
def test_the_folder_of_a_trial_is_kept_where_asked(
    sweep_config: Config, tmp_path: Path, keep: bool, ends: str
) -> None:
    sweep = Sweep(sweep_config(tmp_path, f"search.keep_trials={str(keep).lower()}"), tmp_path)
    folder = sweep.folder / "0000"
    folder.mkdir(parents=True)
    (folder / "left.txt").write_text("by a worker that was killed")
    missing = tmp_path / "missing.csv"
    changed = sweep.config.base.model_copy(
        update={"data": sweep.config.data.model_copy(update={"extra": [str(missing)]})}
    )
    if ends == "well":
        sweep.run()
    elif ends == "stopped":
        with pytest.raises(TrainingStopped):
            sweep.run(stopped=lambda: "fold_0" in sweep.kept)
    else:
        with pytest.raises(Exception, match=r"missing\.csv"):
            sweep.run(config=changed)
    assert folder.exists() is keep
    if not keep:
        return
    assert not (folder / "left.txt").exists()
    saved = load_saved_config(TrainConfig, folder / "config.yaml")
    assert saved == (changed if ends == "failed" else sweep.config.base)
    folds = json.loads((folder / "folds.json").read_text(encoding="utf-8"))
    assert folds == list(stored_folds(sweep.kept).values())
    assert len(folds) == {"well": 3, "stopped": 1, "failed": 0}[ends]


def test_curves_are_kept_without_checkpoints(sweep_config: Config, tmp_path: Path) -> None:
    sweep = Sweep(
        sweep_config(
            tmp_path, "search.keep_trials=true", "search.folds=2", "model=tiny",
            "training.epochs=1", "search.pruner=none",
        ),
        tmp_path,
    )  # fmt: skip
    sweep.run()
    kept = {path.name for path in (sweep.folder / "0000").iterdir()}
    assert kept == {"config.yaml", "folds.json", "fold-00", "fold-01"}
    for fold in ("fold-00", "fold-01"):
        assert (sweep.folder / "0000" / fold / "metrics.jsonl").stat().st_size > 0
        assert not (sweep.folder / "0000" / fold / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False])
def test_wandb_has_a_run_for_each_trial_in_the_group_of_the_sweep(
    sweep_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    sweep = Sweep(
        sweep_config(
            tmp_path, "tracking=wandb", "tracking.mode=offline",
            f"search.keep_trials={str(keep).lower()}",
        ),
        tmp_path,
    )  # fmt: skip
    sweep.run()
    sweep.run()
    # They are there to be uploaded later, whatever else of a trial is kept.
    records = sorted((tmp_path / "sweep").rglob("offline-run-*/*.wandb"))
    assert len(records) == 2
    names = [b"sweep-trials-0000", b"sweep-trials-0001"]  # ids are random: in any order
    expected = (b"\x05sweep", b"weighted_f1")  # five letters: the group
    lacking: list[bytes] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # wandb's own process writes them
        logged = [record.read_bytes() for record in records]
        lacking = [text for text in expected for one in logged if text not in one]
        lacking += [name for name in names if not any(name in one for one in logged)]
        if not lacking:
            break
        time.sleep(0.05)
    assert lacking == []
