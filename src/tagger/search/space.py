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
from graphlib import CycleError, TopologicalSorter
from itertools import product
from math import prod
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import optuna
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler
from optuna.trial import Trial
from pydantic import Field, JsonValue, model_validator

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
    "data.path", "data.more", "data.hub_id", "data.hub_split", "data.hub_revision", "data.url",
    "data.sha256", "data.columns", "data.tags", "data.split",
)  # fmt: skip
"""Keys that a sweep holds still: its trials are compared on the same rows and seeds."""

TRIED = 200
"""Random configs that are validated before the first trial."""

LARGEST_GRID = 10_000
ROUNDING = 1e-9

Assignment = dict[str, JsonValue]
"""A value for each parameter that applies, by dotted key."""

Number = TypeVar("Number", int, float)


class _Spec(Section, Generic[Number]):
    """A parameter as the yaml file of a space has it: choices, or a range with both its ends."""

    choices: Annotated[list[JsonValue], Field(min_length=1)] | None = None
    low: Annotated[Number, Field(allow_inf_nan=False)] | None = None
    high: Annotated[Number, Field(allow_inf_nan=False)] | None = None
    step: Annotated[Number, Field(gt=0, allow_inf_nan=False)] | None = None
    log: bool | None = None
    when: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "_Spec[Number]":
        if self.choices is not None:
            unneeded = self.model_fields_set - {"choices", "when"}
            if unneeded:
                names = ", ".join(sorted(unneeded))
                raise ValueError(f"give choices, or a range; {names} is too much (null removes it)")
            if any(one in self.choices[:at] for at, one in enumerate(self.choices)):
                raise ValueError(f"{self.choices} names one twice")
        elif self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        elif self.low >= self.high:
            raise ValueError(f"the range is empty: low={self.low} is not below high={self.high}")
        elif self.step is not None and not _is_whole((self.high - self.low) / self.step):
            raise ValueError(
                f"no whole number of steps of {self.step} leads from {self.low} to {self.high}"
            )
        return self

    def distribution(self) -> CategoricalDistribution | IntDistribution | FloatDistribution:
        """Return what Optuna draws from; `ValueError` for what it refuses."""
        if self.choices is not None:
            return CategoricalDistribution([_encode(choice) for choice in self.choices])
        low, high, log = self.low, self.high, bool(self.log)
        assert low is not None and high is not None
        if isinstance(low, int):
            return IntDistribution(low, int(high), log, int(self.step or 1))
        return FloatDistribution(low, high, log, self.step)


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
    choices: tuple[JsonValue, ...]
    when: Mapping[str, tuple[JsonValue, ...]]

    @property
    def range(self) -> IntDistribution | FloatDistribution:
        """The range of a parameter that has no choices."""
        assert not isinstance(self.distribution, CategoricalDistribution)
        return self.distribution

    def decode(self, stored: Any) -> JsonValue:
        """Turn what Optuna stores into what the config takes."""
        if not self.choices:
            return stored  # type: ignore[no-any-return]
        return self.choices[int(self.distribution.to_internal_repr(stored))]

    def encode(self, value: JsonValue) -> object:
        """Turn a value of the config into what Optuna stores.

        Raises:
            ValueError: when the parameter cannot have it.
        """
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{value!r} is not among {list(self.choices)}")
            return _encode(value)
        low, high, step = self.range.low, self.range.high, self.range.step
        if isinstance(value, bool | str | list | dict | None) or not low <= value <= high:
            raise ValueError(f"{value!r} is not from {low} to {high}")
        if step is not None and not _is_whole((value - low) / step):
            raise ValueError(f"{value!r} is not on a step of {step} from {low}")
        return value

    def suggest(self, trial: Trial) -> JsonValue:
        """Let Optuna draw a value, as the config takes it."""
        drawn = self.distribution
        if isinstance(drawn, CategoricalDistribution):
            return self.decode(trial.suggest_categorical(self.path, drawn.choices))
        if isinstance(drawn, IntDistribution):
            return trial.suggest_int(
                self.path, drawn.low, drawn.high, step=drawn.step, log=drawn.log
            )
        return trial.suggest_float(self.path, drawn.low, drawn.high, step=drawn.step, log=drawn.log)

    def grid(self) -> Sequence[JsonValue]:
        """Return all values, as the config takes them; empty where there is no end of them."""
        if self.choices:
            return self.choices
        low, high, step = self.range.low, self.range.high, self.range.step
        if step is None or self.range.log:
            return []
        # 0.1 + 2 * 0.1 is not 0.3, and would be another value to the eye and to a table.
        return [round(low + at * step, 12) for at in range(round((high - low) / step) + 1)]


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
    def parse(cls, space: Mapping[str, object], base: TrainConfig) -> "SearchSpace":
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
                problems += [f"search.space.{path}: {problem}" for problem in error.problems]
        if not parameters and not problems:
            problems.append("search.space: there is nothing in it to search")
        for one in parameters.values():
            problems += _refused_conditions(one, parameters, base)
        _raise(problems)
        found = cls(base, _in_order(parameters))
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

    def encode(self, chosen: Assignment) -> dict[str, object]:
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
                *sections, last = one.path.split(".")
                section = plain
                for name in sections:
                    section = section[name]
                value = chosen[one.path]
                is_group = one.path in GROUPS
                section[last] = deepcopy(compose_section(last, str(value))) if is_group else value
        return validate_config(TrainConfig, plain, f"no valid config comes of {chosen}:")

    def assignment_of(self, config: TrainConfig) -> Assignment:
        """Return the choices that make a config, as far as the space reaches.

        Raises:
            UserError: naming each value that the space leaves out.
        """
        plain = config.model_dump()
        values = flatten(plain)
        chosen: Assignment = {}
        problems = []
        for one in self.parameters:
            if not self._applies(one, chosen):
                continue
            try:
                value = self._choice_of(one, plain) if one.path in GROUPS else values[one.path]
                one.encode(value)
                chosen[one.path] = value
            except KeyError:
                problems.append(f"{one.path}: the config has no such key")
            except ValueError as error:
                problems.append(f"{one.path}: {error}")
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
        grids = [one.grid() for one in self.parameters]
        count = prod(map(len, grids))
        if count > LARGEST_GRID:
            raise UserError(
                f"search.sampler=grid: {count} combinations are too many; {LARGEST_GRID} may be",
                hint="Give larger steps, or another sampler.",
            )
        points: dict[str, Assignment] = {}
        for values in product(*grids):
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
            section = flatten({one.path: compose_section(one.path, str(choice))})
            differ = {key for key in section.keys() | given if section.get(key) != given.get(key)}
            if section.keys() == given.keys() and differ <= within:
                return str(choice)
        raise ValueError(f"is none of {', '.join(map(str, one.choices))} as they are in configs/")

    def _refused_ends(self) -> list[str]:
        """Try both ends of each range, and each choice, with all others as they usually are."""
        problems = []
        for one in self.parameters:
            condition: Assignment = {
                other.path: next(value for value in other.choices if value in one.when[other.path])
                for other in self.parameters
                if other.path in one.when
            }
            for value in one.choices or (one.range.low, one.range.high):
                try:
                    self.apply(condition | {one.path: value})
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
                shown = ", ".join(
                    f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in chosen.items()
                )
                for text in error.problems:
                    problems.setdefault(text, f"{text} (with {shown})")
        return [f"search.space: {text}" for text in problems.values()]


