"""Maps the former names of config keys and choices to those of today.

One table for saved runs and sweeps, for yaml files of users, and for the command line.
"""

import copy
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "model.strength": "model.C",
    "model.keep_tokens": "model.vocabulary_from",
    "model.most_tokens": "model.vocabulary_size",
    "training.probe_strength": "training.probe_C",
    "training.average_decay": "training.ema_decay",
    "training.class_loss": "training.class_loss_weight",
    "training.contrast": "training.contrast_loss_weight",
    "training.precision": "training.mixed_precision",
    "distill.soft": "distill.soft_loss_weight",
    "distill.hard": "distill.class_loss_weight",
    "distill.vectors": "distill.vector_loss_weight",
    "decision.precision": "decision.target_precision",
    "decision.error": "decision.alpha",
    "decision.novelty": "decision.ood",
    "decision.novelty_quantile": "decision.ood_quantile",
    "compress.precision": "compress.dtype",
}
"""Names of keys: before, and now."""

REMOVED: Mapping[str, object] = {
    "model.keep_width": None,
    "model.combine": "probabilities",
    "training.average_from": None,
    "training.field_dropout": 0.0,
    "training.r_drop": 0.0,
    "training.mixup": 0.0,
    "training.doubtful_labels": "keep",
    "distill.states": 0.0,
    "distill.attention": 0.0,
    "distill.layers": None,
    "distill.copies": 0,
    "distill.changes": ["drop", "swap", "cross"],
    "compress.calibration_rows": 200,
}
"""Keys that are no more, with the value that asked for nothing; docs/experiment-log.md says why."""

VALUES = {("decision.ood", "neighbours"): "knn"}
"""Values that have another name, by the key's name of now and the value's of before."""

CHOICES = {
    ("model", "fast"): "two-layer",
    ("compress", "fast"): "int8-small",
    ("experiment", "fast"): "token-dropout",
    ("experiment", "student-fast"): "student-two-layer",
}
"""Choices of a group: before, and now."""


def current_key(key: str) -> str:
    """Return a dotted key's name of today."""
    return RENAMED.get(key, key)


def current_choice(group: str, choice: str) -> str:
    """Return the name that a choice of a group has today."""
    return CHOICES.get((group, choice), choice)


def upgrade_keys(values: Mapping[str, object]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return a config's plain values under the names of today.

    Args:
        values: Nested values; left as they are.

    Returns:
        The values; what was renamed, `OLD is NEW` each; and what was left out though it asked for
        something, `KEY=VALUE` each.
    """
    upgraded: dict[str, Any] = copy.deepcopy(dict(values))
    renamed: list[str] = []
    dropped: list[str] = []
    for old in (*RENAMED, *REMOVED):
        group, _, name = old.partition(".")
        section = upgraded.get(group)
        if not isinstance(section, dict) or name not in section:
            continue
        value = section.pop(name)
        if old in RENAMED:
            section[RENAMED[old].partition(".")[2]] = value
            renamed.append(f"{old} is {RENAMED[old]}")
        elif value != REMOVED[old]:
            dropped.append(f"{old}={value}")
    for (key, before), now in VALUES.items():
        group, _, name = key.partition(".")
        section = upgraded.get(group)
        if isinstance(section, dict) and section.get(name) == before:
            section[name] = now
            renamed.append(f"{key}={before} is {key}={now}")
    return upgraded, renamed, dropped
