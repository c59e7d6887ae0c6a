"""Reads and writes run folders, which pass between making a run and using it."""

import contextlib
import csv
import difflib
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tagger.config.overrides import script_command
from tagger.config.paths import with_paths_found
from tagger.config.saved import read_yaml, validate_saved
from tagger.data.items import Item
from tagger.data.tags import list_tags
from tagger.documents import SCHEMA_VERSION
from tagger.environment import VERSION
from tagger.errors import UserError
from tagger.files import REPO_ROOT, csv_text, resolve_path, run_places, write_text
from tagger.hub import ON_HUB, fetch_run
from tagger.models.base import Classifier
from tagger.run_meta import FINISHED, Place, RunMeta, changed_files

if TYPE_CHECKING:
    import _csv

    from tagger.config.schema import (
        DataConfig,
        DecisionConfig,
        FrozenConfig,
        SectionT,
        TrackingConfig,
        TrainConfig,
    )
    from tagger.data.splits import Split

OLD_FILES = {"ood.safetensors": "novelty.safetensors"}
"""Names of files in a run folder: now, and in runs of before."""

OOD_COLUMNS = ("ood_score", "novelty")
"""Name of the OOD score's column in `calibration.csv`: now, and in runs of before."""

SOURCE_COLUMN = "source"
"""Last column of `calibration.csv` where the rows come from several files."""

SPLIT_COLUMNS = ["id", "content_hash", "split", "tag"]


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
        if not (path / "meta.json").exists():
            raise UserError(f"{path} is not a run folder: it has no meta.json")
        self.meta = RunMeta.read(path / "meta.json")
        self._noted: set[str] = set()

    @property
    def name(self) -> str:
        """The folder's name, by which other commands know the run."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.meta.status == FINISHED

    @property
    def tags(self) -> tuple[str, ...]:
        """The approved tags, in the order of the probability columns."""
        return tuple(self.meta.tags)

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the run's source, by our field name: other tables may have them too."""
        return dict(self.meta.data.columns)

    @cached_property
    def config(self) -> "TrainConfig":
        """The whole config that the run was made with, with its paths as they are found from here.

        Raises:
            UserError: when it does not fit this version of the code; see `data_config` and others
                for what needs a part of it alone.
        """
        from tagger.config.schema import TrainConfig

        try:
            return validate_saved(TrainConfig, self._saved_values, self._config_file)
        except UserError as error:
            raise UserError(error.summary, error.problems, self.written_by) from None

    @cached_property
    def data_config(self) -> "DataConfig":
        """Where the run's items came from."""
        from tagger.config.schema import DataConfig

        return self._section(DataConfig, "data", "file")

    @cached_property
    def decision_config(self) -> "DecisionConfig":
        """How the run was asked to decide when it was trained."""
        from tagger.config.schema import DecisionConfig

        return self._section(DecisionConfig, "decision", "argmax")

    @cached_property
    def frozen_config(self) -> "FrozenConfig | None":
        """How the run's frozen encoder was named; None where the run has none."""
        model = self._saved_values.get("model")
        if not isinstance(model, dict) or model.get("approach") != "frozen":
            return None
        from tagger.config.schema import FrozenConfig

        return self._section(FrozenConfig, "model", "frozen")

    @cached_property
    def tracking_config(self) -> "TrackingConfig":
        """Where the run's curves went."""
        from tagger.config.schema import TrackingConfig

        return self._section(TrackingConfig, "tracking", "none")

    @property
    def model_name(self) -> str:
        """Name of the model config; `-` where no config says."""
        try:
            return str(_at(self._saved_values, ("model", "name")))
        except (UserError, KeyError, TypeError):
            return "-"

    @property
    def written_by(self) -> str:
        """A sentence that says which version wrote the run; empty where it is this one."""
        this = _version_name(VERSION, SCHEMA_VERSION)
        version = self.meta.environment.versions.get("tagger")
        writer = "an unknown version"
        if version is not None:
            writer = _version_name(version, self.meta.schema_version)
        return "" if writer == this else f"It was written by {writer}; this is {this}."

    def check_source(self) -> None:
        """Refuse to read the files that a run was made from when they are not there.

        Raises:
            UserError: with what the run recorded, and how to name another place.
        """
        data = self.data_config
        files = [data.path, data.test_path, *data.extra] if data.source == "file" else []
        files += data.more
        missing = [one for one in files if one and not resolve_path(one).exists()]
        if missing:
            host = self.meta.made_in.host or "an unknown machine"
            folder = self.meta.made_in.folder or "a folder that it did not record"
            raise UserError(
                f"{self.path}: the run was made from files that are not here:",
                [*(str(REPO_ROOT / one) for one in missing), f"made on {host} in {folder}"],
                "Bring them there, or name another file: evaluate.py data=file data.path=FILE, "
                "tagger benchmark --data FILE",
            )

    @property
    def _config_file(self) -> Path:
        return self.path / "config.yaml"

    @cached_property
    def _saved_values(self) -> dict[str, object]:
        return with_paths_found(read_yaml(self._config_file), self.path, self.meta.made_in)

    def _section(self, schema: "type[SectionT]", group: str, choice: str) -> "SectionT":
        """Read a section of the config as far as it fits this version, and say once what does not.

        Keys that are not known here are left out. Those that the run's version did not have are
        as in a choice of `configs/` that asks for nothing further.
        """
        # Hydra is imported only where a config was written by another version.
        from tagger.config.composition import compose_section

        saved = self._saved_values.get(group)
        fitted = deepcopy(saved) if isinstance(saved, dict) else {}
        missing: list[str] = []
        unknown: list[str] = []
        try:
            return schema.model_validate(fitted)
        except ValidationError as error:
            for detail in error.errors():
                place, (*parents, key) = ".".join(map(str, (group, *detail["loc"]))), detail["loc"]
                if detail["type"] == "missing":
                    neutral = compose_section(group, choice)
                    _at(fitted, parents)[key] = _at(neutral, detail["loc"])
                    missing.append(place)
                elif detail["type"] == "extra_forbidden":
                    del _at(fitted, parents)[key]
                    unknown.append(place)
        try:
            section = validate_saved(schema, fitted, self._config_file)
        except UserError as error:
            problems = [f"{group}: {problem}" for problem in error.problems]
            raise UserError(error.summary, problems, self.written_by) from None
        parts = []
        if missing:
            parts.append(f"lacks {', '.join(missing)}: taken from configs/{group}/{choice}.yaml")
        if unknown:
            parts.append(f"has {', '.join(unknown)}: not known here")
        self._note(f"{self._config_file} {' and '.join(parts)}. {self.written_by}".rstrip())
        return section

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            print(f"note: {text}", file=sys.stderr)

    def split_rows(self) -> list[SplitRow]:
        """Read which item went into which split."""
        with _reading(self.path / "splits.csv") as reader:
            return [SplitRow(*row) for row in _rows(reader, SPLIT_COLUMNS)]

    def check_model(self) -> None:
        """Check every file of the model against its recorded hash.

        Raises:
            UserError: when a file is missing or is not the one that training wrote.
        """
        if problems := changed_files(self.meta, self.path / "model"):
            raise UserError(
                f"{self.path}: the model is damaged or was changed:",
                problems,
                "Copy the folder again from where it was made, or train the run again.",
            )

    def load_classifier(self) -> Classifier:
        """Load the model, after checking every file of it.

        Raises:
            UserError: when a file is missing or is not the one that training wrote.
        """
        if self.written_by:
            self._note(self.written_by.replace("It", str(self.path), 1))
        self.check_model()
        # Imported here: most readers of a run need no model.
        from tagger.models.registry import load_classifier

        try:
            classifier = load_classifier(self.path / "model")
        except UserError as error:
            hint = f"{error.hint} {self.written_by}".strip()
            raise UserError(error.summary, error.problems, hint) from None
        if classifier.tags != self.tags:
            raise UserError(
                f"{self.path}: the model's tags differ from those of meta.json:",
                [f"model: {list_tags(classifier.tags)}", f"meta.json: {list_tags(self.tags)}"],
            )
        return classifier


