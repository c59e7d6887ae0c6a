import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.files import sha256_of
from tagger.oof.recorded import TEACHER_PREDICTIONS, teacher_predictions
from tagger.training import fitting
from tagger.training.distillation import build_distillation_set, transfer_items
from tagger.training.inputs import TrainingContext, TrainingSet

TAGS = ("fruit", "metal", "weather")
TAUGHT = ("distill=soft", "decision.folds=null")


@pytest.fixture
def distillation_set(runs):
    """Builds what a student learns from."""

    def build(items, *overrides, weights=None, held_out=()):
        return build_distillation_set(
            runs.config("student", *overrides),
            TAGS,
            TrainingSet(items, weights or [1.0] * len(items)),
            held_out=held_out,
            context=TrainingContext(Accelerator(cpu=True), "fp32", Path("unused")),
        )

    return build


@pytest.fixture
def text_file(tmp_path):
    """Makes a file of items."""

    def make(items, name="text.csv"):
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "title", "description"])
            writer.writerows([item.id, item.title, item.description] for item in items)
        return path

    return make


@pytest.mark.slow
def test_a_text_that_a_teacher_was_only_told_the_tag_of_teaches_nothing(
    runs, text_file, strange_items, distillation_set
):
    monsoon = Item("other id", "monsoon arrives in quito", "")
    texts = text_file([monsoon, *strange_items])
    given = [*TAUGHT, "distill.teachers=[told]", f"distill.transfer=[{texts}]"]
    items = runs.items("told", "train")
    given_set = distillation_set([*items, replace(monsoon, tag="weather")], *given)
    assert [one.id for one in given_set.items[len(items) :]] == [
        "other id",
        *(s.id for s in strange_items),
    ]
    assert given_set.teacher_predictions[len(items)].isnan().all()
    assert int(given_set.labelled.sum()) == len(items) + 1

    unlabelled = distillation_set(items, *given)
    assert [one.id for one in unlabelled.items[len(items) :]] == [one.id for one in strange_items]
    assert not unlabelled.teacher_predictions.isnan().any()

    both = distillation_set(items, *TAUGHT, "distill.teachers=[told,rough]", given[-1])
    assert not both.teacher_predictions.isnan().any()
    assert "other id" in {one.id for one in both.items}


# What a student is given


def test_the_mean_of_the_teachers_counts(runs, text_file, strange_items, distillation_set):
    items = runs.items("words", "train")
    given_set = distillation_set(
        items,
        *TAUGHT,
        "distill.teachers=[words,rough]",
        f"distill.transfer=[{text_file(strange_items)}]",
    )
    parts = [
        teacher_predictions(runs.open(name), [*items, *strange_items])
        for name in ("words", "rough")
    ]
    assert np.abs(parts[0] - parts[1]).max() > 0.1
    np.testing.assert_allclose(
        given_set.teacher_predictions.numpy(), np.mean(parts, axis=0), atol=1e-6
    )
    assert given_set.teacher_predictions.dtype == torch.float32


def test_labelled_items_come_first_with_their_own_tags_and_weights(
    runs, text_file, strange_items, distillation_set
):
    items = runs.items("words", "train")[:4]
    given_set = distillation_set(
        items, *TAUGHT, "distill.teachers=[words]",
        f"distill.transfer=[{text_file(strange_items)}]",
        "distill.transfer_weight=0.25", weights=[1.0, 0.5, 2.0, 1.0],
    )  # fmt: skip
    assert given_set.items[:4] == items
    assert given_set.weights == [1.0, 0.5, 2.0, 1.0, *[0.25] * 4]
    assert given_set.labelled.tolist() == [True] * 4 + [False] * 4
    assert given_set.teacher_predictions.shape == (8, 3)
    best = [TAGS[at] for at in given_set.teacher_predictions.argmax(1)]
    assert [item.tag for item in given_set.items[4:]] == best[4:]
    texts = [(item.title, item.description.split()) for item in given_set.items[4:]]
    assert texts == [(item.title, item.description.split()) for item in strange_items]


def test_without_teachers_nothing_is_asked_and_every_tag_is_as_likely(
    runs, text_file, strange_items, distillation_set
):
    given_set = distillation_set(
        runs.items("words", "train"),
        "distill=source",
        f"distill.transfer=[{text_file(strange_items)}]",
    )
    assert torch.equal(given_set.teacher_predictions, torch.full((40, 3), 1 / 3))
    assert {item.tag for item in given_set.items[36:]} == {"fruit"}
    assert not list(runs.folder.rglob(TEACHER_PREDICTIONS))


