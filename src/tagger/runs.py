"""The run folder: the one thing that passes between making a run and using it."""

import csv
import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tagger.config import TrainConfig, load_saved_config, script_command
from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.data.tags import load_tags
from tagger.errors import UserError
from tagger.files import csv_text, expand_home, resolve_path, sha256_of, write_text
from tagger.models.base import Classifier

RUNNING = "running"
FINISHED = "finished"
SPLIT_COLUMNS = ["id", "content_hash", "split", "tag"]


class _DataFacts(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    sha256: str
    rows: dict[str, int]


class _FinishedMeta(BaseModel):
    """What everything that uses a finished run may rely on in its `meta.json`."""

    model_config = ConfigDict(strict=True)

    tags: list[str] = Field(min_length=2)
    model_files: dict[str, str]
    data: _DataFacts
    seed: int


@dataclass(frozen=True)
class SplitRow:
    """One line of `splits.csv`: where an item went. The text itself stays in its source."""

    id: str
    content_hash: str
    split: str
    tag: str


class RunFolder:
    """A folder that `train.py` made. Everything downstream reads only this.

    Attributes:
        path: The folder.
        meta: The content of `meta.json`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = read_meta(path)

    @property
    def name(self) -> str:
        """The folder's name, by which other commands know the run."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return bool(self.meta.get("status") == FINISHED)

    @property
    def tags(self) -> tuple[str, ...]:
        """The approved tags, in the order of the probability columns."""
        return tuple(self.meta["tags"])

    @cached_property
    def config(self) -> TrainConfig:
        """The config that the run was made with."""
        return load_saved_config(TrainConfig, self.path / "config.yaml")

    def split_rows(self) -> list[SplitRow]:
        """Read which item went into which split."""
        path = self.path / "splits.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames != SPLIT_COLUMNS:
                    raise ValueError(f"columns {reader.fieldnames}, expected {SPLIT_COLUMNS}")
                return [SplitRow(**row) for row in reader]
        except (OSError, TypeError, ValueError, csv.Error) as error:
            raise UserError(f"{path} cannot be read: {error}") from None

    def load_classifier(self) -> Classifier:
        """Load the model, after checking every file of it against its recorded hash.

        Raises:
            UserError: when a file is missing or is not the one that training wrote, or when the
                model has other tags than the approved list has by now.
        """
        problems = [] if self.meta["model_files"] else ["meta.json lists no file of it"]
        for name, expected in self.meta["model_files"].items():
            file = self.path / "model" / name
            if not file.is_file():
                problems.append(f"model/{name} is missing")
            elif (found := sha256_of(file)) != expected:
                problems.append(f"model/{name} has sha256 {found}, expected {expected}")
        if problems:
            raise UserError(
                f"{self.path}: the model is damaged or was changed:",
                problems,
                "Copy the folder again from where it was made, or train the run again.",
            )
        # Imported here: most readers of a run need no model.
        from tagger.models.registry import load_classifier

        classifier = load_classifier(self.path / "model")
        if classifier.tags != self.tags:
            raise UserError(
                f"{self.path}: the model's tags differ from those of meta.json:",
                [f"model: {', '.join(classifier.tags)}", f"meta.json: {', '.join(self.tags)}"],
            )
        self._check_approved()
        return classifier

    def _check_approved(self) -> None:
        """Refuse a model that would give tags which the approved list no longer has, or lacks some.

        A run that was copied to where its list is not can only be held to its own record.
        """
        path = resolve_path(self.config.data.tags)
        if not path.is_file():
            return
        approved = [tag.name for tag in load_tags(path)]
        if set(approved) != set(self.tags):
            raise UserError(
                f"{self.path}: the model's tags are not those of the approved list:",
                [f"model: {', '.join(self.tags)}", f"{path}: {', '.join(approved)}"],
                "Train again with the list as it is now, or bring back the list as it was.",
            )


def find_run(run: str, runs_dir: str) -> Path:
    """Find a run by its folder, or by its name below `runs_dir`.

    Raises:
        UserError: when there is none, with the nearest name.
    """
    candidates = (expand_home(run), expand_home(runs_dir) / run)
    for path in candidates:
        if (path / "meta.json").is_file():
            return path
    for path in candidates:
        if path.is_dir():
            raise UserError(f"{path} is not a run folder: it has no meta.json")
    names = [path.parent.name for path in expand_home(runs_dir).glob("*/meta.json")]
    near = difflib.get_close_matches(Path(run).name, names, n=1)
    raise UserError(
        f"there is no run {run!r}, neither as a folder nor in {runs_dir}/",
        hint=f"Did you mean {near[0]}?" if near else "`tagger leaderboard` lists the runs.",
    )


def open_run(run: str, runs_dir: str) -> RunFolder:
    """Open a finished run.

    Raises:
        UserError: when it is missing, unfinished (with the command that resumes it) or damaged.
    """
    folder = RunFolder(find_run(run, runs_dir))
    if not folder.finished:
        raise UserError(
            f"{folder.path} did not finish training",
            hint=f"Go on with it: {resume_command(folder.path)}",
        )
    return folder


def resume_command(path: Path) -> str:
    """Return the command that goes on with an unfinished run."""
    return script_command("train.py", resume=path)


def read_meta(path: Path) -> dict[str, Any]:
    """Read `meta.json` of a run folder; that of a finished run has all that it should.

    Raises:
        UserError: when it is missing or damaged.
    """
    file = path / "meta.json"
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not a run folder: it has no meta.json") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from None
    if not isinstance(meta, dict):
        raise UserError(f"{file} is damaged: it holds no object")
    if meta.get("status") == FINISHED:
        try:
            _FinishedMeta.model_validate(meta)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()
            ]
            raise UserError(f"{file} is damaged:", problems) from None
    return meta


