"""Changes the decision of a finished run, without training it again."""

import json
from collections.abc import Mapping

from tagger.config.aliases import upgrade_keys
from tagger.config.messages import validate_config
from tagger.config.schema import DecisionConfig
from tagger.decision.decider import FILE, refit_rule, save_rule
from tagger.runs import RunFolder


def change_decision(run: RunFolder, given: Mapping[str, object]) -> str:
    """Fit a decision to a run's calibration set, write it into the run, and say what it does.

    Args:
        run: A finished run.
        given: Keys of `DecisionConfig` that change; the others stay as they were asked for last.

    Raises:
        UserError: for values out of range, or when the run kept no rows to fit to.
    """
    asked = asked_last(run).model_dump() | dict(given)
    config = validate_config(DecisionConfig, asked, "the decision cannot be changed to this:")
    rule, rows = refit_rule(run.path, run.tags, config)
    counts = save_rule(run.path, config, rule, rows)
    assert counts is not None
    fitted = f"{run.name}: policy {config.policy}; of the {counts.rows} rows that it is fitted to"
    if counts.precision is None:
        return f"{fitted} none would be published"
    return (
        f"{fitted} {counts.coverage:.1%} would be published, with precision {counts.precision:.3f}"
    )


def asked_last(run: RunFolder) -> DecisionConfig:
    """Return the decision as it was last asked for; that of the training if the file is damaged."""
    trained = run.decision_config
    try:
        asked = json.loads((run.path / FILE).read_text(encoding="utf-8"))["asked"]
        asked = upgrade_keys({"decision": asked})[0]["decision"]
        keys = DecisionConfig.model_fields
        known = {key: value for key, value in asked.items() if key in keys}
        return DecisionConfig.model_validate(trained.model_dump() | known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return trained
