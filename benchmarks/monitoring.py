"""How often does `tagger monitor` cry wolf, and how soon does it see what was planted?

    python benchmarks/monitoring.py --run RUN [--other OTHER.csv] [--stream STREAM.csv]

RUN is any finished run; a linear one is quick. Streams are drawn from data/gold.csv without
replacement, so that their order says nothing, and read by `tagger.monitoring.monitor.Monitor`, row
by row, as `tagger monitor` does.

* False alarms: how many of such streams (of STREAM, if it is given) ever raise an alarm at 5 %.
* Delays: rows from a planted change, which begins at row `CHANGE`, to the alarm.
* Beside both: a daily Kolmogorov-Smirnov test at 5 % of confidence against the first rows, and
  river's ADWIN with its defaults on confidence (nan where river is not installed). Both take a
  single score; ours takes all.
* The same changes where a false alarm each 150 rows is accepted, as alibi-detect's documentation
  tunes its online detectors, for which it tells a mean delay of 12.7 on images of its own.
* The promise: labels until the alarm where 0.98 was promised and 0.93 is true, and alarms where it
  is kept.
* The estimate without labels against the truth: on halves of the run's own calibration set, and on
  OTHER, a labelled source that it was not made from.
* STREAM in its own order: every alarm, accepted at once.
* Speed of the watch alone, and size of its state.
"""

import argparse
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ks_2samp
from sklearn.feature_extraction.text import CountVectorizer

from tagger.data.columns import UNSAID
from tagger.data.duplicates import normalise
from tagger.data.items import Item, fold
from tagger.data.problems import Problems
from tagger.decision.change import asked_last
from tagger.decision.decider import CalibrationSet, Decider, fit_rule, load_decider
from tagger.decision.policies import REVIEW
from tagger.errors import exit_on_user_error
from tagger.files import write_json
from tagger.monitoring.drift import BINS, Drift
from tagger.monitoring.monitor import LEARNING, Incoming, Monitor
from tagger.monitoring.quality import Group
from tagger.monitoring.repeats import HASHES, OVERLAP, REMEMBERED, sign
from tagger.monitoring.report import LEAST_WATCHED
from tagger.monitoring.scores import (
    WORDS,
    Scorer,
    needs_vocabulary,
    score_names,
    score_weights,
)
from tagger.monitoring.state import MonitorState, begin_watch
from tagger.monitoring.watch_file import Table
from tagger.monitoring.watching import decide
from tagger.runs import open_run, read_calibration
from tagger.scores import FloatArray

try:
    from river.drift import ADWIN  # pip install river==0.26.1
except ModuleNotFoundError:
    ADWIN = None

ALPHA = 0.05
CHANGE = 600
AFTER = 400
DAY = 100
RUN_TIME = 150
LENGTHS = (1_000, 10_000)
PROMISES = 1_000
Rows = Sequence[Incoming]
Changed = Callable[[int], list[Incoming]]
"""Makes the rows of a stream that come after a change, by a seed."""


