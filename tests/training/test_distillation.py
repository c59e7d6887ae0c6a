import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tagger.config.schema import LinearConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.errors import UserError
from tagger.files import sha256_of
from tagger.oof.recorded import TEACHER_PREDICTIONS, teacher_predictions
from tagger.runs import RunFolder
from tagger.training import fitting
from tagger.training.distillation import build_distillation_set, transfer_items
from tagger.training.inputs import TrainingSet
from tagger.training.train_run import train

TAGS = ("fruit", "metal", "weather")
STRANGE = [
    Item("s1", "apple and copper", "juice in a furnace"),
    Item("s2", "", "snow upon zinc"),
    Item("s3", 'Ünïcödé 深度学习, "quoted"', "a\nnew line"),
    Item("s4", "plum", ""),
]
LINEAR = LinearConfig(
    approach="linear", name="linear", word_ngrams=1, char_ngrams=3, C=10.0, balanced=False
)
FOLDS = "decision.folds=3"
TAUGHT = ("distill=soft", "decision.folds=null")


class Bench:
    """Trains teachers and students below one folder."""

    def __init__(self, tiny_config, folder):
        self.tiny_config, self.folder = tiny_config, folder

    def config(self, name, *overrides):
        return self.tiny_config(
            f"name={name}", f"runs_dir={self.folder}", "training.epochs=1", *overrides
        )

    def train(self, name, *overrides):
        return RunFolder(train(self.config(name, *overrides)))

    def of(self, model, name, *overrides):
        config = self.config(name, *overrides)
        return RunFolder(train(config.model_copy(update={"model": model})))

    def run(self, name):
        return RunFolder(self.folder / name)

    def items(self, part, name="words"):
        run = self.run(name)
        known = {item.id: item for item in load_labelled(run.config.data, TAGS).items}
        return [known[row.id] for row in run.split_rows() if row.split == part]

    def distillation_set(self, items, *overrides, weights=None, held_out=()):
        return build_distillation_set(
            self.config("student", *overrides),
            TAGS,
            TrainingSet(items, weights or [1.0] * len(items)),
            held_out=held_out,
            accelerator=Accelerator(cpu=True),
        )


@pytest.fixture(scope="module")
def shared(tiny_config, tmp_path_factory):
    """Two teachers, and a run without folds. They are read, never changed."""
    bench = Bench(tiny_config, tmp_path_factory.mktemp("runs"))
    bench.of(LINEAR, "words", FOLDS)
    bench.of(LINEAR.model_copy(update={"C": 0.1}), "rough", FOLDS)
    bench.of(LINEAR, "plain")
    return bench


@pytest.fixture
def bench(shared, tiny_config, tmp_path):
    """A copy of them, whose teachers may be asked."""
    shutil.copytree(shared.folder, tmp_path / "runs")
    return Bench(tiny_config, tmp_path / "runs")


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


@pytest.fixture
def told(bench, tmp_path):
    """A teacher that was trained on two further rows, one with the id of a row of its own."""
    row = bench.run("words").split_rows()[0]
    extra = tmp_path / "extra.csv"
    extra.write_text(
        "id,title,description,tag\n"
        f"{row.id},tungsten and bismuth mined abroad,,metal\n"
        "x,monsoon arrives in quito,,weather\n",
        encoding="utf-8",
    )
    return bench.of(LINEAR, "told", FOLDS, f"data.extra=[{extra}]")


def test_a_text_that_a_teacher_was_only_told_the_tag_of_teaches_nothing(told, bench, text_file):
    monsoon = Item("other id", "monsoon arrives in quito", "")
    texts = text_file([monsoon, *STRANGE])
    given = [*TAUGHT, "distill.teachers=[told]", f"distill.transfer=[{texts}]"]
    items = bench.items("train", "told")
    given_set = bench.distillation_set([*items, replace(monsoon, tag="weather")], *given)
    assert [one.id for one in given_set.items[len(items) :]] == [
        "other id",
        *(s.id for s in STRANGE),
    ]
    assert given_set.teacher_predictions[len(items)].isnan().all()
    assert int(given_set.labelled.sum()) == len(items) + 1

    unlabelled = bench.distillation_set(items, *given)
    assert [one.id for one in unlabelled.items[len(items) :]] == [one.id for one in STRANGE]
    assert not unlabelled.teacher_predictions.isnan().any()

    both = bench.distillation_set(items, *TAUGHT, "distill.teachers=[told,rough]", given[-1])
    assert not both.teacher_predictions.isnan().any()
    assert "other id" in {one.id for one in both.items}


