import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tagger.cli import main
from tagger.data.items import Item
from tagger.decision.calibrators import Temperature, Unchanged
from tagger.decision.decider import Rule, load_rule, save_rule
from tagger.decision.policies import NEVER, REVIEW, Argmax, Threshold
from tagger.files import REPO_ROOT, write_json
from tagger.runs import RunFolder, write_calibration


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Command = Callable[..., Ended]


@pytest.fixture
def tagger(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Runs a command of `tagger` in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str | Path) -> Ended:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(code, out, err)

    return run


def write_items(
    path: Path, text: str = "id,title,description\na,apple pear,\nb,rain,storm\n"
) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read_ranking(out: str) -> tuple[str, dict[str, float]]:
    """What is printed of one item: the decision, and each tag's probability in the order shown."""
    decision, *lines = out.splitlines()
    return decision, {name: float(number) for name, number in map(str.split, lines)}


@pytest.mark.parametrize(
    ("arguments", "tag"),
    [
        (["--title", "apple pear cherry"], "fruit"),
        (["--description", "iron copper steel"], "metal"),
        (["--title", "rain", "--description", "storm and thunder 🌩 雨"], "weather"),
        (["--title", "", "--description", "rain storm frost"], "weather"),
    ],
)
def test_one_item_gets_its_decision_then_its_tags_best_first(
    tagger: Command, tiny_run: RunFolder, arguments: list[str], tag: str
) -> None:
    ended = tagger("predict", "--run", tiny_run.path, *arguments)
    assert (ended.code, ended.err) == (0, "")
    decision, ranking = read_ranking(ended.out)
    assert decision == next(iter(ranking)) == tag
    assert set(ranking) == set(tiny_run.tags)
    numbers = list(ranking.values())
    assert numbers == sorted(numbers, reverse=True)
    assert sum(numbers) == pytest.approx(1, abs=2e-4)


def test_an_unsure_item_needs_review_and_its_tags_are_shown(
    tagger: Command, copy_run: Callable[..., RunFolder]
) -> None:
    run = copy_run()
    arguments = ["predict", "--run", str(run.path), "--title", "apple pear cherry"]
    save_rule(run.path, run.config.decision, Rule(Unchanged(), Argmax(), None), None)
    sure, ranking = read_ranking(tagger(*arguments).out)
    assert (sure, next(iter(ranking))) == ("fruit", "fruit")
    # Below the threshold of its own tag it is asked about, whatever the others' are.
    for thresholds, expected in (
        ([ranking["fruit"] + 0.001, 0.0, 0.0], "needs review"),
        ([ranking["fruit"] - 0.001, NEVER, NEVER], "fruit"),
    ):
        rule = Rule(Unchanged(), Threshold(thresholds), None)
        save_rule(run.path, run.config.decision, rule, None)
        ended = tagger(*arguments)
        assert (ended.code, ended.err) == (0, "")
        assert read_ranking(ended.out) == (expected, ranking)