def find_run(run: str, runs_dir: str) -> Path:
    """Find a run by its folder, by its name below `runs_dir`, or on the hub (hf:ORG/NAME@REV).

    Raises:
        UserError: when there is none, with the nearest name.
    """
    if run.startswith(ON_HUB):
        return fetch_run(run)
    candidates = run_places(run, runs_dir)
    for path in candidates:
        if (path / "meta.json").is_file():
            return path
    for path in candidates:
        if path.is_dir():
            inside = sorted(one.parent.name for one in path.glob("*/meta.json"))
            raise UserError(
                f"{path} is not a run folder: it has no meta.json",
                hint=f"It holds runs: {', '.join(inside)}" if inside else "",
            )
    names = [path.parent.name for path in resolve_path(runs_dir).glob("*/meta.json")]
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


def describe_place(folder: Path) -> Place:
    """Return where a run is made: its paths go by that."""
    return Place(host=platform.node(), folder=str(folder.resolve()), repository=str(REPO_ROOT))


def current_or_old(path: Path) -> Path:
    """Return the path of a run's file, or that of the name it had before, where only that is."""
    old = path.with_name(OLD_FILES.get(path.name, path.name))
    return old if old.exists() and not path.exists() else path


def write_splits(
    path: Path,
    items: Sequence[Item],
    split: "Split",
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
    path: Path,
    ids: Iterable[str],
    tags: Sequence[str],
    raw: NDArray[np.float64],
    corrected: NDArray[np.float64] | None = None,
) -> None:
    """Write `predictions.csv`: a row's id and its probability for each tag.

    Args:
        path: Of the file.
        ids: Of the rows.
        tags: Names of the columns.
        raw: Probabilities as the model gave them, (n, n_tags).
        corrected: Calibrated ones, from which tags are predicted. With them the columns are
            `raw:TAG` and `corrected:TAG`, without them `TAG`.
    """
    header, columns = list(tags), raw
    if corrected is not None:
        header, columns = _prediction_columns(tags), np.hstack([raw, corrected])
    rows = [["id", *header]]
    for row_id, row in zip(ids, columns, strict=True):
        # With all digits: where a correction has steps, the last ones may decide on the tag.
        rows.append([row_id, *map(repr, row.tolist())])
    write_text(path, csv_text(rows))


