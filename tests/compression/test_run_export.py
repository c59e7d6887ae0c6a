import json
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tagger.compression import run_export as module
from tagger.compression.parity import ParityFailed
from tagger.compression.report import ParityReport
from tagger.compression.run_export import export_run
from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import quoted
from tagger.config.saved import save_config
from tagger.config.schema import (
    EnsembleConfig,
    EvaluateConfig,
    ExportConfig,
    LinearConfig,
    TrainConfig,
)
from tagger.data.items import Item
from tagger.decision.change import change_decision
from tagger.decision.decider import load_decider
from tagger.errors import UserError
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.rows import own_items
from tagger.leaderboard import load_standings
from tagger.models.onnx import OnnxClassifier
from tagger.reporting.evaluation import report_evaluation
from tagger.run_meta import Original
from tagger.runs import (
    RunFolder,
    open_run,
    read_calibration,
    read_predictions,
)
from tagger.training.train_run import train

ITEMS = [Item("1", "apple", "pear cherry"), Item("2", "iron", "rain"), Item("3", "", "fog 雾")]

Export = Callable[..., Path]


def run_export(runs_dir: Path, *overrides: str) -> Path:
    given = ["run=tiny", f"runs_dir={quoted(runs_dir)}", *overrides]
    return export_run(load_config(ExportConfig, compose_config("export", given))).folder


@pytest.fixture
def export(copy_run: Callable[..., RunFolder], tmp_path: Path) -> Export:
    """Exports a copy of the tiny run that lies below `tmp_path / "runs"`."""
    copy_run("tiny")
    return partial(run_export, tmp_path / "runs")


