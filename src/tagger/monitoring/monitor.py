"""Watches a stream, row by row: bets on it, counts it, and raises alarms."""

from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from tagger.audit.drift import changed_words
from tagger.data.dates import year_of
from tagger.data.items import Item
from tagger.decision.policies import REVIEW
from tagger.evaluation.slices import SLICES
from tagger.monitoring.quality import By, Group
from tagger.monitoring.report import ALL, LEAST_WATCHED, describe_scores, is_broken
from tagger.monitoring.scores import TAG, Scorer, needs_vocabulary
from tagger.monitoring.state import Alarm, MonitorState, Recent, Row, ScoreEvidence
from tagger.monitoring.timeline import Stretch
from tagger.scores import FloatArray

LEARNING = 200
"""Distinct items with which a watch begins: they say what words are known, and are not bet on."""

RECENT = 200
"""Items, the latest, that say what changed."""

SHOWN = 5
"""Items, and words of each kind, that an alarm shows."""

HOME_Z = 4.0
"""Standard errors from which on the first rows are said to differ from the run's own."""


@dataclass(frozen=True)
class Incoming:
    """A row, and what the run decides on it.

    Attributes:
        item: Its tag, if it has one, is a label.
        date: As it is written; "" where there is none.
        probabilities: Calibrated, (n_tags,).
        decided: Position of the tag that is published, or `REVIEW`.
        ood: Its OOD score; None where the run has none.
        drawn: Probability with which it was drawn to be labelled.
    """

    item: Item
    date: str
    probabilities: FloatArray
    decided: int
    ood: float | None = None
    drawn: float = 1.0


