"""Every change that the dashboard makes: what it does in the store, what it refuses, what the log says of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx2
import pytest

from duly import Retry, Scheduler, cron, every
from duly.dashboard import actions as actions_module
from duly.dashboard.access import Viewer
from duly.dashboard.actions import Actions
from duly.dashboard.problems import Refused
from duly.errors import StoreUnavailable
from tests.dashboard.asking import asking
from tests.schedulers import running, shared
from tests.waiting import eventually

ME = Viewer("write", "", "10.0.0.1", "session")


@pytest.fixture
def scheduler(store_url: str) -> Scheduler:
    scheduler = Scheduler(shared(store_url), poll=0.1, lease=2)
    scheduler.bind("t", lambda *_args: None)
    return scheduler


async def done(asks: httpx2.AsyncClient, path: str, **asked: Any) -> Any:
    response = await asks.post(f"/api/{path}", json=asked)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(asks: httpx2.AsyncClient, path: str, **asked: Any) -> tuple[int, str]:
    response = await asks.post(f"/api/{path}", json=asked)
    return response.status_code, response.json()["detail"]


async def dead_jobs(scheduler: Scheduler, count: int) -> list[str]:
    """So many jobs that have died; their task does well from now on."""
    fails = True

    @scheduler.task(name="fails", retry=Retry(limit=0))
    def fail() -> None:
        if fails:
            raise ValueError("no")

    async with running(scheduler):
        ids = [(await fail.push()).id for _ in range(count)]

        async def all_are_dead() -> bool:
            return (await scheduler.queues.sizes("default")).dead == count

        await eventually(all_are_dead)
    fails = False
    return ids


async def test_queues_are_paused_resumed_and_limited(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "duly.dashboard")
    async with asking(scheduler) as asks:
        await scheduler.push("t", queue="mail")
        assert (await done(asks, "queues/pause", queue="mail")) == {"queue": "mail", "paused": True, "limit": None}
        assert (await scheduler.queues.sizes("mail")).paused
        assert not (await done(asks, "queues/resume", queue="mail"))["paused"]
        assert (await done(asks, "queues/limit", queue="mail", limit=3))["limit"] == 3
        assert (await done(asks, "queues/limit", queue="mail", limit=None))["limit"] is None
        assert (await refused(asks, "queues/limit", queue="mail", limit=0))[0] == 422
        assert (await refused(asks, "queues/pause", queue="post"))[0] == 404
        assert list(await scheduler.queues.list()) == ["mail"]
    assert "write by token from 10.0.0.1: queue 'mail' paused" in caplog.messages


async def test_clearing_takes_what_waits_or_is_dead(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        await dead_jobs(scheduler, 2)
        for n in range(5):
            await scheduler.push("t", id=f"j{n}", delay=60)
        work = await done(asks, "queues/clear", queue="default")
        assert work == {"what": "clear", "queue": "default", "total": 7, "done": 7, "state": "done", "error": ""}
        sizes = await scheduler.queues.sizes("default")
        assert (sizes.pending, sizes.dead) == (0, 0)
        assert (await asks.get("/api/queues/works")).json() == [work]


async def test_dead_jobs_are_retried_and_deleted_some_or_all(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        ids = await dead_jobs(scheduler, 5)
        found = await done(asks, "jobs/retry", queue="default", ids=[ids[0], "unknown"])
        assert found == {"asked": 2, "changed": 1, "answers": {ids[0]: "retried", "unknown": "not dead"}}
        assert (await done(asks, "jobs/delete", queue="default", ids=[ids[1], ids[0]]))["changed"] == 1
        assert await scheduler.jobs.get(ids[1]) is None
        assert (await scheduler.jobs.get(ids[0])).state == "pending"  # type: ignore[union-attr]
        work = await done(asks, "dead/retry", queue="default")
        assert (work["done"], work["state"]) == (3, "done")
        assert (await scheduler.queues.sizes("default")).pending == 4
        assert (await done(asks, "dead/delete", queue="default"))["total"] == 0


async def test_all_dead_jobs_are_retried_in_steps_and_none_is_passed_over(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions_module, "STEP", 2)
    async with asking(scheduler) as asks:
        await dead_jobs(scheduler, 7)
        assert (await done(asks, "dead/retry", queue="default"))["done"] == 7
        sizes = await scheduler.queues.sizes("default")
        assert (sizes.pending, sizes.dead) == (7, 0)


async def test_jobs_are_cancelled_and_run_now(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        await scheduler.push("t", id="a/b", delay=600)
        await scheduler.push("t", id="..", delay=600)
        found = await done(asks, "jobs/run-now", queue="default", ids=["a/b", "gone"])
        assert found["answers"] == {"a/b": "due", "gone": "not waiting"}
        assert (await scheduler.jobs.get("a/b")).at < (await scheduler.jobs.get("..")).at - 500  # type: ignore[union-attr]
        found = await done(asks, "jobs/cancel", queue="default", ids=["..", "gone"])
        assert (found["changed"], found["answers"]) == (1, {"..": "cancelled", "gone": "unknown"})


async def test_a_thousand_ids_are_taken_at_once_and_no_more(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        await scheduler.push_many(scheduler.request("t", id=f"j{n}", delay=60) for n in range(1_000))
        found = await done(asks, "jobs/cancel", queue="default", ids=[f"j{n}" for n in range(1_000)])
        assert found["changed"] == 1_000
        assert (await refused(asks, "jobs/cancel", queue="default", ids=[f"j{n}" for n in range(1_001)]))[0] == 422
        assert (await refused(asks, "jobs/cancel", queue="default", ids=[]))[0] == 422


async def test_schedules_are_steered(scheduler: Scheduler) -> None:
    one = {"queue": "default", "id": "minutely"}
    async with asking(scheduler) as asks:
        await scheduler.schedules.put("minutely", cron("* * * * *"), "t")
        assert await done(asks, "schedules/pause", **one, note="a <b>deploy</b>") == {"ok": True}
        assert (await scheduler.schedules.get("minutely")).paused == "a <b>deploy</b>"  # type: ignore[union-attr]
        await done(asks, "schedules/resume", **one)
        assert (await scheduler.schedules.get("minutely")).paused is None  # type: ignore[union-attr]
        job = (await done(asks, "schedules/trigger", **one))["job"]
        assert await scheduler.jobs.get(job) is not None
        span = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00+00:00"}
        assert (await done(asks, "schedules/backfill", **one, **span)) == {"moments": 60}
        await done(asks, "schedules/remove", **one)
        assert await scheduler.schedules.get("minutely") is None
        for path in ("pause", "resume", "trigger", "remove"):
            assert (await refused(asks, f"schedules/{path}", **one))[0] == 404
        assert (await refused(asks, "schedules/backfill", **one, **span))[0] == 404


async def test_an_edit_is_of_the_revision_that_was_read(scheduler: Scheduler) -> None:
    one = {"queue": "default", "id": "minutely"}
    async with asking(scheduler) as asks:
        await scheduler.schedules.put("minutely", every(minutes=1), "t")
        edit = {"trigger": {"cron": "0 9 * * *", "timezone": "Europe/Paris"}, "revision": 1}
        assert await done(asks, "schedules/edit", **one, **edit) == {"revision": 2}
        view = await scheduler.schedules.get("minutely")
        assert view is not None
        assert getattr(view.trigger, "expression", "") == "0 9 * * *"
        code, detail = await refused(asks, "schedules/edit", **one, **edit | {"trigger": {"every": 5}})
        assert (code, "revision 2, not 1" in detail) == (409, True)
        code, detail = await refused(asks, "schedules/edit", **one, trigger={"cron": "nonsense"}, revision=2)
        assert (code, "nonsense" in detail) == (422, True)


async def test_a_backfill_of_more_than_can_be_meant_is_refused() -> None:
    scheduler = Scheduler(shared("memory://"))
    scheduler.bind("t", lambda *_args: None)
    one = {"queue": "default", "id": "secondly"}
    async with asking(scheduler) as asks:
        await scheduler.schedules.put("secondly", every(seconds=1), "t")
        code, detail = await refused(asks, "schedules/backfill", **one, start=0, end=1_000_000_000)
        assert (code, "100,000" in detail) == (422, True)
        assert (await refused(asks, "schedules/backfill", **one, start=10, end=10))[0] == 422
        assert (await scheduler.queues.sizes("default")).pending == 0


async def test_long_work_goes_on_in_the_background_and_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(shared("memory://"))
    monkeypatch.setattr(actions_module, "PATIENCE", 0.01)
    gate = asyncio.Event()

    async def slowly(*_given: Any, removed: Any, **_more: Any) -> int:
        removed(1)
        await gate.wait()
        removed(1)
        return 2

    monkeypatch.setattr(actions_module, "clear", slowly)
    async with scheduler:
        await scheduler.push("t", remote=True)
        actions = Actions(scheduler)
        work = await actions.clear_queue(ME, "default")
        assert (work.done, work.state) == (1, "running")
        assert await actions.clear_queue(ME, "default") is work  # not twice at a time
        gate.set()
        await eventually(lambda: work.state == "done")
        assert work.done == 2
        gate.clear()
        stopped = await actions.clear_queue(ME, "default")
        await actions.close()
        assert (stopped.state, stopped.error) == ("failed", "the dashboard was stopped; do it again to go on")


async def test_work_that_a_store_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(shared("memory://"))

    async def away(*_given: Any, **_more: Any) -> int:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(actions_module, "clear", away)
    async with scheduler:
        await scheduler.push("t", remote=True)
        work = await Actions(scheduler).clear_queue(ME, "default")
    assert (work.state, work.error) == ("failed", "gone; do it again to go on")


async def test_a_line_of_the_log_is_one_line_whatever_is_in_a_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "duly.dashboard")
    scheduler = Scheduler(shared("memory://"))
    scheduler.bind("t", lambda *_args: None)
    async with scheduler:
        await scheduler.schedules.put("s", every(minutes=1), "t")
        await Actions(scheduler).pause_schedule(ME, "default", "s", "a\nwrite by token from 10.0.0.9: forged")
    assert not any("\n" in message for message in caplog.messages)


async def test_nothing_is_done_to_a_queue_that_nobody_knows() -> None:
    async with Scheduler("memory://") as scheduler:
        actions = Actions(scheduler)
        for act in (actions.pause_queue, actions.resume_queue, actions.clear_queue):
            with pytest.raises(Refused, match="there is no queue 'mial'") as refused:
                await act(ME, "mial")
            assert refused.value.status == 404
        assert await scheduler.queues.list() == []
