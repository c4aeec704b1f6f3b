"""The read model: bounded listings, redaction, what became of a job and of a schedule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from duly import Context, JobHandle, Retry, Scheduler, at, cron, every
from duly.errors import InvalidOption
from duly.monitor import LOOKED, Monitor
from duly.views.listings import JobPage
from duly.views.redaction import HIDDEN, redacted
from tests.schedulers import running, shared
from tests.waiting import eventually


@pytest.fixture
async def scheduler(store_url: str) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(shared(store_url), queues=("mail", "web"))

    async def note(ctx: Context, *args: Any, **kwargs: Any) -> None:
        pass

    async def fail(ctx: Context) -> None:
        raise ValueError("it broke")

    scheduler.bind("note", note)
    scheduler.bind("fail", fail, retry=Retry(limit=0))
    async with scheduler:
        yield scheduler


@pytest.fixture
def monitor(scheduler: Scheduler) -> Monitor:
    return Monitor(scheduler)


async def is_dead(job: JobHandle[Any]) -> bool:
    return await job.status() == "dead"


async def all_jobs(monitor: Monitor, limit: int, **filters: Any) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    cursor = ""
    while True:
        page: JobPage = await monitor.jobs("pending", limit=limit, cursor=cursor, **filters)
        assert len(page.jobs) <= max(limit, LOOKED)
        found += [job.id for job in page.jobs]
        if not (cursor := page.cursor):
            return found


async def test_jobs_of_all_queues_are_listed_page_by_page(monitor: Monitor, scheduler: Scheduler) -> None:
    for n in range(7):
        await scheduler.push("note", n, queue="mail" if n % 2 else "web", delay=60 + n, id=f"j{n}")
    assert await all_jobs(monitor, 3) == ["j1", "j3", "j5", "j0", "j2", "j4", "j6"]
    assert await all_jobs(monitor, 2, queue="web") == ["j0", "j2", "j4", "j6"]
    assert (await monitor.jobs("dead")).jobs == []
    with pytest.raises(InvalidOption, match="give one of leased, pending, dead"):
        await monitor.jobs("gone")  # type: ignore[arg-type]


async def test_jobs_are_filtered_by_task_and_by_text_in_id_and_arguments(
    monitor: Monitor, scheduler: Scheduler
) -> None:
    await scheduler.push("note", {"to": "Ann"}, queue="mail", delay=60, id="one")
    await scheduler.push("note", {"to": "Bob"}, queue="mail", delay=61, id="two")
    await scheduler.push("fail", args=[], queue="web", delay=60, id="three-ann")
    assert await all_jobs(monitor, 1, task="fail") == ["three-ann"]
    assert await all_jobs(monitor, 1, text="ann") == ["one", "three-ann"]
    assert await all_jobs(monitor, 1, text="ann", task="note") == ["one"]
    assert await all_jobs(monitor, 1, text="nobody") == []


async def test_a_filtered_listing_looks_at_so_many_at_a_time(monitor: Monitor, scheduler: Scheduler) -> None:
    await scheduler.push_many(
        scheduler.request("note", n, queue="web", delay=60, id=f"j{n}") for n in range(LOOKED + 10)
    )
    first = await monitor.jobs("pending", text=f"j{LOOKED + 9}")
    assert first.looked == LOOKED
    rest = await monitor.jobs("pending", text=f"j{LOOKED + 9}", cursor=first.cursor)
    assert [job.id for job in [*first.jobs, *rest.jobs]] == [f"j{LOOKED + 9}"]
    assert (rest.looked, rest.cursor) == (10, "")


async def test_secrets_in_arguments_are_hidden(monitor: Monitor, scheduler: Scheduler) -> None:
    url = "redis://user:hush@host/0"
    await scheduler.push("note", kwargs={"password": "hush", "n": 1, "at": url}, queue="web", delay=60, id="a")
    page = await monitor.jobs("pending")
    assert page.jobs[0].kwargs == {"password": HIDDEN, "n": 1, "at": f"redis://user:{HIDDEN}@host/0"}
    detail = await monitor.job("a", "web")
    assert detail is not None
    assert "hush" not in str(detail)
    assert (await monitor.jobs("pending", text="hush")).jobs == []
    assert "hush" not in str(await monitor.find_job("a"))


def test_what_is_redacted_is_small_plain_data() -> None:
    assert redacted({"api_key": 1, "Token": 2, "x": b"123", "at": datetime(2026, 1, 1)}) == {
        "api_key": HIDDEN, "Token": HIDDEN, "x": "3 bytes", "at": "2026-01-01 00:00:00",
    }  # fmt: skip
    assert redacted("a" * 5_000).endswith("a… (5,000 characters)")
    assert redacted(list(range(1_000)))[-1] == "… 800 more"
    assert len(redacted({str(n): n for n in range(1_000)})) == 201
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    assert "…" in str(redacted(deep))


async def test_a_job_is_found_in_whichever_queue_and_told_with_its_past(monitor: Monitor, scheduler: Scheduler) -> None:
    async with running(scheduler):
        job = await scheduler.push("fail", args=[], queue="mail", id="a")
        await eventually(lambda: is_dead(job))
    assert [(found.queue, found.state) for found in await monitor.find_job("a")] == [("mail", "dead")]
    assert await monitor.find_job("nobody") == []
    detail = await monitor.job("a", "mail")
    assert detail is not None
    assert [one.verb for one in detail.happenings] == ["enqueue", "claim", "settle"]
    assert "it broke" in detail.why
    assert "ValueError" in detail.job.trace
    assert await monitor.job("a", "web") is None


async def test_the_overview_counts_what_the_queues_hold(monitor: Monitor, scheduler: Scheduler) -> None:
    for n in range(3):
        await scheduler.push("note", n, queue="mail", delay=60)
    await scheduler.push("note", 1, queue="web", delay=60)
    await scheduler.queues.pause("web")
    await scheduler.schedules.put("s", every(hours=1), "note", queue="web")
    found = await monitor.overview()
    assert (found.pending, found.leased, found.dead, found.schedules, found.nodes) == (4, 0, 0, 1, 0)
    assert [(one.queue, one.pending, one.paused) for one in found.queues] == [("mail", 3, False), ("web", 1, True)]
    async with running(scheduler):
        await eventually(monitor.nodes)
        found = await monitor.overview()
        assert (found.nodes, found.slots) == (1, scheduler.config.concurrency)
        assert all(one.nodes for one in found.queues)


async def test_schedules_are_listed_and_filtered_over_all_queues(monitor: Monitor, scheduler: Scheduler) -> None:
    for n in range(5):
        await scheduler.schedules.put(
            f"s{n}", every(hours=1), "note" if n else "fail", queue="mail" if n % 2 else "web"
        )
    found, cursor = [], ""
    while True:
        page = await monitor.schedules(limit=2, cursor=cursor)
        found += [(view.queue, view.id) for view in page.schedules]
        if not (cursor := page.cursor):
            break
    assert sorted(found) == [("mail", "s1"), ("mail", "s3"), ("web", "s0"), ("web", "s2"), ("web", "s4")]
    assert [view.id for view in (await monitor.schedules(task="fail")).schedules] == ["s0"]
    assert [view.id for view in (await monitor.schedules(text="S3")).schedules] == ["s3"]
    assert {view.id for view in (await monitor.schedules(queue="mail")).schedules} == {"s1", "s3"}


async def test_a_schedule_is_told_with_its_ticks(monitor: Monitor, scheduler: Scheduler) -> None:
    just_now = datetime.now(UTC) - timedelta(seconds=1)
    await scheduler.schedules.put("once", at(just_now), "note", kwargs={"token": "hush"}, queue="web")
    await scheduler.schedules.pause("once", queue="web")  # fires what is due
    detail = await monitor.schedule("once", "web")
    assert detail is not None
    assert detail.kwargs == {"token": HIDDEN}
    assert (detail.schedule.fired, detail.schedule.paused, detail.policies["overlap"]) == (1, "paused", "allow")
    await scheduler.schedules.put("hourly", every(hours=1), "note", queue="web")
    hourly = await monitor.schedule("hourly", "web", coming=3)
    assert hourly is not None
    assert [tick.state for tick in hourly.ticks] == ["coming"] * 3
    assert await monitor.schedule("nobody", "web") is None


async def test_a_trigger_is_previewed_without_a_schedule(monitor: Monitor) -> None:
    moments = await monitor.preview(cron("0 9 * * *", timezone="Europe/Paris"), 3)
    assert len(moments) == 3
    assert await monitor.now() < moments[0] < moments[1] < moments[2]


async def test_findings_are_those_of_the_doctor(monitor: Monitor, scheduler: Scheduler) -> None:
    await scheduler.push("note", 1, queue="web")
    found = await monitor.findings()
    assert any(finding.level == "error" and "no live node serves it" in finding.what for finding in found)


async def test_ticks_of_a_long_log_are_told_as_what_they_were(
    monitor: Monitor, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.monitor.HISTORY", 2)
    monkeypatch.setattr("duly.monitor.MOST_LOG_PAGES", 3)
    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=20), "note", queue="web")

        async def has_fired() -> bool:
            found = await scheduler.schedules.get("s", queue="web")
            return found is not None and found.fired > 12

        await eventually(has_fired)
        await scheduler.schedules.pause("s", queue="web")
    found = await monitor.schedule("s", "web", coming=0)
    assert found is not None
    states = {tick.state for tick in found.ticks}
    assert len(found.ticks) >= 3
    assert states <= {"fired", "late", "skipped"}


async def test_a_schedule_of_which_the_log_knows_nothing_is_not_said_to_have_missed_anything(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url), history=0)
    scheduler.bind("note", lambda: None)
    async with running(scheduler):
        await scheduler.schedules.put("s", every(milliseconds=20), "note")

        async def has_fired() -> bool:
            found = await scheduler.schedules.get("s")
            return found is not None and found.fired > 3

        await eventually(has_fired)
        found = await Monitor(scheduler).schedule("s", "default", coming=1)
        assert found is not None
        assert [tick.state for tick in found.ticks if tick.state in ("missing", "skipped")] == []


async def test_a_job_has_its_past_also_in_a_busy_queue(
    monitor: Monitor, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.monitor.HISTORY", 3)
    for n in range(10):
        await scheduler.push("note", n, queue="web", delay=60)
    async with running(scheduler):
        job = await scheduler.push("fail", args=[], queue="web", id="a")
        await eventually(lambda: is_dead(job))
    detail = await monitor.job("a", "web")
    assert detail is not None
    assert [one.verb for one in detail.happenings] == ["enqueue", "claim", "settle"]