class Monitor:
    """Watches a stream. Whatever the size of the batches that rows come in, the state is the same.

    Args:
        state: Where the watch is; it is changed in place.
        tokenizer: Of the run, if it has one.
    """

    def __init__(self, state: MonitorState, tokenizer: Tokenizer | None) -> None:
        self.state = state
        self._tokenizer = tokenizer
        self._of_vocabulary = needs_vocabulary(state.names)

    def skip(self, item: Item, *, repeats: bool = False) -> None:
        """Count the next row of the stream, which has no text, or is known to repeat another."""
        self.state.stream.advance(item)
        self.state.repeated += repeats
        self.state.unanswered += not repeats

    def read(self, one: Incoming) -> None:
        """Read the next row of the stream, and its label if it has one."""
        state = self.state
        state.stream.advance(one.item)
        published, labelled = one.decided != REVIEW, one.item.tag is not None
        probability = float(one.probabilities[one.decided]) if published else 0.0
        unwatched, watched = state.stands("drift"), False
        if state.repeats.repeats(one.item.text):
            state.repeated += 1
        elif not unwatched:
            watched = self._watch(one)
        drift = state.watch.drift
        evidence = drift.evidence
        stretch = Stretch(
            first_row=state.stream.rows,
            first_date=one.date,
            published=int(published),
            confidence=float(one.probabilities.max()),
            tags=(np.arange(len(state.tags)) == one.probabilities.argmax()).astype(int).tolist(),
            expected=probability,
            labelled=int(published and labelled),
            right=int(published and one.item.tag == state.tags[one.decided]),
            watched=int(watched),
            unwatched=int(unwatched),
            evidence=[*drift.bets.values.tolist(), evidence],
            highest=evidence,
        )
        state.timeline.add(stretch)
        if (year := year_of(one.date)) in state.years:
            state.years[year].join(stretch)
        elif year is not None:
            state.years[year] = replace(stretch)
        if not published:
            return
        for group in self._groups(one):
            group.publish(probability, state.event)
        if labelled:
            self._label(one, state.stream.rows)

    def read_label(self, one: Incoming) -> None:
        """Read the next row of the table of labels; it counts if its tag is published."""
        self.state.labels.advance(one.item)
        if self.state.store:  # which tells when a label came
            stretch = self.state.timeline.stretches[-1]
            stretch.labelled += 1
            stretch.right += one.item.tag == self.state.tags[one.decided]
        self._label(one, self.state.labels.rows)

    def read_report(self, one: Incoming) -> None:
        """Read the first report on a published item."""
        for group in self._groups(one):
            group.reported += 1

    def read_upheld(self, one: Incoming, item: int) -> None:
        """Read that a person upheld a report on a published item, for the first time.

        Args:
            one: The published item.
            item: The number of the event by which it came in.
        """
        for group in self._groups(one):
            group.uphold(item)
        self._judge("reports", one, self.state.stream.rows)

    def _label(self, one: Incoming, row: int) -> None:
        state = self.state
        if one.decided == REVIEW or state.stands("promise"):
            return
        right = state.tags[one.decided] == one.item.tag
        for group in self._groups(one):
            group.label(right, one.drawn, state.least)
        self._judge("promise", one, row, right=right)

    def _judge(self, kind: By, one: Incoming, row: int, *, right: bool = False) -> None:
        """Keep an error, and raise the alarm that the promise is broken, if it is told now."""
        state, tag = self.state, TAG + self.state.tags[one.decided]
        if not right:
            latest = state.errors.get(kind, [])[1 - SHOWN :]
            state.errors[kind] = [*latest, Row(row=row, id=one.item.id, text=one.item.text)]
        if state.promise is None or state.stands(kind):
            return
        for name in (ALL, *([tag] if state.each_tag else [])):
            if is_broken(state, name, kind):
                group = state.groups[name]
                wrong = sum(wrong for _, wrong in group.labels.values())
                told = f"{wrong} of {group.labelled} published items that were labelled are wrong"
                if kind == "reports":
                    since = group.tests[0]
                    published = group.published - since.published
                    told = f"{since.upheld} of {published} published items are wrong by users' "
                    told += "reports that people upheld"
                told = f"{name}: {told}, {1 - state.promise:.1%} may be; "
                told += f"the latest of them from row {state.errors[kind][0].row} on"
                alarm = Alarm(
                    kind=kind, row=row, date=one.date, told=told,
                    evidence=group.evidence(kind), scores=[], words=[],
                    items=state.errors[kind],
                )  # fmt: skip
                state.alarms.append(alarm)
                return

    def _watch(self, one: Incoming) -> bool:
        """Bet on a row and say so; learn from it in place of that as long as little is known."""
        state, watch, row = self.state, self.state.watch, self.state.stream.rows
        text = one.item.text
        scorer = Scorer(state.names, self._tokenizer, watch.known)
        values = scorer.score(text, one.probabilities, one.ood)
        bins = scorer.bins(values)
        seen = Recent(row=row, id=one.item.id, text=text, values=values.tolist())
        if len(watch.learning) < LEARNING:
            watch.drift.learn(bins, ~self._of_vocabulary)
            watch.totals += np.where(self._of_vocabulary, 0.0, values)
            watch.learning.append(seen)
            scorer.learn(text)
            if len(watch.learning) == LEARNING:
                watch.home = self._compare_with_home()
            return False
        # By the number of the row: a watch that goes on, or is made again, draws the same.
        uniforms = np.random.default_rng(row).random(len(bins))
        watch.drift.observe(bins, uniforms, row)
        watch.totals += values
        del watch.recent[: 1 - RECENT]
        watch.recent.append(seen)
        enough = watch.drift.bets.count >= LEAST_WATCHED
        if enough and watch.drift.evidence >= 1 / state.alpha:
            state.alarms.append(self._drift_alarm(one.date))
        return True

    def _drift_alarm(self, date: str) -> Alarm:
        state, watch = self.state, self.state.watch
        scores = sorted(describe_scores(state), key=lambda score: -score.share)
        leading, at = scores[0], state.names.index(scores[0].name)
        since = [one for one in watch.recent if one.row >= leading.since]
        rises = leading.direction == "rises"
        drivers = sorted(since, key=lambda one: one.values[at], reverse=rises)[:SHOWN]
        rise, fall = changed_words(
            [Item(one.id, "", one.text) for one in watch.learning],
            [Item(one.id, "", one.text) for one in since],
        )
        shown = [score for score in scores if score.share >= 0.05]
        told = [*map(_told, shown)]
        if rise:
            told.append("more often: " + ", ".join(one.word for one in rise[:SHOWN]))
        return Alarm(
            kind="drift",
            row=state.stream.rows,
            date=date,
            evidence=watch.drift.evidence,
            told="; ".join(told),
            scores=shown,
            words=[*rise[:SHOWN], *fall[:SHOWN]],
            items=[Row(row=one.row, id=one.id, text=one.text) for one in drivers],
        )

    def _compare_with_home(self) -> list[str]:
        """Compare the first items with those that the run's decision was fitted to, in words."""
        told = []
        for name, (rows, mean, deviation) in self.state.home.items():
            at = self.state.names.index(name)
            values = np.array([one.values[at] for one in self.state.watch.learning])
            error = np.hypot(deviation / rows**0.5, values.std() / len(values) ** 0.5)
            if abs(values.mean() - mean) > HOME_Z * error:
                told.append(
                    f"{name}: {values.mean():.3f} in the mean of the first {len(values)} items, "
                    f"{mean:.3f} of the {rows:,} rows that the run's decision was fitted to"
                )
        return told

    def _groups(self, one: Incoming) -> list[Group]:
        """Return the groups of a published item: of all, of its tag, of its slices."""
        slices = [f"slice: {name}" for name, contains in SLICES.items() if contains(one.item)]
        names = (ALL, TAG + self.state.tags[one.decided], *slices)
        for name in names:
            if name not in self.state.groups:
                self.state.groups[name] = Group(promise=self.state.promise)
        return [self.state.groups[name] for name in names]


def _told(score: ScoreEvidence) -> str:
    means = f", {score.before:.3g} before and {score.after:.3g} since" if score.after else ""
    return f"{score.name} {score.direction} from row {score.since} on{means}"