def write_splits(
    path: Path,
    items: Sequence[Item],
    split: Split,
    extra: Sequence[Item] = (),
    members: Sequence[SplitRow] = (),
) -> None:
    """Write `splits.csv`: id, content hash, split and tag of each item, further ones last.

    Args:
        path: Of the file.
        items: Those that were divided.
        split: How.
        extra: Items of further files that were trained on.
        members: Rows that the members of an ensemble have seen; those not among the items are
            further ones too.
    """
    rows = [SPLIT_COLUMNS]
    for name in ("train", "validation", "test"):
        for item in (items[index] for index in getattr(split, name)):
            rows.append([item.id, item.content_hash, name, str(item.tag)])
    rows += [[item.id, item.content_hash, "extra", str(item.tag)] for item in extra]
    known = {row[1] for row in rows}
    rows += [
        [row.id, row.content_hash, "extra", row.tag]
        for row in members
        if row.content_hash not in known
    ]
    write_text(path, csv_text(rows))


def write_predictions(
    path: Path, ids: Iterable[str], tags: Sequence[str], probabilities: NDArray[np.float64]
) -> None:
    """Write `predictions.csv`: a row's id and its probability for each tag."""
    rows = [["id", *tags]]
    for row_id, row in zip(ids, probabilities, strict=True):
        rows.append([row_id, *(f"{value:.6f}" for value in row)])
    write_text(path, csv_text(rows))


def read_predictions(path: Path, tags: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read `predictions.csv` as probabilities (n_tags,) by row id.

    Raises:
        UserError: when it is missing, or its columns are not these tags.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if header != ["id", *tags]:
                raise UserError(f"{path}: columns {header}, expected {['id', *tags]}")
            rows = {}
            for row in reader:
                if len(row) != len(header):
                    raise ValueError(
                        f"line {reader.line_num} has {len(row)} of {len(header)} fields"
                    )
                rows[row[0]] = np.array([float(value) for value in row[1:]])
            return rows
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def read_ids(path: Path) -> list[str]:
    """Read the ids of a run's csv file, its first column; `UserError` when it is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row[0] for row in csv.reader(file)][1:]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def write_calibration(
    path: Path,
    items: Sequence[Item],
    tags: Sequence[str],
    probabilities: NDArray[np.float64],
    novelty: NDArray[np.float64] | None,
) -> None:
    """Write `calibration.csv`: predictions of labelled rows by models that did not see them."""
    rows = [["id", "true", *tags, "novelty"]]
    strange = [""] * len(items) if novelty is None else [f"{value:.6f}" for value in novelty]
    for item, row, value in zip(items, probabilities, strange, strict=True):
        rows.append([item.id, str(item.tag), *(f"{p:.8f}" for p in row), value])
    write_text(path, csv_text(rows))


def read_calibration(
    path: Path, tags: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None]:
    """Read `calibration.csv`.

    Returns:
        Probabilities (n, n_tags), positions of the true tags (n,), and novelty (n,) or None.

    Raises:
        UserError: when it is missing or damaged, or its columns are not these tags.
    """
    header = ["id", "true", *tags, "novelty"]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            found = next(reader, [])
            if found != header:
                raise UserError(f"{path}: columns {found}, expected {header}")
            rows = list(reader)
        probabilities = np.array([[float(v) for v in row[2:-1]] for row in rows])
        true = np.array([tags.index(row[1]) for row in rows], dtype=np.int64)
        strange = [row[-1] for row in rows]
        novelty = np.array([float(v) for v in strange]) if strange and strange[0] else None
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    return probabilities.reshape(len(rows), len(tags)), true, novelty
