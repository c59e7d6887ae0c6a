import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.service.conftest import Submit, WordClassifier

from tagger.data.items import Item
from tagger.decision.decider import Decider
from tagger.scores import FloatArray
from tagger.service import meaning as module
from tagger.service.database import Store
from tagger.service.maintenance import rebuild_store
from tagger.service.meaning import MeaningIndex, base_of
from tagger.service.service import Service


class EncodingClassifier(WordClassifier):
    """A text's vector counts its words of some meanings; `pear` and `quince` are the same."""

    vector_width = 8
    meanings = ("apple", "iron", "rain", "pear", "quince", "snow", "storm", "cat")

    def embed(self, items: Sequence[Item]) -> FloatArray:
        counts = np.array(
            [[item.text.split().count(word) for word in self.meanings] for item in items], float
        )
        counts[:, 3] += counts[:, 4]
        counts[:, 4] = 0
        return counts + 0.01

    def predict_and_embed(self, items: Sequence[Item]) -> tuple[FloatArray, FloatArray]:
        return self.predict_proba(items), self.embed(items)


EMBEDDER = EncodingClassifier()


def opened(store: Store, base: Path, version: str = "v1") -> tuple[MeaningIndex, int]:
    index = MeaningIndex(base, version, EMBEDDER.vector_width)
    with store.reading() as connection:
        index.load(connection)
        return index, index.catch_up(connection, EMBEDDER, 1_000)


def vector(text: str) -> FloatArray:
    row: FloatArray = EMBEDDER.embed([Item("", text, "")])[0]
    return row


def found(index: MeaningIndex) -> list[list[int]]:
    return [[item for item, _ in index.nearest(vector(w), 3)] for w in EMBEDDER.meanings]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "store.db.meaning"


def fill(submit: Submit) -> list[int]:
    return [submit(title) for title in ("an apple", "some iron", "rain and snow", "a cat")]


def test_what_means_the_same_is_nearest_and_duplicates_are_not_held(
    store: Store, submit: Submit, base: Path
) -> None:
    pear = submit("a pear")
    submit("one more pear", "duplicate")
    fill(submit)
    index, added = opened(store, base)
    assert added == len(index) == 5
    item, cosine = index.nearest(vector("quince"), 1)[0]
    assert (item, cosine) == (pear, pytest.approx(1, abs=0.02))
    assert index.neighbours(pear, 3).count(pear) == 0
    assert len(index.neighbours(pear, 3)) == 3
    assert index.neighbours(999, 3) == []
    assert MeaningIndex(base, "v1", 8).nearest(vector("quince"), 1) == []


def test_a_saved_index_is_read_and_brought_up_to_date(
    store: Store, submit: Submit, base: Path
) -> None:
    fill(submit)
    first, _ = opened(store, base)
    again, added = opened(store, base)
    assert added == 0
    assert found(again) == found(first)
    late = submit("a quince")
    later, added = opened(store, base)
    assert added == 1
    assert later.nearest(vector("pear"), 1)[0][0] == late
    assert len([*base.parent.glob("*.usearch")]) == 1  # the former file is gone


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "half written", "renamed"])
def test_a_file_that_is_not_whole_is_made_anew(
    store: Store, submit: Submit, base: Path, damage: str
) -> None:
    fill(submit)
    whole, _ = opened(store, base)
    (file,) = base.parent.glob("*.usearch")
    content = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case "missing":
            file.unlink()
        case "half written":  # killed while the next one was saved: the former one holds
            (base.parent / f".{base.name}.usearch").write_bytes(content[:100])
        case "renamed":
            file.rename(file.with_name(file.name.replace(".v1.", ".v1.9")))
    again, added = opened(store, base)
    assert added == (0 if damage == "half written" else 4)
    assert found(again) == found(whole)


def test_an_index_of_another_run_or_of_another_store_is_made_anew(
    store: Store, submit: Submit, base: Path
) -> None:
    fill(submit)
    opened(store, base)
    assert opened(store, base, "v2")[1] == 4
    assert opened(store, base, "v2")[1] == 0
    assert opened(store, base, "v1")[1] == 4  # whose file made place
    other = MeaningIndex(base, "v1", 8)
    other.add([1, 2, 3, 99], EMBEDDER.embed([Item("", "rain", "")] * 4), last=4)
    other.save()
    assert opened(store, base)[1] == 0  # as many as there are: their numbers are not looked at
    other.add([100], EMBEDDER.embed([Item("", "rain", "")]), last=4)
    other.save()
    assert opened(store, base)[1] == 4


