"""Composes the YAML files of `configs/` with overrides, and reports every mistake at once.

All that is known of Hydra's insides stands here.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, lru_cache
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
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
from tagger.files import REPO_ROOT, plain_name, resolve_path

CONFIG_DIR = REPO_ROOT / "configs"

OF_AN_ENCODER = {
    "name": "null",
    "revision": "null",
    "sha256": "null",
    "random": "null",
    "pooling": "auto",
    "prompt": "null",
    "normalize": "null",
}
"""Keys of a model that are about its encoder, and the values that leave them to another one."""

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
    # To pydantic a ??? is as good a text as any.
    problems = [f"{key}: must be given" for key in sorted(OmegaConf.missing_keys(config))]
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


def with_encoder(name: str, overrides: Sequence[str]) -> list[str]:
    """Take `model.encoder=ENCODER` for what is meant: that encoder, used as its own files say.

    What `configs/model/` says of its own encoder does not hold for another; what is given does.

    Args:
        name: Of the config, whose groups it takes.
        overrides: Under the names of today.
    """
    pairs = [text.lstrip("+").partition("=")[::2] for text in overrides]
    given = dict(pairs)
    choice = given.get("model", "minilm")
    if "model.encoder" not in given or choice not in config_groups(name).get("model", ()):
        return list(overrides)
    chosen = compose_section("model", choice)
    encoder = given["model.encoder"].strip("'\"")
    if encoder == chosen.get("encoder", encoder):
        return list(overrides)
    kept = {"random"} if encoder == "random" else set()
    static = given.get("model.static", chosen.get("static"))
    if static not in (None, "null"):  # whose vectors are pooled in one way alone
        kept |= {"pooling", "normalize"}
    reset = [
        f"model.{key}={value}"
        for key, value in OF_AN_ENCODER.items()
        if key in chosen and key not in kept and f"model.{key}" not in given
    ]
    # Beside it, since an option of Hydra's may come before.
    at = [key for key, _ in pairs].index("model.encoder")
    return [*overrides[:at], *reset, *overrides[at:]]


def translate_overrides(overrides: Sequence[str]) -> list[str]:
    """Return overrides under the names of today, and say on standard error what was renamed."""
    translated = []
    for text in overrides:
        signs, key, value = re.fullmatch(r"([+~]*)([^=]*)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        choices = [current_choice(key, choice) for choice in value[1:].split(",")]
        renamed = f"{signs}{current_key(key)}{value[:1]}{','.join(choices)}"
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
    choices: list[str] = []
    values: list[str] = []
    for text in with_encoder(name, translate_overrides(overrides)):
        try:
            override = OverridesParser.create().parse_override(text)
        # The grammar ends in many ways: a number of 5,000 digits is a ValueError.
        except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
            problems.append(
                f"{shorten(text)!r} is no KEY=VALUE, or its value needs quotes, \"KEY='VALUE'\": "
                + short_line(error)
            )
            continue
        if problem := _check_override(override, text, keys, groups):
            problems.append(problem)
        elif override.key_or_group in groups:
            choices.append(text)
        else:
            # By force, because Hydra takes new entries of an open mapping (data.columns) only so.
            values.append(f"++{text.lstrip('+')}")
    try:
        with experiment_by_path(choices) as found:
            config = deepcopy(_compose_choices(name, tuple(found), _state_of(CONFIG_DIR)))
        parsed = OverridesParser.create().parse_overrides(values)
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
        plain = OmegaConf.to_container(config, resolve=False)
        if (upgraded := _with_current_names(plain)) != plain:
            config = OmegaConf.create(upgraded)
        load_config(SCHEMAS[name], config)
    except UserError as error:
        problems += [shorten(one, 900) for one in error.problems]  # keys of one's own may be long
    # Hydra ends in a ValueError too: at `~model=0`, for one.
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        problems.append(explain(error))
    if problems:
        raise UserError(MISTAKES, problems, WHERE_TO_LOOK)
    return config


@lru_cache(maxsize=64)
def _compose_choices(name: str, choices: tuple[str, ...], state: object) -> DictConfig:
    """Compose a config from choices of groups alone, which takes Hydra a tenth of a second.

    Args:
        name: Of the config.
        choices: As Hydra takes them.
        state: What the files of `configs/` were like: one that is edited is composed anew.
    """
    with _config_dir():
        return compose(name, list(choices))


def _state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, time of change in nanoseconds, and bytes of each YAML file in a folder."""
    found = [(str(path), path.stat()) for path in sorted(folder.rglob("*.yaml"))]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


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
            path = _experiment_file(text)
            if path is None:
                found.append(text)
                continue
            # Hydra looks for choices in folders of the group's name alone.
            choice = f"given-{plain_name(path)}"
            copy = Path(place, "experiment", f"{choice}.yaml")
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(_read_experiment(path, text), encoding="utf-8")
            # Beside each other: overrides must not be on both sides of an option.
            found += [f"experiment={choice}", f"hydra.searchpath=['file://{place}']"]
        yield found


