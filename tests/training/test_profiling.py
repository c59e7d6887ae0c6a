import gzip
import json
from pathlib import Path

import pytest
import torch

from tagger.training.profiling import TRACE_FILE, profile_steps


@pytest.mark.slow
def test_the_steps_asked_for_are_in_the_trace(tmp_path: Path) -> None:
    with profile_steps(2, tmp_path) as step_done:
        for _ in range(6):
            torch.ones(3) @ torch.ones(3)
            step_done()
    with gzip.open(tmp_path / TRACE_FILE, "rt") as file:
        events = json.load(file)["traceEvents"]
    steps = {one["name"] for one in events if one["name"].startswith("ProfilerStep")}
    assert steps == {"ProfilerStep#2", "ProfilerStep#3"}
    assert sum(one["name"] == "aten::dot" for one in events) == 2


def test_no_steps_leave_no_trace(tmp_path: Path) -> None:
    with profile_steps(0, tmp_path) as step_done:
        step_done()
    assert not list(tmp_path.iterdir())
