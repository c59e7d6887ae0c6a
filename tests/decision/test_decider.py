import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import binom

from tagger.data.items import Item
from tagger.decision.calibrators import Isotonic, Temperature, Unchanged, Vector
from tagger.decision.decider import (
    FILE,
    OOD_FILE,
    PLAIN,
    CalibrationSet,
    Decider,
    Rule,
    fit_rule,
    load_decider,
    load_rule,
    refit_decider,
    refit_rule,
    save_rule,
)
from tagger.decision.ood import OodDetector
from tagger.decision.policies import (
    NEVER,
    REVIEW,
    Argmax,
    Conformal,
    Threshold,
    count_decisions,
    fit_policy,
    has_answer,
)
from tagger.errors import UserError
from tagger.runs import write_calibration

TAGS = ("a", "b", "c")
HALF_SURE = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])
SUMS = 1e-12


class OnItsPlace:
    """A stand-in with an encoder: an item's title is the place of its vector, (2,)."""

    tags = TAGS
    vector_width = 2

    def __init__(self):
        self.embedded = 0

    def embed(self, items):
        self.embedded += 1
        return np.array([[float(part) for part in item.title.split()] for item in items])

    def predict_and_embed(self, items):
        vectors = self.embed(items)
        return np.tile([0.9, 0.06, 0.04], (len(vectors), 1)), vectors

    def predict_proba(self, items):
        return self.predict_and_embed(items)[0]


