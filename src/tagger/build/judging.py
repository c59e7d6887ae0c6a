"""Judges the runs of a build on rows that they were not trained on, and chooses one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tagger.build.report import Candidate
from tagger.compare.scoring import compare_all, mean_score
from tagger.config.schema import BuildConfig, DecisionConfig, LatencyConfig
from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.decision.change import asked_last
from tagger.decision.decider import CalibrationSet, Rule, fit_rule, load_decider
from tagger.decision.policies import REVIEW
from tagger.evaluation.latency import cores_limited, measure_latency
from tagger.evaluation.report import Latency
from tagger.evaluation.selective import area_under_risk_coverage
from tagger.files import folder_mib
from tagger.runs import RunFolder
from tagger.scores import BoolArray, FloatArray, IntArray

LATENCY = LatencyConfig(items=100, warmup=20, threads=1)
FEWEST_ROUNDS, MOST_ROUNDS = 3, 10
"""How often a run is timed anew while it seems too slow; fewer times where its median is, twice."""

NORMAL_95 = 1.96
"""Standard errors on either side of a mean that make an interval of 95 %."""

PRIMARY = "weighted_f1"


@dataclass(frozen=True)
class Judged:
    """A run with what it says of rows that it was not trained on.

    Attributes:
        run: The run.
        probabilities: Of the rows that all runs are compared on, (n, n_tags).
        fitted_to: The rows that its decision is fitted to.
        seconds: What making it took.
    """

    run: RunFolder
    probabilities: FloatArray
    fitted_to: CalibrationSet
    seconds: float


@dataclass(frozen=True)
class Choice:
    """The candidates, the name of the chosen one, and why it was chosen; the rule of each."""

    candidates: list[Candidate]
    name: str
    reasons: list[str]
    decisions: dict[str, DecisionConfig]
    rules: dict[str, Rule]


def choose_run(config: BuildConfig, judged: Mapping[str, Judged], items: Sequence[Item]) -> Choice:
    """Choose the run that publishes most by the promise, then by F1, then by p99.

    A run takes the place of a plainer one only where it is proven better: the interval (95 %) of
    their difference on the same rows leaves out 0. Each of the k runs that may be chosen has its
    promise with 1 - (1 - confidence) / k, so it holds for whichever is chosen (Bonferroni).

    Args:
        config: The promise, and how slow a run may be.
        judged: The runs by name, the plainest first.
        items: The rows that they are compared on, n.
    """
    limit = config.build.max_p99_ms
    times = {name: time_run(one.run, items, limit) for name, one in judged.items()}
    quick = [name for name, one in times.items() if one.p99_ms <= limit]
    reasons = []
    if not quick:
        quick = [min(times, key=lambda name: times[name].p99_ms)]
        reasons.append(f"no run answers 99 of 100 items within {limit:g} ms: the quickest is taken")
    confidence = 1 - (1 - config.confidence) / len(quick)
    promise = {"target_precision": config.promise, "confidence": confidence}
    asked = {"policy": "threshold", **promise}
    tags = next(iter(judged.values())).run.tags
    true = tag_positions(items, tags)
    decisions, rules, published = {}, {}, {}
    candidates = []
    for name, one in judged.items():
        decisions[name] = asked_last(one.run).model_copy(update=asked)
        rules[name] = fit_rule(decisions[name], one.fitted_to)
        result = rules[name].apply(one.probabilities, None)
        right = result.predicted == true
        published[name] = out = result.tags != REVIEW
        may = name in quick
        rows = one.probabilities[None]
        candidates.append(
            Candidate(
                name=name,
                seconds=one.seconds,
                weighted_f1=mean_score(rows, true, PRIMARY),
                macro_f1=mean_score(rows, true, "macro_f1"),
                aurc=area_under_risk_coverage(result.probabilities.max(axis=1), right),
                published=float(out.mean()) if may else None,
                precision=float(right[out].mean()) if may and out.any() else None,
                p50_ms=times[name].p50_ms,
                p99_ms=times[name].p99_ms,
                mib=folder_mib(one.run.path / "model"),
                quick=may,
            )
        )
    said = {name: judged[name].probabilities for name in quick}
    best, told = pick_best(said, published, times, true)
    return Choice(candidates, best, [*reasons, *told], decisions, rules)


def pick_best(
    probabilities: Mapping[str, FloatArray],
    published: Mapping[str, BoolArray],
    times: Mapping[str, Latency],
    true: IntArray,
) -> tuple[str, list[str]]:
    """Go from the plainest run to the dearest; return the name that is left, and why.

    Args:
        probabilities: What each run that may be chosen says, (n, n_tags), the plainest first.
        published: Which rows it publishes, (n,), by name.
        times: What an item takes it, by name.
        true: Position of each row's tag, (n,).
    """
    (best, *others), reasons = probabilities, []
    for name in others:
        pair = {key: probabilities[key][None] for key in (name, best)}
        (gain,) = compare_all(pair, true, PRIMARY)
        more = _proven(published[name], published[best])
        if more > 0:
            why = "publishes more by the promise"
        elif more == 0 and gain.proven and gain.value > 0:
            why = "publishes as much by the promise, as far as can be told, and its F1 is higher"
        elif more == 0 and not gain.proven and times[name].p99_ms < times[best].p99_ms:
            why = "is level with it in what it publishes and in F1, as far as can be told, and "
            why += "answers sooner"
        else:
            reasons.append(f"{name} does not take the place of {best}: it is not proven better")
            continue
        reasons.append(f"{name} takes the place of {best}: it {why}")
        best = name
    return best, reasons


def time_run(run: RunFolder, items: Sequence[Item], limit: float) -> Latency:
    """Time a run on one core; again while it is too slow, for others may have taken the core.

    The round with the lowest p99 counts: it says what this machine does when it is left alone.
    """
    rounds: list[Latency] = []
    with cores_limited(LATENCY.threads):
        decider = load_decider(run.path, run.load_classifier())
        while len(rounds) < MOST_ROUNDS:
            rounds.append(measure_latency(decider, items, LATENCY))
            hopeless = min(one.p50_ms for one in rounds) > 2 * limit
            if rounds[-1].p99_ms <= limit or (hopeless and len(rounds) >= FEWEST_ROUNDS):
                break
    return min(rounds, key=lambda one: one.p99_ms)


def _proven(one: BoolArray, other: BoolArray) -> int:
    """Say which of two publishes more of the same rows (n,): 1, -1, or 0 where it is not proven."""
    difference = one.astype(float) - other.astype(float)
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.inf
    mean = float(difference.mean())
    return int(np.sign(mean)) if abs(mean) > NORMAL_95 * error else 0
