"""How often do the tests of a rollout err, and how soon do they decide?

    python benchmarks/rollout.py [--repetitions 4000]

Streams are simulated and looked at again and again, as the service does. Each is watched by the
functions that decide in `tagger rollout`, with the limits of the shipped plans. Takes about four
minutes on one core.
"""

import argparse
import math
from collections import Counter
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sqlalchemy import Connection

from tagger.errors import exit_on_user_error
from tagger.files import write_json
from tagger.rollout.ab import Arms, log_evidence, needed_items, ratio_is_wrong
from tagger.rollout.arms import Answered, Arm, arm_of
from tagger.rollout.canary import GUARDS, rate_log_evidence
from tagger.rollout.decide import Evidence, decide
from tagger.rollout.paired import BETTER_SHARE, sign_log_evidence
from tagger.rollout.paired import log_evidence as mean_log_evidence
from tagger.rollout.plan import AbConfig, Plan, StageConfig, load_plan
from tagger.scores import BoolArray, FloatArray
from tagger.service.database import Store, open_store
from tagger.service.events import SERVICE, append
from tagger.service.rollout import Ledger, Rollout, command, last_rollout, take

CHUNK = 100
NEVER = 10**9
MOST = 100_000
"""Longest stream."""


@exit_on_user_error
def main() -> None:
    """Run all of it; print and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=4_000, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/rollout.json"))
    options = parser.parse_args()
    plan, times = load_plan("careful"), options.repetitions
    report: dict[str, Any] = {
        "judged disagreements": judged(plan, times),
        "A/B test": arms(times),
        "guard of the review rate": review_guard(plan, times),
        "failures": failures(plan, times),
        "sample ratio": sample_ratio(times),
        "arms that changed on a ramp": ramp(times),
        "restarts, kills and clocks set back": restarts(min(times, 1_000)),
    }
    for name, figures in report.items():
        print(name)
        for one in figures if isinstance(figures, list) else [figures]:
            print(f"  {one}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, report)


def judged(plan: Plan, times: int) -> list[dict[str, Any]]:
    """Judge disagreements until the paired test decides."""
    better = -math.log(plan.quality_alpha * BETTER_SHARE)
    worse = -math.log(plan.quality_alpha * (1 - BETTER_SHARE))
    figures = []
    for right, most in ((0.5, 5_000), (0.6, 2_000), (0.7, 500), (0.4, 2_000), (0.3, 500)):
        rng = np.random.default_rng(0)
        promoted, refused = [], []
        for _ in range(0, times, CHUNK):
            won = np.cumsum(rng.random((CHUNK, most)) < right, axis=1).astype(np.float64)
            lost = np.arange(1, most + 1) - won
            promoted.append(first(sign_log_evidence(won, lost) >= better))
            refused.append(first(sign_log_evidence(lost, won) >= worse))
        up, down = np.concatenate(promoted), np.concatenate(refused)
        figures.append(
            {
                "new right in": right,
                "judged": most,
                "promoted": share(up < down),
                "refused": share(down < up),
                "median until decided": median(np.minimum(up, down)),
                "nine in ten by": quantile(np.minimum(up, down), 0.9),
            }
        )
    figures.append(unequal(plan, times))
    return figures


def unequal(plan: Plan, times: int) -> dict[str, Any]:
    """Judge what a run adds that publishes more: right ones in nine of ten, a wrong one costs 4."""
    small = 1 / (1 + plan.wrong_costs)
    rng, decided = np.random.default_rng(0), []
    for _ in range(0, times, CHUNK):
        right = np.cumsum(rng.random((CHUNK, 500)) < 0.9, axis=1).astype(np.float64)
        counts = np.stack([right, np.arange(1, 501) - right], axis=-1)
        evidence = mean_log_evidence(np.array([small, small - 1]), counts)
        decided.append(first(evidence >= -math.log(plan.quality_alpha * BETTER_SHARE)))
    return {"added tags, nine of ten right: median": median(np.concatenate(decided))}


def arms(times: int) -> list[dict[str, Any]]:
    """Watch the review rate of two arms of equal size by the A/B test, at every tenth item."""
    figures = []
    for new_rate, items in ((0.2, 20_000), (0.25, 5_000), (0.15, 5_000)):
        rng, found, naive = np.random.default_rng(0), [], []
        for _ in range(0, times, CHUNK):
            is_new = rng.random((CHUNK, items)) < 0.5
            hits = rng.random((CHUNK, items)) < np.where(is_new, new_rate, 0.2)
            counts = [
                np.cumsum(one, axis=1)[:, 9::10].astype(np.float64)
                for one in (is_new, is_new & hits, ~is_new, ~is_new & hits)
            ]
            better, worse = log_evidence(0.5, *counts)
            found.append(first(np.maximum(better, worse) >= -math.log(0.05 / 2)))
            naive.append(first(np.abs(z_score(*counts)) >= 1.96))
        at = np.concatenate(found)
        figures.append(
            {
                "review rate": f"0.2 and {new_rate}",
                "items an arm": items // 2,
                "decided": share(at < NEVER),
                "median items an arm": median(at * 5),
                "naive peeking, from 100 items on": share(np.concatenate(naive) < NEVER),
            }
        )
    config = AbConfig(metric="review", baseline=0.2, effect=0.05)
    figures.append({"stated beforehand: items an arm": needed_items(config, 0.5, 0.05) // 2})
    return figures


def z_score(
    new: FloatArray, new_hits: FloatArray, old: FloatArray, old_hits: FloatArray
) -> FloatArray:
    """Return the z-score of two proportions; 0 for fewer than 100 items."""
    with np.errstate(divide="ignore", invalid="ignore"):
        both = (new_hits + old_hits) / (new + old)
        z = (new_hits / new - old_hits / old) / np.sqrt(both * (1 - both) * (1 / new + 1 / old))
    found: FloatArray = np.where(new + old >= 100, np.nan_to_num(z), 0.0)
    return found


def review_guard(plan: Plan, times: int) -> list[dict[str, Any]]:
    """Watch the review rate of the new run's own items, of which the old one says its part too.

    The runs ask independently of each other, or the new one of what the old one asks and of more.
    """
    limit = -math.log(plan.guards.alpha / GUARDS)
    figures = []
    for more, fewer, told in (
        (0.16, 0.16, "20 and 20 %, independent"),
        (0.25 * 0.8, 0.75 * 0.2, "20 and 25 %, independent"),
        (0.07, 0.02, "20 and 25 %, much the same items"),
    ):
        rng, broken = np.random.default_rng(0), []
        for _ in range(0, times, CHUNK):
            drawn = rng.random((CHUNK, 2_500))
            risen = np.cumsum(drawn < more, axis=1).astype(np.float64)
            fallen = np.cumsum(drawn > 1 - fewer, axis=1).astype(np.float64)
            broken.append(first(sign_log_evidence(risen, fallen) >= limit))
        at = np.concatenate(broken)
        figures.append(
            {
                "review rate": told,
                "rolled back by 2,500 items of the new run": share(at < NEVER),
                "median": median(at),
            }
        )
    return figures


def failures(plan: Plan, times: int) -> list[dict[str, Any]]:
    """Let a new run fail, from the first item on or from a later one."""
    limit = -math.log(plan.guards.alpha / GUARDS)
    figures = []
    for rate, healthy, most in ((0.02, 0, 2_000), (0.02, 2_000, 4_000), (1e-6, 0, 20_000)):
        rng, broken = np.random.default_rng(0), []
        items = np.arange(1, most + 1)
        for _ in range(0, times, CHUNK):
            failed = (rng.random((CHUNK, most)) < rate) & (items > healthy)
            seen = np.cumsum(failed, axis=1).astype(np.float64)
            evidence = rate_log_evidence(seen, items.astype(np.float64), plan.guards.failures)
            broken.append(first(evidence >= limit))
        after = np.concatenate(broken) - healthy
        by = {f"by {n}": share(after <= n) for n in (200, plan.stages[0].items)}
        figures.append(
            {"fails in": rate, "after healthy items": healthy, "median": median(after)}
            | by
            | {"ever": share(after < NEVER - healthy)}
        )
    figures.append({"none of 200 fails, at 2 %: no rule could tell": round(0.98**200, 4)})
    return figures


def sample_ratio(times: int) -> list[dict[str, Any]]:
    """Fill the arms as they should be, and with a tenth of the new one's items lost."""
    figures = []
    for true in (0.5, 0.45 / 0.95):
        rng, wrong = np.random.default_rng(0), 0
        for _ in range(times):
            new = np.cumsum(rng.binomial(100, true, 100))
            wrong += any(
                ratio_is_wrong(Arms(new=int(n), old=100 * at - int(n)), 0.5)
                for at, n in enumerate(new, 1)
            )
        figures.append({"share of the new arm": round(true, 3), "of 10,000": wrong / times})
    return figures


