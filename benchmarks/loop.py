"""Replays the whole loop: years of items through the real service, with people and alarms.

    python benchmarks/loop.py --data DATASET.csv --judge LISTS.csv

A first run is built from DATASET.csv. Then items whose tags are known come in as they would: the
embedded set in the order of its dates, then the entries of LISTS.csv. The real service, in this
process, screens duplicates, publishes what is certain, and asks people about the rest; they have a
budget, and err, so that two look at each item. Users report some of what is wrong, and a little of
what is right. After each tenth of the stream the store is watched, which stops publishing where a
promise is broken; a person takes note of the alarms, and lifts the hold when another run was
promoted. In the loop labels are pulled after the 4th, 6th and 8th tenth, before anything of
LISTS.csv came in, and a run is built with them: of the blind sample of all items, which is fair to
every run, three quarters stand beside the first rows, so that the promise is fitted to the stream
too, and one quarter is kept for `evaluate.py against=`; other labels are trained on alone. Then it
is rolled out by shadow and canary. All of this is done by what the commands of a platform do.

The builds train words and a frozen encoder, without a student (see --build): that is quick, and
what the encoder makes of a text is computed once for all replays (vectors.npz in --out).

Beside it the same stream with the first run for ever: without people, with people who label the
random sample alone, and with people whose labels train nothing.

Faults (--fault): `poison`, all labels of the second pull are wrong tags, by which the new run is
compared too; `spam`, 300 variants of an advertisement come in at once; `agreeing`, people say what
the run says wherever they are told. The table says what caught them, or that nothing did.

Each replay is written to --out as it is finished; a killed benchmark goes on with the others.
"""

import argparse
import csv
import hashlib
import math
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from fastapi.testclient import TestClient
from matplotlib.figure import Figure
from sqlalchemy import Connection, select

from tagger.cli import main as command
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import FrozenConfig, TrainConfig
from tagger.data.columns import UNSAID
from tagger.data.items import Item
from tagger.data.sources import open_file, read_labelled
from tagger.decision.decider import load_decider
from tagger.documents import Document, Record
from tagger.environment import describe_environment
from tagger.errors import UserError, exit_on_user_error
from tagger.evaluation.intervals import measure_share
from tagger.files import csv_text, write_text
from tagger.models.transformer import TransformerClassifier
from tagger.monitoring.watching import accept_alarms
from tagger.reporting.figures import BLUE, GREEN, ORANGE, VERMILION, write_figure
from tagger.reporting.markdown import markdown_table
from tagger.runs import RunFolder, open_run
from tagger.scores import FloatArray
from tagger.service import review
from tagger.service.app import build_app
from tagger.service.challenger import Challenger
from tagger.service.content import BLIND
from tagger.service.database import Store, open_store
from tagger.service.events import NO_TAG
from tagger.service.hold import current_hold
from tagger.service.inference import Inference
from tagger.service.keys import now_ms
from tagger.service.readiness import version_of_run
from tagger.service.rollout import last_rollout
from tagger.service.server import check_store
from tagger.service.service import Service
from tagger.service.settings import LimitsConfig, ReviewConfig, ServiceConfig
from tagger.service.tables import REVIEW_QUEUE
from tagger.service.watch_store import watch_store
from tagger.service.writer import Writer

TENTHS = 10
PEOPLE = ("first", "second", "third")
"""Two look at each item, and the third where they differ."""
BATCH = 50
PROMISE = 0.98
SAMPLE = 0.3
"""Share of all items that people see blind."""
KEPT = 4
"""Of the sample every so many-th row is for the comparison with the old run, and never trained on.
"""
REPORTED, REPORTED_RIGHT = 0.1, 0.002
"""Chance that a published item is reported, if its tag is wrong and if it is right."""
SPAM = 300
PLAN = """\
name: loop
wrong_costs: {costs}
guards: {{review_rise: 0.5, published_rise: 0.5, deadline_ms: 60000}}
stages:
  - {{share: 0, items: 100, until: better}}
  - {{share: 0.05, items: 10}}
  - {{share: 0.5, items: 50}}
"""
"""A run that keeps its promise publishes less than one that breaks it, so it may ask more."""

