import csv
import errno
import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.decision.calibrators import Temperature, Unchanged
from tagger.decision.decider import Rule, save_rule
from tagger.decision.policies import NEVER, Argmax, Threshold
from tagger.errors import UserError
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.report import EvaluationReport, Fitted, McNemar, WrongItem
from tagger.files import write_text
from tagger.reporting.errors import read_errors
from tagger.runs import read_predictions, write_calibration


def listed_errors(report: EvaluationReport) -> list[WrongItem]:
    return [error for group in report.errors.groups for error in group.errors]


@pytest.mark.slow
@pytest.mark.usefixtures("real_figures")
def test_own_test_rows_give_a_whole_report(runs, items, split, capsys) -> None:
    run = runs.make("r", items, split, errs_on=["i0-30", "i0-1"])
    report = runs.report("r")

    assert report == EvaluationReport.read(run.path / "report.json")
    assert report.overall.num_samples == 15
    accuracy = report.overall.accuracy
    assert accuracy.value == pytest.approx(14 / 15)
    assert accuracy.low < 14 / 15 < accuracy.high
    assert list(report.per_class) == ["apples", "pears-and-other-fruit", "plums", "never seen"]
    assert report.per_class["never seen"].num_samples == 0
    assert report.slices["year 2019"].num_samples == 5
    assert "short text" in report.empty_slices
    assert [error.id for error in listed_errors(report)] == ["i0-30"]
    assert (report.errors.total, report.errors.shown) == (1, 1)
    assert report.weak_slices.slices == []
    assert report.map is report.behaviour is report.comparison is None
    assert report.latency.p95_ms > 0
    assert report.decision.policy == Fitted(kind="argmax")
    assert (report.decision.published, report.decision.coverage) == (15, 1)
    assert report.decision.precision.value == pytest.approx(14 / 15)

    plots = {path.name for path in (run.path / "plots").iterdir()}
    names = ("confusion", "learning-curves", "precision-recall", "reliability", "risk-coverage")
    assert plots == {f"{name}.png" for name in (*names, "reliability-by-tag", "slices")}
    with (run.path / "predictions.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == [i.id for i in items[25:]]
    printed = capsys.readouterr().out
    assert "pears-and-other-fruit" in printed
    assert str(run.path / "report.html") in printed
    assert str(run.path / "plots" / "confusion.png") in printed


@pytest.mark.slow
def test_the_same_run_gives_the_same_numbers(runs, items, split) -> None:
    runs.make("r", items, split, errs_on=["i0-30"])
    first, second = (runs.evaluate("r") for _ in range(2))
    scores = ("overall", "per_class", "slices", "confusion", "calibration", "decision")
    for part in (*scores, "weak_slices", "errors"):
        assert getattr(first, part) == getattr(second, part)


def test_decisions_are_those_that_one_makes_by_hand(runs, items, split) -> None:
    # Five test rows a tag. One of the apples is taken for pears, one of the plums for a tag that
    # has no row; nothing is ever published as pears.
    run = runs.make("r", items, split, errs_on=["i0-29", "i0-30"])
    policy = Threshold([0.9, NEVER, 0.5, 0.0])
    save_rule(run.path, run.config.decision, Rule(Unchanged(), policy, None), None)
    decision = runs.evaluate("r").decision
    assert decision.policy == Fitted(kind="threshold", thresholds=[0.9, NEVER, 0.5, 0.0])
    assert decision.calibrator == Fitted(kind="none")
    assert decision.ood_threshold is None
    assert (decision.num_samples, decision.published) == (15, 9)
    assert decision.coverage == pytest.approx(9 / 15)
    assert decision.review_per_1000 == pytest.approx(400)
    assert decision.precision.value == pytest.approx(8 / 9)
    assert decision.precision.low < 8 / 9 < decision.precision.high

    def values(key: str) -> list[float | None]:
        blocks = [getattr(block, key) for block in decision.per_class.values()]
        return [None if block is None else block.value for block in blocks]

    assert list(decision.per_class) == list(run.tags)
    assert [block.published for block in decision.per_class.values()] == [4, 0, 4, 1]
    assert values("precision") == [1.0, None, 1.0, 0.0]
    assert values("recall") == [0.8, 0.0, 0.8, None]


def test_raw_and_corrected_probabilities_are_in_the_file(runs, items, split) -> None:
    run = runs.make("r", items, split, errs_on=["i0-30"])
    save_rule(run.path, run.config.decision, Rule(Temperature(2.0), Argmax(), None), None)
    report = runs.report("r")
    # Of 0.9 and three times 0.1 / 3: the root of each, over the sum of the roots.
    corrected = 0.9**0.5 / (0.9**0.5 + 3 * (0.1 / 3) ** 0.5)
    assert report.decision.calibrator == Fitted(kind="temperature", temperature=2.0)
    assert listed_errors(report)[0].probability == pytest.approx(corrected)
    calibration = report.calibration
    assert calibration.ece == pytest.approx(14 / 15 - corrected)
    assert calibration.before.ece == pytest.approx(14 / 15 - 0.9)
    rows = read_predictions(run.path / "predictions.csv", run.tags)
    assert {row.max() for row in rows.values()} == {0.9}
    with (run.path / "predictions.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["raw:plums"]) == pytest.approx(0.1 / 3)
    assert float(row["corrected:pears-and-other-fruit"]) == pytest.approx(corrected)


class LessSure:
    """A stand-in's answers, with less probability on some of them."""

    def __init__(self, model: Any, unsure_of: set[str]) -> None:
        self.model, self.unsure_of = model, unsure_of
        self.tags = model.tags

    def predict_proba(self, items: Sequence[Item]) -> np.ndarray:
        rows = self.model.predict_proba(items)
        unsure = [item.id in self.unsure_of for item in items]
        rows[unsure] = 0.5 * rows[unsure] + 0.5 / len(self.tags)
        return rows


OVERRIDE = ("decision=threshold", "decision.target_precision=0.8", "decision.calibration=none")


def test_another_decision_can_be_tried_and_the_run_keeps_its_own(runs, items, split) -> None:
    run = runs.make("r", items, split)
    save_rule(run.path, run.config.decision, Rule(Unchanged(), Argmax(), None), None)
    before = (run.path / "decision.json").read_bytes()
    # Of 40 rows the surer half is right and the other wrong: the threshold lies between them.
    calibration = LessSure(runs.models["r"], {item.id for item in items[20:]}).predict_proba(items)
    calibration[20:] = np.roll(calibration[20:], 1, axis=1)
    write_calibration(run.path / "calibration.csv", items, run.tags, calibration, None)
    runs.models["r"] = LessSure(runs.models["r"], {"i0-26", "i0-30", "i0-38"})

    assert runs.evaluate("r").decision.coverage == 1
    decision = runs.evaluate("r", *OVERRIDE).decision
    assert decision.policy == Fitted(kind="threshold", thresholds=[0.9] * 4)
    assert decision.published == 12
    assert [block.published for block in decision.per_class.values()] == [4, 5, 3, 0]
    assert (run.path / "decision.json").read_bytes() == before
    assert runs.evaluate("r").decision.policy == Fitted(kind="argmax")


@pytest.mark.parametrize("rows", ["none", "lost"])
def test_another_decision_needs_rows_to_be_fitted_to(runs, items, split, rows) -> None:
    run = runs.make("r", items, split)
    if rows == "none":
        write_calibration(run.path / "calibration.csv", [], run.tags, np.zeros((0, 4)), None)
    with pytest.raises(UserError, match=r"calibration\.csv") as raised:
        runs.evaluate("r", *OVERRIDE)
    assert ("decision.folds=5" in raised.value.hint) == (rows == "none")
    assert not (run.path / "report.json").exists()


def test_another_source_goes_into_its_own_folder(runs, items, split, new_items) -> None:
    fresh = new_items(12, seed=9)
    run = runs.make("r", items, split, answers=fresh)
    before = (run.path / "predictions.csv").read_bytes()
    report = runs.report("r", *runs.other_source(fresh, "market"))
    assert report.overall.num_samples == 12
    assert (run.path / "on-market" / "report.html").is_file()
    assert not (run.path / "report.json").exists()
    assert (run.path / "predictions.csv").read_bytes() == before


@pytest.mark.slow
def test_a_run_that_kept_nothing_apart_is_warned_of_everywhere(
    runs, items, split, new_items, capsys
) -> None:
    again = replace(items[split.train[0]], id="again")
    everything = [*items, again]
    beside = replace(split, test=[*split.test, len(items)])
    run = runs.make("off", everything, beside, overrides=["data.split.group=off"])
    report = runs.report("off")
    rows = len(beside.test)
    assert f"group=off): 1 of these {rows} rows" in report.data.warning
    assert "WARNING: near-duplicates were not kept apart" in capsys.readouterr().out
    for name in ("report.md", "report.html", "report.json"):
        assert "ear-duplicates were not kept apart" in (run.path / name).read_text(), name

    similar = replace(items[1], id="similar", description=f"{items[1].description} also")
    runs.make("off2", items, split, answers=[similar], overrides=["data.split.group=off"])
    report = runs.evaluate("off2", *runs.other_source([similar, items[2]]))
    assert report.overall.num_samples == 1
    assert "were not looked for (data.split.group=off)" in report.data.explanation

    runs.make("on", items, split)
    assert runs.report("on").data.warning is None
    assert "WARNING" not in capsys.readouterr().out.split("off2")[-1]


def test_rows_all_keeps_everything_away_from_the_test_report(runs, items, split) -> None:
    run = runs.make("r", items, split)
    report = runs.report("r", "rows=all")
    assert report.overall.num_samples == 40
    assert "trained on" in report.data.explanation
    assert (run.path / "on-orchard-all" / "report.json").is_file()
    assert not (run.path / "report.json").exists()


def test_a_copy_of_the_own_source_is_the_own_source(runs, items, split) -> None:
    run = runs.make("r", items, split)
    report = runs.report("r", *runs.other_source(items, "copy"))
    assert report.data.own
    assert report.overall.num_samples == 15
    assert (run.path / "report.json").is_file()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_report_goes_where_it_is_told_and_the_run_stays_as_it_was(
    runs, items, split, tmp_path
) -> None:
    run = runs.make("r", items, split, errs_on=["i0-30"])
    before = contents(run.path)
    out = tmp_path / "reports" / "r"
    report = runs.report("r", f"out={out}")
    assert contents(run.path) == before
    written = set(contents(out))
    assert written >= {"report.json", "report.md", "report.html", "predictions.csv"}
    assert "plots/confusion.png" in written
    errors = read_errors(run, str(out))
    assert errors == report.errors
    assert errors.total == 1
    other = runs.make("other", items, split)
    with pytest.raises(UserError, match="is about the run r, not other"):
        read_errors(other, str(out))


def refuse_files_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> Any:
        if dir.is_relative_to(folder):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))
        return nullcontext()

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


