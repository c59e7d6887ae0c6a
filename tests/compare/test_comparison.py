import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tagger.cli import main
from tagger.compare import comparison
from tagger.compare.approaches import Approaches
from tagger.compare.cross_validation import OutOfFold
from tagger.compare.report import ApproachesReport, ComparisonReport
from tagger.compare.runs import LabelledFile
from tagger.errors import UserError
from tagger.reporting.compare import comparison_page
from tagger.reporting.markdown import render_markdown


@pytest.fixture(scope="module")
def others(source: LabelledFile, tmp_path_factory: pytest.TempPathFactory) -> LabelledFile:
    """A second source: the same tags, no text of the first."""
    folder = tmp_path_factory.mktemp("other")
    lines = source.path.read_text(encoding="utf-8").splitlines()
    head, rows = lines[0], lines[1:]
    changed = [row.replace("t", "o", 1).translate(str.maketrans("bdfgk", "hjqwx")) for row in rows]
    (folder / "others.csv").write_text("\n".join([head, *changed]), encoding="utf-8")
    text = (folder / "others.csv").read_text(encoding="utf-8")
    for tag in source.tags:
        text = text.replace(f",{tag.translate(str.maketrans('bdfgk', 'hjqwx'))}", f",{tag}")
    (folder / "others.csv").write_text(text, encoding="utf-8")
    return LabelledFile.load(folder / "others.csv")


def markdown(report: ComparisonReport) -> str:
    return render_markdown(comparison_page(report), Path())


@pytest.mark.slow
def test_approaches_are_scored_and_compared(
    results: Mapping[str, OutOfFold],
    approaches: Approaches,
    source: LabelledFile,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparison, "cross_validate", lambda *_, **__: results)
    result = comparison.compare_approaches(approaches, source, out, seeds=1, folds=3)
    assert list(result.approaches) == ["linear", "tiny", "linear + tiny"]
    assert len(result.differences["weighted_f1"]) == 3
    # The toy tags are told by their words: a linear model learns them, an epoch of tiny does not.
    assert result.approaches["linear"].scores["weighted_f1"] > 0.9
    assert "tiny" in result.approaches["linear"].better_than
    assert result.approaches["tiny"].better_than == []
    text = markdown(result)
    assert text.count("\n| ") == 4 + 4  # a head and three approaches, a head and three pairs
    assert "- linear than: tiny" in text
    (pair,) = [line for line in text.splitlines() if line.startswith("| linear minus tiny")]
    assert "\\*" in pair
    json.dumps(result.model_dump(), allow_nan=False)


@pytest.mark.slow
def test_few_labels_have_a_row_a_number(
    source: LabelledFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "FEW", (2, 16))
    approaches = Approaches({"linear": ["model=linear"], "same": ["model=linear"]}, {})
    result = comparison.compare_few_labels(approaches, source, tmp_path, folds=2)
    table = result.labels
    assert list(table) == ["2", "16"]
    assert table["16"]["linear"].weighted_f1 >= table["2"]["linear"].weighted_f1
    assert table["2"]["linear"].better_than == []
    assert "| 16 " in markdown(result)


@pytest.mark.slow
def test_sources_are_scored_in_domain_and_cross_domain(
    source: LabelledFile, others: LabelledFile, tmp_path: Path
) -> None:
    approaches = Approaches({"linear": ["model=linear"]}, {})
    result = comparison.compare_sources(approaches, [source, others], tmp_path, seeds=1, folds=2)
    cells = result.approaches["linear"]
    assert list(cells) == ["items", "others", "both"]
    for trained in cells.values():
        assert set(trained) == {"items", "others"}
    text = markdown(result)
    assert text.count("| linear ") == 3
    assert text.count("linear, both minus linear, own") == 2
    json.dumps(result.model_dump(), allow_nan=False)


def test_sources_that_share_items_are_refused(source: LabelledFile, tmp_path: Path) -> None:
    path = tmp_path / "copy.csv"
    lines = source.path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], *lines[5:9]]), encoding="utf-8")
    copy = LabelledFile.load(path)
    with pytest.raises(UserError, match="4 rows that"):
        comparison.compare_sources(Approaches({}, {}), [source, copy], tmp_path, seeds=1, folds=3)


def test_two_sources_need_two_names(source: LabelledFile, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="both sources are called items"):
        comparison.compare_sources(Approaches({}, {}), [source, source], tmp_path, seeds=1, folds=3)


@pytest.mark.slow
def test_the_command_prints_and_writes_the_table(
    toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(toy_folder / "items.csv"), "--tags", str(toy_folder / "tags.yaml")]
    approaches = ["--approach", "linear", "--approach", "strict=model=linear model.C=0.1"]
    main(["compare", *given, *approaches, "--seeds", "1", "--folds", "2", "--out", str(tmp_path)])
    output = capsys.readouterr().out
    assert "linear" in output and "strict" in output
    assert "next: python" not in output  # what train.py says of a run by itself
    saved = ApproachesReport.read(tmp_path / "items" / "approaches.json")
    assert set(saved.approaches) == {"linear", "strict"}
    assert saved.environment.versions
    assert markdown(saved) == (tmp_path / "items" / "approaches.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--seeds", "0"],
        ["--folds", "1"],
        ["--data", "a.csv", "--few-labels"],
        ["--approach", "nope"],
    ],
)
def test_what_makes_no_comparison_is_one_clear_message(
    toy_folder: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--data", str(toy_folder / "items.csv"), *wrong])
    assert stop.value.code not in (0, None)
    assert "Traceback" not in capsys.readouterr().err
