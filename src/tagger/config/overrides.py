"""Formats overrides for the command line, and flattens settings to dotted keys."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tagger.output import shell_command


def quoted(value: str | Path) -> str:
    """Quote a text or a path for Hydra's command line."""
    # To Hydra a backslash is one of its own only before a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda at: 2 * at[1] + at[2].replace("'", "\\'"), str(value))
    return f"'{escaped}'"


def python_override(key: str, value: object) -> str:
    """Return an override that gives a key a value of Python's.

    Args:
        key: Dotted, or with `__` where a name of Python's can have no dot.
        value: None, a truth value, a number, a text or a path, and lists and dictionaries of them.

    Raises:
        TypeError: for anything else.
    """
    return f"{key.replace('__', '.')}={_spelt(value)}"


def _spelt(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_spelt(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_spelt, value))}]"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | Path):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"found a {type(value).__name__}, expected a value that a config can hold")


def script_command(script: str, **overrides: str | Path) -> str:
    """Return the command that starts a script with texts and paths as values, ready to paste."""
    return shell_command("python", script, *(_override(*pair) for pair in overrides.items()))


def _override(key: str, value: str | Path) -> str:
    plain = re.fullmatch(r"[a-zA-Z_./][\w./-]*", str(value), re.ASCII)
    # To Hydra these are numbers and truth values unless they are quoted.
    named = str(value).lower() in {"null", "true", "false", "inf", "nan"}
    return f"{key}={value if plain and not named else quoted(value)}"


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return a line for each setting, by dotted key, that is another one afterwards."""
    return [
        f"{key}: {before.get(key)!r} and {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def is_within(key: str, sections: Sequence[str]) -> bool:
    """Whether a dotted key is one of some keys, or below one of them."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)