# What a student is given


def test_the_mean_of_the_teachers_counts(bench, text_file):
    items = bench.items("train")
    given_set = bench.distillation_set(
        items, *TAUGHT, "distill.teachers=[words,rough]", f"distill.transfer=[{text_file(STRANGE)}]"
    )
    parts = [
        teacher_predictions(bench.run(name), [*items, *STRANGE]) for name in ("words", "rough")
    ]
    assert np.abs(parts[0] - parts[1]).max() > 0.1
    np.testing.assert_allclose(
        given_set.teacher_predictions.numpy(), np.mean(parts, axis=0), atol=1e-6
    )
    assert given_set.teacher_predictions.dtype == torch.float32


def test_labelled_items_come_first_with_their_own_tags_and_weights(bench, text_file):
    items = bench.items("train")[:4]
    given_set = bench.distillation_set(
        items, *TAUGHT, "distill.teachers=[words]", f"distill.transfer=[{text_file(STRANGE)}]",
        "distill.transfer_weight=0.25", weights=[1.0, 0.5, 2.0, 1.0],
    )  # fmt: skip
    assert given_set.items[:4] == items
    assert given_set.weights == [1.0, 0.5, 2.0, 1.0, *[0.25] * 4]
    assert given_set.labelled.tolist() == [True] * 4 + [False] * 4
    assert given_set.teacher_predictions.shape == (8, 3)
    best = [TAGS[at] for at in given_set.teacher_predictions.argmax(1)]
    assert [item.tag for item in given_set.items[4:]] == best[4:]
    texts = [(item.title, item.description.split()) for item in given_set.items[4:]]
    assert texts == [(item.title, item.description.split()) for item in STRANGE]


def test_without_teachers_nothing_is_asked_and_every_tag_is_as_likely(bench, text_file):
    given_set = bench.distillation_set(
        bench.items("train"), "distill=source", f"distill.transfer=[{text_file(STRANGE)}]"
    )
    assert torch.equal(given_set.teacher_predictions, torch.full((40, 3), 1 / 3))
    assert {item.tag for item in given_set.items[36:]} == {"fruit"}
    assert not list(bench.folder.rglob(TEACHER_PREDICTIONS))


@pytest.fixture
def transfer(shared):
    """Returns the texts without labels that a config gives."""

    def find(files, *overrides, items=(), held_out=(), seed=0):
        names = ",".join(map(str, files))
        config = shared.config("x", "distill=source", f"distill.transfer=[{names}]", *overrides)
        return transfer_items(config.distill, items, held_out, config.data.split.group, seed)

    return find


def titles(items):
    return [item.title for item in items]


def test_each_text_of_the_files_is_learnt_from_once(transfer, text_file):
    shouted = replace(STRANGE[3], id="again", title="PLUM")
    files = [text_file(STRANGE[2:], "a.csv"), text_file([shouted, *STRANGE[:2]], "b.csv")]
    found = transfer(files)
    assert sorted(item.content_hash for item in found) == sorted(
        item.content_hash for item in STRANGE
    )
    assert all(item.tag is None for item in found)


def test_a_text_that_is_labelled_is_no_text_without_a_label(transfer, text_file):
    labelled = replace(STRANGE[0], id="t", title=STRANGE[0].title.upper(), tag="fruit")
    assert titles(transfer([text_file(STRANGE)], items=[labelled])) == titles(STRANGE[1:])


