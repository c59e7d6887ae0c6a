import csv
import time

import pytest

from tagger.audit.run_audit import audit_file
from tagger.data.tags import load_tags
from tagger.errors import UserError
from tagger.files import REPO_ROOT


@pytest.fixture
def tags(toy_folder):
    return [tag.name for tag in load_tags(toy_folder / "tags.yaml")]


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_turned_labels_are_the_most_doubtful(toy_folder, tags, tmp_path):
    rows = read(toy_folder / "items.csv")
    turned = {"t05": "fruit", "t16": "weather", "t30": "metal"}
    for row in rows:
        row["tag"] = turned.get(row["id"], row["tag"])
    audit = audit_file(write(tmp_path / "turned.csv", rows), tags=tags, model=None)
    first = audit.labels.rows[:3]
    assert {row.id for row in first} == set(turned)
    assert all(row.suggested != row.tag for row in first)
    assert audit.labels.agreement > 0.9


def test_clean_labels_are_left_alone(toy_folder, tags):
    audit = audit_file(toy_folder / "items.csv", tags=tags, model=None)
    assert audit.labels.suspected == 0
    assert audit.tags.rows == {"fruit": 20, "metal": 20, "weather": 20}
    assert audit.tags.imbalance == 1
    assert audit.problems.count == 0


def test_bad_rows_are_reported_and_the_rest_is_audited(toy_folder, tags, tmp_path):
    rows = read(toy_folder / "items.csv")
    rows[3]["tag"] = "friut"
    rows[4]["created_on"] = "yesterday"
    audit = audit_file(write(tmp_path / "bad.csv", rows), tags=tags, model=None)
    assert audit.data.rows == 58
    assert audit.problems.count == 2
    assert "did you mean 'fruit'" in audit.problems.first[0]


def test_untagged_files_are_audited_for_all_else(toy_folder, tags, tmp_path):
    rows = [{"id": r["id"], "title": r["title"]} for r in read(toy_folder / "items.csv")]
    rows.append({"id": "again", "title": rows[7]["title"].upper()})
    audit = audit_file(write(tmp_path / "plain.csv", rows), tags=tags, model=None)
    assert audit.labels is None
    assert audit.drift is None
    assert audit.tags.untagged == 61
    assert audit.repeats.kinds["text"].repeated_rows == 1


def test_a_row_of_the_test_file_in_the_training_file_is_a_leak(toy_folder, tags, tmp_path):
    rows = read(toy_folder / "items.csv")
    test = write(tmp_path / "test.csv", [rows[5] | {"id": "other"}, rows[5] | {"id": "more"}])
    audit = audit_file(toy_folder / "items.csv", tags=tags, against=[test], model=None)
    leaks = [group for group in audit.repeats.groups if group.across]
    assert {row.id for group in leaks for row in group.rows} == {"t05", "other", "more"}
    assert audit.data.rows == 60


def test_the_split_column_shows_leaks_within_a_file(toy_folder, tags, tmp_path):
    rows = [r | {"part": "train"} for r in read(toy_folder / "items.csv")]
    rows.append(rows[5] | {"id": "again", "part": "test"})
    path = write(tmp_path / "parts.csv", rows)
    audit = audit_file(path, tags=tags, split_column="part", model=None)
    assert audit.repeats.kinds["near"].across == 1
    with pytest.raises(UserError, match=r"no column 'prt' \(did you mean 'part'"):
        audit_file(path, tags=tags, split_column="prt", model=None)


def test_facets_of_the_file_are_counted(toy_folder, tags, tmp_path):
    rows = read(toy_folder / "items.csv")
    for number, row in enumerate(rows):
        row["kind"] = "paper" if number % 3 else ""
        row["link"] = f"l{number}"
    audit = audit_file(write(tmp_path / "facets.csv", rows), tags=tags, model=None)
    kinds = audit.coverage["kind"]
    assert kinds["paper"].rows == 40
    assert kinds["(empty)"].tags == {"fruit": 20}
    assert "link" not in audit.coverage


def test_words_and_tags_that_change_over_time_are_drift(toy_folder, tags, tmp_path):
    rows = read(toy_folder / "items.csv")
    for number, row in enumerate(rows):
        row["created_on"] = f"20{10 + number // 6:02}-01-{1 + number % 6:02}"
        row["title"] += " punchcard" if number < 30 else " cloudnative"
    drift = audit_file(write(tmp_path / "drift.csv", rows), tags=tags, model=None).drift
    assert [period.rows for period in drift.periods] == [15] * 4
    assert drift.rise[0].word == "cloudnative"
    assert drift.fall[0].word == "punchcard"
    assert drift.auc > 0.7
    assert drift.p_value > 0.5


def test_a_misspelt_title_column_is_named(tags, tmp_path):
    path = tmp_path / "typo.csv"
    path.write_text("id,titel\n1,apple\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no column holds the text .* \(did you mean 'titel'\?\)"):
        audit_file(path, tags=tags, model=None)


def test_a_file_without_a_usable_row_is_refused(tags, tmp_path):
    path = tmp_path / "none.csv"
    path.write_text("id,title\n,\n", encoding="utf-8")
    with pytest.raises(UserError, match="no row that can be audited"):
        audit_file(path, tags=tags, model=None)


@pytest.mark.slow
def test_a_real_stream_is_audited_in_a_minute_and_no_repeat_is_missed():
    path = REPO_ROOT.parent / "shared" / "data" / "stream.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    started = time.process_time()
    audit = audit_file(path, tags=None, model=None)
    assert time.process_time() - started < 60  # 8 s
    found = {
        row.id
        for group in audit.repeats.groups
        if group.kind == "description"
        for row in group.rows[1:]
    }
    seen = set()
    repeated = set()
    for row in read(path):
        if row["description"] in seen:
            repeated.add(row["id"])
        seen.add(row["description"])
    assert len(repeated) == 747
    assert repeated <= found
