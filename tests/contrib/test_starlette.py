"""duly in FastAPI and Starlette: connected while the application is up, in each request, and running jobs in it."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from duly import ConfigurationError, Scheduler
from duly.contrib.starlette import duly_lifespan, get_scheduler
from tests.acceptance.nodes import ROOT, until
from tests.schedulers import shared

EXAMPLE = ROOT / "examples" / "fastapi_app.py"
STORES = ["memory", "sqlite", pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis])]


def url_of(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if store == "redis":
        found: str = request.getfixturevalue("redis_url")
        return found
    return shared("memory://") if store == "memory" else f"sqlite:///{tmp_path}/duly.db"


@pytest.mark.parametrize("store", STORES)
def test_the_example_pushes_in_a_request_runs_the_job_and_tells_of_it(
    store: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DULY_URL", url_of(store, request, tmp_path))
    monkeypatch.setenv("SHOP_RUN_JOBS", "1")
    example = runpy.run_path(str(EXAMPLE), run_name="fastapi_app")
    with TestClient(example["app"]) as client:
        assert client.post("/orders/42/pay").json() == {"job": "receipt:42", "answer": "created"}
        until(lambda: client.get("/jobs/receipt:42").json()["state"] == "ended", 10)
        assert client.post("/orders/42/pay").json()["answer"] == "ended"
        assert client.get("/jobs/none").status_code == 404
    with pytest.raises(ConfigurationError, match="not connected"):
        _ = example["scheduler"].connected_store


def test_with_a_password_the_example_has_the_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DULY_URL", shared("memory://"))
    monkeypatch.delenv("DULY_DASHBOARD_PASSWORD", raising=False)
    with TestClient(runpy.run_path(str(EXAMPLE), run_name="fastapi_app")["app"]) as client:
        assert client.get("/duly/").status_code == 404
    monkeypatch.setenv("DULY_DASHBOARD_PASSWORD", "not for everybody")
    monkeypatch.setenv("DULY_DASHBOARD_TOKEN", "nor is this one for them")
    example = runpy.run_path(str(EXAMPLE), run_name="fastapi_app")
    with TestClient(example["app"]) as client:
        assert client.get("/duly/", follow_redirects=False).headers["location"] == "/duly/login"
        client.post("/orders/42/pay")
        shown = client.get("/duly/jobs", headers={"Authorization": "Bearer nor is this one for them"})
        assert (shown.status_code, "receipt:42" in shown.text) == (200, True)
    assert not example["scheduler"]._users  # all is given back with the loop


def test_without_run_jobs_the_application_pushes_and_runs_nothing() -> None:
    scheduler = Scheduler(shared("memory://"), poll=0.1)
    ran: list[int] = []

    @scheduler.task(name="note")
    async def note(number: int) -> None:
        ran.append(number)

    async def push(_request: Request) -> JSONResponse:
        job = await note.push(1)
        return JSONResponse([await job.status(), len((await scheduler.store.registry()).nodes)])

    app = Starlette(routes=[Route("/", push)], lifespan=duly_lifespan(scheduler))
    with TestClient(app) as client:
        assert client.get("/").json() == ["pending", 0]
    assert ran == []


def test_the_applications_own_lifespan_lies_inside_and_may_push_at_both_ends() -> None:
    scheduler = Scheduler(shared("memory://"), poll=0.1)
    ran: list[str] = []

    @scheduler.task(name="note")
    async def note(word: str) -> None:
        ran.append(word)

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        assert scheduler.accepting
        await note.push("begin")
        yield {"colour": "green"}
        await note.push("end")  # still connected, and nothing runs any more

    async def look(request: Request) -> JSONResponse:
        return JSONResponse([request.state.colour, get_scheduler(request) is scheduler])

    app = Starlette(routes=[Route("/", look)], lifespan=duly_lifespan(scheduler, own, run_jobs=True))
    with TestClient(app) as client:
        assert client.get("/").json() == ["green", True]
        until(lambda: ran == ["begin"], 10)
    assert ran == ["begin"]


def test_a_mounted_application_has_the_scheduler_of_the_one_around_it() -> None:
    scheduler = Scheduler(shared("memory://"))

    async def look(request: Request) -> JSONResponse:
        return JSONResponse(get_scheduler(request) is scheduler)

    inner = Starlette(routes=[Route("/", look)])
    with TestClient(Starlette(routes=[Mount("/in", inner)], lifespan=duly_lifespan(scheduler))) as client:
        assert client.get("/in/").json() is True


def test_an_application_without_a_scheduler_is_told_what_to_give_it() -> None:
    app = FastAPI()

    @app.get("/", response_model=None)
    async def look(scheduler: Scheduler = Depends(get_scheduler)) -> None: ...  # noqa: B008  so it is written there

    with TestClient(app) as client, pytest.raises(ConfigurationError, match=r"lifespan=duly_lifespan\(scheduler\)"):
        client.get("/")
