from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Runs

from tagger.cli import main
from tagger.service import rollout
from tagger.service.database import open_store

Said = Callable[..., str]


@pytest.fixture
def said(
    tmp_path: Path, shared_runs: Runs, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Said:  # fmt: skip
    """Runs `tagger rollout`; returns what it prints, or what it refuses with."""
    monkeypatch.setattr(rollout, "check_gate", lambda new, old: [])
    url = f"sqlite:///{tmp_path / 'store.db'}"
    open_store(url, create=True).close()

    def run(*given: str) -> str:
        runs = ["--runs-dir", str(shared_runs.folder)] if given[0] == "start" else []
        try:
            main(["rollout", *given, *runs, "--store", url])
        except SystemExit as error:
            assert error.code == 2
            return capsys.readouterr().err
        return capsys.readouterr().out

    return run


def test_a_rollout_is_started_looked_at_and_ended(said: Said) -> None:
    assert "there is no rollout" in said("status")
    assert "rough answers beside words, unseen" in said("start", "rough", "--against", "words")
    told = said("status")
    assert "rough against words, plan careful" in told
    assert told.splitlines()[-1].startswith("wait: items: 0 of 500; more judged disagreements")
    assert "first: " in said("redecide").lower()
    assert "paused" not in said("pause", "--reason", "to look")
    assert "wait: paused: to look" in said("status")
    assert "goes on" in said("resume")
    assert "aborted" in said("abort", "--reason", "enough")
    assert said("items") == "item,tag,old,title\n"
    assert "0 items" in said("redecide")
    assert "abort: enough" in said("status")


def test_a_plan_with_a_test_says_beforehand_how_many_items_it_takes(said: Said) -> None:
    told = said("start", "rough", "--against", "words", "--plan", "ab")
    assert "is found by" in told
    assert "items in 80% of cases" in told


def test_mistakes_are_told(said: Said) -> None:
    assert "there is no run 'nobody'" in said("start", "nobody", "--against", "words")
    assert "there is no plan" in said("start", "rough", "--against", "words", "--plan", "nothing")
    assert "the same model" in said("start", "words", "--against", "words")
