"""Predict the tags of a file of any size: constant memory, order kept, resumable.

Finished rows go to `<output>.partial`, and after each chunk `<output>.partial.json` notes how far
that is. A run that is killed goes on from there when the same command is given again; the output
itself appears only once it is whole.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled, scan_unlabelled
from tagger.data.tags import PREDICTION_COLUMNS
from tagger.decision.decider import FILE as DECISION_FILE
from tagger.decision.decider import Decider, load_decider
from tagger.decision.policies import NEEDS_REVIEW, REVIEW
from tagger.errors import UserError
from tagger.files import csv_text, only_process, replace_file, replacing, sha256_of, write_json
from tagger.progress import progress_bar
from tagger.runs import RunFolder

if TYPE_CHECKING:
    from tqdm import tqdm

CHUNK = 1024
TEXT_COLUMNS = ("id", "decision", "tag")
OUTPUT_SUFFIXES = (".csv", ".jsonl", ".parquet")


def predict_file(run: RunFolder, source: Path, output: Path) -> int:
    """Write the decision, the most probable tag and all probabilities for every item of a file.

    Args:
        run: A finished run.
        source: CSV, JSONL or Parquet with `id` and `title` or `description`.
        output: CSV, JSONL or Parquet, by its suffix. One that exists is replaced at the end.

    Returns:
        The number of items.

    Raises:
        UserError: for rows that can't be predicted (all are listed, before any work is done), an
            output that can't be written, or another process that writes it.
    """
    _check_output(source, output)
    with only_process(output, "writing"):
        total = scan_unlabelled(source)
        partial = output.with_name(f"{output.name}.partial")
        state = _resume_state(partial, run, source)
        with progress_bar(total, "predict", "item", initial=state["rows"]) as bar:
            decider = load_decider(run.path, run.load_classifier())
            _append_predictions(partial, state, decider, source, bar)
        _publish(partial, output)
        _state_file(partial).unlink(missing_ok=True)
    return total


def predict_rows(decider: Decider, items: Sequence[Item]) -> Iterator[list[str]]:
    """Yield id, decision, most probable tag, its probability and all of them, as text."""
    decisions = decider.decide(items)
    for item, row, decided in zip(items, decisions.probabilities, decisions.tags, strict=True):
        best = int(row.argmax())
        decision = NEEDS_REVIEW if decided == REVIEW else decider.tags[int(decided)]
        numbers = (f"{p:.6f}" for p in row)
        yield [item.id, decision, decider.tags[best], f"{row[best]:.6f}", *numbers]


def header(tags: Sequence[str]) -> list[str]:
    """Return the column names of predictions."""
    return [*PREDICTION_COLUMNS, *tags]


def _append_predictions(
    partial: Path, state: dict[str, Any], decider: Decider, source: Path, bar: "tqdm[Any]"
) -> None:
    with partial.open("ab") as raw:
        raw.truncate(state["bytes"])  # what a kill left of a chunk that was not noted
        items = itertools.islice(iter_unlabelled(source), state["rows"], None)
        if not state["rows"]:
            raw.write(csv_text([header(decider.tags)]).encode())
        for chunk in iter(lambda: list(itertools.islice(items, CHUNK)), []):
            raw.write(csv_text(predict_rows(decider, chunk)).encode())
            raw.flush()
            state["rows"] += len(chunk)
            state["bytes"] = raw.tell()
            write_json(_state_file(partial), state)
            bar.update(len(chunk))


def _resume_state(partial: Path, run: RunFolder, source: Path) -> dict[str, Any]:
    """Return how far an earlier attempt came, if it was this very work; else a fresh start."""
    fresh = {
        "model": run.meta["model_files"],
        "decision": sha256_of(decision) if (decision := run.path / DECISION_FILE).exists() else "",
        "input_sha256": sha256_of(source),
        "rows": 0,
        "bytes": 0,
    }
    try:
        found = json.loads(_state_file(partial).read_text(encoding="utf-8"))
        same = all(found[key] == fresh[key] for key in ("model", "decision", "input_sha256"))
        if same and partial.stat().st_size >= found["bytes"] and found["rows"] >= 0:
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or not readable: start over
    partial.unlink(missing_ok=True)
    return fresh


def _publish(partial: Path, output: Path) -> None:
    if output.suffix.lower() == ".csv":
        replace_file(partial, output)
        return
    with replacing(output) as temporary:
        if output.suffix.lower() == ".jsonl":
            _csv_to_jsonl(partial, temporary)
        else:
            _csv_to_parquet(partial, temporary)
    partial.unlink()


def _csv_to_jsonl(source: Path, target: Path) -> None:
    with (
        source.open(encoding="utf-8", newline="") as rows,
        target.open("w", encoding="utf-8") as out,
    ):
        for row in csv.DictReader(rows):
            numbers = {name: float(row[name]) for name in row if name not in TEXT_COLUMNS}
            out.write(json.dumps({**row, **numbers}, ensure_ascii=False) + "\n")


def _csv_to_parquet(source: Path, target: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    with source.open(encoding="utf-8", newline="") as rows:
        reader = csv.reader(rows)
        names = next(reader)
        kinds = [pyarrow.string() if name in TEXT_COLUMNS else pyarrow.float64() for name in names]
        schema = pyarrow.schema(list(zip(names, kinds, strict=True)))
        with parquet.ParquetWriter(target, schema) as writer:
            for chunk in iter(lambda: list(itertools.islice(reader, CHUNK)), []):
                columns = [
                    pyarrow.array(
                        values if kind == pyarrow.string() else [float(v) for v in values], kind
                    )
                    for values, kind in zip(zip(*chunk, strict=True), kinds, strict=True)
                ]
                writer.write_table(pyarrow.table(columns, schema=schema))


def _state_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _check_output(source: Path, output: Path) -> None:
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise UserError(
            f"--output {output}: the format is chosen by the ending, "
            f"one of {', '.join(OUTPUT_SUFFIXES)}"
        )
    if output.is_dir():
        raise UserError(f"--output {output} is a folder, a file was expected")
    if source.exists() and output.exists() and source.samefile(output):
        raise UserError(f"--input and --output are the same file, {output}")