def test_a_read_only_run_is_refused_before_any_work_and_out_is_named(
    runs, items, split, tmp_path, monkeypatch
) -> None:
    run = runs.make("r", items, split)
    refuse_files_in(run.path, monkeypatch)
    for overrides in ([], ["rows=all"]):
        with pytest.raises(UserError, match="cannot be written to: Read-only") as raised:
            runs.evaluate("r", *overrides)
        assert "out=FOLDER" in raised.value.hint
    assert runs.models["r"].asked == []
    refuse_files_in(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="cannot be written to"):
        runs.evaluate("r", f"out={tmp_path / 'reports' / 'r'}")


def test_a_report_does_not_go_where_it_would_be_taken_for_another(runs, items, split) -> None:
    run, other = runs.make("r", items, split), runs.make("other", items, split)
    for place in (run, other):
        with pytest.raises(UserError, match="is a run folder"):
            runs.evaluate("r", f"out={place.path}")
    (run.path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        runs.evaluate("r", f"out={run.path / 'file'}")


def test_an_evaluation_that_fails_leaves_nothing(runs, items, split, tmp_path) -> None:
    run = runs.make("r", items, split)
    before = contents(tmp_path)
    with pytest.raises(UserError):
        runs.evaluate("r", "data=file", "data.path=nowhere.csv", f"out={tmp_path}/o")
    with pytest.raises(UserError, match="there is no run"):
        runs.evaluate("r", "against=nobody", f"out={tmp_path}/o")
    assert contents(tmp_path) == before
    assert not (tmp_path / "o").exists()
    assert not (run.path / "on-file").exists()


def test_a_run_of_an_older_version_is_evaluated(runs, items, split, capsys) -> None:
    run = runs.make("r", items, split)
    config = yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))
    for section in ("training", "decision", "tracking", "distill"):
        del config[section]
    del config["data"]["extra"], config["data"]["split"]["per_tag"], config["model"]["pooling"]
    write_text(run.path / "config.yaml", yaml.safe_dump(config))
    report = runs.evaluate("r")
    assert report.run.model == "tiny"
    assert report.overall.num_samples == 15
    assert capsys.readouterr().err.count("data.extra, data.split.per_tag") == 1


