import logging
import re

import pytest
from sqlalchemy import text

from tagger.errors import UserError
from tagger.service import keys
from tagger.service.database import Store
from tagger.service.keys import LOCAL, Authentication, Client, RedactKeys, Role
from tagger.service.refusals import Refusal


def create(store: Store, role: Role = "read", days: float | None = None) -> str:
    with store.writing() as connection:
        return keys.create_key(connection, "somebody", role, days)


def refused(authentication: Authentication, header: str | None) -> str:
    with pytest.raises(Refusal) as caught:
        authentication.identify(header)
    assert caught.value.status == 401
    return str(caught.value)


def test_a_key_is_known_by_its_secret_which_the_store_does_not_have(store: Store) -> None:
    key = create(store, "submit")
    assert re.fullmatch(r"tg_[0-9a-f]{12}_[0-9a-f]{48}", key)
    _, key_id, secret = key.split("_")
    assert Authentication(store).identify(f"Bearer {key}") == Client(key_id, "submit")
    with store.reading() as connection:
        assert secret not in str(connection.execute(text("SELECT * FROM api_key")).all())


def test_without_any_key_in_the_store_whoever_asks_may_do_everything(store: Store) -> None:
    assert Authentication(store).identify(None) == LOCAL
    create(store)
    assert "a key is needed" in refused(Authentication(store), None)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer nothing", "Basic dXM6c2VjcmV0", "Bearer tg_0123456789ab_short"],
)
def test_what_is_no_key_is_refused(store: Store, header: str) -> None:
    for _ in range(2):  # without keys in the store, and with one
        assert "a key is needed" in refused(Authentication(store), header)
        create(store)


def test_another_secret_or_id_is_refused(store: Store) -> None:
    _, key_id, secret = create(store).split("_")
    for other in (f"tg_{key_id}_{'0' * 48}", f"tg_{'0' * 12}_{secret}"):
        assert "not known" in refused(Authentication(store), f"Bearer {other}")


def test_an_expired_key_is_refused(store: Store) -> None:
    key = create(store, days=-1)
    assert "expired" in refused(Authentication(store), f"Bearer {key}")
    assert Authentication(store).identify(f"Bearer {create(store, days=1)}").role == "read"


def test_a_revoked_key_is_refused_within_a_second(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("tagger.service.keys.time.monotonic", lambda: now)
    key = create(store)
    header = f"Bearer {key}"
    authentication = Authentication(store)
    assert not authentication.known(header)
    authentication.identify(header)
    with store.writing() as connection:
        keys.revoke_key(connection, key.split("_")[1])
    assert authentication.known(header)
    now += keys.FRESH_SECONDS
    assert "revoked" in refused(authentication, header)


def test_a_key_is_revoked_once(store: Store) -> None:
    key_id = create(store).split("_")[1]
    with store.writing() as connection:
        keys.revoke_key(connection, key_id)
        for wrong in (key_id, "nobody"):
            with pytest.raises(UserError, match="no valid key"):
                keys.revoke_key(connection, wrong)


def test_keys_are_listed_without_secrets(store: Store) -> None:
    made = [create(store), create(store, "admin", 1), create(store, "submit", -1)]
    with store.writing() as connection:
        keys.revoke_key(connection, made[0].split("_")[1])
        listed = keys.describe_keys(connection)
    for key in made:
        _, key_id, secret = key.split("_")
        (line,) = [line for line in listed if key_id in line]
        assert secret not in line
        assert "somebody" in line
    assert [sum(word in line for line in listed) for word in ("revoked", "valid until")] == [1, 1]
    assert sum("expired" in line for line in listed) == 1


def test_a_flood_of_unknown_keys_takes_no_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MOST_CACHED", 3)
    create(store)
    authentication = Authentication(store)
    for number in range(10):
        refused(authentication, f"Bearer tg_{number:012x}_{'0' * 48}")
    assert len(authentication._cache) <= 3


def test_keys_are_taken_out_of_what_is_logged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    key = create(store)
    log = logging.getLogger("tagger.service")
    redact = RedactKeys()
    log.addFilter(redact)
    log.error("a request with %s failed: %d", key, 3)
    try:
        raise ValueError(f"what is {key}?")
    except ValueError:
        log.exception("a defect")
    log.removeFilter(redact)
    assert key.split("_")[2] not in caplog.text
    assert f"tg_{key.split('_')[1]}_... failed: 3" in caplog.text
    assert f"ValueError: what is tg_{key.split('_')[1]}_...?" in caplog.text
