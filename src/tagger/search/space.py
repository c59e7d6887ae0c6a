"""The search space: keys of the training config, their ranges, and when each applies.

A space is nested as the config is. A parameter is a mapping with `low` and `high` (and `step`, or
`log: true`), or with `choices`; `when` names other keys and the values that it applies with. A
null in its place leaves it out.

    training:
      lr: {low: 1.0e-5, high: 1.0e-3, log: true}
      loss: {choices: [cross_entropy, focal]}
      focal_gamma: {low: 0.5, high: 4.0, when: {training.loss: focal}}
    model: {choices: [minilm, linear]}      # a group: the whole file configs/model/CHOICE.yaml
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import product
from math import prod
from typing import Annotated, Any, Generic, TypeVar

import optuna
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler
from optuna.trial import Trial
from pydantic import Field, field_validator, model_validator

from tagger.config.composition import compose_section, config_groups
from tagger.config.messages import nearest, schema_keys, validate_config
from tagger.config.overrides import flatten, is_within
from tagger.config.paths import with_portable_paths
from tagger.config.schema import Section, TrainConfig
from tagger.errors import UserError

GROUPS = ("model", "training", "decision")
"""Groups that a parameter may choose from."""

FIXED = (
    "name", "runs_dir", "if_exists", "resume", "seed", "tracking", "data.name", "data.source",
    "data.path", "data.hub_id", "data.hub_split", "data.hub_revision", "data.url", "data.sha256",
    "data.columns", "data.tags", "data.split",
)  # fmt: skip
"""Keys that a sweep holds still: its trials are compared on the same rows and seeds."""

TRIED = 200
"""Random configs that are validated before the first trial."""

LARGEST_GRID = 10_000
ROUNDING = 1e-9

Assignment = dict[str, Any]
"""A value for each parameter that applies, by dotted key."""

Number = TypeVar("Number", int, float)


class _Spec(Section):
    """Settings of a parameter in the yaml file of a space: here those that all kinds have."""

    when: dict[str, Any] = Field(default_factory=dict)

    @field_validator("when")
    @classmethod
    def _listed(cls, when: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
        """Turn each value of a condition into all values that it holds for."""
        empty = [key for key, values in when.items() if values == []]
        if empty:
            raise ValueError(f"{empty[0]}: expected one value or more, found none")
        return {
            key: tuple(values) if isinstance(values, list) else (values,)
            for key, values in when.items()
        }


class _RangeSpec(_Spec, Generic[Number]):
    """A range, both ends included, of whole numbers or of any."""

    low: Annotated[Number, Field(allow_inf_nan=False)]
    high: Annotated[Number, Field(allow_inf_nan=False)]
    step: Annotated[Number, Field(gt=0, allow_inf_nan=False)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> "_RangeSpec[Number]":
        if self.low >= self.high:
            raise ValueError(f"the range is empty: low={self.low} is not below high={self.high}")
        if self.step is not None and not _is_whole((self.high - self.low) / self.step):
            raise ValueError(
                f"no whole number of steps of {self.step} leads from {self.low} to {self.high}"
            )
        return self


class _ChoicesSpec(_Spec):
    """A list to choose from."""

    choices: list[Any] = Field(min_length=1)

    @field_validator("choices")
    @classmethod
    def _check(cls, choices: list[Any]) -> list[Any]:
        if any(one in choices[:at] for at, one in enumerate(choices)):
            raise ValueError(f"{choices} names one twice")
        return choices


SPEC_KEYS = tuple(_RangeSpec.model_fields | _ChoicesSpec.model_fields)


@dataclass(frozen=True)
class Parameter:
    """One key that a sweep changes.

    Attributes:
        path: The dotted key, or the name of a group.
        distribution: What it is drawn from. A choice that Optuna could not store, such as a list,
            stands there as JSON.
        choices: What there is to choose, as it goes into the config; empty for a range.
        when: By dotted key, the values of other keys that this one applies with.
    """

    path: str
    distribution: CategoricalDistribution | IntDistribution | FloatDistribution
    choices: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]]

    @property
    def range(self) -> IntDistribution | FloatDistribution:
        """The range of a parameter that has no choices."""
        assert not isinstance(self.distribution, CategoricalDistribution)
        return self.distribution

    def decode(self, stored: Any) -> Any:
        """Turn what Optuna stores into what the config takes."""
        if not self.choices:
            return stored
        return next(choice for choice in self.choices if _encode(choice) == stored)

    def encode(self, value: Any) -> Any:
        """Turn a value of the config into what Optuna stores.

        Raises:
            ValueError: when the parameter cannot have it.
        """
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{value!r} is not among {list(self.choices)}")
            return _encode(value)
        low, high, step = self.range.low, self.range.high, self.range.step
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is no number from {low} to {high}")
        if not low <= value <= high:
            raise ValueError(f"{value!r} is not from {low} to {high}")
        if step is not None and not _is_whole((value - low) / step):
            raise ValueError(f"{value!r} is not on a step of {step} from {low}")
        return value

    def suggest(self, trial: Trial) -> Any:
        """Let Optuna draw a value, as the config takes it."""
        drawn = self.distribution
        if isinstance(drawn, CategoricalDistribution):
            return self.decode(trial.suggest_categorical(self.path, drawn.choices))
        if isinstance(drawn, IntDistribution):
            return trial.suggest_int(
                self.path, drawn.low, drawn.high, step=drawn.step, log=drawn.log
            )
        return trial.suggest_float(self.path, drawn.low, drawn.high, step=drawn.step, log=drawn.log)

    def grid(self) -> list[Any]:
        """Return all values, as the config takes them; empty where there is no end of them."""
        if self.choices:
            return list(self.choices)
        low, step = self.range.low, self.range.step
        if step is None or self.range.log:
            return []
        values = [low + at * step for at in range(round((self.range.high - low) / step) + 1)]
        # 0.1 + 2 * 0.1 is not 0.3, and would be another value to the eye and to a table.
        return [round(value, 12) if isinstance(value, float) else value for value in values]


@dataclass(frozen=True)
class SearchSpace:
    """All parameters of a sweep, and the config that they change.

    Attributes:
        base: The config as it is without them.
        parameters: In an order in which each comes after those that its `when` names.
    """

    base: TrainConfig
    parameters: tuple[Parameter, ...]

    @classmethod
    def parse(cls, space: Mapping[str, Any], base: TrainConfig) -> "SearchSpace":
        """Read and check a space.

        Args:
            space: The content of `search.space`.
            base: The config that the search starts from.

        Raises:
            UserError: naming every mistake: keys that do not exist or stand still, ranges that are
                empty or that the config refuses, conditions that can't hold, and combinations that
                the config refuses.
        """
        problems: list[str] = []
        parameters: dict[str, Parameter] = {}
        for path, spec in _leaves(space, "", problems):
            try:
                parameters[path] = _read_parameter(path, spec)
            except UserError as error:
                problems += [f"search.space.{path}{problem}" for problem in error.problems]
        if not parameters and not problems:
            problems.append("search.space: there is nothing in it to search")
        for one in parameters.values():
            problems += _refused_conditions(one, parameters, base)
        _raise(problems)
        found = cls(base, tuple(_in_order(parameters)))
        _raise(found._refused_ends())
        _raise(found._refused_combinations())
        return found

    def suggest(self, trial: Trial) -> Assignment:
        """Let Optuna choose a value for each parameter that applies."""
        chosen: Assignment = {}
        for one in self.parameters:
            if self._applies(one, chosen):
                chosen[one.path] = one.suggest(trial)
        return chosen

    def decode(self, stored: Mapping[str, Any]) -> Assignment:
        """Turn the parameters that Optuna has stored of a trial into values of the config."""
        return {
            one.path: one.decode(stored[one.path]) for one in self.parameters if one.path in stored
        }

    def encode(self, chosen: Assignment) -> dict[str, Any]:
        """Turn values of the config into what Optuna stores; `ValueError` for what can't be."""
        by_path = {one.path: one for one in self.parameters}
        return {path: by_path[path].encode(value) for path, value in chosen.items()}

    def apply(self, chosen: Assignment) -> TrainConfig:
        """Return the config that some choices make.

        Raises:
            UserError: when it is not valid.
        """
        plain = self.base.model_dump()
        for one in self.parameters:  # groups come before what changes within them
            if one.path in chosen:
                _set(plain, one.path, chosen[one.path])
        return validate_config(TrainConfig, plain, f"no valid config comes of {chosen}:")

    def assignment_of(self, config: TrainConfig) -> Assignment:
        """Return the choices that make a config, as far as the space reaches.

        Raises:
            UserError: naming each value that the space leaves out.
        """
        plain = config.model_dump()
        chosen: Assignment = {}
        problems = []
        for one in self.parameters:
            if not self._applies(one, chosen):
                continue
            try:
                value = self._choice_of(one, plain) if one.path in GROUPS else _get(plain, one.path)
                one.encode(value)
            except (KeyError, ValueError) as error:
                problems.append(f"{one.path}: {error.args[0]}")
                continue
            chosen[one.path] = value
        if problems:
            raise UserError("the search space leaves it out:", problems)
        return chosen

    def elsewhere(self, config: TrainConfig) -> list[str]:
        """Return the keys outside of the space in which a config differs from the base."""
        chosen = self.assignment_of(config)
        mine, theirs = (
            flatten(with_portable_paths(one.model_dump())) for one in (self.apply(chosen), config)
        )
        return sorted(
            key
            for key in mine.keys() | theirs.keys()
            if mine.get(key) != theirs.get(key) and not is_within(key, FIXED)
        )

    def grid(self, seed: int) -> list[Assignment]:
        """Return every combination, in an order that the seed decides.

        Raises:
            UserError: for ranges without steps, or too many combinations.
        """
        endless = [one.path for one in self.parameters if not one.grid()]
        if endless:
            raise UserError(
                "search.sampler=grid needs a step, or choices, for each parameter; without are:",
                endless,
            )
        points: dict[str, Assignment] = {}
        count = prod(len(one.grid()) for one in self.parameters)
        if count > LARGEST_GRID:
            raise UserError(
                f"search.sampler=grid: {count} combinations are too many; {LARGEST_GRID} may be",
                hint="Give larger steps, or another sampler.",
            )
        for values in product(*(one.grid() for one in self.parameters)):
            chosen: Assignment = {}
            for one, value in zip(self.parameters, values, strict=True):
                if self._applies(one, chosen):
                    chosen[one.path] = value
            points[json.dumps(chosen, sort_keys=True)] = chosen
        order = list(points.values())
        random.Random(seed).shuffle(order)
        return order

    def _applies(self, one: Parameter, chosen: Assignment) -> bool:
        for key, values in one.when.items():
            if key in chosen:
                if chosen[key] not in values:
                    return False
            elif any(other.path == key for other in self.parameters):
                return False  # of a branch that is not taken
            # What is not searched was held against the base when the space was read.
        return True

    def _choice_of(self, one: Parameter, plain: Mapping[str, Any]) -> str:
        """Find the choice of a group that a config was made with."""
        within = {p.path for p in self.parameters if p.path.startswith(f"{one.path}.")}
        given = flatten({one.path: plain[one.path]})
        for choice in one.choices:
            section = flatten({one.path: compose_section(one.path, choice)})
            differ = {key for key in section.keys() | given if section.get(key) != given.get(key)}
            if section.keys() == given.keys() and differ <= within:
                return str(choice)
        raise ValueError(f"is none of {', '.join(map(str, one.choices))} as they are in configs/")

    def _refused_ends(self) -> list[str]:
        """Try both ends of each range, and each choice, with all others as they usually are."""
        problems = []
        for one in self.parameters:
            for value in one.choices or (one.range.low, one.range.high):
                chosen: Assignment = {}
                for other in self.parameters:
                    if other.path in one.when:
                        wanted = [v for v in other.choices if v in one.when[other.path]]
                        chosen[other.path] = wanted[0]
                chosen[one.path] = value
                try:
                    self.apply(chosen)
                except UserError as error:
                    about = [text for text in error.problems if text.startswith(f"{one.path}:")]
                    problems += [f"search.space.{text}" for text in about]
        return list(dict.fromkeys(problems))

    def _refused_combinations(self) -> list[str]:
        """Draw configs at random and collect what the config refuses of them."""
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        problems: dict[str, str] = {}
        for _ in range(TRIED):
            chosen = self.suggest(study.ask())
            try:
                self.apply(chosen)
            except UserError as error:
                for text in error.problems:
                    problems.setdefault(text, f"{text} (with {_shown(chosen)})")
        return [f"search.space: {text}" for text in problems.values()]