def test_comparison_of_two_runs(runs, items, split) -> None:
    runs.make("ours", items, split, errs_on=["i0-30", "i0-31"])
    runs.make("theirs", items, split, errs_on=["i0-30", "i0-32", "i0-33"])
    report = runs.evaluate("ours", "against=theirs")
    comparison = report.comparison
    assert comparison.num_samples == comparison.recorded_predictions == 15
    assert [item.id for item in comparison.fixed] == ["i0-32", "i0-33"]
    assert [item.id for item in comparison.broken] == ["i0-31"]
    assert comparison.differences["accuracy"].value == pytest.approx(1 / 15)
    assert runs.models["theirs"].asked == []


def test_the_other_run_predicts_what_it_lacks(runs, items, split, new_items) -> None:
    fresh = new_items(8, seed=9)
    runs.make("ours", items, split, answers=fresh)
    runs.make("theirs", items, split, answers=fresh, errs_on=["i9-0"])
    report = runs.evaluate("ours", "against=theirs", *runs.other_source(fresh))
    assert report.comparison.recorded_predictions == 0
    assert runs.models["theirs"].asked == [item.id for item in fresh]
    assert [item.id for item in report.comparison.fixed] == ["i9-0"]


def test_an_id_that_names_another_text_is_not_taken_from_the_record(
    runs, items, split, new_items
) -> None:
    renamed = [replace(item, id=f"i0-{25 + n}") for n, item in enumerate(new_items(8, seed=9))]
    runs.make("ours", items, split, answers=renamed)
    runs.make("theirs", items, split, answers=renamed)
    report = runs.evaluate("ours", "against=theirs", *runs.other_source(renamed))
    assert report.comparison.recorded_predictions == 0
    assert report.comparison.mcnemar.p_value == 1


