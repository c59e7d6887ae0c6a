import shutil
from dataclasses import replace

import numpy as np
import pytest

from tagger.config.schema import EnsembleConfig, LinearConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.errors import UserError
from tagger.oof import recorded
from tagger.oof.recorded import (
    TEACHER_PREDICTIONS,
    check_teachers,
    predict_as_teacher,
    teacher_predictions,
)
from tagger.runs import RunFolder, read_calibration, read_ids, read_predictions
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


def out_of_folds(run):
    path = run.path / "calibration.csv"
    return dict(zip(read_ids(path), read_calibration(path, TAGS)[0], strict=True))


def test_of_rows_it_was_trained_on_a_teacher_has_the_opinion_of_models_that_had_not_seen_them(
    bench,
):
    teacher, items = bench.run("words"), bench.items("train")
    predict_as_teacher(teacher, items)
    found = teacher_predictions(teacher, items)
    said = out_of_folds(teacher)
    np.testing.assert_allclose(found, [said[item.id] for item in items], atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    fitted = teacher.load_classifier().predict_proba(items)
    assert np.abs(found - fitted).max() > 0.05
    # So nothing was asked.
    assert not (teacher.path / TEACHER_PREDICTIONS).exists()


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


def test_a_further_row_with_the_id_of_another_does_not_take_its_place(told, bench):
    items = bench.items("train", "told")
    predict_as_teacher(told, items)
    said = out_of_folds(told)
    np.testing.assert_allclose(
        teacher_predictions(told, items), [said[one.id] for one in items], atol=1e-6
    )


def test_of_what_it_was_only_told_a_teacher_has_no_opinion(told):
    monsoon = Item("other id", "monsoon arrives in quito", "")
    predict_as_teacher(told, [monsoon])
    assert np.isnan(teacher_predictions(told, [monsoon])).all()


def test_of_other_texts_a_teacher_is_asked_and_its_answers_are_kept(bench):
    teacher = bench.run("words")
    items = [*STRANGE, *bench.items("train")[:2], *bench.items("validation")[:2]]
    predict_as_teacher(teacher, items)
    asked = [*STRANGE, *bench.items("validation")[:2]]
    kept = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    assert list(kept) == [item.content_hash for item in asked]
    expected = teacher.load_classifier().predict_proba(asked)
    np.testing.assert_allclose(list(kept.values()), expected, atol=1e-6)
    np.testing.assert_allclose(teacher_predictions(teacher, asked), expected, atol=2e-6)


def test_a_text_is_asked_about_once_and_then_the_model_is_not_needed(bench):
    teacher = bench.run("words")
    predict_as_teacher(teacher, STRANGE)
    before = (teacher.path / TEACHER_PREDICTIONS).read_bytes()
    expected = teacher_predictions(teacher, STRANGE)
    shutil.rmtree(teacher.path / "model")
    # It goes by content: another id, case or spacing makes no other text.
    again = [replace(item, id="z", title=f" {item.title.upper()} ") for item in STRANGE[::-1]]
    predict_as_teacher(teacher, [*again, *bench.items("train")])
    np.testing.assert_array_equal(teacher_predictions(teacher, again), expected[::-1])
    assert (teacher.path / TEACHER_PREDICTIONS).read_bytes() == before
    with pytest.raises(UserError, match="the model is damaged or was changed"):
        predict_as_teacher(teacher, [Item("new", "pear and plum", "")])


def test_predictions_that_an_earlier_version_kept_are_used(bench):
    teacher = bench.run("words")
    predict_as_teacher(teacher, STRANGE)
    expected = teacher_predictions(teacher, STRANGE)
    (teacher.path / TEACHER_PREDICTIONS).rename(teacher.path / "said.csv")
    np.testing.assert_array_equal(teacher_predictions(teacher, STRANGE), expected)
    predict_as_teacher(teacher, [*STRANGE, Item("new", "pear and plum", "")])
    kept = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    assert len(kept) == len(STRANGE) + 1


def test_later_answers_are_added_to_the_earlier_ones(bench):
    teacher = bench.run("words")
    predict_as_teacher(teacher, STRANGE[:2])
    first = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    predict_as_teacher(teacher, STRANGE)
    both = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    assert list(both) == [item.content_hash for item in STRANGE]
    assert all((both[key] == row).all() for key, row in first.items())
    expected = teacher.load_classifier().predict_proba(STRANGE)
    np.testing.assert_allclose(teacher_predictions(teacher, STRANGE), expected, atol=2e-6)


def test_answers_are_not_lost_to_another_student_that_asks_at_the_same_time(bench, monkeypatch):
    teacher = bench.run("words")
    write = recorded.write_predictions
    others = []

    def write_beside_another(path, ids, tags, probabilities):
        write(path, ids, tags, probabilities)
        if not others:  # it had read the file before ours was there
            others.append("f" * 64)
            write(path, others, tags, np.full((1, len(tags)), 1 / len(tags)))

    monkeypatch.setattr(recorded, "write_predictions", write_beside_another)
    predict_as_teacher(teacher, STRANGE)
    kept = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    assert kept.keys() == {*others, *(item.content_hash for item in STRANGE)}


def test_many_texts_are_asked_about_in_parts_and_the_same_text_once(bench, monkeypatch):
    teacher, sizes = bench.run("words"), []
    items = [Item(str(n), f"pear {n}", "") for n in range(11)]
    real = teacher.load_classifier()

    class Counting:
        def predict_proba(self, part):
            sizes.append(len(part))
            return real.predict_proba(part)

    monkeypatch.setattr(recorded, "PREDICTED_AT_ONCE", 4)
    monkeypatch.setattr(RunFolder, "load_classifier", lambda _: Counting())
    predict_as_teacher(teacher, [*items, *items])
    assert sizes == [4, 4, 3]
    np.testing.assert_allclose(
        teacher_predictions(teacher, items), real.predict_proba(items), atol=2e-6
    )


@pytest.mark.parametrize(
    "content",
    [
        "", "id,fruit,metal\n", "id,metal,fruit,weather\n", "id,fruit,metal,weather\nx,0.5,0.5\n",
        "id,fruit,metal,weather\nx,0.5,0.5,much\n", b"id,\xff\xfe\n",
    ],
    ids=["empty", "fewer tags", "other order", "cut", "no number", "no text"],
)  # fmt: skip
def test_damaged_answers_are_named(bench, content):
    teacher = bench.run("words")
    path = teacher.path / TEACHER_PREDICTIONS
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        predict_as_teacher(teacher, STRANGE)
    assert str(path) in str(caught.value)


def test_an_ensemble_of_teachers_is_a_teacher(bench):
    members = EnsembleConfig(approach="ensemble", name="both", runs=["words", "rough"])
    run = bench.of(members, "both", FOLDS)
    check_teachers(["both"], str(bench.folder), TAGS)
    items = bench.items("train")
    predict_as_teacher(run, [*items, *STRANGE])
    found = teacher_predictions(run, items)
    parts = [teacher_predictions(bench.run(name), items) for name in ("words", "rough")]
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)
    assert list(read_predictions(run.path / TEACHER_PREDICTIONS, TAGS)) == [
        i.content_hash for i in STRANGE
    ]


def test_a_teacher_of_other_tags_is_refused(shared):
    for tags in (TAGS[::-1], TAGS[:2], (*TAGS, "other")):
        with pytest.raises(UserError, match="words has other tags than the approved") as caught:
            check_teachers(["words"], str(shared.folder), tags)
        assert caught.value.problems == (
            "teacher: fruit, metal, weather",
            f"approved: {', '.join(tags)}",
        )


def test_a_teacher_that_only_knows_what_it_was_told_is_refused(shared):
    check_teachers(["words", "rough"], str(shared.folder), TAGS)
    with pytest.raises(UserError, match=r"plain was trained without decision\.folds") as caught:
        check_teachers(["words", "plain"], str(shared.folder), TAGS)
    assert "decision.folds=5" in caught.value.hint


def test_a_teacher_that_is_not_there_is_named(shared):
    with pytest.raises(UserError, match="there is no run 'word'"):
        check_teachers(["word"], str(shared.folder), TAGS)
