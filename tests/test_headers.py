"""Texts that travel with jobs: asked for at each push, whichever way it goes, and told to the handler."""

from __future__ import annotations

import asyncio
import uuid
from contextvars import ContextVar
from typing import Any

import pytest

from duly import Context, EncodingError, Retry, Scheduler, every
from duly.task import JobRequest
from duly.testing import eager
from tests.schedulers import running
from tests.waiting import eventually

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(f"memory://{uuid.uuid4().hex}")


def told(scheduler: Scheduler) -> tuple[Any, list[tuple[str, int, dict[str, str]]]]:
    """A task that notes its job's id, its attempt and its headers."""
    seen: list[tuple[str, int, dict[str, str]]] = []

    @scheduler.task(retry=Retry(limit=1, delay=0, jitter=0))
    async def note(ctx: Context, fails: bool = False) -> None:
        seen.append((ctx.job.id, ctx.attempt, dict(ctx.job.headers)))
        if fails and ctx.attempt == 1:
            raise ValueError

    @scheduler.headers
    def who(request: JobRequest) -> dict[str, str]:
        return {"tenant": tenant.get(), "id": request.new.id}

    return note, seen


async def test_every_way_of_pushing_asks_for_headers_in_the_context_of_its_caller(scheduler: Scheduler) -> None:
    note, seen = told(scheduler)

    @scheduler.task
    def parent(ctx: Context) -> None:
        tenant.set("child")
        ctx.push(note)

    async with running(scheduler):
        tenant.set("one")
        await note.push()
        tenant.set("by name")
        await scheduler.push("note")
        tenant.set("many")
        await scheduler.push_many([note.job(), note.options(priority=0).job()])
        await parent.push()
        tenant.set("sync")
        await asyncio.to_thread(note.push_sync)
        await eventually(lambda: len(seen) == 6)
    scheduler.sync.close()
    assert sorted(headers["tenant"] for _, _, headers in seen) == ["by name", "child", "many", "many", "one", "sync"]
    assert all(headers["id"] == id for id, _, headers in seen)


async def test_retries_have_the_headers_of_the_push(scheduler: Scheduler) -> None:
    note, seen = told(scheduler)
    async with running(scheduler):
        await note.push(True)
        tenant.set("somebody else")
        await eventually(lambda: len(seen) == 2)
    assert [(attempt, headers["tenant"]) for _, attempt, headers in seen] == [(1, "nobody"), (2, "nobody")]


async def test_ticks_have_none(scheduler: Scheduler) -> None:
    note, seen = told(scheduler)
    async with running(scheduler):
        await scheduler.schedules.put("s", every(seconds=60, start="now"), note)
        await eventually(lambda: seen)
    assert seen[0][2] == {}


async def test_several_functions_add_up_and_none_leave_the_envelope_as_it_is(scheduler: Scheduler) -> None:
    plain = scheduler.request("t", 1, remote=True)
    assert scheduler.stamped(plain) is plain
    scheduler.headers(lambda _: {"a": "1", "b": "1"})
    scheduler.headers(lambda _: {"b": "2"})
    async with scheduler:
        job = await scheduler.push("t", 1, remote=True)
        (record,) = await scheduler.shard("default").get([job.id])
    assert record is not None
    assert record.body.endswith(b"\x82\xa1a\xa11\xa1b\xa12")


@pytest.mark.parametrize(("headers", "said"), [({"a": 1}, "give texts"), ({"a": "x" * 17_000}, "16,000 bytes")])
async def test_headers_that_cannot_travel_are_refused_and_nothing_is_pushed(
    scheduler: Scheduler, headers: Any, said: str
) -> None:
    scheduler.headers(lambda _: headers)
    async with scheduler:
        with pytest.raises(EncodingError, match=said):
            await scheduler.push("t", remote=True)
        with pytest.raises(EncodingError, match=said):
            await scheduler.push_many([scheduler.request("t", remote=True)])
        assert (await scheduler.queues.sizes()).pending == 0


async def test_handlers_that_are_called_in_place_are_told_them_too(scheduler: Scheduler) -> None:
    note, seen = told(scheduler)
    with eager(scheduler):
        await note.push()
    assert seen[0][2]["tenant"] == "nobody"
