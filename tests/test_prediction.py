import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger import prediction, prediction_output
from tagger.data.items import Item
from tagger.decision.calibrators import Unchanged
from tagger.decision.decider import Decider, Rule, load_decider, load_rule, save_rule
from tagger.decision.policies import NEVER, Argmax, Threshold
from tagger.errors import UserError
from tagger.files import REPO_ROOT
from tagger.models.base import Classifier
from tagger.prediction import Outcome, predict_file, predict_rows
from tagger.runs import RunFolder

WORDS = [
    "apple",
    "rain",
    "iron",
    "storm",
    "pear",
    "copper",
    "cloud",
    "forge",
    "melon",
    "frost",
    "zinc",
    "juice",
]
AWKWARD = [
    ("plain", "apple pie", "a recipe"),
    ('comma, and "quotes"', 'rain, "heavy"', "it's wet"),
    ("line\nbreak", "copper\nwire", "two\nlines"),
    ("carriage\rreturn", "iron\r\nbars", "x\ry"),
    ("ünï-日本-🦄", "Wetter 🌧", "雨が降る"),
    ("'=1+1", "pear", ""),
    ("no-title", "", "zinc and nickel"),
    ("007", "apple", "a leading zero"),
    ("a\u2028b\x85c", "frost", "unusual separators"),
]


@pytest.fixture(scope="session")
def model(tiny_run: RunFolder) -> Classifier:
    return tiny_run.load_classifier()


@pytest.fixture(scope="session")
def decider(tiny_run: RunFolder, model: Classifier) -> Decider:
    return load_decider(tiny_run.path, model)


def decide_by(run: RunFolder, thresholds: Sequence[float] | None) -> None:
    """Let a run publish raw probabilities from these thresholds on, or the most probable tag."""
    policy = Argmax() if thresholds is None else Threshold(list(thresholds))
    save_rule(run.path, run.config.decision, Rule(Unchanged(), policy, None), None)


