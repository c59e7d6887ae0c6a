import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.decision.decider import PLAIN, Decider
from tagger.errors import UserError
from tagger.evaluation.behaviour import Suite, check_behaviour, load_suite
from tagger.evaluation.evaluate_run import choose_suite

TAGS = ("fruit", "metal", "weather")
SUITE = """
names:
  kind: minimum
  about: Names of things settle the tag.
  cases:
    - {title: apple, tag: fruit}
    - {title: apple, description: iron iron iron, tag: metal}
    - {description: rain, tag: weather}
capitals:
  kind: invariance
  about: Letters may be large.
  cases:
    - {title: apple, tag: fruit, changed: {title: APPLE}}
    - {title: iron, tag: metal, changed: {description: rain rain}}
more:
  kind: direction
  about: Evidence counts.
  cases:
    - {title: apple iron, changed: {description: rain}, tag: fruit, moves: down}
    - {title: apple iron, changed: {description: rain}, tag: fruit, moves: up}
    - {title: apple apple apple apple, changed: {description: apple}, tag: fruit, moves: up}
"""


class CountsWords:
    """Gives each tag a share of the words that name it; knows small letters alone."""

    tags = TAGS

    def predict_proba(self, items: list[Item]) -> np.ndarray:
        names = ("apple", "iron", "rain")
        counts = np.array(
            [[re.findall(r"\w+", i.text).count(name) for name in names] for i in items]
        )
        return (counts + 1e-3) / (counts + 1e-3).sum(axis=1, keepdims=True)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def make(text: str) -> Path:
        path = tmp_path / "cases.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture
def suite(write: Callable[[str], Path]) -> Suite:
    return load_suite(write(SUITE))


def decider() -> Decider:
    return Decider(CountsWords(), PLAIN, None)  # type: ignore[arg-type]


def test_every_case_is_tried_as_its_kind_says(suite: Suite) -> None:
    result = check_behaviour(decider(), suite)
    assert (result.num_cases, result.passed) == (8, 5)
    passed = {name: one.passed for name, one in result.capabilities.items()}
    assert passed == {"names": 3, "capitals": 0, "more": 2}
    assert result.rate.value == 5 / 8
    assert 0 < result.rate.low < 5 / 8 < result.rate.high < 1


def test_failures_say_what_was_expected_and_found(suite: Suite) -> None:
    capabilities = check_behaviour(decider(), suite).capabilities
    shouted, rained = capabilities["capitals"].failures
    assert (shouted.title, shouted.found) == ("APPLE", "none")
    assert (rained.expected, rained.found) == ("metal, as before", "weather")
    assert (rained.title, rained.description) == ("iron", "rain rain")
    (wrong_way,) = capabilities["more"].failures
    assert wrong_way.expected == "fruit up"
    assert wrong_way.found == "from 0.500 to 0.333"


def test_a_probability_at_its_end_need_not_move_on(write: Callable[[str], Path]) -> None:
    text = """
sure:
  kind: direction
  about: Sure is sure.
  cases:
    - {title: apple apple, changed: {title: apple}, tag: fruit, moves: up}
    - {title: apple, changed: {title: apple apple}, tag: metal, moves: down}
"""
    assert check_behaviour(decider(), load_suite(write(text))).passed == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no behaviour cases"),
        ("{}", "holds no behaviour cases"),
        ("a: [", "is not yaml"),
        ("a: {kind: minimum, about: x, cases: []}", "a.cases"),
        ("a: {kind: magic, about: x, cases: [{title: x, tag: fruit}]}", "a.kind"),
        ("a: {kind: minimum, about: x, cases: [{tag: fruit}]}", "neither title nor description"),
        ("a: {kind: minimum, about: x, cases: [{title: 3, tag: fruit}]}", "a.cases.0.title"),
        ("a: {kind: minimum, about: x, cases: [{title: x, tga: fruit}]}", "tga"),
        (
            "a: {kind: minimum, about: x, cases: [{title: x, tag: fruit, changed: {title: y}}]}",
            "case 1: kind minimum has no use for `changed`",
        ),
        (
            "a: {kind: direction, about: x, cases: [{title: x, tag: fruit, changed: {title: y}}]}",
            "case 1: kind direction needs `moves`",
        ),
        (
            "a: {kind: invariance, about: x, cases: [{title: x, tag: fruit, changed: {title: x}}]}",
            "`changed` changes nothing",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    write: Callable[[str], Path], text: str, said: str
) -> None:
    with pytest.raises(UserError) as error:
        load_suite(write(text))
    assert said in str(error.value)
    assert "cases.yaml" in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_suite(tmp_path / "nowhere.yaml")


def test_tags_that_a_run_does_not_know_are_told(suite: Suite) -> None:
    assert suite.unknown_tags([*TAGS, "sport"]) == []
    assert suite.unknown_tags(["weather"]) == ["fruit", "metal"]


@pytest.mark.slow
def test_cases_about_other_tags_are_tried_on_no_run(
    runs, items, split, write: Callable[[str], Path]
) -> None:
    run = runs.make("r", items, split)
    cases = f"behaviour_cases={write(SUITE)}"
    with pytest.raises(UserError, match=r"cases\.yaml is about other tags") as error:
        choose_suite(run, runs.config("r", cases, "behaviour=on"))
    assert error.value.problems == (
        "of the cases alone: fruit, metal, weather",
        f"of the run: {', '.join(run.tags)}",
    )
    assert "behaviour_cases=FILE" in error.value.hint
    assert choose_suite(run, runs.config("r", cases)) is None  # auto, the default
    assert choose_suite(run, runs.config("r", cases, "behaviour=off")) is None


def test_cases_about_known_tags_are_tried_unless_switched_off(
    runs, items, split, write: Callable[[str], Path]
) -> None:
    run = runs.make("r", items, split)
    text = "a: {kind: minimum, about: x, cases: [{title: x, tag: plums}]}"
    cases = f"behaviour_cases={write(text)}"
    for given in ([], ["behaviour=on"]):
        suite = choose_suite(run, runs.config("r", cases, *given))
        assert suite is not None
        assert list(suite.capabilities) == ["a"]
    assert choose_suite(run, runs.config("r", cases, "behaviour=off")) is None


def test_cases_that_cannot_be_read_are_not_passed_over(runs, items, split, tmp_path: Path) -> None:
    run = runs.make("r", items, split)
    missing = f"behaviour_cases={tmp_path / 'nowhere.yaml'}"
    for given in ([], ["behaviour=on"]):
        with pytest.raises(UserError, match=r"nowhere\.yaml"):
            choose_suite(run, runs.config("r", missing, *given))
    assert choose_suite(run, runs.config("r", missing, "behaviour=off")) is None


@pytest.mark.slow
def test_an_evaluation_reports_behaviour_if_the_tags_fit(
    runs, items, split, write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    case = replace(items[30], id="")
    run = runs.make("r", items, split, answers=[case])
    text = f"""
words:
  kind: minimum
  about: "Words | settle the tag."
  cases:
    - {{title: {case.title}, description: {case.description}, tag: {case.tag}}}
    - {{title: {case.title}, description: {case.description}, tag: plums}}
"""
    assert case.tag != "plums"
    assert runs.report("r", f"behaviour_cases={write(text)}").behaviour.passed == 1
    assert "words" in capsys.readouterr().out
    for name in ("report.md", "report.html"):
        page = (run.path / name).read_text(encoding="utf-8")
        assert "1 of 2 cases" in page
        assert "settle the tag" in page
    assert runs.evaluate("r").behaviour is None
