import csv
import json
from collections import Counter

import pytest
from filelock import FileLock

from tagger.data.sources import load_items
from tagger.errors import UserError
from tagger.runs import RunFolder, read_predictions
from tagger.training.train_run import train


@pytest.fixture
def config(tiny_config, tmp_path):
    def make(*overrides):
        short = ("training.epochs=1", "name=run", f"runs_dir={tmp_path}")
        return tiny_config(*short, *overrides)

    return make


def test_run_folder_holds_what_others_read(tiny_run):
    names = {path.name for path in tiny_run.path.iterdir()}
    expected = {"config.yaml", "meta.json", "metrics.jsonl", "splits.csv", "predictions.csv"}
    assert names == expected | {"model"}
    meta = tiny_run.meta
    assert meta["status"] == "finished"
    assert meta["tags"] == ["fruit", "metal", "weather"]
    assert meta["data"]["rows"] == {"train": 36, "validation": 12, "test": 12}
    assert set(meta["environment"]) == {"git", "versions", "hardware", "command"}
    assert meta["train_seconds"] > 0 and meta["peak_memory_mib"] > 0
    assert not list(tiny_run.path.parent.glob(".*"))


def test_splits_and_predictions_name_the_same_rows(tiny_run):
    rows = tiny_run.split_rows()
    items = load_items(tiny_run.config.data, tiny_run.tags)
    assert Counter(row.id for row in rows) == Counter(item.id for item in items)
    tested = {row.id for row in rows if row.split == "test"}
    predictions = read_predictions(tiny_run.path / "predictions.csv", tiny_run.tags)
    assert predictions.keys() == tested
    classifier = tiny_run.load_classifier()
    item = next(item for item in items if item.id in tested)
    assert predictions[item.id] == pytest.approx(classifier.predict_proba([item])[0], abs=1e-5)


def test_existing_run_is_refused_by_default_and_kept(config, tmp_path):
    train(config())
    before = (tmp_path / "run" / "meta.json").read_bytes()
    with pytest.raises(UserError, match="exists already") as error:
        train(config("seed=5"))
    assert "if_exists=replace" in str(error.value)
    assert (tmp_path / "run" / "meta.json").read_bytes() == before


def test_replace_starts_over(config, tmp_path):
    train(config())
    train(config("if_exists=replace", "seed=5"))
    assert RunFolder(tmp_path / "run").meta["seed"] == 5


def test_replace_removes_nothing_but_runs(config, tmp_path):
    precious = tmp_path / "run" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(UserError, match="not a run folder"):
        train(config("if_exists=replace"))
    assert precious.read_text() == "years of work"


def test_finished_run_is_not_trained_again(config, tmp_path, capsys):
    train(config())
    before = (tmp_path / "run" / "meta.json").read_bytes()
    train(config("if_exists=resume"))
    assert "finished already" in capsys.readouterr().out
    assert (tmp_path / "run" / "meta.json").read_bytes() == before


def test_resume_refuses_another_config(config):
    train(config())
    with pytest.raises(UserError, match=r"training\.lr: 0\.005 and 0\.001"):
        train(config("if_exists=resume", "training.lr=0.001"))


def test_resume_refuses_other_data(config, tmp_path, toy_folder):
    copy = tmp_path / "items.csv"
    rows = list(csv.reader((toy_folder / "items.csv").open(encoding="utf-8", newline="")))
    with copy.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    train(config(f"data.path={copy}"))
    rows[1][2] += " changed"
    with copy.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(UserError, match="items themselves changed"):
        train(config(f"data.path={copy}", "if_exists=resume"))


def test_resume_takes_no_other_settings(tmp_path):
    from tagger.config import TrainConfig, compose_config, load_config

    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "meta.json").write_text(json.dumps({"status": "running"}))
    overrides = ["resume=some", f"runs_dir={tmp_path}", "training.lr=0.5", "seed=9"]
    with pytest.raises(UserError, match=r"training\.lr: 0\.5") as error:
        train(load_config(TrainConfig, compose_config("train", overrides)))
    assert "seed: 9" in str(error.value)


def test_two_processes_cannot_train_one_run(config, tmp_path):
    lock = FileLock(tmp_path / ".run.lock")
    with lock, pytest.raises(UserError, match="another process"):
        train(config())
    assert not (tmp_path / "run").exists()


def test_nameless_runs_get_folders_of_their_own(config, tmp_path):
    first, second = train(config("name=null")), train(config("name=null"))
    assert first != second
    assert first.name.startswith("tiny-toy-")


def test_bad_data_leaves_no_run_behind(config, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        train(config("data.path=nowhere.csv"))
    assert list(tmp_path.iterdir()) == []
