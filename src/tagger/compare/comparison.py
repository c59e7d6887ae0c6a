"""Runs the three comparisons: of approaches, of few labels, and of sources."""

from collections.abc import Sequence
from pathlib import Path

from tagger.compare.approaches import Approaches
from tagger.compare.cross_validation import (
    cross_validate,
    measure_size_and_latency,
    predict_other_source,
)
from tagger.compare.report import (
    ApproachesReport,
    ApproachResult,
    Difference,
    FewLabelsReport,
    FewLabelsResult,
    Promise,
    Scores,
    SourcesReport,
)
from tagger.compare.runs import LabelledFile
from tagger.compare.scoring import (
    better_than,
    compare_all,
    mean_score,
    score_cross_domain,
    score_out_of_fold,
)
from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.schema import DecisionConfig, LatencyConfig, TrainConfig
from tagger.data.splits import unseen_items
from tagger.environment import describe_environment
from tagger.errors import UserError

FEW = (8, 16, 32, 64)
LATENCY = LatencyConfig(items=200, warmup=20, threads=1)
PRIMARY = "weighted_f1"


def compare_approaches(
    approaches: Approaches, source: LabelledFile, out: Path, *, seeds: int, folds: int
) -> ApproachesReport:
    """Cross-validate all approaches on one source."""
    results = cross_validate(approaches, source, out, seeds=seeds, folds=folds)
    costs = measure_size_and_latency(approaches, source, out, LATENCY)
    promise = threshold_config()
    probabilities = {name: one.probabilities for name, one in results.items()}
    differences = {
        score: compare_all(probabilities, source.true, score) for score in (PRIMARY, "macro_f1")
    }
    return ApproachesReport(
        source=source.name,
        rows=len(source.items),
        seeds=seeds,
        folds=folds,
        promise=Promise(target_precision=promise.target_precision, confidence=promise.confidence),
        approaches={
            name: ApproachResult(
                scores=score_out_of_fold(one.probabilities, source.true, one.fold, promise),
                seconds=one.seconds,
                costs=costs[name],
                better_than=better_than(differences[PRIMARY], name),
            )
            for name, one in results.items()
        },
        differences=differences,
        environment=describe_environment(),
    )


def compare_few_labels(
    approaches: Approaches, source: LabelledFile, out: Path, *, folds: int
) -> FewLabelsReport:
    """Cross-validate approaches that are trained on few labels of each tag, one draw a fold."""
    table: dict[str, dict[str, FewLabelsResult]] = {}
    for few in FEW:
        results = cross_validate(
            approaches, source, out / f"{few}-a-tag", seeds=1, folds=folds, split={"per_tag": few}
        )
        probabilities = {name: one.probabilities for name, one in results.items()}
        differences = compare_all(probabilities, source.true, PRIMARY)
        table[str(few)] = {
            name: FewLabelsResult(
                weighted_f1=mean_score(rows, source.true, PRIMARY),
                macro_f1=mean_score(rows, source.true, "macro_f1"),
                better_than=better_than(differences, name),
            )
            for name, rows in probabilities.items()
        }
    return FewLabelsReport(labels=table, environment=describe_environment())


def compare_sources(
    approaches: Approaches, sources: Sequence[LabelledFile], out: Path, *, seeds: int, folds: int
) -> SourcesReport:
    """Train every approach on each of two sources with the same tags and on both; score it on each.

    Where a model was trained on what it is scored on, the scores are out of fold. What is published
    of the other source is decided by what was fitted to the own one.

    Raises:
        UserError: for sources of one name, or that share items.
    """
    one, other = sources
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
    promise = threshold_config()
    names = [*approaches.overrides, *approaches.ensembles]
    table: dict[str, dict[str, dict[str, Scores]]] = {
        name: {one.name: {}, other.name: {}, "both": {}} for name in names
    }
    gains: dict[str, list[Difference]] = {}
    for in_domain, cross_domain in ((one, other), (other, one)):
        name = in_domain.name
        own = cross_validate(approaches, in_domain, out / name, seeds=seeds, folds=folds)
        extra = f"data.extra=[{quoted(cross_domain.path)}]"
        wider = Approaches(
            {key: [*given, extra] for key, given in approaches.overrides.items()},
            approaches.ensembles,
        )
        joint = cross_validate(wider, in_domain, out / f"{name}-both", seeds=seeds, folds=folds)
        others = predict_other_source(
            approaches, in_domain, cross_domain, out / f"{name}-all", seeds=seeds
        )
        true = in_domain.true
        for key in names:
            results, mine, both = table[key], own[key], joint[key]
            results[name][name] = score_out_of_fold(mine.probabilities, true, mine.fold, promise)
            results[name][cross_domain.name] = score_cross_domain(
                others[key], cross_domain.true, mine.probabilities, true, promise
            )
            results["both"][name] = score_out_of_fold(both.probabilities, true, both.fold, promise)
        compared = {f"{key}, own": own[key].probabilities for key in names}
        compared |= {f"{key}, both": joint[key].probabilities for key in names}
        pairs = [(f"{key}, both", f"{key}, own") for key in names]
        gains[name] = compare_all(compared, true, PRIMARY, pairs=pairs)
    return SourcesReport(
        sources={source.name: len(source.items) for source in sources},
        seeds=seeds,
        folds=folds,
        approaches=table,
        gains_of_both=gains,
        environment=describe_environment(),
    )


def threshold_config() -> DecisionConfig:
    """Return what the threshold policy of `configs/decision/threshold.yaml` promises."""
    return load_config(TrainConfig, compose_config("train", ["decision=threshold"])).decision
