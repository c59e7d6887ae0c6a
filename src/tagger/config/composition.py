"""Composes the YAML files of `configs/` with overrides, and reports every mistake at once.

All that is known of Hydra's insides stands here.
"""

import itertools
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tagger.config.aliases import REMOVED, current_choice, current_key, upgrade_keys
from tagger.config.messages import (
    explain,
    nearest,
    schema_keys,
    short_line,
    shorten,
    validate_config,
)
from tagger.config.schema import OPEN_MAPPINGS, SCHEMAS, SectionT
from tagger.errors import UserError
from tagger.files import REPO_ROOT, resolve_path

CONFIG_DIR = REPO_ROOT / "configs"

GIVEN = "given-by-path"
"""What Hydra knows an experiment's file by that lies elsewhere."""

MISTAKES = "the config has mistakes:"
GONE = "there is no such key any more (docs/experiment-log.md)"
WHERE_TO_LOOK = (
    "See `--help` for the groups, configs/ for the files, src/tagger/config/schema.py for ranges."
)


def load_config(schema: type[SectionT], config: DictConfig) -> SectionT:
    """Turn a composed config into its typed form.

    Raises:
        UserError: naming every invalid key, what was found, and the nearest valid name.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise UserError(MISTAKES, [explain(error)], WHERE_TO_LOOK) from None
    plain = _with_current_names(plain)
    plain.pop("hydra", None)
    # To pydantic a ??? is as good a text as any.
    missing = sorted(key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra."))
    problems = [f"{key}: must be given" for key in missing]
    try:
        valid = validate_config(schema, plain, MISTAKES)
    except UserError as error:
        problems = list(dict.fromkeys([*problems, *error.problems]))
    if problems:
        raise UserError(MISTAKES, problems, WHERE_TO_LOOK)
    return valid


def with_source(overrides: Sequence[str]) -> list[str]:
    """Take `data.path=FILE` without `data=file` for what is meant: a file of one's own."""
    given = [text.partition("=")[0] for text in overrides]
    if "data.path" not in given or "data" in given or "experiment" in given:
        return list(overrides)
    at = given.index("data.path")
    return [*overrides[:at], "data=file", *overrides[at:]]


