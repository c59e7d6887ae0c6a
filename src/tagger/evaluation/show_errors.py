"""The errors of an evaluated run, in a terminal."""

import json
from collections.abc import Mapping
from typing import Any

from tagger.config.overrides import script_command
from tagger.errors import UserError
from tagger.files import expand_home
from tagger.runs import RunFolder


def read_errors(run: RunFolder, on: str | None) -> dict[str, Any]:
    """Read the `errors` of a run's last evaluation.

    Args:
        run: The run.
        on: Name of the source that it was evaluated on, or the folder that the report went to; None
            for its own test rows.

    Raises:
        UserError: when it was not evaluated on that, or by an older version.
    """
    path = run.path / (f"on-{on}" if on else ".") / "report.json"
    if on and not path.exists() and (expand_home(on) / "report.json").exists():
        path = expand_home(on) / "report.json"
    elsewhere = not path.is_relative_to(run.path)
    command = script_command("evaluate.py", run=run.path)
    if on:
        command += " data=..., with the source of that name"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if elsewhere and report["run"]["name"] != run.name:
            raise UserError(f"{path} is about the run {report['run']['name']}, not {run.name}")
        errors: dict[str, Any] = report["errors"]
        keys = {"total", "shown", "doubtful_labels", "groups"}
        if not keys <= errors.keys():
            raise ValueError(f"keys {sorted(errors)}, expected {sorted(keys)}")
    except FileNotFoundError:
        evaluated = sorted(one.parent.name for one in run.path.glob("on-*/report.json"))
        known = f"There are evaluations {', '.join(evaluated)}. " if evaluated else ""
        raise UserError(
            f"{path} does not exist", hint=f"{known}Evaluate first: {command}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__} {error}"
        raise UserError(
            f"{path} does not hold errors as this version writes them: {reason}",
            hint=f"Evaluate again: {command}",
        ) from None
    return errors


def print_errors(errors: Mapping[str, Any], *, doubtful_only: bool) -> None:
    """Print the groups, the surest errors first, each with its nearest items trained on.

    Args:
        errors: What `read_errors` returns.
        doubtful_only: Leave out errors whose label does not look wrong.
    """
    from rich.console import Console

    from tagger.evaluation.report import describe_error_group, describe_error_total

    console = Console(highlight=False, markup=False, emoji=False)

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    say(describe_error_total(errors))
    for group in errors["groups"]:
        chosen = [one for one in group["errors"] if one["label_doubtful"] or not doubtful_only]
        if not chosen:
            continue
        say("")
        say(describe_error_group(group))
        for one in chosen:
            mark = "  label doubtful" if one["label_doubtful"] else ""
            say(
                f"  {one['probability']:.3f}  {one['true']} taken for {one['predicted']}  "
                f"{one['id']}  {_line(one['title'] or one['description'])}{mark}"
            )
            for near in one["neighbours"]:
                say(f"           {near['similarity']:.2f}  {near['tag']}: {_line(near['title'])}")


def _line(text: str) -> str:
    return " ".join(text.split())
