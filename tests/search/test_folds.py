import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import f1_score, log_loss

from tagger.config.schema import OptimizeConfig, TrainConfig
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.data.splits import split_items
from tagger.errors import UserError
from tagger.evaluation.selective import precision_at_coverage
from tagger.search.folds import CONFIRMING, FoldResult, Folds, prepare_process, run_fold
from tagger.threads import usable_threads
from tagger.training.fitting import Fitted, fit_classifier
from tagger.training.inputs import TrainingContext, TrainingData

pytestmark = pytest.mark.slow

HELD_OUT = ["data.split.validation=0.2", "data.split.test=0.2"]
ALL_ROWS = ["data.split.validation=0", "data.split.test=0"]


Config = Callable[..., OptimizeConfig]
Train = Callable[..., FoldResult]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Trains on one step of some folds: the config that the search starts from, or another."""

    def run(folds: Folds, step: int, config: TrainConfig | None = None) -> FoldResult:
        folder, accelerator = tmp_path / "fold", Accelerator(cpu=True)
        config = config or folds.config.base
        result = run_fold(folds, step, config, accelerator=accelerator, folder=folder)
        assert not (folder / "model").exists()
        return result

    return run


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def twins(toy_folder: Path, tmp_path: Path) -> Path:
    """The toy file, with a copy of each second row that only differs in its first word."""
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    copies = [[f"twin-{row[0]}", row[1], f"New {row[2]}", *row[3:]] for row in rows[::2]]
    path = tmp_path / "twins.csv"
    write_rows(path, [head, *rows, *copies])
    return path


def write_rows(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def divide(config: OptimizeConfig, confirming: bool = False) -> list[list[list[int]]]:
    folds = Folds(config, confirming)
    splits = [folds.split(step) for step in range(folds.steps)]
    return [[split.train, split.validation, split.test] for split in splits]


@pytest.mark.parametrize("confirming", [False, True])
def test_each_row_is_judged_once_per_repeat(
    sweep_config: Config, tmp_path: Path, confirming: bool
) -> None:
    config = sweep_config(tmp_path, *HELD_OUT, "search.repeats=2", "search.confirm=4")
    folds = Folds(config, confirming)
    assert folds.steps == (12 if confirming else 6)
    for repeat in range(folds.steps // 3):
        splits = [folds.split(step) for step in range(3 * repeat, 3 * repeat + 3)]
        judged = [index for split in splits for index in split.test]
        assert sorted(judged) == list(range(len(folds.items)))
        for split in splits:
            parts = [*split.train, *split.validation, *split.test]
            assert sorted(parts) == list(range(len(folds.items)))
            assert split.validation


@pytest.mark.parametrize("more", [[], ["data.split.per_tag=4"]])
def test_rows_held_out_for_testing_are_in_no_fold(
    sweep_config: Config, tmp_path: Path, more: list[str]
) -> None:
    config = sweep_config(tmp_path, *HELD_OUT, *more)
    folds = Folds(config, confirming=False)
    everything = load_labelled(config.data, folds.tags).items
    held_out = {everything[index].id for index in split_items(everything, config.data.split).test}
    inside = {item.id for item in folds.items}
    assert len(held_out) >= 10
    assert inside.isdisjoint(held_out)
    assert inside | held_out == {item.id for item in everything}
    assert [folds.tags[at] for at in folds.true] == [item.tag for item in folds.items]


def test_few_labels_are_so_many_of_each_tag_in_training_alone(
    sweep_config: Config, tmp_path: Path
) -> None:
    folds = Folds(sweep_config(tmp_path, *ALL_ROWS, "data.split.per_tag=4"), confirming=False)
    split = folds.split(0)
    assert sorted(str(folds.items[at].tag) for at in split.train) == sorted(4 * folds.tags)
    assert len(split.test) == 20


def test_near_duplicates_stay_on_one_side(
    sweep_config: Config, twins: Path, tmp_path: Path
) -> None:
    config = sweep_config(tmp_path, *HELD_OUT, f"data.path={twins}", "search.repeats=2")
    folds = Folds(config, confirming=False)
    everything = load_labelled(config.data, folds.tags).items
    inside = {item.id for item in folds.items}
    group_of = dict(
        zip([one.id for one in everything], group_near_duplicates(everything), strict=True)
    )
    assert len(set(group_of.values())) == 60  # of 90 rows
    groups_inside = {group_of[one] for one in inside}
    assert groups_inside.isdisjoint(group_of[one] for one in group_of.keys() - inside)
    for step in range(folds.steps):
        split = folds.split(step)
        parts = [
            {group_of[folds.items[index].id] for index in part}
            for part in (split.train, split.validation, split.test)
        ]
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_confirming_divides_otherwise_by_other_seeds(sweep_config: Config, tmp_path: Path) -> None:
    config = sweep_config(tmp_path, "seed=7", "search.repeats=3", "search.confirm=2")
    search, confirm = Folds(config, False), Folds(config, True)
    assert [search.seed(step) for step in range(9)] == [7, 7, 7, 8, 8, 8, 9, 9, 9]
    assert [confirm.seed(step) for step in range(6)] == [
        *[7 + CONFIRMING] * 3,
        *[8 + CONFIRMING] * 3,
    ]
    judged = [
        tuple(folds.split(step).test) for folds in (search, confirm) for step in range(folds.steps)
    ]
    assert len(set(judged)) == 15


def test_the_config_decides_the_divisions(sweep_config: Config, tmp_path: Path) -> None:
    one, same = (divide(sweep_config(tmp_path / name, "name=x")) for name in "ab")
    assert one == same
    assert one != divide(sweep_config(tmp_path, "seed=1"))


@pytest.mark.parametrize("confirming", [False, True])
def test_the_config_decides_the_result(
    sweep_config: Config, train: Train, tmp_path: Path, confirming: bool
) -> None:
    config = sweep_config(tmp_path, "search.confirm=1", "model=tiny", "training.epochs=1")
    one, two = (train(Folds(config, confirming), 1) for _ in range(2))
    times = {"seconds", "predicting", "done"}
    assert one.model_dump(exclude=times) == two.model_dump(exclude=times)
    assert len(set(one.confidence)) > 10


def test_a_result_agrees_with_the_rows(
    sweep_config: Config,
    toy_folder: Path,
    train: Train,
    tmp_path: Path,
) -> None:
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    for one, other in zip(rows[1::5], rows[2::5], strict=True):  # some that can't be right
        one[4], other[4] = other[4], one[4]
    write_rows(tmp_path / "items.csv", rows)
    metrics = ["weighted_f1", "accuracy", "log_loss", "precision_at_80"]
    config = sweep_config(
        tmp_path, f"search.objectives=[{','.join(metrics)}]", "search.pruner=none",
        f"data.path={tmp_path / 'items.csv'}",
    )  # fmt: skip
    folds = Folds(config, confirming=False)
    result = train(folds, 0)
    true = folds.true[folds.split(0).test]
    predicted, confidence = np.array(result.predicted), np.array(result.confidence)
    right = predicted == true
    assert 0.45 < right.mean() < 0.8  # a third would be chance: the rows are in their order
    assert result.wrong == np.flatnonzero(~right).tolist()
    of_true = np.array(result.of_true)
    assert np.array_equal(of_true == confidence, right)
    assert (of_true <= confidence).all() and (of_true > 0).all() and (confidence <= 1).all()
    assert result.scores == {
        "weighted_f1": pytest.approx(f1_score(true, predicted, average="weighted")),
        "accuracy": pytest.approx(right.mean()),
        "log_loss": pytest.approx(
            log_loss(np.ones(len(true)), np.stack([1 - of_true, of_true], 1), labels=[0, 1]),
            abs=1e-4,
        ),
        "precision_at_80": pytest.approx(precision_at_coverage(confidence, right, 0.8)),
    }
    assert result.seconds > 0 and result.predicting > 0


def test_costs_are_measured_once_at_the_last_step(
    sweep_config: Config, train: Train, tmp_path: Path
) -> None:
    sizes = []
    for characters in (2, 7):
        config = sweep_config(
            tmp_path, "search.objectives=[accuracy,mib,p50_ms,seconds]", "search.pruner=none",
            f"model.char_ngrams={characters}",
        )  # fmt: skip
        folds = Folds(config, confirming=False)
        results = [train(folds, step) for step in range(folds.steps)]
        assert [set(result.scores) for result in results] == [
            {"accuracy", "seconds"},
            {"accuracy", "seconds"},
            {"accuracy", "seconds", "mib", "p50_ms"},
        ]
        assert all(result.scores["seconds"] == result.seconds for result in results)
        assert 0 < results[-1].scores["p50_ms"] < 1000 * results[-1].predicting
        sizes.append(results[-1].scores["mib"])
    assert 0 < sizes[0] < sizes[1] < 10


def test_further_rows_that_resemble_judged_ones_are_left_out(
    sweep_config: Config, train: Train, tmp_path: Path
) -> None:
    plain = sweep_config(tmp_path)
    items = Folds(plain, confirming=False).items
    fresh = Item("fresh", "Harvest of iron", "copper rain zinc snow nickel fog", tag="fruit")
    rows = [["id", "created_on", "title", "description", "tag"]]
    for one in [*items, fresh]:
        texts = [f"New {one.title}", one.description, str(one.tag)]
        rows.append([f"extra-{one.id}", "2020-01-01 00:00:00", *texts])
    path = tmp_path / "extra.csv"
    write_rows(path, rows)
    config = sweep_config(tmp_path, f"data.extra=[{path}]", "data.extra_weight=20")
    folds = Folds(config, confirming=False)
    seen = []
    for step in range(folds.steps):
        extra = {one.id for one in folds.extra(step, config.base)}
        trained_on = {f"extra-{items[index].id}" for index in folds.split(step).train}
        assert extra == trained_on | {"extra-fresh"}
        seen.append(extra)
    assert len(set(map(frozenset, seen))) == 3
    assert folds.extra(0, plain.base) == []
    assert train(folds, 0).of_true != train(folds, 0, plain.base).of_true


def test_a_fold_is_trained_with_its_seed_and_told_which_rows_it_is_judged_on(
    sweep_config: Config, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it learns from no text like them, even without a label."""
    given: list[tuple[TrainConfig, TrainingData]] = []

    def watch(
        config: TrainConfig, tags: list[str], data: TrainingData, context: TrainingContext
    ) -> Fitted:
        given.append((config, data))
        return fit_classifier(config, tags, data, context)

    monkeypatch.setattr("tagger.search.folds.fit_classifier", watch)
    config = sweep_config(tmp_path, "seed=3", "search.repeats=2", "tracking=wandb")
    folds = Folds(config, confirming=False)
    for step, seed in ((2, 3), (3, 4)):
        train(folds, step)
        used, data = given.pop()
        assert (used.seed, used.data.split.seed, used.tracking.kind) == (seed, seed, "none")
        assert data.held_out == [folds.items[index] for index in folds.split(step).test]
        assert len(data.held_out) > 10