def translate_overrides(overrides: Sequence[str]) -> list[str]:
    """Return overrides under the names of today, and say on standard error what was renamed."""
    translated = []
    for text in overrides:
        plus, key, value = re.fullmatch(r"([+~]*)([^=]*)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        renamed = plus + current_key(key) + value
        if value and current_choice(key, value[1:]) != value[1:]:
            renamed = f"{plus}{key}={current_choice(key, value[1:])}"
        if renamed != text:
            print(f"note: {shorten(text)} is {shorten(renamed)} now", file=sys.stderr)
        translated.append(renamed)
    return translated


def compose_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose `configs/<name>.yaml` with overrides, reporting every mistake in one message.

    A yaml file serves as an experiment too, wherever it lies: `experiment=sweeps/NAME/best.yaml`.

    Raises:
        UserError: for groups, keys, values or syntax that are not valid.
    """
    groups = config_groups(name)
    keys = list(schema_keys(SCHEMAS[name]))
    problems: list[str] = []
    accepted: list[str] = []
    files: list[Path] = []
    for text in translate_overrides(overrides):
        try:
            override = OverridesParser.create().parse_override(text)
        # The grammar ends in many ways: a number of 5,000 digits is a ValueError.
        except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
            problems.append(
                f"{shorten(text)!r} is no KEY=VALUE, or its value needs quotes, \"KEY='VALUE'\": "
                + short_line(error)
            )
            continue
        path = _experiment_file(override) if "experiment" in groups else None
        if path is None:
            problem = _check_override(override, text, groups) or _check_key(override, keys, groups)
        else:
            files = [path]
            problem = _check_experiment_file(path, text)
        if problem:
            problems.append(problem)
        elif override.key_or_group in groups:
            accepted.append(text)
        else:
            # By force, because Hydra takes new entries of an open mapping (data.columns) only so.
            accepted.append(f"++{text.lstrip('+')}")
    # A script's own Hydra may be at work already, and there can be only one.
    outer = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        with (
            experiment_by_path(accepted) as found,
            initialize_config_dir(str(CONFIG_DIR), version_base="1.3"),
        ):
            config = compose(name, found)
        plain = OmegaConf.to_container(config, resolve=False)
        if (upgraded := _with_current_names(plain)) != plain:
            config = OmegaConf.create(upgraded)
        load_config(SCHEMAS[name], config)
    except UserError as error:
        problems += error.problems
    # Hydra ends in a ValueError too: at `~model=0`, for one.
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        named = str(files[0]) if files else ""
        problems.append(explain(error).replace(f"experiment/{GIVEN}", named))
    finally:
        Singleton.set_state(outer)
    if problems:
        raise UserError(MISTAKES, problems, WHERE_TO_LOOK)
    return config


@contextmanager
def experiment_by_path(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Let Hydra find the file of `experiment=PATH.yaml`, wherever it lies.

    Args:
        arguments: Of a script: overrides, and options of Hydra's own.

    Yields:
        The arguments as Hydra takes them.

    Raises:
        UserError: when the file is not there, or no experiment.
    """
    found: list[str] = []
    with TemporaryDirectory() as place:
        for text in arguments:
            try:
                path = _experiment_file(OverridesParser.create().parse_override(text))
            except HydraException:  # an option, or a mistake that Hydra speaks of
                path = None
            if path is None:
                found.append(text)
                continue
            problem = _check_experiment_file(path, text)
            if problem:
                raise UserError(MISTAKES, [problem])
            # Hydra looks for choices in folders of the group's name alone.
            group = Path(place, "experiment")
            group.mkdir(exist_ok=True)
            shutil.copy(path, group / f"{GIVEN}.yaml")
            # Beside each other: overrides must not be on both sides of an option.
            found += [f"experiment={GIVEN}", f"hydra.searchpath=['file://{place}']"]
        yield found


@cache
def compose_section(group: str, choice: str) -> Mapping[str, Any]:
    """Return a choice of a group as its file in `configs/` has it, for `train.py`.

    It is not validated: in some, keys are left for the user to give. It is composed once, so it is
    not to be changed.
    """
    outer = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = compose("train", [f"{group}={choice}"])
    finally:
        Singleton.set_state(outer)
    section = OmegaConf.to_container(config[group], resolve=True)
    assert isinstance(section, dict)
    return {str(key): value for key, value in section.items()}


def config_groups(name: str) -> dict[str, list[str]]:
    """Return the choices of each group that `configs/<name>.yaml` takes, by the group's name."""
    content = yaml.safe_load((CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8"))
    names = [key for entry in content["defaults"] if isinstance(entry, dict) for key in entry]
    return {
        group: sorted(file.stem for file in (CONFIG_DIR / group).glob("*.yaml"))
        for group in names
        if not group.startswith("override ")
    }


def _with_current_names(plain: object) -> dict[str, Any]:
    """Return a config's plain values under the names of today, and say what was renamed.

    Raises:
        UserError: when a key that is no more asks for something.
    """
    assert isinstance(plain, dict)
    upgraded, renamed, dropped = upgrade_keys(plain)
    if dropped:
        gone = [f"{one}: {GONE}" for one in dropped]
        raise UserError(MISTAKES, gone, WHERE_TO_LOOK)
    if renamed:
        print(f"note: keys were renamed: {', '.join(renamed)}", file=sys.stderr)
    return upgraded


def _experiment_file(override: Override) -> Path | None:
    """Return the file that an override names as the experiment; None for what is a choice."""
    plain = override.type == OverrideType.CHANGE and override.package is None
    if override.key_or_group != "experiment" or override.is_sweep_override() or not plain:
        return None
    value = override.value()
    if not isinstance(value, str) or not value.endswith((".yaml", ".yml")):
        return None
    return resolve_path(value)


def _check_experiment_file(path: Path, text: str) -> str | None:
    """Say why a file can't serve as the experiment that an override names, if it can't."""
    where = shorten(text)
    try:
        written = path.read_text(encoding="utf-8")
        content = OmegaConf.create(written)
    except FileNotFoundError:
        return f"{where}: there is no such file"
    # A name with a zero byte, and bytes that are no text, are ValueErrors.
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        return f"{where}: it cannot be read as yaml: {' '.join(str(error).split())}"
    head = itertools.takewhile(lambda line: not line or line.startswith("#"), written.splitlines())
    is_global = any(re.fullmatch(r"# *@package +_global_ *", line) for line in head)
    if not isinstance(content, DictConfig) or not is_global:
        return f"{where}: is no experiment, which has the line `# @package _global_` at its head"
    return None


def _check_override(
    override: Override, text: str, groups: Mapping[str, Sequence[str]]
) -> str | None:
    """Say what is wrong with an override that parses, if it is more than its key or value."""
    key, text = override.key_or_group, shorten(text)
    if not key:
        return f"{text!r} is no KEY=VALUE: the key is missing"
    if re.match(r"hydra\b", key):
        return f"{text}: hydra's own settings have no effect here; runs_dir and name say where to"
    if override.package is not None:
        return f"{text}: a choice can't be put elsewhere, write {key}=CHOICE"
    if override.is_sweep_override():
        return f"{text}: several values need -m, one run each; a value with a comma needs quotes"
    if override.is_delete():
        return None if key in groups else f"{text}: a key can't be left out, only changed"
    if key not in groups:
        return None
    choice, choices = override.value(), ", ".join(groups[key])
    if choice is None:
        return f"{text}: nothing to choose; to leave out a choice that was made, write ~{key}"
    if not isinstance(choice, str):
        return f"{text}: expected one of {choices}"
    if override.is_add() or override.is_force_add():
        return f"{text}: write it without the plus, {key}={choice}"
    if choice not in groups[key]:
        return f"{key}={choice}: no such choice{nearest(choice, groups[key])}; there are {choices}"
    return None


def _check_key(
    override: Override, keys: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> str | None:
    """Refuse an unknown key: Hydra would stop at the first one, and does not say which is near."""
    key = override.key_or_group
    if key in keys or key in groups or key.startswith(OPEN_MAPPINGS):
        return None
    if key in REMOVED:
        return f"{key}: {GONE}"
    return f"{shorten(key)}: no such key{nearest(key, keys)}"
