import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from tagger.api.estimator import TextTagger
from tagger.api.run import load
from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.schema import EvaluateConfig
from tagger.errors import UserError
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.files import sha256_of
from tagger.runs import RunFolder

TINY = {
    "training__epochs": 3,
    "training__lr": 0.005,
    "training__head_lr": 0.01,
    "training__mixed_precision": "fp32",
    "model__freeze_embeddings": False,
}
ALL_ROWS = {"data__split__validation": 0, "data__split__group": "off"}


@pytest.fixture(scope="module")
def items(toy_folder: Path) -> pd.DataFrame:
    return pd.read_csv(toy_folder / "items.csv")


@pytest.fixture(scope="module")
def texts(items: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(items["title"], items["description"], strict=True))


@pytest.fixture(scope="module")
def tags(items: pd.DataFrame) -> list[str]:
    return items["tag"].tolist()


@pytest.fixture(scope="module")
def fitted(texts, tags) -> TextTagger:
    """A fitted linear one: not to be changed."""
    return TextTagger("linear").fit(texts, tags)


class NumbersTagger(TextTagger):
    """Writes numbers as words, so that scikit-learn's checks, which know numbers alone, apply."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "NumbersTagger":
        return super().fit(self._words(X, reset=True), y, sample_weight)

    def predict_proba(self, X: Any) -> Any:
        check_is_fitted(self)
        return super().predict_proba(self._words(X, reset=False))

    def decide(self, X: Any) -> Any:
        return super().decide(self._words(X, reset=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = False
        tags.input_tags.two_d_array = True
        return tags

    def _words(self, X: Any, reset: bool) -> list[str]:
        rows = validate_data(self, X, reset=reset).astype(float)
        return [
            " ".join(f"c{at}v{round(one)} c{at}w{round(one / 3)}" for at, one in enumerate(row))
            for row in rows
        ]


def failures_expected(_: TextTagger) -> dict[str, str]:
    return {
        "check_sample_weight_equivalence_on_dense_data": (
            "document frequencies of TF-IDF count a repeated row twice, and a weighted one once"
        )
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@parametrize_with_checks(
    [NumbersTagger("linear", **ALL_ROWS)], expected_failed_checks=failures_expected
)
def test_conventions_of_scikit_learn_hold(estimator: Any, check: Any) -> None:
    check(estimator)


def test_parameters_are_the_recipe_and_keys_of_the_config() -> None:
    one = TextTagger("tiny", training__epochs=2)
    assert one.get_params() == {
        "recipe": "tiny", "run": None, "verbose": False, "training__epochs": 2,
    }  # fmt: skip
    other = clone(one).set_params(recipe="linear", training__epochs=5, seed=1)
    assert other.get_params() == {
        "recipe": "linear", "run": None, "verbose": False, "training__epochs": 5, "seed": 1,
    }  # fmt: skip
    assert one.get_params()["training__epochs"] == 2


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"recipe": "linnear"}, "model='linnear': no such choice"),
        ({"model__c": 1}, r"model.c: no such key \(did you mean model.C\?\)"),
        ({"model__C": "much"}, "model.C: found 'much', expected"),
        ({"data": "mwml"}, "TextTagger sets data itself"),
        ({"data__columns": {"tag": "x"}}, "TextTagger sets data.columns itself"),
        ({"name": "a", "resume": "b"}, "sets name, resume itself(.|\n)*run='FOLDER/NAME' names"),
    ],
)
def test_overrides_are_refused_as_on_the_command_line(overrides, told, texts, tags) -> None:
    with pytest.raises(UserError, match=told):
        TextTagger(**{"recipe": "linear"} | overrides).fit(texts, tags)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"y": None}, "requires y to be passed"),
        ({"y": ["a"] * 59}, "60 texts and y 59 labels"),
        ({"y": ["a"] * 60}, "y has one class, 'a'"),
        ({"y": np.linspace(0, 1, 60)}, "Unknown label type"),
        ({"y": ["a", " b"] * 30}, "y: ' b' has space around it"),
        ({"y": ["é", "e\u0301"] * 30}, "the form of Unicode alone"),
        ({"X": [], "y": []}, r"0 sample\(s\)"),
        ({"X": ["apple", None] * 30}, "30 texts are blank, the first is number 1"),
        ({"sample_weight": [1.0]}, r"the shape \(1,\), expected \(60,\)"),
        ({"sample_weight": [-1.0] * 60}, "none below 0"),
        ({"sample_weight": [np.nan] * 60}, "expected finite numbers"),
        ({"sample_weight": [0.0] * 60}, "not all zero"),
    ],
)
def test_rows_that_cannot_be_used_are_value_errors(change, told, texts, tags) -> None:
    with pytest.raises(ValueError, match=told):
        TextTagger("linear").fit(**{"X": texts, "y": tags} | change)


def test_models_that_learn_from_no_row_refuse_weights(texts, tags) -> None:
    with pytest.raises(ValueError, match="nothing is trained with model=rules"):
        TextTagger("rules").fit(texts, tags, sample_weight=[1.0] * 60)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decide"])
def test_it_must_be_fitted_before_it_is_asked(method) -> None:
    with pytest.raises(NotFittedError):
        getattr(TextTagger("linear"), method)(["apple"])


@pytest.mark.slow
def test_its_answers_are_those_of_its_run(fitted, texts, tags) -> None:
    assert fitted.classes_.tolist() == ["fruit", "metal", "weather"]
    assert fitted.score(texts, tags) > 0.9
    assert fitted.decide(texts) == load(fitted.run_.path).decide(texts)
    np.testing.assert_array_equal(fitted.predict(texts), fitted.run_.predict(texts))
    rows = fitted.run_.path / "splits.csv"
    assert pd.read_csv(rows)["split"].value_counts().to_dict() == {"train": 51, "validation": 9}


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels",
    [[10, 9, 2], [True, False], [1.0, 0.0], ["z", "ä"]],
    ids=["int", "bool", "float", "str"],
)
def test_labels_come_back_as_they_were_given(labels, texts) -> None:
    y = np.array([labels[at % len(labels)] for at in range(60)])
    model = TextTagger("linear", **ALL_ROWS).fit(texts, pd.Series(y))
    assert model.classes_.tolist() == sorted(labels)
    assert model.predict(texts).dtype.kind == y.dtype.kind
    assert model.score(texts, y) == 1.0
    assert model.run_.classes_.tolist() == sorted(str(label) for label in labels)


@pytest.mark.slow
def test_a_run_folder_is_written_where_one_is_named(texts, tags, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = TextTagger("linear", run="mine").fit(texts, tags)
    TextTagger("linear", run=tmp_path / "other" / "yours").fit(texts, tags)
    assert (tmp_path / "other" / "yours" / "decision.json").exists()
    with pytest.raises(UserError, match="exists already"):
        model.fit(texts, tags)
    model.set_params(if_exists="replace").fit(texts, tags)
    del model
    assert load("mine").predict(["apple pear"]).tolist() == ["fruit"]


@pytest.mark.slow
def test_a_temporary_run_goes_with_its_estimator(texts, tags) -> None:
    model = TextTagger("linear").fit(texts, tags)
    first = model.run_.path
    model.fit(texts, tags)
    second = model.run_.path
    assert not first.parent.exists()
    child = os.fork()
    if not child:
        del model
        os._exit(0)
    os.waitpid(child, 0)
    assert second.exists()
    del model
    assert not second.parent.exists()


def test_a_fit_that_fails_leaves_nothing_behind(texts, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match="too few"):
        TextTagger("linear").fit(texts[:2], ["a", "b"])
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_pickle_holds_the_files_of_the_run(fitted, texts) -> None:
    content = pickle.dumps(fitted)
    code = (
        "import pickle, sys\n"
        "model = pickle.load(sys.stdin.buffer)\n"
        "print(model.run_.path, *model.predict(['apple pear', 'zinc']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=content, capture_output=True, check=True
    )
    place, *tags = done.stdout.decode().split()
    assert tags == ["fruit", "metal"]
    assert not Path(place).parent.exists()
    again = copy.deepcopy(fitted)
    assert again.run_.path != fitted.run_.path
    for file in ("meta.json", "model/linear.safetensors"):
        assert sha256_of(again.run_.path / file) == sha256_of(fitted.run_.path / file)
    np.testing.assert_array_equal(again.predict_proba(texts), fitted.predict_proba(texts))


def test_an_unfitted_one_is_pickled() -> None:
    again = pickle.loads(pickle.dumps(TextTagger("linear", model__C=2)))
    assert again.get_params()["model__C"] == 2


@pytest.mark.slow
def test_it_works_in_searches_and_pipelines(texts, tags) -> None:
    pipeline = Pipeline([("tagger", TextTagger("linear"))])
    grid = {"tagger__model__C": np.logspace(-1, 0, 2)}
    search = GridSearchCV(pipeline, grid, cv=2).fit(texts, tags)
    assert search.best_score_ > 0.8
    assert cross_val_score(TextTagger("linear"), texts, tags, cv=2).mean() > 0.8


def contradicting(agree: float, contradict: float) -> dict[str, Any]:
    """Return rows that call apple fruit and iron metal, with one weight, and the reverse."""
    rows = [
        (f"{word} {other}", tag, weight)
        for word, tags in {"apple": ("fruit", "metal"), "iron": ("metal", "fruit")}.items()
        for tag, weight in zip(tags, (agree, contradict), strict=True)
        for other in ("red", "old", "big", "new") * 4
    ]
    return dict(zip(("X", "y", "sample_weight"), map(list, zip(*rows, strict=True)), strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Liblinear failed to converge")
@pytest.mark.parametrize(
    "model",
    [
        TextTagger("linear", **ALL_ROWS),
        TextTagger("tiny", **ALL_ROWS, **TINY),
        TextTagger(
            "frozen",
            **ALL_ROWS,
            model__encoder="random",
            model__sha256=None,
            model__random={"layers": 1, "hidden": 16, "heads": 2, "intermediate": 16},
        ),
    ],
    ids=["linear", "tiny", "frozen"],
)
def test_heavier_rows_win(model: TextTagger) -> None:
    fruit = model.fit(**contradicting(9.0, 1.0)).predict_proba(["apple"])[0]
    metal = model.fit(**contradicting(1.0, 9.0)).predict_proba(["apple"])[0]
    assert fruit[0] > 0.6
    assert metal[0] < 0.4


@pytest.mark.slow
def test_rows_without_a_weight_are_left_out(texts, tags) -> None:
    weights = [1.0] * 40 + [0.0] * 20
    weighed = TextTagger("linear", **ALL_ROWS).fit(texts, tags, sample_weight=weights)
    fewer = TextTagger("linear", **ALL_ROWS).fit(texts[:40], tags[:40])
    np.testing.assert_allclose(weighed.predict_proba(texts), fewer.predict_proba(texts))


@pytest.mark.slow
def test_a_fine_tuned_one_is_quiet_unless_asked(texts, tags, capfd) -> None:
    capfd.readouterr()
    model = TextTagger("tiny", **TINY).fit(texts, tags)
    assert capfd.readouterr() == ("", "")
    assert model.run_.embed(texts).shape == (60, 32)
    model.set_params(verbose=True).fit(texts, tags)
    shown = capfd.readouterr()
    assert "trained in" in shown.out
    assert "train: 100%" in shown.err


@pytest.mark.slow
def test_a_thread_may_fit(texts, tags) -> None:
    found = []

    def fit() -> None:
        found.append(TextTagger("tiny", **TINY).fit(texts, tags).score(texts, tags))

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join(120)
    assert found


@pytest.mark.slow
def test_columns_of_a_table_are_known_to_its_run(items, tags) -> None:
    table = items.rename(columns={"title": "headline", "description": "body"})
    model = TextTagger("linear").fit(table, tags, sample_weight=[1.0] * 60)
    expected = TextTagger("linear").fit(items, tags)
    np.testing.assert_array_equal(model.predict_proba(table), expected.predict_proba(items))
    columns = {"title": "headline", "description": "body", "tag": "tag", "weight": "weight"}
    assert RunFolder(model.run_.path).columns == columns


@pytest.mark.slow
def test_a_run_with_a_name_keeps_its_rows_for_the_commands(items, tags, tmp_path) -> None:
    weights = [0.0, 0.5, *[1.0] * 58]
    folder = tmp_path / "runs" / "mine"
    overrides = {"data__split__test": 0.2}
    TextTagger("linear", run=folder, **overrides).fit(items, tags, sample_weight=weights)
    kept = [json.loads(line) for line in Path(f"{folder}.items.jsonl").read_text().splitlines()]
    assert kept[0] == {
        "title": items["title"][1],
        "description": items["description"][1],
        "tag": tags[1],
        "weight": 0.5,
    }
    assert len(kept) == 59
    given = [f"run={quoted(folder)}", "resamples=100"]
    evaluate_run(load_config(EvaluateConfig, compose_config("evaluate", given)))
    shutil.rmtree(folder)
    before = Path(f"{folder}.items.jsonl")
    with pytest.raises(UserError, match="too few"):
        TextTagger("linear", run=folder).fit(items[:2], tags[:2])
    assert not before.exists()


def test_what_is_missing_is_named() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import tagger; tagger.TextTagger"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    last = ended.stderr.splitlines()[-1]
    assert last == "ImportError: tagger.TextTagger needs sklearn.base: install tag-or-ask[train]"
