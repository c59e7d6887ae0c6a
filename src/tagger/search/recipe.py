"""Writes a config as an experiment's yaml file: its choice of each group, and what it changes."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from tagger.config.composition import compose_section, config_groups
from tagger.config.overrides import flatten
from tagger.config.paths import with_portable_paths
from tagger.config.schema import TrainConfig

GROUPS = ("data", "model", "training", "decision")


def write_experiment(config: TrainConfig, comment: list[str]) -> str:
    """Return a yaml file that `train.py experiment=FILE` takes.

    Of each group it names the choice that the config is nearest to, and the keys that differ.

    Args:
        config: The config; its name, its folders, its seed and where its curves go are left out.
        comment: Lines for the head of the file.
    """
    plain = with_portable_paths(config.model_dump())
    defaults = []
    content: dict[str, Any] = {}
    for group in GROUPS:
        choice, changed = _nearest_choice(group, plain[group])
        defaults.append({f"override /{group}": choice})
        if changed:
            content[group] = changed
    # It quotes what it would read as a number; yaml's own writer goes by other rules.
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults} | content))
    head = "".join(f"# {line}\n" for line in comment)
    return f"# @package _global_\n{head}{body}"


def _nearest_choice(group: str, section: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the choice that has the most in common, and what is other than there, nested."""
    given = flatten(section)
    best: tuple[int, str, list[str]] | None = None
    for choice in config_groups("train")[group]:
        known = flatten(compose_section(group, choice))
        known = {key: value for key, value in known.items() if value != {} or key in given}
        if known.keys() - given.keys():  # it has keys that could not be taken away again
            continue
        differ = [key for key in given if key not in known or known[key] != given[key]]
        if best is None or len(differ) < best[0]:
            best = (len(differ), choice, differ)
    assert best is not None, f"no choice of {group} has the keys of {sorted(given)}"
    changed: dict[str, Any] = {}
    for key in best[2]:
        *parents, last = key.split(".")
        at = changed
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = _literal(given[key])
    return best[1], changed


def _literal(value: Any) -> Any:
    """Keep text from being taken for an interpolation."""
    if isinstance(value, str):
        return value.replace("${", r"\${")
    if isinstance(value, list):
        return [_literal(one) for one in value]
    return value
