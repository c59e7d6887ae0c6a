"""Saves configs in run folders and sweeps, and reads them back."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tagger.config.aliases import upgrade_keys
from tagger.config.messages import short_line, validate_config
from tagger.config.paths import with_portable_paths
from tagger.errors import UserError
from tagger.files import write_text

if TYPE_CHECKING:
    from tagger.config.schema import Section, SectionT

START_KEYS = {"runs_dir", "name", "if_exists", "resume"}
"""Keys that say how a run is started, not what it is."""


def save_config(config: "Section", path: Path) -> None:
    """Write a config as yaml that `load_saved_config` reads back; see `tagger.config.paths`."""
    write_yaml(with_portable_paths(config.model_dump()), path)


def write_yaml(values: Mapping[str, object], path: Path) -> None:
    """Write plain values as yaml, in their order."""
    write_text(path, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def load_saved_config(schema: "type[SectionT]", path: Path) -> "SectionT":
    """Read a config that was saved; its paths are as they are stored.

    Raises:
        UserError: when the file is missing, is not yaml, or does not fit the schema.
    """
    return validate_saved(schema, read_yaml(path), path)


def validate_saved(schema: "type[SectionT]", plain: Mapping[str, object], path: Path) -> "SectionT":
    """Turn what was read of a saved config into its typed form, or raise `UserError`."""
    return validate_config(schema, plain, f"{path} does not fit this version of the code:")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a saved config as plain values, under the names that keys have today.

    Raises:
        UserError: when the file is missing or is not yaml.
    """
    try:
        # Not by OmegaConf: what was resolved once, a `${` in a path for one, is not resolved again.
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: this is not a run folder") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, it is not yaml: {short_line(error)}") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path} is damaged: a mapping was expected")
    return upgrade_keys(plain)[0]
