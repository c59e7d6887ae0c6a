import csv
from pathlib import Path

import pytest
from tests.service.conftest import OpenItem, People, Submit

from tagger.data.columns import UNSAID
from tagger.data.sources import open_file, read_labelled
from tagger.service.bodies import FeedbackIn
from tagger.service.content import REPORTED, SAMPLE, report_item
from tagger.service.events import NO_TAG
from tagger.service.labels import COLUMNS, pull_labels

Rows = list[dict[str, str]]


def pull(people: People, folder: Path, *, sample_for_training: bool = False) -> list[str]:
    with people.store.reading() as connection:
        return [
            line.removeprefix(f"{folder}/")
            for line in pull_labels(
                connection, folder / "labels.csv", sample_for_training=sample_for_training
            )
        ]


def rows(folder: Path, name: str = "labels.csv") -> Rows:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def settle(people: People, item: int, tag: str | None, who: str = "a") -> None:
    people.claim(who)
    people.label(who, item, tag)


def test_an_empty_store_gives_tables_without_rows(people: People, tmp_path: Path) -> None:
    told = pull(people, tmp_path)
    assert [line.partition(",")[0] for line in told] == [
        "labels.conflicts.csv: 0 labels that differ",
        "labels.sample.csv: 0 rows of the random sample",
        "labels.csv: 0 rows for training",
    ]
    assert (tmp_path / "labels.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_a_row_says_what_was_labelled_by_whom_and_why(
    people: People, open_item: OpenItem, submit: Submit, tmp_path: Path
) -> None:
    item = open_item("änderung 🍏", id="arxiv:1", description='"two"\nlines')
    settle(people, item, "metal")
    reported = open_item("reported", "published", opens=REPORTED)
    settle(people, reported, "fruit", "b")
    settle(people, open_item("like another", duplicate_of=reported), None)
    open_item("waits", "published", opens=REPORTED)
    told = pull(people, tmp_path)
    assert told[-2].startswith("labels.csv: 2 rows for training, version ")
    assert told[-1] == "reported items that wait for people, without a label: 1"
    assert rows(tmp_path) == [
        {
            "id": str(item), "source_id": "arxiv:1", "created_on": "1970-01-01 00:00:01",
            "title": "änderung 🍏", "description": '"two"\nlines', "tag": "metal",
            "source": "review", "inclusion_probability": "", "labelled_by": "a",
            "labelled_at": "1970-01-01 00:00:10", "run": "r", "version": "1", "would_publish": "",
        },
        rows(tmp_path)[1],
    ]  # fmt: skip
    assert [rows(tmp_path)[1][name] for name in ("tag", "source", "labelled_by")] == [
        "fruit", "report", "b",
    ]  # fmt: skip


def test_the_same_labels_give_the_same_bytes(
    people: People, open_item: OpenItem, tmp_path: Path
) -> None:
    settle(people, open_item("one"), "metal")
    first = pull(people, tmp_path), (tmp_path / "labels.csv").read_bytes()
    item = open_item("another that waits")
    assert (pull(people, tmp_path), (tmp_path / "labels.csv").read_bytes()) == first
    settle(people, item, "fruit")
    assert pull(people, tmp_path) != first[0]
    assert {path.name for path in tmp_path.glob("labels*")} == {
        "labels.csv", "labels.conflicts.csv", "labels.sample.csv",
    }  # fmt: skip


def test_rows_of_the_sample_are_for_evaluation_unless_asked_for(
    people: People, open_item: OpenItem, tmp_path: Path
) -> None:
    sample = open_item("drawn", "published", opens=SAMPLE, inclusion_probability=0.02)
    settle(people, sample, "metal")
    with people.store.writing() as connection:
        report_item(connection, FeedbackIn(item=sample), client="user", at=5)
    later = people.claim("b")
    assert later is not None
    people.label("b", later, "fruit")
    pull(people, tmp_path)
    assert rows(tmp_path) == []
    (row,) = rows(tmp_path, "labels.sample.csv")
    assert (row["tag"], row["inclusion_probability"]) == ("metal", "0.02")  # of the blind look
    conflicts = rows(tmp_path, "labels.conflicts.csv")
    assert [(one["tag"], one["source"]) for one in conflicts] == [
        ("metal", "sample"), ("fruit", "report"),
    ]  # fmt: skip
    pull(people, tmp_path, sample_for_training=True)
    assert [row["source"] for row in rows(tmp_path)] == ["sample"]


