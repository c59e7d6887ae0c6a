"""Builds ensembles of finished runs, and refuses runs that have seen what a new run holds out."""

from collections.abc import Sequence

from tagger.config.schema import EnsembleConfig
from tagger.data.tags import list_tags
from tagger.errors import UserError
from tagger.models.ensemble import EnsembleClassifier
from tagger.runs import SplitRow, open_run


def combine_runs(config: EnsembleConfig, runs_dir: str, tags: Sequence[str]) -> EnsembleClassifier:
    """Load the runs that a config names, and make one classifier of them.

    Raises:
        UserError: for runs that can't be used or have other tags.
    """
    runs = [open_run(run, runs_dir) for run in config.runs]
    for run in runs:
        if run.tags != tuple(tags):
            raise UserError(
                f"{run.name} has other tags than the approved list:",
                [f"{run.name}: {list_tags(run.tags)}", f"approved: {list_tags(tags)}"],
            )
    return EnsembleClassifier([run.load_classifier() for run in runs])


def check_unseen(
    runs: Sequence[str],
    runs_dir: str,
    role: str,
    *,
    test: Sequence[str],
    validation: Sequence[str],
) -> None:
    """Refuse runs to build on that have seen rows which the new run holds out.

    They may have picked their best epoch by the rows that the new run's decision is fitted to, as
    they may by those of their own decision.

    Args:
        runs: Members of an ensemble, or a teacher.
        runs_dir: Where they are, if given by name.
        role: What they are to the new run, in the plural.
        test: Content hashes of the rows that the new run's split keeps for its test.
        validation: Those of the rows that its decision is fitted to.

    Raises:
        UserError: naming the runs and how many rows they have seen.
    """
    problems = []
    for run in (open_run(one, runs_dir) for one in runs):
        rows = run.split_rows()
        seen = {row.content_hash for row in rows if row.split != "test"}
        trained = {row.content_hash for row in rows if row.split not in ("validation", "test")}
        for name, kept, known, what in (
            ("test", set(test), seen, "trained or stopped"),
            ("validation", set(validation), trained, "trained"),
        ):
            if shared := len(kept & known):
                problems.append(f"{run.name} was {what} on {shared} of {len(kept)} {name} rows")
    if problems:
        raise UserError(
            f"{role} must not have seen the rows that the new run holds out:",
            problems,
            "Give the new run the data and data.split of theirs.",
        )


def seen_rows(runs: Sequence[str], runs_dir: str) -> list[SplitRow]:
    """Return the rows that runs were trained or stopped on, each once."""
    rows = [row for one in runs for row in open_run(one, runs_dir).split_rows()]
    return list({row.content_hash: row for row in rows if row.split != "test"}.values())
