from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Runs
from tests.service.conftest import People, texts

from tagger.cli import main
from tagger.errors import UserError
from tagger.monitoring.report import MonitorReport
from tagger.monitoring.state import MonitorState
from tagger.monitoring.watching import accept_alarms
from tagger.runs import RunFolder
from tagger.service import watch_store as module
from tagger.service.bodies import FeedbackIn
from tagger.service.content import SAMPLE, report_item
from tagger.service.database import Store
from tagger.service.events import NO_TAG, SERVICE, append
from tagger.service.hold import current_hold, lift_hold, set_hold
from tagger.service.server import version_of_run
from tagger.service.settings import ReviewConfig, ServiceConfig
from tagger.service.watch_store import MONITOR, watch_store

ALL_DRAWN = ServiceConfig(review=ReviewConfig(sample=1))
Watch = Callable[..., MonitorReport]


@pytest.fixture
def run(shared_runs: Runs) -> RunFolder:
    return shared_runs.open("words")


class Kept:
    """Puts what a service would keep into a store."""

    def __init__(self, store: Store, people: People, run: RunFolder) -> None:
        self.store, self.people, self.tags = store, people, run.tags
        self.run = {"run": run.name, "version": version_of_run(run)}
        with store.writing() as connection:
            append(connection, "tags", at=7, actor="-", item=SERVICE, data={"tags": run.tags})

    def publish(self, title: str, status: Any = "published", **more: Any) -> int:
        data = {"title": title, "description": "", "id": None, "tag": None, "duplicate_of": None}
        data |= {"probabilities": {}, "suggested": None} | self.run | more
        tag = self.tags[0] if status == "published" else None
        with self.store.writing() as connection:
            return append(
                connection, "submitted", at=1_000, actor="us", status=status, tag=tag, data=data
            ).item

    def draw(
        self, title: str, *, right: bool, drawn: float = 0.02, tag: str | None = None, **more: Any
    ) -> int:
        """Publish an item of the sample, and let a person label it, with this tag perhaps."""
        item = self.publish(title, opens=SAMPLE, inclusion_probability=drawn, **more)
        review = self.people.claim("a")
        assert review is not None
        self.people.label("a", review, self.tags[not right] if tag is None else tag)
        return item

    def report(self, item: int, client: str = "user") -> None:
        with self.store.writing() as connection:
            report_item(connection, FeedbackIn(item=item), client=client, at=5)

    def settle(self, item: int, *, right: bool) -> None:
        review = self.people.claim("a")
        assert review is not None
        self.people.label("a", review, self.tags[not right])


@pytest.fixture
def kept(store: Store, people: People, run: RunFolder) -> Kept:
    return Kept(store, people, run)


@pytest.fixture
def watch(kept: Kept, run: RunFolder, tmp_path: Path) -> Watch:
    """Watches the store by the run that was served."""

    def watching(**more: Any) -> MonitorReport:
        config = ServiceConfig(store=kept.store.url)
        return watch_store(run, config, tmp_path / "watch", **{"promise": 0.9} | more)

    return watching


def test_all_that_the_store_says_is_counted_as_it_came(
    kept: Kept, watch: Watch, tmp_path: Path
) -> None:
    first, second, *others = texts(6)
    item = kept.draw(first, right=True)
    kept.draw(second, right=False, drawn=0.1, tag=NO_TAG)  # rejected: as wrong as another tag
    kept.publish(first, "duplicate", duplicate_of=item)
    kept.publish(others[0], "review")
    kept.publish(others[1], version="another")
    report = watch()
    everything = report.precision[0]
    assert (report.rows, report.repeated, everything.published) == (5, 1, 2)
    assert everything.labelled == 2
    assert everything.measured is not None
    assert everything.measured.value == pytest.approx(50 / 60)  # drawn with 0.02, and with 0.1
    state = MonitorState.read(tmp_path / "watch" / "state.json")
    assert state.groups["all"].labels == {0.02: [1, 0], 0.1: [0, 1]}
    assert report.timeline.stretches[0].first_date.startswith("1970-01-01")
    assert report.timeline.stretches[0].published == 2
    again = watch()
    assert again == report  # and its own events are not read


def test_of_the_sample_counts_what_the_run_publishes_or_would_but_for_a_hold(
    kept: Kept, watch: Watch
) -> None:
    published, held, asked, another = texts(4)
    kept.draw(published, right=True)
    kept.draw(held, right=False, status="review", would_publish=kept.tags[0])
    kept.draw(asked, right=False, status="review", would_publish=None)
    kept.draw(another, right=False, would_publish=kept.tags[0], version="another")
    everything = watch().precision[0]
    assert (everything.published, everything.labelled) == (1, 2)
    assert everything.measured is not None
    assert everything.measured.value == 0.5