def simulated(random, count, sharpness=1.0):
    """Rows whose true tag has the chance that their logits say; probabilities are too sharp."""
    logits = random.normal(0, 2.5, (count, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = (chances.cumsum(axis=1) < random.random((count, 1))).sum(axis=1).clip(max=2)
    given = np.exp(sharpness * logits)
    return given / given.sum(axis=1, keepdims=True), true, chances


def rows(count=300, seed=0, sharpness=2.0, ood=False):
    random = np.random.default_rng(seed)
    probabilities, true, _ = simulated(random, count, sharpness)
    strange = random.random(count) if ood else None
    return CalibrationSet(probabilities, true, strange, f"{count} simulated rows")


def test_probabilities_are_corrected_then_decided_on_then_asked_about_if_strange():
    # Softened, the first row's 0.6 is below the threshold that it would have reached as it was.
    rule = Rule(Temperature(2.0), Threshold([0.55, 0.0, 0.55]), ood_threshold=0.5)
    decisions = rule.apply(HALF_SURE, np.array([0.1, 0.5, 0.2, 0.0]))
    np.testing.assert_array_equal(decisions.raw, HALF_SURE)
    np.testing.assert_allclose(decisions.probabilities, Temperature(2.0).apply(HALF_SURE))
    assert decisions.probabilities[0, 0] < 0.55 < HALF_SURE[0, 0]
    assert decisions.tags.tolist() == [REVIEW, 1, 2, REVIEW]
    stranger = rule.apply(HALF_SURE, np.array([0.1, 0.51, 0.6, 0.9]))
    assert stranger.tags.tolist() == [REVIEW] * 4
    np.testing.assert_array_equal(stranger.probabilities, decisions.probabilities)


def test_a_correction_can_change_the_tag():
    rule = Rule(Vector([1.0] * 3, [0.0, 1.0, 0.0]), Argmax(), None)
    assert PLAIN.apply(HALF_SURE[:1], None).tags.tolist() == [0]
    assert rule.apply(HALF_SURE[:1], None).tags.tolist() == [1]


def test_the_plain_rule_changes_nothing_and_publishes_the_most_probable_tag():
    decisions = PLAIN.apply(HALF_SURE, None)
    assert decisions.probabilities is decisions.raw is HALF_SURE
    assert decisions.tags.tolist() == [0, 1, 2, REVIEW]


def test_the_correction_is_fitted_before_the_policy(asked):
    given = rows()
    rule = fit_rule(asked(policy="threshold", target_precision=0.8, confidence=0.9), given)
    assert rule.calibrator.temperature == pytest.approx(2.0, rel=0.25)
    threshold = rule.policy.thresholds[0]
    corrected = rule.calibrator.apply(given.probabilities).max(axis=1)
    assert np.abs(corrected - threshold).min() < SUMS
    assert np.abs(given.probabilities.max(axis=1) - threshold).min() > SUMS


@pytest.mark.parametrize(
    "calibrator",
    [
        Unchanged(),
        Temperature(0.05),
        Vector([1.0, 2.0, 3.0], [0.0, 5.0, -1.0]),  # it prefers the second tag
        Isotonic([[0.0, 1.0]] * 3, [[0.0, 0.1], [0.0, 0.9], [0.0, 0.2]]),
    ],
    ids=["none", "temperature", "vector", "isotonic"],
)
@pytest.mark.parametrize(
    "policy", [Argmax(), Threshold([0.0] * 3), Conformal([0.0, 0.0, 2.0]), Conformal([0.5] * 3)]
)
def test_rows_without_an_answer_go_to_a_person_whatever_the_correction_and_the_policy(
    calibrator, policy
):
    level = np.array([[0.4, 0.4, 0.2], [0.1, 0.45, 0.45], [1 / 3, 1 / 3, 1 / 3]])
    rounded = np.array([[0.5 + 1e-12, 0.5 - 1e-12, 0.0]])
    given = np.vstack([level, HALF_SURE[:3], rounded])
    decided = Rule(calibrator, policy, None).apply(given, None).tags
    corrected = calibrator.apply(given)
    assert decided[[0, 1, 2, 6]].tolist() == [REVIEW] * 4
    # The policy itself has the word on the others.
    assert decided[3:6].tolist() == policy.decide(corrected)[3:6].tolist()


def test_a_correction_that_makes_a_tie_takes_no_answer_away():
    # Shifted, both tags are level; the model itself was sure of the first.
    evens = Vector([1.0, 1.0], [0.0, float(np.log(4))])
    given = np.array([[0.8, 0.2]])
    np.testing.assert_allclose(evens.apply(given), [[0.5, 0.5]])
    assert Rule(evens, Argmax(), None).apply(given, None).tags[0] != REVIEW


@pytest.mark.parametrize("kind", ["none", "temperature", "vector", "isotonic"])
@pytest.mark.parametrize("policy", ["argmax", "threshold", "conformal"])
def test_every_correction_goes_with_every_policy(asked, kind, policy):
    given = rows()
    rule = fit_rule(
        asked(calibration=kind, policy=policy, target_precision=0.8, confidence=0.8, alpha=0.2),
        given,
    )
    decisions = rule.apply(given.probabilities, None)
    np.testing.assert_allclose(decisions.probabilities.sum(axis=1), 1)
    assert set(decisions.tags.tolist()) <= {REVIEW, 0, 1, 2}
    assert (decisions.tags != REVIEW).mean() > 0.3
    assert rule.ood_threshold is None


def test_the_ood_threshold_is_a_quantile_and_only_rows_within_it_fit_the_policy(asked):
    given = rows(ood=True)
    config = asked(
        policy="threshold", target_precision=0.8, confidence=0.9,
        ood="knn", ood_quantile=0.9,
    )  # fmt: skip
    rule = fit_rule(config, given)
    assert rule.ood_threshold == pytest.approx(np.quantile(given.ood_scores, 0.9))
    decided = rule.apply(given.probabilities, given.ood_scores).tags
    assert (decided[given.ood_scores > rule.ood_threshold] == REVIEW).all()
    known = given.ood_scores <= rule.ood_threshold
    assert known.mean() == pytest.approx(0.9, abs=0.01)
    # Were the strange rows all wrong, they would spoil the threshold if they took part.
    spoiled = np.where(known, given.true, (given.probabilities.argmax(axis=1) + 1) % 3)
    other = CalibrationSet(given.probabilities, spoiled, given.ood_scores, "spoiled")
    plain = asked(**config.model_dump() | {"calibration": "none"})
    clean_rule, spoiled_rule = fit_rule(plain, given), fit_rule(plain, other)
    assert spoiled_rule.policy == clean_rule.policy


def test_without_rows_the_rule_is_the_plain_one(asked):
    empty = CalibrationSet(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), None, "0 rows")
    config = asked(policy="threshold", calibration="isotonic", ood="knn")
    assert fit_rule(config, empty) == PLAIN


def test_a_run_without_a_decision_publishes_the_most_probable_tag(copy_run):
    run = copy_run()
    (run.path / FILE).unlink()
    classifier = run.load_classifier()
    items = [Item(str(n), title, "") for n, title in enumerate(["apple pear", "iron", "storm"])]
    decisions = load_decider(run.path, classifier).decide(items)
    probabilities = classifier.predict_proba(items)
    np.testing.assert_array_equal(decisions.probabilities, probabilities)
    assert decisions.tags.tolist() == probabilities.argmax(axis=1).tolist()


def test_a_trained_run_decides_by_its_own_rule(tiny_run):
    rule = load_rule(tiny_run.path, 3)
    assert isinstance(rule.calibrator, Temperature)
    classifier = tiny_run.load_classifier()
    items = [Item("1", "apple pear", "juice"), Item("2", "rain", "")]
    decisions = load_decider(tiny_run.path, classifier).decide(items)
    np.testing.assert_array_equal(decisions.raw, classifier.predict_proba(items))
    np.testing.assert_array_equal(decisions.probabilities, rule.calibrator.apply(decisions.raw))
    assert np.abs(decisions.probabilities - decisions.raw).max() > 1e-3


@pytest.mark.parametrize(
    "rule",
    [
        Rule(Unchanged(), Argmax(), None),
        Rule(Temperature(1.7), Threshold([0.5, 2.0, 0.123456789]), None),
        Rule(Vector([1.0, 2.0, 0.5], [0.1, -0.3, 0.0]), Conformal([0.2, 0.0, 0.4]), None),
        Rule(Isotonic([[0.0, 1.0]] * 3, [[0.0, 0.9]] * 3), Threshold([0.4] * 3), 0.75),
    ],
    ids=["plain", "threshold", "conformal", "ood"],
)
def test_saved_and_loaded_a_rule_decides_alike(rule, tmp_path, asked):
    save_rule(tmp_path, asked(ood="knn"), rule, None)
    again = load_rule(tmp_path, 3)
    assert again == rule
    given = rows(ood=True)
    one, other = (r.apply(given.probabilities, given.ood_scores) for r in (rule, again))
    np.testing.assert_array_equal(one.tags, other.tags)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_the_file_says_what_was_asked_for_and_what_it_does_to_its_own_rows(tmp_path, asked):
    given = rows()
    config = asked(policy="threshold", target_precision=0.8, confidence=0.9)
    rule = fit_rule(config, given)
    returned = save_rule(tmp_path, config, rule, given)
    content = json.loads((tmp_path / FILE).read_text())
    assert content["asked"] == config.model_dump()
    assert content["fitted_on"] == {"rows": 300, "source": "300 simulated rows"}
    decided = rule.apply(given.probabilities, None).tags
    assert content["on_these_rows"] == returned.model_dump()
    assert returned == count_decisions(decided, given.true, 0.9)
    assert returned.precision_low < returned.precision
    assert 0 < returned.coverage < 1


def test_without_rows_the_file_promises_nothing(tmp_path, asked):
    assert save_rule(tmp_path, asked(), PLAIN, None) is None
    empty = CalibrationSet(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), None, "0 rows")
    assert save_rule(tmp_path, asked(), PLAIN, empty) is None
    content = json.loads((tmp_path / FILE).read_text())
    assert content["on_these_rows"] is None
    assert content["fitted_on"] == {"rows": 0, "source": "0 rows"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"temperature"', '"magic"'),
        lambda text: text.replace('"argmax"', '"magic"'),
        lambda text: text.replace('"ood_threshold"', '"limit"'),
        lambda text: json.dumps(json.loads(text) | {"policy": "argmax"}),
    ],
)
def test_a_damaged_decision_is_refused_with_the_way_out(tmp_path, asked, damage):
    save_rule(tmp_path, asked(), Rule(Temperature(1.5), Argmax(), None), None)
    path = tmp_path / FILE
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"decision\.json is damaged") as error:
        load_rule(tmp_path, 3)
    assert f"tagger decide --run {tmp_path}" in str(error.value)