def test_probabilities_of_one_item_are_corrected(
    tagger: Command, copy_run: Callable[..., RunFolder]
) -> None:
    run = copy_run()
    shown = {}
    for temperature in (1.0, 100.0):
        rule = Rule(Temperature(temperature), Argmax(), None)
        save_rule(run.path, run.config.decision, rule, None)
        ended = tagger("predict", "--run", run.path, "--title", "apple pear cherry")
        decision, shown[temperature] = read_ranking(ended.out)
        assert decision == "fruit"
    assert shown[1.0]["fruit"] > 0.4
    assert list(shown[100.0].values()) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_a_file_gets_its_tags(tagger: Command, tiny_run: RunFolder, tmp_path: Path) -> None:
    source, output = write_items(tmp_path / "in.csv"), tmp_path / "new" / "out.csv"
    ended = tagger(
        "predict", "--run", "tiny", "--runs-dir", tiny_run.path.parent,
        "--input", source, "--output", output,
    )  # fmt: skip
    assert (ended.code, ended.out) == (0, f"2 items: {output}\n")
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["tag"]) for row in rows] == [("a", "fruit"), ("b", "weather")]
    assert [row["decision"] for row in rows] == ["fruit", "weather"]
    one = tagger("predict", "--run", tiny_run.path, "--title", "rain", "--description", "storm")
    decision, alone = read_ranking(one.out)
    assert decision == "weather"
    assert {tag: float(rows[1][tag]) for tag in alone} == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --text, or --title and/or --description, or --input and --output"),
        (["--title", "x", "--input", "a.csv"], "give either"),
        (["--input", "a.csv"], "--input and --output go together"),
        (["--output", "a.csv"], "--input and --output go together"),
        (["--title", " \n", "--description", "\t"], "the item has no text"),
        (["--text", "x", "--description", "y"], "--text and --description are the same"),
        (["--title", "half \udce4 byte"], "not UTF-8"),
        (["--input", "none.csv", "--output", "out.csv"], "none.csv does not exist"),
        (["--input", "none.csv", "--output", "out.txt"], "the format is chosen by the ending"),
        (["--input", ".", "--output", "out.csv"], ". is a folder"),
        (["--engine", "local", "--title", "x"], "--engine goes with --input and --output"),
        (["--engine", "local", "--input", ".", "--output", "out"], "no file that ends in .parquet"),
        (["--engine", "local", "--workers", "2", "--input", ".", "--output", "o"], "--workers is"),
        (["--engine", "ray", "--workers", "0", "--input", ".", "--output", "out"], "--workers is"),
        (["--engine", "local", "--input", "no://x", "--output", "out"], "no://x cannot be opened"),
    ],
)
def test_misuse_ends_with_a_message_and_no_litter(
    tagger: Command, tiny_run: RunFolder, arguments: list[str], message: str
) -> None:
    ended = tagger("predict", "--run", tiny_run.path, *arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert message in ended.err
    assert ended.out == ""
    assert not list(Path().iterdir())


def test_a_folder_is_predicted_into_a_folder(
    tagger: Command, tiny_run: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"title": ["apple pear", " ", "rain storm"]})
    parquet.write_table(table, tmp_path / "in" / "a.parquet", row_group_size=2)

    ended = tagger(
        "predict", "--run", tiny_run.path, "--engine", "local",
        "--input", tmp_path / "in", "--output", tmp_path / "out",
    )  # fmt: skip

    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        f"3 items in 2 files: {tmp_path / 'out'}",
        "1 of them could not be answered: see unanswered.csv there",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["predict"],
        ["predict", "--run", "tiny", "--bogus", "1"],
        ["decide", "--run", "tiny", "--policy", "magic"],
        ["decide", "--run", "tiny", "--target-precision", "high"],
    ],
)
def test_argparse_refuses_the_rest(tagger: Command, arguments: list[str]) -> None:
    ended = tagger(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("usage: tagger")


def test_help_names_the_commands(tagger: Command) -> None:
    ended = tagger("--help")
    assert ended.code == 0
    assert "predict" in ended.out
    assert "leaderboard" in ended.out
    assert "decide" in ended.out
    assert "CSV, JSON, Parquet, Arrow" in tagger("predict", "--help").out


def test_bad_rows_are_told_in_one_line_a_kind(
    tagger: Command, tiny_run: RunFolder, tmp_path: Path
) -> None:
    source = write_items(tmp_path / "in.csv", "id,title\n" + "x,\n" * 60 + "1,2,3\n")
    output = tmp_path / "out.csv"
    output.write_text("kept")
    arguments = ["predict", "--run", tiny_run.path, "--input", source, "--output", output]
    ended = tagger(*arguments, "--strict")
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert str(source) in lines[0]
    assert lines[1].endswith("row 3 (line 4) and 57 more: no text: 'title' is blank")
    assert "row 61 (line 62): 3 fields" in lines[2]
    assert output.read_text() == "kept"
    ended = tagger(*arguments)
    assert ended.code == 0
    assert "61 of them could not be answered and need review" in ended.out
    assert len(output.read_text().splitlines()) == 62


def test_a_missing_run_is_named(tagger: Command, tiny_run: RunFolder) -> None:
    ended = tagger("predict", "--run", "tyny", "--runs-dir", tiny_run.path.parent, "--title", "x")
    assert ended.code == 2
    assert "there is no run 'tyny'" in ended.err
    assert "Did you mean tiny?" in ended.err


def test_an_unfinished_run_says_how_to_go_on(
    tagger: Command, copy_run: Callable[..., RunFolder]
) -> None:
    run = copy_run()
    write_json(run.path / "meta.json", run.meta.model_dump() | {"status": "running"})
    ended = tagger("predict", "--run", run.path, "--title", "x")
    assert ended.code == 2
    assert f"python train.py resume={run.path}" in ended.err


def test_a_damaged_model_is_refused_before_a_file_is_made(
    tagger: Command, copy_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    run = copy_run()
    with (run.path / "model" / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    source = write_items(tmp_path / "in.csv")
    ended = tagger("predict", "--run", run.path, "--input", source, "--output", "out.csv")
    assert ended.code == 2
    assert "the model is damaged or was changed" in ended.err
    assert not list(Path().iterdir())


def test_a_file_in_the_place_of_the_folder(
    tagger: Command, tiny_run: RunFolder, tmp_path: Path
) -> None:
    source = write_items(tmp_path / "in.csv")
    (tmp_path / "file").touch()
    for output in (tmp_path / "file" / "out.csv", tmp_path / "file" / "deeper" / "out.csv"):
        ended = tagger("predict", "--run", tiny_run.path, "--input", source, "--output", output)
        assert ended.code == 2
        assert ended.err.startswith("error: cannot use ")


def test_a_name_too_long_is_refused(tagger: Command, tiny_run: RunFolder, tmp_path: Path) -> None:
    source = write_items(tmp_path / "in.csv")
    output = tmp_path / f"{'a' * 300}.csv"
    ended = tagger("predict", "--run", tiny_run.path, "--input", source, "--output", output)
    assert ended.code == 2
    assert "the name is too long" in ended.err


def test_a_read_only_disk_is_named(tagger: Command, tiny_run: RunFolder, tmp_path: Path) -> None:
    source, folder = write_items(tmp_path / "in.csv"), tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a read-only disk takes root")
    try:
        for output in (folder / "out.csv", folder / "new" / "out.csv"):
            ended = tagger("predict", "--run", tiny_run.path, "--input", source, "--output", output)
            assert ended.code == 2
            assert "the file system is read-only" in ended.err
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_file_that_may_not_grow_is_named(
    tagger: Command, tiny_run: RunFolder, tmp_path: Path
) -> None:
    """A limit on the size of files stands for a full disk where none can be mounted."""
    resource = pytest.importorskip("resource")
    rows = "".join(f"{number},apple,\n" for number in range(1100))
    source = write_items(tmp_path / "in.csv", f"id,title,description\n{rows}")
    output = tmp_path / "out.csv"
    output.write_text("kept")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        ended = tagger("predict", "--run", tiny_run.path, "--input", source, "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("error: ")
    assert "grew past what the system allows" in ended.err
    assert output.read_text() == "kept"


def test_ctrl_c_ends_with_130(
    tagger: Command, tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(run: RunFolder) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "load_classifier", interrupt)
    ended = tagger("predict", "--run", tiny_run.path, "--title", "x")
    assert ended.code == 130
    assert ended.err == "interrupted: what was saved so far is kept\n"


# tagger decide


def test_a_decision_is_changed_without_training(
    tagger: Command, copy_run: Callable[..., RunFolder]
) -> None:
    run = copy_run()
    model = {path: path.read_bytes() for path in (run.path / "model").glob("*.*")}
    # The surer 30 of 40 rows are right and the others wrong.
    items = [Item(str(number), "text", "", tag="fruit") for number in range(40)]
    probabilities = np.array([[0.9, 0.05, 0.05]] * 30 + [[0.2, 0.6, 0.2]] * 10)
    write_calibration(run.path / "calibration.csv", items, run.tags, probabilities, None)
    changes = ["--policy", "threshold", "--target-precision", "0.9", "--confidence", "0.9"]
    changes += ["--scope", "per_source"]
    ended = tagger("decide", "--run", "copy", "--runs-dir", run.path.parent, *changes)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "copy: policy threshold; of the 40 rows that it is fitted to 75.0% would be published, "
        "with precision 1.000\n"
    )

    written = json.loads((run.path / "decision.json").read_text())
    given = {"policy": "threshold", "target_precision": 0.9, "confidence": 0.9}
    given["scope"] = "per_source"
    assert written["asked"] == run.config.decision.model_dump() | given
    assert written["calibrator"]["kind"] == "temperature", "what is not given stays"
    assert written["on_these_rows"]["published"] == 30
    decided = load_rule(run.path, 3).apply(probabilities, None).tags
    assert decided.tolist() == [0] * 30 + [REVIEW] * 10
    assert {path: path.read_bytes() for path in (run.path / "model").glob("*.*")} == model


def test_a_changed_decision_is_the_one_that_is_used(
    tagger: Command, copy_run: Callable[..., RunFolder]
) -> None:
    run = copy_run()
    title = ["predict", "--run", run.path, "--title", "apple pear cherry"]
    assert read_ranking(tagger(*title).out)[0] == "fruit"
    # Twelve rows are far too few for a promise of 98 %.
    ended = tagger("decide", "--run", run.path, "--policy", "threshold")
    assert ended.out == (
        "copy: policy threshold; of the 12 rows that it is fitted to none would be published\n"
    )
    assert read_ranking(tagger(*title).out)[0] == "needs review"
    tagger("decide", "--run", run.path, "--policy", "argmax", "--calibration", "none")
    decision, ranking = read_ranking(tagger(*title).out)
    assert decision == "fruit"
    assert load_rule(run.path, 3) == Rule(Unchanged(), Argmax(), None)
    assert tagger("decide", "--run", run.path, "--calibration", "temperature").code == 0
    assert read_ranking(tagger(*title).out)[1] != ranking


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["--target-precision", "1"], ["target_precision"]),
        (["--target-precision", "nan"], ["target_precision"]),
        (["--confidence", "0", "--alpha", "-0.1"], ["confidence", "alpha"]),
    ],
)
def test_values_out_of_range_are_refused_and_the_decision_kept(
    tagger: Command, copy_run: Callable[..., RunFolder], arguments: list[str], keys: list[str]
) -> None:
    run = copy_run()
    before = (run.path / "decision.json").read_bytes()
    ended = tagger("decide", "--run", run.path, "--policy", "threshold", *arguments)
    assert (ended.code, ended.out) == (2, "")
    summary, *problems = ended.err.splitlines()
    assert summary == "error: the decision cannot be changed to this:"
    assert [problem.partition(":")[0] for problem in problems] == [f"  - {key}" for key in keys]
    assert (run.path / "decision.json").read_bytes() == before


