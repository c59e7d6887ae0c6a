"""A wheel works outside of the repository: configs, lists, templates and commands are in it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT
from tagger.runs import RunFolder

pytestmark = pytest.mark.slow

WORDS = {"fruit": "apple pear plum cherry grape", "metal": "iron copper zinc nickel silver"}
TRAINS = ("torch", "transformers", "scipy", "sklearn", "pandas", "pyarrow", "matplotlib", "onnx")
"""What `pip install tag-or-ask` leaves out."""

WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({TRAINS})); "
TAGGER = "from tagger.cli import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of a wheel, built from a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(REPO_ROOT / name, folder)
    kept = shutil.ignore_patterns("*.egg-info", "__pycache__")
    for name in ("src", "configs", "data"):
        shutil.copytree(REPO_ROOT / name, folder / name, ignore=kept)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(
    installed: Path, folder: Path, *arguments: object, before: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + TAGGER, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(installed)},
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_it_has_all_files_that_the_code_reads(installed):
    package = installed / "tagger"
    for path in (REPO_ROOT / "configs").rglob("*.yaml"):
        assert (package / "carried" / path.relative_to(REPO_ROOT)).is_file()
    ours = REPO_ROOT / "src" / "tagger"
    for path in ours.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (package / path.relative_to(ours)).is_file(), path
    assert not list(installed.rglob("*.csv"))


def test_a_two_column_file_is_trained_on_in_an_empty_folder(installed, tmp_path):
    rows = [
        f"{word} {other},{tag}" for tag, words in WORDS.items()
        for word in words.split() for other in words.split() if word < other
    ]  # fmt: skip
    (tmp_path / "items.csv").write_text("text,tag\n" + "\n".join(rows) + "\n")
    given = ["data=file", "data.path=items.csv", "data.tags=auto", "data.split.group=off"]
    done = run(installed, tmp_path, "train", *given, "model=linear", "name=words")
    assert done.returncode == 0, done.stderr
    assert "tagger evaluate run=" in done.stdout
    made = RunFolder(tmp_path / "runs" / "words")
    assert made.meta.environment.git is None
    asked = ("predict", "--run", "words", "--text", "zinc and iron")
    assert run(installed, tmp_path, *asked).stdout.splitlines()[0] == "metal"
    refused = run(installed, tmp_path, "init", "items.csv")
    assert refused.returncode == 2 and "data=file" in refused.stderr


def test_help_of_the_commands_that_hydra_reads_is_hydras(installed, tmp_path):
    done = run(installed, tmp_path, "train", "--help")
    assert done.returncode == 0 and "training" in done.stdout


def test_a_compressed_run_answers_without_what_training_takes(installed, tmp_path, copy_run):
    from tagger.compression.run_export import export_run
    from tagger.config.composition import compose_config, load_config
    from tagger.config.schema import ExportConfig

    whole = copy_run("whole")
    given = ["run=whole", f"runs_dir={whole.path.parent}", "compress=int8", "gate=false"]
    small = export_run(load_config(ExportConfig, compose_config("export", given))).folder
    done = run(installed, tmp_path, "predict", "--run", small, "--text", "apple", before=WITHOUT)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "fruit"), done.stderr
    (tmp_path / "in.csv").write_text("id,title\n1,apple\n2,iron\n")
    files = ("--input", "in.csv", "--output", "out.csv")
    done = run(installed, tmp_path, "predict", "--run", small, *files, before=WITHOUT)
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[1] for line in (tmp_path / "out.csv").read_text().splitlines()] == [
        "decision", "fruit", "metal",
    ]  # fmt: skip


def test_what_needs_torch_says_so_where_there_is_none(installed, tmp_path, tiny_run):
    asked = ("predict", "--run", tiny_run.path, "--text", "apple")
    done = run(installed, tmp_path, *asked, before=WITHOUT)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: this needs torch")
    assert "tag-or-ask[train]" in done.stderr
