from pathlib import Path

import pytest
from sqlalchemy import delete, select, text, update
from tests.service.conftest import Submit

from tagger.errors import UserError
from tagger.service import database
from tagger.service.database import Store, latest_version, only_user, open_store
from tagger.service.events import append, every_event
from tagger.service.maintenance import backup_store, rebuild_store, upgrade_store, verify_store
from tagger.service.tables import FINGERPRINT, REVIEW_QUEUE


def fill(store: Store, submit: Submit) -> None:
    for number in range(5):
        submit(f"published number {number}")
    submit("unclear", "review", opens="unsure")
    submit("published number 1", "duplicate")
    with store.writing() as connection:
        connection.execute(text("INSERT INTO answer VALUES ('us', 'k', 'hash', '{}', 1)"))
        connection.execute(
            text("INSERT INTO api_key VALUES ('i', 'us', 'read', 'hash', 1, NULL, NULL)")
        )


def test_upgrade_makes_a_store_and_leaves_one_of_this_version_alone(
    store_url: str, tmp_path: Path
) -> None:
    told: list[str] = []
    upgrade_store(store_url, told.append)
    open_store(store_url).close()
    upgrade_store(store_url, told.append)
    assert "already" in told[1]
    assert not list(tmp_path.glob("*.backup"))


def test_upgrade_refuses_a_store_in_use_or_of_a_later_version(store: Store) -> None:
    with only_user(store.url), pytest.raises(UserError, match="another process"):
        upgrade_store(store.url, print)


def test_upgrade_backs_up_before_it_changes_anything(
    store: Store, submit: Submit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, submit)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tagger.service.maintenance.latest_version", lambda: "0002")

    def fail(connection: object, version: str) -> None:
        assert version == "0002"
        raise UserError("the upgrade fails")

    made: list[Path] = []

    def backup(url: str, out: Path) -> int:
        made.append(out)
        return 0

    monkeypatch.setattr("tagger.service.maintenance.backup_store", backup)
    monkeypatch.setattr("tagger.service.maintenance.migrate", fail)
    with pytest.raises(UserError, match="the upgrade fails"):
        upgrade_store(store.url, print)
    assert made
    monkeypatch.undo()
    assert "7 events" in verify_store(store.url)


def test_a_backup_is_a_store_with_the_same_content(
    store: Store, submit: Submit, tmp_path: Path
) -> None:
    fill(store, submit)
    out = tmp_path / "copy" / "backup.db"
    backup_store(store.url, out)
    assert [path.name for path in out.parent.iterdir()] == ["backup.db"]
    assert verify_store(f"sqlite:///{out}") == verify_store(store.url)
    copy = open_store(f"sqlite:///{out}")
    with copy.reading() as theirs, store.reading() as ours:
        assert [*every_event(theirs)] == [*every_event(ours)]
        keys = text("SELECT * FROM api_key")
        assert [*theirs.execute(keys)] == [*ours.execute(keys)]
    copy.close()
    with pytest.raises(UserError, match="exists already"):
        backup_store(store.url, out)


def test_a_backup_is_made_while_the_store_is_in_use(
    store: Store, submit: Submit, tmp_path: Path
) -> None:
    submit()
    with only_user(store.url), store.writing() as connection:
        append(connection, "reported", at=1, actor="us", item=1, data={})
        backup_store(store.url, tmp_path / "backup.db")  # of what is committed
    assert "1 events" in verify_store(f"sqlite:///{tmp_path / 'backup.db'}")


def test_there_is_nothing_to_back_up_where_there_is_no_store(
    store_url: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"there is no store|nothing to back up"):
        backup_store(store_url, tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


def test_verify_says_what_a_store_holds(store: Store, submit: Submit) -> None:
    fill(store, submit)
    assert verify_store(store.url) == (
        "7 events, 1 answers to idempotency keys; items: 1 duplicate, 5 published, 1 review"
    )


def test_indexes_that_are_wrong_are_found_and_made_anew(store: Store, submit: Submit) -> None:
    fill(store, submit)
    with store.writing() as connection:
        connection.execute(delete(FINGERPRINT).where(FINGERPRINT.c.item == 1))
        connection.execute(update(REVIEW_QUEUE).values(reason="made up"))
    with pytest.raises(UserError) as caught:
        verify_store(store.url)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "review_queue",
        "fingerprint",
    ]
    with store.reading() as connection:  # which changed nothing
        assert connection.scalar(select(REVIEW_QUEUE.c.reason)) == "made up"
    assert rebuild_store(store.url) == 7
    assert "7 events" in verify_store(store.url)


def test_events_that_are_missing_are_found(store: Store, submit: Submit) -> None:
    fill(store, submit)
    with store.writing() as connection:
        off = (
            ["DROP TRIGGER event_no_delete"]
            if connection.dialect.name == "sqlite"
            else ["DROP TRIGGER event_no_change ON event"]
        )
        for statement in [*off, "DELETE FROM event WHERE sequence = 3"]:
            connection.execute(text(statement))
    with pytest.raises(UserError, match="the last one is number 7, but there are 6"):
        verify_store(store.url)


def test_the_version_that_is_written_is_the_latest() -> None:
    assert latest_version() == "0001"
    assert (database.MIGRATIONS / "versions" / "_0001_first.py").exists()