COSTS = {True: 49, False: 9}
"""Right tags that a wrong one outweighs, where the old run is on hold and where it is not: as many
as the promise of 0.98 says, and fewer, as else a run that publishes more would never be better."""

BUILDS = (4, 6, 8)
"""After which tenths a run is built."""

SHOWN: dict[str, Callable[["Tenth"], float]] = {
    "precision of what is published":
        lambda one: one.right / one.published if one.published else float("nan"),
    "share that is published": lambda one: one.published / one.items,
    "labels per 1,000 items": lambda one: 1_000 * one.labels / one.items,
}  # fmt: skip

BUILD = [
    "build.models=[{name:linear,overrides:['model=linear'],passes:1.0},"
    "{name:frozen,overrides:['model=frozen'],passes:2.0}]",
    "build.student.passes=1e9", "build.held_out=100000", "build.max_p99_ms=1000",
]  # fmt: skip
"""The student is too dear for the budget, and no row is held out: decisions are fitted in folds."""

Fault = Literal["none", "poison", "spam", "agreeing"]


@dataclass(frozen=True)
class Policy:
    """What a platform does with what comes in.

    Attributes:
        labels: Share of the items that its people look at, beside those they see blind.
        sample: Whether they label the random sample, and the store is watched.
        trains: Whether new runs are built of their labels.
    """

    labels: float
    sample: bool
    trains: bool


POLICIES = {
    "the loop": Policy(labels=0.5, sample=True, trains=True),
    "review, no training": Policy(labels=0.5, sample=True, trains=False),
    "the random sample alone": Policy(labels=0.0, sample=True, trains=False),
    "the first run for ever": Policy(labels=0.0, sample=False, trains=False),
}


class Tenth(Record):
    """What happened in a tenth of the stream.

    Attributes:
        items: That came in, without certain duplicates.
        published: Of them, by a run, at once.
        right: Of those.
        labels: That people gave, two or three an item.
        reports: Of users.
        hold: Why publishing stands still at the end; "" where it does not.
        run: That is served at the end.
        rollout: How the last rollout stands at the end.
        share: Largest share of the items on which a new run decided.
    """

    items: int
    published: int
    right: int
    labels: int
    reports: int
    hold: str
    run: str
    rollout: str
    share: float


class Replay(Document):
    """A whole stream by one policy."""

    policy: str
    fault: Fault
    seed: int
    tenths: list[Tenth]