@pytest.mark.slow
def test_a_watch_that_is_stopped_says_what_one_that_is_not_says(
    kept: Kept, run: RunFolder, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at, title in enumerate(texts(24)):
        kept.draw(title, right=at % 5 > 0)
        if at == 11:
            watch()
    monkeypatch.setattr(module, "CHUNK", 7)
    calls = 0
    written = MonitorState.write

    def fail(state: MonitorState, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        written(state, path)

    monkeypatch.setattr(MonitorState, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        watch()
    stopped = watch()
    config = ServiceConfig(store=kept.store.url)
    whole = watch_store(run, config, tmp_path / "whole", promise=0.9)
    assert stopped == whole
    states = [MonitorState.read(tmp_path / name / "state.json") for name in ("watch", "whole")]
    assert states[0].model_dump_json() == states[1].model_dump_json()
    assert whole.precision[0].labelled == 24


@pytest.mark.slow
def test_a_label_that_was_taken_back_does_not_count(
    kept: Kept, watch: Watch, people: People
) -> None:
    item = kept.draw(texts(1)[0], right=False)
    people.undo("a", item)
    assert watch().precision[0].labelled == 0
    people.label("a", item, kept.tags[0])
    assert watch().precision[0].measured.value == 1.0  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_broken_promise_holds_the_service_and_a_person_alone_resumes_it(
    kept: Kept, watch: Watch, tmp_path: Path
) -> None:
    titles = texts(40)
    for title in titles[:30]:
        kept.draw(title, right=False)
    assert watch().kept == "alarm"

    def on() -> Any:
        with kept.store.reading() as connection:
            return current_hold(connection)

    assert on() is None  # it was not asked to
    with kept.store.writing() as connection:
        set_hold(connection, "a person's", actor="me", at=1)
    watch(hold=True)
    assert on().actor == "me"  # and keeps the reason
    with kept.store.writing() as connection:
        lift_hold(connection, actor="me", at=2)
    watch(hold=True)
    assert on().actor == MONITOR
    assert on().reason.startswith("the promise of 0.900 is broken: all: 20 of 20 published items")
    assert on().stops(kept.run["version"])
    assert not on().stops("another")  # which has broken nothing
    for title in titles[30:]:
        kept.draw(title, right=True)
    watch(hold=True)
    assert on().actor == MONITOR  # it does not resume by itself
    with kept.store.writing() as connection:
        lift_hold(connection, actor="me", at=3)
    watch(hold=True)
    assert on() is None  # who resumed is not overruled by the same alarm
    accept_alarms(tmp_path / "watch")
    with kept.store.writing() as connection:
        set_hold(connection, "another run's", actor=MONITOR, at=4, version="another")
    for title in (f"{title} again" for title in titles):
        kept.draw(title, right=False)
    watch(hold=True)
    assert on().reason.startswith("the promise of 0.900 is broken")
    assert on().stops("another")  # both are stopped now


@pytest.mark.slow
def test_reporters_who_are_wrong_do_not_close_the_service_and_right_ones_do(
    kept: Kept, watch: Watch
) -> None:
    items = [kept.publish(title) for title in texts(120)]
    for at, item in enumerate(items[:60]):
        kept.report(item)
        kept.report(item, "another")  # of whom all but the first say nothing new
        kept.settle(item, right=at % 12 > 0)  # people find nearly all of them right
    report = watch(hold=True)
    everything = report.precision[0]
    assert (everything.published, everything.reported, everything.upheld) == (120, 60, 5)
    assert report.reports == "steady"
    with kept.store.reading() as connection:
        assert current_hold(connection) is None
    for item in items[60:100]:
        kept.report(item)
        kept.settle(item, right=False)
    kept.report(items[0], "third")
    kept.settle(items[0], right=False)  # which was upheld before
    report = watch(hold=True)
    assert report.reports == "alarm"
    assert report.precision[0].upheld == 45
    with kept.store.reading() as connection:
        hold = current_hold(connection)
    assert hold is not None
    assert "users' reports that people upheld" in hold.reason


def test_another_store_or_a_table_is_not_gone_on_with(
    kept: Kept, run: RunFolder, shared_runs: Runs, watch: Watch, tmp_path: Path
) -> None:
    kept.publish(texts(1)[0])
    watch()
    other = tmp_path / "other.db"
    config = ServiceConfig(store=f"sqlite:///{other}")
    with pytest.raises(UserError, match="there is no store"):
        watch_store(run, config, tmp_path / "watch")
    from tagger.service.database import open_store

    made = open_store(config.store, create=True)
    with pytest.raises(UserError, match="nothing to watch"):
        watch_store(run, config, tmp_path / "watch")
    with made.writing() as connection:
        append(connection, "tags", at=8, actor="-", item=SERVICE, data={"tags": run.tags})
    with pytest.raises(UserError, match="it watches another store"):
        watch_store(run, config, tmp_path / "watch")
    made.close()
    with pytest.raises(UserError, match="it watches the decisions of words"):
        watch_store(
            shared_runs.open("rough"), ServiceConfig(store=kept.store.url), tmp_path / "watch"
        )


def test_a_hold_needs_a_promise(kept: Kept, watch: Watch) -> None:
    kept.publish(texts(1)[0])
    with pytest.raises(UserError, match="words promises no precision"):
        watch(promise=None, hold=True)
    assert watch(promise=None).promise is None


@pytest.mark.slow
def test_the_command_tells_by_its_exit_code(
    kept: Kept, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for title in texts(25):
        kept.draw(title, right=False)
    out = tmp_path / "out"
    command = ["monitor", "--run", str(run.path), "--store", kept.store.url, "--out", str(out)]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--promise", "0.95", "--hold"])
    assert stopped.value.code == 4
    assert "The promise is broken" in capsys.readouterr().out
    main(["hold", "--store", kept.store.url])
    assert "on hold since" in capsys.readouterr().out
    assert (out / "monitor.html").exists()


@pytest.mark.parametrize(
    "given", [["--input", "x.csv", "--store", "y"], ["--store", "y", "--labels", "x"],
              ["--input", "x.csv", "--hold"]],
)  # fmt: skip
def test_what_does_not_go_together_is_told(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["monitor", "--run", "x", *given])
    assert stopped.value.code == 2
    assert "--" in capsys.readouterr().err
