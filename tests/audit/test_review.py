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
from tagger.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original(toy_folder, read_rows, write_rows, tmp_path_factory):
    """The toy file with a further column, three tags turned, and a pair that contradicts itself."""
    rows = [row | {"note": f'kept, "{row["id"]}"'} for row in read_rows(toy_folder / "items.csv")]
    for at in (0, 3, 6):
        rows[at]["tag"] = "metal"
    rows.append(rows[10] | {"id": "twin", "tag": "weather"})
    return write_rows(tmp_path_factory.mktemp("review") / "items.csv", rows)


@pytest.fixture(scope="module")
def audit(original, tags):
    return audit_file(original, tags=tags, model=None)


@pytest.fixture(scope="module")
def exported(original, audit):
    """The suspected rows of the file, as a reviewer is given them."""
    path = original.with_name("exported.csv")
    export_review(audit, path)
    return path


@pytest.fixture
def data(original, tmp_path):
    return Path(shutil.copy(original, tmp_path))


@pytest.fixture
def review_of(exported, read_rows, write_rows, tmp_path):
    """Fills decisions into a copy of the exported rows: {id: (decision, new_tag, why)}."""

    def fill(decisions):
        columns = ("decision", "new_tag", "why")
        rows = [
            row | dict(zip(columns, decisions.get(row["id"], ("", "", "")), strict=True))
            for row in read_rows(exported)
        ]
        return write_rows(tmp_path / "review.csv", rows)

    return fill


ALL = {
    "t00": ("relabel", "fruit", "apples are no metal"),
    "t03": ("keep", "", "a copper apple"),
    "twin": ("drop", "", "the same as t10"),
}


def test_the_loop_from_doubt_to_a_new_version(data, tags, read_rows, review_of):
    before = read_table(data, tags)
    review = review_of(ALL)
    assert {"t00", "t03", "t06", "t10", "twin"} <= {row["id"] for row in read_rows(review)}

    decisions = import_review(data, review, tags=tags, by="Ada")

    after = read_table(data, tags)
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

    settled = {after.items[at].id: one for at, one in settled_rows(after, decisions).items()}
    assert set(settled) == {"t00", "t03"}
    assert settled["t03"].by == "Ada"


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


def test_a_review_in_progress_is_not_overwritten(audit, exported):
    with pytest.raises(UserError, match="exists already"):
        export_review(audit, exported)


def test_rows_of_a_file_that_changed_are_not_exported(audit, original, tmp_path):
    path = Path(shutil.copy(original, tmp_path))
    path.write_text(path.read_text(encoding="utf-8").replace("t05,", "t5,"), encoding="utf-8")
    changed = audit.model_copy(update={"data": audit.data.model_copy(update={"path": str(path)})})
    with pytest.raises(UserError, match="has changed since it was audited"):
        export_review(changed, tmp_path / "new.csv")


def test_a_decision_needs_a_name(data, tags, tmp_path, review_of):
    with pytest.raises(UserError, match="--by"):
        import_review(data, tmp_path / "none.csv", tags=tags, by=" ")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_other_formats_keep_their_other_columns(ending, data, read_rows, review_of):
    rows = read_rows(data)
    other = data.with_name(f"other{ending}")
    if ending == ".jsonl":
        lines = [json.dumps(row | {"extra": {"a": [1]}}) + "\n" for row in rows]
        other.write_text("".join(lines), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist([row | {"extra": [1]} for row in rows]), other)
    import_review(other, review_of(ALL), tags=None, by="Ada")
    tag_of = {item.id: item.tag for item in read_table(other, None).items}
    assert tag_of["t00"] == "fruit"
    assert "twin" not in tag_of
    if ending == ".jsonl":
        first = json.loads(other.read_text(encoding="utf-8").splitlines()[0])
        assert first["extra"] == {"a": [1]}
    else:
        assert pq.read_table(other).column("extra").to_pylist()[0] == [1]