@pytest.mark.parametrize("asked_for", [None, {}, "argmax", {"policy": "magic"}])
def test_what_was_asked_for_takes_no_part_in_deciding(tmp_path, asked, asked_for):
    rule = Rule(Temperature(1.5), Argmax(), None)
    save_rule(tmp_path, asked(), rule, None)
    path = tmp_path / FILE
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"asked": asked_for}))
    assert load_rule(tmp_path, 3) == rule
    del content["asked"]
    path.write_text(json.dumps(content))
    assert load_rule(tmp_path, 3) == rule


def test_what_earlier_versions_wrote_is_read(tmp_path, asked, run_with_ood):
    folder = run_with_ood()
    rule = load_rule(folder, 2)
    content = json.loads((folder / FILE).read_text())
    del content["schema_version"]
    content["novelty_limit"] = content.pop("ood_threshold")
    (folder / FILE).write_text(json.dumps(content))
    (folder / OOD_FILE).rename(folder / "novelty.safetensors")
    assert load_rule(folder, 2) == rule
    assert load_decider(folder, OnItsPlace()).detector is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": {"kind": "threshold", "thresholds": "high"}},
        {"policy": {"kind": "threshold", "thresholds": [0.5, None, 0.5]}},
        {"policy": {"kind": "conformal", "least": [[0.5], [0.5], [0.5]]}},
        {"calibrator": {"kind": "temperature", "temperature": None}},
        {"calibrator": {"kind": "vector", "scale": [1.0] * 3, "shift": ["0"] * 3}},
        {"calibrator": {"kind": "isotonic", "inputs": [0.0] * 3, "outputs": [[0.0]] * 3}},
        {"calibrator": {"kind": "temperature", "temperature": 0.0}},
        {"ood_threshold": "far"},
    ],
)
def test_a_decision_without_numbers_is_refused(tmp_path, asked, changes):
    save_rule(tmp_path, asked(), PLAIN, None)
    path = tmp_path / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=r"decision\.json"):
        load_rule(tmp_path, 3)


