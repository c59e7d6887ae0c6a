"""The three comparisons: of approaches, of few labels, and of sources."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.schema import DecisionConfig, LatencyConfig, TrainConfig
from tagger.data.splits import unseen_items
from tagger.environment import describe_environment
from tagger.errors import UserError
from tagger.files import write_json, write_text
from tagger.ladder.cells import Source
from tagger.ladder.crossval import (
    cross_validate,
    measure_size_and_latency,
    predict_other_source,
)
from tagger.ladder.rungs import Ladder
from tagger.ladder.scoring import better_than, compare_all, score_abroad, score_rung

FEW = (8, 16, 32, 64)
LATENCY = LatencyConfig(items=200, warmup=20, threads=1)
PRIMARY = "weighted_f1"


def compare_rungs(
    ladder: Ladder, source: Source, out: Path, *, seeds: int, folds: int
) -> dict[str, Any]:
    """Cross-validate all rungs on one source.

    Returns:
        Ready for JSON: `rows`, `seeds`, `folds`; `rungs`, by name their scores, `seconds`, `mib`,
        latency, and the names that each is `better_than`; and `differences`, by score the pairs
        with their simultaneous intervals.
    """
    results = cross_validate(ladder, source, out, seeds=seeds, folds=folds)
    costs = measure_size_and_latency(ladder, source, out, LATENCY)
    promise = promised()
    probabilities = {name: result.probabilities for name, result in results.items()}
    differences = {
        score: compare_all(probabilities, source.true, score) for score in (PRIMARY, "macro_f1")
    }
    return {
        "source": source.name,
        "rows": len(source.items),
        "seeds": seeds,
        "folds": folds,
        "promise": {"precision": promise.target_precision, "confidence": promise.confidence},
        "rungs": {
            name: score_rung(
                result.probabilities,
                source.true,
                result.fold,
                promise,
            )
            | {"seconds": result.seconds}
            | costs[name]
            | {"better_than": better_than(differences[PRIMARY], name)}
            for name, result in results.items()
        },
        "differences": {
            score: [vars(one) | {"proven": one.proven} for one in pairs]
            for score, pairs in differences.items()
        },
    }


def compare_few_labels(ladder: Ladder, source: Source, out: Path, *, folds: int) -> dict[str, Any]:
    """Cross-validate rungs that are trained on few labels of each tag, one draw a fold.

    Returns:
        Ready for JSON: by number of labels, then by rung, `weighted_f1` and `macro_f1`, and the
        names that each is `better_than` among those with as many labels.
    """
    table: dict[str, Any] = {}
    for few in FEW:
        split = {"per_tag": few}
        cells = cross_validate(
            ladder, source, out / f"{few}-a-tag", seeds=1, folds=folds, split=split
        )
        probabilities = {name: cell.probabilities for name, cell in cells.items()}
        differences = compare_all(probabilities, source.true, PRIMARY)
        promise = promised()
        table[str(few)] = {
            name: {
                key: value
                for key, value in score_rung(
                    cell.probabilities,
                    source.true,
                    cell.fold,
                    promise,
                ).items()
                if key in (PRIMARY, "macro_f1")
            }
            | {"better_than": better_than(differences, name)}
            for name, cell in cells.items()
        }
    return table


def compare_sources(
    ladder: Ladder, sources: Sequence[Source], out: Path, *, seeds: int, folds: int
) -> dict[str, Any]:
    """Train every rung on each of two sources and on both; score it on each of them.

    Where a model was trained on what it is scored on, the scores are out of fold. What is published
    of the other source is decided by what was fitted to the own one.

    Returns:
        Ready for JSON: `sources`, `seeds`, `folds`; `rungs`, by rung, by what it was trained on, by
        what it is scored on, its scores; and `gains_of_both`, by source the differences that
        training on both makes, with simultaneous intervals.

    Raises:
        UserError: for sources with other tags, or that share items.
    """
    one, other = sources
    _check_distinct(one, other)
    promise = promised()
    names = [*ladder.rungs, *ladder.ensembles]
    table: dict[str, Any] = {name: {one.name: {}, other.name: {}, "both": {}} for name in names}
    gains: dict[str, list[dict[str, Any]]] = {}
    for home, away in ((one, other), (other, one)):
        repeats: dict[str, Any] = {"seeds": seeds, "folds": folds}
        own = cross_validate(ladder, home, out / home.name, **repeats)
        extra = f"data.extra=[{quoted(away.path)}]"
        wider = Ladder(
            {name: [*given, extra] for name, given in ladder.rungs.items()}, ladder.ensembles
        )
        joint = cross_validate(wider, home, out / f"{home.name}-both", **repeats)
        abroad = predict_other_source(ladder, home, away, out / f"{home.name}-all", seeds=seeds)
        for name in names:
            cells, mine = table[name], own[name]
            cells[home.name][home.name] = score_rung(
                mine.probabilities, home.true, mine.fold, promise
            )
            cells[home.name][away.name] = score_abroad(
                abroad[name], away.true, mine.probabilities, home.true, promise
            )
            cells["both"][home.name] = score_rung(
                joint[name].probabilities, home.true, joint[name].fold, promise
            )
        both_ways = {f"{name}, own": own[name].probabilities for name in names}
        both_ways |= {f"{name}, both": joint[name].probabilities for name in names}
        pairs = [(f"{name}, both", f"{name}, own") for name in names]
        gains[home.name] = [
            vars(pair) | {"proven": pair.proven}
            for pair in compare_all(both_ways, home.true, PRIMARY, pairs=pairs)
        ]
    return {
        "sources": {source.name: len(source.items) for source in sources},
        "seeds": seeds,
        "folds": folds,
        "rungs": table,
        "gains_of_both": gains,
    }


def write_comparison(folder: Path, kind: str, result: dict[str, Any], text: str) -> Path:
    """Write `<kind>.json`, with the environment, and `<kind>.md`; return the path of the latter."""
    write_json(
        folder / f"{kind}.json", result | {"environment": describe_environment().model_dump()}
    )
    write_text(folder / f"{kind}.md", text + "\n")
    return folder / f"{kind}.md"


def promised() -> DecisionConfig:
    """Return what the threshold policy of `configs/decision/threshold.yaml` promises."""
    return load_config(TrainConfig, compose_config("train", ["decision=threshold"])).decision


def _check_distinct(one: Source, other: Source) -> None:
    if one.tags != other.tags:
        raise UserError("the sources have other tags", [str(one.tags), str(other.tags)])
    if one.name == other.name:
        raise UserError(
            f"both sources are called {one.name}", hint="Give files with different names."
        )
    shared = len(other.items) - len(unseen_items(other.items, one.items))
    if shared:
        raise UserError(
            f"{other.path} has {shared} rows that {one.path} has too, or near-duplicates of them",
            hint="Leave them out of one of the files: `tagger audit --data ONE --against OTHER` "
            "lists them.",
        )
