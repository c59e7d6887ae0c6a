"""The examples of docs/python.md are executed, one after the other, in a folder with a run."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tagger.files import REPO_ROOT
from tagger.runs import RunFolder

CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def examples(
    tiny_run: RunFolder, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Everything that the examples define."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(tiny_run.path, folder / "runs" / "first-run")
    shutil.copyfile(toy_folder / "items.csv", folder / "items.csv")
    text = (REPO_ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for found in CODE.finditer(text):
            if "import shap" in found[1] and not find_spec("shap"):
                continue
            line = text.count("\n", 0, found.start(1))
            exec(compile("\n" * line + found[1], "docs/python.md", "exec"), names)
    return names


@pytest.mark.slow
def test_examples_run_and_agree(examples: dict[str, Any]) -> None:
    run, pairs = examples["run"], examples["pairs"]
    expected = run.predict(pairs).tolist()
    assert examples["from_threads"].tolist() == expected
    assert examples["from_processes"].tolist() == expected
    assert (run.predict(pairs) == examples["tags"]).mean() > 0.9


@pytest.mark.slow
def test_the_estimator_wrote_a_run_folder(examples: dict[str, Any]) -> None:
    assert examples["model"].run_.path == examples["run"].path.with_name("fruit")
    assert examples["search"].best_params_["tagger__model__C"] in (1.0, 4.0)
    assert len(examples["cleaned"].get_label_issues()) == 60


@pytest.mark.slow
def test_words_that_carry_the_tag_have_the_largest_effects(examples: dict[str, Any]) -> None:
    effects = examples["effects"]
    assert max(effects, key=effects.get) in ("sweet", "orchard")
    assert abs(effects["the"]) < effects["orchard"]


@pytest.mark.slow
def test_records_and_tables_are_plain(examples: dict[str, Any]) -> None:
    records, queue = examples["records"], examples["queue"]
    scores = [record["suggestions"][0]["score"] for record in records]
    assert len(records) == 60
    assert scores == sorted(scores)
    assert {*records[0]["suggestions"][0]} == {"question", "value", "score", "agent"}
    assert queue.columns.tolist()[-4:] == ["decision", "tag", "probability", "reason"]
