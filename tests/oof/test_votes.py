import csv

import numpy as np
import pytest

from tagger.oof.votes import out_of_fold_votes


def mean_of(votes):
    return np.mean(list(votes.values()), axis=0)


@pytest.fixture
def texts_and_labels(toy_folder):
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tags = sorted({row["tag"] for row in rows})
    return [f"{r['title']}. {r['description']}" for r in rows], [tags.index(r["tag"]) for r in rows]


def test_voters_learn_what_there_is_to_learn(texts_and_labels):
    texts, labels = texts_and_labels
    vectors = np.eye(3)[labels] + np.random.default_rng(0).normal(0, 0.2, (len(labels), 3))
    votes = out_of_fold_votes(texts, labels, 3, groups=range(len(texts)), vectors=vectors)
    assert set(votes) == {"meaning", "knn", "words"}
    for rows in votes.values():
        np.testing.assert_allclose(rows.sum(axis=1), 1)
        assert (rows.argmax(axis=1) == labels).mean() > 0.9


@pytest.mark.slow
def test_no_item_has_a_say_in_its_own_vote(texts_and_labels):
    texts, labels = texts_and_labels
    wrong = [*labels]
    wrong[4] = (labels[4] + 1) % 3
    votes = out_of_fold_votes(texts, wrong, 3, groups=range(len(texts)), vectors=None)
    assert set(votes) == {"words", "words (Bayes)"}
    assert mean_of(votes)[4].argmax() == labels[4]


@pytest.mark.slow
def test_near_duplicates_share_a_fold(texts_and_labels):
    texts, labels = texts_and_labels
    # Fruit becomes one group of which half is called metal: alone in its fold, nobody learned it.
    one_text = [texts[0]] * 10
    groups = [*range(len(texts)), *[0] * 10]
    votes = out_of_fold_votes(texts + one_text, labels + [1] * 10, 3, groups=groups, vectors=None)
    assert (mean_of(votes)[len(texts) :].argmax(axis=1) == labels[0]).all()


def test_a_tag_that_no_item_has_gets_nothing_and_rare_ones_do_no_harm(texts_and_labels):
    texts, labels = texts_and_labels
    few = [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 1]  # ten of one tag, one of another
    votes = out_of_fold_votes(
        [texts[i] for i in few], [labels[i] for i in few], 5, groups=few, vectors=None
    )
    for rows in votes.values():
        np.testing.assert_allclose(rows.sum(axis=1), 1)
        assert rows[:, 3:].sum() == 0


def test_texts_without_letters_are_texts():
    votes = out_of_fold_votes(
        ["🙂", "🙂 🙂", "🚀", "🚀 🚀"] * 3, [0, 0, 1, 1] * 3, 2, groups=range(12), vectors=None
    )
    assert np.isfinite(mean_of(votes)).all()


def test_one_tag_cannot_be_voted_on():
    with pytest.raises(ValueError, match="two tags"):
        out_of_fold_votes(["a b", "c d"], [1, 1], 2, groups=[0, 1], vectors=None)