class Watched:
    """The model, with a note of what it was asked for, and a chunk at which it fails."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.tags = model.tags
        self.asked: list[str] = []
        self.fails_at: int | None = None
        self.error: BaseException = OSError(errno.ENOSPC, "No space left on device")
        self.calls = 0

    def predict_proba(self, items: Sequence[Item]) -> Any:
        self.calls += 1
        if self.calls - 1 == self.fails_at:
            raise self.error
        self.asked += [item.id for item in items]
        return self.model.predict_proba(items)


@pytest.fixture
def watched(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched(model)
    monkeypatch.setattr(RunFolder, "load_classifier", lambda run, device: watched)
    return watched


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "CHUNK", 64)


def texts(count: int) -> list[tuple[str, str, str]]:
    """Rows of different lengths, so that padding differs from batch to batch."""
    return [
        (f"r{n}", " ".join(WORDS[(n + k) % 12] for k in range(1 + n % 9)), WORDS[n % 7] * (n % 4))
        for n in range(count)
    ]


def write_input(path: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    names = ("id", "title", "description")
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        import pyarrow as pa
        from pyarrow import parquet

        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        parquet.write_table(pa.table(columns, names=names), path)
    return path


def read_output(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file, strict=True))
        texts = ("id", "decision", "tag", "reason")
        return [{k: v if k in texts else float(v) for k, v in row.items()} for row in rows]
    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        return [json.loads(line) for line in lines]
    from pyarrow import parquet

    table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return table


def leftovers(output: Path) -> set[str]:
    """What lies beside an output, its input aside."""
    return {p.name for p in output.parent.iterdir() if p != output and not p.name.startswith("in.")}


def test_the_output_has_a_row_an_item_in_order(
    tiny_run: RunFolder, model: Classifier, tmp_path: Path
) -> None:
    rows = texts(200)
    output = tmp_path / "out.csv"
    assert predict_file(tiny_run, write_input(tmp_path / "in.csv", rows), output) == Outcome(
        200, 0, 0
    )
    lines = output.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,decision,tag,probability,reason,fruit,metal,weather"
    found = read_output(output)
    assert [row["id"] for row in found] == [row[0] for row in rows]
    raw = model.predict_proba([Item(*row) for row in rows])
    corrected = load_rule(tiny_run.path, 3).calibrator.apply(raw)
    assert np.abs(corrected - raw).max() > 0.01, "or the test could not tell the two apart"
    for row, numbers in zip(found, corrected, strict=True):
        assert [row[tag] for tag in tiny_run.tags] == pytest.approx(list(numbers), abs=2e-6)
        assert row["decision"] == row["tag"] == tiny_run.tags[int(numbers.argmax())]
        assert row["probability"] == row[row["tag"]]
    assert leftovers(output) == set()


@pytest.mark.parametrize(
    ("source", "target"),
    [(".csv", ".csv"), (".jsonl", ".parquet"), (".parquet", ".jsonl"), (".csv", ".JSONL")],
)
def test_all_formats_agree(
    copy_run: Callable[..., RunFolder], watched: Watched, tmp_path: Path, source: str, target: str
) -> None:
    run, output = copy_run(), tmp_path / f"out{target}"
    numbers = watched.model.predict_proba([Item(*row) for row in AWKWARD])
    limit = float(np.median(numbers.max(axis=1)))
    decide_by(run, [limit] * 3)
    predict_file(run, write_input(tmp_path / f"in{source}", AWKWARD), output)
    found = read_output(output.rename(output.with_suffix(target.lower())))
    assert [row["id"] for row in found] == [row[0] for row in AWKWARD]
    assert list(found[0]) == ["id", "decision", "tag", "probability", "reason", *run.tags]
    for row, expected in zip(found, numbers, strict=True):
        assert [row[tag] for tag in run.tags] == pytest.approx(list(expected), abs=2e-6)
        tag = run.tags[int(expected.argmax())]
        assert row["tag"] == tag
        assert row["decision"] == (tag if expected.max() >= limit else "needs review")


def test_unsure_items_need_review_and_still_show_the_most_probable_tag(
    copy_run: Callable[..., RunFolder], watched: Watched, tmp_path: Path
) -> None:
    run, rows, output = copy_run(), texts(200), tmp_path / "out.csv"
    numbers = watched.model.predict_proba([Item(*row) for row in rows])
    # Whatever is taken for metal is asked about; of the rest, the less sure half.
    limit = float(np.median(numbers.max(axis=1)))
    decide_by(run, [limit, NEVER, limit])
    predict_file(run, write_input(tmp_path / "in.csv", rows), output)
    found = read_output(output)
    assert [row["tag"] for row in found] == [run.tags[best] for best in numbers.argmax(axis=1)]
    assert [row["decision"] for row in found] == [
        "needs review" if row["tag"] == "metal" or sure < limit else row["tag"]
        for row, sure in zip(found, numbers.max(axis=1), strict=True)
    ]
    assert {row["decision"] for row in found} == {"fruit", "weather", "needs review"}
    assert all(row["probability"] == row[row["tag"]] for row in found)


def test_a_run_without_a_decision_publishes_the_most_probable_tag(
    copy_run: Callable[..., RunFolder], watched: Watched, tmp_path: Path
) -> None:
    run, rows, output = copy_run(), texts(20), tmp_path / "out.csv"
    (run.path / "decision.json").unlink()
    predict_file(run, write_input(tmp_path / "in.csv", rows), output)
    raw = watched.model.predict_proba([Item(*row) for row in rows])
    for row, numbers in zip(read_output(output), raw, strict=True):
        assert row["decision"] == row["tag"] == run.tags[int(numbers.argmax())]
        assert row["probability"] == pytest.approx(numbers.max(), abs=2e-6)


def test_a_damaged_decision_is_named_before_anything_is_written(
    copy_run: Callable[..., RunFolder], watched: Watched, tmp_path: Path
) -> None:
    run, output = copy_run(), tmp_path / "new" / "out.csv"
    (run.path / "decision.json").write_text('{"policy": {"kind": "argmax"}}')
    with pytest.raises(UserError, match=r"decision\.json is damaged") as caught:
        predict_file(run, write_input(tmp_path / "in.csv", texts(3)), output)
    assert f"tagger decide --run {run.path}" in caught.value.hint
    assert not output.parent.exists()
    assert watched.asked == []


def test_a_file_without_descriptions_is_enough(
    tiny_run: RunFolder, watched: Watched, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("title,id,else\napple,1,x\nrain,2,y\n")
    output = tmp_path / "out.csv"
    predict_file(tiny_run, tmp_path / "in.csv", output)
    assert [row["id"] for row in read_output(output)] == ["1", "2"]


def test_neighbours_do_not_change_a_prediction(model: Classifier) -> None:
    items = [Item(*row) for row in texts(100)]
    together = model.predict_proba(items)
    alone = np.concatenate([model.predict_proba([item]) for item in items])
    backwards = model.predict_proba(items[::-1])[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(backwards, together, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("suffix", "cut"), [(".csv", 0), (".csv", 1), (".jsonl", 2), (".parquet", 3), (".csv", 4)]
)
def test_a_resumed_output_has_the_same_bytes_wherever_it_was_cut(
    tiny_run: RunFolder, watched: Watched, tmp_path: Path, suffix: str, cut: int
) -> None:
    rows = texts(300)  # 5 chunks, the last one short
    source = write_input(tmp_path / "in.csv", rows)
    whole = tmp_path / "whole" / f"out{suffix}"
    predict_file(tiny_run, source, whole)
    output = tmp_path / "cut" / f"out{suffix}"
    watched.calls, watched.fails_at = 0, cut
    with pytest.raises(OSError):
        predict_file(tiny_run, source, output)
    assert not output.exists()
    watched.fails_at, watched.asked = None, []
    predict_file(tiny_run, source, output)
    assert output.read_bytes() == whole.read_bytes()
    assert watched.asked == [row[0] for row in rows[cut * 64 :]]
    assert leftovers(output) == set()


KILLED = """
import os, signal, sys
from pathlib import Path
from tagger import prediction, prediction_output
from tagger.runs import open_run

