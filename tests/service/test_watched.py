import math
from typing import Any

from tests.reporting.test_monitor import make_report

from tagger.service.database import Store
from tagger.service.events import HOUR_MS, SERVICE, append
from tagger.service.watched import gauge, keep_watched, last_watched


def test_figures_and_pages_show_what_was_found_last(client: Any, store: Store) -> None:
    def figures() -> dict[str, float]:
        lines = [one for one in client.get("/metrics").text.splitlines() if "tagger_monitor" in one]
        pairs = [line.split() for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    before = figures()
    assert len(before) == 9
    assert all(math.isnan(value) for value in before.values())
    data = {
        "rows": 480, "alarms": ["drift: length <b>rises</b>"], "drift": 20.5, "promise": 1.5,
        "reports": 0.5, "measured": 0.97, "expected": None, "reported": 0.01,
    }  # fmt: skip
    with store.writing() as connection:
        append(connection, "watched", at=9_000, actor="monitor", item=SERVICE, data=data)
    found = figures()
    assert found["tagger_monitor_seconds"] == 9
    assert found["tagger_monitor_alarms"] == 1
    assert found["tagger_monitor_drift_evidence"] == 20.5
    assert math.isnan(found["tagger_monitor_expected_precision"])
    page = client.get("/review").text
    assert "drift: length &lt;b&gt;rises&lt;/b&gt;" in page
    assert "without labels is not valid" in page
    with store.reading() as connection:
        assert gauge(last_watched(connection), "rows") == 480


def test_what_is_kept_grows_by_the_hour_or_with_an_alarm(store: Store) -> None:
    report, later = make_report(), make_report(alarms=[])
    times = []
    for at, one in ((9, report), (10, report), (11, later), (11 + HOUR_MS, later)):
        with store.writing() as connection:
            keep_watched(connection, one, "1", at=at)
            found = last_watched(connection)
        assert found is not None
        times.append(found["at"])
    assert times == [9, 9, 11, 11 + HOUR_MS]
    assert found["reported"] == 0.1
    assert found["expected"] is None  # it is not valid
