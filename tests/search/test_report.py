import json
import threading
import time
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from optuna.study import Study
from optuna.trial import TrialState

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import OptimizeConfig, TrainConfig
from tagger.search.confirm import Confirmation, describe
from tagger.search.report import overhead, tell, write_results
from tagger.search.space import SearchSpace

PRUNED, FAIL, RUNNING = TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
StudyOf = Callable[..., Study]
MakeConfig = Callable[..., OptimizeConfig]

HTML = "<b>&bold</b>.csv"
SPACE = f"""
model:
  strength: {{low: 0.1, high: 100.0, log: true}}
  balanced: {{choices: [true, false]}}
data: {{extra: {{choices: [[], ['{HTML}']]}}}}
training:
  loss: {{choices: [cross_entropy, focal]}}
  focal_gamma: {{low: 0.5, high: 4.0, when: {{training.loss: focal}}}}
"""
DEFAULT = {
    "model.C": 4.0, "model.balanced": True, "data.extra": [],
    "training.loss": "cross_entropy",
}  # fmt: skip
FOCAL = {**DEFAULT, "model.C": 1.0, "training.loss": "focal", "training.focal_gamma": 1.0}


@pytest.fixture(scope="module")
def space(sweep_config: MakeConfig) -> SearchSpace:
    return SearchSpace.parse(yaml.safe_load(SPACE), sweep_config(Path("sweeps")).base)


def confirmation(**changes: Any) -> Confirmation:
    values = {
        "metric": "weighted_f1", "seeds": 3, "searched": {"winner": 0.9, "default": 0.8},
        "confirmed": {"winner": 0.87, "default": 0.81}, "gain": 0.06, "low": 0.02, "high": 0.1,
    }  # fmt: skip
    return Confirmation(**{**values, **changes})


def row(number: int, score: float | None, **more: Any) -> dict[str, Any]:
    told = {
        "number": number, "state": "complete", "origin": "sampler", "weighted_f1": score,
        "weighted_f1_error": 0.01, "folds": 3, "training.focal_gamma": None, **DEFAULT,
    }  # fmt: skip
    return told | more


ROWS = [row(0, 0.8, origin="default"), row(1, 0.9, **FOCAL), row(2, 0.7)]


def summary(**changes: Any) -> dict[str, Any]:
    values = {
        "objectives": ["weighted_f1"], "best": 1, "default": 0, "front": [],
        "states": {"complete": 3}, "hours": 0.5, "importances": {}, "confirmation": None,
    }  # fmt: skip
    return {**values, **changes}


def test_all_that_is_known_is_told_in_one_paragraph(space: SearchSpace) -> None:
    told = summary(
        states={"complete": 3, "stopped early": 2, "failed": 1},
        importances={"model.C": 0.72, "training.loss": 0.2, "model.balanced": 0.08},
        confirmation=describe(confirmation()),
    )
    rows = [*ROWS, row(3, 0.5, state="stopped early"), row(4, None, state="failed")]
    assert tell(told, rows, space) == (
        "Of 5 trials in 30 min 3 were judged on all folds, 2 were stopped early, 1 failed. "
        "The best is trial 1, with weighted f1 0.9000 ± 0.0100 over 3 folds; the default config "
        "has 0.8000 ± 0.0100. "
        "What mattered most: model.C (72% of the variation, from 1 to 4 in the best 3 "
        "trials); training.loss (20% of the variation, mostly cross_entropy in the best 3 trials). "
        "On 3 fresh seeds the winner has weighted f1 0.8700 and the default 0.8100: a difference "
        "of +0.0600, 95 % interval [+0.0200, +0.1000], which is more than chance makes. The search "
        "had promised +0.1000, of which +0.0400 was luck; the winner's own score was 0.9000 there, "
        "an optimism of +0.0300."
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"best": 0}, "The best is trial 0, with weighted f1 0.8000 ± 0.0100 over 3 folds: the "
         "default config, which no trial surpassed."),
        ({"default": None}, "over 3 folds; the default config was not judged."),
        ({"default": 9}, "over 3 folds; the default config was not judged."),
        ({}, "There are too few trials, or too little between them, to say what mattered. The "
         "winner was not confirmed on fresh seeds, so part of this is luck."),
        ({"hours": 0.001}, "Of 3 trials in 4 seconds 3 were judged on all folds."),
        ({"hours": 1.9}, "Of 3 trials in 114 min 3 were judged"),
        ({"hours": 12.34}, "Of 3 trials in 12.3 hours 3 were judged"),
        ({"states": {"complete": 1, "stopped early": 2}}, "1 were judged on all folds, 2 were "
         "stopped early."),
        ({"states": {"complete": 2, "failed": 1}}, "2 were judged on all folds, 1 failed."),
        ({"objectives": ["weighted_f1", "p50_ms"], "front": [0, 1]}, "2 trials are on the Pareto "
         "front of weighted f1, p50 ms: for each of them, nothing is better in one without being "
         "worse in another."),
    ],
)  # fmt: skip
def test_each_outcome_has_its_sentence(
    space: SearchSpace, changes: dict[str, Any], text: str
) -> None:
    assert text in tell(summary(**changes), ROWS, space)


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"best": 0}, "luck"),  # there is nothing to confirm
        ({"default": None}, "luck"),
        ({"objectives": ["weighted_f1", "mib"], "front": [1]}, "Pareto"),
        ({}, "stopped early"),
        ({}, "failed"),
    ],
)
def test_what_is_not_so_is_not_told(
    space: SearchSpace, changes: dict[str, Any], absent: str
) -> None:
    assert absent not in tell(summary(**changes), ROWS, space)


