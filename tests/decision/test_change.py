import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tagger.config.schema import FrozenConfig, LinearConfig
from tagger.data.items import Item
from tagger.decision.change import change_decision
from tagger.decision.decider import FILE, load_decider
from tagger.decision.policies import REVIEW
from tagger.errors import UserError
from tagger.runs import RunFolder, read_calibration
from tagger.training.train_run import train

ITEMS = [
    Item("1", "apple pear plum", "sweet juice of the harvest"),
    Item("2", "iron", "rain"),
    Item("3", "fog", "a copper bolt, a peel"),
]
NEVER = {"policy": "threshold", "target_precision": 0.999, "confidence": 0.99}
"""More than twelve rows can promise."""

EASY = {"policy": "threshold", "target_precision": 0.5, "confidence": 0.5}


def decision(run):
    return json.loads((run.path / FILE).read_text(encoding="utf-8"))


def decided(run):
    return load_decider(run.path, run.load_classifier()).decide(ITEMS)


@pytest.fixture(scope="module")
def by_words(tiny_config, tmp_path_factory):
    """Trains a linear model on the toy file with some decision."""
    runs_dir = tmp_path_factory.mktemp("words")
    model = LinearConfig(
        approach="linear", name="linear", word_ngrams=1, char_ngrams=3, C=10.0,
        balanced=False,
    )  # fmt: skip

    def make(name, *overrides):
        config = tiny_config(f"name={name}", f"runs_dir={runs_dir}", *overrides)
        return RunFolder(train(config.model_copy(update={"model": model})))

    return make


def test_another_decision_needs_no_training_and_leaves_the_model_alone(copy_run):
    run = copy_run()
    files = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    before = decided(run)
    assert (before.tags != REVIEW).all()
    change_decision(run, NEVER)
    changed = {path.name for path, content in files.items() if path.read_bytes() != content}
    assert changed == {FILE}
    after = decided(run)
    assert (after.tags == REVIEW).all()
    np.testing.assert_array_equal(after.raw, before.raw)


def test_what_is_not_given_stays_as_the_run_was_trained(copy_run):
    run = copy_run()
    before = decision(run)["asked"]
    change_decision(run, {"policy": "threshold", "target_precision": 0.6})
    assert decision(run)["asked"] == before | {"policy": "threshold", "target_precision": 0.6}


def test_what_is_not_given_stays_as_it_was_last_changed_to(copy_run):
    run = copy_run()
    change_decision(run, EASY | {"calibration": "none"})
    change_decision(run, {"target_precision": 0.6})
    asked = decision(run)["asked"]
    assert (asked["policy"], asked["target_precision"], asked["calibration"]) == (
        "threshold",
        0.6,
        "none",
    )


@pytest.mark.parametrize("part", ["calibrator", "policy"])
def test_what_was_last_asked_for_outlives_damage_elsewhere(copy_run, part):
    run = copy_run()
    change_decision(run, EASY | {"calibration": "none"})
    before = decision(run)["asked"]
    (run.path / FILE).write_text(json.dumps(decision(run) | {part: "damaged"}))
    change_decision(run, {"target_precision": 0.6})
    assert decision(run)["asked"] == before | {"target_precision": 0.6}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "{",
        lambda content: "[]",
        lambda content: "[" * 100_000,
        lambda content: json.dumps({key: content[key] for key in content if key != "asked"}),
        lambda content: json.dumps(content | {"asked": None}),
        lambda content: json.dumps(content | {"asked": content["asked"] | {"policy": "magic"}}),
        lambda content: json.dumps(
            content | {"asked": content["asked"] | {"target_precision": 1.5}}
        ),
    ],
)
def test_where_what_was_last_asked_for_is_damaged_it_is_as_the_run_was_trained(copy_run, damage):
    run = copy_run()
    trained = run.config.decision.model_dump()
    change_decision(run, EASY | {"calibration": "none"})
    (run.path / FILE).write_text(damage(decision(run)))
    change_decision(run, {"target_precision": 0.6})
    assert decision(run)["asked"] == trained | {"target_precision": 0.6}


def test_what_another_version_was_asked_for_last_counts_as_far_as_it_is_known(copy_run):
    run = copy_run()
    change_decision(run, EASY | {"calibration": "none"})
    content = decision(run)
    before = dict(content["asked"])
    content["asked"]["magic"] = 1
    del content["asked"]["ood_quantile"]
    (run.path / FILE).write_text(json.dumps(content))
    change_decision(run, {"target_precision": 0.6})
    assert decision(run)["asked"] == before | {"target_precision": 0.6}


def test_a_decision_that_is_lost_is_made_as_the_run_was_trained(copy_run):
    run = copy_run()
    before = decision(run)
    (run.path / FILE).unlink()
    change_decision(run, {})
    after = decision(run)
    assert after["asked"] == before["asked"]
    assert after["policy"] == before["policy"]
    assert after["calibrator"]["temperature"] == pytest.approx(
        before["calibrator"]["temperature"], rel=1e-4
    )


def test_the_message_says_what_the_decision_does_to_the_runs_own_rows(copy_run):
    run = copy_run()
    probabilities, true, _ = read_calibration(run.path / "calibration.csv", run.tags)
    message = change_decision(run, EASY | {"calibration": "none"})
    published = probabilities.max(axis=1) >= decision(run)["policy"]["thresholds"][0]
    precision = (probabilities.argmax(axis=1) == true)[published].mean()
    assert message == (
        f"copy: policy threshold; of the 12 rows that it is fitted to {published.mean():.1%} "
        f"would be published, with precision {precision:.3f}"
    )
    assert decision(run)["on_these_rows"]["coverage"] == published.mean()
    assert decision(run)["fitted_on"] == {"rows": 12, "source": "12 rows of calibration.csv"}