def ramp(times: int) -> dict[str, Any]:
    """Ask for the arm of items at every stage of a ramp, under as many salts as repetitions."""
    changed, new = 0, 0
    for salt in range(times):
        before = set()
        for at in (0.0, 0.01, 0.05, 0.25, 0.5, 1.0):
            now = {group for group in range(50) if arm_of(str(salt), group, at) == "new"}
            changed += len(before - now)
            new += len(now) if at == 0.25 else 0
            before = now
    return {"changed": changed, "new at a share of 0.25": round(new / times / 50, 4)}


def restarts(times: int) -> dict[str, Any]:
    """Take rollouts through a ramp in a store, with clocks that jump and commits that are lost.

    One reader follows from the beginning, as long as it is not killed; after each step another one
    reads everything anew. Both are to say the same.
    """
    rng, counts = np.random.default_rng(0), Counter[str]()
    stages = [StageConfig(share=at, items=3) for at in (0, 0.3, 0.6, 1)]
    plan = Plan(name="ramp", stages=stages)
    for first_number in range(0, times, 20):
        with TemporaryDirectory() as folder, closing(make_store(folder)) as store:
            for number in range(first_number, min(times, first_number + 20)):
                take_through(store, plan, str(number), rng, counts)
    return dict(counts)


def take_through(
    store: Store, plan: Plan, salt: str, rng: np.random.Generator, counts: Counter[str]
) -> None:
    """Take one rollout through a ramp, and count what happened."""
    runs = {name: {"run": name, "version": name, "path": name} for name in ("new", "old")}
    start = {"action": "start", "reason": "", "plan": plan.model_dump(), "needed": None} | runs
    with store.writing() as connection:
        data = start | {"salt": salt}
        append(connection, "rollout", at=0, actor="-", item=SERVICE, data=data)
        following = read_anew(connection)
    clock, arms = 10**12, dict[int, str]()
    for _ in range(8):
        clock += int(rng.integers(-(10**8), 10**9))
        killed = bool(rng.random() < 0.3)
        with suppress(KilledError), store.writing() as connection:
            rollout = following.rollout
            for group in rng.integers(0, 40, 12).tolist():
                arm = arm_of(rollout.salt, group, rollout.share)
                counts["arms changed"] += arms.get(group) == "new" and arm == "old"
                arms[group] = arm
                keep(connection, rollout, arm, clock)
            evidence = following.read(connection).evidence(clock)
            decision = decide(plan, rollout.standing, evidence, clock, "")
            if decision.action != "wait":
                take(connection, rollout, decision, evidence, actor="-", at=clock)
            if killed:
                raise KilledError
        with store.reading() as connection:
            anew = read_anew(connection)
        following = anew if killed else following
        following.rollout = anew.rollout
        counts["steps"] += 1
        counts["kills"] += killed
        counts["other state"] += following.evidence(clock) != anew.evidence(clock)
        if anew.rollout.ended:
            counts["promoted"] += 1
            return
    with store.writing() as connection:
        command(connection, "abort", "", Evidence(), actor="-", at=clock)