@pytest.mark.parametrize("count", [0, 4])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("thresholds", lambda n: {"policy": {"kind": "threshold", "thresholds": [0.5] * n}}),
        ("least", lambda n: {"policy": {"kind": "conformal", "least": [0.5] * n}}),
        ("scale", lambda n: vector_of(n, 3)),
        ("shift", lambda n: vector_of(3, n)),
        ("inputs", lambda n: isotonic_of(n, 3)),
        ("outputs", lambda n: isotonic_of(3, n)),
    ],
)
def test_a_decision_about_another_number_of_tags_is_refused(tmp_path, asked, name, changes, count):
    save_rule(tmp_path, asked(), PLAIN, None)
    path = tmp_path / FILE
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | changes(3)))
    load_rule(tmp_path, 3)
    path.write_text(json.dumps(written | changes(count)))
    with pytest.raises(UserError, match=f"{name} is about {count} tags, there are 3") as error:
        load_rule(tmp_path, 3)
    assert "decision.json is damaged" in str(error.value)
    assert f"tagger decide --run {tmp_path}" in error.value.hint


def vector_of(scales, shifts):
    values = {"kind": "vector", "scale": [1.0] * scales, "shift": [0.0] * shifts}
    return {"calibrator": values}


def isotonic_of(inputs, outputs):
    values = {
        "kind": "isotonic",
        "inputs": [[0.0, 1.0]] * inputs,
        "outputs": [[0.0, 1.0]] * outputs,
    }
    return {"calibrator": values}


KNOWN = np.array([[x, y] for x in (1.0, 1.1, 1.2, 1.3) for y in (0.0, 0.1, 0.2, 0.3)])
NEAR, FAR = Item("near", "1.15 0.15", ""), Item("far", "-3 8", "")


@pytest.fixture
def run_with_ood(tmp_path, asked):
    """A folder with a rule whose limit all of `KNOWN` keep, and the detector that it needs."""

    def make():
        detector = OodDetector.fit(KNOWN)
        detector.save(tmp_path / OOD_FILE)
        limit = float(detector.score(KNOWN).max()) + 0.05
        save_rule(tmp_path, asked(ood="knn"), Rule(Unchanged(), Argmax(), limit), None)
        return tmp_path

    return make


def test_what_is_strange_goes_to_a_person_however_sure_the_model_is(run_with_ood):
    classifier = OnItsPlace()
    decider = load_decider(run_with_ood(), classifier)
    decisions = decider.decide([NEAR, FAR, NEAR])
    assert decisions.tags.tolist() == [0, REVIEW, 0]
    assert (decisions.probabilities[1] == decisions.probabilities[0]).all()
    assert classifier.embedded == 1, "the encoder's work is done once"
    assert decider.tags == TAGS


def test_without_ood_scores_the_same_items_are_all_published():
    decider = Decider(OnItsPlace(), PLAIN, None)
    assert decider.decide([NEAR, FAR]).tags.tolist() == [0, 0]


