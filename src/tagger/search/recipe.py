"""Writes a config as an experiment's yaml file: its choice of each group, and what it changes."""

from collections.abc import Mapping

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
    content = OmegaConf.create({"defaults": []})
    for group in GROUPS:
        given = flatten(plain[group])
        choice, differing = _nearest_choice(group, given)
        content.defaults.append({f"override /{group}": choice})
        for key in differing:
            OmegaConf.update(content, f"{group}.{key}", _literal(given[key]), force_add=True)
    # It quotes what it would read as a number; yaml's own writer goes by other rules.
    body = OmegaConf.to_yaml(content)
    head = "".join(f"# {line}\n" for line in comment)
    return f"# @package _global_\n{head}{body}"


def _nearest_choice(group: str, given: Mapping[str, object]) -> tuple[str, list[str]]:
    """Return the choice that has the most in common, and the keys that are other than there."""
    differing = {}
    for choice in config_groups("train")[group]:
        known = flatten(compose_section(group, choice))
        known = {key: value for key, value in known.items() if value != {} or key in given}
        if known.keys() <= given.keys():  # others could not be taken away again
            differing[choice] = [
                key for key in given if key not in known or known[key] != given[key]
            ]
    best = min(differing, key=lambda choice: len(differing[choice]))
    return best, differing[best]


def _literal(value: object) -> object:
    """Keep text from being taken for an interpolation."""
    if isinstance(value, str):
        return value.replace("${", r"\${")
    if isinstance(value, list):
        return [_literal(one) for one in value]
    return value
