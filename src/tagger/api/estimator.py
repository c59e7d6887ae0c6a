"""A scikit-learn classifier of texts, trained as `train.py` trains."""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from tagger.api.run import Decision, Run, load
from tagger.api.texts import Texts, TextTable, read_texts
from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import python_override
from tagger.config.schema import EnsembleConfig, RulesConfig, TrainConfig
from tagger.data.columns import WEIGHT
from tagger.data.tags import tag_name
from tagger.errors import UserError
from tagger.files import expand_home, write_text
from tagger.progress import without_bars
from tagger.scores import FloatArray

SET_HERE = (
    "name", "runs_dir", "resume", "data", "data.source", "data.path", "data.test_path",
    "data.more", "data.tags", "data.split.column",
)  # fmt: skip
"""Keys of the config that say where rows come from and where the run goes."""

UNTRAINED = (RulesConfig, EnsembleConfig)
"""Models that learn nothing from rows."""


class TextTagger(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn classifier of texts, trained as `train.py` trains and kept as a run folder.

    `fit` composes the config of `train.py` with `model=RECIPE` and the overrides. The rows are
    those that it is given: nothing is held out for a test, and the share `data.split.validation`
    picks the best epoch and calibrates probabilities. With `decision__folds=5` and
    `data__split__validation=0` all rows are trained on, and probabilities are calibrated out of
    fold, at six times the price.

    Args:
        recipe: A model of `configs/model/`: `linear`, `static`, `frozen`, `minilm` and so on.
        run: The run folder to write, or its name below `runs/`, with the rows beside it as
            `NAME.items.jsonl`; None: a temporary one, which is removed with the estimator.
        verbose: Whether to show progress.
        **overrides: Keys of the config, with `__` for a dot (`training__epochs=3`), and choices of
            its groups (`decision="threshold"`).

    Attributes:
        classes_: The labels of `y`, sorted; the columns of `predict_proba` are in this order.
        run_: The finished `tagger.Run`.

    A fitted estimator is pickled with the files of its run, and lives in a temporary folder where
    it is loaded; no code is in them.
    """

    classes_: NDArray[Any]
    run_: Run

    def __init__(
        self,
        recipe: str = "minilm",
        *,
        run: str | Path | None = None,
        verbose: bool = False,
        **overrides: Any,
    ) -> None:
        self.recipe = recipe
        self.run = run
        self.verbose = verbose
        self._overrides = overrides

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all parameters by name, the overrides among them."""
        return {**super().get_params(deep), **self._overrides}

    def set_params(self, **params: Any) -> Self:
        """Set parameters and overrides; what is no key of the config is refused by `fit`."""
        own = self._get_param_names()
        for name, value in params.items():
            if name in own:
                setattr(self, name, value)
            else:
                self._overrides = {**self._overrides, name: value}
        return self

    def fit(self, X: Texts, y: Any, sample_weight: Any = None) -> Self:
        """Train on texts and their labels.

        Args:
            X: Texts, (title, description) pairs, or a table; see `tagger.api.texts`.
            y: A text or a number for each.
            sample_weight: What each row counts in the loss; one of 0 is left out. Calibration and
                the choice of the epoch weigh rows alike.

        Raises:
            TypeError: for texts that are none.
            ValueError: for labels or weights that cannot be used.
            UserError: for config keys and folders that cannot be used, or too few rows to divide.
        """
        texts = read_texts(X)
        labels = _check_labels(y, len(texts.items))
        weights = _check_weights(sample_weight, len(labels))
        used = np.flatnonzero(weights).tolist()
        if blank := [at for at in used if not texts.items[at].text]:
            raise ValueError(f"X: {len(blank)} texts are blank, the first is number {blank[0]}")
        classes, positions = np.unique(labels[used], return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class, {str(classes[0])!r}; expected at least two")
        tags = _tag_names(classes)
        rows, columns = _labelled_rows(
            texts, used, [tags[at] for at in positions], None if sample_weight is None else weights
        )
        scratch = None if self.run else tempfile.mkdtemp(prefix="tagger-")
        try:
            folder = Path(scratch, "run") if scratch else self._named_folder()
            config = self._compose(folder, columns)
            if sample_weight is not None and isinstance(config.model, UNTRAINED):
                raise ValueError(f"nothing is trained with model={config.model.name}: no weights")
            with nullcontext() if self.verbose else without_bars():
                run = _train(config, folder, rows, print if self.verbose else _say_nothing)
        except BaseException:
            if scratch:
                shutil.rmtree(scratch, ignore_errors=True)
            raise
        if scratch:
            _remove_with(run, scratch)
        self.run_, self.classes_ = run, classes
        # The run sorts its tags as text, where 10 comes before 9.
        self._order = [run.classes_.tolist().index(tag) for tag in tags]
        return self

    def predict(self, X: Texts) -> NDArray[Any]:
        """Return the most probable label of each text, (n,)."""
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Texts) -> FloatArray:
        """Return calibrated probabilities, (n, n_classes)."""
        check_is_fitted(self)
        ordered: FloatArray = self.run_.predict_proba(X)[:, self._order]
        return ordered

    def decide(self, X: Texts) -> list[Decision]:
        """Publish a tag or ask a person, for each text; tags are labels as text."""
        check_is_fitted(self)
        return self.run_.decide(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if run := state.pop("run_", None):
            files = [path for path in run.path.rglob("*") if path.is_file()]
            state["files"] = {
                path.relative_to(run.path).as_posix(): path.read_bytes() for path in files
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("files", None)
        super().__setstate__(state)
        if files is not None:
            scratch = tempfile.mkdtemp(prefix="tagger-")
            for name, content in files.items():
                path = Path(scratch, "run", name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.run_ = load(Path(scratch, "run"))
            _remove_with(self.run_, scratch)

    def _named_folder(self) -> Path:
        folder = expand_home(str(self.run))
        return folder if len(folder.parts) > 1 else Path("runs", folder)

    def _compose(self, folder: Path, columns: Mapping[str, str]) -> TrainConfig:
        given = {"model": self.recipe, **self._overrides}
        overrides = [python_override(key, value) for key, value in given.items()]
        keys = {one.partition("=")[0] for one in overrides}
        if taken := sorted(
            key for key in keys if key in SET_HERE or key.startswith("data.columns")
        ):
            raise UserError(
                f"TextTagger sets {', '.join(taken)} itself",
                hint="The rows are what fit is given; run='FOLDER/NAME' names the run folder.",
            )
        ours = {
            "data.path": _rows_file(folder),
            "data.columns": columns,
            "name": folder.name,
            "runs_dir": folder.parent,
        }
        first = ["data=file", "data.name=python", "data.split.test=0"]
        last = [python_override(key, value) for key, value in ours.items()]
        config = compose_config("train", [*first, *overrides, *last])
        return load_config(TrainConfig, config)


def _rows_file(folder: Path) -> Path:
    """Return where the rows of a run are kept: beside it, as those of any run are elsewhere."""
    return folder.with_name(f"{folder.name}.items.jsonl")


def _train(
    config: TrainConfig,
    folder: Path,
    rows: Sequence[Mapping[str, object]],
    say: Callable[[str], None],
) -> Run:
    """Write the rows to a file, and train from it.

    Raises:
        UserError: when the run folder is there, or training refuses the config or the rows.
    """
    from tagger.training.train_run import train  # imports torch

    if folder.exists() and config.if_exists != "replace":
        raise UserError(
            f"{folder} exists already", hint="Choose another run, or give if_exists='replace'."
        )
    file = _rows_file(folder)
    write_text(file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    try:
        return load(train(config, say))
    finally:
        if not folder.exists():
            file.unlink()


def _check_labels(y: Any, n_texts: int) -> NDArray[Any]:
    """Return the labels, (n_texts,).

    Raises:
        ValueError: when they are none, or not as many as texts.
    """
    if y is None:
        raise ValueError("TextTagger requires y to be passed, but the target y is None")
    labels: NDArray[Any] = column_or_1d(y, warn=True)
    if len(labels) != n_texts:
        raise ValueError(f"X has {n_texts} texts and y {len(labels)} labels: inconsistent numbers")
    if not n_texts:
        raise ValueError("found array with 0 sample(s) while a minimum of 2 is required")
    check_classification_targets(labels)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        labels = labels.astype(str)
    return labels


def _check_weights(weights: Any, n_texts: int) -> FloatArray:
    """Return the weights, (n_texts,), 1 for each where none are given.

    Raises:
        ValueError: when they are no weights of so many texts.
    """
    if weights is None:
        return np.ones(n_texts)
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (n_texts,):
        raise ValueError(f"sample_weight has the shape {found.shape}, expected ({n_texts},)")
    if not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise ValueError("sample_weight: expected finite numbers, none below 0 and not all zero")
    return found


def _tag_names(classes: NDArray[Any]) -> list[str]:
    """Return the tag that stands for each class."""
    names = []
    for label in classes.tolist():
        try:
            names.append(tag_name(str(label)))
        except ValueError as error:
            raise ValueError(f"y: {label!r} {error}") from None
    if len(set(names)) < len(names):
        raise ValueError("y: labels differ in the form of Unicode alone; bring them into one")
    return names


def _labelled_rows(
    texts: TextTable, used: Sequence[int], tags: Sequence[str], weights: FloatArray | None
) -> tuple[list[dict[str, object]], dict[str, str]]:
    """Return the rows of a table of labelled texts, and its column by our field name.

    Args:
        texts: Those of `fit`, whose columns keep their names.
        used: Positions of the texts that are trained on.
        tags: Of these.
        weights: Of all texts; None: they have none.
    """
    columns = dict(texts.columns)
    for field in ("tag",) if weights is None else ("tag", WEIGHT):
        columns[field] = f"{field} (of fit)" if field in columns.values() else field
    rows: list[dict[str, object]] = []
    for at, tag in zip(used, tags, strict=True):
        row: dict[str, object] = {
            name: getattr(texts.items[at], field) for field, name in texts.columns.items()
        }
        row[columns["tag"]] = tag
        if weights is not None:
            row[columns[WEIGHT]] = float(weights[at])
        rows.append(row)
    return rows, {"id": "", "created_on": "", **columns}


def _say_nothing(_: str) -> None:
    """Take the place of `print`."""


def _remove_with(run: Run, scratch: str) -> None:
    """Remove a temporary folder once its run is used no more, or at the end of the program."""
    weakref.finalize(run, _remove, scratch, os.getpid())


def _remove(scratch: str, owner: int) -> None:
    if os.getpid() == owner:  # a process that was forked has a copy of the run, but not its folder
        shutil.rmtree(scratch, ignore_errors=True)
