"""Defines `meta.json` of a run folder: what a run is, what it was made from, and where."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, ValidationError, field_validator

from tagger.documents import SCHEMA_VERSION, Document, Record
from tagger.environment import Revision, describe_environment
from tagger.errors import UserError
from tagger.files import sha256_of

RUNNING: Literal["running"] = "running"
FINISHED: Literal["finished"] = "finished"
NEEDED = ("tags", "model_files", "data", "seed")
"""What whoever uses a finished run relies on."""

# Runs of other versions are used as far as what they have is known here.
_OPEN = ConfigDict(extra="ignore", strict=True)


class ExtraData(Record):
    """Items of further files that were trained on."""

    rows: int
    sha256: str


class TrainedOn(Record):
    """The data that a run was trained on.

    Attributes:
        name: What reports call it.
        sha256: Over all fields of its items.
        rows: Number of items by part: train, validation, test.
    """

    model_config = _OPEN

    name: str
    sha256: str
    rows: dict[str, int]


class RunData(TrainedOn):
    """The source of a run.

    Attributes:
        columns: Its column by our field name.
        extra: Further files; None in runs that did not record it.
        notes: What was said of it when the run began.
    """

    columns: dict[str, str] = Field(default_factory=dict)
    extra: ExtraData | None = None
    notes: list[str] = Field(default_factory=list)


class TrainingEnvironment(Record):
    """Code, libraries and machine that a run was trained with, as far as it recorded them."""

    model_config = _OPEN

    git: Revision | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    hardware: dict[str, str | int | float | None] = Field(default_factory=dict)


class RunEnvironment(TrainingEnvironment):
    """The same with the command that trained."""

    command: list[str] = Field(default_factory=list)


class Place(Record):
    """Where a run was made, as far as it recorded that."""

    model_config = _OPEN

    host: str | None = None
    folder: str | None = None
    repository: str | None = None


class Original(Record):
    """The run that a compressed one was exported from."""

    name: str
    model_files: dict[str, str]


class RunMeta(Document):
    """What a run is, what it was made from, and where (`meta.json`).

    Attributes:
        status: `running` until the model is saved.
        tags: The approved tags, in the order of the probability columns.
        mixed_precision: Data type of the forward pass that was settled on.
        inputs: SHA-256 of further files and runs that the model was made of.
        model_files: SHA-256 of each file below model/.
        best_validation: Score of the validation metric at `best_step`.
        parameters: Number of the model's parameters.
        texts_cut: Share of the training and validation texts that are longer than
            `model.max_length`; None for models without one.
        compressed_from: Of an export: the run that it was made of.
        compress: Of an export: how it was compressed.
        gate: Of an export: whether the parity gate `passed` or was `skipped`.
        size_mib: Of an export: size of model/.
    """

    model_config = _OPEN

    schema_version: int = SCHEMA_VERSION  # type: ignore[assignment]
    status: Literal["running", "finished"] = RUNNING
    tags: list[str] = Field(default_factory=list)
    seed: int = 0
    mixed_precision: str | None = None
    threads: int | None = None
    processes: int | None = None
    data: RunData = RunData(name="-", sha256="", rows={})
    inputs: dict[str, str] = Field(default_factory=dict)
    begun_on: str | None = None
    finished_on: str | None = None
    environment: RunEnvironment = RunEnvironment()
    made_in: Place = Place()
    model_files: dict[str, str] = Field(default_factory=dict)
    steps: int | None = None
    best_step: int | None = None
    best_validation: float | None = None
    stopped_early: bool | None = None
    train_seconds: float | None = None
    peak_memory_mib: float | None = None
    parameters: int | None = None
    texts_cut: float | None = None
    compressed_from: Original | None = None
    compress: dict[str, JsonValue] | None = None
    gate: str | None = None
    size_mib: float | None = None

    @field_validator("status", mode="before")
    @classmethod
    def _unfinished_unless_said(cls, value: object) -> str:
        return FINISHED if value == FINISHED else RUNNING

    @classmethod
    def upgrade(cls, plain: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a version 1 file under their names of today."""
        if "precision" in plain:
            plain["mixed_precision"] = plain.pop("precision")
        return plain

    @classmethod
    def parse(cls, plain: object, where: Path) -> Self:
        """Turn the content of a file of any version into the document.

        Raises:
            UserError: when it is damaged, naming every field that is not what it should be.
        """
        if not isinstance(plain, dict):
            raise UserError(f"{where} is damaged: it holds no object")
        version = plain.get("schema_version", plain.get("format"))
        if version in (None, 1):
            plain = cls.upgrade(dict(plain)) | {"schema_version": 1}
        problems = []
        if plain.get("status") == FINISHED:
            problems = [f"{name}: missing" for name in NEEDED if name not in plain]
            if isinstance(tags := plain.get("tags"), list) and len(tags) < 2:
                problems.append(f"tags: found {tags}, expected two or more")
        try:
            meta = cls.model_validate(plain)
        except ValidationError as error:
            problems += [
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
            ]
        if problems:
            raise UserError(f"{where} is damaged:", problems)
        return meta


def changed_files(meta: RunMeta, folder: Path) -> list[str]:
    """Say which files of a model folder are missing or are not those that a run recorded."""
    problems = [] if meta.model_files else ["meta.json lists no file of it"]
    for name, expected in meta.model_files.items():
        file = folder / name
        if not file.is_file():
            problems.append(f"model/{name} is missing")
        elif (found := sha256_of(file)) != expected:
            problems.append(f"model/{name} has sha256 {found}, expected {expected}")
    return problems


def describe_training() -> RunEnvironment:
    """Return what a run records of the code, libraries and machine that it is made with."""
    return RunEnvironment.model_validate(describe_environment().model_dump())


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
