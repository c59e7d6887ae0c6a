import csv
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.audit.review import export_review, import_review
from tagger.audit.review_log import decisions_path, read_decisions, settled_rows
from tagger.audit.run_audit import audit_file
from tagger.audit.table import read_table
from tagger.data.tags import load_tags
from tagger.errors import UserError

TAGS = ["fruit", "metal", "weather"]


@pytest.fixture(scope="module")
def original(toy_folder, tmp_path_factory):
    """The toy file with a further column, three tags turned, and a pair that contradicts itself."""
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["note"] = f'kept, "{row["id"]}"'
    for at in (0, 3, 6):
        rows[at]["tag"] = "metal"
    rows.append(rows[10] | {"id": "twin", "tag": "weather"})
    path = tmp_path_factory.mktemp("review") / "items.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def exported(original, tags):
    """The suspected rows of the file, as a reviewer is given them."""
    path = original.with_name("exported.csv")
    export_review(audit(original, tags), path)
    return path


@pytest.fixture
def data(original, tmp_path):
    return Path(shutil.copy(original, tmp_path))


@pytest.fixture(scope="module")
def tags(toy_folder):
    return [tag.name for tag in load_tags(toy_folder / "tags.yaml")]


def audit(data, tags):
    return audit_file(data, tags=tags, model=None)


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def decide(path, decisions):
    """Fill in a review: {id: (decision, new_tag, why)}."""
    rows = read(path)
    for row in rows:
        row["decision"], row["new_tag"], row["why"] = decisions.get(row["id"], ("", "", ""))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def review_of(exported, tmp_path):
    """Makes a copy of the exported rows with decisions filled in."""

    def fill(decisions):
        path = Path(shutil.copy(exported, tmp_path / "review.csv"))
        decide(path, decisions)
        return path

    return fill


ALL = {
    "t00": ("relabel", "fruit", "apples are no metal"),
    "t03": ("keep", "", "a copper apple"),
    "twin": ("drop", "", "the same as t10"),
}


def test_the_loop_from_doubt_to_a_new_version(data, tags, tmp_path, review_of):
    before = read_table(data, TAGS)
    review = review_of(ALL)
    assert {"t00", "t03", "t06", "t10", "twin"} <= {row["id"] for row in read(review)}

    decisions = import_review(data, review, tags=tags, by="Ada")

    after = read_table(data, TAGS)
    tag_of = {item.id: item.tag for item in after.items}
    assert tag_of["t00"] == "fruit"
    assert tag_of["t03"] == "metal"
    assert "twin" not in tag_of
    assert after.version != before.version
    assert [item.id for item in after.items] == [i.id for i in before.items if i.id != "twin"]
    assert after.columns["note"][0] == 'kept, "t00"'
    assert read_decisions(data) == decisions
    assert {(one.by, one.data_before, one.data_after) for one in decisions} == {
        ("Ada", before.version, after.version)
    }
    assert {one.id: one.why for one in decisions}["t03"] == "a copper apple"

    again = audit(data, tags)
    settled = {row.id: row.settled for row in again.labels.rows}
    assert settled["t03"].by == "Ada"
    assert settled["t06"] is None


def test_importing_twice_changes_nothing_more(data, tags, tmp_path, review_of):
    review = review_of(ALL)
    import_review(data, review, tags=tags, by="Ada")
    contents = data.read_bytes(), decisions_path(data).read_bytes()
    assert import_review(data, review, tags=tags, by="Ada") == []
    assert (data.read_bytes(), decisions_path(data).read_bytes()) == contents


def test_an_import_killed_after_its_log_is_finished_by_the_next(data, tags, tmp_path, review_of):
    review = review_of(ALL)
    original = data.read_bytes()
    import_review(data, review, tags=tags, by="Ada")
    changed, log = data.read_bytes(), decisions_path(data).read_bytes()
    data.write_bytes(original)
    import_review(data, review, tags=tags, by="Ada")
    assert data.read_bytes() == changed
    assert decisions_path(data).read_bytes() == log


def test_every_mistake_is_listed_and_nothing_is_touched(data, tags, tmp_path, review_of):
    review = review_of(
        {
            "t00": ("relable", "", "typo"),
            "t03": ("relabel", "fruits", "a plural"),
            "t06": ("keep", "", ""),
            "twin": ("drop", "fruit", "drop takes no tag"),
        },
    )
    original = data.read_bytes()
    with pytest.raises(UserError) as caught:
        import_review(data, review, tags=tags, by="Ada")
    text = str(caught.value)
    for expected in ("'relable'", "did you mean 'fruit'", "why is empty", "only relabel"):
        assert expected in text
    assert data.read_bytes() == original
    assert not decisions_path(data).exists()


def test_a_row_that_changed_since_its_export_is_refused(data, tags, tmp_path, review_of):
    review = review_of({"t00": ALL["t00"]})
    data.write_text(
        data.read_text(encoding="utf-8").replace("t00,2010-03-01 12:00:00,", "t00,2010-03-01,new "),
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="cannot be imported") as caught:
        import_review(data, review, tags=tags, by="Ada")
    assert "has changed since" in str(caught.value)


def test_a_decision_lapses_when_the_text_changes(data, tags, tmp_path, review_of):
    import_review(data, review_of(ALL), tags=tags, by="Ada")
    table = read_table(data, TAGS)
    assert len(settled_rows(table, read_decisions(data))) == 2
    data.write_text(
        data.read_text(encoding="utf-8").replace("t03,2013-03-04 12:00:00,", "t03,2013-03-04,x "),
        encoding="utf-8",
    )
    assert len(settled_rows(read_table(data, TAGS), read_decisions(data))) == 1


def test_a_review_in_progress_is_not_overwritten(data, tags, tmp_path, review_of):
    review = review_of(ALL)
    with pytest.raises(UserError, match="exists already"):
        export_review(audit(data, tags), review)


def test_a_decision_needs_a_name(data, tags, tmp_path, review_of):
    with pytest.raises(UserError, match="--by"):
        import_review(data, tmp_path / "none.csv", tags=tags, by=" ")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_other_formats_keep_their_other_columns(ending, data, tags, tmp_path, review_of):
    rows = read(data)
    other = tmp_path / f"other{ending}"
    if ending == ".jsonl":
        lines = [json.dumps(row | {"extra": {"a": [1]}}) + "\n" for row in rows]
        other.write_text("".join(lines), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist([row | {"extra": [1]} for row in rows]), other)
    import_review(other, review_of(ALL), tags=tags, by="Ada")
    tag_of = {item.id: item.tag for item in read_table(other, TAGS).items}
    assert tag_of["t00"] == "fruit"
    assert "twin" not in tag_of
    if ending == ".jsonl":
        first = json.loads(other.read_text(encoding="utf-8").splitlines()[0])
        assert first["extra"] == {"a": [1]}
    else:
        assert pq.read_table(other).column("extra").to_pylist()[0] == [1]