def test_a_damaged_decision_is_made_again_as_its_message_says(
    tagger: Command, copy_run: Callable[..., RunFolder]
) -> None:
    run = copy_run()
    (run.path / "decision.json").write_text("{")
    ended = tagger("predict", "--run", run.path, "--title", "apple pear cherry")
    assert ended.code == 2
    message, hint = ended.err.splitlines()
    assert message.startswith(f"error: {run.path / 'decision.json'} is damaged")
    assert hint == f"Make it again: tagger decide --run {run.path}"
    assert tagger(*hint.partition(": tagger ")[2].split(" ")).code == 0
    ended = tagger("predict", "--run", run.path, "--title", "apple pear cherry")
    assert read_ranking(ended.out)[0] == "fruit"


def test_the_leaderboard_is_printed(tagger: Command, tiny_run: RunFolder) -> None:
    ended = tagger("leaderboard", "--runs-dir", tiny_run.path.parent)
    assert ended.code == 0
    assert "tiny" in ended.out


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys\n"
        "from tagger.cli import build_parser\n"
        "build_parser().format_help()\n"
        "print([name for name in ('torch', 'pandas', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_a_run_is_exported_beside_its_original(
    tagger: Command, copy_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    copy_run("one")
    where = ("--run", "one", "--runs-dir", tmp_path / "runs")
    ended = tagger("export", *where, "compress=fp32", "compress.threads=1")
    assert ended.code == 0
    folder = tmp_path / "runs" / "one-fp32"
    assert f"{folder}\nnext: python evaluate.py run={folder}\n" in ended.out
    assert "toy: 0 of 60 decisions changed" in ended.out
    predicted = tagger("predict", "--run", folder, "--title", "apple pear cherry")
    assert predicted.out.startswith("fruit\n")
    assert tagger("export", *where, "compress=fp32").code == 2
    assert tagger("export", *where, "--replace", "compress=fp32").code == 0
    assert "one-fp32" in tagger("leaderboard", "--runs-dir", tmp_path / "runs").out