def test_one_trial_is_no_trials(space: SearchSpace) -> None:
    told = tell(summary(best=0, states={"complete": 1}), ROWS[:1], space)
    assert told.startswith("Of 1 trial in 30 min 1 were judged on all folds.")


@pytest.mark.parametrize(
    ("changes", "verdict", "luck"),
    [
        ({}, "which is more than chance makes", "+0.0300"),
        ({"low": -0.01}, "which may be chance", "+0.0300"),
        ({"gain": -0.02, "low": -0.05, "high": 0.01}, "which may be chance", "+0.0300"),
        ({"gain": -0.05, "low": -0.09, "high": -0.01}, "so the default is the better one",
         "+0.0300"),
        ({"confirmed": {"winner": 0.92, "default": 0.8}}, "which is more than chance makes",
         "-0.0200"),
        # Where less is better, all of it turns round.
        ({"metric": "aurc", "gain": -0.05, "low": -0.09, "high": -0.01},
         "which is more than chance makes", "-0.0300"),
        ({"metric": "aurc", "gain": -0.05, "low": -0.09, "high": 0.01}, "which may be chance",
         "-0.0300"),
        ({"metric": "aurc"}, "so the default is the better one", "-0.0300"),
    ],
)  # fmt: skip
def test_the_verdict_is_that_of_the_interval(
    space: SearchSpace, changes: dict[str, Any], verdict: str, luck: str
) -> None:
    told = tell(summary(confirmation=describe(confirmation(**changes))), ROWS, space)
    assert f"], {verdict}." in told
    assert told.endswith(f" there, an optimism of {luck}.")


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, "promised +0.1000, of which +0.0400 was luck;"),
        ({"gain": 0.12}, "promised +0.1000, which held;"),
        ({"metric": "aurc"}, "promised +0.1000, which held;"),
        ({"metric": "aurc", "gain": 0.12}, "promised +0.1000, of which -0.0200 was luck;"),
    ],
)
def test_a_promise_holds_or_was_luck(
    space: SearchSpace, changes: dict[str, Any], kept: str
) -> None:
    assert kept in tell(summary(confirmation=describe(confirmation(**changes))), ROWS, space)


def test_one_fresh_seed_is_no_seeds(space: SearchSpace) -> None:
    told = tell(summary(confirmation=describe(confirmation(seeds=1))), ROWS, space)
    assert "On 1 fresh seed the winner" in told


def sixteen(metric: str = "weighted_f1") -> list[dict[str, Any]]:
    """Of 16 trials the last 4 have the highest scores; of those only the last is focal."""
    rows = []
    for number in range(16):
        chosen = {
            "model.C": number + 1.0, "model.balanced": number < 13,
            "data.extra": [HTML] if number in (12, 13, 15) else [],
            "training.loss": "focal" if number == 15 else "cross_entropy",
            "training.focal_gamma": 2.5 if number == 15 else None,
        }  # fmt: skip
        scores = {metric: 0.5 + number / 100, f"{metric}_error": 0.0}
        rows.append(row(number, None, **chosen, **scores))
    return rows


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("model.C", "from 13 to 16"),
        ("model.balanced", "mostly False"),
        ("data.extra", f"mostly ['{HTML}']"),
        ("training.loss", "mostly cross_entropy"),
        ("training.focal_gamma", "from 2.5 to 2.5"),
    ],
)
def test_what_mattered_is_told_with_the_values_of_the_best_quarter(
    space: SearchSpace, path: str, where: str
) -> None:
    told = tell(summary(best=15, importances={path: 0.6}), sixteen(), space)
    assert f"most: {path} (60% of the variation, {where} in the best 4 trials)." in told


