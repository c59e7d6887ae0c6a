import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.cli import main
from tagger.files import REPO_ROOT, write_json
from tagger.runs import RunFolder


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


@pytest.mark.parametrize(
    ("arguments", "tag"),
    [
        (["--title", "apple pear cherry"], "fruit"),
        (["--description", "iron copper steel"], "metal"),
        (["--title", "rain", "--description", "storm and thunder 🌩 雨"], "weather"),
        (["--title", "", "--description", "rain storm frost"], "weather"),
    ],
)
def test_one_item_gets_its_tags_best_first(
    tagger: Command, tiny_run: RunFolder, arguments: list[str], tag: str
) -> None:
    ended = tagger("predict", "--run", tiny_run.path, *arguments)
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0][0] == tag
    assert {name for name, _ in lines} == set(tiny_run.tags)
    numbers = [float(number) for _, number in lines]
    assert numbers == sorted(numbers, reverse=True)
    assert sum(numbers) == pytest.approx(1, abs=2e-4)


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


def test_one_item_and_a_file_get_the_same_numbers(
    tagger: Command, tiny_run: RunFolder, tmp_path: Path
) -> None:
    source = write_items(tmp_path / "in.csv")
    tagger("predict", "--run", tiny_run.path, "--input", source, "--output", tmp_path / "out.csv")
    ended = tagger("predict", "--run", tiny_run.path, "--title", "rain", "--description", "storm")
    alone = {name: float(number) for name, number in map(str.split, ended.out.splitlines())}
    with (tmp_path / "out.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[1]
    for tag in tiny_run.tags:
        assert float(row[tag]) == pytest.approx(alone[tag], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --title and/or --description, or --input and --output"),
        (["--title", "x", "--input", "a.csv"], "give either"),
        (["--title", "x", "--output", "a.csv"], "give either"),
        (["--input", "a.csv"], "--input and --output go together"),
        (["--output", "a.csv"], "--input and --output go together"),
        (["--title", ""], "neither title nor description"),
        (["--title", " \n", "--description", "\t"], "neither title nor description"),
        (["--title", "half \udce4 byte"], "not UTF-8"),
        (["--input", "none.csv", "--output", "out.csv"], "none.csv does not exist"),
        (["--input", "none.csv", "--output", "out.txt"], "the format is chosen by the ending"),
        (["--input", "none.csv", "--output", "out"], "the format is chosen by the ending"),
        (["--input", ".", "--output", "out.csv"], ". is a folder"),
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


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["predict"], ["predict", "--run"], ["predict", "--bogus", "1"]]
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
    assert "CSV, JSONL or Parquet" in tagger("predict", "--help").out


def test_bad_rows_are_all_listed(tagger: Command, tiny_run: RunFolder, tmp_path: Path) -> None:
    source = write_items(tmp_path / "in.csv", "id,title\n" + ",x\n" * 60)
    output = tmp_path / "out.csv"
    output.write_text("kept")
    ended = tagger("predict", "--run", tiny_run.path, "--input", source, "--output", output)
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert str(source) in lines[0]
    assert lines[1] == "  - row 1 (line 2): id is empty"
    assert "... and 10 more" in lines[51]
    assert output.read_text() == "kept"


def test_a_missing_run_is_named(tagger: Command, tiny_run: RunFolder) -> None:
    ended = tagger("predict", "--run", "tyny", "--runs-dir", tiny_run.path.parent, "--title", "x")
    assert ended.code == 2
    assert "there is no run 'tyny'" in ended.err
    assert "Did you mean tiny?" in ended.err


def test_an_unfinished_run_says_how_to_go_on(
    tagger: Command, copy_run: Callable[..., RunFolder]
) -> None:
    run = copy_run()
    write_json(run.path / "meta.json", run.meta | {"status": "running"})
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


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_named(
    tagger: Command, tiny_run: RunFolder, tmp_path: Path
) -> None:
    """A limit on the size of files stands for a full disk where none can be mounted."""
    rows = "".join(f"{number},apple,\n" for number in range(1100))
    source = write_items(tmp_path / "in.csv", f"id,title,description\n{rows}")
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from tagger.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "main(sys.argv[1:])\n"
    )
    output = tmp_path / "out.csv"
    output.write_text("kept")
    arguments = ["predict", "--run", str(tiny_run.path), "--input", str(source)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--output", str(output)],
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "grew past what the system allows" in done.stderr
    assert "Traceback" not in done.stderr
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
