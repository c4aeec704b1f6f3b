"""A connection that falls silent, and hangs up never: every call ends, nodes go on when it speaks again, or by another one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from duly import Scheduler, every
from duly.config import Config
from duly.errors import DulyError, StoreError
from duly.stores.base import Limits, Store
from duly.stores.redis.store import RedisStore
from tests.chaos.cluster import Doors
from tests.chaos.proxy import HOST
from tests.servers import Server
from tests.waiting import eventually

PATIENCE = 0.5  # seconds that a call waits for its answer here; by default five
BOUND = 20.0  # seconds after which a call is taken to hang


class Impatient(Scheduler):
    """A scheduler that gives a call up sooner."""

    def _open_store(self, url: str, config: Config) -> Store:
        return RedisStore(url, config.namespace, Limits(), None, PATIENCE)


class Hole:
    """A door before the server, and its address."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self.url = f"redis://{HOST}:{doors.ports[0]}/0"

    async def order(self, what: str) -> None:
        await asyncio.to_thread(self._doors.order, 0, what)


@pytest.fixture
async def hole(redis_url: str, redis_server: Server, tmp_path: Path) -> AsyncIterator[Hole]:
    doors = await asyncio.to_thread(Doors, redis_server.port, 1, tmp_path / "proxy.log")
    yield Hole(doors)
    await asyncio.to_thread(doors.close)
    assert (tmp_path / "proxy.log").read_text() == ""


def calls(scheduler: Scheduler) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Everything that an application may wait for."""

    async def lock() -> None:
        async with scheduler.lock("l", ttl=1, timeout=4):  # a try that arrives after it was given up holds it for `ttl`
            pass

    return {
        "push": lambda: scheduler.push("work", remote=True),
        "push_many": lambda: scheduler.push_many([scheduler.request("work", remote=True) for _ in range(3)]),
        "get": lambda: scheduler.jobs.get("job"),
        "list": lambda: scheduler.jobs.list("pending"),
        "why": lambda: scheduler.jobs.why("job"),
        "cancel": lambda: scheduler.jobs.cancel("job"),
        "retry": lambda: scheduler.jobs.retry("job"),
        "sizes": scheduler.queues.sizes,
        "queues": scheduler.queues.list,
        "limit": lambda: scheduler.queues.limit("default", 5),
        "put": lambda: scheduler.schedules.put("s", every(hours=1), "work", remote=True),
        "get a schedule": lambda: scheduler.schedules.get("s"),
        "pause": lambda: scheduler.schedules.pause("s"),
        "remove": lambda: scheduler.schedules.remove("s"),
        "lock": lock,
        "try_lock": lambda: scheduler.try_lock("other", ttl=1),
        "clear": scheduler.clear,
    }


async def test_every_call_into_a_black_hole_ends_with_an_error_and_works_again_afterwards(hole: Hole) -> None:
    scheduler = Impatient(hole.url, push_timeout=0.5)
    async with scheduler:
        await scheduler.push("work", remote=True, id="job")
        await hole.order("hole")
        asked = calls(scheduler)
        async with asyncio.timeout(BOUND):
            answers = await asyncio.gather(*(call() for call in asked.values()), return_exceptions=True)
        ended = (DulyError, TimeoutError)  # the latter is what a lock says that was given a time to wait
        assert [name for name, answer in zip(asked, answers, strict=True) if not isinstance(answer, ended)] == []
        other = Impatient(hole.url)
        for begin in (other.connect, other.start):
            async with asyncio.timeout(BOUND):
                with pytest.raises(DulyError):
                    await begin()
        await hole.order("pass")
        for call in asked.values():
            async with asyncio.timeout(BOUND):
                while True:  # connections that were given up are replaced
                    try:
                        await call()
                        break
                    except StoreError:
                        continue


async def test_a_close_in_a_black_hole_ends(hole: Hole) -> None:
    scheduler = Impatient(hole.url, push_timeout=0.5)
    await scheduler.connect()
    pushing = asyncio.ensure_future(scheduler.push("work", remote=True))
    await hole.order("hole")
    async with asyncio.timeout(BOUND):
        await asyncio.wait([pushing])
        await scheduler.close()
    if pushing.exception() is not None:
        assert isinstance(pushing.exception(), DulyError)


class Work:
    """Jobs that two nodes run, one of them through the door."""

    def __init__(self) -> None:
        self.began: Counter[int] = Counter()
        self.ended: Counter[int] = Counter()

    def declare(self, scheduler: Scheduler) -> Scheduler:
        async def work(n: int) -> None:
            self.began[n] += 1
            await asyncio.sleep(0.05)
            self.ended[n] += 1

        scheduler.bind("work", work)
        return scheduler


@pytest.mark.parametrize("trouble", ["hole", "deaf"])
async def test_a_node_survives_connections_that_fall_silent_and_so_do_its_jobs(
    hole: Hole, redis_url: str, trouble: str
) -> None:
    work = Work()
    silent, other = work.declare(Impatient(hole.url, lease=1)), work.declare(Scheduler(redis_url, lease=1))
    await silent.start()
    await other.start()
    for n in range(200):
        await other.push("work", n)
        if n == 50:
            await hole.order(trouble)
    await eventually(lambda: len(work.ended) == 200, BOUND)

    async def all_settled() -> bool:
        sizes = await other.queues.sizes()
        return (sizes.pending, sizes.leased) == (0, 0)

    await eventually(all_settled, BOUND)
    await other.stop()
    if trouble == "hole":
        await hole.order("pass")
    async with Scheduler(redis_url) as client:  # it serves again, by itself
        await client.push("work", 200, remote=True)
        await eventually(lambda: work.ended[200] == 1, BOUND)
        assert (await client.queues.sizes()).dead == 0
    await silent.stop()


async def test_a_node_that_stops_in_a_black_hole_ends_and_its_jobs_are_run_by_another(
    hole: Hole, redis_url: str
) -> None:
    work = Work()
    silent, other = work.declare(Impatient(hole.url, lease=1, grace=0.2)), work.declare(Scheduler(redis_url, lease=1))
    await silent.start()
    async with other:
        await hole.order("hole")
        for n in range(20):
            await other.push("work", n)
        async with asyncio.timeout(BOUND):
            await silent.stop()
        await hole.order("pass")  # what it had sent arrives now
        await other.start()
        await eventually(lambda: set(work.ended) == set(range(20)), BOUND)
        await other.stop()
