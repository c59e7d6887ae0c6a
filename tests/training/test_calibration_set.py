import csv
import json
import random

import numpy as np
import pytest

from tagger.config.schema import FrozenConfig, LinearConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.data.splits import split_items
from tagger.decision.decider import load_decider
from tagger.decision.ood import OodDetector
from tagger.decision.policies import REVIEW
from tagger.errors import UserError
from tagger.runs import RunFolder, read_calibration
from tagger.training import calibration_set as module
from tagger.training.objectives import Objective
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

TAGS = ("fruit", "metal", "weather")
LINEAR = LinearConfig(
    approach="linear", name="linear", word_ngrams=1, char_ngrams=4, C=1e5, balanced=False
)
"""Strong enough to learn any labels by heart."""

ALL_ROWS = ("data.split.validation=0", "data.split.test=0")


@pytest.fixture(scope="module")
def frozen(tiny_config):
    encoder = tiny_config().model.model_dump(
        include={"name", "encoder", "revision", "sha256", "random", "pooling", "max_length"}
    )
    return FrozenConfig.model_validate(
        encoder | {"approach": "frozen", "C": 10.0, "balanced": False}
    )


@pytest.fixture
def run(tiny_config, tmp_path):
    """Trains some model on the toy file: (name, model, overrides)."""

    def make(name, model, *overrides):
        config = tiny_config(f"name={name}", f"runs_dir={tmp_path / 'runs'}", *overrides)
        if model is not None:
            config = config.model_copy(update={"model": model})
        return RunFolder(train(config))

    return make


def nonsense(rng, count):
    return " ".join("".join(rng.choices("bdfgklmnprstvz", k=7)) for _ in range(count))


def write_items(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "created_on", "title", "description", "tag"])
        for number, (title, description, tag) in enumerate(rows):
            made = "2020-01-01 00:00:00"
            writer.writerow([f"{path.stem}{number}", made, title, description, tag])
    return path


@pytest.fixture
def by_heart(tmp_path):
    """Sixty rows of made-up words whose tags mean nothing: who has not seen one can only guess."""
    rng = random.Random(0)
    rows = [(nonsense(rng, 3), nonsense(rng, 12), TAGS[n % 3]) for n in range(60)]
    return write_items(tmp_path / "heart.csv", rows), rows


