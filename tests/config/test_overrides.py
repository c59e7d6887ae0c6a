import shlex
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from tagger.config.overrides import (
    differences,
    flatten,
    is_within,
    python_override,
    quoted,
    script_command,
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=20)


@given(TEXTS)
def test_any_text_is_quoted_for_hydra(text: str) -> None:
    assert OverridesParser.create().parse_override(f"run={quoted(text)}").value() == text


@pytest.mark.parametrize("text", ["it's", r"a\'b", "a\\", "7", "null", "x=1, y", "runs/a.b"])
def test_a_command_survives_the_shell_and_hydra(text: str) -> None:
    words = shlex.split(script_command("train.py", resume=text))
    assert words[:2] == ["python", "train.py"]
    assert OverridesParser.create().parse_override(words[2]).value() == text


def test_plain_paths_need_no_quotes() -> None:
    command = script_command("evaluate.py", run=Path("runs/one"), data="mwml")
    assert command == "python evaluate.py run=runs/one data=mwml"


def test_settings_are_flattened_to_dotted_keys() -> None:
    nested = {"a": {"b": 1, "c": {"d": [2]}}, "e": {}}
    assert flatten(nested) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_differences_name_each_setting_that_changed() -> None:
    before, after = {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 0, "d": 4}
    assert differences(before, after) == ["b: 2 and 0", "c: 3 and None", "d: None and 4"]


def test_a_key_is_within_a_section_or_is_the_section() -> None:
    assert is_within("data.split.seed", ["model", "data.split"])
    assert is_within("data", ["data"])
    assert not is_within("data_other.x", ["data"])


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -0.5, 1e-7, "7", "null", "it's", [1, "a,b", None], {"tag": "my label"}, []],
)
def test_values_of_python_survive_hydra(value: object) -> None:
    override = OverridesParser.create().parse_override(python_override("a__b", value))
    assert override.key_or_group == "a.b"
    assert override.value() == value


def test_values_that_look_otherwise_are_written_as_what_they_are() -> None:
    assert python_override("training.lr", np.float64(0.1)) == "training.lr=0.1"
    assert python_override("data__path", Path("a b")) == "data.path='a b'"
    assert python_override("model__runs", ("a", "b")) == "model.runs=['a','b']"
    with pytest.raises(TypeError, match="found a set, expected a value that a config can hold"):
        python_override("seed", {1})
