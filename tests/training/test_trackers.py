import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tagger.config.schema import TrackingConfig
from tagger.errors import UserError
from tagger.training.trackers import ID_FILE, Mirror, attach_run

SETTINGS = {"seed": 1, "model": {"name": "tiny", "layers": None}}


def tracking(kind: str, **changes: object) -> TrackingConfig:
    plain = {
        "kind": kind, "project": "p", "tags": ["first"], "notes": "why", "group": None,
        "entity": None, "mode": None, "artifacts": True,
    }  # fmt: skip
    return TrackingConfig.model_validate(plain | changes)


def needs(package: str) -> pytest.MarkDecorator:
    absent = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"{package} is not installed")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the person who tests has set is used, and nothing leaves `tmp_path`."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "one"
    for name in ("plots", "model", "wandb"):
        (folder / name).mkdir(parents=True)
    (folder / "report.md").write_text("# The report\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "model" / "tags.json").write_text("{}")
    (folder / "wandb" / "debug.log").write_text("not ours")
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(folder / "plots" / "slices.png")
    return folder


def train_resume_and_evaluate(run: Path, config: TrackingConfig) -> str:
    """Do with a tracker all that is done with one; return the run's id there."""
    first = Mirror(config, run, run.name, SETTINGS)
    for step in (1, 2, 3):
        first.log({"train/loss": 1 / step}, step)
    first.close()
    resumed = Mirror(config, run, run.name, SETTINGS, from_step=2)
    resumed.log({"train/loss": 0.125}, 3)
    resumed.close()
    assert first.id == resumed.id == (run / ID_FILE).read_text().strip()
    attach_run(run, config, {"test/macro_f1": 0.9})
    return first.id


@pytest.mark.slow
def test_wandb_is_kept_offline_without_an_account(run: Path) -> None:
    run_id = train_resume_and_evaluate(run, tracking("wandb", entity="team", group="mine"))
    records = [*(run / "wandb").glob("offline-run-*/*.wandb")]
    assert len(records) == 3 and all(run_id in str(record) for record in records)
    expected = (
        b"train/loss", b"test/macro_f1", b"report.md", b"slices.png", b"tags.json", b"team",
        b"mine", b"first", b"why",
    )  # fmt: skip
    logged = b""
    for _ in range(500):  # wandb's own process writes them, and on a busy machine it lags
        logged = b"".join(record.read_bytes() for record in records)
        if all(text in logged for text in expected):
            break
        time.sleep(0.02)
    assert [text for text in expected if text not in logged] == []
    assert b"debug.log" not in logged


def test_the_mode_of_wandb_is_that_of_the_environment_unless_the_config_says_one(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    asked: list[str] = []

    def init(**arguments: object) -> object:
        asked.append(str(arguments["mode"]))
        raise wandb.errors.UsageError("no\nmore")

    monkeypatch.setattr(wandb, "init", init)
    for environment, mode in (("", None), ("disabled", None), ("online", "offline")):
        if environment:
            monkeypatch.setenv("WANDB_MODE", environment)
        with pytest.raises(UserError, match="wandb could not start: no"):
            Mirror(tracking("wandb", mode=mode), run, run.name, SETTINGS)
    assert asked == ["offline", "disabled", "offline"]
    assert not (run / ID_FILE).exists()


@needs("tensorboard")
@pytest.mark.slow
def test_tensorboard_reads_back_curves_settings_report_and_plots(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_resume_and_evaluate(run, tracking("tensorboard"))
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    curve = {event.step: event.value for event in events.Scalars("train/loss")}
    assert curve == {1: 1.0, 2: 0.5, 3: 0.125}
    assert events.Scalars("test/macro_f1")[0].value == pytest.approx(0.9)
    assert events.Images("slices")[0].width == 6
    assert b"The report" in events.Tensors("report/text_summary")[0].tensor_proto.string_val[0]
    (settings,) = (run / "tensorboard").glob("*/hparams.yml")
    assert "model.layers: None" in settings.read_text().replace("'", "")


@needs("mlflow")
@pytest.mark.slow
def test_mlflow_reads_back_curves_settings_tags_and_files(run: Path) -> None:
    import mlflow

    run_id = train_resume_and_evaluate(run, tracking("mlflow", group="mine"))
    client = mlflow.MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    kept = client.get_run(run_id)
    assert kept.info.run_name == "one" and kept.info.status == "FINISHED"
    assert kept.data.params == {"seed": "1", "model.name": "tiny", "model.layers": "None"}
    assert kept.data.metrics == {"train/loss": 0.125, "test/macro_f1": 0.9}
    assert [one.step for one in client.get_metric_history(run_id, "train/loss")] == [1, 2, 3, 3]
    tags = kept.data.tags
    assert (tags["first"], tags["group"], tags["mlflow.note.content"]) == ("true", "mine", "why")
    assert {one.path for one in client.list_artifacts(run_id)} == {
        "report.md", "config.yaml", "model", "plots", ID_FILE,
    }  # fmt: skip


@needs("trackio")
@pytest.mark.slow
def test_trackio_reads_back_curves_settings_and_files(run: Path, tmp_path: Path) -> None:
    # In a process of its own, since it reads TRACKIO_DIR once, when it is imported.
    code = """if True:
    import json, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_trackers import tracking, train_resume_and_evaluate
    run_id = train_resume_and_evaluate(Path(sys.argv[1]), tracking("trackio", group="mine"))
    from trackio.sqlite_storage import SQLiteStorage
    import trackio
    (kept,) = trackio.Api().runs("p")
    logs = SQLiteStorage.get_logs("p", kept.name)
    loss = [one["train/loss"] for one in logs if "train/loss" in one]
    Path(sys.argv[1], "found.json").write_text(json.dumps([run_id, kept.name, kept.config, loss]))
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), str(Path(__file__).parent)],
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and "does not take" not in done.stderr, done.stderr
    run_id, name, config, loss = json.loads((run / "found.json").read_text())
    assert name == f"one-{run_id}"
    assert (config.get("model.name"), config["_Group"]) == ("tiny", "mine")
    assert loss == [1.0, 0.5, pytest.approx(1 / 3), 0.125]
    kept = [
        path.read_bytes() for path in (tmp_path / "trackio").rglob("blobs/**/*") if path.is_file()
    ]
    assert b"# The report\n" in kept


def test_runs_of_one_name_have_ids_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    ids = set()
    for person in ("hers", "his"):
        (tmp_path / person / "one").mkdir(parents=True)
        mirror = Mirror(tracking("tensorboard"), tmp_path / person / "one", "one", {})
        mirror.close()
        ids.add(mirror.id)
    assert len(ids) == 2


def test_a_tracker_that_is_not_installed_is_said_in_one_message(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match="tracking=trackio needs a package") as caught:
        Mirror(tracking("trackio"), run, run.name, {})
    assert "pip install trackio" in caught.value.hint


def test_an_evaluation_that_the_tracker_does_not_take_stands_all_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    attach_run(run, tracking("trackio"), {"test/macro_f1": 0.9})
    assert "note: trackio does not take the report" in capsys.readouterr().err
