"""Predicts the tags of a file of any size: in constant memory, in order, resumable.

Every row is answered: one without a text, or one that cannot be read, needs review, and the reason
says why. Finished rows go to `<output>.partial`, and after each chunk `<output>.partial.json` notes
how far that is. A run that is killed goes on from there when the same command is given again; the
output itself appears only once it is whole. What comes from a pipe is kept in a temporary file
first, since it cannot be read twice; what goes to a pipe is written as it is ready.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, NonNegativeInt

from tagger.data.columns import UNSAID, TableFormat
from tagger.data.items import Item
from tagger.data.problems import Problems
from tagger.data.readers import PIPE, Row, readable_twice
from tagger.data.sources import open_file
from tagger.data.validation import describe_blank, item_of
from tagger.decision.decider import Decider, decision_hash, load_decider
from tagger.decision.policies import NEEDS_REVIEW, REVIEW
from tagger.files import csv_text, only_process, sha256_of, write_json
from tagger.prediction_output import COLUMNS, check_output, header, id_type, publish
from tagger.progress import progress_bar
from tagger.runs import RunFolder

if TYPE_CHECKING:
    from tqdm import tqdm

CHUNK = 1024


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        rows: How many rows it has.
        unanswered: How many of them could not be answered.
        skipped: How many blank rows were passed over.
    """

    rows: int
    unanswered: int
    skipped: int


def predict_file(
    run: RunFolder,
    source: str | Path,
    output: str | Path,
    how: TableFormat = UNSAID,
    *,
    strict: bool = False,
    keep_columns: bool = False,
    device: str = "cpu",
) -> Outcome:
    """Write the decision, the most probable tag and all probabilities for every row of a file.

    Args:
        run: A finished run.
        source: A table with a text; `-` for standard input.
        output: CSV, JSON Lines or Parquet, by its ending (.gz and .zst too); `-` writes CSV to
            standard output. A file that exists is replaced at the end.
        how: How to read it.
        strict: Refuse the file where a row cannot be answered, before any work is done.
        keep_columns: Hand on the columns of the file that are not read.
        device: What the model computes on.

    Raises:
        UserError: for a file that can't be read, an output that can't be written, or another
            process that writes it.
    """
    with readable_twice(source) as path:
        if str(output) == PIPE:
            table = _Table(path, how, keep_columns, strict)
            state = _new_state(run, path, table)
            decider = load_decider(run.path, run.load_classifier(device))
            with (
                progress_bar(table.total, "predict", "item") as bar,
                # Not sys.stdout, which lets work go on though its reader has left: here the output
                # is all that there is to do.
                open(sys.stdout.fileno(), "wb", closefd=False) as pipe,
            ):
                for text in _predict_rest(table, decider, state, bar):
                    pipe.write(text.encode())
                    pipe.flush()
            return Outcome(state.rows, state.unanswered, table.skipped)
        target = Path(output)
        check_output(path, target)
        with only_process(target, "writing"):
            table = _Table(path, how, keep_columns, strict)
            partial = target.with_name(f"{target.name}.partial")
            note = partial.with_name(f"{partial.name}.json")
            state = _resume(partial, note, _new_state(run, path, table))
            decider = load_decider(run.path, run.load_classifier(device))
            with (
                progress_bar(table.total, "predict", "item", initial=state.rows) as bar,
                partial.open("ab") as raw,
            ):
                raw.truncate(state.bytes)  # what a kill left of a chunk that was not noted
                for text in _predict_rest(table, decider, state, bar):
                    raw.write(text.encode())
                    raw.flush()
                    state.bytes = raw.tell()
                    write_json(note, state.model_dump())
            ids = table.columns.get("id")
            publish(partial, target, decider.tags, lambda: id_type(path, ids))
            note.unlink(missing_ok=True)
            return Outcome(state.rows, state.unanswered, table.skipped)


def answer_rows(
    rows: Sequence[Row], columns: Mapping[str, str], kept: Sequence[str], decider: Decider
) -> Iterator[list[str]]:
    """Yield a line of predictions for each row of a table.

    A row that cannot be answered needs review, has no tag and no probabilities, and its reason says
    why.

    Args:
        rows: With the values of all that is named below.
        columns: The table's column by our field name.
        kept: Columns that are handed on.
        decider: Answers.
    """
    items = [item_of(row, columns) for row in rows]
    reasons = [why_not(row, item, columns) for row, item in zip(rows, items, strict=True)]
    answers = predict_rows(
        decider, [item for item, reason in zip(items, reasons, strict=True) if not reason]
    )
    for row, item, reason in zip(rows, items, reasons, strict=True):
        values = [row.values.get(name) or "" for name in kept]
        if reason:
            yield [item.id, NEEDS_REVIEW, "", "", reason, *[""] * len(decider.tags), *values]
        else:
            yield [*next(answers), *values]