def test_where_nothing_is_published_the_message_says_so(copy_run):
    run = copy_run()
    assert change_decision(run, NEVER) == (
        "copy: policy threshold; of the 12 rows that it is fitted to none would be published"
    )
    assert decision(run)["on_these_rows"]["published"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
def test_a_changed_run_decides_like_one_that_was_trained_so(by_words, calibration):
    given = {**EASY, "calibration": calibration}
    # Trained with a decision of its own, out of fold both times: the same calibration rows.
    run = by_words(f"changed-{calibration}", "decision.folds=3")
    overrides = [f"decision.{key}={value}" for key, value in given.items()]
    trained = by_words(f"trained-{calibration}", "decision.folds=3", *overrides)
    change_decision(run, given)
    for part in ("calibrator", "policy", "ood_threshold", "on_these_rows"):
        assert decision(run)[part] == decision(trained)[part], part
    np.testing.assert_array_equal(decided(run).tags, decided(trained).tags)
    np.testing.assert_array_equal(decided(run).probabilities, decided(trained).probabilities)


def test_a_decision_can_be_changed_back(copy_run):
    run = copy_run()
    before = decided(run)
    change_decision(run, NEVER)
    change_decision(run, {"policy": "argmax", "target_precision": 0.98, "confidence": 0.95})
    after = decided(run)
    np.testing.assert_array_equal(after.tags, before.tags)
    # Calibration rows are kept with eight digits.
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"target_precision": 1.5}, "target_precision"),
        ({"policy": "magic"}, "policy"),
        ({"alpha": "much"}, "alpha"),
        ({"thresholds": [0.5]}, "thresholds"),
    ],
)
def test_values_out_of_range_are_refused_by_key_and_change_nothing(copy_run, given, key):
    run = copy_run()
    before = (run.path / FILE).read_bytes()
    with pytest.raises(UserError, match="cannot be changed to this") as error:
        change_decision(run, given)
    assert any(problem.startswith(f"{key}: ") for problem in error.value.problems)
    assert (run.path / FILE).read_bytes() == before


def test_a_run_that_kept_no_rows_says_how_to_get_some(by_words):
    run = by_words("no-rows", "data.split.validation=0")
    before = (run.path / FILE).read_bytes()
    with pytest.raises(UserError, match="nothing to fit a decision to") as error:
        change_decision(run, EASY)
    assert "decision.folds=5" in error.value.hint
    assert (run.path / FILE).read_bytes() == before


def test_rows_that_are_lost_or_damaged_are_named(copy_run):
    run = copy_run()
    rows = run.path / "calibration.csv"
    for content in (b"", b"id,true\n", bytes(range(256)), rows.read_bytes()[:-30] + b"\nx,y\n"):
        rows.write_bytes(content)
        with pytest.raises(UserError, match=r"calibration\.csv"):
            change_decision(run, EASY)
    rows.unlink()
    with pytest.raises(UserError, match=r"calibration\.csv cannot be read"):
        change_decision(run, EASY)


def test_ood_scores_cannot_be_asked_for_afterwards(copy_run):
    with pytest.raises(UserError, match=r"trained with decision\.ood=none"):
        change_decision(copy_run(), {"ood": "knn"})


@pytest.fixture(scope="module")
def with_ood(tiny_config, tmp_path_factory):
    """A run of a frozen encoder that asks about items unlike those that it was trained on."""
    config = tiny_config(
        "name=novel", f"runs_dir={tmp_path_factory.mktemp('novel')}",
        "decision.ood=knn", "decision.ood_quantile=0.9",
    )  # fmt: skip
    encoder = config.model.model_dump(
        include={"name", "encoder", "revision", "sha256", "random", "pooling", "max_length"}
    )
    model = FrozenConfig.model_validate(
        encoder | {"approach": "frozen", "C": 10.0, "balanced": False}
    )
    return RunFolder(train(config.model_copy(update={"model": model})))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["{", None])
def test_a_damaged_decision_of_a_run_with_ood_can_be_made_again(with_ood, tmp_path, damage):
    run = RunFolder(Path(shutil.copytree(with_ood.path, tmp_path / "copy")))
    before = decision(run)
    assert before["ood_threshold"] is not None
    if damage is None:
        (run.path / FILE).unlink()
    else:
        (run.path / FILE).write_text(damage)
        with pytest.raises(UserError, match="Make it again: tagger decide"):
            decided(run)
    change_decision(run, {})
    after = decision(run)
    assert after["asked"] == before["asked"]
    assert after["policy"] == before["policy"]
    # OOD scores are kept with six digits.
    assert after["ood_threshold"] == pytest.approx(before["ood_threshold"], abs=1e-5)
    assert decided(run).tags.tolist() == decided(with_ood).tags.tolist()


def test_ood_scores_stays_when_something_else_is_changed(with_ood, tmp_path):
    run = RunFolder(Path(shutil.copytree(with_ood.path, tmp_path / "copy")))
    limit = decision(run)["ood_threshold"]
    change_decision(run, {"calibration": "none"})
    assert decision(run)["ood_threshold"] == pytest.approx(limit, abs=1e-5)
    change_decision(run, {"ood": "none"})
    assert decision(run)["ood_threshold"] is None
    change_decision(run, {"ood": "knn"})
    assert decision(run)["ood_threshold"] == pytest.approx(limit, abs=1e-5)
