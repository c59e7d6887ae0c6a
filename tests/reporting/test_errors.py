import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.cli import main
from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.show_errors import print_errors, read_errors
from tagger.runs import RunFolder

Tagger = Callable[..., tuple[int, str, str]]


def error(**changes: Any) -> dict[str, Any]:
    one: dict[str, Any] = {
        "id": "i7",
        "title": "Ripe plums",
        "description": "all about them",
        "true": "plums",
        "predicted": "apples",
        "probability": 0.98765,
        "label_doubtful": False,
        "neighbours": [{"title": "Green apples", "tag": "apples", "similarity": 0.83}],
    }
    return one | changes


def errors_of(*groups: list[dict[str, Any]]) -> dict[str, Any]:
    every = [one for group in groups for one in group]
    return {
        "total": len(every),
        "shown": len(every),
        "doubtful_labels": sum(one.suspected_label_error for one in every),
        "groups": [
            {"name": f"group {place}", "num_samples": None, "error_rate": None, "errors": group}
            for place, group in enumerate(groups)
        ],
    }


@pytest.fixture
def run(runs: Any, items: list[Item], split: Split) -> RunFolder:
    return runs.make("r", items, split)


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


def write_report(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "report.json").write_text(text, encoding="utf-8")
    return folder / "report.json"


def test_groups_are_printed_with_their_errors(run: RunFolder, tagger: Tagger) -> None:
    rated = {"num_samples": 40, "error_rate": {"value": 0.3, "low": 0.18, "high": 0.45}}
    errors = errors_of([error(), error(id="i8", title="")], [error(id="i9", label_doubtful=True)])
    errors.groups[0] |= rated
    write_report(run.path, {"errors": errors})
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
        "  0.988  plums taken for apples  i9  Ripe plums  label doubtful",
        "           0.83  apples: Green apples",
    ]


def test_only_doubtful_labels_are_printed_when_asked_for(run: RunFolder, tagger: Tagger) -> None:
    sure, doubtful = error(title="Sure"), error(title="Unsure", label_doubtful=True)
    write_report(run.path, {"errors": errors_of([sure, doubtful], [error(title="Alone")])})
    _, out, _ = tagger(run, "--doubtful")
    assert "Unsure" in out
    assert "Sure" not in out
    assert "Alone" not in out
    assert "group 1" not in out


def test_no_error_is_said(run: RunFolder, tagger: Tagger) -> None:
    write_report(run.path, {"errors": errors_of()})
    assert tagger(run) == (0, "none\n", "")


def test_errors_on_another_source_are_its_own(run: RunFolder, tagger: Tagger) -> None:
    write_report(run.path, {"errors": errors_of([error(title="own row")])})
    write_report(run.path / "on-other", {"errors": errors_of([error(title="other row")])})
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
    print_errors(errors_of([error(title=title, neighbours=near)]), doubtful_only=False)
    *_, own, neighbour = capsys.readouterr().out.splitlines()
    assert own.endswith(f"i7  {title}")
    assert neighbour.endswith(f"apples: {title}")


def test_each_item_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    title = "first\nsecond\r\n\tthird"
    near = [{"title": title, "tag": "apples", "similarity": 0.5}]
    print_errors(errors_of([error(title=title, neighbours=near)]), doubtful_only=False)
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
    write_report(run.path / "on-other", {"errors": errors_of()})
    code, _, err = tagger(run, "--on", "third")
    assert code == 2
    assert "on-other" in err
    assert f"python evaluate.py run={run.path} data=" in err


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"errors": {"gro',
        "[" * 100_000,
        [],
        {},
        {"errors": None},
        {"errors": [{"id": "i7", "true": "plums"}]},  # as versions before this one wrote them
        {"errors": {"total": 3}},
        {"errors": {"groups": {}}},
        {"errors": {"groups": []}},
    ],
)
def test_a_damaged_or_old_report_says_to_evaluate_again(
    run: RunFolder, tagger: Tagger, content: Any
) -> None:
    path = write_report(run.path, content)
    code, out, err = tagger(run)
    assert (code, out) == (2, "")
    assert str(path) in err
    assert f"python evaluate.py run={run.path}" in err


def test_a_report_that_is_not_text_says_to_evaluate_again(run: RunFolder, tagger: Tagger) -> None:
    (run.path / "report.json").write_bytes(b"\xff\xfe\x00")
    code, _, err = tagger(run)
    assert code == 2
    assert "python evaluate.py" in err


@pytest.mark.slow
def test_what_an_evaluation_writes_can_be_read(
    runs: Any, items: list[Item], split: Split, monkeypatch: pytest.MonkeyPatch, tagger: Tagger
) -> None:
    monkeypatch.setattr("tagger.evaluation.evaluate_run.check_against_library", lambda *_: None)
    run = runs.make("r", items, split, errs_on=["i0-30"])
    evaluate_run(runs.config("r"))
    assert read_errors(run, None).total == 1
    _, out, _ = tagger(run)
    assert f"0.900  apples taken for pears-and-other-fruit  i0-30  {items[30].title}" in out
