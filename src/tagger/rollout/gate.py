"""Lets only runs into a rollout that passed `evaluate.py against=` the run they are to replace."""

from pathlib import Path

from tagger.errors import UserError
from tagger.evaluation.guards import regressions
from tagger.evaluation.latency import over_budget
from tagger.evaluation.report import EvaluationReport
from tagger.runs import RunFolder


def check_gate(new: RunFolder, old: RunFolder) -> list[Path]:
    """Return the reports by which a run passed the gate against another one.

    They are those that `evaluate.py` wrote into its folder; each that compares it with the other
    run, on whatever rows, has to be without a regression.

    Raises:
        UserError: when there is none, or one of them has regressions.
    """
    passed, failures = [], []
    for path in (new.path / "report.json", *sorted(new.path.glob("on-*/report.json"))):
        report = EvaluationReport.read(path) if path.exists() else None
        compared = None if report is None else report.comparison
        if report is None or compared is None or compared.against != old.name:
            continue
        if compared.trained_on.sha256 == old.meta.data.sha256:
            passed.append(path)
            found = [*regressions(report), *over_budget(report)]
            failures += [f"{path}: {problem}" for problem in found]
    again = f"python evaluate.py run={new.path} against={old.path}"
    if failures:
        raise UserError(f"{new.name} did not pass the gate against {old.name}:", failures, again)
    if not passed:
        raise UserError(
            f"{new.name} was not compared with {old.name}: {new.path} has no report that says so",
            hint=f"Compare them first: {again}",
        )
    return passed