note = prediction.write_json
def note_twice_then_die(path, state):
    if state["rows"] > 2 * prediction.CHUNK:
        os.kill(os.getpid(), signal.SIGKILL)
    note(path, state)

prediction.write_json = note_twice_then_die
prediction.CHUNK = 64
prediction.predict_file(open_run(sys.argv[1], ""), Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_a_file_is_killed_in_the_middle_and_resumed(
    tiny_run: RunFolder, watched: Watched, tmp_path: Path
) -> None:
    rows = texts(300)
    source = write_input(tmp_path / "in.csv", rows)
    whole, output = tmp_path / "whole" / "out.csv", tmp_path / "cut" / "out.csv"
    predict_file(tiny_run, source, whole)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_run.path), str(source), str(output)],
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # The third chunk was written and not noted: it is cut off and computed again.
    assert not output.exists()
    watched.asked = []
    predict_file(tiny_run, source, output)
    assert output.read_bytes() == whole.read_bytes()
    assert watched.asked == [row[0] for row in rows[2 * prediction.CHUNK :]]
    assert leftovers(output) == set()


def stop_in_the_third_chunk(watched: Watched, run: RunFolder, source: Path, output: Path) -> None:
    watched.calls, watched.fails_at = 0, 2
    with pytest.raises(OSError):
        predict_file(run, source, output)
    watched.fails_at, watched.asked = None, []