def test_items_are_decided_one_by_one_as_they_are_together(run_with_ood):
    decider = load_decider(run_with_ood(), OnItsPlace())
    items = [NEAR, FAR, Item("x", "1 1", ""), Item("y", "1.2 0.3", "")]
    together = decider.decide(items).tags.tolist()
    assert together == [int(decider.decide([item]).tags[0]) for item in items]


def test_ood_scores_that_is_missing_is_named(run_with_ood):
    folder = run_with_ood()
    (folder / OOD_FILE).unlink()
    with pytest.raises(UserError, match=r"ood\.safetensors cannot be read"):
        load_decider(folder, OnItsPlace())


@pytest.mark.parametrize("content", [b"", bytes(range(256))])
def test_ood_scores_that_is_damaged_is_named(run_with_ood, content):
    folder = run_with_ood()
    (folder / OOD_FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"ood\.safetensors cannot be read"):
        load_decider(folder, OnItsPlace())


@pytest.mark.parametrize("names", [set(), {"units", "means"}])
def test_ood_scores_of_no_kind_is_named(run_with_ood, names):
    folder = run_with_ood()
    arrays = {name: np.zeros((2, 2), dtype=np.float32) for name in names}
    save_file(arrays, folder / OOD_FILE)
    with pytest.raises(UserError, match=r"ood\.safetensors holds") as error:
        load_decider(folder, OnItsPlace())
    assert str(sorted(names)) in str(error.value)


def keep_rows(folder, given):
    """Write the rows into a run folder, as training does."""
    items = [Item(str(n), "text", "", tag=TAGS[tag]) for n, tag in enumerate(given.true)]
    write_calibration(
        folder / "calibration.csv", items, TAGS, given.probabilities, given.ood_scores
    )


def of_two_files(count=600):
    """Rows of which every third is from a file with wrong labels."""
    given = rows(count=count, sharpness=1.0)
    files = ["noisy" if number % 3 == 0 else "clean" for number in range(count)]
    # Of the clean file, every row is right.
    true = np.where(np.array(files) == "clean", given.probabilities.argmax(axis=1), given.true)
    return CalibrationSet(given.probabilities, true, None, f"{count} rows", files)


def keep_rows_of_files(folder, given):
    items = [
        Item(str(number), "text", "", tag=TAGS[tag], source=source)
        for number, (tag, source) in enumerate(zip(given.true, given.row_sources, strict=True))
    ]
    write_calibration(folder / "calibration.csv", items, TAGS, given.probabilities, None)


def test_a_promise_for_each_file_can_be_fitted_anew(tmp_path, asked):
    given = of_two_files()
    keep_rows_of_files(tmp_path, given)
    config = asked(policy="threshold", target_precision=0.9, calibration="none")
    each = config.model_copy(update={"scope": "per_source"})
    overall, kept = refit_rule(tmp_path, TAGS, config)
    rule, _ = refit_rule(tmp_path, TAGS, each)
    assert list(kept.row_sources) == given.row_sources
    assert rule.policy.thresholds == pytest.approx(fit_rule(each, given).policy.thresholds)
    assert overall.policy.thresholds[0] < rule.policy.thresholds[0] < 1
    noisy = np.array(given.row_sources) == "noisy"
    for one, enough in ((overall, False), (rule, True)):
        decided = one.apply(given.probabilities, None).tags
        published = noisy & (decided != REVIEW)
        assert ((decided == given.true)[published].mean() >= 0.9) == enough


def test_what_a_rule_was_fitted_to_says_the_share_of_each_file(tmp_path, asked):
    given = of_two_files()
    save_rule(tmp_path, asked(), fit_rule(asked(), given), given)
    fitted_on = json.loads((tmp_path / FILE).read_text())["fitted_on"]
    assert fitted_on == {"rows": 600, "source": "600 rows: noisy 33.3%, clean 66.7%"}
    assert rows().described == "300 simulated rows"


def test_rows_of_one_file_keep_the_promise_of_each_where_they_keep_that_of_all(tmp_path, asked):
    # Runs that were made before rows had a source are of one file.
    keep_rows(tmp_path, rows())
    config = asked(policy="threshold", target_precision=0.8)
    each = config.model_copy(update={"scope": "per_source"})
    assert refit_rule(tmp_path, TAGS, each)[0] == refit_rule(tmp_path, TAGS, config)[0]