def _leaves(
    space: Mapping[str, Any], prefix: str, problems: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each parameter of a nested space with its dotted key."""
    for name, content in space.items():
        path = f"{prefix}{name}"
        if content is None:  # how a command line takes a parameter out again
            continue
        if not isinstance(content, Mapping):
            problems.append(
                f"search.space.{path}: found {content!r}, expected a mapping with low and high, or "
                "with choices"
            )
            continue
        given = {key: value for key, value in content.items() if value is not None}
        spec = {key: value for key, value in given.items() if key in SPEC_KEYS}
        below = {key: value for key, value in content.items() if key not in SPEC_KEYS}
        if not content:
            problems.append(f"search.space.{path}: is empty; null leaves it out")
        if path in GROUPS or not spec:
            if spec:
                yield path, spec
            yield from _leaves(below, f"{path}.", problems)
        else:
            yield path, given


def _read_parameter(path: str, spec: Mapping[str, Any]) -> Parameter:
    """Read one parameter of a space.

    Raises:
        UserError: whose problems begin with what stands below the path, or with a colon.
    """
    is_group = path in GROUPS
    types = _types(path)
    problem = None
    if is_within(path, FIXED):
        problem = "a sweep holds it still; its trials are compared on the same rows and seeds"
    elif not types:
        keys = sorted(schema_keys(TrainConfig))
        problem = f"no such key{nearest(path, keys)}"
    elif "section" in types and not is_group:
        problem = "is a section of the config; search the keys below it"
    elif "choices" in spec:
        unneeded = [key for key in spec if key in ("low", "high", "step", "log")]
        if unneeded:
            names = ", ".join(unneeded)
            problem = f"give choices, or a range; {names} is too much (null takes it away)"
    elif is_group:
        problem = "needs choices"
    elif not types & {"integer", "number"}:
        problem = "is no number, so it needs choices"
    elif not {"low", "high"} <= spec.keys():
        missing = [key for key in ("low", "high") if key not in spec]
        problem = f"lacks {' and '.join(missing)}, or choices"
    if problem is not None:
        raise UserError(path, [f": {problem}"])
    try:
        if "choices" in spec:
            return _choices(path, validate_config(_ChoicesSpec, spec, path))
        if "number" in types:
            return _range(path, validate_config(_RangeSpec[float], spec, path))
        return _range(path, validate_config(_RangeSpec[int], spec, path))
    except ValueError as error:  # of Optuna
        raise UserError(path, [f": {error}"]) from None
    except UserError as error:
        # What is wrong with a part of it is told with its name.
        raise UserError(path, [
            f".{one}" if one.split(":")[0].split(".")[0] in SPEC_KEYS else f": {one}"
            for one in error.problems
        ]) from None  # fmt: skip


def _choices(path: str, spec: _ChoicesSpec) -> Parameter:
    if path in GROUPS:
        known = config_groups("train")[path]
        unknown = [choice for choice in spec.choices if choice not in known]
        if unknown:
            suggestion = nearest(str(unknown[0]), known)
            raise UserError(path, [f"choices: {unknown[0]!r}: no such choice{suggestion}; {known}"])
    stored = CategoricalDistribution([_encode(choice) for choice in spec.choices])
    return Parameter(path, stored, tuple(spec.choices), spec.when)


def _range(path: str, spec: _RangeSpec[int] | _RangeSpec[float]) -> Parameter:
    ends: dict[str, Any] = {"low": spec.low, "high": spec.high, "log": spec.log}
    if isinstance(spec.low, int):
        return Parameter(path, IntDistribution(**ends, step=int(spec.step or 1)), (), spec.when)
    return Parameter(path, FloatDistribution(**ends, step=spec.step), (), spec.when)


def _refused_conditions(
    one: Parameter, parameters: Mapping[str, Parameter], base: TrainConfig
) -> Iterator[str]:
    """Yield what is wrong with conditions on what does not exist, or that can't hold."""
    for key, values in one.when.items():
        other = parameters.get(key)
        problem: str | None
        if other is None:
            problem = _never(key, values, parameters, base)
        elif not other.choices:
            problem = f"{key} has a range, and a condition needs its choices"
        else:
            absent = [value for value in values if value not in other.choices]
            is_one = f"it is one of {list(other.choices)}"
            problem = f"{key} is never {absent[0]!r}, {is_one}" if absent else None
        if problem is not None:
            yield f"search.space.{one.path}.when: {problem}"


def _never(
    key: str, values: Sequence[Any], parameters: Mapping[str, Parameter], base: TrainConfig
) -> str | None:
    """Say why a condition on a key that is not searched never holds, if it never does."""
    if not _types(key):
        return f"{key}: no such key{nearest(key, sorted(schema_keys(TrainConfig)))}"
    group = key.partition(".")[0]
    if group in parameters and key != group:
        return f"{key} is not searched, and {group} is: name a choice of {group}"
    try:
        value = base.model.name if key == "model" else _get(base.model_dump(), key)
    except KeyError:
        value = {}
    if isinstance(value, dict):
        return f"{key} is not searched, and the config that the search starts from has none"
    if value not in values:
        return f"{key} is not searched and stays {value!r}, so that this never applies"
    return None


def _in_order(parameters: Mapping[str, Parameter]) -> Iterator[Parameter]:
    """Put groups first, and each parameter after those that it depends on.

    Raises:
        UserError: when conditions depend on each other.
    """
    order: TopologicalSorter[str] = TopologicalSorter()
    for one in sorted(parameters.values(), key=lambda one: one.path not in GROUPS):
        group, below, _ = one.path.partition(".")
        needed = [*one.when, group] if below else one.when
        order.add(one.path, *(key for key in needed if key in parameters))
    try:
        yield from [parameters[path] for path in order.static_order()]
    except CycleError as error:
        names = ", ".join(sorted(set(error.args[1])))
        _raise([f"search.space: the conditions of {names} depend on each other"])


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise UserError(
            "the search space has mistakes:",
            list(dict.fromkeys(problems)),
            "See configs/search/ for examples, src/tagger/config/schema.py for keys and ranges.",
        )


def _shown(chosen: Assignment) -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in chosen.items()
    )


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) <= ROUNDING


