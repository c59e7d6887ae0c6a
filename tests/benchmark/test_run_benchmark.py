"""The whole measure on two small runs, in the processes that it starts for them."""

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tagger.benchmark import run_benchmark as module
from tagger.benchmark import timing
from tagger.benchmark.report import BenchmarkReport, Ratio
from tagger.benchmark.run_benchmark import benchmark, choose_texts, name_runs
from tagger.benchmark.timing import BLOCK
from tagger.cli import main
from tagger.errors import UserError
from tagger.reporting.benchmark import benchmark_page
from tagger.reporting.markdown import render_markdown
from tagger.runs import RunFolder

TEXTS = [(f"apple pear {number}", "iron and rain") for number in range(12)]


@pytest.fixture(scope="module")
def command(
    linear_run: RunFolder, tiny_run: RunFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Measures two runs by the command: its file, and what it printed."""
    folder = tmp_path_factory.mktemp("benchmark")
    texts = "".join(f"{n},apple pear {n},iron and rain\n" for n in range(len(TEXTS)))
    (folder / "items.csv").write_text(f"id,title,description\n{texts}", encoding="utf-8")
    out, printed = folder / "new" / "figures.json", io.StringIO()
    given = ["--runs-dir", tiny_run.path.parent, "--run", "tiny", "--run", linear_run.path]
    given += ["--data", folder / "items.csv", "--threads", 1, "--rounds", 2, "--out", out]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(module, "STARTS", 1)
        patch.setattr(timing, "SETTLE_SECONDS", 0)
        main(["benchmark", *map(str, given)])
    return out, printed.getvalue()


@pytest.fixture(scope="module")
def result(command: tuple[Path, str]) -> BenchmarkReport:
    return BenchmarkReport.read(command[0])


@pytest.mark.slow
def test_the_command_prints_and_writes(
    command: tuple[Path, str], result: BenchmarkReport, tmp_path: Path
) -> None:
    out, printed = command
    tables = render_markdown(benchmark_page(result), tmp_path)
    assert out.with_suffix(".md").read_text(encoding="utf-8") == tables
    assert "One item at a time, 1 thread" in printed
    assert printed.splitlines()[-2:] == [str(out), str(out.with_suffix(".md"))]


@pytest.mark.slow
def test_every_run_is_measured_in_every_way(result: BenchmarkReport, tiny_run: RunFolder) -> None:
    assert list(result.runs) == ["tiny", "linear"]
    for one in result.runs.values():
        measured = one.threads["1"]
        batch = measured.batch_1
        assert 0 < batch.p50_ms <= batch.p95_ms <= batch.p99_ms
        assert (batch.items, batch.p999_ms) == (2 * BLOCK, None)
        assert list(measured.lengths) == ["8", "16", "32", "64", "128"]
        assert all(0 < length.p50_ms <= length.p99_ms for length in measured.lengths.values())
        many = measured.throughput
        assert 0 < many.lowest <= many.items_per_second <= many.highest
        assert (many.items, many.rounds) == (12, 5)
    tiny = result.runs["tiny"]
    assert tiny.threads["1"].batch_1.ratio == Ratio(value=1, low=1, high=1)
    files = [path for path in (tiny_run.path / "model").rglob("*") if path.is_file()]
    assert tiny.mib == pytest.approx(sum(path.stat().st_size for path in files) / 2**20)
    assert result.settings.rounds == 2
    assert result.environment.hardware.cpu


@pytest.mark.slow
def test_a_cold_start_says_what_it_went_into(result: BenchmarkReport) -> None:
    approaches = {name: one.approach for name, one in result.runs.items()}
    assert approaches == {"tiny": "transformer", "linear": "linear"}
    starts = {name: one.cold_start for name, one in result.runs.items()}
    assert starts["tiny"].torch_imported is True
    assert starts["linear"].torch_imported is False
    for start in starts.values():
        parts = [getattr(start, f"{part}_ms") for part in ("start", "import", "load", "decide")]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(start.total_ms, rel=0.1)
    assert starts["tiny"].import_ms > starts["linear"].import_ms
    memory = {name: one.peak_memory_mib for name, one in result.runs.items()}
    assert 20 < memory["linear"] < memory["tiny"]


@pytest.mark.slow
def test_the_tables_hold_the_figures(result: BenchmarkReport, tmp_path: Path) -> None:
    text = render_markdown(benchmark_page(result), tmp_path)
    for title in ("One item at a time, 1 thread", "By number of words", "Many items a call"):
        assert f"## {title}" in text
    assert "times tiny" in text
    ratio = result.runs["linear"].threads["1"].batch_1.ratio
    assert f"{ratio.value:.3f} \\[{ratio.low:.3f}, {ratio.high:.3f}\\]" in text
    for line, one in zip(_rows(text, "By number of words"), result.runs.values(), strict=True):
        shown = [cell.split(" / ") for cell in line[1:]]
        for (p50, p99), times in zip(shown, one.threads["1"].lengths.values(), strict=True):
            assert float(p50.replace(",", "")) == pytest.approx(times.p50_ms, rel=0.05)
            assert float(p99.replace(",", "")) == pytest.approx(times.p99_ms, rel=0.05)
    for load, told in ((1.7, True), (0.1, False)):
        settings = result.settings.model_copy(update={"load_before": load})
        page = benchmark_page(result.model_copy(update={"settings": settings}))
        text = render_markdown(page, tmp_path)
        assert (f"kept {load} cores busy" in text) == ("disturbed" in text) == told


def _rows(text: str, title: str) -> list[list[str]]:
    """The cells of the table under a title, without its head."""
    _, _, after = text.partition(f"## {title}")
    lines = after.partition("\n## ")[0].splitlines()
    tables = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[2:]]


def test_runs_of_one_name_are_told_apart(
    copy_run: Callable[..., RunFolder], tiny_run: RunFolder, linear_run: RunFolder
) -> None:
    namesake = copy_run("tiny")
    assert name_runs([tiny_run, linear_run]) == ["tiny", "linear"]
    three = [tiny_run, linear_run, namesake]
    assert name_runs(three) == [str(run.path) for run in three]
    with pytest.raises(UserError, match="given twice"):
        name_runs([tiny_run, RunFolder(tiny_run.path / ".." / tiny_run.name)])


def test_texts_come_from_the_source_or_a_file(
    tiny_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = choose_texts(tiny_run, None)
    assert len(own) == 60
    assert all(title and description for title, description in own)
    file = tmp_path / "items.csv"
    file.write_text("id,title,description\na,one,two\nb,three,\nc,four,\n", encoding="utf-8")
    assert choose_texts(tiny_run, file) == [("one", "two"), ("three", ""), ("four", "")]
    monkeypatch.setattr(module, "MOST_TEXTS", 2)
    assert len(choose_texts(tiny_run, file)) == 2


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"texts": TEXTS[:9]}, "9 texts: at least 10"),
        ({"threads": [0]}, "--threads 0"),
        ({"threads": [1, 1]}, "--threads 1,1"),
        ({"threads": [10_000]}, "--threads 10000: this process may use"),
        ({"rounds": 0}, "--rounds 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    changed: dict[str, Any], named: str, tiny_run: RunFolder
) -> None:
    given = {"texts": TEXTS, "threads": [1], "rounds": 1} | changed
    with pytest.raises(UserError) as error:
        benchmark([tiny_run], given.pop("texts"), **given)
    (problem,) = error.value.problems
    assert named in problem


def test_all_mistakes_are_told_at_once(
    tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: 1)
    with pytest.raises(UserError) as error:
        benchmark([tiny_run], [], threads=[2], rounds=-1)
    assert len(error.value.problems) == 3


@pytest.mark.slow
def test_a_damaged_model_is_named_by_the_process_that_loads_it(
    copy_run: Callable[..., RunFolder],
) -> None:
    run = copy_run()
    (run.path / "model" / "head.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="the model is damaged or was changed"):
        benchmark([run], TEXTS, threads=[1], rounds=1)


def ended(arguments: Sequence[object]) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_the_command_refuses_what_it_cannot_do(
    linear_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["benchmark", "--run", linear_run.path]
    assert ended(["benchmark", "--run", "nowhere", "--runs-dir", tmp_path]) == 2
    assert "there is no run 'nowhere'" in capsys.readouterr().err
    assert ended([*run, "--run", linear_run.path]) == 2
    assert "given twice" in capsys.readouterr().err
    assert ended([*run, "--threads", "one"]) == 2
    assert "expected numbers like 1,2" in capsys.readouterr().err
    assert ended([*run, "--out", tmp_path / "figures.txt"]) == 2
    assert "ends in .json" in capsys.readouterr().err
    assert ended([*run, "--data", tmp_path / "none.csv"]) == 2
    assert "none.csv" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_interrupted_benchmark_leaves_nothing(
    linear_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "start_cold", interrupt)
    out = tmp_path / "figures.json"
    assert ended(["benchmark", "--run", linear_run.path, "--out", out]) == 130
    assert not list(tmp_path.iterdir())