def test_what_was_added_is_saved_by_and_by(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVED_AFTER", 3)
    index = MeaningIndex(base, "v1", 8)
    for item in range(1, 6):
        index.add([item], EMBEDDER.embed([Item("", "rain", "")]), item)
    index.add([5], EMBEDDER.embed([Item("", "rain", "")]), 5)  # which is there already
    (file,) = base.parent.glob("*.usearch")
    assert ".v1.3." in file.name
    assert len(index) == 5


def test_a_rebuilt_store_has_its_index_made_anew(store: Store, submit: Submit) -> None:
    fill(submit)
    index, _ = opened(store, base_of(store.url))
    rebuild_store(store.url)
    again, added = opened(store, base_of(store.url))
    assert added == 4
    assert found(again) == found(index)
    for file in base_of(store.url).absolute().parent.glob("*.usearch"):
        file.unlink()


@pytest.fixture
def decider() -> Decider:
    from tagger.decision.calibrators import Unchanged
    from tagger.decision.decider import Rule
    from tagger.decision.policies import Threshold

    return Decider(EncodingClassifier(), Rule(Unchanged(), Threshold([0.9, 0.9, 0.9]), None), None)


@pytest.fixture
def meaning(service: Service, base: Path) -> MeaningIndex:
    service.meaning = MeaningIndex(base, "v1", EMBEDDER.vector_width)
    return service.meaning


def put(client: TestClient, *titles: str) -> list[dict[str, Any]]:
    body = {"items": [{"title": title} for title in titles]}
    answer = client.post("/v1/items", json=body, headers={"Idempotency-Key": str(titles)})
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_what_means_the_same_goes_to_a_person_with_the_original_named(
    client: TestClient, meaning: MeaningIndex, service: Service
) -> None:
    (first,) = put(client, "apple apple pear of our orchard in the valley")
    assert first["decision"] == "fruit"
    (second,) = put(client, "quince apple apple that grew behind a house of stones")
    assert (second["decision"], second["reason"]) == ("needs review", "likely duplicate")
    assert second["duplicate_of"] == first["item"]
    put(client, "apple apple pear of our orchard in the valley!")  # a duplicate by its words
    assert len(meaning) == 2
    claimed = client.post("/v1/review/claim").json()["review"]
    assert claimed["original"]["item"] == first["item"]
    labelled = client.post(
        f"/v1/review/{claimed['review_id']}/label", json={"duplicate": True}
    ).json()
    assert labelled["status"] == "duplicate"
    # A duplicate is never named, however near it is.
    (third,) = put(client, "apple quince apple found when nobody was looking for one")
    assert third["duplicate_of"] == first["item"]


def test_a_claimed_item_comes_with_published_items_that_are_near(
    client: TestClient, meaning: MeaningIndex
) -> None:
    titles = [
        "rain and a storm of cats",
        "rain after the cat then a storm",
        "rain that is rain to me",
    ]
    near = [put(client, title)[0]["item"] for title in titles]
    put(client, "storm cat snow")  # which is not published
    put(client, "storm cat")
    claims = [client.post("/v1/review/claim").json()["review"] for _ in range(2)]
    similar = next(one["similar"] for one in claims if one["title"] == "storm cat")
    assert {one["item"] for one in similar} == {*near}
    assert similar[0] == {"item": near[1], "title": titles[1], "tag": "weather"}


def test_of_a_cluster_of_duplicates_one_always_stays(
    client: TestClient, meaning: MeaningIndex
) -> None:
    titles = [
        "apple apple pear of our orchard in the valley",
        "quince apple apple that grew behind a house of stones",
        "APPLE apple quince, that grew behind a house of stones",
        "apple pear apple nobody was looking for",
        "apple apple pear of our orchard in the valley!",
    ]
    said = [put(client, title)[0] for title in titles]
    while claimed := client.post("/v1/review/claim").json()["review"]:
        path = f"/v1/review/{claimed['review_id']}/label"
        assert client.post(path, json={"duplicate": True}).json()["status"] == "duplicate"
    listed = client.get("/v1/content?tag=fruit").json()["items"]
    assert [one["item"] for one in listed] == [said[0]["item"]]
    # Whatever was named was kept by then, and came earlier: the first has nothing to be like.
    named = [one["duplicate_of"] for one in said]
    assert named[0] is None
    assert all(other < one["item"] for one, other in zip(said[1:], named[1:], strict=True))


def test_a_replay_adds_nothing(client: TestClient, meaning: MeaningIndex) -> None:
    put(client, "apple rain")
    put(client, "apple rain")
    assert len(meaning) == 1


def test_a_compressed_run_can_be_loaded_beside_the_index() -> None:
    # The two libraries end the process when they are imported in the wrong order.
    code = "import tagger.service.server, tagger.models.onnx"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
