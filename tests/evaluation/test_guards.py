import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tagger.config import EvaluateConfig, TrainConfig, compose_config, load_config
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.guards import (
    ALL_ROWS,
    REGRESSED,
    check_guards,
    guarded_parts,
    regressions,
)
from tagger.files import REPO_ROOT
from tagger.runs import RunFolder
from tagger.training.train_run import train

N = 200
TRUE = np.arange(N) % 2


def parts(n: int) -> dict[str, np.ndarray]:
    masks = {f"part {at}": np.arange(N) % n == at for at in range(n)}
    return {ALL_ROWS: np.ones(N, dtype=bool), **masks}


def test_a_part_that_fell_is_found_though_the_whole_rose() -> None:
    theirs = np.where(np.arange(N) % 10 == 1, 1 - TRUE, TRUE)  # one part of ten all wrong
    ours = np.where(np.arange(N) % 10 == 2, 1 - TRUE, TRUE)  # another one
    found = {one["name"]: one for one in check_guards(parts(10), TRUE, ours, theirs)}
    assert [name for name, one in found.items() if one["worse"]] == ["part 2"]
    assert (found["part 2"]["broken"], found["part 2"]["fixed"]) == (20, 0)
    assert (found["part 1"]["broken"], found["part 1"]["fixed"]) == (0, 20)
    assert found[ALL_ROWS]["p_value"] == 1.0


def test_p_values_are_mcnemars_adjusted_by_holm() -> None:
    theirs = TRUE.copy()
    ours = TRUE.copy()
    ours[:6] = 1 - TRUE[:6]  # six broken among the first rows
    masks = {"first": np.arange(N) < 10, "rest": np.arange(N) >= 10}
    first, rest = check_guards(masks, TRUE, ours, theirs)
    assert first["p_value"] == pytest.approx(2 * 0.5**6)
    assert rest["p_value"] == 1.0
    assert first["worse"] and not rest["worse"]
    (alone,) = check_guards({"first": masks["first"]}, TRUE, ours, theirs)
    assert alone["p_value"] == pytest.approx(0.5**6)


def test_runs_that_differ_by_luck_are_rarely_refused() -> None:
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        one, other = (np.where(random.random(N) < 0.9, TRUE, 1 - TRUE) for _ in range(2))
        refused += any(part["worse"] for part in check_guards(parts(12), TRUE, one, other))
    assert refused <= 16  # 5 % of 200, and what chance allows above it


def test_parts_are_all_rows_slices_and_tags() -> None:
    items = [Item("1", "a library", "", tag="x"), Item("2", "b", "words and words", tag="y")]
    masks = guarded_parts(items, ["x", "y", "z"], {"x": 5, "y": 5, "z": 5}, None)
    assert masks[ALL_ROWS].tolist() == [True, True]
    assert masks["x"].tolist() == [True, False]
    assert masks["no description"].tolist() == [True, False]
    assert not masks["z"].any()
    chosen = guarded_parts(items, ["x", "y"], {"x": 5, "y": 5}, ["y", "no description"])
    assert list(chosen) == ["y", "no description"]


def test_names_of_no_part_are_listed() -> None:
    with pytest.raises(UserError, match="parts that there are not") as error:
        guarded_parts([Item("1", "a", "", tag="x")], ["x", "y"], {"x": 1, "y": 1}, ["mlpos"])
    assert error.value.problems == ("mlpos",)
    assert "all rows" in error.value.hint


def test_a_run_is_refused_for_what_it_broke(
    copy_run: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = copy_run("ours"), copy_run("theirs")
    given = [f"run={ours.path}", f"against={theirs.path}", "resamples=100", "latency.items=10"]

    def evaluate(*more: str) -> dict:
        return evaluate_run(
            load_config(EvaluateConfig, compose_config("evaluate", [*given, *more]))
        )

    assert regressions(evaluate()) == []
    assert "none worse beyond chance" in capsys.readouterr().out
    report = evaluate("guard=[fruit]")
    assert [one["name"] for one in report["comparison"]["guards"]] == ["fruit"]
    report["comparison"]["guards"][0] |= {"worse": True, "broken": 9, "p_value": 0.002}
    (line,) = regressions(report)
    assert line.startswith("worse than theirs: fruit, 9 broken and 0 fixed of")
    assert evaluate("guard=[]")["comparison"]["guards"] == []
    assert regressions({"comparison": None}) == []


@pytest.mark.slow
def test_the_command_ends_with_code_3(
    tiny_config: Callable[..., TrainConfig], tiny_run: RunFolder, tmp_path: Path
) -> None:
    untaught = ("training.epochs=1", "training.lr=1e-6", "training.head_lr=1e-6")
    worse = train(
        tiny_config("name=worse", f"runs_dir={tmp_path}", *untaught, "training.head_init=random")
    )
    command = [sys.executable, str(REPO_ROOT / "evaluate.py"), "latency.items=10", "resamples=100"]
    against = subprocess.run(
        [*command, f"run={worse}", f"against={tiny_run.path}", "guard=['all rows']"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert against.returncode == REGRESSED, against.stderr
    assert "worse than tiny: all rows" in against.stderr
    assert "report.html" in against.stdout
    alone = subprocess.run(
        [*command, f"run={worse}", f"against={tiny_run.path}", "guard=[]"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
