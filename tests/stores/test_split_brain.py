"""Two primaries at once: a primary is cut off with some of its clients, and its replica was made primary for the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

from duly import Scheduler
from duly.errors import DulyError, PushUncertain, StoreUnavailable
from tests.topologies import REPLICATION, Member, Pair, follow, replicated
from tests.waiting import eventually


async def push(scheduler: Scheduler, numbers: range) -> dict[str, type[Exception] | None]:
    """The jobs, and how each push ended."""
    requests = [scheduler.request("note", number, remote=True) for number in numbers]
    answers = await asyncio.gather(*(scheduler.push_request(each) for each in requests), return_exceptions=True)
    assert all(isinstance(answer, DulyError) for answer in answers if isinstance(answer, BaseException))
    return {
        request.new.id: type(answer) if isinstance(answer, Exception) else None
        for request, answer in zip(requests, answers, strict=True)
    }


async def lost(pair: Pair, ids: dict[str, type[Exception] | None]) -> set[str]:
    """Of those whose pushes were answered, the ones that nobody knows after both sides have joined."""
    pair.join()
    accepted = {id for id, error in ids.items() if error is None}
    async with Scheduler(pair.replica.url) as scheduler:
        return {id for id in accepted if await scheduler.jobs.get(id) is None}


async def test_a_primary_that_is_cut_off_takes_jobs_that_are_lost(pair: Pair) -> None:
    """What `duly doctor` warns of, and min-replicas-to-write is for."""
    async with Scheduler(pair.primary.url) as before:
        kept = await push(before, range(20))
        replicated(pair.primary, pair.replica)
        pair.split()
        taken = await push(before, range(20, 40))
    assert set(taken.values()) == {None}
    assert await lost(pair, kept | taken) == set(taken)


async def test_with_min_replicas_to_write_a_primary_that_is_cut_off_takes_none(pair: Pair) -> None:
    pair.require_replicas()
    async with Scheduler(pair.primary.url, push_timeout=0.3) as before:
        kept = await push(before, range(20))
        replicated(pair.primary, pair.replica)
        pair.split()
        refused = await push(before, range(20, 40))
    assert set(refused.values()) == {StoreUnavailable}
    assert await lost(pair, kept | refused) == set()


async def test_with_replicated_durability_a_primary_that_is_cut_off_promises_nothing(pair: Pair) -> None:
    async with Scheduler(pair.primary.url, durability="replicated", push_timeout=0.3) as before:
        kept = await push(before, range(20))
        pair.split()
        in_doubt = await push(before, range(20, 40))
    assert set(in_doubt.values()) == {PushUncertain}
    assert await lost(pair, kept | in_doubt) == set()


async def test_a_run_at_most_once_does_not_begin_on_both_sides(pair: Pair, tmp_path: Path) -> None:
    """Nodes on either side have the job; the one that is cut off gets no confirmation of its start."""
    ran: list[str] = []

    def node(side: str, url: str) -> Scheduler:
        scheduler = Scheduler(url, durability="replicated", lease=1, grace=0.1)

        @scheduler.task(name="once", delivery="at_most_once")
        async def once() -> None:
            ran.append(side)

        return scheduler

    async with Scheduler(pair.primary.url, durability="replicated") as client:
        await client.push("once", remote=True)
    pair.split()
    cut_off = node("the old one", pair.primary.url)
    await cut_off.start()

    async def is_claimed() -> bool:
        return (await cut_off.queues.sizes()).leased == 1

    await eventually(is_claimed)
    assert ran == []
    second = Member(pair.replica.kind, tmp_path, *REPLICATION)
    second.start()
    follow(second, pair.replica)
    other = node("the new one", pair.replica.url)
    await other.start()
    await eventually(lambda: bool(ran))
    await cut_off.stop()
    await other.stop()
    second.stop()
    assert ran == ["the new one"]