@pytest.mark.slow
def test_a_refused_export_ends_with_code_3_and_what_was_found(
    tagger: Command, copy_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    copy_run("one")
    where = ("--run", "one", "--runs-dir", tmp_path / "runs", "--name", "it's-no")
    named = ("--run", "one", "--runs-dir", tmp_path / "runs", "--name", "small")
    assert 'name: found "it\'s-no"' in tagger("export", *where).err
    ended = tagger("export", *named, "compress.max_mib=0.001")
    assert ended.code == 3
    assert "refused: one is not exported: compress=int8 changes more than it may" in ended.err
    assert "max_mib: model/ has" in ended.err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]
    ended = tagger("export", *named, "--no-gate", "compress.max_mib=0.001")
    assert ended.code == 0
    assert "beyond its limit, max_mib" in ended.out


def test_export_reports_all_mistakes_at_once(tagger: Command) -> None:
    ended = tagger("export", "--run", "x", "compress=int9", "compress.max_chnged=1")
    assert ended.code == 2
    assert "did you mean int8?" in ended.err
    assert "did you mean compress.max_changed?" in ended.err


def test_keys_are_made_shown_once_listed_and_revoked(tagger: Command) -> None:
    made = tagger("keys", "create", "--name", "our site", "--role", "read")
    assert made.code == 0
    key = made.out.splitlines()[0]
    _, key_id, secret = key.split("_")
    listed = tagger("keys", "list").out
    assert key_id in listed
    assert "our site" in listed
    assert secret not in listed
    assert tagger("keys", "revoke", key_id).out == f"revoked: {key_id}\n"
    assert "revoked" in tagger("keys", "list").out
    again = tagger("keys", "revoke", key_id)
    assert (again.code, "no valid key" in again.err) == (2, True)


