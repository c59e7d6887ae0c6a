from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient


@pytest.fixture
def schemas(client: TestClient) -> Any:
    return client.get("/openapi.json").json()["components"]["schemas"]


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the engine."""
    return f"sqlite:///{tmp_path / 'store.db'}"


def test_the_document_names_the_tags_of_the_run_wherever_one_is_meant(schemas: Any) -> None:
    tags = ["fruit", "metal", "weather"]
    found = schemas["Classified"]["properties"]
    assert found["decision"]["enum"] == [*tags, "needs review", "duplicate"]
    assert found["tag"]["anyOf"][0]["enum"] == tags
    assert found["probabilities"]["anyOf"][0]["propertyNames"] == {"enum": tags}
    assert schemas["LabelIn"]["properties"]["tag"]["anyOf"][0]["enum"] == tags
    assert schemas["Review"]["properties"]["reported_tags"]["items"]["enum"] == tags
    assert '"format"' not in str(schemas)


def test_the_document_names_the_limit_of_items(schemas: Any) -> None:
    assert schemas["SubmitIn"]["properties"]["items"]["maxItems"] == 8


def test_an_example_is_composed_of_what_its_fields_hold(schemas: Any) -> None:
    (one,) = schemas["FeedbackIn"]["examples"]
    assert one == {"item": 7, "tag": "fruit", "right": False, "comment": "This is about images."}
    (one,) = schemas["ClassifyOut"]["examples"]
    assert one["items"][0]["probabilities"] == {"fruit": 0.97}


def test_asking_twice_gives_the_same_document(client: TestClient) -> None:
    assert client.get("/openapi.json").text == client.get("/openapi.json").text
