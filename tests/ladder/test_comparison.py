import json
from pathlib import Path

import pytest

from tagger.cli import main
from tagger.errors import UserError
from tagger.ladder import comparison
from tagger.ladder.cells import Source
from tagger.ladder.rungs import Ladder
from tagger.ladder.show import show_differences, show_few_labels, show_rungs, show_sources


@pytest.fixture(scope="module")
def others(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Source:
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
    return Source.load(folder / "others.csv")


def test_rungs_are_scored_and_compared(ladder: Ladder, source: Source, tmp_path: Path) -> None:
    result = comparison.compare_rungs(ladder, source, tmp_path, seeds=1, folds=3)
    assert list(result["rungs"]) == ["linear", "tiny", "linear + tiny"]
    assert len(result["differences"]["weighted_f1"]) == 3
    # The toy tags are told by their words: a linear model learns them, an epoch of tiny does not.
    assert result["rungs"]["linear"]["weighted_f1"] > 0.9
    assert "tiny" in result["rungs"]["linear"]["better_than"]
    assert result["rungs"]["tiny"]["better_than"] == []
    text = show_rungs(result)
    assert text.count("\n| ") == 4  # a head and three approaches
    assert "- linear than: tiny" in text
    assert "**" in show_differences(result)
    json.dumps(result, allow_nan=False)


def test_few_labels_have_a_row_a_number(source: Source, tmp_path: Path) -> None:
    ladder = Ladder({"linear": ["model=linear"], "rules": ["model=linear"]}, {})
    table = comparison.compare_few_labels(ladder, source, tmp_path, folds=3)
    assert list(table) == ["8", "16", "32", "64"]
    assert table["16"]["linear"]["weighted_f1"] >= table["8"]["linear"]["weighted_f1"]
    assert table["8"]["linear"]["better_than"] == []
    assert "| 64 " in show_few_labels(table)


def test_sources_are_scored_at_home_and_abroad(
    source: Source, others: Source, tmp_path: Path
) -> None:
    ladder = Ladder({"linear": ["model=linear"]}, {})
    result = comparison.compare_sources(ladder, [source, others], tmp_path, seeds=1, folds=3)
    cells = result["rungs"]["linear"]
    assert list(cells) == ["items", "others", "both"]
    for trained in cells.values():
        assert set(trained) == {"items", "others"}
    text = show_sources(result)
    assert text.count("| linear ") == 3
    assert text.count("linear, both minus linear, own") == 2
    json.dumps(result, allow_nan=False)


def test_sources_that_share_items_are_refused(source: Source, tmp_path: Path) -> None:
    path = tmp_path / "copy.csv"
    lines = source.path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], *lines[5:9]]), encoding="utf-8")
    copy = Source.load(path)
    with pytest.raises(UserError, match="4 rows that"):
        comparison.compare_sources(Ladder({}, {}), [source, copy], tmp_path, seeds=1, folds=3)


def test_two_sources_need_two_names(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="both sources are called items"):
        comparison.compare_sources(Ladder({}, {}), [source, source], tmp_path, seeds=1, folds=3)


def test_the_command_prints_and_writes_the_table(
    toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(toy_folder / "items.csv"), "--tags", str(toy_folder / "tags.yaml")]
    rungs = ["--rung", "linear", "--rung", "strict=model=linear model.C=0.1"]
    main(["leaderboard", *given, *rungs, "--seeds", "1", "--folds", "3", "--out", str(tmp_path)])
    output = capsys.readouterr().out
    assert "| linear " in output and "| strict " in output
    assert "next: python" not in output  # what train.py says of a run by itself
    saved = json.loads((tmp_path / "items" / "rungs.json").read_text(encoding="utf-8"))
    assert set(saved["rungs"]) == {"linear", "strict"}
    assert "versions" in saved["environment"]
    assert (tmp_path / "items" / "rungs.md").read_text(encoding="utf-8") in output


@pytest.mark.parametrize(
    "wrong",
    [["--seeds", "0"], ["--folds", "1"], ["--data", "a.csv", "--few-labels"], ["--rung", "nope"]],
)
def test_what_makes_no_comparison_is_one_clear_message(
    toy_folder: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["leaderboard", "--data", str(toy_folder / "items.csv"), *wrong])
    assert stop.value.code not in (0, None)
    assert "Traceback" not in capsys.readouterr().err
