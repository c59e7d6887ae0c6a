import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.reporting.test_monitor import make_report

from tagger import results
from tagger.errors import UserError
from tagger.evaluation.report import EvaluationReport

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(evaluated_runs):
    return evaluated_runs.folder


@pytest.fixture(scope="module")
def report(folder):
    return EvaluationReport.read(folder / "untaught" / "report.json")


def test_runs_are_one_row_each_with_their_intervals(folder, report):
    frame = results.runs(folder)

    assert sorted(frame["run"]) == ["untaught", "words"]
    row = frame.set_index("run").loc["untaught"]
    assert row["macro_f1"] == report.overall.macro_f1.value
    assert row["macro_f1_low"] <= row["macro_f1"] <= row["macro_f1_high"]
    assert frame.attrs["left_out"] == []


def test_what_is_left_out_is_said(copy_run):
    run = copy_run("bare")

    frame = results.runs(run.path.parent)

    assert frame.empty
    assert frame.attrs["left_out"] == [f"{run.path} was not evaluated"]


def test_tags_of_several_runs_stand_below_each_other(folder, report):
    frame = results.per_tag("untaught", "words", folder=folder)

    assert list(frame["run"]) == ["untaught"] * 3 + ["words"] * 3
    assert list(frame["tag"][:3]) == report.tags
    assert list(frame["recall"][:3]) == [report.per_class[tag].recall.value for tag in report.tags]


def test_confusion_counts_every_row(folder, report):
    frame = results.confusion("untaught", folder=folder)

    assert frame["rows"].sum() == report.overall.num_samples
    right = frame.loc[frame["true"] == frame["predicted"], "rows"].sum()
    assert right / report.overall.num_samples == pytest.approx(report.overall.accuracy.value)


@pytest.mark.parametrize(
    ("read", "columns"),
    [
        (results.per_slice, {"run", "slice", "num_samples", "accuracy", "accuracy_low"}),
        (results.risk_coverage, {"run", "coverage", "risk"}),
        (results.reliability, {"run", "num_samples", "confidence", "accuracy"}),
        (results.errors, {"run", "group", "true", "predicted", "nearest"}),
        (results.error_map, {"run", "x", "y", "true", "predicted"}),
        (results.curves, {"run", "step", "train/loss", "val/macro_f1"}),
    ],
)
def test_frames_have_these_columns(folder, read, columns):
    frame = read("untaught", folder=folder)

    assert columns <= {*frame.columns}
    assert len(frame) and set(frame["run"]) == {"untaught"}


def test_capabilities_are_one_row_each(folder, report, tmp_path):
    rate = {"value": 0.5, "low": 0.1, "high": 0.9}
    passed = {"num_cases": 2, "passed": 1, "rate": rate}
    case = {"title": "a", "description": "", "expected": "fruit", "found": "metal"}
    synonyms = passed | {"kind": "minimum", "about": "", "failures": [case]}
    behaviour = {"cases": {"path": "-", "sha256": "-"}, "capabilities": {"synonyms": synonyms}}
    plain = report.model_dump() | {"behaviour": behaviour | passed}
    run = Path(shutil.copytree(folder / "untaught", tmp_path / "run"))
    EvaluationReport.model_validate(plain).write(run / "report.json")

    frame = results.per_capability(run)

    assert frame[["capability", "rate", "rate_low", "passed"]].to_numpy().tolist() == [
        ["synonyms", 0.5, 0.1, 1]
    ]
    assert results.per_capability("untaught", folder=folder).empty


def test_predictions_are_those_that_the_report_counts(folder, report):
    frame = results.predictions("untaught", folder=folder)

    assert len(frame) == report.overall.num_samples
    assert frame["right"].mean() == pytest.approx(report.overall.accuracy.value)
    probabilities = frame[[f"p:{tag}" for tag in report.tags]]
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.allclose(probabilities.max(axis=1), frame["confidence"])
    assert (frame["title"].str.len() > 0).all()


def test_items_say_where_each_went(evaluated_runs, folder):
    frame = results.items("untaught", folder=folder)

    assert len(frame) == 60
    assert sorted(frame.loc[frame["part"] == "test", "id"]) == sorted(
        item.id for item in evaluated_runs.items("untaught", "test")
    )


def test_calibration_rows_are_those_of_the_folds(folder):
    frame = results.calibration_rows("untaught", folder=folder)

    assert set(frame["true"]) == {"fruit", "metal", "weather"}
    assert set(frame["source"]) == {""}
    assert (frame["right"] == (frame["true"] == frame["predicted"])).all()


def test_changes_are_those_of_the_comparison(folder, report):
    differences = results.differences("untaught", folder=folder)
    changed = results.changed("untaught", folder=folder)

    assert set(differences["against"]) == {"words"}
    assert list(differences["score"]) == list(report.comparison.differences)
    assert (changed["change"] == "broken").sum() == len(report.comparison.broken) > 0


def test_a_run_that_was_compared_with_none_says_how(folder):
    with pytest.raises(UserError, match=r"compares it with no other run") as error:
        results.differences("words", folder=folder)

    assert "against=RUN" in str(error.value)


def test_a_run_that_is_not_there_is_named(folder):
    with pytest.raises(UserError, match="untauhgt"):
        results.per_tag("untauhgt", folder=folder)


def test_trials_are_the_sweep_s_table(tmp_path):
    table = pd.DataFrame({"number": [0, 1], "state": ["complete", "failed"]})
    (tmp_path / "s").mkdir()
    table.to_parquet(tmp_path / "s" / "trials.parquet")

    assert results.trials("s", tmp_path).equals(table)


def test_a_sweep_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        results.trials("nowhere", tmp_path)


def test_a_frame_without_rows_has_its_columns(folder):
    report = EvaluationReport.read(folder / "words" / "report.json")
    assert not report.errors.groups

    frame = results.errors("words", folder=folder)

    assert frame.empty
    assert {*frame.columns} == {*results.errors("untaught", folder=folder).columns}


def test_a_damaged_file_is_one_message(tmp_path):
    path = tmp_path / "approaches.json"
    path.write_text(json.dumps({"schema_version": 2}))

    with pytest.raises(UserError, match=r"approaches\.json"):
        results.approaches(path)


def test_a_watched_stream_is_a_frame_of_its_time_line(tmp_path):
    make_report().write(tmp_path / "monitor.json")

    frame = results.monitoring(tmp_path)

    assert list(frame["first_row"]) == [1, 26, 51]
    assert frame.loc[0, ["published", "confidence", "tag:metal"]].tolist() == [0.8, 0.88, 0.2]
    assert frame.loc[0, ["expected", "measured"]].tolist() == [19 / 20, 0.5]
    assert list(frame["evidence:length"]) == list(frame["evidence"]) == [0.9] * 3
    assert frame.attrs == {"alarms": ["length rises from row 401 on"], "needed": 20}
