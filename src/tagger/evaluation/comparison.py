"""Compares two runs on the same rows: paired differences of scores, and which items changed.

Intervals of two separate scores say little about their difference, because both runs find the
same rows hard. Here every row is a pair. Both runs are judged by what they serve: the tags that
their own corrected probabilities predict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagger.config.schema import EvaluateConfig
from tagger.data.items import Item
from tagger.data.tags import list_tags
from tagger.decision.decider import load_rule
from tagger.errors import UserError
from tagger.evaluation.guards import check_guards, choose_guards
from tagger.evaluation.intervals import bootstrap_ends
from tagger.evaluation.parts import found_parts, named_parts
from tagger.evaluation.predictions import LabelledPredictions, predict
from tagger.evaluation.report import (
    ChangedItem,
    Difference,
    McNemar,
    RunComparison,
)
from tagger.evaluation.rows import drop_seen
from tagger.evaluation.slices import Slice
from tagger.run_meta import TrainedOn
from tagger.runs import RunFolder, open_run, read_predictions
from tagger.scores import (
    BoolArray,
    FloatArray,
    IntArray,
    confusion_matrix,
    scores_from_confusion,
)

COMPARED = ("accuracy", "macro_f1", "weighted_f1")


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
    predictions: LabelledPredictions,
    raw: FloatArray,
    *,
    slices: Sequence[Slice],
    vectors: FloatArray | None,
    config: EvaluateConfig,
) -> RunComparison:
    """Compare the tags that the evaluated run predicts with those of the other run.

    Args:
        pairing: The runs and their common rows.
        predictions: Of the evaluated run, on all rows evaluated.
        raw: What its model gave for them, without correction, (n, n_tags).
        slices: Those that have a name.
        vectors: Of their texts, (n, width), to guard clusters too; None to leave these out.
        config: What to guard, resamples and seed.
    """
    theirs, recorded = _predicted(pairing, raw, config.device)
    items, tags, seed = pairing.items, pairing.run.tags, config.seed
    chosen = pairing.positions
    true, ours = predictions.true[chosen], predictions.predicted[chosen]
    found = []
    if config.guard is None:  # clusters take seconds, and no found part can be chosen by name
        found = found_parts(items, true, tags, None if vectors is None else vectors[chosen])
    guards = choose_guards(named_parts(items, tags, slices), found, config.guard)
    our_scores, their_scores = (
        scores_from_confusion(confusion_matrix(true, decided, len(tags)))
        for decided in (ours, theirs)
    )
    ends = paired_bootstrap(true, ours, theirs, len(tags), resamples=config.resamples, seed=seed)
    right, was_right = ours == true, theirs == true

    def describe(rows: BoolArray) -> list[ChangedItem]:
        return [
            ChangedItem(
                id=items[row].id,
                title=items[row].title,
                true=tags[true[row]],
                ours=tags[ours[row]],
                theirs=tags[theirs[row]],
            )
            for row in np.flatnonzero(rows).tolist()
        ]

    fixed, broken = describe(right & ~was_right), describe(~right & was_right)
    return RunComparison(
        num_samples=len(items),
        differences={
            name: Difference(
                ours=float(our_scores[name]),
                theirs=float(their_scores[name]),
                value=float(our_scores[name] - their_scores[name]),
                low=ends[name][0],
                high=ends[name][1],
            )
            for name in COMPARED
        },
        mcnemar=McNemar(
            fixed=len(fixed),
            broken=len(broken),
            p_value=mcnemar_p_value(len(fixed), len(broken)),
        ),
        fixed=fixed,
        broken=broken,
        still_wrong=describe(~right & ~was_right & (ours != theirs)),
        against=pairing.other.name,
        trained_on=TrainedOn(
            **pairing.other.meta.data.model_dump(include={"name", "sha256", "rows"})
        ),
        explanation=pairing.explanation,
        recorded_predictions=recorded,
        guards=check_guards(guards, true, ours, theirs, seed),
    )


def mcnemar_p_value(fixed: int, broken: int) -> float:
    """Compute the exact, two-sided p-value of McNemar's test; 1 when no row tells the runs apart.

    Were both runs equally good, each row that only one of them gets right would be a fair coin's
    toss. Source: McNemar, Psychometrika 12 (1947), with the binomial law instead of its limit.
    """
    from scipy.stats import binomtest

    if fixed + broken == 0:
        return 1.0
    return float(binomtest(fixed, fixed + broken, 0.5).pvalue)


def paired_bootstrap(
    true: IntArray, ours: IntArray, theirs: IntArray, n_tags: int, *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Put 95% percentile intervals around the differences of `COMPARED`, ours minus theirs.

    Rows are drawn in pairs: what is drawn are the counts of each (true, ours, theirs) that occurs.
    """
    cells = (true * n_tags + ours) * n_tags + theirs
    occurring, counts = np.unique(cells, return_counts=True)
    row, *columns = np.unravel_index(occurring, (n_tags, n_tags, n_tags))

    def score(drawn: IntArray) -> dict[str, FloatArray]:
        pair = []
        for column in columns:
            flat = np.zeros((n_tags * n_tags, len(drawn)), dtype=np.int64)
            np.add.at(flat, row * n_tags + column, drawn.T)
            pair.append(scores_from_confusion(flat.T.reshape(-1, n_tags, n_tags)))
        return {name: pair[0][name] - pair[1][name] for name in COMPARED}

    return bootstrap_ends(counts, score, resamples, seed)


def _predicted(pairing: Pairing, raw: FloatArray, device: str) -> tuple[IntArray, int]:
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
    if other.tags == run.tags and other.meta.model_files == run.meta.model_files != {}:
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
        made = predict(other.load_classifier(device), lacking)
        answers |= {
            (item.id, item.content_hash): row for item, row in zip(lacking, made, strict=True)
        }
    rows = np.array([answers[item.id, item.content_hash] for item in items])
    chosen = load_rule(other.path, len(other.tags)).predict(rows)
    place = np.array([list(run.tags).index(tag) for tag in other.tags], dtype=np.int64)
    return place[chosen], recorded
