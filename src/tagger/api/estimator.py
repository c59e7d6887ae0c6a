"""A scikit-learn classifier of texts, trained as `train.py` trains."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
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
from tagger.data.columns import TableFormat
from tagger.data.sources import Labelled
from tagger.data.tags import odd_tags, tag_name
from tagger.errors import UserError
from tagger.files import expand_home
from tagger.progress import without_bars
from tagger.scores import FloatArray

SET_HERE = ("name", "runs_dir", "resume")
"""Keys of the config that say which folder is written, as `run` does here."""


class TextTagger(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn classifier of texts, trained as `train.py` trains and kept as a run folder.

    `fit` composes the config of `train.py` with `model=RECIPE` and the overrides. The rows are
    those that it is given: nothing is held out for a test, and the share `data.split.validation`
    picks the best epoch and calibrates probabilities. With `decision__folds=5` and
    `data__split__validation=0` all rows are trained on, and probabilities are calibrated out of
    fold, at six times the price.

    Args:
        recipe: A model of `configs/model/`: `linear`, `static`, `frozen`, `minilm` and so on.
        run: The run folder to write, or its name below `runs/`; None: a temporary one, which is
            removed with the estimator.
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
        config = self._compose()
        texts = read_texts(X, TableFormat(config.data.columns))
        labels = _check_labels(y, len(texts.items))
        weights = _check_weights(sample_weight, len(labels), config)
        used = weights > 0
        classes, positions = np.unique(labels[used], return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y has one class, {str(classes[0])!r}; at least two are needed to fit"
            )
        given = _label(texts, used, weights, _tag_names(classes), positions)
        from tagger.training.train_run import train  # imports torch

        scratch = None if self.run else tempfile.mkdtemp(prefix="tagger-")
        try:
            if scratch:
                config = config.model_copy(update={"runs_dir": scratch, "name": self.recipe})
            with nullcontext() if self.verbose else without_bars():
                folder = train(config, print if self.verbose else _say_nothing, given=given)
            self.run_, self.classes_ = load(folder), classes
        except BaseException:
            if scratch:
                shutil.rmtree(scratch, ignore_errors=True)
            raise
        if scratch:
            _remove_with(self.run_, scratch)
        return self

    def predict(self, X: Texts) -> NDArray[Any]:
        """Return the most probable label of each text, (n,)."""
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Texts) -> FloatArray:
        """Return calibrated probabilities, (n, n_classes)."""
        check_is_fitted(self)
        return self.run_.predict_proba(X)

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
                path = Path(scratch, self.recipe, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.run_ = load(Path(scratch, self.recipe))
            _remove_with(self.run_, scratch)

    def _compose(self) -> TrainConfig:
        overrides = [python_override(key, value) for key, value in self._overrides.items()]
        keys = {one.partition("=")[0] for one in overrides}
        if taken := [key for key in SET_HERE if key in keys]:
            raise UserError(f"{', '.join(taken)}: give run='FOLDER/NAME' for the run folder")
        placed = []
        if self.run:
            folder = expand_home(self.run)
            placed = [python_override("name", folder.name)]
            if len(folder.parts) > 1:
                placed.append(python_override("runs_dir", folder.parent))
        first = ["data=file", "data.name=python", "data.split.test=0"]
        model = python_override("model", self.recipe)
        given = [*first, model, *overrides, "data.source=memory", *placed]
        return load_config(TrainConfig, compose_config("train", given))


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


def _check_weights(weights: Any, n_texts: int, config: TrainConfig) -> FloatArray:
    """Return the weights, (n_texts,).

    Raises:
        ValueError: when they are none, or nothing is trained that could heed them.
    """
    if weights is None:
        return np.ones(n_texts)
    if isinstance(config.model, RulesConfig | EnsembleConfig):
        raise ValueError(f"nothing is trained with model={config.model.name}: no sample_weight")
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


def _label(
    texts: TextTable,
    used: NDArray[np.bool_],
    weights: FloatArray,
    tags: Sequence[str],
    positions: NDArray[np.int64],
) -> Labelled:
    """Give the texts that are used their tags and weights.

    Raises:
        ValueError: for texts that are blank.
    """
    chosen = np.flatnonzero(used).tolist()
    if blank := [at for at in chosen if not texts.items[at].text]:
        raise ValueError(f"X: {len(blank)} texts are blank, the first is number {blank[0]}")
    items = [
        replace(texts.items[at], tag=tags[position], weight=float(weights[at]))
        for at, position in zip(chosen, positions.tolist(), strict=True)
    ]
    rows = dict(zip(tags, np.bincount(positions).tolist(), strict=True))
    return Labelled(items, list(tags), None, texts.columns, odd_tags(tags, rows))


def _say_nothing(_: str) -> None:
    """Take the place of `print`."""


def _remove_with(run: Run, scratch: str) -> None:
    """Remove a temporary folder once its run is used no more, or at the end of the program."""
    weakref.finalize(run, _remove, scratch, os.getpid())


def _remove(scratch: str, owner: int) -> None:
    if os.getpid() == owner:  # a process that was forked has a copy of the run, but not its folder
        shutil.rmtree(scratch, ignore_errors=True)