def test_the_sample_says_what_the_run_published_or_would_have(
    people: People, open_item: OpenItem, tmp_path: Path
) -> None:
    drawn = {"opens": SAMPLE, "inclusion_probability": 0.02}
    items = [
        open_item("of an older version", "published", **drawn),
        open_item("published", "published", would_publish="fruit", **drawn),
        open_item("held", would_publish="metal", **drawn),
        open_item("asked", would_publish=None, **drawn),
    ]
    for item in items:
        settle(people, item, "weather")
    pull(people, tmp_path)
    found = [row["would_publish"] for row in rows(tmp_path, "labels.sample.csv")]
    assert found == ["fruit", "fruit", "metal", ""]


def test_labels_that_differ_are_listed_and_not_averaged_away(
    people: People, open_item: OpenItem, tmp_path: Path
) -> None:
    people.people = 2
    decided, undecided = open_item("one"), open_item("two")
    for who, tag in (("a", "metal"), ("b", "fruit"), ("c", "metal")):
        settle(people, decided, tag, who)
    settle(people, undecided, "metal", "a")
    pull(people, tmp_path)
    assert {row["id"] for row in rows(tmp_path, "labels.conflicts.csv")} == {str(decided)}
    settle(people, undecided, "weather", "b")
    pull(people, tmp_path)
    (row,) = rows(tmp_path)
    assert (row["id"], row["tag"], row["labelled_by"]) == (str(decided), "metal", "a c")
    conflicts = rows(tmp_path, "labels.conflicts.csv")
    assert [(one["id"], one["labelled_by"], one["tag"]) for one in conflicts] == [
        ("1", "a", "metal"), ("1", "b", "fruit"), ("1", "c", "metal"),
        ("2", "a", "metal"), ("2", "b", "weather"),
    ]  # fmt: skip


def test_rejected_items_are_left_out_and_counted(
    people: People, open_item: OpenItem, tmp_path: Path
) -> None:
    people.people = 2
    drawn = open_item("buy now", "published", opens=SAMPLE, inclusion_probability=0.02)
    both, differing = open_item("spam"), open_item("not sure")
    for who in ("a", "b"):
        settle(people, drawn, NO_TAG, who)
        settle(people, both, NO_TAG, who)
        settle(people, differing, NO_TAG if who == "a" else "metal", who)
    settle(people, differing, "metal", "c")
    told = pull(people, tmp_path)
    assert told[-1] == "rejected items, left out: 2, 1 of them in the sample"
    assert [row["id"] for row in rows(tmp_path)] == [str(differing)]
    assert rows(tmp_path, "labels.sample.csv") == []
    conflicts = rows(tmp_path, "labels.conflicts.csv")
    assert [(one["id"], one["tag"]) for one in conflicts] == [
        (str(differing), ""), (str(differing), "metal"), (str(differing), "metal"),
    ]  # fmt: skip


def test_labels_that_were_taken_back_are_no_labels(
    people: People, open_item: OpenItem, tmp_path: Path
) -> None:
    item = open_item("one")
    settle(people, item, "metal")
    people.undo("a", item)
    pull(people, tmp_path)
    assert rows(tmp_path) == []
    people.label("a", item, "fruit")
    pull(people, tmp_path)
    assert [row["tag"] for row in rows(tmp_path)] == ["fruit"]
    assert rows(tmp_path, "labels.conflicts.csv") == []


@pytest.mark.parametrize("title", ['=HYPERLINK("x")', "+1", "-1 apple", "@sum", "'=quoted", "\ta"])
def test_formulas_are_guarded_and_trained_on_without_the_guard(
    people: People, open_item: OpenItem, tmp_path: Path, title: str
) -> None:
    settle(people, open_item(title), "metal")
    pull(people, tmp_path)
    assert rows(tmp_path)[0]["title"] == f"'{title}"
    read = read_labelled([open_file(tmp_path / "labels.csv")], UNSAID, None)
    assert [(item.title, item.tag) for item in read.items] == [(title.strip(), "metal")]
