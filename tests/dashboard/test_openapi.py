"""The description of the API: valid, complete, and true, also for whatever a generator makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette
from starlette.testclient import TestClient

from duly import Scheduler, cron
from duly.core.job import NewJob
from duly.dashboard import dashboard
from duly.dashboard.api import ENDPOINTS
from duly.dashboard.api.openapi import description, table
from tests.dashboard.asking import READS, WRITES, access
from tests.schedulers import shared

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
EXAMPLES = 8
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(description(ENDPOINTS, "/")))
    return found


def test_it_is_valid_and_has_every_endpoint() -> None:
    found = document()
    validate(found)
    described = {(method.upper(), path) for path, ways in found["paths"].items() for method in ways}
    assert described == {(one.method, one.path) for one in ENDPOINTS}
    operations = [way["operationId"] for ways in found["paths"].values() for way in ways.values()]
    assert len(set(operations)) == len(operations)


def test_every_endpoint_and_parameter_is_described_in_words() -> None:
    found = document()
    for one in ENDPOINTS:
        assert one.summary.endswith("."), one.path
    for status in found["components"]["responses"].values():
        assert status["content"].keys() == {"application/problem+json"}


def test_the_table_in_the_docs_is_made_of_the_same_endpoints() -> None:
    text = DOCS.read_text()
    begin, end = text.index("<!-- endpoints -->"), text.index("<!-- /endpoints -->")
    wanted = table(ENDPOINTS)
    assert text[begin:end].partition("\n")[2].strip() == wanted.strip(), (
        f"docs/api.md is out of date; it should be:\n{wanted}"
    )


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starlette]:
    """One that has a little of everything, hostile data too; it runs in the client's own loop."""
    folder = tmp_path_factory.mktemp("api")
    url = shared("memory://") if request.param == "memory" else f"sqlite:///{folder}/duly.db"
    scheduler = Scheduler(url)
    scheduler.bind("t", lambda *_args: None)
    app = dashboard(scheduler, access=access())

    async def fill() -> None:
        for n in range(3):
            await scheduler.push("t", n, id=f"job/{n} <b>", delay=n * 60)
        await scheduler.schedules.put("nightly", cron("0 3 * * *", timezone="Europe/Paris"), "t")
        await scheduler.connected_store.shard("default").enqueue("client", 1, [NewJob("bad", b"\xc1\xff")])
        await scheduler.try_lock("report")

    with TestClient(app, headers=WRITES) as client:
        assert client.portal is not None
        client.portal.call(fill)
        app.state.client = client
        yield app


def test_whatever_is_asked_there_is_no_fault_and_each_answer_is_as_described(app: Starlette) -> None:
    schema = schemathesis.openapi.from_dict(document())
    for found in schema.get_all_operations():
        _ask(found.ok(), app.state.client)


def _ask(operation: Any, client: TestClient) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        asked = case.as_transport_kwargs(base_url="http://duly.test", headers=dict(WRITES))
        asked.pop("cookies", None)
        case.validate_response(schemathesis.Response.from_any(client.request(**asked)), checks=CHECKS)

    ask()


def test_the_description_is_for_those_who_may_read(app: Starlette) -> None:
    client: TestClient = app.state.client
    client.headers.pop("Authorization")
    try:
        assert client.get("/api/openapi.json").status_code == 401
        found = client.get("/api/openapi.json", headers=READS).json()
        assert found["info"]["title"] == "duly"
        assert found["paths"] == document()["paths"]
    finally:
        client.headers.update(WRITES)