def test_where_less_is_better_the_best_have_the_least(space: SearchSpace) -> None:
    told = summary(best=0, objectives=["aurc"], importances={"model.C": 1.0})
    assert "from 1 to 4 in the best 4 trials" in tell(told, sixteen("aurc"), space)


def test_of_a_parameter_that_no_good_trial_had_no_values_are_told(space: SearchSpace) -> None:
    told = summary(best=14, importances={"training.focal_gamma": 0.6})
    assert "training.focal_gamma (60% of the variation)." in tell(told, sixteen()[:15], space)


def test_small_shares_are_left_out_but_for_the_largest(space: SearchSpace) -> None:
    shares = {"model.C": 0.09, "model.balanced": 0.08}
    told = tell(summary(best=15, importances=shares), sixteen(), space)
    assert "most: model.C (9% of the variation" in told
    assert "model.balanced" not in told


@pytest.mark.parametrize("state", ["stopped early", "running"])
def test_a_lucky_first_fold_makes_no_good_trial(space: SearchSpace, state: str) -> None:
    """A trial that was stopped was clearly worse than the best, whatever its few folds gave."""
    lucky = [row(16 + n, 0.99, state=state, folds=1, **{"model.C": 90.0}) for n in range(2)]
    told = summary(best=15, importances={"model.C": 0.6})
    assert "from 13 to 16 in the best 4 trials" in tell(told, [*sixteen(), *lucky], space)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(8.0, 10.0, "complete"), (1.0, 2.0, "stopped early")], 0.25),
        ([(8.0, 10.0, "complete"), (0.0, 90.0, "failed"), (5.0, None, "running")], 0.2),
        ([(0.0, 90.0, "failed")], None),
        ([], None),
    ],
)
def test_overhead_is_the_time_that_is_neither_training_nor_prediction(
    rows: list[tuple[float, float | None, str]], expected: float | None
) -> None:
    plain = [
        dict(zip(("model_seconds", "wall_seconds", "state"), one, strict=True)) for one in rows
    ]
    assert overhead(plain) == (None if expected is None else pytest.approx(expected))