@pytest.mark.parametrize("policy", ["argmax", "threshold", "conformal"])
def test_a_rule_that_is_fitted_anew_is_the_one_that_training_would_have_fitted(
    tmp_path, asked, policy
):
    given = rows()
    config = asked(policy=policy, target_precision=0.8, confidence=0.9)
    keep_rows(tmp_path, given)
    again, _ = refit_rule(tmp_path, TAGS, config)
    expected = fit_rule(config, given)
    fresh = rows(seed=1).probabilities
    # Probabilities are kept with eight digits.
    np.testing.assert_allclose(
        again.apply(fresh, None).probabilities, expected.apply(fresh, None).probabilities, atol=1e-4
    )
    changed = again.apply(fresh, None).tags != expected.apply(fresh, None).tags
    assert changed.mean() < 0.01


def test_without_rows_nothing_can_be_fitted_anew(tmp_path, asked):
    empty = CalibrationSet(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), None, "")
    keep_rows(tmp_path, empty)
    with pytest.raises(UserError, match="nothing to fit a decision to") as error:
        refit_rule(tmp_path, TAGS, asked(policy="threshold"))
    assert "decision.folds=5" in error.value.hint


def test_ood_scores_that_a_run_was_not_trained_with_are_refused(tmp_path, asked):
    keep_rows(tmp_path, rows())
    with pytest.raises(UserError, match=r"decision\.ood=none, not knn"):
        refit_rule(tmp_path, TAGS, asked(ood="knn"))


def test_a_decider_that_is_fitted_anew_uses_the_ood_scores_of_the_run(run_with_ood, asked):
    folder = run_with_ood()
    given = rows(ood=True)
    keep_rows(folder, CalibrationSet(given.probabilities, given.true, given.ood_scores / 100, ""))
    config = asked(ood="knn", ood_quantile=0.9, calibration="none")
    decider = refit_decider(folder, OnItsPlace(), config)
    assert decider.rule.ood_threshold == pytest.approx(
        np.quantile(given.ood_scores / 100, 0.9), abs=1e-6
    )
    assert decider.decide([NEAR, FAR]).tags.tolist() == [0, REVIEW]
    without = refit_decider(folder, OnItsPlace(), asked(calibration="none"))
    assert without.detector is None
    assert without.decide([NEAR, FAR]).tags.tolist() == [0, 0]


def test_ood_scores_that_are_lost_cannot_be_fitted_to(run_with_ood, asked):
    folder = run_with_ood()
    keep_rows(folder, rows(ood=True))
    (folder / OOD_FILE).unlink()
    with pytest.raises(UserError, match=r"ood\.safetensors cannot be read"):
        refit_rule(folder, TAGS, asked(ood="knn"))
    # Without OOD scores it is not needed.
    assert refit_rule(folder, TAGS, asked())[0].ood_threshold is None


def test_a_damaged_decision_can_be_fitted_anew_even_with_ood_scores(run_with_ood, asked):
    folder = run_with_ood()
    keep_rows(folder, rows(ood=True))
    (folder / FILE).write_text("{")
    rule, _ = refit_rule(folder, TAGS, asked(ood="knn"))
    assert rule.ood_threshold is not None


def most_that_chance_allows(share, draws):
    """How often a promise that is broken with this chance is broken, but for 1 in 1,000 times."""
    return int(binom.ppf(0.999, draws, share))


@pytest.mark.slow
@pytest.mark.parametrize("calibration", ["none", "temperature"])
@pytest.mark.parametrize(
    ("scope", "precision", "confidence"), [("overall", 0.9, 0.9), ("per_tag", 0.85, 0.8)]
)
def test_the_promised_precision_is_missed_no_more_often_than_is_said(
    asked, calibration, scope, precision, confidence
):
    draws, count = 100, 400
    config = asked(
        policy="threshold", calibration=calibration, scope=scope,
        target_precision=precision, confidence=confidence,
    )  # fmt: skip
    random = np.random.default_rng(0)
    fresh, _, chances = simulated(random, 20_000, sharpness=2.0)
    missed, covered = 0, []
    for _ in range(draws):
        probabilities, true, _ = simulated(random, count, sharpness=2.0)
        rule = fit_rule(config, CalibrationSet(probabilities, true, None, ""))
        decided = rule.apply(fresh, None).tags
        covered.append((decided != REVIEW).mean())
        parts = [decided != REVIEW] if scope == "overall" else [decided == tag for tag in range(3)]
        # The chance of being right is known of each row: no luck of the fresh rows' own.
        worst = min(
            (chances[part, decided[part]].mean() for part in parts if part.any()), default=1.0
        )
        missed += worst < precision
    assert missed <= most_that_chance_allows(1 - confidence, draws)
    assert np.mean(covered) > 0.3, "a promise to publish nothing is no feat"


