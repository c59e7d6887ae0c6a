import pytest

from tagger.progress import progress_bar, without_bars


def test_a_bar_tells_what_is_done_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with progress_bar(10, "predict", "item", initial=4) as bar:
        bar.update(6)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "predict" in shown.err
    assert "10/10" in shown.err


def test_a_log_gets_a_line_every_ten_seconds() -> None:
    with progress_bar(10, "train", "step") as bar:
        assert bar.mininterval == 10.0


def test_a_bar_may_be_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3, "train", "step", shown=False) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_bars_within_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with without_bars(), progress_bar(3, "train", "step") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
    with progress_bar(3, "train", "step") as bar:
        bar.update(3)
    assert "train" in capsys.readouterr().err
