"""What a sweep may change: keys of the training config, their ranges, and when each applies.

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
import math
import random
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Annotated, Any

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial
from pydantic import BaseModel

from tagger.config.composition import compose_section, config_groups
from tagger.config.messages import nearest, schema_keys, validate_config
from tagger.config.overrides import flatten, is_within
from tagger.config.paths import with_portable_paths
from tagger.config.schema import TrainConfig
from tagger.errors import UserError

PARAMETER_KEYS = ("low", "high", "step", "log", "choices", "when")
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
LONGEST = 40
ROUNDING = 1e-9

Range = IntDistribution | FloatDistribution

Assignment = dict[str, Any]
"""A value for each parameter that applies, by dotted key."""


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
    distribution: CategoricalDistribution | Range
    choices: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]]

    @property
    def range(self) -> Range:
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
        low, high = self.range.low, self.range.high
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is no number from {low} to {high}")
        if not low <= value <= high:
            raise ValueError(f"{value!r} is not from {low} to {high}")
        step = self.range.step
        if step is not None and abs((value - low) / step - round((value - low) / step)) > ROUNDING:
            raise ValueError(f"{value!r} is not on a step of {self.range.step} from {low}")
        return value

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
            parameter = _read_parameter(path, spec, problems)
            if parameter is not None:
                parameters[path] = parameter
        if not parameters and not problems:
            problems.append("search.space: there is nothing in it to search")
        _check_conditions(parameters, base.model_dump(), problems)
        _raise(problems)
        found = cls(base, tuple(_in_order(parameters, problems)))
        _raise(problems)
        _raise(found._refused_ends())
        _raise(found._refused_combinations())
        return found

    def suggest(self, trial: Trial) -> Assignment:
        """Let Optuna choose a value for each parameter that applies."""
        chosen: Assignment = {}
        for one in self.parameters:
            if self._applies(one, chosen):
                chosen[one.path] = one.decode(_suggest(trial, one))
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
        count = 1
        for one in self.parameters:
            count *= len(one.grid())
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
            if one.choices:
                values: Sequence[Any] = one.choices
            else:
                values = (one.range.low, one.range.high)
            for value in values:
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
        rng = random.Random(0)
        problems: dict[str, str] = {}
        for _ in range(TRIED):
            chosen: Assignment = {}
            for one in self.parameters:
                if self._applies(one, chosen):
                    chosen[one.path] = _draw(one, rng)
            try:
                self.apply(chosen)
            except UserError as error:
                for text in error.problems:
                    problems.setdefault(text, f"{text} (with {_shown(chosen)})")
        return [f"search.space: {text}" for text in problems.values()]


def _suggest(trial: Trial, one: Parameter) -> Any:
    drawn = one.distribution
    if isinstance(drawn, CategoricalDistribution):
        return trial.suggest_categorical(one.path, drawn.choices)
    if isinstance(drawn, IntDistribution):
        return trial.suggest_int(one.path, drawn.low, drawn.high, step=drawn.step, log=drawn.log)
    return trial.suggest_float(one.path, drawn.low, drawn.high, step=drawn.step, log=drawn.log)


def _shown(chosen: Assignment) -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in chosen.items()
    )


def _draw(one: Parameter, rng: random.Random) -> Any:
    if one.choices:
        return rng.choice(one.choices)
    if isinstance(one.range, IntDistribution):
        return rng.randrange(one.range.low, one.range.high + 1, one.range.step)
    return rng.uniform(one.range.low, one.range.high)


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
        spec = {
            key: value
            for key, value in content.items()
            if key in PARAMETER_KEYS and value is not None
        }
        rest = {key: value for key, value in content.items() if key not in PARAMETER_KEYS}
        if spec:
            yield path, spec
        elif not rest:
            problems.append(f"search.space.{path}: is empty; null leaves it out")
        if rest and spec and path not in GROUPS:
            known = ", ".join(PARAMETER_KEYS)
            problems.append(
                f"search.space.{path}: {', '.join(map(str, rest))} says nothing of a parameter; "
                f"there are {known}"
            )
        elif rest:
            yield from _leaves(rest, f"{path}.", problems)


def _read_parameter(path: str, spec: Mapping[str, Any], problems: list[str]) -> Parameter | None:
    where = f"search.space.{path}"
    before = len(problems)
    is_group = path in GROUPS
    if is_within(path, FIXED):
        problems.append(
            f"{where}: a sweep holds it still; its trials are compared on the same rows and seeds"
        )
    elif not is_group and path not in _keys():
        problems.append(f"{where}: no such key{nearest(path, sorted(_keys()))}")
    elif not is_group and not _kinds(path):
        problems.append(f"{where}: is a section of the config; search the keys below it")
    if len(problems) > before:
        return None
    when = _read_conditions(where, spec.get("when", {}), problems)
    if "choices" in spec:
        unneeded = [key for key in ("low", "high", "step", "log") if key in spec]
        if unneeded:
            problems.append(
                f"{where}: give choices, or a range; {', '.join(unneeded)} is too much (null takes "
                "it away)"
            )
        choices = _read_choices(path, spec["choices"], problems)
        if len(problems) > before:
            return None
        stored = CategoricalDistribution([_encode(choice) for choice in choices])
        return Parameter(path, stored, tuple(choices), when)
    missing = [key for key in ("low", "high") if key not in spec]
    if is_group:
        problems.append(f"{where}: needs choices")
    elif missing:
        problems.append(f"{where}: lacks {' and '.join(missing)}, or choices")
    if len(problems) > before:
        return None
    distribution = _read_range(path, spec, problems)
    return None if distribution is None else Parameter(path, distribution, (), when)


def _read_choices(path: str, choices: Any, problems: list[str]) -> list[Any]:
    where = f"search.space.{path}.choices"
    if not isinstance(choices, list) or not choices:
        problems.append(f"{where}: found {choices!r}, expected a list of one or more")
        return []
    if any(one in choices[:at] for at, one in enumerate(choices)):
        problems.append(f"{where}: {choices} names one twice")
    if path in GROUPS:
        known = config_groups("train")[path]
        for choice in choices:
            if choice not in known:
                suggestion = nearest(str(choice), known)
                problems.append(f"{where}: {choice!r}: no such choice{suggestion}; {known}")
    return choices


def _read_range(path: str, spec: Mapping[str, Any], problems: list[str]) -> Range | None:
    where = f"search.space.{path}"
    low, high, step, log = spec["low"], spec["high"], spec.get("step"), spec.get("log", False)
    kinds = _kinds(path)
    if not kinds & {int, float}:
        problems.append(f"{where}: is no number, so it needs choices")
        return None
    whole = float not in kinds
    before = len(problems)
    for key, value in {"low": low, "high": high, "step": step}.items():
        if key == "step" and value is None:
            continue
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not _is_real(value):
            kind = "whole number" if whole else "number"
            problems.append(f"{where}.{key}: found {_short(value)}, expected a {kind}")
    if not isinstance(log, bool):
        problems.append(f"{where}.log: found {log!r}, expected true or false")
    if len(problems) > before:
        return None
    if low >= high:
        problems.append(f"{where}: the range is empty: low={low} is not below high={high}")
    if step is not None and step <= 0:
        problems.append(f"{where}.step: found {step}, expected more than 0")
    elif step is not None and abs((high - low) / step - round((high - low) / step)) > ROUNDING:
        problems.append(f"{where}: no whole number of steps of {step} leads from {low} to {high}")
    if log and step is not None:
        problems.append(f"{where}: log and step exclude each other")
    if log and low <= 0:
        problems.append(f"{where}: low={low} has no logarithm; log needs a low above 0")
    if len(problems) > before:
        return None
    if whole:
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _read_conditions(where: str, when: Any, problems: list[str]) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, Mapping):
        problems.append(f"{where}.when: found {when!r}, expected a mapping such as {{KEY: VALUE}}")
        return {}
    return {
        str(key): tuple(values) if isinstance(values, list) else (values,)
        for key, values in when.items()
    }


def _check_conditions(
    parameters: Mapping[str, Parameter], plain: Mapping[str, Any], problems: list[str]
) -> None:
    """Refuse conditions on what does not exist, or that can't hold."""
    for one in parameters.values():
        where = f"search.space.{one.path}.when"
        for key, values in one.when.items():
            other = parameters.get(key)
            if not values:
                problems.append(f"{where}: {key}: expected one value or more, found none")
            elif other is None:
                problem = _never(key, values, parameters, plain)
                problems += [f"{where}: {problem}"] if problem else []
            elif not other.choices:
                problems.append(f"{where}: {key} has a range, and a condition needs its choices")
            else:
                absent = [value for value in values if value not in other.choices]
                if absent:
                    problems.append(
                        f"{where}: {key} is never {absent[0]!r}, it is one of {list(other.choices)}"
                    )


