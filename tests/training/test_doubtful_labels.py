import csv

import pytest
from tagger.training.doubtful_labels import settle_doubtful_labels

from tagger.data.sources import load_labelled
from tagger.errors import UserError
from tagger.runs import RunFolder
from tagger.training.train_run import train

TURNED = {"t05": "fruit", "t16": "weather", "t30": "metal"}


@pytest.fixture
def turned(toy_folder, tmp_path):
    """The toy file with three wrong tags."""
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["tag"] = TURNED.get(row["id"], row["tag"])
    path = tmp_path / "turned.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def settle(turned, tiny_config, tiny_classifier):
    items = load_labelled(tiny_config(f"data.path={turned}").data, tiny_classifier.tags).items

    def run(action):
        return items, settle_doubtful_labels(
            items, tiny_classifier.tags, action, tiny_classifier.embed
        )

    return run


def test_by_default_nothing_is_looked_for(settle):
    items, rows = settle("keep")
    assert rows.items == items
    assert rows.weights == [1.0] * 60
    assert rows.doubtful == []


def test_dropping_leaves_the_doubtful_rows_out(settle):
    items, rows = settle("drop")
    assert {row[0] for row in rows.doubtful} == set(TURNED)
    assert rows.items == [item for item in items if item.id not in TURNED]
    assert len(rows.weights) == len(rows.items)


def test_relabelling_gives_them_the_tag_that_the_models_prefer(settle):
    items, rows = settle("relabel")
    before = {item.id: item.tag for item in items}
    after = {item.id: item.tag for item in rows.items}
    assert {after[one] for one in TURNED} <= {"fruit", "metal", "weather"}
    assert {one for one in before if before[one] != after[one]} == set(TURNED)
    assert after["t05"] == "weather"  # what it was before the test turned it


def test_down_weighting_changes_weights_alone(settle):
    items, rows = settle("down_weight")
    assert rows.items == items
    light = {item.id for item, weight in zip(items, rows.weights, strict=True) if weight < 1}
    assert light == set(TURNED)


def test_tags_too_rare_to_be_learned_are_left_alone(tiny_classifier, turned, tiny_config):
    items = load_labelled(tiny_config(f"data.path={turned}").data, tiny_classifier.tags).items
    few = [item for item in items if item.tag != "metal"]
    few += [item for item in items if item.tag == "metal"][:4]
    rows = settle_doubtful_labels(few, tiny_classifier.tags, "drop", None)
    assert sum(item.tag == "metal" for item in rows.items) == 4


def test_a_run_notes_what_it_doubted_and_leaves_other_rows_as_they_are(
    turned, tiny_config, tmp_path
):
    run = RunFolder(
        train(
            tiny_config(
                f"data.path={turned}",
                "training.doubtful_labels=relabel",
                "training.epochs=1",
                "name=relabelled",
                f"runs_dir={tmp_path / 'runs'}",
            )
        )
    )
    with (run.path / "doubtful.csv").open(encoding="utf-8", newline="") as file:
        doubted = {row["id"]: row for row in csv.DictReader(file)}
    training = {row.id for row in run.split_rows() if row.split == "train"}
    assert doubted.keys() <= training
    assert doubted.keys() & TURNED.keys() == training & TURNED.keys()
    assert {row["action"] for row in doubted.values()} == {"relabel"}
    assert {row.id: row.tag for row in run.split_rows()}["t05"] == TURNED["t05"]


def test_other_actions_are_refused(tiny_config):
    with pytest.raises(UserError, match=r"training\.doubtful_labels"):
        tiny_config("training.doubtful_labels=burn")