def _encode(choice: Any) -> Any:
    if choice is None or isinstance(choice, bool | int | float | str):
        return choice
    return json.dumps(choice)


def _types(path: str) -> set[str]:
    """Return the types of JSON that a key of the training config takes; empty for no such key."""
    nodes = [_schema()]
    for name in path.split("."):
        nodes = [
            option
            for node in nodes
            if name in node.get("properties", {})
            for option in _options(node["properties"][name])
        ]
    return {"section" if "properties" in node else node.get("type", "any") for node in nodes}


@cache
def _schema() -> dict[str, Any]:
    return TrainConfig.model_json_schema()


def _options(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Take a JSON schema apart into those that it allows."""
    if "$ref" in node:
        yield from _options(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    for option in node.get("anyOf", node.get("oneOf", [])):
        yield from _options(option)
    if not {"$ref", "anyOf", "oneOf"} & node.keys():
        yield node


def _set(plain: dict[str, Any], path: str, value: Any) -> None:
    if path in GROUPS:
        plain[path] = deepcopy(compose_section(path, value))
        return
    *parents, last = path.split(".")
    for name in parents:
        plain = plain[name]
    plain[last] = value


def _get(plain: Mapping[str, Any], path: str) -> Any:
    value: Any = plain
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise KeyError("the config has no such key")
        value = value[name]
    return value