@contextmanager
def _config_dir() -> Iterator[None]:
    """Let Hydra compose from `configs/`, though a script's own Hydra may be at work already."""
    outer = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            yield
    finally:
        Singleton.set_state(outer)


@cache
def compose_section(group: str, choice: str) -> Mapping[str, Any]:
    """Return a choice of a group as its file in `configs/` has it, for `train.py`.

    It is not validated: in some, keys are left for the user to give. It is composed once, so it is
    not to be changed.
    """
    with _config_dir():
        config = compose("train", [f"{group}={choice}"])
    section = OmegaConf.to_container(config[group], resolve=True)
    assert isinstance(section, dict)
    return {str(key): value for key, value in section.items()}


def config_groups(name: str) -> dict[str, list[str]]:
    """Return the choices of each group that `configs/<name>.yaml` takes, by the group's name."""
    content = yaml.safe_load((CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8"))
    names = [key for entry in content["defaults"] if isinstance(entry, dict) for key in entry]
    groups = [key.removeprefix("optional ") for key in names if not key.startswith("override ")]
    choices = {
        group: sorted(file.stem for file in (CONFIG_DIR / group).glob("*.yaml")) for group in groups
    }
    return {group: found for group, found in choices.items() if found}  # `local` may be absent


def help_text(name: str, overrides: Sequence[str]) -> str:
    """Return what `--help` says: Hydra's own would list the groups of all commands.

    Args:
        name: Of the config.
        overrides: What the config that is shown is composed with.

    Raises:
        UserError: for overrides that cannot be composed.
    """
    content = yaml.safe_load((CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = (f"{group}: {', '.join(one)}" for group, one in sorted(config_groups(name).items()))
    try:
        with experiment_by_path(translate_overrides(overrides)) as found, _config_dir():
            config = OmegaConf.to_yaml(compose(name, found))
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        raise UserError(MISTAKES, [explain(error)], WHERE_TO_LOOK) from None
    template = Template(content["hydra"]["help"]["template"])
    return template.substitute(APP_CONFIG_GROUPS="\n".join(groups) + "\n", CONFIG=config)


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


def _experiment_file(text: str) -> Path | None:
    """Return the file that an override names as the experiment; None for any other override."""
    named = re.fullmatch(r"""experiment=(['"]?)([^,]+\.ya?ml)\1""", text, re.DOTALL)
    return resolve_path(named[2]) if named else None


def _read_experiment(path: Path, text: str) -> str:
    """Return what is written in the file that an override names as the experiment.

    Raises:
        UserError: when it cannot serve as one.
    """
    try:
        written = path.read_text(encoding="utf-8")
        content = OmegaConf.create(written)
    except FileNotFoundError:
        problem = "there is no such file"
    # A name with a zero byte, and bytes that are no text, are ValueErrors.
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        problem = f"it cannot be read as yaml: {' '.join(str(error).split())}"
    else:
        head = r"((#.*)?\n)*# *@package +_global_ *(\n|\Z)"
        if isinstance(content, DictConfig) and re.match(head, written):
            return written
        problem = "is no experiment, which has the line `# @package _global_` at its head"
    raise UserError(MISTAKES, [f"{shorten(text)}: {problem}"])


def _check_override(
    override: Override, text: str, keys: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> str | None:
    """Say what is wrong with an override that parses; Hydra would stop at the first mistake."""
    key, shown = override.key_or_group, shorten(text)
    if override.is_sweep_override():
        return f"{shown}: several values need -m, one run each; a value with a comma needs quotes"
    if key not in groups:
        if override.is_delete():
            return f"{shown}: a key can't be left out, only changed"
        if key in REMOVED:
            return f"{key}: {GONE}"
        if key in keys or key.startswith(OPEN_MAPPINGS):
            return None
        return f"{shorten(key or text)}: no such key{nearest(key, keys)}"
    if override.is_delete() or _experiment_file(text):
        return None
    choice, choices = override.value(), groups[key]
    if choice is None:
        return f"{shown}: nothing to choose; to leave out a choice that was made, write ~{key}"
    if choice not in choices:
        near = nearest(str(choice), choices)
        return f"{shown}: no such choice{near}; there are {', '.join(choices)}"
    return None