class Page(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.cells and self.cells[-1]:
            self.cells[-1][-1] += data.rstrip("\n")


@pytest.fixture(scope="module")
def sweep(
    sweep_config: MakeConfig,
    space: SearchSpace,
    study_of: StudyOf,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    """The folder of a sweep, and what was said of it.

    It has a default, a better trial, one that was stopped early, one that failed, and four others.
    """
    others = [
        {"chosen": {**DEFAULT, "model.C": 10.0 + n}, "scores": [0.6, 0.7 + n / 100]}
        for n in range(4)
    ]
    study = study_of(
        space,
        ["weighted_f1"],
        {"chosen": DEFAULT, "scores": [0.7, 0.8], "origin": "default"},
        {"chosen": {**FOCAL, "data.extra": [HTML]}, "scores": [0.9, 0.94], "worker": "<i>host"},
        {"chosen": FOCAL, "scores": [0.95], "state": PRUNED},
        {"chosen": DEFAULT, "state": FAIL, "error": "<script>alert('x')</script>\nat line 1"},
        *others,
    )
    folder = tmp_path_factory.mktemp("sweeps") / "one"
    config = sweep_config(folder, "sweeps_dir='<i>sweeps'")
    return folder, write_results(folder, config, space, study, confirmation())


@pytest.fixture(scope="module")
def page(sweep: tuple[Path, str]) -> Page:
    return Page((sweep[0] / "report.html").read_text(encoding="utf-8"))


def test_a_sweep_leaves_its_winner_its_trials_and_a_page(sweep: tuple[Path, str]) -> None:
    folder, said = sweep
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "best.yaml", "trials.parquet", "summary.json", "report.html", "plots/history.png",
        "plots/slices.png", "plots/parallel.png", "plots/importances.png",
    }  # fmt: skip
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (found["sweep"], found["space"]) == ("one", "linear")
    assert (found["best"], found["default"], found["front"]) == (1, 0, [])
    assert found["states"] == {"complete": 6, "stopped early": 1, "failed": 1}
    assert found["chosen"] == {**FOCAL, "data.extra": [HTML]}
    assert found["confirmation"] == describe(confirmation())
    assert found["importances"].keys() == DEFAULT.keys()
    assert found["overhead"] == pytest.approx(1 - (6 * 5 + 2.5) / 70)
    assert found["hours"] == pytest.approx(80 / 3600)
    assert said.splitlines() == [
        found["paragraph"], str(folder / "report.html"),
        f"next: python train.py experiment={folder / 'best.yaml'}",
    ]  # fmt: skip
    assert "The best is trial 1, with weighted f1 0.9200 ± 0.0200 over 2 folds" in said
    table = pd.read_parquet(folder / "trials.parquet")
    assert table["number"].tolist() == list(range(8))
    assert json.loads(table["data.extra"][1]) == [HTML]


def test_the_winner_is_an_experiment(sweep: tuple[Path, str], space: SearchSpace) -> None:
    path = sweep[0] / "best.yaml"
    assert recipe(path) == space.apply({**FOCAL, "data.extra": [HTML]})
    assert path.read_text(encoding="utf-8").splitlines()[1:3] == [
        "# Trial 1 of the sweep one: weighted_f1 0.9200.",
        f"# python train.py experiment={path}",
    ]


def recipe(path: Path) -> TrainConfig:
    return load_config(TrainConfig, compose_config("train", [f"experiment={path}"]))


def test_the_page_needs_nothing_beside_itself(sweep: tuple[Path, str], page: Page) -> None:
    assert len(page.links) == 4
    assert all(link.startswith("data:image/png;base64,iVBOR") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    text = (sweep[0] / "report.html").read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_shows_text_as_text(page: Page) -> None:
    assert not {"script", "b", "i"} & set(page.tags)
    texts = "".join(page.texts)
    assert f"['{HTML}']" in texts
    assert "trial 3 failed: <script>alert('x')</script>\nat line 1" in texts
    assert "\"experiment='<i>sweeps/one/best.yaml'\"" in texts  # quoted for the shell


def test_the_page_ranks_trials_and_shows_what_they_chose(page: Page) -> None:
    head = ["trial", "state", "from", "weighted f1", "folds", "seconds"]
    start = next(at for at, cells in enumerate(page.cells) if cells[:6] == head)
    rows = [cells for cells in page.cells[start + 1 :] if len(cells) == len(page.cells[start])]
    assert [cells[0] for cells in rows] == ["1", "0", "7", "6", "5", "4", "2", "3"]
    assert rows[0][1:6] == ["complete", "sampler", "0.9200 ± 0.0200", "2", "5"]
    assert rows[1][2] == "default"
    assert rows[6][1] == "stopped early"
    assert rows[7][1:6] == ["failed", "sampler", "-", "0", "0"]
    chosen = dict(zip(page.cells[start][6:], rows[1][6:], strict=True))
    assert chosen == {
        "model.C": "4", "model.balanced": "True", "data.extra": "[]",
        "training.loss": "cross_entropy", "training.focal_gamma": "-",
    }  # fmt: skip
    texts = "".join(page.texts)
    for number in ("+0.0600", "[+0.0200, +0.1000]", "0.8700", "0.8100", "+0.0300"):
        assert number in texts


def two_objectives(study_of: StudyOf, space: SearchSpace) -> Study:
    def told(score: float, size: float, strength: float, **more: Any) -> dict[str, Any]:
        scores = [{"accuracy": score - 0.1}, {"accuracy": score + 0.1, "mib": size}]
        return {"chosen": {**DEFAULT, "model.C": strength}, "scores": scores, **more}

    return study_of(
        space,
        ["accuracy", "mib"],
        told(0.6, 20.0, 4.0, origin="default"),
        told(0.8, 30.0, 8.0),
        told(0.5, 25.0, 9.0),
        told(0.4, 10.0, 0.5),
    )


def test_each_trial_of_a_front_is_an_experiment(
    sweep_config: MakeConfig, space: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    config = sweep_config(tmp_path, "search.objectives=[accuracy,mib]", "search.pruner=none")
    folder = tmp_path / "sweep"
    study = two_objectives(study_of, space)
    for stale in ("front/0002.yaml", "plots/old.png"):
        (folder / stale).parent.mkdir(parents=True)
        (folder / stale).write_text("of an earlier report")
    said = write_results(folder, config, space, study, None)
    assert "3 trials are on the Pareto front of accuracy, mib" in said
    assert "The best is trial 1, with accuracy 0.8000" in said
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["best"], summary["front"]) == (1, [0, 1, 3])
    front = {path.name: recipe(path) for path in sorted((folder / "front").iterdir())}
    assert list(front) == ["0000.yaml", "0001.yaml", "0003.yaml"]
    for name, strength in {"0000.yaml": 4.0, "0001.yaml": 8.0, "0003.yaml": 0.5}.items():
        assert front[name] == space.apply({**DEFAULT, "model.C": strength})
    assert recipe(folder / "best.yaml") == front["0001.yaml"]
    assert "accuracy 0.8000, mib 30.0000." in (folder / "best.yaml").read_text(encoding="utf-8")
    assert (folder / "plots/front.png").exists()
    assert not (folder / "plots/old.png").exists()
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    head = next(
        at for at, cells in enumerate(page.cells) if cells[:3] == ["trial", "accuracy", "mib"]
    )
    assert [cells[:3] for cells in page.cells[head + 1 : head + 4]] == [
        ["1", "0.8", "30"], ["0", "0.6", "20"], ["3", "0.4", "10"],
    ]  # fmt: skip


def test_where_less_is_better_the_least_wins(
    sweep_config: MakeConfig, space: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    config = sweep_config(tmp_path, "search.objectives=[aurc]", "search.pruner=none")
    told = [
        {"chosen": {**DEFAULT, "model.C": strength}, "scores": [score]}
        for strength, score in {4.0: 0.3, 5.0: 0.1, 6.0: 0.2}.items()
    ]
    study = study_of(space, ["aurc"], *told)
    said = write_results(tmp_path / "sweep", config, space, study, None)
    assert "The best is trial 1, with aurc 0.1000" in said
    assert recipe(tmp_path / "sweep/best.yaml") == space.apply(told[1]["chosen"])
    page = Page((tmp_path / "sweep/report.html").read_text(encoding="utf-8"))
    ranked = [cells[0] for cells in page.cells if len(cells) > 1 and cells[1] == "complete"]
    assert ranked == ["1", "2", "0"]


def test_a_sweep_of_one_trial_has_a_report(
    sweep_config: MakeConfig, space: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    study = study_of(
        space,
        ["weighted_f1"],
        {"chosen": DEFAULT, "scores": [0.7], "origin": "default"},
        {"chosen": FOCAL, "state": RUNNING},
    )
    said = write_results(tmp_path / "sweep", sweep_config(tmp_path), space, study, None)
    assert "the default config, which no trial surpassed. There are too few trials" in said
    plots = sorted(path.name for path in (tmp_path / "sweep/plots").iterdir())
    assert plots == ["history.png", "parallel.png", "slices.png"]


def test_two_commands_may_come_to_the_end_of_a_sweep_together(
    sweep_config: MakeConfig,
    space: SearchSpace,
    study_of: StudyOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = study_of(space, ["weighted_f1"], {"chosen": DEFAULT, "scores": [0.7]})
    at_work: list[str] = []

    def write_plots(*_: object) -> list[tuple[Path, str]]:
        at_work.append("begun")
        time.sleep(0.2)
        at_work.append("done")
        return []

    monkeypatch.setattr("tagger.search.report._write_plots", write_plots)
    config, folder = sweep_config(tmp_path), tmp_path / "sweep"
    arguments = (folder, config, space, study, None)
    writers = [threading.Thread(target=write_results, args=arguments) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert at_work == ["begun", "done"] * 3
    assert not list(folder.glob(".*"))


def test_folds_of_an_earlier_worker_are_not_time_of_the_trial(
    sweep_config: MakeConfig, space: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    """A trial that goes on where a killed worker stopped brings its folds, not its hours."""
    study = study_of(
        space,
        ["weighted_f1"],
        {"chosen": DEFAULT, "scores": [0.7, 0.7], "state": FAIL},
        {
            "chosen": DEFAULT,
            "scores": [0.7] * 3,
            "wall": 3.0,
            "taken_over": 2,
            "system": {"retry_history": [0]},
        },
        {"chosen": FOCAL, "scores": [0.6] * 3},
    )
    write_results(tmp_path / "sweep", sweep_config(tmp_path), space, study, None)
    found: Mapping[str, Any] = json.loads((tmp_path / "sweep/summary.json").read_text())
    assert 0 < found["overhead"] < 0.5