@pytest.fixture(scope="module")
def exported(tiny_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An export in fp32 beside its original, compared on further rows too: not to be changed."""
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(tiny_run.path, folder / "runs" / "tiny")
    stream = folder / "stream.csv"
    stream.write_text("id,title\na,apple\nb,fog\nc,zinc\n", encoding="utf-8")
    given = ["compress=fp32", "compress.samples=7", "compress.threads=1", f"rows={quoted(stream)}"]
    return RunFolder(run_export(folder / "runs", *given))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stored(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_compressed_run_is_a_whole_run(exported: RunFolder, tiny_run: RunFolder) -> None:
    assert names(exported.path) == {
        "config.yaml", "meta.json", "splits.csv", "calibration.csv", "decision.json",
        "predictions.csv", "parity.json", "flipped.csv", "model",
    }  # fmt: skip
    assert names(exported.path.parent) == {"tiny", "tiny-fp32"}
    original, run = tiny_run, open_run(str(exported.path), "runs")
    assert run.tags == original.tags
    assert run.split_rows() == original.split_rows()
    assert (run.config.name, run.config.model) == ("tiny-fp32", original.config.model)
    classifier = run.load_classifier()
    assert isinstance(classifier, OnnxClassifier)
    np.testing.assert_allclose(
        classifier.predict_proba(ITEMS),
        original.load_classifier().predict_proba(ITEMS),
        atol=1e-5,
    )
    before, after = (
        read_predictions(one.path / "predictions.csv", run.tags) for one in (original, run)
    )
    assert list(before) == list(after)
    np.testing.assert_allclose(list(after.values()), list(before.values()), atol=1e-5)
    kept = [read_calibration(one.path / "calibration.csv", run.tags) for one in (original, run)]
    np.testing.assert_allclose(kept[1][0], kept[0][0], atol=1e-5)
    np.testing.assert_array_equal(kept[1][1], kept[0][1])
    old, new = (stored(one.path / "decision.json") for one in (original, run))
    assert new["asked"] == old["asked"]
    assert new["calibrator"]["temperature"] == pytest.approx(
        old["calibrator"]["temperature"], rel=1e-3
    )


def test_its_meta_says_what_it_was_made_of_and_how(
    exported: RunFolder, tiny_run: RunFolder
) -> None:
    meta, original = exported.meta, tiny_run.meta
    assert meta.compressed_from == Original(name="tiny", model_files=original.model_files)
    assert meta.compress["dtype"] == "fp32"
    assert meta.compress["threads"] == 1
    assert meta.gate == "passed" == ParityReport.read(exported.path / "parity.json").gate
    size = sum(path.stat().st_size for path in (exported.path / "model").iterdir()) / 2**20
    assert meta.size_mib == pytest.approx(size)
    assert set(meta.model_files) == names(exported.path / "model")
    for fact in ("data", "seed", "steps", "train_seconds", "begun_on"):
        assert getattr(meta, fact) == getattr(original, fact)


def test_samples_for_another_machine_are_kept(exported: RunFolder) -> None:
    samples = stored(exported.path / "model" / "parity_samples.json")
    assert len(samples["texts"]) == len(samples["probabilities"]) == 7
    by_text = {(item.title, item.description): item for item in own_items(exported)}
    chosen = [by_text[title, description] for title, description in samples["texts"]]
    assert max(Counter(item.tag for item in chosen).values()) == 3
    np.testing.assert_allclose(
        exported.load_classifier().predict_proba(chosen), samples["probabilities"], atol=1e-6
    )


def test_what_it_was_judged_by_is_what_a_service_will_answer(export: Export) -> None:
    folder = export()
    run = RunFolder(folder)
    test = {row.id for row in run.split_rows() if row.split == "test"}
    alone = run.load_classifier()
    for item in own_items(run):
        if item.id in test:
            np.testing.assert_allclose(
                read_predictions(folder / "predictions.csv", run.tags)[item.id],
                alone.predict_proba([item])[0],
                atol=1e-6,
            )


def test_the_report_has_the_rows_that_no_model_has_seen(exported: RunFolder) -> None:
    parity = ParityReport.read(exported.path / "parity.json")
    assert [(one.name, one.rows) for one in parity.texts] == [("toy", 60), ("stream.csv", 3)]
    assert parity.texts[0].decisions == 0
    unseen = [row for row in exported.split_rows() if row.split != "train"]
    assert parity.labelled.rows == len(unseen) >= 20
    assert set(parity.labelled.f1) == set(exported.tags)
    told = f"the {len(unseen)} rows of toy that the run was not trained on"
    assert told in parity.labelled.explanation


@pytest.mark.slow
def test_without_rows_held_out_all_are_judged_and_those_out_of_fold_refitted(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    given = ["training.epochs=1", "decision.folds=2", "data.split.validation=0"]
    given += ["data.split.test=0", "name=tiny", f"runs_dir={tmp_path}"]
    run = RunFolder(train(tiny_config(*given)))
    folder = run_export(tmp_path, "compress=fp32")
    old, new = (read_calibration(one / "calibration.csv", run.tags) for one in (run.path, folder))
    np.testing.assert_allclose(new[0], old[0], atol=1e-4)
    assert "out of fold" in stored(folder / "decision.json")["fitted_on"]["source"]
    labelled = stored(folder / "parity.json")["labelled"]
    assert labelled["rows"] == 60
    assert labelled["explanation"].startswith("all 60 rows of toy, as only 0 of them")
    assert not (folder / "predictions.csv").exists()


def test_a_run_that_changes_too_much_is_refused_and_leaves_nothing(
    export: Export, tmp_path: Path
) -> None:
    with pytest.raises(ParityFailed, match="tiny is not exported") as error:
        export("compress.max_mib=0.001", "compress.max_shift=0")
    found = [problem.partition(":")[0] for problem in error.value.problems]
    assert found[:2] == ["max_shift", "max_mib"]
    assert "allowed 0.001" in str(error.value)
    assert any(problem.startswith("row t") for problem in error.value.problems)
    assert "--no-gate" in error.value.hint
    assert names(tmp_path / "runs") == {"tiny"}


def test_without_the_gate_it_is_written_and_says_so(export: Export) -> None:
    folder = export("compress.max_mib=0.001", "gate=false")
    run = open_run(str(folder), "runs")
    assert run.meta.gate == "skipped"
    (line,) = ParityReport.read(run.path / "parity.json").broken
    assert line.startswith("max_mib")


def test_the_decision_is_fitted_again_as_it_was_last_asked_for(
    export: Export, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "runs" / "tiny")
    change_decision(run, {"policy": "threshold", "target_precision": 0.5, "confidence": 0.5})
    folder = export("compress.max_changed=0.1")
    new = stored(folder / "decision.json")
    assert new["asked"] == stored(run.path / "decision.json")["asked"]
    assert new["policy"]["kind"] == "threshold"
    assert new["fitted_on"]["source"].endswith("predicted by the compressed model")
    compressed = RunFolder(folder)
    decided = load_decider(folder, compressed.load_classifier()).decide(ITEMS)
    assert len(decided.tags) == len(ITEMS)
    assert "would be published" in change_decision(compressed, {"target_precision": 0.6})


@pytest.mark.slow
def test_a_name_that_is_taken_is_refused_unless_an_export_may_go(
    export: Export, tmp_path: Path
) -> None:
    folder = export("compress=fp32")
    before = (folder / "meta.json").read_bytes()
    with pytest.raises(UserError, match="exists already") as error:
        export("compress=fp32")
    assert "--replace" in error.value.hint
    with pytest.raises(ParityFailed):
        export("compress=fp32", "compress.max_mib=0.001", "replace=true")
    assert (folder / "meta.json").read_bytes() == before
    export("compress=fp16", "name=tiny-fp32", "replace=true")
    assert RunFolder(folder).meta.compress["name"] == "fp16"
    assert names(tmp_path / "runs") == {"tiny", "tiny-fp32"}


def test_a_trained_run_is_never_replaced(export: Export) -> None:
    with pytest.raises(UserError, match="was trained, not exported"):
        export("name=tiny", "replace=true")


@pytest.mark.parametrize(
    ("where", "error"), [("save_rule", RuntimeError), ("hash_files", KeyboardInterrupt)]
)
def test_what_fails_in_the_middle_leaves_nothing(
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: type[BaseException],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, where, fail)
    with pytest.raises(error):
        export("compress=fp32")
    assert names(tmp_path / "runs") == {"tiny"}


@pytest.mark.slow
def test_what_a_kill_left_is_cleared_away(export: Export, tmp_path: Path) -> None:
    left = tmp_path / "runs" / ".tiny-fp32.part"
    left.mkdir()
    (left / "stray.txt").write_text("half")
    assert "stray.txt" not in names(export("compress=fp32"))
    assert names(tmp_path / "runs") == {"tiny", "tiny-fp32"}


def test_two_at_once_are_refused(export: Export, tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "runs" / ".tiny-fp32.lock")
    with lock, pytest.raises(UserError, match="another process is writing"):
        export("compress=fp32")
    assert not (tmp_path / "runs" / "tiny-fp32").exists()


def test_a_compressed_run_is_not_compressed_again(exported: RunFolder) -> None:
    with pytest.raises(UserError, match="approach onnx, expected transformer") as error:
        run_export(exported.path.parent, "run=tiny-fp32", "name=again")
    assert "compressed already" in error.value.hint


LINEAR = LinearConfig(
    approach="linear", name="linear", word_ngrams=1, char_ngrams=3, C=10.0, balanced=False
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("approach", "hint"),
    [
        ("linear", "small and fast as it is"),
        ("ensemble", "distill.teachers=[RUN]"),
    ],
)
def test_other_approaches_are_refused_with_a_way_out(
    tiny_config: Callable[..., TrainConfig],
    copy_run: Callable[..., RunFolder],
    tmp_path: Path,
    approach: str,
    hint: str,
) -> None:
    members = [str(copy_run(name).path) for name in ("one", "two")]
    model = {
        "linear": LINEAR,
        "ensemble": EnsembleConfig(approach="ensemble", name="ensemble", runs=members),
    }[approach]
    config = tiny_config("name=x", f"runs_dir={tmp_path / 'runs'}")
    train(config.model_copy(update={"model": model}))
    given = ["run=x", f"runs_dir={tmp_path / 'runs'}"]
    with pytest.raises(UserError, match=f"approach {approach}, expected transformer") as error:
        export_run(load_config(ExportConfig, compose_config("export", given)))
    assert hint in error.value.hint
    assert names(tmp_path / "runs") == {"one", "two", "x"}


def test_novelty_is_refused(export: Export, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "tiny")
    decision = run.config.decision.model_copy(update={"ood": "knn"})
    (run.path / "decision.json").unlink()
    save_config(run.config.model_copy(update={"decision": decision}), run.path / "config.yaml")
    with pytest.raises(UserError, match=r"decision\.ood=knn") as error:
        export()
    assert "decision.ood=none" in error.value.hint


@pytest.mark.slow
def test_a_source_that_is_gone_or_changed_is_an_error(export: Export, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "tiny")
    gone = tmp_path / "gone.csv"
    data = run.config.data.model_copy(update={"path": str(gone)})
    save_config(run.config.model_copy(update={"data": data}), run.path / "config.yaml")
    with pytest.raises(UserError, match="made from files that are not here"):
        export()
    gone.write_text(
        "id,created_on,title,description,tag\n1,2020-01-01,apple,,fruit\n"
        "2,2020-01-02,iron,,metal\n3,2020-01-03,rain,,weather\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="are not those that tiny was made from"):
        export()
    assert names(tmp_path / "runs") == {"tiny"}


@pytest.mark.slow
def test_rows_that_can_not_be_read_are_an_error_before_any_work(
    export: Export, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("id,title\n", encoding="utf-8")
    for path in (empty, tmp_path / "nowhere.csv"):
        with pytest.raises(UserError, match=path.name):
            export(f"rows={quoted(path)}")
    assert names(tmp_path / "runs") == {"tiny"}


@pytest.mark.slow
def test_the_leaderboard_and_evaluation_take_it_like_any_run(
    exported: RunFolder, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported.path.parent, tmp_path / "runs")) / "tiny-fp32"
    standings, unfinished, damaged = load_standings(folder.parent)
    assert [one.run.name for one in standings] == ["tiny", "tiny-fp32"]
    assert (unfinished, damaged) == ([], [])
    given = [
        f"run={folder}", "behaviour=off", "explore=off", "resamples=100", "latency.items=10",
        "latency.warmup=1", f"against={folder.parent / 'tiny'}",
    ]  # fmt: skip
    config = load_config(EvaluateConfig, compose_config("evaluate", given))
    report = report_evaluation(evaluate_run(config))
    assert report.data.own
    assert report.comparison.num_samples == 12
    assert report.comparison.mcnemar.broken == 0
    assert (folder / "report.html").exists()
