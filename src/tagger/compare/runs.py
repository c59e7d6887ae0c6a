"""Makes the runs of a comparison where they are missing, and predicts further items by them."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.schema import TrainConfig
from tagger.data.columns import UNSAID, TableFormat
from tagger.data.items import Item
from tagger.data.sources import AUTO, load_labelled, open_file, read_labelled
from tagger.data.tags import load_tags, tag_positions
from tagger.errors import UserError
from tagger.files import plain_name, resolve_path
from tagger.models.embedding import VectorCache
from tagger.runs import RunFolder, read_predictions, write_predictions
from tagger.scores import FloatArray, IntArray
from tagger.training.train_run import train

ELSEWHERE = "elsewhere.csv"


@dataclass(frozen=True)
class LabelledFile:
    """A labelled file.

    Attributes:
        path: Where it is.
        overrides: What makes a run of it read it so.
        items: Its items.
        tags: The approved tags.
        notes: What the user should know of it, a sentence each.
        further: Files whose rows are taken with its own.
    """

    path: Path
    overrides: list[str]
    items: list[Item]
    tags: list[str]
    notes: list[str]
    further: Sequence[Path] = ()

    @classmethod
    def load(
        cls,
        path: Path,
        tags_path: Path | None = None,
        how: TableFormat = UNSAID,
        further: Sequence[Path] = (),
    ) -> "LabelledFile":
        """Read a labelled file.

        Args:
            path: Where it is.
            tags_path: The file that lists the approved tags; None: those that its rows have.
            how: How to read it.
            further: Files whose rows are taken with its own.

        Raises:
            UserError: when it cannot be used.
        """
        tags = None if tags_path is None else [t.name for t in load_tags(resolve_path(tags_path))]
        found = read_labelled([open_file(path, how.delimiter)], how, tags)
        columns = ", ".join(f"{field}: {quoted(one)}" for field, one in found.columns.items())
        overrides = [
            "data=file",
            f"data.path={quoted(path)}",
            f"data.tags={AUTO if tags_path is None else quoted(tags_path)}",
            f"data.columns={{{columns}}}",
            f"data.dates={how.dates}",
        ]
        if how.delimiter is not None:
            overrides.append(f"data.delimiter={quoted(how.delimiter)}")
        if further:
            overrides.append(f"data.more=[{','.join(map(quoted, further))}]")
            given = [*overrides, f"data.name={plain_name(path)}"]
            found = load_labelled(load_config(TrainConfig, compose_config("train", given)).data)
        return cls(path, overrides, found.items, found.tags, found.notes, further)

    @property
    def name(self) -> str:
        """The name of its file, of letters that a folder may have."""
        return plain_name(self.path)

    @property
    def true(self) -> IntArray:
        """Position of each item's tag, (n,)."""
        return tag_positions(self.items, self.tags)


def run_config(
    overrides: Sequence[str],
    source: LabelledFile,
    folder: Path,
    seed: int,
    split: Mapping[str, float],
) -> TrainConfig:
    """Compose the config of one run.

    Args:
        overrides: Those of its approach.
        source: What it is trained on.
        folder: The run folder.
        seed: Of the run.
        split: Keys of `data.split`; without them nothing is held out, and no score stops a recipe.
    """
    divided = {"validation": 0.0, "test": 0.0} | dict(split)
    given = [
        # First, so that an approach may have a seed of its own: a second member of an ensemble.
        f"seed={seed}",
        *overrides,
        *source.overrides,
        f"data.name={source.name}",
        *[f"data.split.{key}={value}" for key, value in divided.items()],
        f"runs_dir={quoted(folder.parent)}",
        f"name={folder.name}",
        "if_exists=resume",
    ]
    return load_config(TrainConfig, compose_config("train", given))


def make_run(config: TrainConfig, vectors: VectorCache | None = None) -> RunFolder:
    """Make a run, or find it made.

    Args:
        config: Of the run.
        vectors: Shared with other runs that are made.

    Raises:
        UserError: when it can't be made, or was made with other settings.
    """
    try:
        return RunFolder(train(config, say=lambda _: None, vectors=vectors))
    except UserError as error:
        if "if_exists" not in error.hint:
            raise
        raise UserError(
            error.summary,
            error.problems,
            "Remove that folder, or give another --out or the approach another name.",
        ) from None


def drop_model(run: RunFolder) -> None:
    """Take a run's model away: models are nearly all that a run weighs, and dozens are made."""
    shutil.rmtree(run.path / "model", ignore_errors=True)


def predict_other(run: RunFolder, items: Sequence[Item]) -> FloatArray:
    """Predict items that a run was not trained on, (n_items, n_tags), and keep the predictions.

    Raises:
        UserError: when what was kept is about other items.
    """
    path = run.path / ELSEWHERE
    keys = [item.content_hash for item in items]
    if not path.exists():
        write_predictions(path, keys, run.tags, run.load_classifier().predict_proba(items))
    rows = read_predictions(path, run.tags)
    if list(rows) != list(dict.fromkeys(keys)):
        raise UserError(
            f"{path} is about other items", hint="Remove the folder, or choose another --out."
        )
    return np.array([rows[key] for key in keys])