def test_probabilities_that_are_no_numbers_end_a_trial(
    sweep_config: Config, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverged:
        def predict_proba(
            self, items: list[Item]
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
            rows = np.full((len(items), 3), 1 / 3)
            rows[-1] = np.nan
            return rows

    monkeypatch.setattr(
        "tagger.search.folds.fit_classifier",
        lambda *_: Fitted(Diverged(), 0.0),  # type: ignore[arg-type]
    )
    with pytest.raises(ArithmeticError, match="not finite"):
        train(Folds(sweep_config(tmp_path), confirming=False), 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["search.folds=60"], "too few"),
        (["search.folds=2", "data.split.validation=0.5"], "nothing is left to train on"),
    ],
)
def test_too_few_rows_are_refused(
    sweep_config: Config, tmp_path: Path, given: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        divide(sweep_config(tmp_path, *given))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["training.threads=2"], 2),
        (["search.workers=256"], 1),
        ([], usable_threads(sharers=2)),
    ],
)
def test_workers_share_the_cores(
    sweep_config: Config,
    tmp_path: Path,
    threads: None,
    given: list[str],
    expected: int,
) -> None:
    accelerator = prepare_process(sweep_config(tmp_path, *given))
    assert torch.get_num_threads() == expected
    assert accelerator.device.type == "cpu" or torch.accelerator.is_available()