@pytest.mark.usefixtures("small_chunks")
def test_a_changed_input_starts_over(tiny_run: RunFolder, watched: Watched, tmp_path: Path) -> None:
    rows = texts(200)
    source, output = write_input(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    stop_in_the_third_chunk(watched, tiny_run, source, output)
    write_input(source, [("new", "apple", ""), *rows[1:]])
    predict_file(tiny_run, source, output)
    assert len(watched.asked) == 200
    assert read_output(output)[0]["id"] == "new"


@pytest.mark.usefixtures("small_chunks")
def test_another_model_starts_over(
    tiny_run: RunFolder,
    copy_run: Callable[..., RunFolder],
    watched: Watched,
    tmp_path: Path,
) -> None:
    source, output = write_input(tmp_path / "in.csv", texts(200)), tmp_path / "out.csv"
    stop_in_the_third_chunk(watched, tiny_run, source, output)
    other = copy_run()
    changed = {**other.meta.model_files, "head.safetensors": "0" * 64}
    other.meta = other.meta.model_copy(update={"model_files": changed})
    predict_file(other, source, output)
    assert len(watched.asked) == 200


@pytest.mark.usefixtures("small_chunks")
def test_another_decision_starts_over(
    copy_run: Callable[..., RunFolder], watched: Watched, tmp_path: Path
) -> None:
    run = copy_run()
    source, output = write_input(tmp_path / "in.csv", texts(200)), tmp_path / "out.csv"
    decide_by(run, None)
    stop_in_the_third_chunk(watched, run, source, output)
    decide_by(run, [NEVER] * 3)
    predict_file(run, source, output)
    assert len(watched.asked) == 200
    assert [row["decision"] for row in read_output(output)] == ["needs review"] * 200
    # One that comes to be where there was none is another too, and so is one that goes.
    for change in ((run.path / "decision.json").unlink, lambda: decide_by(run, None)):
        stop_in_the_third_chunk(watched, run, source, output)
        change()
        predict_file(run, source, output)
        assert len(watched.asked) == 200
        assert "needs review" not in {row["decision"] for row in read_output(output)}


@pytest.mark.usefixtures("small_chunks")
def test_the_same_decision_made_again_goes_on(
    copy_run: Callable[..., RunFolder], watched: Watched, tmp_path: Path
) -> None:
    run = copy_run()
    source, output = write_input(tmp_path / "in.csv", texts(200)), tmp_path / "out.csv"
    decide_by(run, None)
    stop_in_the_third_chunk(watched, run, source, output)
    decide_by(run, None)
    predict_file(run, source, output)
    assert len(watched.asked) == 200 - 2 * 64


def lose_a_key(partial: Path, note: Path) -> None:
    content = json.loads(note.read_text())
    del content["input_sha256"]
    note.write_text(json.dumps(content))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "damage",
    [
        lose_a_key,
        lambda partial, note: note.write_bytes(b"{"),
        lambda partial, note: note.write_bytes(b"[]"),
        lambda partial, note: note.unlink(),
        lambda partial, note: partial.unlink(),
        lambda partial, note: os.truncate(partial, 10),
    ],
)
def test_damaged_leftovers_start_over(
    tiny_run: RunFolder, watched: Watched, tmp_path: Path, damage: Callable[[Path, Path], object]
) -> None:
    source, output = write_input(tmp_path / "in.csv", texts(200)), tmp_path / "out.csv"
    stop_in_the_third_chunk(watched, tiny_run, source, output)
    damage(tmp_path / "out.csv.partial", tmp_path / "out.csv.partial.json")
    predict_file(tiny_run, source, output)
    assert len(watched.asked) == 200
    assert leftovers(output) == set()


