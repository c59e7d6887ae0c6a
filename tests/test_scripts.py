"""The start of the experiment scripts; that they start as processes is tested where they are."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tagger.config.composition import WHERE_TO_LOOK, config_groups
from tagger.config.schema import EvaluateConfig
from tagger.errors import UserError
from tagger.scripts import run_hydra_script

Script = Callable[..., int]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Runs a script with arguments, in a folder of its own, and returns its exit code."""

    def act(config: EvaluateConfig) -> None:
        if config.seed == 13:
            raise UserError("13 brings bad luck", ["seed: found 13"], "Take another.")
        if config.seed == 14:
            raise KeyError("a defect")
        print("ran", type(config).__name__, config.run, config.seed)

    def run(*arguments: str, name: str = "evaluate") -> int:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        try:
            run_hydra_script(name, act)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def test_the_function_gets_the_typed_config(
    script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert script("run=x", "seed=3") == 0
    assert capsys.readouterr().out == "ran EvaluateConfig x 3\n"
    assert not list(tmp_path.iterdir())  # no output folder


def test_all_mistakes_come_in_one_message(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("run=x", "resampels=5", "seed=-1", "data=nonsense") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "error: the config has mistakes:",
        "  - resampels: no such key (did you mean resamples?)",
        "  - data=nonsense: no such choice; there are file, gold, hub, mwml",
        "  - seed: found -1, expected greater than or equal to 0",
        WHERE_TO_LOOK,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_lists_the_choices(
    script: Script, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert script("--help", name=name) == 0
    shown = capsys.readouterr().out
    assert f"python {name}.py" in shown
    for group, choices in config_groups(name).items():
        assert group in shown
        # They stand on a line of their own, or after the group's name; in any order, none missing.
        lists = (line.rpartition(": ")[2].split(", ") for line in shown.splitlines())
        assert any(sorted(one.strip() for one in names) == choices for names in lists), group


@pytest.mark.slow
def test_help_lists_no_group_that_is_not_taken_and_shows_the_config_asked_for(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("model=tiny", "seed=41", "-h", name="train") == 0
    shown = capsys.readouterr().out
    listed = shown.split("GROUP/CHOICE.yaml)\n")[1].split("\n\n")[0]
    assert [line.split(":")[0] for line in listed.splitlines()] == sorted(config_groups("train"))
    assert "\nseed: 41\n" in shown and "\n  name: tiny\n" in shown
    assert script("--help", "model=nonsense", name="train") == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.slow
def test_configs_of_another_folder_are_found(
    script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    private = tmp_path / "private"
    for group, content in {"local": "runs_dir: mine", "experiment": "seed: 42"}.items():
        (private / group).mkdir(parents=True)
        (private / group / "default.yaml").write_text(f"# @package _global_\n{content}\n")
    given = ("--config-dir", str(private), "experiment=default", "--cfg", "job")
    assert script(*given, name="train") == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["runs_dir"], config["seed"]) == ("mine", 42)


def test_hydra_shows_the_config_instead_of_running(
    script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert script("--cfg", "job", "model=fast", "training.precision=fp32", name="train") == 0
    shown = capsys.readouterr()
    config = yaml.safe_load(shown.out)
    assert (config["model"]["name"], config["training"]["mixed_precision"]) == ("two-layer", "fp32")
    assert "note: model=fast is model=two-layer now" in shown.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_sweep_runs_one_job_a_value(
    script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert script("-m", "run=x,y", "seed=1,2", "runs_dir=kept") == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "ran EvaluateConfig x 1",
        "ran EvaluateConfig x 2",
        "ran EvaluateConfig y 1",
        "ran EvaluateConfig y 2",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]  # its note, among the runs


def test_a_sweep_refuses_bad_values_too(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("-m", "run=x", "seed=-1,-2") == 2
    assert "seed: found -1" in capsys.readouterr().err


def test_a_user_error_ends_in_its_message_alone(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("run=x", "seed=13") == 2
    shown = capsys.readouterr().err
    assert shown == "error: 13 brings bad luck\n  - seed: found 13\nTake another.\n"


def test_a_defect_keeps_its_traceback(script: Script) -> None:
    with pytest.raises(KeyError, match="a defect"):
        script("run=x", "seed=14")