def test_rows_that_the_other_run_trained_on_are_not_compared(runs, items, split) -> None:
    runs.make("ours", items, split)
    overlapping = Split(train=list(range(15, 40)), validation=[], test=list(range(15)))
    runs.make("theirs", items, overlapping)
    with pytest.raises(UserError, match="no row in common that neither has seen"):
        runs.evaluate("ours", "against=theirs")
    partly = Split(train=list(range(30)), validation=[], test=list(range(30, 40)))
    runs.make("partly", items, partly)
    report = runs.evaluate("ours", "against=partly")
    assert report.comparison.explanation.startswith("10 of 15 rows paired")


def test_runs_with_other_tags_are_not_compared(runs, items, split) -> None:
    runs.make("ours", items, split)
    runs.make("theirs", items, split, tags=("apples", "pears-and-other-fruit", "plums"))
    with pytest.raises(UserError, match="their tags differ"):
        runs.evaluate("ours", "against=theirs")


def test_tags_in_another_order_are_matched_by_name(runs, items, split) -> None:
    runs.make("ours", items, split)
    runs.make(
        "theirs", items, split, tags=("plums", "never seen", "apples", "pears-and-other-fruit")
    )
    report = runs.evaluate("ours", "against=theirs")
    assert report.comparison.mcnemar == McNemar(fixed=0, broken=0, p_value=1.0)


def test_the_surest_errors_come_first(runs, items, split) -> None:
    wrong = ["i0-28", "i0-31", "i0-34"]  # pears, which are taken for plums
    runs.make("r", items, split, errs_on=[*wrong, "i0-30"])
    runs.models["r"] = LessSure(runs.models["r"], {"i0-28"})
    report = runs.evaluate("r")
    assert (report.errors.total, report.errors.shown) == (4, 4)
    pears, apples = report.errors.groups
    assert pears.name == "pears-and-other-fruit taken for plums"
    assert [error.id for error in pears.errors] == ["i0-31", "i0-34", "i0-28"]
    assert [error.probability for error in pears.errors] == pytest.approx([0.9, 0.9, 0.575])
    assert {error.true for error in pears.errors} == {"pears-and-other-fruit"}
    assert {error.predicted for error in pears.errors} == {"plums"}
    assert [error.id for error in apples.errors] == ["i0-30"]


def test_a_further_column_makes_slices_to_report_and_to_guard(runs, new_items, split):
    items = new_items(40)
    runs.make("ours", items, split)
    runs.make("theirs", items, split)
    fresh = new_items(60, seed=9)
    source = runs.other_source(fresh)
    path = runs.folder / "source-other.csv"
    head, *rows = path.read_text().splitlines()
    shops = ["shop", *("corner" if number < 12 else "market" for number in range(60))]
    path.write_text(
        "\n".join(f"{line},{shop}" for line, shop in zip([head, *rows], shops, strict=True)) + "\n"
    )
    for name in ("ours", "theirs"):
        runs.models[name].answers |= {item.content_hash: str(item.tag) for item in fresh}
    runs.models["ours"].errs_on = frozenset(item.id for item in fresh[:12])
    config = runs.config("ours", "against=theirs", "slice_columns=[shop]", *source)
    report = evaluate_run(config).report
    assert report.slices["shop corner"].accuracy.value == 0
    assert report.slices["shop market"].accuracy.value == 1
    guards = {one.name: one for one in report.comparison.guards.parts}
    assert guards["shop corner"].worse and not guards["shop market"].worse
    assert report.weak_slices.slices[0].name == "shop corner"