def lines(run):
    with (run.path / "calibration.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def share_right(run):
    probabilities, true, _ = read_calibration(run.path / "calibration.csv", run.tags)
    return (probabilities.argmax(axis=1) == true).mean()


def share_learned_by_heart(run):
    items = load_labelled(run.config.data, run.tags).items
    best = run.load_classifier().predict_proba(items).argmax(axis=1)
    return np.mean(best == [run.tags.index(item.tag) for item in items])


def test_by_default_the_rows_are_those_of_the_validation(run):
    done = run("plain", LINEAR)
    validation = {row.id: row.tag for row in done.split_rows() if row.split == "validation"}
    assert {line["id"]: line["true"] for line in lines(done)} == validation
    assert [line["ood_score"] for line in lines(done)] == [""] * 12


def test_without_validation_rows_there_is_nothing_to_fit_to(run):
    done = run("plain", LINEAR, "data.split.validation=0")
    assert lines(done) == []
    decision = json.loads((done.path / "decision.json").read_text())
    assert decision["calibrator"] == {"kind": "none"}
    assert decision["policy"] == {"kind": "argmax"}
    assert decision["fitted_on"] == {"rows": 0, "source": "0 validation rows"}


@pytest.mark.parametrize("folds", [2, 5])
def test_with_folds_the_rows_are_all_training_rows_once(run, folds):
    done = run("folds", LINEAR, f"decision.folds={folds}")
    training = {row.id: row.tag for row in done.split_rows() if row.split == "train"}
    assert sorted(line["id"] for line in lines(done)) == sorted(training)
    assert {line["id"]: line["true"] for line in lines(done)} == training
    decision = json.loads((done.path / "decision.json").read_text())
    source = f"36 training rows, out of {folds} folds"
    assert decision["fitted_on"] == {"rows": 36, "source": source}


def test_no_row_is_predicted_by_a_model_that_has_seen_it(run, by_heart):
    # A model that has seen a row has its tag by heart; the others are right in a third of cases.
    done = run("heart", LINEAR, f"data.path={by_heart[0]}", *ALL_ROWS, "decision.folds=5")
    assert share_learned_by_heart(done) == 1
    assert share_right(done) < 0.6


def test_nor_has_it_seen_a_near_duplicate_of_it(run, by_heart, tmp_path):
    rows = by_heart[1]
    # Each row once more, with one word of fifteen changed: half a row's tag would be known.
    again = [(title, f"{text.rsplit(' ', 1)[0]} again", tag) for title, text, tag in rows]
    path = write_items(tmp_path / "twice.csv", [*rows, *again])
    done = run("twice", LINEAR, f"data.path={path}", *ALL_ROWS, "decision.folds=5")
    assert len(lines(done)) == 120
    assert share_learned_by_heart(done) == 1
    assert share_right(done) < 0.6


def test_nor_a_row_of_a_further_file_that_says_the_same(run, by_heart, tmp_path):
    path, rows = by_heart
    extra = write_items(tmp_path / "extra.csv", [(t.upper(), d, tag) for t, d, tag in rows])
    done = run(
        "extra", LINEAR, f"data.path={path}", *ALL_ROWS, "decision.folds=5", f"data.extra=[{extra}]"
    )
    assert sum(row.split == "extra" for row in done.split_rows()) == 60
    assert len(lines(done)) == 60, "rows of further files are no rows to be judged by"
    assert share_learned_by_heart(done) == 1
    assert share_right(done) < 0.6


def test_further_rows_that_say_something_else_take_part_in_every_fold(run, tmp_path, monkeypatch):
    rng = random.Random(1)
    extra = write_items(tmp_path / "extra.csv", [(nonsense(rng, 9), "", "metal") for _ in range(7)])
    given = watch(monkeypatch)
    run("extra", LINEAR, "decision.folds=3", f"data.extra=[{extra}]")
    assert [len(rows.extra) for rows in given] == [7] * 3


def watch(monkeypatch, dies_at=None):
    """Note what each fold's training is given; kill the program in the middle of one of them."""
    given = []
    original = module.fit_classifier

    def fit(config, tags, rows, context):
        if len(given) == dies_at:
            (context.folder / "checkpoints").mkdir(exist_ok=True)
            raise KeyboardInterrupt
        given.append(rows)
        return original(config, tags, rows, context)

    monkeypatch.setattr(module, "fit_classifier", fit)
    return given


def test_each_fold_is_left_out_once_and_the_rest_is_trained_on(run, monkeypatch):
    given = watch(monkeypatch)
    done = run("folds", LINEAR, "decision.folds=4")
    by_split = {}
    for row in done.split_rows():
        by_split.setdefault(row.split, set()).add(row.id)
    left_out = [by_split["train"] - {item.id for item in rows.train} for rows in given]
    assert len(given) == 4
    assert sorted(one for fold in left_out for one in fold) == sorted(by_split["train"])
    assert all(7 <= len(fold) <= 11 for fold in left_out)
    # Those that pick the best epoch are the run's own; test rows take no part at all.
    assert all({item.id for item in rows.validation} == by_split["validation"] for rows in given)
    assert [line["id"] for line in lines(done)] == [
        row.id for fold in left_out for row in done.split_rows() if row.id in fold
    ]


def test_the_run_itself_is_trained_on_all_rows(run):
    plain = run("plain", LINEAR)
    folds = run("folds", LINEAR, "decision.folds=3")
    assert folds.meta.model_files == plain.meta.model_files


def result(run):
    names = ("calibration.csv", "decision.json", "predictions.csv")
    return {name: (run.path / name).read_bytes() for name in names} | run.meta.model_files


@pytest.mark.parametrize("dies_at", [0, 2])
def test_after_a_kill_the_finished_folds_are_not_done_again(run, monkeypatch, tmp_path, dies_at):
    whole = run("whole", LINEAR, "decision.folds=3")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        watch(patch, dies_at)
        run("killed", LINEAR, "decision.folds=3")
    folder = tmp_path / "runs" / "killed"
    assert not RunFolder(folder).finished
    kept = {path.parent.name for path in (folder / "folds").glob("*/predictions.csv")}
    assert kept == {str(fold) for fold in range(dies_at)}
    given = watch(monkeypatch)
    killed = run("killed", LINEAR, "decision.folds=3", "if_exists=resume")
    assert len(given) == 3 - dies_at
    assert killed.finished
    assert result(killed) == result(whole)
    assert not (folder / "folds").exists()


def test_a_fold_that_was_killed_in_training_goes_on_to_the_same_end(run, monkeypatch, tmp_path):
    short = (
        "training.epochs=1", "training.batch_size=8", "training.checkpoint_seconds=0",
        "decision.folds=2",
    )  # fmt: skip
    whole = run("whole", None, *short)
    original = Objective.__call__
    # 36 rows in batches of 8 are 5 steps; the 18 of a fold are 3.
    dies_at = 5 + 3 + 3
    steps = 0

    def step(self, *inputs, **named):
        nonlocal steps
        steps += 1
        if steps == dies_at:
            raise KeyboardInterrupt
        return original(self, *inputs, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Objective, "__call__", step)
        run("killed", None, *short)
    folder = tmp_path / "runs" / "killed"
    assert (folder / "folds" / "0" / "predictions.csv").exists()
    assert list((folder / "folds" / "1" / "checkpoints").glob("step-*"))
    taken = []

    def count(self, *inputs, **named):
        taken.append(1)
        return original(self, *inputs, **named)

    monkeypatch.setattr(Objective, "__call__", count)
    killed = run("killed", None, *short, "if_exists=resume")
    assert len(taken) == 1 + 1, "the last step of the run itself, and of the fold"
    assert result(killed) == result(whole)
    assert (folder / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


def test_what_a_fold_leaves_behind_is_cleared_up_as_soon_as_it_is_done(run, monkeypatch, tmp_path):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        watch(patch, 1)
        run("killed", None, "training.epochs=1", "decision.folds=2")
    done = tmp_path / "runs" / "killed" / "folds" / "0"
    assert [path.name for path in done.iterdir()] == ["predictions.csv"]


def test_curves_of_the_folds_do_not_mix_with_those_of_the_run(run):
    short = ("training.epochs=1",)
    plain, folds = run("plain", None, *short), run("folds", None, *short, "decision.folds=2")
    metrics = [(done.path / "metrics.jsonl").read_bytes() for done in (plain, folds)]
    assert metrics[0] == metrics[1]


def test_ood_scores_of_validation_rows_is_measured_against_the_training_rows(run, frozen):
    done = run("novel", frozen, "decision.ood=knn")
    items = {item.id: item for item in load_labelled(done.config.data, TAGS).items}
    train_items = [items[row.id] for row in done.split_rows() if row.split == "train"]
    classifier = done.load_classifier()
    detector = OodDetector.fit(classifier.embed(train_items))
    judged = [items[line["id"]] for line in lines(done)]
    _, _, found = read_calibration(done.path / "calibration.csv", TAGS)
    np.testing.assert_allclose(found, detector.score(classifier.embed(judged)), atol=1e-5)
    # And the run keeps what it needs to measure any item so.
    kept = OodDetector.load(done.path / "ood.safetensors")
    np.testing.assert_allclose(kept.score(classifier.embed(judged)), found, atol=1e-5)


def test_ood_scores_out_of_fold_is_measured_without_the_fold(run, frozen):
    done = run("novel", frozen, "decision.ood=knn", "decision.folds=3")
    items = {item.id: item for item in load_labelled(done.config.data, TAGS).items}
    train_items = [items[row.id] for row in done.split_rows() if row.split == "train"]
    classifier = done.load_classifier()  # a frozen encoder is the same in all folds
    expected = {}
    for fold in range(3):
        asked = {"validation": 0.0, "test": 0.0, "folds": 3, "fold": fold}
        split = split_items(train_items, done.config.data.split.model_copy(update=asked))
        rest = classifier.embed([train_items[at] for at in split.train])
        left_out = [train_items[at] for at in split.test]
        scores = OodDetector.fit(rest).score(classifier.embed(left_out))
        expected |= {item.id: score for item, score in zip(left_out, scores, strict=True)}
    found = {line["id"]: float(line["ood_score"]) for line in lines(done)}
    assert found == {one: pytest.approx(score, abs=1e-5) for one, score in expected.items()}


def test_a_run_asks_a_person_about_what_is_unlike_its_rows(run, frozen):
    done = run(
        "novel", frozen, "decision.ood=knn", "decision.folds=3",
        "decision.ood_quantile=0.9",
    )  # fmt: skip
    items = load_labelled(done.config.data, TAGS).items
    strange = [Item(str(n), sign * 20, "") for n, sign in enumerate(["zzz ", "? ", "11 9 "])]
    decided = load_decider(done.path, done.load_classifier()).decide([*items, *strange]).tags
    assert (decided[-3:] == REVIEW).all()
    assert (decided[:-3] != REVIEW).mean() > 0.6


def test_a_tag_too_rare_for_the_folds_does_not_waste_a_training(run, toy_folder, tmp_path):
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["title"], row["description"], row["tag"]) for row in csv.DictReader(file)]
    metal = [row for row in rows if row[2] == "metal"]
    # Three rows: one to train on, one to validate with, one to test with.
    path = write_items(tmp_path / "rare.csv", [r for r in rows if r[2] != "metal"] + metal[:3])
    assert run("without", LINEAR, f"data.path={path}").finished
    with pytest.raises(UserError, match=r"decision\.folds=3: the training rows") as error:
        run("folds", LINEAR, f"data.path={path}", "decision.folds=3")
    assert "train has no 'metal'" in str(error.value)
    assert "decision.folds=null" in error.value.hint
    assert [one.name for one in (tmp_path / "runs").iterdir()] == ["without"]
