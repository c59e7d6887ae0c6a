import csv
import os
import shutil

import pytest
import yaml
from filelock import FileLock

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.errors import UserError
from tagger.files import write_json
from tagger.models.transformer import TransformerClassifier
from tagger.runs import RunFolder
from tagger.training.train_run import train

pytestmark = pytest.mark.slow


@pytest.fixture
def linear(config, linear_model):
    """The same of a model that is trained at once."""
    return lambda *overrides: config(*overrides).model_copy(update={"model": linear_model})


def test_a_run_that_is_there_is_refused_taken_up_or_replaced_as_asked(linear, tmp_path, capsys):
    train(linear())
    meta = tmp_path / "run" / "meta.json"
    before = meta.read_bytes()
    with pytest.raises(UserError, match="exists already") as error:
        train(linear("seed=5"))
    assert "if_exists=replace" in str(error.value)
    train(linear("if_exists=resume"))
    assert "finished already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"training\.lr: 0\.005 and 0\.001"):
        train(linear("if_exists=resume", "training.lr=0.001"))
    assert meta.read_bytes() == before
    train(linear("if_exists=replace", "seed=5"))
    assert RunFolder(tmp_path / "run").meta.seed == 5


def test_resume_refuses_other_extra_rows(linear, tmp_path):
    extra = tmp_path / "extra.csv"
    extra.write_text("id,title,tag\nx1,orchard of quinces,fruit\nx2,monsoon,weather\n")
    given = f"data.extra=[{extra}]"
    path = train(linear(given))
    train(linear(given, "if_exists=resume"))
    extra.write_text(extra.read_text().replace("monsoon", "typhoon"))
    with pytest.raises(UserError, match="items themselves changed"):
        train(linear(given, "if_exists=resume"))
    with pytest.raises(UserError, match=r"data\.extra: "):
        train(linear("if_exists=resume"))
    assert RunFolder(path).finished


def test_replace_removes_nothing_but_runs(linear, tmp_path):
    precious = tmp_path / "run" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(UserError, match="not a run folder"):
        train(linear("if_exists=replace"))
    assert precious.read_text() == "years of work"


def test_resume_refuses_other_data(linear, tmp_path, toy_folder):
    copy = tmp_path / "items.csv"
    rows = list(csv.reader((toy_folder / "items.csv").open(encoding="utf-8", newline="")))
    with copy.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    train(linear(f"data.path={copy}"))
    rows[1][2] += " changed"
    with copy.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(UserError, match="items themselves changed"):
        train(linear(f"data.path={copy}", "if_exists=resume"))


def resume(*overrides):
    return load_config(TrainConfig, compose_config("train", ["resume=run", *overrides]))


def test_resume_takes_the_runs_own_settings_and_no_others(config, tmp_path, monkeypatch, capsys):
    train(config())
    own = [
        "data=file", f"data.path={tiny_path(config)}", "model=tiny", "training.lr=0.005",
        "training.epochs=1", f"runs_dir={tmp_path}",
    ]  # fmt: skip
    # Another working directory, and the same file by another path.
    monkeypatch.chdir(tmp_path)
    own[1] = f"data.path={os.path.relpath(tiny_path(config), tmp_path)}"
    with pytest.raises(UserError) as error:
        train(resume(*own, "training.lr=0.5", "seed=9"))
    tags = config().data.tags
    # Those that `data=file` and `model=tiny` bring along are other ones than the run has.
    changed = {problem.partition(":")[0] for problem in error.value.problems}
    assert changed == {"training.lr", "seed", "data.name", "data.tags"}
    assert "training.lr: 0.005 and 0.5" in error.value.problems
    assert train(resume(*own, "data.name=toy", f"data.tags={tags}")).samefile(tmp_path / "run")
    assert "finished already" in capsys.readouterr().out


def tiny_path(config):
    return config().data.path


def test_resume_says_where_the_items_were(linear, toy_folder, tmp_path):
    copy = shutil.copy(toy_folder / "items.csv", tmp_path / "mine.csv")
    train(linear(f"data.path={copy}"))
    copy.unlink()
    with pytest.raises(UserError, match="made from files that are not here") as error:
        train(resume(f"runs_dir={tmp_path}"))
    assert str(copy) in error.value.problems[0]


BAD_ENCODER = ("model.encoder=./nowhere", "model.random=null")


def test_a_start_that_fails_leaves_nothing(config, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        train(config(*BAD_ENCODER, f"runs_dir={tmp_path / 'a' / 'runs'}"))
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_is_interrupted_leaves_nothing(config, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TransformerClassifier, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config())
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_replaced_only_by_one_that_starts(config, tmp_path):
    before = (train(config()) / "meta.json").read_bytes()
    with pytest.raises(UserError, match="there is no folder"):
        train(config(*BAD_ENCODER, "if_exists=replace"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "meta.json").read_bytes() == before
    assert RunFolder(tmp_path / "run").load_classifier()


def test_a_run_that_cannot_be_resumed_now_stays(config, tmp_path):
    """It is not this start that made it."""
    path = train(config())
    for name in ("model", "metrics.jsonl"):
        shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()
    plain = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    plain["model"] |= {"encoder": "./nowhere", "random": None}
    (path / "config.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    write_json(path / "meta.json", RunFolder(path).meta.model_dump() | {"status": "running"})
    with pytest.raises(UserError, match="there is no folder"):
        train(resume(f"runs_dir={tmp_path}"))
    assert (path / "splits.csv").exists()


def test_two_processes_cannot_train_one_run(linear, tmp_path):
    lock = FileLock(tmp_path / ".run.lock")
    with lock, pytest.raises(UserError, match="another process"):
        train(linear())
    assert not (tmp_path / "run").exists()


def test_nameless_runs_get_folders_of_their_own(linear, tmp_path):
    first, second = train(linear("name=null")), train(linear("name=null"))
    assert first != second
    assert first.name.startswith("linear-toy-")
