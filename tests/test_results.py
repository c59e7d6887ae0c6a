import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.reporting.test_monitor import make_report

from tagger import results
from tagger.benchmark import report as benchmark
from tagger.benchmark.report import BenchmarkReport
from tagger.build.report import BuildPlan, BuildReport, Candidate
from tagger.compare.report import ApproachesReport, ApproachResult, Costs, Promise
from tagger.environment import Environment, Hardware, describe_environment
from tagger.errors import UserError
from tagger.evaluation.report import EvaluationReport
from tagger.search.summary import Confirmation, SweepSummary

pytestmark = pytest.mark.slow
ENVIRONMENT = Environment(
    git=None,
    versions={"python": "3.11"},
    hardware=Hardware(cpu="c", cores=2, memory_gib=1.0, gpu=None, system="Linux"),
    command=["tagger"],
)


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
        (results.error_map, {"run", "x", "y", "true", "predicted", "slices"}),
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


@pytest.fixture
def sweep(tmp_path):
    """A folder of sweeps with one, whose winner was confirmed."""
    (tmp_path / "s").mkdir()
    confirmation = {
        "metric": "accuracy", "seeds": 2, "searched": {"winner": 0.9, "default": 0.8},
        "confirmed": {"winner": 0.85, "default": 0.81}, "gain": 0.04, "low": 0.01, "high": 0.07,
        "luck": 0.05, "proven": True,
    }  # fmt: skip
    SweepSummary(
        sweep="s", space="linear", objectives=["accuracy"], best=1, default=0, front=[], states={},
        hours=0.1, overhead=None, importances={"model.C": 0.7, "model.balanced": 0.3},
        confirmation=Confirmation(**confirmation), chosen={}, environment=describe_environment(),
        paragraph="",
    ).write(tmp_path / "s" / "summary.json")  # fmt: skip
    return tmp_path


def test_trials_are_the_sweep_s_table(sweep):
    table = pd.DataFrame({"number": [0, 1], "state": ["complete", "failed"]})
    table.to_parquet(sweep / "s" / "trials.parquet")

    assert results.trials("s", sweep).equals(table)


def test_what_a_sweep_found_is_read_from_its_summary(sweep):
    assert results.importances("s", sweep).to_numpy().tolist() == [
        ["model.C", 0.7],
        ["model.balanced", 0.3],
    ]
    row = results.confirmation("s", sweep).iloc[0]
    assert (row["winner_searched"], row["default_confirmed"]) == (0.9, 0.81)
    assert (row["gain_low"], row["gain"], row["gain_high"]) == (0.01, 0.04, 0.07)


def test_a_sweep_that_was_not_confirmed_has_no_row(sweep):
    path = sweep / "s" / "summary.json"
    SweepSummary.read(path).model_copy(update={"confirmation": None}).write(path)

    assert results.confirmation("s", sweep).empty


