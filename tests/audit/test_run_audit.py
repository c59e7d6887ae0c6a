import time

import pytest

from tagger.audit.run_audit import audit_file
from tagger.errors import UserError
from tagger.files import REPO_ROOT

pytestmark = pytest.mark.slow

TURNED = {"t05": "fruit", "t16": "weather", "t30": "metal"}


@pytest.fixture(scope="module")
def audit(toy_folder, read_rows, write_rows, tags, tmp_path_factory):
    """The audit of the toy file with three turned tags, a bad row and a repeat in another part."""
    rows = [
        row | {"tag": TURNED.get(row["id"], row["tag"]), "part": "train"}
        for row in read_rows(toy_folder / "items.csv")
    ]
    rows[4]["created_on"] = "yesterday"
    rows.append(rows[8] | {"id": "again", "part": "test"})
    path = write_rows(tmp_path_factory.mktemp("audit") / "turned.csv", rows)
    return audit_file(path, tags=tags, split_column="part", model=None)


def test_turned_labels_are_the_most_doubtful(audit):
    first = audit.labels.rows[:3]
    assert {row.id for row in first} == set(TURNED)
    assert all(row.suggested != row.tag for row in first)
    assert audit.labels.agreement > 0.9


def test_bad_rows_are_reported_and_the_rest_is_audited(audit):
    assert audit.data.rows == 60
    assert audit.problems.count == 1
    assert "created_on is 'yesterday'" in audit.problems.first[0]
    assert audit.coverage["part"]["train"].rows == 59
    assert [period.rows for period in audit.drift.periods] == [15] * 4


def test_the_split_column_shows_leaks_within_a_file(audit, toy_folder, tags):
    assert audit.repeats.kinds["near"].across == 1
    (leak,) = [group for group in audit.repeats.groups if group.across and group.kind == "near"]
    assert [row.part for row in leak.rows] == ["train", "test"]
    assert audit.data.split_column == "part"
    with pytest.raises(UserError, match=r"no column 'taag'"):
        audit_file(toy_folder / "items.csv", tags=tags, split_column="taag", model=None)


def test_clean_labels_are_left_alone_and_a_row_of_a_test_file_is_a_leak(
    toy_folder, toy_rows, write_rows, tags, tmp_path
):
    row = toy_rows[5]
    test = write_rows(tmp_path / "test.csv", [row | {"id": "other"}, row | {"id": "more"}])
    audit = audit_file(toy_folder / "items.csv", tags=tags, against=[test], model=None)
    leaks = [group for group in audit.repeats.groups if group.across]
    assert {row.id for group in leaks for row in group.rows} == {"t05", "other", "more"}
    assert audit.data.rows == 60
    assert audit.labels.suspected == 0
    assert audit.problems.count == 0


def test_untagged_files_are_audited_for_all_else(toy_rows, write_rows, tags, tmp_path):
    rows = [{"id": row["id"], "title": row["title"]} for row in toy_rows]
    rows.append({"id": "again", "title": rows[7]["title"].upper()})
    audit = audit_file(write_rows(tmp_path / "plain.csv", rows), tags=tags, model=None)
    assert audit.labels is None
    assert audit.drift is None
    assert audit.tags.untagged == 61
    assert audit.repeats.kinds["text"].repeated_rows == 1


def test_a_real_stream_is_audited_in_a_minute_and_no_repeat_is_missed(read_rows):
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
    for row in read_rows(path):
        if row["description"] in seen:
            repeated.add(row["id"])
        seen.add(row["description"])
    assert len(repeated) == 747
    assert repeated <= found