@exit_on_user_error
def main() -> None:
    """Run all of it; print and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--data", type=Path, default=Path("data/gold.csv"))
    parser.add_argument("--other", type=Path, help="a labelled source")
    parser.add_argument("--stream", type=Path, help="rows in the order that they came")
    parser.add_argument("--streams", type=int, default=200, help="without a change")
    parser.add_argument("--planted", type=int, default=40, help="streams of each planted change")
    parser.add_argument("--shifted", type=int, default=1000, help="streams of each shifted score")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/monitoring.json"))
    options = parser.parse_args()

    run = open_run(options.run, options.runs_dir)
    decider = load_decider(run.path, run.load_classifier())
    tags = list(run.tags)
    home = decide_all(decider, read_items(options.data, tags))
    report: dict[str, Any] = {"run": run.name, "speed": speed(home, tags)}
    show("speed", report["speed"])
    report["promise"] = promise(PROMISES)
    show("promise 0.98", report["promise"])
    changes = changes_of(home, decider, options.other, tags)
    report["estimate"] = estimates(run.path, changes, tags)
    show("estimate without labels", report["estimate"])
    report["score shifts"] = score_shifts(options.shifted)
    show("shift of one score, in standard deviations", report["score shifts"])
    stream = None
    if options.stream:
        stream = decide_all(decider, read_items(options.stream, tags))
        report["stream"] = in_order(stream, tags)
        show("the stream in its order", report["stream"])
    report["planted"] = {
        name: _delays(home, tags, make, options.planted) for name, make in changes.items()
    }
    show("planted changes", report["planted"])
    report["run time"] = at_run_time(home, tags, changes, options.planted)
    show(f"a false alarm each {RUN_TIME} rows: mean delays", report["run time"])
    steady = home if stream is None else stream
    lengths = [length for length in LENGTHS if length <= len(steady)]
    report["false alarms"] = false_alarms(steady, tags, options.streams, lengths)
    show("alarms on streams without a change", report["false alarms"])
    write_json(options.out, report)


def read_items(path: Path, tags: Sequence[str]) -> list[tuple[Item, str]]:
    """Return the items of a table with their dates."""
    rows = Table(path, UNSAID, tags, labels=False).rows(Problems())
    return [(item, date) for item, date, _ in rows if item.text]


def decide_all(decider: Decider, items: Sequence[tuple[Item, str]]) -> list[Incoming]:
    """Let a run decide on items."""
    made = []
    for start in range(0, len(items), 512):
        chunk = items[start : start + 512]
        answers = decide(decider, [item for item, _ in chunk])
        made += [replace(one, date=date) for one, (_, date) in zip(answers, chunk, strict=True)]
    return made


def new_state(tags: list[str], rows: Rows) -> MonitorState:
    """Return the state of a watch that promises nothing."""
    ood = rows[0].ood is not None
    names = score_names(tags, pieces=False, ood=ood)
    return MonitorState(
        run="", files={}, tags=tags, names=names, alpha=ALPHA, promise=None,
        each_tag=False, home={}, watch=begin_watch(names),
    )  # fmt: skip


def watch(rows: Iterable[Incoming], state: MonitorState) -> int | None:
    """Read rows until a drift alarm; return its row."""
    monitor = Monitor(state, None)
    for one in rows:
        monitor.read(unlabelled(one))
        if state.alarms:
            return state.alarms[0].row
    return None


def draw(rows: Rows, count: int, seed: int) -> list[Incoming]:
    """Draw rows without replacement."""
    return [rows[at] for at in np.random.default_rng(seed).permutation(len(rows))[:count]]


def unlabelled(one: Incoming) -> Incoming:
    """Return a row without its label, which has no part in drift."""
    return replace(one, item=replace(one.item, tag=None))


def false_alarms(
    rows: Rows, tags: list[str], streams: int, lengths: Sequence[int]
) -> dict[str, Any]:
    """Count stationary streams that ever raise an alarm by each length, by us and beside us."""
    alarms = {"ours": watch_together(rows, tags, streams, max(lengths))}
    alarms |= {"daily test": [], "ADWIN": []}
    days, flagged = 0, 0
    for seed in range(streams):
        confidence = np.array([one.probabilities.max() for one in draw(rows, max(lengths), seed)])
        wrong = daily(confidence)
        days, flagged = days + len(wrong), flagged + sum(wrong)
        first = np.flatnonzero(wrong)
        alarms["daily test"].append(LEARNING + DAY * (first[0] + 1) if len(first) else np.inf)
        alarms["ADWIN"].append(adwin(confidence))
    return count(alarms, lengths) | {"days that the daily test calls different": flagged / days}


def watch_together(rows: Rows, tags: list[str], streams: int, length: int) -> list[float]:
    """Return the row of each stream's alarm, as `watch` does, for all streams at once.

    All scores of all streams are those of one `Drift`; what depends on a text alone is computed
    once. A stream with more repeats than others is read as far as the one with the most of them.
    """
    names = score_names(tags, pieces=False, ood=rows[0].ood is not None)
    blank = Scorer(names, None, [set()])
    bins = np.array(
        [blank.bins(blank.score(one.item.text, one.probabilities, one.ood)) for one in rows]
    )
    words = CountVectorizer(analyzer=lambda one: re.findall(r"\w+", fold(one.item.text)))
    counts = words.fit_transform(rows)
    totals = np.maximum(1, np.asarray(counts.sum(axis=1)).ravel())
    like = repeats_of([one.item.text for one in rows])
    known = needs_vocabulary(names)
    kept, all_bins = [], []
    for seed in range(streams):
        order = np.random.default_rng(seed).permutation(len(rows))[:length]
        seen: dict[int, int] = {}  # distinct items by their number, in order
        at = []
        for row, one in enumerate(order.tolist(), start=1):
            if not any(len(seen) - seen.get(other, -(10**9)) <= REMEMBERED for other in like[one]):
                seen[one] = len(seen)
                at.append(row)
        distinct = order[np.array(at) - 1]
        first = np.asarray(counts[distinct[:LEARNING]].sum(axis=0)).ravel() > 0
        ours = bins[distinct]
        unknown = 1 - (counts[distinct] @ first) / totals[distinct]
        ours[:, names.index(WORDS)] = np.rint((BINS - 1) * unknown)
        kept.append(at)
        all_bins.append(ours)
    steps = min(map(len, kept))
    together = np.stack([one[:steps] for one in all_bins], axis=1).reshape(steps, -1)
    numbers = np.array([one[:steps] for one in kept])  # of rows, (streams, steps)
    draws = np.array([np.random.default_rng(row).random(len(names)) for row in range(length + 1)])
    drift = Drift.begin(score_weights(names) * streams)
    alarms = np.full(streams, np.inf)
    for step, one in enumerate(together):
        if step < LEARNING:
            drift.learn(one, np.tile(~known, streams))
            continue
        drift.observe(one, draws[numbers[:, step]].ravel(), step)
        values = (drift.bets.values * drift.weights).reshape(streams, -1).sum(axis=1)
        found = np.isinf(alarms) & (values >= 1 / ALPHA) & (drift.bets.count >= LEAST_WATCHED)
        alarms[found] = numbers[found, step]
    return alarms.tolist()


def repeats_of(texts: Sequence[str]) -> list[list[int]]:
    """Return for each text which others `Repeats` takes it for."""
    signatures = np.array([sign(normalise(text)) for text in texts])
    found = []
    for at, one in enumerate(signatures):
        agreeing = (signatures == one).sum(axis=1)
        found.append([int(other) for other in np.flatnonzero(agreeing >= OVERLAP * HASHES)
                      if other != at])  # fmt: skip
    return found


def count(alarms: dict[str, list[float]], lengths: Sequence[int]) -> dict[str, Any]:
    """Count alarms by each length; None where nothing was asked."""
    return {
        f"{length} rows": {
            name: None if np.isnan(at).any() else sum(bool(row <= length) for row in at)
            for name, at in alarms.items()
        }
        | {"of": len(alarms["ours"])}
        for length in lengths
    }


def daily(scores: FloatArray) -> list[bool]:
    """Compare each `DAY` rows with the first ones by a Kolmogorov-Smirnov test at 5 %."""
    first, rest = scores[:LEARNING], scores[LEARNING:]
    days = [rest[at : at + DAY] for at in range(0, len(rest) - DAY + 1, DAY)]
    return [bool(ks_2samp(first, day).pvalue < ALPHA) for day in days]


def adwin(scores: FloatArray, after: int = 0) -> float:
    """Return the first row behind one at which river's ADWIN sees a change; nan without river."""
    if ADWIN is None:
        return np.nan
    detector = ADWIN()
    for row, one in enumerate(scores, start=1):
        detector.update(float(one))
        if detector.drift_detected and row > after:
            return row
    return np.inf