@pytest.mark.parametrize("read", [results.trials, results.importances, results.confirmation])
def test_a_sweep_that_is_not_there_is_named(read, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        read("nowhere", tmp_path)


def test_a_benchmark_is_read_by_run_length_and_first_answer(tmp_path):
    times = {"p50_ms": 1.0, "p99_ms": 2.0, "items": 50}
    single = times | {"p95_ms": 1.5, "mean_ms": 1.1, "p999_ms": None}
    single |= {"ratio": {"value": 3, "low": 2, "high": 4}}
    many = {"items_per_second": 900, "lowest": 800, "highest": 990, "items": 10, "rounds": 5}
    timing = {"batch_1": single, "lengths": {"8": times, "64": times}, "throughput": many}
    cold = dict.fromkeys(("start_ms", "import_ms", "load_ms", "decide_ms"), 9.0)
    costs = {
        "path": "runs/one", "approach": "linear", "mib": 0.5, "peak_memory_mib": 100,
        "cold_start": cold | {"total_ms": 36.0, "torch_imported": False},
        "threads": {"1": timing, "2": timing},
    }  # fmt: skip
    settings = {"texts": 10, "words": 8, "block": 50, "rounds": 1, "threads": [1, 2]}
    path = tmp_path / "timings.json"
    BenchmarkReport.model_validate(
        {
            "runs": {"one": costs},
            "settings": settings | {"starts": 5, "load_before": 0.1},
            "instructions": [],
            "environment": describe_environment(),
        }
    ).write(path)

    assert list(results.timings(path)["threads"]) == [1, 2]
    assert results.timings(path).attrs == {"load_before": 0.1}
    assert results.timings(path)[["ratio_low", "ratio", "ratio_high"]].iloc[0].tolist() == [2, 3, 4]
    assert list(results.timings_by_length(path)["words"]) == [8, 64, 8, 64]
    assert results.cold_starts(path)[["run", "total_ms"]].to_numpy().tolist() == [["one", 36.0]]


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

    years = results.monitoring(tmp_path, by_year=True)

    assert years[["year", "drift", "estimate_valid"]].to_numpy().tolist() == [
        [2025, "alarm", False], [2026, "steady", True],
    ]  # fmt: skip
    assert list(years["highest"]) == [1.2, 1.2]
    assert list(years["tag:fruit"]) == [0.8, 0.8]


def test_build_steps_are_in_their_order_and_one_was_chosen(tmp_path):
    plan = {
        "asked": {}, "rows": 9, "tags": {"a": 9}, "folds": 3, "models": ["linear"],
        "student": True, "texts": 0, "pass_ms": 1.0, "expected_seconds": {}, "notes": [],
    }  # fmt: skip
    linear = Candidate(
        name="linear", seconds=2.0, weighted_f1=0.8, macro_f1=0.7, aurc=0.05, published=0.4,
        precision=0.99, p50_ms=0.5, p99_ms=0.9, mib=1.2, quick=True,
    )  # fmt: skip
    slow = linear.model_copy(update={"name": "teacher", "published": None, "quick": False})
    pair = linear.model_copy(update={"name": "pair", "published": 0.6})
    BuildReport(
        name="ours", plan=BuildPlan(**plan), promise=0.98, confidence=0.95, judged_on="all rows",
        candidates=[linear, slow, pair], chosen="pair", reasons=[], published=None, seconds=9.0,
        notes=[], environment=ENVIRONMENT,
    ).write(tmp_path / "ours.build" / "build.json")  # fmt: skip

    frame = results.build_steps("ours", tmp_path)

    assert list(frame.columns) == [*Candidate.model_fields, "chosen"]
    assert list(frame["name"]) == ["linear", "teacher", "pair"]
    assert list(frame["chosen"]) == [False, False, True]
    assert frame["published"].isna().tolist() == [False, True, False]
    with pytest.raises(UserError, match=r"build\.json is missing"):
        results.build_steps("theirs", tmp_path)


def test_approaches_are_one_row_each_with_scores_and_costs(tmp_path):
    costs = Costs(mib=1.0, p50_ms=2.0, p99_ms=3.0, threads=1)

    def scored(**scores):
        return ApproachResult(scores=scores, seconds=5.0, costs=costs, better_than=[])

    ApproachesReport(
        source="toy", rows=60, seeds=3, folds=5,
        promise=Promise(target_precision=0.98, confidence=0.95),
        approaches={
            "rules": scored(weighted_f1=0.5, published_precision=None),
            "linear": scored(weighted_f1=0.8, published_precision=0.99),
        },
        differences={}, environment=ENVIRONMENT,
    ).write(tmp_path / "approaches.json")  # fmt: skip

    frame = results.approaches(tmp_path / "approaches.json").set_index("approach")

    assert frame["weighted_f1"].to_dict() == {"rules": 0.5, "linear": 0.8}
    assert frame["published_precision"].isna().tolist() == [True, False]
    assert frame.loc["linear", ["seconds", "mib", "p50_ms", "p99_ms"]].tolist() == [5, 1, 2, 3]


def test_timings_are_one_row_a_run_and_number_of_threads(tmp_path):
    def timing(p50, rate):
        single = benchmark.SingleItems(
            p50_ms=p50, p95_ms=2.0, p99_ms=3.0, mean_ms=1.5, p999_ms=None, items=50,
            ratio=benchmark.Ratio(value=2.0, low=1.9, high=2.1),
        )  # fmt: skip
        many = benchmark.Throughput(items_per_second=rate, lowest=1, highest=9, items=10, rounds=5)
        return benchmark.Timing(batch_1=single, lengths={}, throughput=many)

    start = dict.fromkeys(("start_ms", "import_ms", "load_ms", "decide_ms", "total_ms"), 1.0)
    benchmark.BenchmarkReport(
        runs={
            "ours": benchmark.RunCosts(
                path="runs/ours", approach="onnx", mib=6.4, peak_memory_mib=170,
                cold_start=benchmark.ColdStart(**start, torch_imported=False),
                threads={"1": timing(0.4, 900), "2": timing(0.3, 1500)},
            )
        },
        settings=benchmark.Settings(
            texts=10, words=8, block=50, rounds=1, threads=[1, 2], starts=5, load_before=0.1
        ),
        instructions=["avx2"], environment=ENVIRONMENT,
    ).write(tmp_path / "times.json")  # fmt: skip

    frame = results.timings(tmp_path / "times.json")

    columns = ["run", "threads", "mib", "p50_ms", "items_per_second", "ratio", "ratio_low"]
    assert frame[columns].to_numpy().tolist() == [
        ["ours", 1, 6.4, 0.4, 900, 2.0, 1.9],
        ["ours", 2, 6.4, 0.3, 1500, 2.0, 1.9],
    ]