def read_predictions(path: Path, tags: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read the probabilities of `predictions.csv` as the model gave them, (n_tags,), by row id.

    Raises:
        UserError: when it is missing, or its columns are not of these tags.
    """
    headers = ["id", *_prediction_columns(tags)], ["id", *tags]
    with _reading(path) as reader:
        return {
            row[0]: np.array(row[1 : len(tags) + 1], dtype=np.float64)
            for row in _rows(reader, *headers)
        }


def _prediction_columns(tags: Sequence[str]) -> list[str]:
    return [f"{kind}:{tag}" for kind in ("raw", "corrected") for tag in tags]


def read_ids(path: Path) -> list[str]:
    """Read the ids of a run's csv file, its first column; `UserError` when it is damaged."""
    with _reading(path) as reader:
        return [row[0] for row in reader][1:]


def write_calibration(
    path: Path,
    items: Sequence[Item],
    tags: Sequence[str],
    probabilities: NDArray[np.float64],
    ood_scores: NDArray[np.float64] | None,
) -> None:
    """Write `calibration.csv`: predictions of labelled rows by models that did not see them."""
    sources = [SOURCE_COLUMN] if any(item.source for item in items) else []
    rows = [["id", "true", *tags, OOD_COLUMNS[0], *sources]]
    scores = [""] * len(items) if ood_scores is None else [f"{one:.6f}" for one in ood_scores]
    for item, row, value in zip(items, probabilities, scores, strict=True):
        source = [item.source] if sources else []
        rows.append([item.id, str(item.tag), *(f"{p:.8f}" for p in row), value, *source])
    write_text(path, csv_text(rows))


def read_calibration(
    path: Path, tags: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None]:
    """Read `calibration.csv`.

    Returns:
        Probabilities (n, n_tags), positions of the true tags (n,), and OOD scores (n,) or None.

    Raises:
        UserError: when it is missing or damaged, or its columns are not these tags.
    """
    end = 2 + len(tags)
    with _reading(path) as reader:
        rows = list(_rows(reader, *_calibration_columns(tags)))
        probabilities = np.array([row[2:end] for row in rows], dtype=np.float64)
        true = np.array([tags.index(row[1]) for row in rows], dtype=np.int64)
        scores = [row[end] for row in rows]
        ood_scores = np.array(scores, dtype=np.float64) if scores and scores[0] else None
    return probabilities.reshape(len(rows), len(tags)), true, ood_scores


def read_row_sources(path: Path, tags: Sequence[str]) -> list[str]:
    """Read which file each row of `calibration.csv` comes from; "" where there is but one.

    Raises:
        UserError: as `read_calibration` does.
    """
    with _reading(path) as reader:
        rows = _rows(reader, *_calibration_columns(tags))
        return ["".join(row[3 + len(tags) :]) for row in rows]


def _calibration_columns(tags: Sequence[str]) -> list[list[str]]:
    headers = [["id", "true", *tags, name] for name in OOD_COLUMNS]
    return [*headers, [*headers[0], SOURCE_COLUMN]]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator["_csv.Reader"]:
    """Open a csv file of a run; what turns out to be wrong with it is a `UserError`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield csv.reader(file)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _rows(reader: "_csv.Reader", *headers: list[str]) -> Iterator[list[str]]:
    """Yield the rows below a header, which has to be one of these."""
    header: list[str] = next(reader, [])
    if header not in headers:
        raise ValueError(f"columns {header}, expected {headers[0]}")
    for row in reader:
        if len(row) != len(header):
            raise ValueError(f"line {reader.line_num} has {len(row)} of {len(header)} fields")
        yield row


def _at(values: Any, keys: Iterable[object]) -> Any:
    """Return what nested values hold under one key after the other."""
    for key in keys:
        values = values[key]
    return values


def _version_name(version: object, schema: int) -> str:
    return f"tagger {version} (schema {schema})"
