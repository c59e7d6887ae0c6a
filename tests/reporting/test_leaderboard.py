import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tagger.cli import main
from tagger.errors import UserError
from tagger.evaluation.report import EvaluationReport, Score
from tagger.files import write_json
from tagger.leaderboard import Leaderboard
from tagger.reporting.leaderboard import print_leaderboard
from tagger.runs import RunFolder

GOLDEN = Path(__file__).parents[1] / "evaluation" / "golden" / "report.json"

CopyRun = Callable[..., RunFolder]


def write_report(run: RunFolder, macro_f1: float) -> None:
    report = EvaluationReport.read(GOLDEN)
    scores = {"macro_f1": macro_f1, "weighted_f1": macro_f1 + 0.01, "accuracy": macro_f1 + 0.02}
    changed = {k: Score(value=v, low=v - 0.1, high=v + 0.05) for k, v in scores.items()}
    overall = report.overall.model_copy(update={"num_samples": 12, **changed})
    latency = report.latency.model_copy(update={"p50_ms": 3.24})
    changed_report = report.model_copy(update={"overall": overall, "latency": latency})
    changed_report.write(run.path / "report.json")


def make(copy_run: CopyRun, name: str, macro_f1: float | None = None, **meta: Any) -> RunFolder:
    run = copy_run(name)
    write_json(run.path / "meta.json", run.meta.model_dump() | meta)
    if macro_f1 is not None:
        write_report(run, macro_f1)
    return run


@pytest.fixture
def board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def print_it() -> str:
        print_leaderboard(str(tmp_path / "runs"))
        return capsys.readouterr().out

    return print_it


def names_in(output: str) -> list[str]:
    return re.findall(r"\b(?:good|fair|poor|new|other)\b(?=.*toy|.*zoo)", output)


@pytest.mark.slow
def test_the_best_is_first_and_the_unevaluated_last(
    copy_run: CopyRun, board: Callable[[], str]
) -> None:
    make(copy_run, "fair", 0.7)
    make(copy_run, "good", 0.9)
    make(copy_run, "new")
    make(copy_run, "poor", 0.0)
    output = board()
    assert names_in(output) == ["good", "fair", "poor", "new"]
    (line,) = [line for line in output.splitlines() if "fair" in line]
    for cell in ("toy", "tiny", " 0 ", " 12 ", "0.700 .60-.75", "0.710", "0.720", "3.2"):
        assert cell in line
    (line,) = [line for line in output.splitlines() if line.split()[:1] == ["new"]]
    assert len(re.findall(r" - ", line + " ")) == 4
    assert "not evaluated; python evaluate.py run=" in output


def test_runs_on_other_data_are_ranked_apart(copy_run: CopyRun, board: Callable[[], str]) -> None:
    rows = {"train": 36, "validation": 12, "test": 12}
    make(copy_run, "fair", 0.7)
    make(copy_run, "good", 0.8)
    make(copy_run, "other", 0.99, data={"name": "toy", "sha256": "f" * 64, "rows": rows})
    make(copy_run, "poor", 0.6, data={"name": "zoo", "sha256": "f" * 64, "rows": rows})
    output = board()
    assert names_in(output) == ["good", "fair", "other", "poor"]
    assert "toy ffffffff" in output
    assert "zoo ffffffff" in output
    assert "their scores don't compare" in output


def test_runs_on_one_data_need_no_such_note(copy_run: CopyRun, board: Callable[[], str]) -> None:
    make(copy_run, "fair", 0.7)
    make(copy_run, "good", 0.8)
    assert "don't compare" not in board()
    assert "different rows" not in board()


def test_other_test_rows_of_one_data_are_pointed_out(
    copy_run: CopyRun, board: Callable[[], str]
) -> None:
    make(copy_run, "fair", 0.7)
    run = make(copy_run, "good", 0.8)
    path = run.path / "splits.csv"
    path.write_text(path.read_text().replace(",validation,", ",test,"))
    assert "tested on different rows" in board()


