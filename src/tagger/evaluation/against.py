"""The other run of a comparison: which rows are fair to both, and what it says about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.config.schema import EvaluateConfig
from tagger.data.items import Item
from tagger.data.tags import list_tags
from tagger.decision.decider import load_rule
from tagger.errors import UserError
from tagger.evaluation.comparison import compare_decisions
from tagger.evaluation.guards import check_guards, choose_guards
from tagger.evaluation.parts import found_parts, named_parts
from tagger.evaluation.predicting import predict
from tagger.evaluation.results import Results
from tagger.evaluation.rows import drop_seen
from tagger.evaluation.slices import Slice
from tagger.runs import RunFolder, open_run, read_predictions
from tagger.scores import FloatArray, IntArray


@dataclass(frozen=True)
class Pairing:
    """Two runs and the rows that they are compared on.

    Attributes:
        run: The run that is evaluated.
        other: The run that it is compared with; it knows the same tags.
        items: The paired rows, at least one.
        positions: Where these stand among all rows evaluated.
        explanation: A sentence that says how many were paired, and why not the others.
    """

    run: RunFolder
    other: RunFolder
    items: list[Item]
    positions: list[int]
    explanation: str


def pair_rows(run: RunFolder, items: Sequence[Item], config: EvaluateConfig) -> Pairing:
    """Open the run to compare with, and find the rows that neither run has seen.

    Rows are known by id and content: two sources may use one id for different texts.

    Raises:
        UserError: when there is no such run, when its tags differ, or when no row can be paired.
    """
    other = open_run(str(config.against), config.runs_dir)
    if set(other.tags) != set(run.tags):
        raise UserError(
            f"{run.name} and {other.name} cannot be compared, their tags differ:",
            [f"{run.name}: {list_tags(run.tags)}", f"{other.name}: {list_tags(other.tags)}"],
        )
    if config.rows == "all":
        paired, explanation = list(items), "seen by either run or not"
    else:
        paired, explanation = drop_seen(other, items)
    if not paired:
        raise UserError(
            f"{run.name} and {other.name} have no row in common that neither has seen: "
            f"{explanation}",
            hint="Compare runs with the same data.split, give a source that is new to both "
            "(data=...), or take rows=all.",
        )
    position = {(item.id, item.content_hash): index for index, item in enumerate(items)}
    return Pairing(
        run,
        other,
        paired,
        [position[item.id, item.content_hash] for item in paired],
        f"{len(paired)} of {len(items)} rows paired; {explanation}",
    )


def compare_runs(
    pairing: Pairing,
    results: Results,
    raw: FloatArray,
    *,
    slices: Sequence[Slice],
    vectors: FloatArray | None,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Compare the tags that the evaluated run predicts with those of the other run.

    Args:
        pairing: The runs and their common rows.
        results: Of the evaluated run, on all rows evaluated.
        raw: What its model gave for them, without correction, (n, n_tags).
        slices: Those that have a name.
        vectors: Of their texts, (n, width), to guard clusters too; None to leave these out.
        config: What to guard, resamples and seed.

    Returns:
        Ready for JSON: what `compare_decisions` returns, which run it was, how rows were paired,
        for how many of them its recorded predictions served, and what `check_guards` found.
    """
    theirs, recorded = _predicted(pairing, raw)
    chosen, tags = pairing.positions, pairing.run.tags
    true, predicted = results.true, results.predicted
    found = []
    if config.guard is None:  # clusters take seconds, and no found part can be chosen by name
        own_vectors = None if vectors is None else vectors[chosen]
        found = found_parts(pairing.items, true[chosen], tags, own_vectors)
    guards = choose_guards(named_parts(pairing.items, tags, slices), found, config.guard)
    return {
        "against": pairing.other.name,
        "trained_on": pairing.other.meta["data"],
        "explanation": pairing.explanation,
        "recorded_predictions": recorded,
        **compare_decisions(
            pairing.items,
            true[chosen],
            predicted[chosen],
            theirs,
            pairing.run.tags,
            resamples=config.resamples,
            seed=config.seed,
        ),
        "guards": check_guards(guards, true[chosen], predicted[chosen], theirs, config.seed),
    }


def _predicted(pairing: Pairing, raw: FloatArray) -> tuple[IntArray, int]:
    """Return what the other run predicts, by its own correction of what its model gives.

    Its model has been asked already where it is the evaluated run's own; of its test rows the run
    has kept the answers. It is asked about all others.

    Returns:
        Positions in the tags of the evaluated run, (n_items,), and how many rows' answers were
        recorded.
    """
    run, other, items = pairing.run, pairing.other, pairing.items
    answers: dict[tuple[str, str], FloatArray] = {}
    recorded = 0
    if other.tags == run.tags and other.meta["model_files"] == run.meta["model_files"] != {}:
        keys = [(item.id, item.content_hash) for item in items]
        answers = dict(zip(keys, raw[pairing.positions], strict=True))
    elif (file := other.path / "predictions.csv").is_file():
        by_id = read_predictions(file, other.tags)
        answers = {
            (row.id, row.content_hash): by_id[row.id]
            for row in other.split_rows()
            if row.split == "test" and row.id in by_id
        }
        recorded = sum((item.id, item.content_hash) in answers for item in items)
    lacking = [item for item in items if (item.id, item.content_hash) not in answers]
    if lacking:
        made = predict(other.load_classifier(), lacking)
        answers |= {
            (item.id, item.content_hash): row for item, row in zip(lacking, made, strict=True)
        }
    rows = np.array([answers[item.id, item.content_hash] for item in items])
    chosen = load_rule(other.path, len(other.tags)).predict(rows)
    place = np.array([list(run.tags).index(tag) for tag in other.tags], dtype=np.int64)
    return place[chosen], recorded