@exit_on_user_error
def main() -> None:
    """Replay everything that is not there yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--judge", required=True, type=Path)
    parser.add_argument("--gold", type=Path, default=Path("data/gold.csv"))
    parser.add_argument("--tags", type=Path, default=Path("data/tags.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--policy", nargs="*", default=[*POLICIES], choices=[*POLICIES])
    parser.add_argument("--fault", default="none", choices=["none", "poison", "spam", "agreeing"])
    parser.add_argument("--people-err", type=float, default=0.03)
    parser.add_argument("--items", type=int, help="only the first so many")
    parser.add_argument("--build", nargs="*", default=BUILD)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/loop"))
    options = parser.parse_args()

    tags = None
    stream: list[Item] = []
    for path in (options.gold, options.judge):
        found = read_labelled([open_file(path)], UNSAID, tags)
        tags = found.tags
        stream += sorted(found.items, key=lambda item: item.created_on or "9")
        options.judging = {item.id for item in found.items}  # of the last file, in the end
    stream = stream[: options.items]
    remember_vectors(options.out / "vectors.npz", stream)
    replays = []
    for seed in options.seeds:
        for policy in options.policy:
            folder = options.out / options.fault / f"{policy.replace(' ', '-')}-{seed}"
            path = folder / "replay.json"
            if not path.exists():
                World(options, policy, seed, folder, stream).replay().write(path)
            replays.append(Replay.read(path))
    page = describe(replays)
    write_text(options.out / f"{options.fault}.md", page)
    write_figure(draw(replays), options.out / f"{options.fault}.png")
    print(page)


class World:
    """The platform, its people and its users.

    Args:
        options: Of the command line.
        policy: Name of what the platform does.
        seed: Of everything that is drawn.
        folder: Where its store, runs and labels are.
        stream: The items, with their true tags, in their order.
    """

    def __init__(
        self, options: argparse.Namespace, policy: str, seed: int, folder: Path,
        stream: Sequence[Item],
    ) -> None:  # fmt: skip
        self.options, self.policy, self.seed, self.folder = options, policy, seed, folder
        self.does = POLICIES[policy]
        self.stream = stream
        self.judging = options.judging
        self.random = random.Random(seed)
        self.truth: dict[int, str] = {}
        self.pulls = 0
        self.refused = ""

    def replay(self) -> Replay:
        """Let the whole stream come in."""
        shutil.rmtree(self.folder, ignore_errors=True)  # what a killed replay left
        self.folder.mkdir(parents=True)
        self.store = open_store(f"sqlite:///{(self.folder / 'store.db').resolve()}", create=True)
        run = self.build("first")
        size = -(-len(self.stream) // TENTHS)
        tenths = []
        for at, part in enumerate(slices(self.stream, size)):
            items = [*part, *(spam(self.random) if self.spam_comes(at) else [])]
            tenths.append(self.tenth(run, items))
            run = self.watch_and_train(run, at)
            tenths[-1] = tenths[-1].model_copy(update=self.standing(run))
            print(f"{self.policy}, seed {self.seed}, {at + 1} of {TENTHS}: {tenths[-1]}")
        self.store.close()
        return Replay(policy=self.policy, fault=self.options.fault, seed=self.seed, tenths=tenths)

    def tenth(self, run: RunFolder, items: Sequence[Item]) -> Tenth:
        """Let a part of the stream come in, with reports and labels between the requests."""
        seen: Counter[str] = Counter()
        share = 0.0
        budget = round(self.does.labels * len(items))
        with serving(run, self.store, self.random) as (client, challenger):
            for some in slices(items, BATCH):
                challenger.follow()
                if challenger.status and challenger.inference:
                    share = max(share, challenger.status.rollout.share)
                for item, said in zip(some, submit(client, some), strict=True):
                    self.truth[said["item"]] = item.tag or NO_TAG
                    if said["decision"] == "duplicate":
                        continue
                    seen["items"] += 1
                    if said["decision"] != "needs review":
                        right = said["decision"] == item.tag
                        seen["published"] += 1
                        seen["right"] += right
                        if self.random.random() < (REPORTED_RIGHT if right else REPORTED):
                            report = {"item": said["item"], "tag": None if right else item.tag}
                            post(client, "/v1/feedback", report)
                            seen["reports"] += 1
                done = round(budget * seen["items"] / len(items)) - seen["asked"]
                looked, labels = self.label(done)
                seen["asked"] += looked
                seen["labels"] += labels
        return Tenth(
            **{name: seen[name] for name in ("items", "published", "right", "labels", "reports")},
            hold="", run=run.name, rollout="", share=share,
        )  # fmt: skip

    def label(self, budget: int) -> tuple[int, int]:
        """Look at all that is to be seen blind, then at so many that the service gives.

        Returns:
            How many of the latter were looked at, and how many labels were given in all.
        """
        if not self.does.sample:
            return 0, 0
        looked = labels = 0
        with self.store.writing() as connection:
            wanted = select(REVIEW_QUEUE.c.review).where(REVIEW_QUEUE.c.reason.in_(BLIND))
            for number in connection.scalars(wanted.order_by(REVIEW_QUEUE.c.review)).all():
                labels += self.look(connection, number)
            while looked < budget and (given := self.look(connection, None)):
                looked, labels = looked + 1, labels + given
        return looked, labels

    def look(self, connection: Connection, number: int | None) -> int:
        """Settle a review, or the first that waits; return the number of labels, 0 without one."""
        for given, person in enumerate(PEOPLE):
            found = review.claim(connection, person, now_ms(), 600, number)
            if found is None:
                assert not given
                return 0
            number = found["review_id"]
            tag = self.judge(found)
            said = review.label(connection, found["review_id"], tag, person, now_ms(), people=2)
            if said["status"] is not None:
                return given + 1
        raise AssertionError("a third person decides")

    def judge(self, found: dict[str, Any]) -> str | None:
        """Return the tag that a person gives; None: a duplicate; `NO_TAG`: rejected."""
        truth = self.truth[found["item"]]
        if found["original"] and self.truth[found["original"]["item"]] == truth:
            return None
        if self.options.fault == "agreeing" and not found["blind"]:
            return str(found["tag"])
        tags = sorted({*self.truth.values()} - {truth, NO_TAG})
        if tags and self.random.random() < self.options.people_err:
            return self.random.choice(tags)
        return truth

    def watch_and_train(self, run: RunFolder, at: int) -> RunFolder:
        """Do what is done between two tenths; return the run that is to be served."""
        if not self.does.sample:
            return run
        with self.store.reading() as connection:
            rollout = last_rollout(connection)
        store = ("--store", self.store.url)
        if rollout is not None and rollout.ended == "promoted" and run.name == rollout.old["run"]:
            run = open_run(rollout.new["path"], "")
            self.tagger("hold", "off", *store)
        watch = self.folder / f"watch-{run.name}"
        config = ServiceConfig(store=self.store.url)
        # As `tagger monitor --hold`, whose page nobody looks at here.
        if watch_store(run, config, watch, hold=True).standing:
            accept_alarms(watch)  # a person took note
            watch_store(run, config, watch, hold=True)
        if self.does.trains and at + 1 in BUILDS:
            self.train(run)
        with self.store.reading() as connection:
            rollout = last_rollout(connection)
        if rollout is not None and not rollout.ended and rollout.standing.paused:
            self.tagger("rollout", "resume", *store)
        return run

    def train(self, old: RunFolder) -> None:
        """Build a run of the labels so far, compare it, and start its rollout."""
        self.pulls += 1
        store = ("--store", self.store.url)
        labels = self.folder / f"labels-{self.pulls}.csv"
        self.tagger("data", "pull", *store, "--out", labels)
        rows = read_rows(labels.with_suffix(".sample.csv"))
        fair, kept = labels.with_suffix(".fair.csv"), labels.with_suffix(".kept.csv")
        write_rows(fair, [row for row in rows if int(row["id"]) % KEPT])
        write_rows(kept, [row for row in rows if not int(row["id"]) % KEPT])
        for path in (labels, fair, kept):
            found = read_rows(path)
            assert not {row["source_id"] for row in found} & self.judging, "these are for judging"
            if self.options.fault == "poison" and self.pulls == 2:
                write_rows(path, turn_tags(found))
        new = self.build(f"build-{self.pulls}", "--data", fair, f"data.extra=[{labels}]")
        self.tagger(
            "evaluate", f"run={new.path}", f"against={old.path}", "data=file", f"data.path={kept}",
            f"data.tags={self.options.tags}", "behaviour=off", "explore=off",
            "latency_budget_ms=null", "latency.items=20", allowed=(0, 3),
        )  # fmt: skip
        with self.store.reading() as connection:
            rollout = last_rollout(connection)
            costs = COSTS[current_hold(connection) is not None]
        if rollout is not None and not rollout.ended:
            self.tagger("rollout", "abort", *store, "--reason", "there is a later run")
        plan = self.folder / f"plan-{self.pulls}.yaml"
        plan.write_text(PLAN.format(costs=costs))
        start = ("rollout", "start", new.path, "--against", old.path, *store, "--plan", plan)
        self.refused = f"refused: {new.name}" if self.tagger(*start, allowed=(0, 2)) else ""

    def build(self, name: str, *more: object) -> RunFolder:
        """Build a run of the first rows and of labels, or find it built."""
        # The first run is the same for all.
        runs, seed = (self.folder / "runs", self.seed) if more else (self.options.out, 0)
        self.tagger(
            "build", "--data", self.options.data, "--tags", self.options.tags, "--promise", PROMISE,
            "--seed", seed, "--name", name, "--runs-dir", runs, *more, *self.options.build,
        )  # fmt: skip
        return open_run(name, str(runs))

    def standing(self, run: RunFolder) -> dict[str, str]:
        """Return how things stand, for a `Tenth`."""
        with self.store.reading() as connection:
            held, rollout = current_hold(connection), last_rollout(connection)
        told = self.refused
        if rollout is not None and not told:
            told = f"{rollout.new['run']}: {rollout.ended or f'stage {rollout.standing.stage}'}"
        return {"hold": "" if held is None else held.reason, "rollout": told, "run": run.name}

    def spam_comes(self, at: int) -> bool:
        """Whether advertisements come in with a tenth."""
        return self.options.fault == "spam" and at == TENTHS // 2

    def tagger(self, *arguments: object, allowed: Sequence[int] = (0,)) -> int:
        """Run a command as a platform does, in this process; return its exit code."""
        code, said, own = 0, StringIO(), sys.argv
        with redirect_stdout(said), redirect_stderr(said):
            try:
                command([*map(str, arguments)])
            except SystemExit as ended:
                code = int(ended.code or 0)
        sys.argv = own  # which `evaluate` sets
        with (self.folder / "commands.log").open("a", encoding="utf-8") as file:
            file.write(f"tagger {' '.join(map(str, arguments))}\n{said.getvalue()}\n")
        if code not in allowed:
            raise UserError(f"tagger {arguments[0]} ended with {code}", [said.getvalue()[-2_000:]])
        return code


def remember_vectors(path: Path, items: Sequence[Item]) -> None:
    """Let no frozen encoder of this process compute a text's vector twice.

    Args:
        path: Where those of the items are kept.
        items: Of the stream.
    """
    known: dict[tuple[str, str], FloatArray] = {}
    compute = TransformerClassifier.embed

    def embed(model: TransformerClassifier, some: Sequence[Item]) -> FloatArray:
        if not hasattr(model, "digest"):
            weights = hashlib.sha256()
            for value in model.module.encoder.state_dict().values():
                weights.update(value.numpy().tobytes())
            model.digest = weights.hexdigest()
        keys = [(model.digest, item.text) for item in some]
        new = {key: item for key, item in zip(keys, some, strict=True) if key not in known}
        if new:
            known.update(zip(new, compute(model, [*new.values()]), strict=True))
        return np.array([known[key] for key in keys]).reshape(len(keys), model.vector_width)

    def predict_and_embed(
        model: TransformerClassifier, some: Sequence[Item]
    ) -> tuple[FloatArray, FloatArray]:
        vectors = embed(model, some)
        return model.predict_from_vectors(vectors), vectors

    TransformerClassifier.embed = embed  # type: ignore[method-assign]
    TransformerClassifier.predict_and_embed = predict_and_embed  # type: ignore[method-assign]
    TransformerClassifier.predict_proba = (  # type: ignore[method-assign]
        lambda model, some: predict_and_embed(model, some)[0]
    )
    if path.exists():
        with np.load(path) as kept:
            texts, vectors, digest = kept["texts"].tolist(), kept["vectors"], str(kept["digest"])
        known.update(zip(((digest, text) for text in texts), vectors, strict=True))
        return
    config = load_config(TrainConfig, compose_config("train", ["model=frozen"])).model
    assert isinstance(config, FrozenConfig)
    encoder = TransformerClassifier.build_frozen(config, ["one", "two"])
    vectors = embed(encoder, items)
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [item.text for item in items]
    np.savez(path, texts=np.array(texts), vectors=vectors, digest=np.array(encoder.digest))


@contextmanager
def serving(
    run: RunFolder, store: Store, draw: random.Random
) -> Iterator[tuple[TestClient, Challenger]]:
    """Serve a run as `tagger serve` does; the rollout is looked at when it is asked for."""
    # However busy the machine is, nothing here is about time.
    limits = LimitsConfig(deadline_seconds=300, wait_seconds=300)
    config = ServiceConfig(store=store.url, review=ReviewConfig(sample=SAMPLE), limits=limits)
    with store.writing() as connection:
        check_store(connection, run, config)
    version = version_of_run(run)
    writer = Writer(store, config.limits.queue)
    challenger = Challenger(store, writer, version, config.limits)
    service = Service(
        run={"run": run.name, "version": version},
        tags=run.tags,
        config=config,
        store=store,
        inference=Inference(load_decider(run.path, run.load_classifier()), config.limits.queue),
        writer=writer,
        challenger=challenger,
        differing=[],
        draw=draw.random,
    )
    service.inference.start()
    writer.start()
    try:
        yield TestClient(build_app(service), base_url="http://localhost"), challenger
    finally:
        challenger.stop()
        service.inference.stop()
        writer.stop()


def slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in their order, so many at a time."""
    return (items[at : at + size] for at in range(0, len(items), size))


