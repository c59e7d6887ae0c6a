import pytest

from tagger.reporting.page import Cell, Number, Numbers, Page, Table, numeric
from tagger.reporting.terminal import print_blocks, print_page


def test_the_summary_of_a_page_is_printed(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    print_page(page)
    printed = capsys.readouterr().out
    assert "WARNING: Leaks." in printed
    assert "Rows: 15 in all" in printed
    assert "a|b" in printed
    assert "  one" in printed
    assert "Go on: python train.py" in printed
    assert "two" not in printed


def test_a_cell_of_several_lines_is_told_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_blocks([Table(["item"], [[Cell("A title", "left out", items=["row 3"])]])])
    printed = capsys.readouterr().out
    assert "A title; row 3" in printed
    assert "left out" not in printed


def test_nothing_is_cut_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_blocks([Table(["tag"], [["long-name-" * 40]]), Numbers([Number("Rows", "3")])])
    assert "long-name-" * 40 in capsys.readouterr().out


def test_a_narrow_terminal_folds_names_and_keeps_numbers_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    print_blocks([Table(["tag", *numeric(["rows"])], [["n" * 60, "1,234,567"]])])
    printed = capsys.readouterr().out
    assert printed.count("n") >= 60
    assert "1,234,567" in printed
    assert "…" not in printed