def test_rows_on_which_the_model_abstains_do_not_pay_for_those_that_it_decides(asked):
    # Of 150 rows that would be published 90 % are right; 450 without an answer have the first tag.
    probabilities = np.array([[0.6, 0.4, 0.0]] * 150 + [[1 / 3, 1 / 3, 1 / 3]] * 450)
    true = np.array([0] * 135 + [1] * 15 + [0] * 450)
    config = asked(policy="threshold", target_precision=0.93, calibration="none")
    rule = fit_rule(config, CalibrationSet(probabilities, true, None, ""))
    decided = rule.apply(probabilities, None).tags
    published = decided != REVIEW
    assert not published.any() or (decided == true)[published].mean() >= 0.93


def fitted_to_a_model_that_abstains(config):
    """Nine rows in ten are answered, and right; the others have no answer, as rules leave them."""
    true = np.arange(600) % 3
    probabilities = np.full((600, 3), 0.1)
    probabilities[np.arange(600), true] = 0.8
    true[:300:5] = 0
    probabilities[:300:5] = 1 / 3
    return fit_rule(config, CalibrationSet(probabilities, true, None, ""))


@pytest.mark.parametrize("calibration", ["none", "temperature"])
@pytest.mark.parametrize("policy", ["argmax", "threshold", "conformal"])
def test_where_a_model_abstains_a_person_is_asked_whatever_the_rule(asked, calibration, policy):
    rule = fitted_to_a_model_that_abstains(
        asked(calibration=calibration, policy=policy, target_precision=0.6, alpha=0.1)
    )
    assert rule.apply(np.array([[0.8, 0.1, 0.1]]), None).tags.tolist() == [0]
    assert rule.apply(np.full((1, 3), 1 / 3), None).tags.tolist() == [REVIEW]


@pytest.mark.parametrize("policy", ["threshold", "conformal"])
@pytest.mark.parametrize("kind", ["none", "knn"])
def test_the_policy_is_fitted_to_the_rows_that_have_an_answer_alone(asked, policy, kind):
    given = rows(count=600, ood=kind != "none")
    # Were they decided on, a quarter of the rows would be wrong by the order of the tags alone.
    probabilities, true = given.probabilities.copy(), given.true.copy()
    probabilities[::4], true[::4] = [0.495, 0.495, 0.01], 1
    config = asked(
        policy=policy, target_precision=0.6, confidence=0.8, alpha=0.2, calibration="none",
        ood=kind, ood_quantile=0.9,
    )  # fmt: skip
    rule = fit_rule(config, CalibrationSet(probabilities, true, given.ood_scores, ""))
    known = np.ones(600, dtype=bool)
    if kind != "none":
        # The limit is that of all rows.
        assert rule.ood_threshold == pytest.approx(np.quantile(given.ood_scores, 0.9))
        known = given.ood_scores <= rule.ood_threshold
    reached = known & has_answer(probabilities)
    assert reached.sum() < 0.8 * known.sum()
    assert rule.policy == fit_policy(config, probabilities[reached], true[reached])
    assert rule.policy != fit_policy(config, probabilities[known], true[known])


@pytest.mark.parametrize("policy", ["argmax", "threshold", "conformal"])
@pytest.mark.parametrize("calibration", ["none", "temperature", "vector", "isotonic"])
def test_a_model_that_never_has_an_answer_publishes_nothing(asked, policy, calibration):
    level = CalibrationSet(np.full((300, 3), 1 / 3), np.arange(300) % 3, None, "")
    config = asked(policy=policy, calibration=calibration)
    rule = fit_rule(config, level)
    assert (rule.apply(level.probabilities, None).tags == REVIEW).all()
    if policy == "threshold":
        assert rule.policy == Threshold([NEVER] * 3)
