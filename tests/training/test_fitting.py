import csv
import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from tagger.config.schema import EnsembleConfig, FrozenConfig, LinearConfig, RulesConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.decision.decider import PLAIN
from tagger.errors import UserError
from tagger.files import sha256_of
from tagger.models.encoders import load_encoder
from tagger.models.ensemble import EnsembleClassifier
from tagger.models.interchange import NOTE
from tagger.models.linear import LinearClassifier
from tagger.models.rules import RulesClassifier
from tagger.models.transformer import TransformerClassifier
from tagger.runs import RunFolder, read_calibration, read_predictions
from tagger.training.fitting import fit_classifier
from tagger.training.inputs import TrainingContext, TrainingData
from tagger.training.probe import start_from_probe
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

TAGS = ("fruit", "metal", "weather")
RULES = """
fruit:
  sure: [apple, pear, plum, cherry, grape, melon, orchard]
metal:
  sure: [iron, copper, zinc, nickel, silver, alloy, furnace]
weather:
  sure: [rain, storm, cloud, wind, frost, snow, fog]
"""
FRUIT = ("apple", "pear", "plum", "cherry", "grape", "melon", "orchard", "juice")
CLASSES = {
    "transformer": TransformerClassifier,
    "frozen": TransformerClassifier,
    "linear": LinearClassifier,
    "rules": RulesClassifier,
    "ensemble": EnsembleClassifier,
}


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(RULES, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def models(tiny_config, rules_file):
    """The model section of each approach."""
    encoder = tiny_config().model.model_dump(
        include={"name", "encoder", "revision", "sha256", "random", "pooling", "max_length"}
    )
    return {
        "transformer": tiny_config().model,
        "frozen": FrozenConfig.model_validate(
            encoder | {"approach": "frozen", "C": 100.0, "balanced": True}
        ),
        "linear": LinearConfig(
            approach="linear", name="linear", word_ngrams=2, char_ngrams=4, C=10.0,
            balanced=True,
        ),
        "rules": RulesConfig(approach="rules", name="rules", rules=str(rules_file)),
        "ensemble": EnsembleConfig(approach="ensemble", name="ensemble", runs=["one", "two"]),
    }  # fmt: skip


@pytest.fixture
def config(tiny_config, models, tmp_path):
    """Makes configs of an approach on the toy file; overrides as on the command line."""

    def make(approach, *overrides):
        config = tiny_config(f"name={approach}", f"runs_dir={tmp_path}", *overrides)
        return config.model_copy(update={"model": models[approach]})

    return make


@pytest.fixture
def run(config):
    def make(approach, *overrides):
        return RunFolder(train(config(approach, *overrides)))

    return make


@pytest.fixture(scope="module")
def finished(tiny_config, models, tmp_path_factory):
    """A finished run of each approach, of the same rows; they are shared."""
    runs_dir = tmp_path_factory.mktemp("runs")
    short = (f"runs_dir={runs_dir}", "training.epochs=2")
    for name in ("one", "two"):
        train(tiny_config(f"name={name}", f"seed={len(name)}", *short))
    return {
        approach: RunFolder(
            train(tiny_config(f"name={approach}", *short).model_copy(update={"model": model}))
        )
        for approach, model in models.items()
    }


def load_items_of(path, run):
    return load_labelled(run.config.data.model_copy(update={"path": str(path)}), run.tags).items


def items_of(run, part):
    items = {item.id: item for item in load_labelled(run.config.data, run.tags).items}
    return [items[row.id] for row in run.split_rows() if row.split == part]


@pytest.mark.parametrize("approach", CLASSES)
def test_every_approach_gives_a_finished_run_that_predicts_as_it_was_saved(finished, approach):
    run = finished[approach]
    assert run.finished
    classifier = run.load_classifier()
    assert type(classifier) is CLASSES[approach]
    assert classifier.tags == TAGS
    test = items_of(run, "test")
    predictions = read_predictions(run.path / "predictions.csv", run.tags)
    assert list(predictions) == [item.id for item in test]
    np.testing.assert_allclose(
        np.stack(list(predictions.values())), classifier.predict_proba(test), atol=1e-6
    )


@pytest.mark.parametrize("approach", CLASSES)
def test_every_run_leaves_its_facts_its_decision_and_nothing_else(finished, approach):
    run = finished[approach]
    names = {path.name for path in run.path.iterdir()}
    always = {
        "config.yaml", "meta.json", "splits.csv", "predictions.csv", "model",
        "calibration.csv", "decision.json",
    }  # fmt: skip
    # Only what is trained step by step has a curve.
    assert names == always | ({"metrics.jsonl"} if approach == "transformer" else set())
    saved = {
        p.relative_to(run.path / "model").as_posix() for p in (run.path / "model").rglob("*.*")
    }
    assert run.meta.model_files.keys() == saved
    assert run.config.model.approach == approach
    assert run.meta.data.rows == {"train": 36, "validation": 12, "test": 12}
    assert run.meta.train_seconds >= 0


@pytest.mark.parametrize("approach", CLASSES)
def test_every_decision_is_fitted_to_the_validation_rows(finished, approach):
    run = finished[approach]
    validation = items_of(run, "validation")
    probabilities, true, ood_scores = read_calibration(run.path / "calibration.csv", run.tags)
    np.testing.assert_allclose(
        probabilities, run.load_classifier().predict_proba(validation), atol=1e-7
    )
    assert true.tolist() == [TAGS.index(item.tag) for item in validation]
    assert ood_scores is None
    decision = json.loads((run.path / "decision.json").read_text())
    assert decision["fitted_on"] == {"rows": 12, "source": "12 validation rows"}


def test_only_what_is_trained_step_by_step_has_steps(finished):
    for approach, run in finished.items():
        stepwise = approach == "transformer"
        assert (run.meta.steps > 0) == stepwise
        assert (run.meta.best_validation is not None) == stepwise
        assert run.meta.stopped_early is False


def load_encoder_weights(run):
    """Read a run's encoder, without the marks by which other libraries refuse to guess a head."""
    tensors = load_file(run.path / "model" / "model.safetensors")
    return {
        name: tensor for name, tensor in tensors.items() if name not in {NOTE, "classifier.weight"}
    }


def test_parameters_are_the_numbers_that_a_model_consists_of(finished):
    linear = load_file(finished["linear"].path / "model" / "linear.safetensors")
    counted = linear["weight"].numel() + linear["bias"].numel()
    assert finished["linear"].meta.parameters == counted
    assert finished["rules"].meta.parameters == 0
    encoder = sum(tensor.numel() for tensor in load_encoder_weights(finished["frozen"]).values())
    assert finished["frozen"].meta.parameters == encoder + 3 * 32 + 3


@pytest.mark.parametrize(("approach", "least"), [("linear", 0.9), ("frozen", 0.5), ("rules", 0.6)])
def test_what_there_is_to_learn_is_learned(finished, approach, least):
    run = finished[approach]
    test = items_of(run, "test")
    best = PLAIN.apply(run.load_classifier().predict_proba(test), None).tags
    assert np.mean(best == [TAGS.index(item.tag) for item in test]) >= least


def test_a_frozen_encoder_stays_as_it_was_and_only_the_head_is_fitted(finished):
    run = finished["frozen"]
    torch.manual_seed(run.config.seed)
    fresh, _ = load_encoder(run.config.model)
    saved = load_encoder_weights(run)
    assert saved.keys() == fresh.state_dict().keys()
    for name, tensor in saved.items():
        assert torch.equal(tensor, fresh.state_dict()[name]), name
    classifier = run.load_classifier()
    items = items_of(run, "train")
    before = classifier.predict_proba(items)
    start_from_probe(classifier, items, [1.0] * len(items), C=100.0, balanced=True)
    np.testing.assert_allclose(classifier.predict_proba(items), before, atol=1e-6)


def test_a_head_that_is_fitted_anew_belongs_to_the_encoder_that_training_ended_with(run):
    # Out of the last epoch: without validation rows there is no better one to go back to.
    done = run(
        "transformer", "training.epochs=2", "training.refit_head=true", "data.split.validation=0"
    )
    classifier = done.load_classifier()
    items = items_of(done, "train")
    before = classifier.predict_proba(items)
    start_from_probe(classifier, items, [1.0] * len(items), done.config.training.probe_C)
    np.testing.assert_allclose(classifier.predict_proba(items), before, atol=1e-5)


@pytest.mark.parametrize("approach", ["frozen", "linear"])
def test_the_same_config_gives_the_same_model(run, finished, approach):
    again = run(approach, "training.epochs=2")
    assert again.meta.model_files == finished[approach].meta.model_files


@pytest.fixture
def extra_file(tmp_path):
    """Rows that call everything about fruit weather."""
    path = tmp_path / "extra.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "created_on", "title", "description", "tag"])
        for number, word in enumerate(FRUIT):
            own = "".join(chr(ord("a") + (number * 7 + at * 5) % 26) for at in range(9))
            writer.writerow([f"x{number}", "2020-01-01 00:00:00", word, own, "weather"])
    return path


def test_further_rows_that_resemble_what_is_held_out_are_left_out(run, toy_folder, tmp_path):
    path = tmp_path / "again.csv"
    path.write_text((toy_folder / "items.csv").read_text(encoding="utf-8"), encoding="utf-8")
    done = run("linear", f"data.extra=[{path}]")
    by_split = {}
    for row in done.split_rows():
        by_split.setdefault(row.split, set()).add(row.content_hash)
    assert by_split["extra"] == by_split["train"]
    assert len(by_split["validation"] | by_split["test"]) == 24


def test_the_head_of_a_frozen_model_is_a_balanced_logistic_regression(config, extra_file):
    asked = config("frozen", f"data.extra=[{extra_file}]")
    model = asked.model.model_copy(update={"C": 2.0})
    run = RunFolder(train(asked.model_copy(update={"model": model})))
    known = [*items_of(run, "train"), *load_items_of(extra_file, run)]
    classifier = run.load_classifier()
    vectors = classifier.embed(known)
    scale = np.linalg.norm(vectors, axis=1).mean()
    theirs = LogisticRegression(C=2.0, class_weight="balanced", tol=1e-10, max_iter=10_000)
    theirs.fit(vectors / scale, [TAGS.index(item.tag) for item in known])
    judged = items_of(run, "test")
    expected = theirs.predict_proba(classifier.embed(judged) / scale)
    np.testing.assert_allclose(classifier.predict_proba(judged), expected, atol=5e-3)


@pytest.mark.parametrize("approach", ["linear", "transformer", "frozen"])
def test_rows_of_further_files_count_what_the_config_says(run, extra_file, approach):
    def probability(weight):
        done = run(
            approach, f"data.extra=[{extra_file}]", f"data.extra_weight={weight}",
            "if_exists=replace", "training.head_init=random", "training.epochs=2",
        )  # fmt: skip
        assert sum(row.split == "extra" for row in done.split_rows()) == 8
        return done.load_classifier().predict_proba([Item("1", "apple pear plum", "")])[0]

    light, heavy = probability(0.01), probability(100)
    assert heavy[TAGS.index("weather")] > light[TAGS.index("weather")] + 0.05


@pytest.mark.parametrize("where", ["training.head_init=probe", "training.refit_head=true"])
def test_a_head_that_is_fitted_at_once_lets_rows_count_what_the_config_says_too(
    run, extra_file, where
):
    def probability(weight):
        # So slow that nothing else is learned.
        slow = ("training.lr=1e-9", "training.head_lr=1e-9", "training.epochs=1")
        done = run(
            "transformer", f"data.extra=[{extra_file}]", f"data.extra_weight={weight}",
            "if_exists=replace", "training.head_init=random", *slow, where,
        )  # fmt: skip
        return done.load_classifier().predict_proba([Item("1", "apple pear plum", "")])[0]

    light, heavy = probability(0.01), probability(100)
    assert heavy[TAGS.index("weather")] > light[TAGS.index("weather")] + 0.05


def test_rules_and_ensembles_learn_nothing_from_the_rows(config, tmp_path):
    context = TrainingContext(Accelerator(cpu=True), "fp32", tmp_path)
    no_rows = TrainingData(train=[], validation=[], extra=[], held_out=[])
    fitted = fit_classifier(config("rules"), TAGS, no_rows, context)
    assert isinstance(fitted.classifier, RulesClassifier)
    assert (fitted.steps, fitted.parameters, fitted.best_validation) == (0, 0, None)


def with_rules(config, path, *overrides):
    model = RulesConfig(approach="rules", name="rules", rules=str(path))
    return config("rules", *overrides).model_copy(update={"model": model})


@pytest.mark.parametrize("how", ["absent", "folder", "latin", "empty"])
def test_rules_that_cannot_be_read_leave_no_run_behind(config, tmp_path, how):
    path = tmp_path / "mine.yaml"
    if how == "folder":
        path.mkdir()
    elif how != "absent":
        path.write_bytes({"latin": "fruit:\n  sure: [pêche]\n", "empty": ""}[how].encode("latin-1"))
    with pytest.raises(UserError, match=r"mine\.yaml"):
        train(with_rules(config, path))
    assert not (tmp_path / "rules").exists()


def test_rules_with_mistakes_are_named_and_trained_once_they_are_mended(config, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("fruits:\n  sure: [apple]\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"rules\.yaml cannot be used as rules") as error:
        train(with_rules(config, path))
    assert "did you mean 'fruit'?" in str(error.value)
    assert list(tmp_path.iterdir()) == [path], "no run is begun"
    path.write_text(RULES, encoding="utf-8")
    assert RunFolder(train(with_rules(config, path))).finished


def test_a_run_of_rules_is_finished_while_they_are_the_same(config, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(RULES, encoding="utf-8")
    run, said = RunFolder(train(with_rules(config, path))), []
    assert run.meta.inputs == {str(path): sha256_of(path)}
    train(with_rules(config, path, "if_exists=resume"), said.append)
    assert len(said) == 1 and "finished already" in said[0]
    path.write_text(RULES.replace("melon", "melon, banana"), encoding="utf-8")
    with pytest.raises(UserError, match="it can't go on with these") as error:
        train(with_rules(config, path, "if_exists=resume"))
    assert error.value.problems == (f"{path} changed since the run was begun",)
    assert "if_exists=replace" in error.value.hint
    run = RunFolder(train(with_rules(config, path, "if_exists=replace")))
    assert "banana" in (run.path / "model" / "rules.yaml").read_text(encoding="utf-8")


def test_a_run_of_rules_that_was_killed_does_not_go_on_with_other_rules(
    config, tmp_path, monkeypatch
):
    path = tmp_path / "rules.yaml"
    path.write_text(RULES, encoding="utf-8")

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RulesClassifier, "save", die)
        train(with_rules(config, path))
    path.write_text(RULES.replace("melon", "banana"), encoding="utf-8")
    with pytest.raises(UserError, match="changed since the run was begun"):
        train(with_rules(config, path, "if_exists=resume"))
    path.write_text(RULES, encoding="utf-8")
    assert RunFolder(train(with_rules(config, path, "if_exists=resume"))).finished


@pytest.mark.parametrize("approach", ["transformer", "frozen", "linear"])
def test_what_is_made_of_its_items_alone_notes_nothing_else(finished, approach):
    assert finished[approach].meta.inputs == {}


def test_ensembles_note_the_runs_that_they_are_made_of(finished):
    run = finished["ensemble"]
    members = (run.path.parent / name for name in ("one", "two"))
    assert run.meta.inputs == {str(one): sha256_of(one / "meta.json") for one in members}


def test_rules_are_found_from_the_root_of_the_repository(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tags = ("computer-vision", "mlops", "natural-language-processing", "other")
    context = TrainingContext(Accelerator(cpu=True), "fp32", tmp_path)
    fitted = fit_classifier(
        with_rules(config, "data/rules.yaml"), tags, TrainingData([], [], [], []), context
    )
    assert fitted.classifier.tags == tags