def test_a_store_is_made_verified_backed_up_and_rebuilt(tagger: Command) -> None:
    missing = tagger("store", "verify")
    assert (missing.code, "there is no store" in missing.err) == (2, True)
    assert "made: tagger-store.db" in tagger("store", "upgrade").out
    assert tagger("store", "verify").out.startswith("0 events")
    assert tagger("store", "backup", "--out", "copy.db").out == "0 rows: copy.db\n"
    assert tagger("store", "verify", "--store", "sqlite:///copy.db").code == 0
    assert tagger("store", "rebuild").out == "indexes made anew from 0 events\n"


def test_a_service_is_held_and_released(tagger: Command) -> None:
    assert "there is no store" in tagger("hold").err
    tagger("store", "upgrade")
    assert tagger("hold").out == "publishing\n"
    for wrong in (("on",), ("on", "--reason", ""), ("off", "--reason", "x"), ("--reason", "x")):
        told = tagger("hold", *wrong)
        assert (told.code, "hold on --reason" in told.err) == (2, True)
    held = tagger("hold", "on", "--reason", "too sure").out
    assert re.fullmatch(r"on hold since [\d-]{10} [\d:]{8}: too sure\n", held)
    assert tagger("hold").out == held
    assert tagger("hold", "off").out == tagger("hold").out == "publishing\n"
    assert tagger("store", "verify").out.startswith("2 events")


def test_labels_are_pulled(tagger: Command) -> None:
    assert "there is no store" in tagger("data", "pull", "--out", "labels.csv").err
    tagger("store", "upgrade")
    told = tagger("data", "pull", "--out", "labels.csv")
    assert re.search(r"^labels.csv: 0 rows for training, version \w{12}$", told.out, re.M)
    assert Path("labels.sample.csv").read_text() == Path("labels.csv").read_text()


def test_wrong_settings_of_the_service_are_told_at_once(tagger: Command) -> None:
    Path("service.yaml").write_text("port: 99999\nhosts: []\n")
    told = tagger("store", "verify", "--config", "service.yaml")
    assert told.code == 2
    assert "port: found 99999" in told.err
    assert "hosts" in told.err


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_options_and_files(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", shell])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert all(word in shown for word in ("leaderboard", "--keep-columns", "optimize"))
    assert ("_files" if shell == "zsh" else "_shtab_compgen_files") in shown


def test_completion_without_shtab_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "bash"])
    assert end.value.code == 2
    assert "pip install shtab" in capsys.readouterr().err
