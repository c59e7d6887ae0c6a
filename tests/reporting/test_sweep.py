from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import OptimizeConfig
from tagger.environment import describe_environment
from tagger.reporting.sweep import report_sweep
from tagger.search.results import SweepResults
from tagger.search.space import SearchSpace
from tagger.search.summary import Confirmation, Score, SweepSummary, TrialResult

pytestmark = pytest.mark.slow

HTML = "<b>&bold</b>.csv"
SPACE = f"""
model:
  C: {{low: 0.1, high: 100.0, log: true}}
  balanced: {{choices: [true, false]}}
data: {{extra: {{choices: [[], ['{HTML}']]}}}}
training:
  loss: {{choices: [cross_entropy, focal]}}
  focal_gamma: {{low: 0.5, high: 4.0, when: {{training.loss: focal}}}}
"""
DEFAULT = {
    "model.C": 4.0, "model.balanced": True, "data.extra": [], "training.loss": "cross_entropy",
}  # fmt: skip
FOCAL = {**DEFAULT, "model.C": 1.0, "training.loss": "focal", "training.focal_gamma": 1.0}
CONFIRMATION = Confirmation(
    metric="weighted_f1", seeds=3, searched={"winner": 0.92, "default": 0.75},
    confirmed={"winner": 0.87, "default": 0.81}, gain=0.06, low=0.02, high=0.1, luck=0.03,
    proven=True,
)  # fmt: skip


def trial(
    number: int, scores: dict[str, float], chosen: dict[str, Any] = DEFAULT, **more: Any
) -> TrialResult:
    told: dict[str, Any] = {
        "state": "complete", "origin": "sampler", "folds": 2, "model_seconds": 5.0,
        "wall_seconds": 10.0, "worker": None, "error": None,
    }  # fmt: skip
    by_metric = {metric: Score(mean=value, error=0.02) for metric, value in scores.items()}
    return TrialResult(number=number, scores=by_metric, chosen=chosen, **{**told, **more})


@pytest.fixture(scope="module")
def config() -> OptimizeConfig:
    return load_config(OptimizeConfig, compose_config("optimize", ["model=linear"]))


def results_of(
    folder: Path, config: OptimizeConfig, trials: Sequence[TrialResult], **changes: Any
) -> SweepResults:
    space = SearchSpace.parse(yaml.safe_load(SPACE), config.base)
    values: dict[str, Any] = {
        "sweep": folder.name, "space": "mine", "objectives": ["weighted_f1"], "best": 1,
        "default": 0, "front": [], "states": {"complete": len(trials)}, "hours": 0.5,
        "overhead": 0.125, "importances": {}, "confirmation": None, "chosen": {},
        "environment": describe_environment(), "paragraph": "What was found.",
    }  # fmt: skip
    folder.mkdir()
    summary = SweepSummary(**{**values, **changes})
    return SweepResults(folder, config, space.parameters, summary, trials)


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
        if tag in ("tr", "h2"):
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.cells and self.cells[-1]:
            self.cells[-1][-1] += data.rstrip("\n")


TRIALS = [
    trial(0, {"weighted_f1": 0.75}, origin="default"),
    trial(1, {"weighted_f1": 0.92}, {**FOCAL, "data.extra": [HTML]}, worker="<i>host"),
    trial(2, {"weighted_f1": 0.95}, FOCAL, state="stopped early", folds=1),
    trial(3, {}, state="failed", folds=0, model_seconds=0.0,
          error="<script>alert('x')</script>\nat line 1"),
    trial(4, {"weighted_f1": 0.65}, {**DEFAULT, "model.C": 10.0}),
    trial(5, {"weighted_f1": 0.66}, {**DEFAULT, "model.C": 11.0}, state="running"),
]  # fmt: skip


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time of a report."""
    monkeypatch.setattr("tagger.reporting.sweep.sweep_figures", lambda _: {})


@pytest.fixture(scope="module")
def folder(config: OptimizeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a sweep that was reported; its name would be a tag of HTML."""
    folder = tmp_path_factory.mktemp("sweeps") / "<i>one"
    shares = {"model.C": 0.7, "training.loss": 0.3}
    report_sweep(results_of(folder, config, TRIALS, confirmation=CONFIRMATION, importances=shares))
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_report_is_a_page_and_its_figures(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "report.html", "plots/history.png", "plots/slices.png", "plots/parallel.png",
        "plots/importances.png",
    }  # fmt: skip