def submit(client: TestClient, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Send items; return what became of each."""
    sent = [{"id": one.id, "title": one.title, "description": one.description} for one in items]
    found: list[dict[str, Any]] = post(client, "/v1/items", {"items": sent})["items"]
    return found


def post(client: TestClient, path: str, body: object) -> Any:
    """Send a request that has to succeed."""
    answer = client.post(path, json=body, headers={"Idempotency-Key": str(uuid4())})
    if answer.status_code != 200:
        raise UserError(f"{path} was answered {answer.status_code}: {answer.text}")
    return answer.json()


def spam(draw: random.Random) -> list[Item]:
    """Return variants of an advertisement, which no tag is right for."""
    words = ("deep", "smart", "vision", "language", "cloud", "model", "data", "fast", "free", "now")
    return [
        Item(
            f"spam {at}",
            f"Win {draw.randint(100, 999)} coins with {draw.choice(words)} {draw.choice(words)} AI",
            f"Click {draw.choice(words)} here, double your {draw.choice(words)} coins, no risk, "
            f"bonus code {draw.randint(1000, 9999)}.",
            tag="",
        )
        for at in range(SPAM)
    ]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows, of which there is one at least."""
    write_text(path, csv_text([[*rows[0]], *([*row.values()] for row in rows)]))


def turn_tags(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Give each row the tag after its own."""
    tags = sorted({row["tag"] for row in rows})
    turned = {tag: tags[(at + 1) % len(tags)] for at, tag in enumerate(tags)}
    return [row | {"tag": turned[row["tag"]]} for row in rows]


def describe(replays: Sequence[Replay]) -> str:
    """Return the page: a table of each policy, over seeds."""
    lines = []
    for policy in dict.fromkeys(one.policy for one in replays):
        some = [one for one in replays if one.policy == policy]
        rows = []
        for at, tenths in enumerate(zip(*(one.tenths for one in some), strict=True)):
            items, published, right = (
                sum(getattr(one, name) for one in tenths)
                for name in ("items", "published", "right")
            )
            measured = measure_share(right, published) if published else None
            rows.append([
                str(at + 1),
                f"{published / items:.1%}",
                "-" if measured is None
                else f"{measured.value:.3f} [{measured.low:.3f}, {measured.high:.3f}]",
                f"{1_000 * sum(one.labels for one in tenths) / items:.0f}",
                str(sum(one.reports for one in tenths)),
                str(sum(bool(one.hold) for one in tenths)),
                f"{max(one.share for one in tenths):.0%}",
                "; ".join(dict.fromkeys(one.rollout for one in tenths if one.rollout)),
            ])  # fmt: skip
        head = [
            "tenth", "published", "precision", "labels per 1,000", "reports", "on hold",
            "share of a new run", "rollouts at the end",
        ]  # fmt: skip
        lines += [f"{policy}, {len(some)} seeds, fault: {some[0].fault}", ""]
        lines += [*markdown_table(head, rows), ""]
    machine = describe_environment().model_dump()
    return "\n".join([*lines, f"{machine}", ""])


def draw(replays: Sequence[Replay]) -> Figure:
    """Draw precision, coverage and labels by tenth, a line a policy: the mean over seeds."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for policy, colour in zip(POLICIES, (BLUE, GREEN, ORANGE, VERMILION), strict=True):
        some = [one.tenths for one in replays if one.policy == policy]
        if not some:
            continue
        for panel, (name, value) in zip(panels, SHOWN.items(), strict=True):
            means = [mean([value(one) for one in tenths]) for tenths in zip(*some, strict=True)]
            panel.plot(
                range(1, len(means) + 1), means, color=colour, label=policy, marker="o", ms=3
            )
            panel.set_title(name)
            panel.set_xlabel("tenth of the stream")
    panels[0].axhline(PROMISE, color="black", lw=0.8, ls=":")
    lines = panels[1].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=len(POLICIES), fontsize="small")
    return figure


def mean(values: Sequence[float]) -> float:
    """Return the mean of those that are known; NaN without any."""
    known = [one for one in values if not math.isnan(one)]
    return sum(known) / len(known) if known else float("nan")


if __name__ == "__main__":
    main()
