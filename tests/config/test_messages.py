from collections.abc import Mapping

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field

from tagger.config.messages import explain, nearest, schema_keys, shorten, validate_config
from tagger.config.schema import Section
from tagger.errors import UserError


class Inner(Section):
    rate: float = Field(gt=0)
    name: str


class Outer(Section):
    seed: int
    inner: Inner | None


VALID = {"seed": 1, "inner": {"rate": 0.5, "name": "x"}}


def test_keys_of_sections_are_dotted_also_where_a_section_may_be_missing() -> None:
    assert list(schema_keys(Outer)) == ["seed", "inner", "inner.rate", "inner.name"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sead": 1}, "sead: no such key (did you mean seed?)"),
        ({"wholly": 1}, "wholly: no such key"),
        ({"seed": None}, "seed: must be given"),
        ({"seed": "???"}, "seed: must be given"),
        ({"seed": 1.5}, "seed: found 1.5, expected integer"),
        ({"inner": {"rate": -1.0, "name": "x"}}, "inner.rate: found -1.0, expected greater than 0"),
        ({"inner": {}}, "inner: lacks rate, name; choose inner=CHOICE first"),
        (
            {"inner": {"rate": 1.0, "name": 7}},
            "inner.name: found 7, expected string (as text: \"inner.name='7'\")",
        ),
    ],
)
def test_each_mistake_says_where_what_was_found_and_what_was_expected(
    changes: Mapping[str, object], problem: str
) -> None:
    with pytest.raises(UserError) as caught:
        validate_config(Outer, VALID | changes, "mistakes:")
    assert caught.value.problems == (problem,)


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(UserError) as caught:
        validate_config(Outer, {"seed": "x", "iner": 1}, "mistakes:")
    assert len(caught.value.problems) == 3
    assert "inner: must be given" in caught.value.problems


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("training.lrr", " (did you mean training.lr?)"),
        ("lr", " (did you mean training.lr?)"),  # by its last part
        ("nothing.of.the.kind", ""),
    ],
)
def test_the_nearest_name_is_proposed(name: str, told: str) -> None:
    assert nearest(name, ["training.lr", "model.dropout"]) == told


def test_long_texts_are_cut() -> None:
    assert shorten("x" * 80) == "x" * 80
    assert shorten("x" * 81) == "x" * 77 + "..."


def test_an_error_of_omegaconf_is_a_line_with_its_key() -> None:
    config = OmegaConf.create({"a": {"b": "${nowhere}"}})
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_container(config, resolve=True)
    assert explain(caught.value) == "a.b: Interpolation key 'nowhere' not found"