def test_the_page_needs_nothing_beside_itself(folder: Path, page: Page) -> None:
    assert len(page.links) == 4
    assert all(link.startswith("data:image/png;base64,iVBOR") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_shows_text_as_text(page: Page) -> None:
    assert not {"script", "b", "i"} & set(page.tags)
    texts = "".join(page.texts)
    assert f"['{HTML}']" in texts
    assert "trial 3 failed: <script>alert('x')</script>\nat line 1" in texts
    assert "<i>one/best.yaml'\"" in texts  # quoted for the shell


def test_the_page_ranks_trials_and_shows_what_they_chose(page: Page) -> None:
    head = ["trial", "state", "from", "weighted F1", "folds", "seconds"]
    start = next(at for at, cells in enumerate(page.cells) if cells[:6] == head)
    rows = [cells for cells in page.cells[start + 1 :] if len(cells) == len(page.cells[start])]
    assert [cells[0] for cells in rows] == ["1", "0", "4", "2", "5", "3"]
    assert rows[0][1:6] == ["complete", "sampler", "0.9200 ± 0.0200", "2", "5"]
    assert rows[1][2] == "default"
    assert rows[3][1] == "stopped early"
    assert rows[5][1:6] == ["failed", "sampler", "-", "0", "0"]
    chosen = dict(zip(page.cells[start][6:], rows[1][6:], strict=True))
    assert chosen == {
        "model.C": "4", "model.balanced": "True", "data.extra": "[]",
        "training.loss": "cross_entropy", "training.focal_gamma": "-",
    }  # fmt: skip


def test_the_page_shows_the_best_beside_the_default_and_what_held(page: Page) -> None:
    assert ["parameter", "best", "default", "variation explained"] in page.cells
    assert ["model.C", "1", "4", "70.0%"] in page.cells
    assert ["model.balanced", "True", "True", "-"] in page.cells
    assert ["winner", "0.9200", "0.8700"] in page.cells
    assert ["default", "0.7500", "0.8100"] in page.cells
    texts = "".join(page.texts)
    for number in ("What was found.", "+0.0600", "[+0.0200, +0.1000]", "+0.0300", "12.5%"):
        assert number in texts
    assert ["folds", "5, divided 1 time; seed 0"] in page.cells


@pytest.mark.usefixtures("no_figures")
def test_the_terminal_shows_the_paragraph_and_what_comes_next(
    config: OptimizeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    report_sweep(results_of(folder, config, TRIALS))
    assert capsys.readouterr().out.splitlines() == [
        "What was found.", str(folder / "report.html"),
        f"next: python train.py experiment={folder / 'best.yaml'}",
    ]  # fmt: skip


def test_a_front_has_a_table_and_a_figure(config: OptimizeConfig, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    trials = [
        trial(0, {"accuracy": 0.6, "mib": 20.0}, origin="default"),
        trial(1, {"accuracy": 0.8, "mib": 30.0}),
        trial(2, {"accuracy": 0.5, "mib": 25.0}),
        trial(3, {"accuracy": 0.4, "mib": 10.0}),
    ]
    results = results_of(folder, config, trials, objectives=["accuracy", "mib"], front=[0, 1, 3])
    (folder / "plots").mkdir()
    (folder / "plots/old.png").write_text("of an earlier report")
    report_sweep(results)
    assert (folder / "plots/front.png").exists()
    assert not (folder / "plots/old.png").exists()
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    head = next(
        at for at, cells in enumerate(page.cells) if cells[:3] == ["trial", "accuracy", "mib"]
    )
    assert [cells[:3] for cells in page.cells[head + 1 : head + 4]] == [
        ["1", "0.8", "30"], ["0", "0.6", "20"], ["3", "0.4", "10"],
    ]  # fmt: skip


@pytest.mark.usefixtures("no_figures")
def test_where_less_is_better_the_least_is_first(config: OptimizeConfig, tmp_path: Path) -> None:
    trials = [trial(number, {"aurc": score}) for number, score in enumerate((0.3, 0.1, 0.2))]
    report_sweep(results_of(tmp_path / "sweep", config, trials, objectives=["aurc"]))
    page = Page((tmp_path / "sweep/report.html").read_text(encoding="utf-8"))
    ranked = [cells[0] for cells in page.cells if len(cells) > 1 and cells[1] == "complete"]
    assert ranked == ["1", "2", "0"]


def test_a_sweep_of_one_trial_has_a_report(config: OptimizeConfig, tmp_path: Path) -> None:
    trials = [TRIALS[0], trial(1, {}, FOCAL, state="running", wall_seconds=None)]
    report_sweep(results_of(tmp_path / "sweep", config, trials, best=0))
    plots = sorted(path.name for path in (tmp_path / "sweep/plots").iterdir())
    assert plots == ["history.png", "parallel.png", "slices.png"]