@pytest.fixture
def transfer(shared_runs):
    """Returns the texts without labels that a config gives."""

    def find(files, *overrides, items=(), held_out=(), seed=0):
        names = ",".join(map(str, files))
        config = shared_runs.config(
            "x", "distill=source", f"distill.transfer=[{names}]", *overrides
        )
        return transfer_items(config.distill, items, held_out, config.data.split.group, seed)

    return find


def titles(items):
    return [item.title for item in items]


def test_each_text_of_the_files_is_learnt_from_once(transfer, text_file, strange_items):
    shouted = replace(strange_items[3], id="again", title="PLUM")
    files = [
        text_file(strange_items[2:], "a.csv"),
        text_file([shouted, *strange_items[:2]], "b.csv"),
    ]
    found = transfer(files)
    assert sorted(item.content_hash for item in found) == sorted(
        item.content_hash for item in strange_items
    )
    assert all(item.tag is None for item in found)


def test_a_text_that_is_labelled_is_no_text_without_a_label(transfer, text_file, strange_items):
    labelled = replace(strange_items[0], id="t", title=strange_items[0].title.upper(), tag="fruit")
    assert titles(transfer([text_file(strange_items)], items=[labelled])) == titles(
        strange_items[1:]
    )


def test_texts_like_those_it_will_be_judged_on_are_left_out(
    transfer, text_file, shared_runs, strange_items
):
    tested = shared_runs.items("words", "test")
    alike = [
        replace(tested[0], id="same", tag=None),
        replace(tested[1], id="near", description=f"{tested[1].description} too"),
        replace(tested[2], id="titled", description="of something else altogether, and more"),
    ]
    path = text_file([*alike, *strange_items])
    assert len(transfer([path])) == 7
    assert [item.id for item in transfer([path], held_out=tested)] == ["s1", "s2", "s3", "s4"]


def test_titles_and_descriptions_of_labelled_items_are_learnt_from_alone(transfer, text_file):
    items = [
        Item("1", "plum", "a sweet fruit", tag="fruit"),
        Item("2", "wire", "", tag="metal"),
        Item("3", "Plum ", "of another orchard", tag="fruit"),
        Item("4", "rust", "on iron", tag="metal"),
    ]
    path = text_file([Item("5", "rust", ""), Item("6", "hail", "")])
    assert len(transfer([path], items=items)) == 2
    found = transfer([path], "distill.parts=true", items=items)
    # A half that is there already, or twice, is learnt from once.
    assert [(one.title.strip().lower(), one.description) for one in found] == [
        ("rust", ""), ("hail", ""), ("plum", ""), ("", "a sweet fruit"),
        ("", "of another orchard"), ("", "on iron"),
    ]  # fmt: skip
    assert all(one.tag is None for one in found)


