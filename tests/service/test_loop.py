"""The whole loop: serve, submit, label, pull, audit, train, serve the new run on the same store."""

import csv
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tagger.cli import main
from tagger.config.composition import compose_config, load_config, with_source
from tagger.config.schema import TrainConfig
from tagger.decision.decider import load_decider
from tagger.files import REPO_ROOT, csv_text
from tagger.runs import RunFolder
from tagger.service.app import build_app
from tagger.service.database import Store, open_store
from tagger.service.inference import Inference
from tagger.service.maintenance import verify_store
from tagger.service.server import check_store, version_of_run
from tagger.service.service import Service
from tagger.service.settings import ReviewConfig, ServiceConfig
from tagger.service.writer import Writer
from tagger.training.train_run import train

TAGS = REPO_ROOT / "data" / "tags.yaml"
SUBMITTED = 300


@contextmanager
def serving(run: RunFolder, store: Store) -> Iterator[TestClient]:
    """Serve a run as `tagger serve` does, a third of all items for a blind look."""
    config = ServiceConfig(store=store.url, review=ReviewConfig(sample=1 / 3))
    with store.writing() as connection:
        check_store(connection, run, config)
    service = Service(
        run={"run": run.name, "version": version_of_run(run)},
        tags=run.tags,
        config=config,
        store=store,
        inference=Inference(load_decider(run.path, run.load_classifier()), 512),
        writer=Writer(store, 512),
        differing=[],
        draw=random.Random(0).random,
    )
    service.inference.start()
    service.writer.start()
    yield TestClient(build_app(service), base_url="http://localhost")
    service.inference.stop()
    service.writer.stop()


def train_linear(folder: Path, name: str, *overrides: str) -> RunFolder:
    decision = ("decision=threshold", "decision.target_precision=0.85")
    given = with_source(
        ["model=linear", *decision, f"name={name}", f"runs_dir={folder}", *overrides]
    )
    return RunFolder(train(load_config(TrainConfig, compose_config("train", given))))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def submit(client: TestClient, rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    for at in range(0, len(rows), 50):
        items = [
            {name: row[name] for name in ("id", "title", "description")}
            for row in rows[at : at + 50]
        ]
        answer = client.post(
            "/v1/items", json={"items": items}, headers={"Idempotency-Key": str(at)}
        )
        assert answer.status_code == 200, answer.text
        said += answer.json()["items"]
    return said


def label_all(client: TestClient, truth: dict[int, str]) -> int:
    """Label whatever waits as the data has it; a likely duplicate is called one."""
    count = 0
    while found := client.post("/v1/review/claim").json()["review"]:
        own = {"duplicate": True} if found["original"] else {"tag": truth[found["item"]]}
        answer = client.post(f"/v1/review/{found['review_id']}/label", json=own)
        assert answer.status_code == 200, answer.text
        count += "tag" in own
    return count


@pytest.mark.slow
def test_what_people_say_of_submitted_items_trains_the_next_run(tmp_path: Path) -> None:
    rows = read(REPO_ROOT / "data" / "gold.csv")
    random.Random(0).shuffle(rows)
    known, incoming = rows[:700], rows[700 : 700 + SUBMITTED]
    part = tmp_path / "part.csv"
    part.write_text(csv_text([list(known[0]), *(list(row.values()) for row in known)]))
    source = (f"data.path={part}", f"data.tags={TAGS}")
    first = train_linear(tmp_path, "first", *source)
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}", create=True)

    with serving(first, store) as client:
        said = submit(client, incoming)
        truth = {one["item"]: row["tag"] for one, row in zip(said, incoming, strict=True)}
        labelled = label_all(client, truth)
        assert client.get("/v1/review").json()["open"] == 0
    published = [one for one in said if one["decision"] in first.tags]
    assert published
    assert len(published) < SUBMITTED

    labels = tmp_path / "labels.csv"
    main(["data", "pull", "--store", store.url, "--out", str(labels)])
    training, sample = read(labels), read(tmp_path / "labels.sample.csv")
    assert len(training) + len(sample) == labelled
    assert sample
    told = {str(one["item"]): one["decision"] for one in published}
    assert {row["would_publish"] for row in sample} > {""}  # it is of what was asked about, too
    assert all(row["would_publish"] == told.get(row["id"], "") for row in sample)
    assert all(row["tag"] == truth[int(row["id"])] for row in [*training, *sample])
    assert {row["version"] for row in training} == {version_of_run(first)}
    out = str(tmp_path / "audit")
    fail = "schema,repeats,conflicts"
    main(["audit", "--data", str(labels), "--tags", str(TAGS), "--no-embeddings", "--out", out,
          "--fail-on", fail])  # fmt: skip

    second = train_linear(tmp_path, "second", *source, f"data.more=[{labels}]")
    assert len([*second.split_rows()]) == len(known) + len(training)
    with serving(second, store) as client:
        texts = [{name: row[name] for name in ("title", "description")} for row in incoming[:20]]
        answer = client.post("/v1/classify", json={"items": texts}).json()
        assert (answer["run"], answer["version"]) == ("second", version_of_run(second))
        assert answer["version"] != version_of_run(first)
        assert {one["tag"] for one in answer["items"]} <= {*second.tags}
        assert client.get("/v1/review").json()["labelled"] >= labelled
    store.close()
    assert "0 review" not in verify_store(store.url)
