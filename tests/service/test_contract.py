"""The service answers as its OpenAPI document says, whatever it is asked."""

import importlib.util
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.service.conftest import SendItems

from tagger.files import REPO_ROOT
from tagger.service import bodies
from tagger.service.app import build_app
from tagger.service.keys import create_key
from tagger.service.service import Service
from tagger.service.settings import LimitsConfig, ServiceConfig


def fuzzing() -> Any:
    """The benchmark that makes requests of the document."""
    pytest.importorskip("schemathesis", reason="requirements-service-test.txt is not installed")
    path = REPO_ROOT / "benchmarks/fuzz_service.py"
    spec = importlib.util.spec_from_file_location("fuzz_service", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_nothing_that_is_asked_gets_an_answer_that_is_not_described(
    service: Service, config: ServiceConfig, send: SendItems
) -> None:
    send("apple pie", "apple apple iron", "iron iron rain", "rain in spain")
    often = LimitsConfig(items=8, requests_per_second=1e6, requests_per_second_by_address=1e6)
    service.config = config.model_copy(update={"limits": often})
    with service.store.writing() as connection:
        key = create_key(connection, "fuzz", "admin", None)
    tool = fuzzing()
    settings = tool.configure(key, "http://localhost", seed=20, examples=2)
    found = tool.Fuzzed()
    tool.fuzz(
        tool.schemathesis.openapi.from_asgi(
            "/openapi.json", build_app(service), config=settings, headers={"Host": "localhost"}
        ),
        found,
    )
    assert not found.failures, "\n\n".join(f"{at}\n{told}" for at, told in found.failures.items())
    assert found.statuses.total() > 200
    assert not [at for at, status in found.statuses if status is None or status >= 500]
    # It went further than the refusals.
    assert sum(status == 200 for _, status in found.statuses) >= 10


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_every_body_has_an_example_that_is_one(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for name, schema in document["components"]["schemas"].items():
        (example,) = schema["examples"]
        if model := getattr(bodies, name, None):  # else it is a form of a page
            model.model_validate_json(json.dumps(example), strict=True, extra="forbid")
    asked = 0
    for path in document["paths"].values():
        for operation in path.values():
            answer = json.dumps(operation["responses"]["200"])
            assert any(
                kind in answer for kind in ("#/components/schemas/", "text/plain", "text/html")
            )
            if body := operation.get("requestBody"):
                assert "#/components/schemas/" in json.dumps(body)
                asked += 1
    assert asked >= 4


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_an_example_is_accepted_as_it_stands(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for path, name in (("classify", "ClassifyIn"), ("items", "SubmitIn")):
        (example,) = schemas[name]["examples"]
        answer = client.post(f"/v1/{path}", json=example, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 200, answer.text