def test_so_many_texts_are_drawn_by_the_seed(transfer, text_file):
    path = text_file([Item(str(n), f"text {n} of many", "") for n in range(50)])
    one, same, other = (
        transfer([path], "distill.transfer_most=10", seed=seed) for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other
    assert len({item.id for item in one}) == 10
    assert [int(item.id) for item in one] == sorted(int(item.id) for item in one)
    assert len(transfer([path], "distill.transfer_most=50")) == 50
    assert len(transfer([path], "distill.transfer_most=99")) == 50


def test_a_file_that_can_not_be_read_is_named_with_all_that_is_wrong(transfer, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("id,title,description\n1,,\n2,a,b\n3,,\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.csv") as caught:
        transfer([path])
    assert caught.value.problems[0].startswith("row 1 (line 2), row 3 (line 4): no text")


@pytest.mark.parametrize("teacher", ["plain", "nobody"])
def test_a_student_without_a_proper_teacher_leaves_no_run_behind(runs, teacher):
    with pytest.raises(UserError, match=teacher):
        runs.train("student", *TAUGHT, f"distill.teachers=[{teacher}]")
    assert not (runs.folder / "student").exists()


@pytest.mark.slow
def test_a_teacher_that_saw_the_students_held_out_rows_is_refused(runs, linear_model):
    runs.train("other", "decision.folds=3", "data.split.seed=1", model=linear_model)
    seen = {row.content_hash: row.split for row in runs.open("other").split_rows()}
    tested = [seen[item.content_hash] != "test" for item in runs.items("words", "test")]
    judged = [seen[item.content_hash] == "train" for item in runs.items("words", "validation")]
    assert 0 < sum(tested) < 12 and 0 < sum(judged) < 12
    with pytest.raises(UserError, match="teachers must not have seen the rows that the") as caught:
        runs.train("student", *TAUGHT, "distill.teachers=[words,other]")
    assert caught.value.problems == (
        f"other was trained or stopped on {sum(tested)} of 12 test rows",
        f"other was trained on {sum(judged)} of 12 validation rows",
    )
    assert not (runs.folder / "student").exists()


# Students of whole runs


@pytest.fixture
def given_sets(monkeypatch):
    """What each training was given, one after another."""
    kept = []

    def prepare(*arguments, **named):
        kept.append(build_distillation_set(*arguments, **named))
        return kept[-1]

    monkeypatch.setattr(fitting, "build_distillation_set", prepare)
    return kept


@pytest.mark.slow
def test_a_student_notes_what_it_was_made_with(runs, text_file, strange_items):
    path = text_file(strange_items)
    given = (*TAUGHT, "distill.teachers=[words,rough]", f"distill.transfer=[{path}]")
    run = runs.train("student", *given)
    assert run.meta.inputs == {
        **{
            str(runs.folder / one): sha256_of(runs.folder / one / "meta.json")
            for one in ("words", "rough")
        },
        str(path): sha256_of(path),
    }
    # Its teachers have seen no other rows than it has itself.
    assert run.split_rows() == runs.open("words").split_rows()
    before = (run.path / "meta.json").read_bytes()
    assert (runs.train("student", *given, "if_exists=resume").path / "meta.json").read_bytes() == (
        before
    )
    text_file(strange_items[1:])
    with pytest.raises(UserError, match="can't go on with these") as caught:
        runs.train("student", *given, "if_exists=resume")
    assert caught.value.problems == (f"{path} changed since the run was begun",)


def test_rows_that_its_teachers_have_seen_are_listed_as_seen(runs):
    run = runs.train("student", *TAUGHT, "distill.teachers=[words]", "data.split.per_tag=4")
    parts = {part: {row.id for row in run.split_rows() if row.split == part} for part in
             ("train", "extra")}  # fmt: skip
    everything = {item.id for item in runs.items("words", "train")}
    assert len(parts["train"]) == 12
    assert parts["extra"] == everything - parts["train"]


def test_files_of_tokens_are_noted_and_checked_too(runs, text_file, tmp_path, strange_items):
    path = text_file(strange_items)
    run = runs.train("student", f"model.vocabulary_from=[{path}]")
    assert run.meta.inputs == {str(path): sha256_of(path)}
    path.write_text("id,title,description\n1,,\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.csv"):
        runs.train("again", f"model.vocabulary_from=[{path}]")
    assert not (runs.folder / "again").exists()


@pytest.mark.slow
def test_no_text_like_a_held_out_row_reaches_a_student(runs, text_file, given_sets, strange_items):
    held_out = [*runs.items("words", "test"), *runs.items("words", "validation")]
    alike = [replace(item, id=f"like-{item.id}", title=f"{item.title} too") for item in held_out]
    path = text_file([*alike, *strange_items])
    runs.train("student", *TAUGHT, "distill.teachers=[words]", f"distill.transfer=[{path}]")
    (given_set,) = given_sets
    assert [item.id for item in given_set.items[36:]] == ["s1", "s2", "s3", "s4"]


@pytest.mark.slow
def test_no_text_like_the_rows_of_a_fold_reaches_the_model_that_predicts_it(
    runs, text_file, given_sets
):
    trained = runs.items("words", "train")
    alike = [replace(item, id=f"like-{item.id}", title=f"{item.title} too") for item in trained]
    path = text_file(alike)
    runs.train(
        "student", "distill=source", f"distill.transfer=[{path}]", "decision.folds=2",
        "data.split.validation=0.2",
    )  # fmt: skip
    whole, *folds = given_sets
    assert len(whole.items) == 72
    assert len(folds) == 2
    for given_set in folds:
        own = {item.id for item, labelled in zip(given_set.items, given_set.labelled, strict=True)
               if labelled}  # fmt: skip
        assert len(own) == 18
        assert {item.id for item in given_set.items[18:]} == {f"like-{one}" for one in own}
