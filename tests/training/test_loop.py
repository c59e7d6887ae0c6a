import json
import math
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tagger.data.sources import iter_unlabelled, load_labelled
from tagger.models.encoders import encoder_layers, load_encoder
from tagger.models.transformer import TransformerClassifier
from tagger.oof.recorded import TEACHER_PREDICTIONS
from tagger.runs import RunFolder
from tagger.training import fitting
from tagger.training.distillation import build_distillation_set
from tagger.training.objectives import Objective
from tagger.training.optimizer import schedule_factor
from tagger.training.probe import start_from_probe
from tagger.training.tracking import read_metrics
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

PINNED = [0.84464, 1.2588, 0.77842, 0.79864, 1.0984, 0.43138, 0.26977, 0.34533, 0.22589, 0.15226]


@pytest.fixture
def run(tiny_config, tmp_path):
    def train_with(name, *overrides):
        config = tiny_config(f"name={name}", f"runs_dir={tmp_path}", *overrides)
        return RunFolder(train(config))

    return train_with


def weights(run_folder):
    model = run_folder.path / "model"
    return load_file(model / "model.safetensors") | load_file(model / "head.safetensors")


def largest_difference(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def validation_curve(run_folder, metric="val/macro_f1"):
    lines = read_metrics(run_folder.path / "metrics.jsonl")
    return [line[metric] for line in lines if metric in line]


def test_training_learns_what_there_is_to_learn(tiny_run):
    curve = validation_curve(tiny_run)
    assert curve[-1] > 0.9
    losses = [
        line["train/loss"]
        for line in read_metrics(tiny_run.path / "metrics.jsonl")
        if "train/loss" in line
    ]
    assert losses[-1] < losses[0] / 1.5
    assert all(math.isfinite(loss) for loss in losses)


def test_the_first_losses_are_those_of_before(tiny_run):
    """The tolerance is for other CPUs; on one machine they are the same to the bit."""
    assert step_losses(tiny_run)[:10] == pytest.approx(PINNED, rel=1e-2)


def test_every_term_of_the_loss_is_logged_and_they_add_up(run):
    recipes = {
        "class_loss": (),
        "contrast_loss": ("training.contrast_loss_weight=0.5", "training.accumulation_steps=2"),
        "adversarial_loss": ("training.adversarial=0.1",),
        "vector_loss": ("distill=source", "distill.class_loss_weight=0.5", "model.keep_layers=[0]"),
    }
    for name, recipe in recipes.items():
        folder = run(name, "training.epochs=1", *recipe)
        lines = [one for one in read_metrics(folder.path / "metrics.jsonl") if "train/loss" in one]
        terms = {f"train/{one}" for one in ("class_loss", name)}
        for line in lines:
            assert {key for key in line if key.endswith("_loss")} == terms
            assert line["train/loss"] == pytest.approx(sum(line[term] for term in terms), rel=1e-5)


def test_the_seed_decides_everything(run):
    short = ("training.epochs=2", "model.encoder_dropout=0.1")
    one, same, other = (
        run("one", *short), run("same", *short), run("other", *short, "seed=1"),
    )  # fmt: skip
    assert largest_difference(one, same) == 0
    assert largest_difference(one, other) > 1e-4
    metrics = [(r.path / "metrics.jsonl").read_bytes() for r in (one, same)]
    assert metrics[0] == metrics[1]


def test_accumulation_changes_nothing_but_memory(run):
    # 36 training rows in batches of 8: the last step of an epoch has 4 rows for 3 parts.
    same = (
        "training.epochs=1", "training.batch_size=8", "model.dropout=0",
        "training.class_weights=balanced",
    )  # fmt: skip
    whole = run("whole", *same)
    parts = run("parts", *same, "training.accumulation_steps=3")
    assert largest_difference(whole, parts) < 1e-5


def test_best_epoch_is_kept_and_patience_stops(run):
    folder = run(
        "overshoot", "training.epochs=30", "training.patience=2", "training.lr=0.05",
        "training.ema_decay=0", "training.metric=loss",
    )  # fmt: skip
    losses = validation_curve(folder, "val/loss")
    steps_per_epoch = folder.meta.steps / len(losses)
    best = min(range(len(losses)), key=lambda epoch: losses[epoch])
    assert folder.meta.stopped_early
    assert len(losses) == best + 1 + 2 < 30
    assert folder.meta.best_step == (best + 1) * steps_per_epoch
    assert folder.meta.best_validation == pytest.approx(losses[best])


def test_without_validation_rows_the_last_weights_count(run):
    folder = run("all", "data.split.validation=0", "training.epochs=2")
    assert folder.meta.best_step == folder.meta.steps
    assert folder.meta.best_validation is None
    assert validation_curve(folder) == []


def test_average_of_weights_is_what_is_kept(run):
    same = ("training.epochs=2", "data.split.validation=0")
    plain = run("plain", *same, "training.ema_decay=0")
    averaged = run("averaged", *same, "training.ema_decay=0.9")
    assert largest_difference(plain, averaged) > 1e-4
    # The average is a reader: it must not touch the training itself.
    metrics = [(r.path / "metrics.jsonl").read_bytes() for r in (plain, averaged)]
    assert metrics[0] == metrics[1]


def probed(folder, items):
    """The head that a probe fits to the encoder that a run ended with."""
    classifier = folder.load_classifier()
    strength = folder.config.training.probe_C
    start_from_probe(classifier, items, [1.0] * len(items), strength)
    return classifier.module.head


def train_items(folder):
    items = {item.id: item for item in load_labelled(folder.config.data, folder.tags).items}
    return [items[row.id] for row in folder.split_rows() if row.split == "train"]


REFIT = ("training.refit_head=true", "training.epochs=3", "training.head_init=random")


@pytest.mark.parametrize(
    "recipe",
    [
        ("training.ema_decay=0",),
        ("training.ema_decay=0.9", "model.freeze_layers=1"),
    ],
    ids="+".join,
)
def test_a_head_that_is_fitted_anew_is_what_the_best_epoch_is_picked_by(run, recipe):
    folder = run("refit", *REFIT, *recipe, "training.metric=loss", "training.lr=0.05")
    losses = validation_curve(folder, "val/loss")
    best = min(range(3), key=lambda epoch: losses[epoch])
    assert folder.meta.best_validation == pytest.approx(losses[best])
    assert folder.meta.best_step == (best + 1) * folder.meta.steps / 3
    # What was measured is what is kept: the saved model has that very loss.
    items = {item.id: item for item in load_labelled(folder.config.data, folder.tags).items}
    judged = [items[row.id] for row in folder.split_rows() if row.split == "validation"]
    probabilities = folder.load_classifier().predict_proba(judged)
    of_true = [
        row[folder.tags.index(item.tag)] for row, item in zip(probabilities, judged, strict=True)
    ]
    smoothed = folder.config.training.label_smoothing
    expected = -(1 - smoothed) * np.log(of_true) - smoothed * np.log(probabilities).mean(axis=1)
    assert losses[best] == pytest.approx(expected.mean(), rel=1e-4)
    # And its head is the one that belongs to its encoder.
    head = weights(folder)
    again = probed(folder, train_items(folder))
    torch.testing.assert_close(again.weight.detach(), head["weight"], rtol=1e-3, atol=1e-3)


def test_of_an_overshoot_the_refitted_head_belongs_to_the_best_weights(run):
    folder = run(
        "overshoot", *REFIT, "training.epochs=20", "training.patience=2", "training.lr=0.05",
        "training.ema_decay=0", "training.metric=loss",
    )  # fmt: skip
    assert folder.meta.best_step < folder.meta.steps, "there is a worse end to mix up with"
    head = weights(folder)
    again = probed(folder, train_items(folder))
    torch.testing.assert_close(again.weight.detach(), head["weight"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("decay", [0, 0.9])
def test_fitting_the_head_anew_to_validate_does_not_touch_the_training(run, decay):
    same = (*REFIT[1:], "training.epochs=2", f"training.ema_decay={decay}")
    plain, refit = run("plain", *same), run("refit", *same, "training.refit_head=true")
    losses, norms, curves = [], [], []
    for folder in (plain, refit):
        lines = read_metrics(folder.path / "metrics.jsonl")
        losses.append([line["train/loss"] for line in lines if "train/loss" in line])
        norms.append([line["train/grad_norm"] for line in lines if "train/grad_norm" in line])
        curves.append(validation_curve(folder, "val/loss"))
    assert losses[0] == losses[1]
    assert norms[0] == norms[1]
    assert curves[0] != curves[1]


def killed_and_resumed(run, tmp_path, monkeypatch, recipe):
    """Check that a run that is killed before its last step comes to the same end as another."""
    whole = run("whole", *recipe)
    original, steps = Objective.__call__, []

    def step(self, *inputs, **named):
        steps.append(1)
        if len(steps) == whole.meta.steps - 1:
            raise KeyboardInterrupt
        return original(self, *inputs, **named)

    # A teacher has not been asked yet, and the resumed run finds its answers.
    answers = tmp_path / "teacher" / TEACHER_PREDICTIONS
    answers.unlink(missing_ok=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Objective, "__call__", step)
        run("killed", *recipe)
    assert answers.exists() == answers.parent.exists()
    assert not RunFolder(tmp_path / "killed").finished
    killed = run("killed", *recipe, "if_exists=resume")
    assert killed.meta.model_files == whole.meta.model_files
    metrics = [(one.path / "metrics.jsonl").read_bytes() for one in (killed, whole)]
    assert metrics[0] == metrics[1]


def test_killed_and_resumed_a_run_that_refits_its_head_comes_to_the_same_end(
    run, tmp_path, monkeypatch
):
    recipe = (*REFIT, "training.checkpoint_seconds=0")
    killed_and_resumed(run, tmp_path, monkeypatch, recipe)


def test_frozen_weights_stay(run, tiny_config):
    folder = run("frozen", "model.freeze_embeddings=true", "training.epochs=1")
    torch.manual_seed(folder.config.seed)
    fresh, _ = load_encoder(folder.config.model)
    trained = weights(folder)
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(trained[name], fresh.state_dict()[name])
    position = "embeddings.position_embeddings.weight"
    assert not torch.equal(trained[position], fresh.state_dict()[position])


@pytest.mark.parametrize(
    "recipe",
    [
        (
            "training.loss=focal",
            "training.class_weights=balanced",
            "training.schedule=cosine",
            "training.layer_decay=0.8",
        ),
        (
            "model.pooling=max",
            "model.head=mlp",
            "training.head_init=random",
            "training.mixed_precision=bf16",
        ),
        (
            "model.pooling=cls",
            "model.freeze_layers=1",
            "training.token_dropout=0.3",
            "training.typos=0.3",
        ),
    ],
)
def test_every_recipe_trains(run, recipe):
    folder = run("recipe", "training.epochs=2", *recipe)
    assert folder.finished
    assert all(math.isfinite(value) for value in validation_curve(folder, "val/loss"))


def test_metrics_have_one_line_a_step_and_one_a_validation(run):
    folder = run("lines", "training.epochs=3", "training.batch_size=10")
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").open()]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == list(range(1, folder.meta.steps + 1))
    assert [line["epoch"] for line in lines if "val/loss" in line] == [1, 2, 3]
    asked, total = folder.config.training, folder.meta.steps
    assert [line["train/lr"] for line in lines if "train/lr" in line] == [
        asked.lr * schedule_factor(asked.schedule, step, total, asked.warmup)
        for step in range(total)
    ]


@pytest.fixture
def bench(shared_runs, tmp_path):
    """A teacher, a file of texts without labels, and what a student learns from them."""
    shutil.copytree(shared_runs.open("words").path, tmp_path / "teacher")
    drawn = random.Random(1)
    words = ["apple", "pear", "plum", "juice", "iron", "zinc", "copper", "rust", "rain", "storm",
             "snow", "fog", "ripe", "alloy", "frost", "wire"]  # fmt: skip
    lines = [f"u{n},{' '.join(drawn.sample(words, 4))},{' '.join(drawn.sample(words, 3))}"
             for n in range(60)]  # fmt: skip
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(["id,title,description", *lines]), encoding="utf-8")
    return path, ("distill=soft", "distill.teachers=[teacher]", f"distill.transfer=[{path}]")


@pytest.fixture
def encoder_folder(tiny_config, tmp_path):
    """A saved encoder whose layers differ widely: a source that is the same whenever it is read."""
    torch.manual_seed(0)
    classifier = TransformerClassifier.build(tiny_config().model, ["a", "b"])
    for parameter in encoder_layers(classifier.module.encoder).parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    classifier.save(tmp_path / "encoder")
    return (f"model.encoder={tmp_path / 'encoder'}", "model.random=null")


def divergence(wanted, found):
    return float((wanted * np.log(wanted / found)).sum(axis=1).mean())


def test_a_student_comes_to_think_as_its_teacher_does_of_texts_without_labels(
    run, bench, tiny_config
):
    path, given = bench
    recipe = (
        *given, "distill.class_loss_weight=0", "training.head_init=random", "training.ema_decay=0",
        "model.random={layers: 1, hidden: 32, heads: 2, intermediate: 64}",
    )  # fmt: skip
    folder = run("student", *recipe)
    items = list(iter_unlabelled(path))
    teacher = RunFolder(folder.path.parent / "teacher").load_classifier().predict_proba(items)
    torch.manual_seed(folder.config.seed)
    untrained = TransformerClassifier.build(folder.config.model, folder.tags)
    before = divergence(teacher, untrained.predict_proba(items))
    after = divergence(teacher, folder.load_classifier().predict_proba(items))
    assert before > 0.05, "there is something to learn"
    assert after < before / 2


def test_killed_and_resumed_a_student_comes_to_the_same_end(
    run, bench, encoder_folder, tmp_path, monkeypatch
):
    recipe = (
        *bench[1], *encoder_folder, "training.epochs=2", "training.checkpoint_seconds=0",
        "model.keep_layers=[1]", "distill.vector_loss_weight=1",
        "model.encoder_dropout=0.1", f"model.vocabulary_from=[{bench[0]}]",
    )  # fmt: skip
    killed_and_resumed(run, tmp_path, monkeypatch, recipe)


def step_losses(folder):
    lines = read_metrics(folder.path / "metrics.jsonl")
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_a_student_that_is_the_whole_source_has_nothing_to_learn_at_first(
    run, bench, encoder_folder
):
    given = [
        *encoder_folder, "distill=source", f"distill.transfer=[{bench[0]}]",
        "training.epochs=3", "model.encoder_dropout=0",
    ]  # fmt: skip
    assert step_losses(run("whole", *given))[0] < 1e-6
    cut = step_losses(run("cut", *given, "model.keep_layers=[0]"))
    assert cut[-1] < cut[0]
    assert cut[0] > 1e-5


def test_a_head_is_fitted_to_labelled_rows_alone(run, bench, monkeypatch):
    fitted_to = []

    def probe(classifier, items, weights, C):
        fitted_to.append(([item.id for item in items], list(weights)))

    monkeypatch.setattr("tagger.training.loop.start_from_probe", probe)
    folder = run("student", *bench[1], "training.epochs=1", "training.refit_head=true")
    trained = [row.id for row in folder.split_rows() if row.split == "train"]
    assert fitted_to == [(trained, [1.0] * 36)] * 2


def test_the_weight_of_texts_without_labels_matters(run, bench):
    light, heavy = (
        run(f"w{weight}", *bench[1], "training.epochs=1", f"distill.transfer_weight={weight}.0")
        for weight in (1, 50)
    )
    assert largest_difference(light, heavy) > 1e-4


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_tag_that_a_text_without_a_label_bears_is_for_forms_sake(
    run, bench, monkeypatch, weights
):
    same = (*bench[1], "training.epochs=1", f"training.class_weights={weights}")
    one = run("one", *same)

    def otherwise(*arguments, **named):
        given = build_distillation_set(*arguments, **named)
        items = [
            item if labelled else replace(item, tag="weather")
            for item, labelled in zip(given.items, given.labelled, strict=True)
        ]
        assert items != given.items
        return replace(given, items=items)

    monkeypatch.setattr(fitting, "build_distillation_set", otherwise)
    assert largest_difference(one, run("other", *same)) == 0
