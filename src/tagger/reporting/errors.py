"""Lists the errors of an evaluated run in a terminal (`tagger errors`)."""

from tagger.config.overrides import script_command
from tagger.errors import UserError
from tagger.evaluation.report import ErrorGroup, Errors
from tagger.files import expand_home
from tagger.leaderboard import read_report
from tagger.reporting.numbers import plural, score
from tagger.reporting.page import Block, Listing, Text
from tagger.reporting.terminal import print_blocks
from tagger.runs import RunFolder


def read_errors(run: RunFolder, on: str | None) -> Errors:
    """Read the errors of a run's last evaluation.

    Args:
        run: The run.
        on: Name of the source that it was evaluated on, or the folder that the report went to; None
            for its own test rows.

    Raises:
        UserError: when it was not evaluated on that, or the report cannot be read.
    """
    path = run.path / (f"on-{on}" if on else ".") / "report.json"
    if on and not path.exists() and (expand_home(on) / "report.json").exists():
        path = expand_home(on) / "report.json"
    if not path.exists():
        command = script_command("evaluate.py", run=run.path)
        if on:
            command += " data=..., with the source of that name"
        evaluated = sorted(one.parent.name for one in run.path.glob("on-*/report.json"))
        known = f"There are evaluations {', '.join(evaluated)}. " if evaluated else ""
        raise UserError(f"{path} does not exist", hint=f"{known}Evaluate first: {command}")
    report = read_report(run, path)
    if not path.is_relative_to(run.path) and report.run.name != run.name:
        raise UserError(f"{path} is about the run {report.run.name}, not {run.name}")
    return report.errors


def print_errors(errors: Errors, *, suspected_only: bool) -> None:
    """Print the groups, the most confident errors first, each with its nearest training items.

    Args:
        errors: What `read_errors` returns.
        suspected_only: Leave out errors whose label does not look wrong.
    """
    blocks: list[Block] = [Text(describe_error_total(errors))]
    for group in errors.groups:
        chosen = [one for one in group.errors if one.suspected_label_error or not suspected_only]
        lines = []
        for one in chosen:
            mark = "  suspected label error" if one.suspected_label_error else ""
            lines.append(
                f"{one.probability:.3f}  {one.true} taken for {one.predicted}  "
                f"{one.id}  {_line(one.title or one.description)}{mark}"
            )
            lines += [
                f"         {near.similarity:.2f}  {near.tag}: {_line(near.title)}"
                for near in one.nearest_items
            ]
        if lines:
            blocks += [Text(""), Text(describe_error_group(group)), Listing(lines)]
    print_blocks(blocks)


def describe_error_total(errors: Errors) -> str:
    """Say in a line how many errors there are."""
    if not errors.total:
        return "none"
    shown = "" if errors.shown == errors.total else f", the {errors.shown} surest shown"
    suspected = errors.suspected_label_errors
    return f"{errors.total:,} of the rows{shown}, in {plural(len(errors.groups), 'group')}; " + (
        "1 label looks wrong" if suspected == 1 else f"{suspected} labels look wrong"
    )


def describe_error_group(group: ErrorGroup) -> str:
    """Say what the errors of a group have in common, and how rich in errors that is."""
    text = f"{group.name}: {plural(len(group.errors), 'error')}"
    if group.error_rate is None:
        return text
    return f"{text}; of its {group.num_samples} rows {score(group.error_rate)} wrong"


def _line(text: str) -> str:
    return " ".join(text.split())