def test_unfinished_and_damaged_runs_are_listed_below(
    copy_run: CopyRun, board: Callable[[], str]
) -> None:
    make(copy_run, "good", 0.8)
    make(copy_run, ".replaced.old")
    stopped = make(copy_run, "stopped", status="running")
    (make(copy_run, "broken-meta").path / "meta.json").write_text("{")
    (make(copy_run, "no-config", 0.7).path / "config.yaml").unlink()
    (make(copy_run, "broken-report").path / "report.json").write_text('{"overall": {}}')
    (make(copy_run, "broken-splits").path / "splits.csv").unlink()
    make(copy_run, "broken-facts", seed="one")
    output = board()
    finished, _, rest = output.partition("Unfinished")
    unfinished, _, damaged = rest.partition("Damaged:")
    assert "good" in finished
    assert ".replaced.old" not in output
    assert "no-config" in finished  # it can be used all the same
    assert f"python train.py resume={stopped.path}" in unfinished
    for name in ("meta", "report", "splits", "facts"):
        assert f"broken-{name}" in damaged
        assert f"broken-{name}" not in finished + unfinished
    assert "seed: Input should be a valid integer" in damaged
    assert "python evaluate.py run=" in damaged  # a report can be made again


def test_an_empty_folder_is_no_error(board: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "runs" / "not-a-run").mkdir(parents=True)
    assert board() == f"No runs in {tmp_path / 'runs'} yet; python train.py makes one.\n"


def test_a_missing_folder_is_one(board: Callable[[], str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        board()
    (tmp_path / "runs").touch()
    with pytest.raises(UserError, match="there is no folder"):
        board()


def test_piped_output_has_whole_names_and_no_colours(
    copy_run: CopyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "a-very-long-name-" + "x" * 80
    make(copy_run, name, 0.5)
    make(copy_run, "[bold]markup :smile:", 0.6)
    shutil.rmtree(make(copy_run, "gone").path / "model")  # no matter for a list
    for variable in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)
    main(["leaderboard", "--runs-dir", str(tmp_path / "runs")])
    printed = capsys.readouterr()
    assert name in printed.out
    assert "[bold]markup :smile:" in printed.out
    assert "\x1b" not in printed.out
    assert "…" not in printed.out
    assert printed.err == ""
    assert max(len(line) for line in printed.out.splitlines()) < 400


def test_a_narrow_terminal_folds_names(
    copy_run: CopyRun, board: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(copy_run, "n" * 60, 0.5)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    output = board()
    assert output.count("n") >= 60
    assert "…" not in output


def change_config(run: RunFolder, **training: object) -> None:
    plain = yaml.safe_load((run.path / "config.yaml").read_text())
    plain["training"] |= training
    (run.path / "config.yaml").write_text(yaml.safe_dump(plain))


def test_programs_get_the_runs_that_fit_as_json(
    copy_run: CopyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(make(copy_run, "good", 0.9), lr=0.25, patience=None)
    change_config(make(copy_run, "new", seed=7), lr=0.25, patience=3)
    change_config(make(copy_run, "other", 0.8), lr=0.5)
    make(copy_run, "stopped", status="running")

    def runs(*where: str) -> list[str]:
        given = [part for one in where for part in ("--where", one)]
        main(["leaderboard", "--runs-dir", str(tmp_path / "runs"), "--json", *given])
        board = Leaderboard.parse(json.loads(capsys.readouterr().out), tmp_path)
        return [f"{Path(one.run).name} {one.macro_f1 and one.macro_f1.value}" for one in board.runs]

    assert runs() == ["good 0.9", "other 0.8", "new None"]
    assert runs("training.lr=0.25") == ["good 0.9", "new None"]
    assert runs("training.lr=0.25", "training.patience=null") == ["good 0.9"]
    assert runs("training.lr=0.*", "training.patience=3") == ["new None"]
    assert runs("training.lrr=0.25") == runs("training.lr=0.2") == []


def test_a_filter_that_is_no_key_and_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["leaderboard", "--where", "minilm"])
    assert end.value.code == 2
    assert "expected such as model.name=minilm" in capsys.readouterr().err


def test_the_settings_of_two_runs_that_differ_are_shown(
    copy_run: CopyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(copy_run("good"), lr=0.25, added_later=[1, "ü"])
    change_config(copy_run("fair"), lr=0.5)
    asked = ["leaderboard", "--runs-dir", str(tmp_path / "runs"), "--diff"]
    main([*asked, "good", "fair", "--json"])
    assert json.loads(capsys.readouterr().out) == {
        "training.added_later": [[1, "ü"], "-"], "training.lr": [0.25, 0.5],
    }  # fmt: skip
    main([*asked, "good", "fair"])
    shown = capsys.readouterr().out
    assert re.search(r"training\.lr +0\.25 +0\.5", shown) and "seed" not in shown
    main([*asked, "good", "good"])
    assert "the same" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main([*asked, "good", "far"])
    assert end.value.code == 2
