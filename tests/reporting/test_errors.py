import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.cli import main
from tagger.evaluation.report import ErrorGroup, Errors, EvaluationReport, Score, WrongItem
from tagger.files import write_json
from tagger.reporting.errors import print_errors
from tagger.runs import RunFolder

Tagger = Callable[..., tuple[int, str, str]]

GOLDEN = Path(__file__).parents[1] / "evaluation" / "golden" / "report.json"


def error(**changes: Any) -> WrongItem:
    given: dict[str, Any] = {
        "id": "i7",
        "title": "Ripe plums",
        "description": "all about them",
        "true": "plums",
        "predicted": "apples",
        "probability": 0.98765,
        "suspected_label_error": False,
        "nearest_items": [{"title": "Green apples", "tag": "apples", "similarity": 0.83}],
    }
    return WrongItem.model_validate(given | changes)


def errors_of(*groups: list[WrongItem]) -> Errors:
    every = [one for group in groups for one in group]
    return Errors(
        total=len(every),
        shown=len(every),
        suspected_label_errors=sum(one.suspected_label_error for one in every),
        groups=[
            ErrorGroup(name=f"group {place}", num_samples=None, error_rate=None, errors=group)
            for place, group in enumerate(groups)
        ],
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    path = tmp_path / "ours"
    path.mkdir()
    data = {"name": "orchard", "sha256": "0" * 64, "rows": {"test": 3}}
    meta = {"status": "finished", "tags": ["a", "b"], "seed": 0, "model_files": {}, "data": data}
    write_json(path / "meta.json", meta)
    return RunFolder(path)


@pytest.fixture
def tagger(capsys: pytest.CaptureFixture[str]) -> Tagger:
    """Runs `tagger errors`: exit code, what it printed, what it complained of."""

    def call(run: RunFolder, *arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(["errors", "--run", str(run.path), *arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


def write_report(folder: Path, errors: Errors) -> None:
    folder.mkdir(exist_ok=True)
    report = EvaluationReport.read(GOLDEN)
    report.model_copy(update={"errors": errors}).write(folder / "report.json")


def test_groups_are_printed_with_their_errors(run: RunFolder, tagger: Tagger) -> None:
    errors = errors_of(
        [error(), error(id="i8", title="")], [error(id="i9", suspected_label_error=True)]
    )
    rated = {"num_samples": 40, "error_rate": Score(value=0.3, low=0.18, high=0.45)}
    groups = [errors.groups[0].model_copy(update=rated), errors.groups[1]]
    write_report(run.path, errors.model_copy(update={"groups": groups}))
    code, out, err = tagger(run)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "3 of the rows, in 2 groups; 1 label looks wrong",
        "",
        "group 0: 2 errors; of its 40 rows 0.300 [0.180, 0.450] wrong",
        "  0.988  plums taken for apples  i7  Ripe plums",
        "           0.83  apples: Green apples",
        "  0.988  plums taken for apples  i8  all about them",
        "           0.83  apples: Green apples",
        "",
        "group 1: 1 error",
        "  0.988  plums taken for apples  i9  Ripe plums  suspected label error",
        "           0.83  apples: Green apples",
    ]


def test_only_suspected_label_errors_are_printed_if_asked_for(
    run: RunFolder, tagger: Tagger
) -> None:
    sure, suspected = error(title="Sure"), error(title="Unsure", suspected_label_error=True)
    write_report(run.path, errors_of([sure, suspected], [error(title="Alone")]))
    _, out, _ = tagger(run, "--label-errors")
    assert "Unsure" in out
    assert "Sure" not in out
    assert "Alone" not in out
    assert "group 1" not in out


def test_no_error_is_said(run: RunFolder, tagger: Tagger) -> None:
    write_report(run.path, errors_of())
    assert tagger(run) == (0, "none\n", "")


def test_errors_on_another_source_are_its_own(run: RunFolder, tagger: Tagger) -> None:
    write_report(run.path, errors_of([error(title="own row")]))
    write_report(run.path / "on-other", errors_of([error(title="other row")]))
    assert "other row" in tagger(run, "--on", "other")[1]
    assert "own row" in tagger(run)[1]


@pytest.mark.parametrize(
    "title",
    [
        "[bold]not markup[/bold] [/] [red",
        "a :rocket: of :fire:",
        "Ärger 雨 😀",
        "a very long title " * 20 + "ends",
    ],
)
def test_titles_are_printed_as_they_are(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    near = [{"title": title, "tag": "apples", "similarity": 0.5}]
    print_errors(errors_of([error(title=title, nearest_items=near)]), suspected_only=False)
    *_, own, neighbour = capsys.readouterr().out.splitlines()
    assert own.endswith(f"i7  {title}")
    assert neighbour.endswith(f"apples: {title}")


def test_each_item_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    title = "first\nsecond\r\n\tthird"
    near = [{"title": title, "tag": "apples", "similarity": 0.5}]
    print_errors(errors_of([error(title=title, nearest_items=near)]), suspected_only=False)
    *_, own, neighbour = capsys.readouterr().out.splitlines()
    assert own.endswith("i7  first second third")
    assert neighbour.endswith("apples: first second third")


def test_without_a_report_the_command_that_makes_one_is_named(
    run: RunFolder, tagger: Tagger
) -> None:
    code, out, err = tagger(run)
    assert (code, out) == (2, "")
    assert "report.json does not exist" in err
    assert f"python evaluate.py run={run.path}" in err


def test_a_source_that_was_not_evaluated_on_is_named_beside_those_that_were(
    run: RunFolder, tagger: Tagger
) -> None:
    write_report(run.path / "on-other", errors_of())
    code, _, err = tagger(run, "--on", "third")
    assert code == 2
    assert "on-other" in err
    assert f"python evaluate.py run={run.path} data=" in err


def test_a_report_elsewhere_is_of_the_same_run(run: RunFolder, tagger: Tagger) -> None:
    out = run.path.parent / "out"
    write_report(out, errors_of([error(title="elsewhere")]))
    assert "elsewhere" in tagger(run, "--on", str(out))[1]
    other = RunFolder(Path(shutil.copytree(run.path, run.path.with_name("other"))))
    code, _, err = tagger(other, "--on", str(out))
    assert code == 2
    assert "is about the run ours, not other" in err


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"errors": {"gro',
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'{"errors": null}',
        b'{"errors": {"total": 3}}',
        GOLDEN.read_bytes().replace(b'"schema_version": 2', b'"schema_version": 1'),
        b'{"schema_version": 2, "errors": {"groups": []}}',
    ],
)
def test_a_damaged_report_says_to_evaluate_again(
    run: RunFolder, tagger: Tagger, content: bytes
) -> None:
    path = run.path / "report.json"
    path.write_bytes(content)
    code, out, err = tagger(run)
    assert (code, out) == (2, "")
    assert str(path) in err
    assert f"python evaluate.py run={run.path}" in err
