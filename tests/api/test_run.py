import json
import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tagger.api.estimator import TextTagger
from tagger.api.run import Run, load
from tagger.compression.run_export import export_run
from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.schema import ExportConfig
from tagger.data.columns import UNSAID
from tagger.errors import UserError
from tagger.prediction import predict_file
from tagger.runs import RunFolder

HEAVY = (
    "torch", "transformers", "hydra", "omegaconf", "scipy", "sklearn", "pandas", "pyarrow",
    "tagger.config.schema",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_run: RunFolder) -> Run:
    return load(tiny_run.path)


@pytest.fixture(scope="module")
def asking(toy_folder: Path) -> Run:
    """A linear run that asks people about some of the rows."""
    promise = {"decision": "threshold", "decision__target_precision": 0.7}
    items = pd.read_csv(toy_folder / "items.csv")
    model = TextTagger("linear", **promise).fit(items, items["tag"])
    return model.run_


@pytest.fixture(scope="module")
def compressed(tiny_run: RunFolder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compressed")
    given = [
        f"run={quoted(tiny_run.path)}",
        f"runs_dir={quoted(folder)}",
        "name=small",
        "compress=fp32",
        "compress.threads=1",
    ]
    return export_run(load_config(ExportConfig, compose_config("export", given))).folder


@pytest.fixture
def items(toy_folder: Path) -> pd.DataFrame:
    """The toy file's rows, some of them without a title or without any text."""
    table = pd.read_csv(toy_folder / "items.csv")
    table.loc[3, "title"] = None
    table.loc[7, ["title", "description"]] = None
    return table


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "asking"])
def test_answers_are_those_of_tagger_predict(name, request, items, tmp_path) -> None:
    run = request.getfixturevalue(name)
    items.to_csv(tmp_path / "items.csv", index=False)
    predict_file(RunFolder(run.path), tmp_path / "items.csv", tmp_path / "out.csv", UNSAID)
    written = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    decided = run.decide(items)
    assert [one.decision for one in decided] == written["decision"].tolist()
    assert [one.tag for one in decided] == written["tag"].tolist()
    assert [one.reason for one in decided] == written["reason"].tolist()
    assert {one.decision == "needs review" for one in decided} == {True, False}
    told = ["" if math.isnan(one.probability) else f"{one.probability:.6f}" for one in decided]
    expected = ["" if p == "" else f"{float(p):.6f}" for p in written["probability"]]
    assert told == expected
    answered = written["tag"] != ""
    probabilities = written.loc[answered, run.classes_].astype(float)
    np.testing.assert_allclose(run.predict_proba(items)[answered], probabilities, atol=6e-7)
    assert run.predict(items)[answered].tolist() == written.loc[answered, "tag"].tolist()


def test_a_text_that_is_missing_is_for_a_person(run: Run) -> None:
    decision = run.decide(["apple pear", None])[1]
    assert (decision.decision, decision.tag) == ("needs review", "")
    assert decision.reason == "no text: 'text' is blank"
    np.testing.assert_allclose(run.predict_proba(["apple", None, ""]).sum(axis=1), 1)


def test_answers_have_types_and_shapes_without_texts_too(run: Run) -> None:
    assert run.classes_.tolist() == ["fruit", "metal", "weather"]
    assert run.predict(["apple pear plum"]).dtype.kind == "U"
    assert run.predict([]).shape == (0,)
    assert run.predict_proba([]).shape == (0, 3)
    assert run.decide([]) == []


def test_decisions_make_a_table(run: Run) -> None:
    table = pd.DataFrame(run.decide(["apple", "iron"]))
    assert table.columns.tolist() == ["decision", "tag", "probability", "reason"]


@pytest.mark.slow
def test_vectors_are_those_of_the_encoder(run: Run, asking: Run, compressed: Path) -> None:
    vectors = run.embed(["apple pear", "iron copper"])
    assert vectors.shape == (2, 32)
    small = load(compressed)
    np.testing.assert_allclose(small.embed(["apple pear", "iron copper"]), vectors, atol=1e-5)
    with pytest.raises(UserError, match="gives no vectors"):
        asking.embed(["apple"])


def test_threads_get_the_same_answers(run: Run, items: pd.DataFrame) -> None:
    expected = run.predict_proba(items)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(run.predict_proba, [items] * 8):
            np.testing.assert_array_equal(found, expected)


def test_a_run_is_pickled_as_its_path(run: Run, monkeypatch, tmp_path) -> None:
    content = pickle.dumps(run)
    assert len(content) < 1000
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(content)
    assert again.predict_proba(["apple"]).tolist() == run.predict_proba(["apple"]).tolist()
    assert repr(again) == f"tagger.load({str(run.path)!r})"


def test_a_run_is_found_by_its_name(tiny_run: RunFolder) -> None:
    assert load("tiny", tiny_run.path.parent).path == tiny_run.path
    with pytest.raises(UserError, match=r"there is no run 'tinny'(.|\n)*Did you mean tiny"):
        load("tinny", tiny_run.path.parent)


@pytest.mark.slow
def test_a_compressed_run_needs_nothing_heavy(compressed: Path) -> None:
    code = (
        "import json, sys, tagger\n"
        "light = len(sys.modules)\n"
        f"tags = tagger.load({str(compressed)!r}).predict(['apple pear plum']).tolist()\n"
        f"print(json.dumps([tags, [name for name in {HEAVY} if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["fruit"], []]