def changes_of(
    rows: Rows, decider: Decider, other: Path | None, tags: list[str]
) -> dict[str, Changed]:
    """Return what makes the `AFTER` rows that come from row `CHANGE` on, by a seed."""
    rng = np.random.default_rng(1)

    def invent(item: Item) -> Item:
        words = item.text.split()
        made = ["".join(rng.choice([*"aeioulmnrst"], 7)) if rng.random() < 0.1 else word
                for word in words]  # fmt: skip
        return replace(item, title="", description=" ".join(made))

    def twice(item: Item) -> Item:
        return replace(item, description=f"{item.description} {item.title} {item.description}")

    by_tag: dict[str, list[Incoming]] = {tag: [] for tag in tags}
    for one in rows:
        by_tag[str(one.item.tag)].append(one)
    rarest = min(tags, key=lambda tag: len(by_tag[tag]))

    def more_of_one_tag(seed: int) -> list[Incoming]:
        """Half of the rows are of the rarest tag."""
        many = draw(by_tag[rarest], AFTER // 2, seed)
        rest = draw(rows, AFTER, seed + 10**6)[AFTER // 2 :]
        return [*map(lambda at: [*many, *rest][at], np.random.default_rng(seed).permutation(AFTER))]

    def changed(how: Callable[[Item], Item]) -> Changed:
        def make(seed: int) -> list[Incoming]:
            drawn = draw(rows, CHANGE + AFTER, seed)[CHANGE:]
            return decide_all(decider, [(how(one.item), "") for one in drawn])

        return make

    changes: dict[str, Changed] = {
        f"half of the rows are {rarest}": more_of_one_tag,
        "each tenth word is invented": changed(invent),
        "descriptions twice as long": changed(twice),
    }
    if other is not None:
        foreign = decide_all(decider, read_items(other, tags))
        changes[f"rows of {other.name}"] = lambda seed: draw(foreign, AFTER, seed)
    return changes


def _delays(rows: Rows, tags: list[str], make: Changed, streams: int) -> dict[str, Any]:
    """Measure the rows from a change to the alarm, and to the first one of others beside."""
    delays, early, named = [], 0, Counter[str]()
    theirs: dict[str, list[float]] = defaultdict(list)
    for seed in range(streams):
        state = new_state(tags, rows)
        stream = [*draw(rows, CHANGE + AFTER, seed)[:CHANGE], *make(seed)]
        alarm = watch(stream, state)
        early += alarm is not None and alarm <= CHANGE
        if alarm is None or alarm > CHANGE:
            delays.append(np.inf if alarm is None else alarm - CHANGE)
        if state.alarms:
            named[state.alarms[0].scores[0].name] += 1
        confidence = np.array([one.probabilities.max() for one in stream])
        theirs["ADWIN"].append(adwin(confidence, CHANGE) - CHANGE)
        since = np.flatnonzero(daily(confidence)[(CHANGE - LEARNING) // DAY :])
        theirs["daily test"].append(DAY * (since[0] + 1) if len(since) else np.inf)
    return {
        "streams": streams, "before the change": early, **_quantiles(delays),
        "named first": dict(named.most_common(3)),
        **{name: _quantiles(one) for name, one in theirs.items()},
    }  # fmt: skip


def at_run_time(
    rows: Rows, tags: list[str], changes: dict[str, Changed], streams: int
) -> dict[str, Any]:
    """Measure the mean delay where a false alarm is accepted each `RUN_TIME` rows.

    So online detectors are tuned, which promise a run time and not that there is no false alarm
    ever. Of ours the best sum of log factors that ends with the last item (Page's) is such a
    statistic: the threshold is the one whose mean run time over streams without a change, from row
    `CHANGE` on, is `RUN_TIME`.
    """

    def paths(make: Changed, count: int) -> FloatArray:
        found = []
        for seed in range(count):
            state = new_state(tags, rows)
            state.alpha = 1e-300  # no alarm, which would end the betting
            monitor = Monitor(state, None)
            for one in draw(rows, CHANGE, seed):
                monitor.read(unlabelled(one))
            drift = state.watch.drift
            drift.gain[:] = 0.0
            found.append([monitor.read(unlabelled(one)) or drift.gain.max() for one in make(seed)])
        return np.maximum.accumulate(found, axis=1)

    def mean_time(highest: FloatArray, threshold: float) -> float:
        return float((highest < threshold).sum(axis=1).mean()) + 1

    steady = paths(lambda seed: draw(rows, CHANGE + 10 * RUN_TIME, seed)[CHANGE:], streams)
    thresholds = np.quantile(steady, np.linspace(0, 1, 1001))
    threshold = min(thresholds, key=lambda one: abs(mean_time(steady, one) - RUN_TIME))
    found: dict[str, Any] = {"run time without a change": mean_time(steady, threshold)}
    return found | {name: mean_time(paths(make, streams), threshold)
                    for name, make in changes.items()}  # fmt: skip


def score_shifts(streams: int) -> dict[str, Any]:
    """Shift the first of one or of six independent normal scores from row `CHANGE` on.

    All streams are watched at once; those with an alarm before the change are left out.
    """
    found = {}
    for scores in (1, 6):
        for shift in (0.2, 0.4, 0.8):
            rng = np.random.default_rng((7, scores))
            drift = Drift.begin([1 / scores] * scores * streams)
            delays = np.full(streams, np.inf)
            for row in range(1, CHANGE + 601):
                values = rng.normal(size=(streams, scores))
                values[:, 0] += shift * (row > CHANGE)
                bins = np.clip(np.round(BINS / 2 + 30 * values), 0, BINS - 1).astype(np.int64)
                drift.observe(bins.ravel(), rng.random(bins.size), row)
                evidence = drift.bets.values.reshape(bins.shape).mean(axis=1)
                delays[np.isinf(delays) & (evidence >= 1 / ALPHA)] = row - CHANGE
            kept = delays[delays > 0]
            found[f"{shift}, one of {scores}"] = {"streams": len(kept), **_quantiles(kept)}
    return found


def promise(streams: int) -> dict[str, Any]:
    """Test a promise of 0.98 by labels, broken (0.93) and just kept (0.98)."""
    rng = np.random.default_rng(2)
    found = {}
    for true, labels in ((0.93, 600), (0.98, 1000)):
        delays = []
        for _ in range(streams):
            group = Group(promise=0.98)
            delay = np.inf
            for at, right in enumerate(rng.random(labels) < true, start=1):
                group.label(bool(right), 1.0, 1.0)
                if group.is_enough("promise") and group.evidence("promise") >= 1 / ALPHA:
                    delay = at
                    break
            delays.append(delay)
        found[f"true {true}"] = {"streams": streams, "labels": labels, **_quantiles(delays)}
    return found


def estimates(folder: Path, changes: dict[str, Changed], tags: list[str]) -> dict[str, Any]:
    """Set the estimate without labels beside the truth: without a change, and under some."""
    found = {}
    raw, true, ood = read_calibration(folder / "calibration.csv", tags)
    asked = asked_last(open_run(str(folder), ""))
    errors = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(true))
        fit, test = np.array_split(order, 2)
        rows = CalibrationSet(raw[fit], true[fit], None if ood is None else ood[fit], "")
        decided = fit_rule(asked, rows).apply(raw[test], None if ood is None else ood[test])
        given = decided.tags != REVIEW
        expected = decided.probabilities[given, decided.tags[given]].mean()
        errors.append(expected - (decided.tags[given] == true[test][given]).mean())
    found["own rows, 20 halves: error"] = {
        "mean": float(np.mean(errors)),
        "largest": float(np.abs(errors).max()),
    }
    for name, make in changes.items():
        rows_of = [one for seed in range(5) for one in make(seed)]
        out = [one for one in rows_of if one.decided != REVIEW]
        group = Group(promise=None)
        for one in out:
            group.publish(float(one.probabilities[one.decided]), 0)
        expected_score = group.expected_precision()
        assert expected_score is not None
        truth = float(np.mean([tags[one.decided] == one.item.tag for one in out]))
        found[name] = {"published": len(out), "expected": expected_score.value, "true": truth}
    return found


def in_order(rows: Rows, tags: list[str]) -> dict[str, Any]:
    """Read a stream as it came, and accept each alarm at once."""
    state = new_state(tags, rows)
    monitor = Monitor(state, None)
    for one in rows:
        monitor.read(unlabelled(one))
        if state.stands("drift"):
            state.accept()
    return {
        f"row {alarm.row}, {alarm.date[:10]}": {
            "told": alarm.told, "words": [one.word for one in alarm.words],
        }
        for alarm in state.alarms
    }  # fmt: skip


def speed(rows: Rows, tags: list[str]) -> dict[str, Any]:
    """Time the watch alone, and measure its state after 1,000 rows and after all."""
    state = new_state(tags, rows)
    state.alpha = 1e-300  # no alarm, which would end the betting
    monitor = Monitor(state, None)
    drawn = draw(rows, len(rows), 0)
    sizes = []
    start = time.process_time()
    for one in drawn:
        monitor.read(unlabelled(one))
        if state.stream.rows == 1000:
            sizes.append(len(state.model_dump_json()))
    seconds = time.process_time() - start
    sizes.append(len(state.model_dump_json()))
    return {"rows": len(drawn), "items/s of processor time": len(drawn) / seconds, "state": sizes}


def _quantiles(delays: Sequence[float] | FloatArray) -> dict[str, Any]:
    known = np.array(delays)
    finite = [one for one in np.quantile(known, (0.5, 0.9), method="lower")]
    median, most = (float(one) if np.isfinite(one) else None for one in finite)
    return {"alarms": int(np.isfinite(known).sum()), "median": median, "90 %": most}


def show(title: str, figures: dict[str, Any]) -> None:
    """Print some figures."""
    print(title, flush=True)
    for name, value in figures.items():
        print(f"  {name}: {value}", flush=True)


if __name__ == "__main__":
    main()