def is_answered(line: Sequence[str]) -> bool:
    """Whether a line of predictions is an answer."""
    return bool(line[COLUMNS.index("tag")])


def why_not(row: Row, item: Item, columns: Mapping[str, str]) -> str:
    """Say why a row cannot be answered; "" for one that can."""
    if row.problem or item.text:
        return row.problem
    return f"no text: {describe_blank(columns)}"


def predict_rows(decider: Decider, items: Sequence[Item]) -> Iterator[list[str]]:
    """Yield id, decision, most probable tag, its probability, reason and all probabilities."""
    decisions = decider.decide(items)
    for item, row, decided, reason in zip(
        items, decisions.probabilities, decisions.tags, decisions.reasons, strict=True
    ):
        best = int(row.argmax())
        decision = NEEDS_REVIEW if decided == REVIEW else decider.tags[int(decided)]
        numbers = (f"{p:.6f}" for p in row)
        yield [item.id, decision, decider.tags[best], f"{row[best]:.6f}", reason, *numbers]


class _State(BaseModel):
    """What an output is made of, and how far it is: rows, and bytes of the partial output."""

    model: dict[str, str]
    decision: str
    input_sha256: str
    columns: dict[str, str]
    kept: list[str]
    rows: NonNegativeInt = 0
    unanswered: NonNegativeInt = 0
    bytes: NonNegativeInt = 0


class _Table:
    """The rows of a file that are to be answered, and which of its columns are read and kept."""

    def __init__(self, path: Path, how: TableFormat, keep_columns: bool, strict: bool) -> None:
        self._table = open_file(path, how.delimiter)
        # JSON Lines without a line are a table without rows, whose columns nobody knows.
        self.columns = self._table.find_texts(how) if self._table.header else {}
        used = set(self.columns.values())
        self.kept = [name for name in self._table.header if name not in used and keep_columns]
        problems = Problems()
        self.total = 0
        for row in self.rows(problems):
            self.total += 1
            if strict and (reason := why_not(row, item_of(row, self.columns), self.columns)):
                problems.add(reason.removeprefix(f"{row.place}: "), row.place)
        problems.raise_if_any(f"{path} cannot be classified:")
        self.skipped = problems.skipped

    def rows(self, problems: Problems) -> Iterator[Row]:
        """Yield all rows, those too that can't be read but can be passed over."""
        return self._table.rows([*self.columns.values(), *self.kept], problems, broken=True)


def _predict_rest(
    table: _Table, decider: Decider, state: _State, bar: "tqdm[Any]"
) -> Iterator[str]:
    """Yield the output as text, a chunk of rows at a time, from where `state` says on."""
    rows = itertools.islice(table.rows(Problems()), state.rows, None)
    # With the first rows, so that a state without rows is one without a header too.
    head = "" if state.rows else csv_text([header(decider.tags, table.kept)])
    for chunk in iter(lambda: list(itertools.islice(rows, CHUNK)), []):
        lines = [*answer_rows(chunk, table.columns, table.kept, decider)]
        text = head + csv_text(lines)
        state.rows += len(chunk)
        state.unanswered += sum(not is_answered(line) for line in lines)
        head = ""
        yield text
        bar.update(len(chunk))
    if head:
        yield head


def _new_state(run: RunFolder, source: Path, table: _Table) -> _State:
    return _State(
        model=run.meta.model_files,
        decision=decision_hash(run.path),
        input_sha256=sha256_of(source),
        columns=table.columns,
        kept=table.kept,
    )


def _resume(partial: Path, note: Path, new: _State) -> _State:
    """Return how far an earlier attempt came, if it was this very work; else a fresh start."""
    try:
        found = _State.model_validate_json(note.read_bytes())
        start = found.model_copy(update={"rows": 0, "unanswered": 0, "bytes": 0})
        if start == new and partial.stat().st_size >= found.bytes:
            return found
    except (OSError, ValueError):
        pass  # none, or not readable: start over
    partial.unlink(missing_ok=True)
    return new