def _never(
    key: str,
    values: Sequence[Any],
    parameters: Mapping[str, Parameter],
    plain: Mapping[str, Any],
) -> str | None:
    """Say why a condition on a key that is not searched never holds, if it never does."""
    if key not in _keys() and key not in GROUPS:
        return f"{key}: no such key{nearest(key, sorted(_keys()))}"
    group = key.partition(".")[0]
    if group in parameters and key != group:
        return f"{key} is not searched, and {group} is: name a choice of {group}"
    try:
        value = _unsearched(key, plain)
    except KeyError:
        return f"{key} is not searched, and the config that the search starts from has none"
    if value not in values:
        return f"{key} is not searched and stays {value!r}, so that this never applies"
    return None


def _unsearched(key: str, plain: Mapping[str, Any]) -> Any:
    """Return what a condition on a key compares; `KeyError` where the config has no such key."""
    if key == "model":
        return plain["model"]["name"]
    if key in GROUPS:
        raise KeyError(key)
    return _get(plain, key)


def _in_order(parameters: Mapping[str, Parameter], problems: list[str]) -> list[Parameter]:
    """Put groups first, and each parameter after those that it depends on."""
    waiting = sorted(parameters.values(), key=lambda one: one.path not in GROUPS)
    order: list[Parameter] = []
    while waiting:
        placed = {one.path for one in order}
        for one in waiting:
            if all(key in placed or key not in parameters for key in one.when):
                order.append(one)
                waiting.remove(one)
                break
        else:
            names = ", ".join(one.path for one in waiting)
            problems.append(f"search.space: the conditions of {names} depend on each other")
            return order
    return order


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise UserError(
            "the search space has mistakes:",
            list(dict.fromkeys(problems)),
            "See configs/search/ for examples, src/tagger/config/schema.py for keys and ranges.",
        )


def _is_real(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _encode(choice: Any) -> Any:
    if choice is None or isinstance(choice, bool | int | float | str):
        return choice
    return json.dumps(choice)


@cache
def _keys() -> frozenset[str]:
    return frozenset(schema_keys(TrainConfig))


def _kinds(path: str) -> set[type]:
    """Return the types that a key of the training config takes; empty for a section."""
    sections: list[type[BaseModel]] = [TrainConfig]
    *parents, last = path.split(".")
    for name in parents:
        sections = [
            option
            for section in sections
            if name in section.model_fields
            for option in _options(section.model_fields[name].annotation)
            if isinstance(option, type) and issubclass(option, BaseModel)
        ]
    kinds: set[type] = set()
    for section in sections:
        if last in section.model_fields:
            for option in _options(section.model_fields[last].annotation):
                if isinstance(option, type) and issubclass(option, BaseModel):
                    return set()
                kinds.add(option if isinstance(option, type) else type(option))
    return kinds


def _options(annotation: Any) -> list[Any]:
    """Take an annotation apart into the types, or the values of a `Literal`, that it allows."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _options(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for one in typing.get_args(annotation) for kind in _options(one)]
    if origin is typing.Literal:
        return list(typing.get_args(annotation))
    return [origin or annotation]


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
