"""Watches a file of items by a run: in constant memory, in order, resumable.

After each chunk of rows the whole state is written, atomically. A watch that was killed, or whose
file has grown, goes on from there and says the same as one that was never stopped.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tagger.data.columns import INCLUSION, TEXT, UNSAID, TableFormat
from tagger.data.items import Item
from tagger.data.problems import Problems, did_you_mean
from tagger.data.sources import open_file
from tagger.data.tags import list_tags
from tagger.data.validation import item_of
from tagger.decision.decider import Decider
from tagger.errors import UserError
from tagger.monitoring.monitor import Monitor
from tagger.monitoring.report import MonitorReport, describe
from tagger.monitoring.state import Cursor
from tagger.monitoring.watching import CHUNK, STATE_FILE, decide, open_watch
from tagger.progress import progress_bar
from tagger.runs import RunFolder

TableRow = tuple[Item, str, float]
"""An item, whose tag is a label; its date as written; the probability with which it was drawn."""


class Table:
    """A table of items, labelled or not, that continues what was read of it before."""

    def __init__(self, path: Path, how: TableFormat, tags: Sequence[str], labels: bool) -> None:
        self.path = path
        self._tags, self.labels = tags, labels
        self._table = open_file(path, how.delimiter)
        self._columns, _ = self._table.find(how, (TEXT, "tag") if labels else (TEXT,))
        tag = self._columns.get("tag")
        said = ("tag", how.columns.get("tag"), how.known.get("tag"))
        if not labels and tag not in said:  # a guess: the column may mean anything
            self._columns = {k: v for k, v in self._columns.items() if k != "tag"}

    def check(self, cursor: Cursor) -> tuple[int, float]:
        """Read all of it once; return how many rows it has, and the smallest chance of a label.

        Raises:
            UserError: with all problems; or when it is not what was read up to the cursor.
        """
        problems, read, least = Problems(), Cursor(), 1.0
        for item, _, drawn in self.rows(problems):
            least = min(least, drawn if item.tag else 1.0)
            if read.rows < cursor.rows:
                read.advance(item)
            else:
                read.rows += 1
        problems.raise_if_any(f"{self.path} cannot be watched:")
        if read.digest != cursor.digest:
            raise UserError(
                f"{self.path} does not go on where the watch stopped: its first {cursor.rows:,} "
                f"rows are not those that were read; it has {read.rows:,}",
                hint="New rows go to the end of the same file. For another stream: --out FOLDER",
            )
        return read.rows, least

    def rows(self, problems: Problems) -> Iterator[TableRow]:
        """Yield all rows; one that can't be read has no text."""
        wanted = [*self._columns.values(), INCLUSION]
        for row in self._table.rows(wanted, problems, broken=True):
            item = item_of(row, self._columns)
            values = {field: row.values.get(name) or "" for field, name in self._columns.items()}
            tag = values.get("tag", "").strip() or None
            if tag is not None and tag not in self._tags:
                told = f"{tag!r} is none of the run's tags{did_you_mean(tag, self._tags)}"
                problems.add(f"{told}: {list_tags(self._tags)}", row.place)
            if self.labels and not (tag and item.text):
                problems.add("a row of labels needs a text and a tag", row.place)
            written = (row.values.get(INCLUSION) or "1").strip() or "1"
            drawn = float(written) if written.replace(".", "", 1).isdecimal() else 0.0
            if not 0 < drawn <= 1:
                problems.add(
                    f"`{INCLUSION}` is {written!r}, expected a probability above 0, up to 1",
                    row.place,
                )
            yield replace(item, tag=tag), values.get("created_on", ""), drawn


def watch_file(
    run: RunFolder,
    source: Path,
    folder: Path,
    how: TableFormat = UNSAID,
    *,
    labels: Path | None = None,
    promise: float | None = None,
    alpha: float | None = None,
    history: bool = False,
) -> MonitorReport:
    """Watch a stream from where the last call stopped; write `state.json` and `monitor.json`.

    Args:
        run: A finished run, the same as before.
        source: A table of items in the order that they came; a tag of theirs is a label.
        folder: Where the watch is kept.
        how: How to read the tables.
        labels: A table of items with their tags, drawn at random and labelled blind, in the order
            that they were labelled. Those count that the run publishes.
        promise: Promised precision; by default the run's own, if it has one.
        alpha: Chance of a false alarm ever; default: 0.05.
        history: Accept each alarm at once, and watch on behind it.

    Raises:
        UserError: for a table that can't be read or is not the one of before; see `open_watch`.
    """
    with open_watch(run, folder, promise, alpha) as (decider, monitor):
        state = monitor.state
        tables = [(Table(source, how, state.tags, labels=False), state.stream)]
        if labels is not None:
            tables.append((Table(labels, how, state.tags, labels=True), state.labels))
        checked = [table.check(cursor) for table, cursor in tables]
        if not any(group.labelled for group in state.groups.values()):
            state.least = min(least for _, least in checked)
        for (table, cursor), (total, _) in zip(tables, checked, strict=True):
            rows = itertools.islice(table.rows(Problems()), cursor.rows, None)
            with progress_bar(total, table.path.name, "item", initial=cursor.rows) as bar:
                while chunk := list(itertools.islice(rows, CHUNK)):
                    _read(chunk, table, decider, monitor, history)
                    state.write(folder / STATE_FILE)
                    bar.update(len(chunk))
    return describe(state)


def _read(
    chunk: Sequence[TableRow], table: Table, decider: Decider, monitor: Monitor, history: bool
) -> None:
    with_text = [item for item, _, _ in chunk if item.text]
    rows = iter(decide(decider, with_text) if with_text else [])
    for item, date, drawn in chunk:
        if not item.text:
            monitor.skip(item)
            continue
        one = replace(next(rows), date=date, drawn=drawn)
        (monitor.read_label if table.labels else monitor.read)(one)
        if history and monitor.state.standing:
            monitor.state.accept()