def test_texts_like_those_it_will_be_judged_on_are_left_out(transfer, text_file, shared):
    tested = shared.items("test")
    alike = [
        replace(tested[0], id="same", tag=None),
        replace(tested[1], id="near", description=f"{tested[1].description} too"),
        replace(tested[2], id="titled", description="of something else altogether, and more"),
    ]
    path = text_file([*alike, *STRANGE])
    assert len(transfer([path])) == 7
    assert [item.id for item in transfer([path], held_out=tested)] == ["s1", "s2", "s3", "s4"]


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
def test_a_student_without_a_proper_teacher_leaves_no_run_behind(bench, teacher):
    with pytest.raises(UserError, match=teacher):
        bench.train("student", *TAUGHT, f"distill.teachers=[{teacher}]")
    assert not (bench.folder / "student").exists()


def test_a_teacher_that_saw_the_students_held_out_rows_is_refused(bench):
    bench.of(LINEAR, "other", FOLDS, "data.split.seed=1")
    seen = {row.content_hash: row.split for row in bench.run("other").split_rows()}
    tested = [seen[item.content_hash] != "test" for item in bench.items("test")]
    judged = [seen[item.content_hash] == "train" for item in bench.items("validation")]
    assert 0 < sum(tested) < 12 and 0 < sum(judged) < 12
    with pytest.raises(UserError, match="teachers must not have seen the rows that the") as caught:
        bench.train("student", *TAUGHT, "distill.teachers=[words,other]")
    assert caught.value.problems == (
        f"other was trained or stopped on {sum(tested)} of 12 test rows",
        f"other was trained on {sum(judged)} of 12 validation rows",
    )
    assert not (bench.folder / "student").exists()


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


def test_a_student_notes_what_it_was_made_with(bench, text_file):
    path = text_file(STRANGE)
    given = (*TAUGHT, "distill.teachers=[words,rough]", f"distill.transfer=[{path}]")
    run = bench.train("student", *given)
    assert run.meta.inputs == {
        **{
            str(bench.folder / one): sha256_of(bench.folder / one / "meta.json")
            for one in ("words", "rough")
        },
        str(path): sha256_of(path),
    }
    # Its teachers have seen no other rows than it has itself.
    assert run.split_rows() == bench.run("words").split_rows()
    before = (run.path / "meta.json").read_bytes()
    assert (bench.train("student", *given, "if_exists=resume").path / "meta.json").read_bytes() == (
        before
    )
    text_file(STRANGE[1:])
    with pytest.raises(UserError, match="can't go on with these") as caught:
        bench.train("student", *given, "if_exists=resume")
    assert caught.value.problems == (f"{path} changed since the run was begun",)


def test_rows_that_its_teachers_have_seen_are_listed_as_seen(bench):
    run = bench.train("student", *TAUGHT, "distill.teachers=[words]", "data.split.per_tag=4")
    parts = {part: {row.id for row in run.split_rows() if row.split == part} for part in
             ("train", "extra")}  # fmt: skip
    everything = {item.id for item in bench.items("train")}
    assert len(parts["train"]) == 12
    assert parts["extra"] == everything - parts["train"]


def test_files_of_tokens_are_noted_and_checked_too(bench, text_file, tmp_path):
    path = text_file(STRANGE)
    run = bench.train("student", f"model.vocabulary_from=[{path}]")
    assert run.meta.inputs == {str(path): sha256_of(path)}
    path.write_text("id,title,description\n1,,\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.csv"):
        bench.train("again", f"model.vocabulary_from=[{path}]")
    assert not (bench.folder / "again").exists()


def test_no_text_like_a_held_out_row_reaches_a_student(bench, text_file, given_sets):
    held_out = [*bench.items("test"), *bench.items("validation")]
    alike = [replace(item, id=f"like-{item.id}", title=f"{item.title} too") for item in held_out]
    path = text_file([*alike, *STRANGE])
    bench.train("student", *TAUGHT, "distill.teachers=[words]", f"distill.transfer=[{path}]")
    (given_set,) = given_sets
    assert [item.id for item in given_set.items[36:]] == ["s1", "s2", "s3", "s4"]


def test_no_text_like_the_rows_of_a_fold_reaches_the_model_that_predicts_it(
    bench, text_file, given_sets
):
    trained = bench.items("train")
    alike = [replace(item, id=f"like-{item.id}", title=f"{item.title} too") for item in trained]
    path = text_file(alike)
    bench.train(
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
