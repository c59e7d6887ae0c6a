import json
import time

import pytest

from tagger.config.schema import TrackingConfig
from tagger.training.tracking import Tracker, attach_report, read_metrics

NONE = TrackingConfig(kind="none", project="p", mode="offline")
WANDB = TrackingConfig(kind="wandb", project="p", mode="offline")


def test_lines_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    tracker = Tracker(tmp_path, NONE, {}, from_step=0)
    for step in (1, 2, 3):
        tracker.log({"step": step, "train/loss": 1.0 / step})
    tracker.close()
    resumed = Tracker(tmp_path, NONE, {}, from_step=2)
    resumed.log({"step": 3, "train/loss": 9.0})
    resumed.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[-1]["train/loss"] == 9.0


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "train/lo')
    assert read_metrics(path) == [{"step": 1}]
    assert read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.slow
def test_wandb_writes_offline_without_an_account(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    tracker = Tracker(tmp_path, WANDB, {"seed": 1}, from_step=0)
    tracker.log({"step": 1, "train/loss": 0.5})
    tracker.close()
    report = tmp_path / "report.html"
    report.write_text("<p>report</p>")
    attach_report(tmp_path, WANDB, report, {"test/macro_f1": 0.9})
    records = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(records) == 2
    expected = (b"train/loss", b"test/macro_f1", b"report.html")
    logged = b""
    for _ in range(500):  # wandb's own process writes them, and on a busy machine it lags
        logged = b"".join(record.read_bytes() for record in records)
        if all(text in logged for text in expected):
            break
        time.sleep(0.02)
    assert [text for text in expected if text not in logged] == []
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "train/loss": 0.5}]