@pytest.mark.usefixtures("small_chunks")
def test_ctrl_c_keeps_what_is_done(tiny_run: RunFolder, watched: Watched, tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.csv", texts(200)), tmp_path / "out.csv"
    watched.fails_at, watched.error = 2, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        predict_file(tiny_run, source, output)
    watched.fails_at, watched.asked = None, []
    predict_file(tiny_run, source, output)
    assert len(watched.asked) == 200 - 2 * 64


def test_two_at_once_on_one_output(tiny_run: RunFolder, watched: Watched, tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.csv", texts(9)), tmp_path / "out.csv"
    with (
        FileLock(tmp_path / ".out.csv.lock"),
        pytest.raises(UserError, match="another process is writing"),
    ):
        predict_file(tiny_run, source, output)
    assert not output.exists()
    assert watched.asked == []
    predict_file(tiny_run, source, output)  # the lock's file alone does not lock
    assert len(read_output(output)) == 9
    assert leftovers(output) == set()


def test_strictly_all_bad_rows_are_listed_and_nothing_is_touched(
    tiny_run: RunFolder, watched: Watched, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    output.write_text("kept")
    (tmp_path / "in.csv").write_text("id,title,description\n1,apple,\n,rain,\n3,,\n4,a,b,c\n")
    with pytest.raises(UserError) as caught:
        predict_file(tiny_run, tmp_path / "in.csv", output, strict=True)
    assert len(caught.value.problems) == 2
    for problem, place in zip(sorted(caught.value.problems), ("3", "4"), strict=True):
        assert f"row {place} (line {int(place) + 1})" in problem
    assert output.read_text() == "kept"
    assert leftovers(output) == set()
    assert watched.asked == []


def test_what_cannot_be_answered_is_a_row_with_a_reason(
    copy_run: Callable[..., RunFolder], watched: Watched, tmp_path: Path
) -> None:
    run, source = copy_run(), tmp_path / "in.csv"
    decide_by(run, [NEVER] * 3)
    source.write_text("id,title,extra,tag\n 1,apple,x,any\n2,,y,\n,rain,,\n4,a\n\n5,iron,z,\n")
    output = tmp_path / "out.csv"
    assert predict_file(run, source, output, keep_columns=True) == Outcome(5, 2, 1)
    with output.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["id"] for row in found] == [" 1", "2", "", "", "5"]
    assert {row["decision"] for row in found} == {"needs review"}
    assert [row["reason"] for row in found] == [
        "not sure enough",
        "no text: 'title' is blank",
        "not sure enough",
        "row 4 (line 5): 2 fields, the header has 4",
        "not sure enough",
    ]
    assert [row["tag"] == "" for row in found] == [False, True, False, True, False]
    assert [row["extra"] for row in found] == ["x", "y", "", "", "z"]
    # Ours is the predicted one.
    assert [row["tag (input)"] for row in found] == ["any", "", "", "", ""]
    assert watched.asked == [" 1", "", "5"]


def test_a_file_that_cannot_be_read_on_is_refused(
    tiny_run: RunFolder, watched: Watched, tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_text('id,title\n1,apple\n2,"rain\n3,iron\n')
    with pytest.raises(UserError, match="cannot be classified") as caught:
        predict_file(tiny_run, source, tmp_path / "out.csv")
    assert "row 2 (line 3): a quoted text that begins here is never closed" in str(caught.value)
    assert leftovers(tmp_path / "out.csv") == set()


def test_from_a_pipe_to_a_pipe(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = b'{"title": "apple"}\n{"title": "rain"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert predict_file(tiny_run, "-", "-") == Outcome(2, 0, 0)
    head, *rows = capfd.readouterr().out.splitlines()
    assert head.startswith("id,decision,tag,probability,reason,fruit")
    assert [row.split(",")[0] for row in rows] == ["1", "2"]


def test_a_failure_while_publishing_keeps_the_old_output(
    tiny_run: RunFolder, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write_input(tmp_path / "in.csv", texts(9)), tmp_path / "out.jsonl"
    output.write_text("kept")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prediction_output, "_typed_rows", full)
        with pytest.raises(OSError):
            predict_file(tiny_run, source, output)
    assert output.read_text() == "kept"
    watched.asked = []
    predict_file(tiny_run, source, output)
    assert watched.asked == []  # all rows were done
    assert len(read_output(output)) == 9
    assert leftovers(output) == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_full_disk_keeps_the_old_output_and_can_be_resumed(
    tiny_run: RunFolder,
    watched: Watched,
    tmp_path: Path,
    small_disk: Path,
    suffix: str,
) -> None:
    source = write_input(tmp_path / "in.csv", texts(4000))
    output = small_disk / f"out{suffix}"
    output.write_text("kept")
    with pytest.raises(OSError) as caught:
        predict_file(tiny_run, source, output)
    assert caught.value.errno == errno.ENOSPC
    assert output.read_text() == "kept"
    done = len(watched.asked)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    watched.asked = []
    predict_file(tiny_run, source, output)
    assert len(read_output(output)) == 4000
    assert 0 < len(watched.asked) <= 4000 - done + 64
    assert leftovers(output) == set()


@settings(max_examples=40, deadline=None)
@given(
    title=st.text(st.characters(codec="utf-8"), max_size=300),
    description=st.text(st.characters(codec="utf-8"), max_size=300),
)
def test_any_text_has_finite_probabilities_that_sum_to_one(
    decider: Decider, title: str, description: str
) -> None:
    item = Item("1", title, description)
    decisions = decider.decide([item])
    for row in (decisions.raw[0], decisions.probabilities[0]):
        assert np.isfinite(row).all()
        assert row.min() >= 0
        assert row.sum() == pytest.approx(1, abs=1e-9)
    ((_, decision, tag, probability, *_),) = predict_rows(decider, [item])
    assert tag in decider.tags
    assert decision in (tag, "needs review")
    assert float(probability) == pytest.approx(decisions.probabilities.max(), abs=1e-6)