def _leaves(
    space: Mapping[str, object], prefix: str, problems: list[str]
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield each parameter of a nested space with its dotted key."""
    for name, content in space.items():
        path = f"{prefix}{name}"
        if content is None:  # how a command line takes a parameter out again
            continue
        if not isinstance(content, Mapping) or not content:
            problems.append(
                f"search.space.{path}: found {content!r}, expected a mapping with low and high, or "
                "with choices"
            )
            continue
        given = {key: value for key, value in content.items() if value is not None}
        spec = {key: value for key, value in given.items() if key in _Spec.model_fields}
        if spec:
            yield path, spec if path in GROUPS else given
        if path in GROUPS or not spec:
            below = {key: value for key, value in content.items() if key not in _Spec.model_fields}
            yield from _leaves(below, f"{path}.", problems)


def _read_parameter(path: str, given: Mapping[str, object]) -> Parameter:
    """Read one parameter of a space.

    Raises:
        UserError: with what is wrong with it.
    """
    types = _types(path)
    problem = None
    if is_within(path, FIXED):
        problem = "a sweep holds it still; its trials are compared on the same rows and seeds"
    elif not types:
        problem = f"no such key{nearest(path, sorted(schema_keys(TrainConfig)))}"
    elif path not in GROUPS and any(isinstance(one, type(Section)) for one in types):
        problem = "is a section of the config; search the keys below it"
    elif "choices" not in given and not types & {int, float}:
        problem = "is no number, so it needs choices"
    if problem is not None:
        raise UserError(path, [problem])
    spec = (
        validate_config(_Spec[float], given, path)
        if float in types
        else validate_config(_Spec[int], given, path)
    )
    choices = tuple(spec.choices or ())
    known = config_groups("train").get(path, [])
    for choice in choices if path in GROUPS else ():
        if choice not in known:
            suggestion = nearest(str(choice), known)
            raise UserError(path, [f"choices: {choice!r}: no such choice{suggestion}; {known}"])
    when = {
        key: tuple(values) if isinstance(values, list) else (values,)
        for key, values in spec.when.items()
    }
    try:
        return Parameter(path, spec.distribution(), choices, when)
    except ValueError as error:  # of Optuna
        raise UserError(path, [str(error)]) from None


def _refused_conditions(
    one: Parameter, parameters: Mapping[str, Parameter], base: TrainConfig
) -> Iterator[str]:
    """Yield what is wrong with conditions on what does not exist, or that can't hold."""
    fixed = flatten(base.model_dump()) | {"model": base.model.name}
    for key, values in one.when.items():
        group = key.partition(".")[0]
        problem = None
        if key in parameters:
            choices = parameters[key].choices
            absent = [value for value in values if value not in choices]
            if not choices:
                problem = f"{key} has a range, and a condition needs its choices"
            elif absent or not values:
                problem = f"{key} is never {absent}, it is one of {list(choices)}"
        elif not _types(key):
            problem = f"{key}: no such key{nearest(key, sorted(schema_keys(TrainConfig)))}"
        elif group in parameters:
            problem = f"{key} is not searched, and {group} is: name a choice of {group}"
        elif key not in fixed:
            problem = f"{key} is not searched, and the config that the search starts from has none"
        elif fixed[key] not in values:
            problem = f"{key} is not searched and stays {fixed[key]!r}, so that this never applies"
        if problem is not None:
            yield f"search.space.{one.path}.when: {problem}"


def _in_order(parameters: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
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
        return tuple(parameters[path] for path in order.static_order())
    except CycleError as error:
        names = ", ".join(sorted(set(error.args[1])))
        _raise([f"search.space: the conditions of {names} depend on each other"])
        raise


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise UserError(
            "the search space has mistakes:",
            list(dict.fromkeys(problems)),
            "See configs/search/ for examples, src/tagger/config/schema.py for keys and ranges.",
        )


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) <= ROUNDING


def _encode(choice: JsonValue) -> bool | int | float | str | None:
    return json.dumps(choice) if isinstance(choice, list | dict) else choice


def _types(path: str) -> set[object]:
    """Return the types that a key of the training config takes; empty for no such key."""
    found: set[object] = {TrainConfig}
    for name in path.split("."):
        found = {
            option
            for one in found
            if isinstance(one, type(Section)) and name in one.model_fields
            for option in _options(one.model_fields[name].annotation)
        }
    return found


def _options(annotation: object) -> Iterator[object]:
    """Take a union apart into its types, without what restricts their values."""
    if get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from _options(option)
    elif get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    else:
        yield annotation
