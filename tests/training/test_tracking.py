import json

from tagger.config.composition import compose_section
from tagger.config.schema import TrackingConfig
from tagger.training.tracking import Tracker, read_metrics

NONE = TrackingConfig.model_validate(compose_section("tracking", "none"))


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
