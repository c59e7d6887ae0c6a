"""Figures of RESULTS.md are made again by benchmarks/reproduce.py, every section by some stage."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tagger.errors import BAD_INPUT
from tagger.files import REPO_ROOT


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "reproduce", REPO_ROOT / "benchmarks" / "reproduce.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reproduce = load()
RESULTS = (REPO_ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^##+ (.*)\n((?:(?!##).*\n)*)", RESULTS, re.MULTILINE))
STAGES = reproduce.load_stages()


def plain(command: str) -> str:
    """A command on one line, without the words that follow it in RESULTS.md."""
    return " ".join(re.split(r" {3,}", command)[0].split())


def fenced_commands() -> list[str]:
    found = []
    for block in re.findall(r"^```\n(.*?)^```", RESULTS, re.DOTALL | re.MULTILINE):
        joined = re.sub(r"\\\n\s*", "", block)
        found += [plain(line) for line in joined.splitlines() if not line.startswith("#")]
    return found


def test_every_section_has_a_stage_and_every_stage_a_section() -> None:
    named = {section for stage in STAGES.values() for section in stage.sections}
    assert named <= {*SECTIONS}
    assert {*re.findall(r"^## (.*)$", RESULTS, re.MULTILINE)} <= named


def test_every_fenced_command_is_run_by_a_stage() -> None:
    assert len(fenced_commands()) > 25
    known = {plain(command) for stage in STAGES.values() for command in stage.commands}
    assert [one for one in fenced_commands() if one not in known] == []


def test_old_figures_are_those_of_the_section() -> None:
    rows = [(stage, row) for stage in STAGES.values() for row in stage.rows]
    assert len(rows) > 120
    for stage, row in rows:
        text = "".join(SECTIONS[section] for section in stage.sections)
        assert row.old in text, row.name
        assert stage.output is not None or row.pattern


def test_scripts_are_there_unless_they_are_said_to_be_gone() -> None:
    for stage in STAGES.values():
        for script in re.findall(r"benchmarks/\w+\.py", " ".join(stage.commands)):
            assert (REPO_ROOT / script).exists() == (not stage.gone)


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """Runs reproduce on stages of its own; returns its exit code and the comparison."""
    output = tmp_path / "output.json"
    row = {"name": "accuracy", "old": "0.90", "at": ["scores", "linear", 0], "within": 0.05}
    stage = {"sections": ["Gates"], "commands": ["true"], "output": str(output), "rows": [row]}

    def run(*arguments: str, new: object = 0.93, **changes: object) -> tuple[int, str]:
        output.write_text(json.dumps({"scores": {"linear": [new]}}))
        stages = tmp_path / "stages.yaml"
        stages.write_text(yaml.safe_dump({"stages": {"one": stage | changes}}))
        code = 0
        try:
            reproduce.main(["--stages", str(stages), "--out", str(tmp_path / "out"), *arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        text = tmp_path / "out" / "reproduced.md"
        return code, text.read_text() if text.exists() else ""

    return run


def test_old_stands_beside_new(made: Any) -> None:
    code, text = made()
    assert code == 0
    assert re.search(r"accuracy \| 0\.9 \| 0\.93 \| 0\.055 +\| yes", text)
    assert "commit" in text and "sha256 of data" in text and "true\n```" in text


def test_a_figure_that_may_have_been_rounded_to_the_old_one_is_within(made: Any) -> None:
    row = {"name": "rate", "old": "1.2 %", "at": ["scores", "linear", 0]}
    assert made(new=0.0115, rows=[row])[0] == 0


@pytest.mark.parametrize("new", [0.97, 0.84, None, "many", {}])
def test_what_is_off_or_not_there_is_said(made: Any, new: object) -> None:
    code, text = made(new=new)
    assert code == 1
    assert "**NO**" in text


def test_a_figure_can_be_what_the_command_of_this_time_printed(made: Any, tmp_path: Path) -> None:
    row = {"name": "kept", "old": "-0.93", "pattern": r"kept (\S+)", "within": 0.01}
    for printed, code in [("kept -0.925 of all", 0), ("lost", 1)]:
        commands = [f"echo {printed}"]
        assert made("--again", commands=commands, rows=[row])[0] == code
    assert "not found" in (tmp_path / "out" / "reproduced.md").read_text()


def test_a_figure_has_one_place() -> None:
    for places in [{}, {"at": ["x"], "pattern": "x"}]:
        with pytest.raises(ValueError, match="either `at` or `pattern`"):
            reproduce.Row(name="a", old="1", **places)


def test_a_finished_stage_is_not_run_again_unless_asked_to(made: Any, tmp_path: Path) -> None:
    command = f"echo once >> {tmp_path}/count"
    for arguments, runs in [((), 1), ((), 1), (("--again",), 2)]:
        made(*arguments, commands=[command])
        assert (tmp_path / "count").read_text().count("once") == runs


def test_a_stage_that_failed_or_was_killed_is_taken_up_again(made: Any, tmp_path: Path) -> None:
    command = f"echo tried >> {tmp_path}/count; test -e {tmp_path}/mended"
    code, text = made(commands=[command])
    assert code == 1
    assert "failed" in text
    state = tmp_path / "out" / "state.json"
    state.write_text(state.read_text().replace('"failed"', '"running"'))
    (tmp_path / "mended").touch()
    code, text = made(commands=[command])
    assert code == 0
    assert "finished" in text
    assert (tmp_path / "count").read_text().count("tried") == 2


def test_a_stage_waits_for_its_files_and_its_hours(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"cp dataset.csv {tmp_path}/copy"
    data = tmp_path / "a b.csv"
    data.write_text("rows")
    made(commands=[command])
    made("--budget", "1", f"--file=dataset.csv={data}", commands=[command], hours=2)
    assert not (tmp_path / "copy").exists()
    told = capsys.readouterr().out
    assert "left out: --file dataset.csv=PATH is not given" in told
    assert "left out: budget" in told

    code, text = made("--budget", "3", f"--file=dataset.csv={data}", commands=[command], hours=2)

    assert (code, (tmp_path / "copy").read_text()) == (0, "rows")
    assert "dataset.csv " in text


@pytest.mark.parametrize("argument", ["--only=two", "--file=items.csv=/", "--file=RUN=/no/such"])
def test_what_cannot_be_used_is_one_message(
    made: Any, capsys: pytest.CaptureFixture[str], argument: str
) -> None:
    assert made(argument)[0] == BAD_INPUT
    assert "error: " in capsys.readouterr().err


def test_tolerances_follow_the_spread() -> None:
    row = {"name": "a", "old": "1.39 %", "at": ["x.mean"]}
    rounding = reproduce.Row(**row)
    assert rounding.recorded() == pytest.approx((0.0139, 0.00005))
    assert rounding.tolerance() == pytest.approx(0.00005)
    assert rounding.find({"x": [1, 2]}, "") == 1.5
    assert reproduce.Row(**row, sd=0.01).tolerance() == pytest.approx(0.02828 + 0.00005, abs=1e-5)
    assert reproduce.Row(**row, share=0.5).tolerance() == pytest.approx(0.0139 / 2 + 0.00005)
    assert reproduce.Row(name="b", old="12,049", at=[0]).recorded() == (12049, 0.5)
