import hashlib
import json
import sys
from pathlib import Path

import pytest

from tagger import doctor
from tagger.cli import main
from tagger.doctor import ABSENT, ANSWERING, CHANGED, TRAINING, VERIFIED, diagnose, find_parts
from tagger.errors import BAD_INPUT, UserError
from tagger.files import REPO_ROOT
from tagger.runs import RunFolder

PYPROJECT = """
[project]
dependencies = ["numpy>=1", "no-such-package"]
[project.optional-dependencies]
train = ["numpy>=999", "never; sys_platform == 'plan9'"]
service = ["absent-one"]
nothing = []
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No prediction, which takes a second or two."""
    monkeypatch.setattr(doctor, "predict_something", lambda run, runs_dir: None)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(doctor, "REPO_ROOT", tmp_path)
    monkeypatch.setattr(doctor, "MODELS", tmp_path / "models")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "models").mkdir()
    return tmp_path


def test_what_a_part_lacks_is_named_with_the_command_that_brings_it(elsewhere: Path) -> None:
    parts = find_parts()

    assert parts[ANSWERING].lacks == ["no-such-package"]
    assert parts[TRAINING].lacks[0].startswith("numpy>=999 (found ")
    assert len(parts[TRAINING].lacks) == 1
    assert {name for name, part in parts.items() if part.needed} == {ANSWERING, TRAINING}
    assert "-r requirements.txt" in parts[TRAINING].get
    assert "-r requirements-service.txt" in parts["service"].get
    assert "nothing" not in parts


def test_of_a_wheel_only_answering_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["numpy>=1", 'absent-one>=2; extra == "service"', 'absent-two; extra == "train"']
    about = type("About", (), {"get_all": lambda self, key: ["service", "train", "serve"]})
    monkeypatch.setattr(doctor, "INSTALLED", True)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: asked)
    monkeypatch.setattr(doctor.metadata, "metadata", lambda name: about())

    parts = find_parts()

    assert {name: part.lacks for name, part in parts.items()} == {
        ANSWERING: [],
        "service": ["absent-one"],
        "train": ["absent-two"],
    }
    assert [name for name, part in parts.items() if part.needed] == [ANSWERING]
    assert parts["service"].get == "pip install 'tag-or-ask[service]'"


def test_encoders_are_held_to_their_hash(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGGER_CACHE", str(elsewhere))
    weights = elsewhere / "encoders" / "ours" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    right, other = hashlib.sha256(b"weights").hexdigest(), "f" * 64

    def states(sha256: str) -> list[str]:
        (elsewhere / "models" / "a.yaml").write_text(f"encoder: pieces:ours\nsha256: {sha256}\n")
        (elsewhere / "models" / "b.yaml").write_text(f"encoder: package:no_such\nsha256: {other}\n")
        (elsewhere / "models" / "c.yaml").write_text("name: c\nencoder: somewhere\n")
        return [one.state for one in doctor.find_encoders().values()]

    assert states(right) == [VERIFIED, ABSENT]
    assert states(other) == [CHANGED, ABSENT]


def test_what_is_needed_and_missing_is_a_problem_and_nothing_is_predicted(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "predict_something", lambda run, runs_dir: pytest.fail("predicted"))

    found = diagnose()

    assert [one.what.split(" lacks ")[0] for one in found.problems] == [ANSWERING, TRAINING]
    assert all("pip install" in one.mend for one in found.problems)
    assert found.smoke is None


@pytest.mark.parametrize(
    ("error", "what", "mend"),
    [
        (RuntimeError(f"{Path.home()}/x is broken"), "RuntimeError: ~/x is broken", "tell us"),
        (UserError("no run", hint="Give another"), "failed: no run", "Give another"),
        (AssertionError(), "AssertionError: AssertionError", "tell us"),
    ],
)
def test_a_prediction_that_fails_is_a_problem_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception, what: str, mend: str
) -> None:
    def fail(run: str | None, runs_dir: str) -> None:
        raise error

    monkeypatch.setattr(doctor, "predict_something", fail)

    (problem,) = diagnose().problems

    assert what in problem.what
    assert mend in problem.mend


def test_nothing_secret_is_told(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_swordfish")
    monkeypatch.setenv("TAGGER_KEY", "tg_swordfish")
    monkeypatch.setenv("TAGGER_CACHE", str(Path.home() / "cache"))
    monkeypatch.setenv("GOMP_SPINCOUNT", "77")

    main(["doctor"])
    main(["doctor", "--json"])

    told = capsys.readouterr().out
    assert "GOMP_SPINCOUNT=77" in told
    assert "swordfish" not in told
    assert str(Path.home() / "cache") not in told
    assert "~/cache" in told


def test_json_is_json_and_the_exit_code_says_what_is_missing(
    elsewhere: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])

    assert ended.value.code == BAD_INPUT
    told = capsys.readouterr()
    assert json.loads(told.out)["parts"][ANSWERING]["lacks"] == ["no-such-package"]
    assert "answering lacks no-such-package: pip install" in told.err


def test_where_there_is_no_torch_the_rules_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    found = diagnose()

    assert found.smoke is not None
    assert found.smoke.model == "rules"
    assert found.hardware.gpu is None


@pytest.mark.slow
def test_a_run_or_the_default_encoder_predicts(tiny_run: RunFolder) -> None:
    by_run = diagnose("tiny", str(tiny_run.path.parent)).smoke
    by_encoder = diagnose().smoke

    assert by_run is not None and by_encoder is not None
    assert (by_run.model, by_encoder.model) == ("tiny", "minilm")
    assert 0 < by_run.median_ms < by_encoder.median_ms
    assert by_encoder.load_ms > by_encoder.median_ms


def test_the_file_that_is_named_pins_what_the_part_asks_for() -> None:
    base = (REPO_ROOT / "requirements.txt").read_text(encoding="utf-8").lower()
    for name, part in find_parts().items():
        pins = (REPO_ROOT / part.get.split()[3]).read_text(encoding="utf-8").lower()
        wanted = [f"\n{one.name.lower()}" for one in doctor._requirements()[name]]
        assert any(one in pins for one in wanted), name
        assert all(one in pins + base for one in wanted), name