class KilledError(Exception):
    """A process that ends before its transaction is committed."""


def make_store(folder: str) -> Store:
    """Make an empty store."""
    return open_store(f"sqlite:///{folder}/store.db", create=True)


def read_anew(connection: Connection) -> Ledger:
    """Read the rollout that stands and all of its evidence, as a process does that was started."""
    rollout = last_rollout(connection)
    assert rollout is not None
    return Ledger(rollout).read(connection)


def keep(connection: Connection, rollout: Rollout, arm: Arm, at: int) -> None:
    """Keep an item that both runs would publish alike."""
    asked = arm == "new" or rollout.share == 0
    one = Answered(
        rollout.number,
        "new",
        "new",
        rollout.standing.stage,
        arm,
        asked,
        "a",
        "a" if asked else None,
    )
    append(connection, "submitted", at=at, actor="-", data={"rollout": asdict(one)})


def first(reached: BoolArray) -> FloatArray:
    """Return the number of the first look at which something was reached, `NEVER` without one."""
    found: FloatArray = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, NEVER)
    return found


def share(found: BoolArray) -> float:
    """Return a share of the repetitions, with four digits."""
    return round(float(found.mean()), 4)


def median(at: FloatArray) -> float | None:
    """Return the median look."""
    return quantile(at, 0.5)


def quantile(at: FloatArray, which: float) -> float | None:
    """Return a quantile of looks; None where so few ever came to it."""
    found = float(np.quantile(at, which, method="lower"))
    return None if found >= NEVER - MOST else found


if __name__ == "__main__":
    main()
