import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.cli import main
from tagger.errors import UserError
from tagger.monitoring import watch_file as module
from tagger.monitoring.report import MonitorReport
from tagger.monitoring.state import MonitorState
from tagger.monitoring.watch_file import watch_file
from tagger.runs import RunFolder

FRUIT = "apple pear plum cherry grape melon orchard harvest juice sweet ripe peel seed basket"
METAL = "iron copper zinc nickel silver alloy furnace forge solder rust wire bolt ingot steel"
Rows = Sequence[dict[str, str]]


def make_rows(count: int, seed: int, *, metal: float = 0.5, extra: int = 0) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    rows = []
    for at in range(count):
        is_metal = rng.random() < metal
        words = (METAL if is_metal else FRUIT).split()
        noise = ["".join(rng.choice([*"abcdefghij"], 6)) for _ in range(3 + extra)]
        chosen = [*rng.choice(words, 5), *noise]
        rng.shuffle(chosen)
        rows.append({
            "id": f"{seed}-{at}", "created_on": f"2026-02-{1 + at % 28:02}",
            "text": " ".join(chosen), "tag": "metal" if is_metal else "fruit",
        })  # fmt: skip
    return rows


def write(path: Path, rows: Rows, *, without: str = "") -> Path:
    names = [name for name in rows[0] if name != without]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def run(shared_runs: Any) -> RunFolder:
    found: RunFolder = shared_runs.open("words")
    return found


def state_of(folder: Path) -> str:
    return (folder / "state.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_watch_that_is_stopped_anywhere_says_what_one_that_is_not_says(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "stream.csv", make_rows(400, seed=1))
    whole = watch_file(run, source, tmp_path / "whole")
    monkeypatch.setattr(module, "CHUNK", 37)  # and the size of a batch says nothing
    written = MonitorState.write
    calls = 0

    def fail(state: MonitorState, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls in (2, 5):
            raise KeyboardInterrupt  # the chunk is lost
        written(state, path)

    monkeypatch.setattr(MonitorState, "write", fail)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            watch_file(run, source, tmp_path / "stopped")
    stopped = watch_file(run, source, tmp_path / "stopped")
    assert stopped == whole
    assert state_of(tmp_path / "stopped") == state_of(tmp_path / "whole")
    assert (whole.rows, whole.drift, whole.watched) == (400, "steady", 200)
    assert MonitorReport.read(tmp_path / "whole" / "monitor.json") == whole


@pytest.mark.slow
def test_a_file_that_grew_is_gone_on_with_and_another_is_refused(
    run: RunFolder, tmp_path: Path
) -> None:
    rows = make_rows(260, seed=1)
    out, source = tmp_path / "out", tmp_path / "stream.csv"
    watch_file(run, write(source, rows[:220]), out)
    grown = watch_file(run, write(source, rows), out)
    assert grown.rows == 260
    assert grown == watch_file(run, source, tmp_path / "at-once")
    for other in (rows[:250], [*rows[1:], rows[0]]):
        with pytest.raises(UserError, match="does not go on where the watch stopped"):
            watch_file(run, write(source, other), out)


@pytest.mark.slow
def test_a_change_is_an_alarm_that_the_exit_code_tells_and_a_person_accepts(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*make_rows(300, seed=1), *make_rows(150, seed=2, metal=0.98, extra=9)]
    source = write(tmp_path / "stream.csv", rows, without="tag")
    out = tmp_path / "out"
    command = ["monitor", "--run", str(run.path), "--input", str(source), "--out", str(out)]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 4
    told = capsys.readouterr().out
    assert "WARNING: The content changed" in told
    assert "length rises" in told
    assert "<svg" in (page := (out / "monitor.html").read_text()) or "<img" in page
    main(["monitor", "accept", "--out", str(out)])
    assert json.loads((out / "monitor.json").read_text())["alarms"][0]["accepted"]
    main(command)  # nothing new, nothing stands
    with pytest.raises(SystemExit) as stopped:
        main(["monitor", "accept", "--out", str(out)])
    assert stopped.value.code == 2
    assert "no alarm stands" in capsys.readouterr().err
    past = tmp_path / "past"
    main([*command[:-1], str(past), "--history"])  # exit code 0: nothing is to be looked at
    report = MonitorReport.read(past / "monitor.json")
    assert [alarm.accepted for alarm in report.alarms] == [True]
    assert (report.drift, report.rows) == ("too few", 450)  # the watch begins anew behind it
    assert [one.drift for one in report.years] == ["alarm"]


def test_labels_are_counted_by_how_they_were_drawn(run: RunFolder, tmp_path: Path) -> None:
    rows = make_rows(60, seed=3)
    source = write(tmp_path / "stream.csv", rows[:20], without="tag")
    labelled = [
        row | {"inclusion_probability": "0.02" if at % 2 else "0.1"} for at, row in enumerate(rows)
    ]
    labels = write(tmp_path / "labels.csv", labelled)
    out = tmp_path / "out"
    report = watch_file(run, source, out, labels=labels, promise=0.8)
    everything = report.precision[0]
    assert (report.rows, everything.published) == (20, 20)
    assert everything.labelled == 60
    assert everything.measured is not None
    assert everything.measured.value > 0.8
    assert report.kept == "steady"
    state = MonitorState.read(out / "state.json")
    assert state.least == 0.02
    assert [*state.groups["all"].labels] == [0.1, 0.02]
    again = watch_file(run, source, out, labels=labels)
    assert again == report


def test_mistakes_are_told_at_once_and_before_any_work(run: RunFolder, tmp_path: Path) -> None:
    rows = [
        {"id": "1", "text": "iron", "tag": "mettal", "inclusion_probability": "2"},
        {"id": "2", "text": "", "tag": "metal", "inclusion_probability": "x"},
    ]
    labels = write(tmp_path / "labels.csv", rows)
    source = write(tmp_path / "stream.csv", make_rows(5, seed=1))
    with pytest.raises(UserError) as refused:
        watch_file(run, source, tmp_path / "out", labels=labels)
    told = str(refused.value)
    assert "'mettal' is none of the run's tags (did you mean 'metal'?)" in told
    assert "`inclusion_probability` is '2', expected a probability" in told
    assert "needs a text and a tag" in told
    assert not (tmp_path / "out" / "state.json").exists()


def test_rows_without_a_text_are_counted_and_passed_over(run: RunFolder, tmp_path: Path) -> None:
    rows = make_rows(4, seed=1)
    rows[1]["text"] = " "
    report = watch_file(run, write(tmp_path / "stream.csv", rows), tmp_path / "out")
    assert (report.rows, report.unanswered) == (4, 1)
    assert sum(one.rows for one in report.timeline.stretches) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--run", "x"],
        ["accept"],
        ["--alpha", "1.5"],
        ["--run", "x", "--store", "sqlite:///x", "--history"],
    ],
)
def test_what_is_missing_is_asked_for(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["monitor", *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err
