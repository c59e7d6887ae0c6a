import shutil
from dataclasses import replace

import numpy as np
import pytest

from tagger.config.schema import EnsembleConfig
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.oof import recorded
from tagger.oof.recorded import (
    TEACHER_PREDICTIONS,
    check_teachers,
    predict_as_teacher,
    teacher_predictions,
)
from tagger.runs import RunFolder, read_calibration, read_ids, read_predictions

pytestmark = pytest.mark.slow

TAGS = ("fruit", "metal", "weather")


def out_of_folds(run):
    path = run.path / "calibration.csv"
    return dict(zip(read_ids(path), read_calibration(path, TAGS)[0], strict=True))


def test_of_rows_it_was_trained_on_a_teacher_has_the_opinion_of_models_that_had_not_seen_them(runs):
    teacher, items = runs.open("words"), runs.items("words", "train")
    predict_as_teacher(teacher, items)
    found = teacher_predictions(teacher, items)
    said = out_of_folds(teacher)
    np.testing.assert_allclose(found, [said[item.id] for item in items], atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    fitted = teacher.load_classifier().predict_proba(items)
    assert np.abs(found - fitted).max() > 0.05
    # So nothing was asked.
    assert not (teacher.path / TEACHER_PREDICTIONS).exists()


def test_a_further_row_with_the_id_of_another_does_not_take_its_place(runs):
    told, items = runs.open("told"), runs.items("told", "train")
    predict_as_teacher(told, items)
    said = out_of_folds(told)
    np.testing.assert_allclose(
        teacher_predictions(told, items), [said[one.id] for one in items], atol=1e-6
    )


def test_of_what_it_was_only_told_a_teacher_has_no_opinion(runs):
    told = runs.open("told")
    monsoon = Item("other id", "monsoon arrives in quito", "")
    predict_as_teacher(told, [monsoon])
    assert np.isnan(teacher_predictions(told, [monsoon])).all()


def test_of_other_texts_a_teacher_is_asked_and_its_answers_are_kept(runs, strange_items):
    teacher = runs.open("words")
    items = [
        *strange_items,
        *runs.items("words", "train")[:2],
        *runs.items("words", "validation")[:2],
    ]
    predict_as_teacher(teacher, items)
    asked = [*strange_items, *runs.items("words", "validation")[:2]]
    kept = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    assert list(kept) == [item.content_hash for item in asked]
    expected = teacher.load_classifier().predict_proba(asked)
    np.testing.assert_allclose(list(kept.values()), expected, atol=1e-6)
    np.testing.assert_allclose(teacher_predictions(teacher, asked), expected, atol=2e-6)


def test_a_text_is_asked_about_once_and_then_the_model_is_not_needed(runs, strange_items):
    teacher = runs.open("words")
    predict_as_teacher(teacher, strange_items)
    before = (teacher.path / TEACHER_PREDICTIONS).read_bytes()
    expected = teacher_predictions(teacher, strange_items)
    shutil.rmtree(teacher.path / "model")
    # It goes by content: another id, case or spacing makes no other text.
    again = [replace(item, id="z", title=f" {item.title.upper()} ") for item in strange_items[::-1]]
    predict_as_teacher(teacher, [*again, *runs.items("words", "train")])
    np.testing.assert_array_equal(teacher_predictions(teacher, again), expected[::-1])
    assert (teacher.path / TEACHER_PREDICTIONS).read_bytes() == before
    with pytest.raises(UserError, match="the model is damaged or was changed"):
        predict_as_teacher(teacher, [Item("new", "pear and plum", "")])


def test_later_answers_are_added_to_the_earlier_ones(runs, strange_items):
    teacher = runs.open("words")
    predict_as_teacher(teacher, strange_items[:2])
    first = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    predict_as_teacher(teacher, strange_items)
    both = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    assert list(both) == [item.content_hash for item in strange_items]
    assert all((both[key] == row).all() for key, row in first.items())
    expected = teacher.load_classifier().predict_proba(strange_items)
    np.testing.assert_allclose(teacher_predictions(teacher, strange_items), expected, atol=2e-6)


def test_answers_are_not_lost_to_another_student_that_asks_at_the_same_time(
    runs, monkeypatch, strange_items
):
    teacher = runs.open("words")
    write = recorded.write_predictions
    others = []

    def write_beside_another(path, ids, tags, probabilities):
        write(path, ids, tags, probabilities)
        if not others:  # it had read the file before ours was there
            others.append("f" * 64)
            write(path, others, tags, np.full((1, len(tags)), 1 / len(tags)))

    monkeypatch.setattr(recorded, "write_predictions", write_beside_another)
    predict_as_teacher(teacher, strange_items)
    kept = read_predictions(teacher.path / TEACHER_PREDICTIONS, TAGS)
    assert kept.keys() == {*others, *(item.content_hash for item in strange_items)}


def test_many_texts_are_asked_about_in_parts_and_the_same_text_once(runs, monkeypatch):
    teacher, sizes = runs.open("words"), []
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
def test_damaged_answers_are_named(runs, content, strange_items):
    teacher = runs.open("words")
    path = teacher.path / TEACHER_PREDICTIONS
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        predict_as_teacher(teacher, strange_items)
    assert str(path) in str(caught.value)


def test_an_ensemble_of_teachers_is_a_teacher(runs, strange_items):
    members = EnsembleConfig(approach="ensemble", name="both", runs=["words", "rough"])
    run = runs.train("both", "decision.folds=3", model=members)
    check_teachers(["both"], str(runs.folder), TAGS, others=False)
    items = runs.items("words", "train")
    predict_as_teacher(run, [*items, *strange_items])
    found = teacher_predictions(run, items)
    parts = [teacher_predictions(runs.open(name), items) for name in ("words", "rough")]
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)
    assert list(read_predictions(run.path / TEACHER_PREDICTIONS, TAGS)) == [
        i.content_hash for i in strange_items
    ]


def test_a_teacher_of_other_tags_is_refused(shared_runs):
    for tags in (TAGS[::-1], TAGS[:2], (*TAGS, "other")):
        with pytest.raises(UserError, match="words has other tags than the approved") as caught:
            check_teachers(["words"], str(shared_runs.folder), tags, others=False)
        assert caught.value.problems == (
            "teacher: fruit, metal, weather",
            f"approved: {', '.join(tags)}",
        )


def test_a_teacher_that_only_knows_what_it_was_told_is_refused(shared_runs):
    check_teachers(["words", "rough"], str(shared_runs.folder), TAGS, others=False)
    check_teachers(["words", "plain"], str(shared_runs.folder), TAGS, others=False)
    with pytest.raises(UserError, match=r"plain were trained without decision\.folds") as caught:
        check_teachers(["plain"], str(shared_runs.folder), TAGS, others=False)
    assert "decision.folds=5" in caught.value.hint
    # Of other texts it says what it thinks; of the rows that it was told of it says nothing.
    check_teachers(["plain"], str(shared_runs.folder), TAGS, others=True)
    plain = shared_runs.open("plain")
    assert np.isnan(teacher_predictions(plain, shared_runs.items("plain", "train"))).all()


def test_a_teacher_that_is_not_there_is_named(shared_runs):
    with pytest.raises(UserError, match="there is no run 'word'"):
        check_teachers(["word"], str(shared_runs.folder), TAGS, others=False)
