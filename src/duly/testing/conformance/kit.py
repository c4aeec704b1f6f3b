"""What the suites share: the limits they expect, callers that keep their numbers, and short ways to say common things."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
import pytest

from duly.core.job import Claimed, Hold, NewJob
from duly.core.lifecycle import END, Change
from duly.stores.base import Answer, Batch, JobRecord, Limits, NewSchedule, Page, Settled, Settlement, Shard, Store

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

S = TypeVar("S", bound=msgspec.Struct)

LIMITS = Limits(remember_ms=60_000, history=50, dead_count=20, dead_ms=86_400_000)
"""What the store under test has to be made with."""
LEASE = 10_000
BRIEF = 0.02
"""Seconds for which a `wait` is watched that should find no token."""
BOUND = 10.0
"""Seconds after which a `wait` that should find one has failed."""
AGAIN = Change("again", delay=0, attempts=1, reason="it raised", error="ValueError: no", trace="Traceback")
DEAD = Change("dead", attempts=4, reason="failed: it raised", error="ValueError: no", trace="Traceback")


class Suite:
    """A user gives two fixtures: `clock`, a ManualClock, and `store`, connected, made with that clock and LIMITS."""

    @pytest.fixture
    def shard(self, store: Store) -> Shard:
        """The queue in which the tests work."""
        return store.shard("default")


def job(
    id: str,
    *,
    body: bytes = b"",
    delay: int = 0,
    due: int | None = None,
    priority: int = 1,
    named: bool = False,
    replace: bool = False,
    unique: Hold | None = None,
) -> NewJob:
    """A job whose body names it."""
    return NewJob(id, body or f"body of {id}".encode(), delay, due, priority, named, replace, unique)


class Client:
    """A process that pushes: it numbers its calls."""

    def __init__(self, shard: Shard, name: str = "client") -> None:
        self.shard, self.name, self.n = shard, name, 0
        self.last: tuple[NewJob, ...] = ()

    async def push(self, *jobs: NewJob) -> list[Answer]:
        self.n += 1
        self.last = jobs
        return await self.shard.enqueue(self.name, self.n, jobs)

    async def repeat(self) -> list[Answer]:
        """The last call again, as after a lost reply."""
        return await self.shard.enqueue(self.name, self.n, self.last)


class Node:
    """A process that runs jobs: it numbers its claims and its settles."""

    def __init__(self, shard: Shard, name: str, lease: int = LEASE, shortest: int | None = None) -> None:
        self.shard, self.name, self.lease, self.shortest = shard, name, lease, shortest or lease
        self.claims = self.settles = 0
        self.last: tuple[Settlement, ...] = ()

    async def claim(self, limit: int = 100) -> Batch:
        self.claims += 1
        return await self.repeat_claim(limit)

    async def repeat_claim(self, limit: int = 100) -> Batch:
        """The last call again, as after a lost reply."""
        return await self.shard.claim(self.name, self.claims, limit, self.lease, self.shortest)

    async def claim_one(self) -> tuple[Claimed, int]:
        """The one job that there is to be claimed, and its fence."""
        batch = await self.claim()
        (only,) = batch.jobs
        return only, batch.fence

    async def settle(self, *settlements: Settlement) -> list[Settled]:
        self.settles += 1
        self.last = settlements
        return await self.repeat_settle()

    async def repeat_settle(self) -> list[Settled]:
        """The last call again, as after a lost reply."""
        return await self.shard.settle(self.name, self.settles, self.last)


def settlement(
    claimed: Claimed,
    fence: int,
    change: Change = END,
    *,
    schedule: str | None = None,
    result: bytes | None = None,
    result_ms: int = 0,
    children: tuple[NewJob, ...] = (),
) -> Settlement:
    """A settlement with the job's own particulars."""
    return Settlement(
        claimed.id,
        fence,
        change,
        claimed.priority,
        claimed.named,
        claimed.unique,
        schedule,
        result,
        result_ms,
        children,
    )


def ids(batch: Batch) -> list[str]:
    return [claimed.id for claimed in batch.jobs]


def now_ms(clock: ManualClock) -> int:
    return clock.epoch_us() // 1000


async def pass_time(shard: Shard, clock: ManualClock, seconds: float, step: float = LEASE / 4000) -> None:
    """Let time pass in a shard that is in use: somebody calls it often enough that it sees no gap."""
    watcher = Node(shard, f"watcher-{clock.epoch_us()}")
    while seconds > 0:
        clock.advance(min(step, seconds))
        seconds -= step
        await watcher.claim(0)


async def drain_token(shard: Shard) -> None:
    """Take the token, if there is one."""
    await shard.wait(BRIEF)


async def known(shard: Shard, id: str) -> JobRecord:
    (record,) = await shard.get([id])
    assert record is not None, f"{id} is not known"
    return record


async def is_unknown(shard: Shard, id: str) -> bool:
    return await shard.get([id]) == [None]


async def walk(shard: Shard, state: str, limit: int = 100) -> list[JobRecord]:
    """All records in a state, page by page."""
    found: list[JobRecord] = []
    cursor = ""
    while True:
        page: Page = await shard.list(state, cursor, limit)  # type: ignore[arg-type]
        assert len(page.items) <= limit
        found += page.items
        cursor = page.cursor
        if not cursor:
            return found


async def kill_one(shard: Shard, id: str, change: Change = DEAD, *, named: bool = False) -> None:
    """Push a job and let it die."""
    client, node = Client(shard, f"client of {id}"), Node(shard, f"node of {id}")
    await client.push(job(id, named=named))
    claimed, fence = await node.claim_one()
    assert await node.settle(settlement(claimed, fence, change)) == ["applied"]


def schedule(
    id: str = "s",
    definition: bytes = b"every second",
    *,
    mark: int | None = None,
    app: str = "",
    buffer: bool = False,
    revision: int | None = None,
) -> NewSchedule:
    return NewSchedule(id, definition, mark, app, buffer, revision)


def changed(record: S, **fields: object) -> S:
    """A record with some fields otherwise: what a verb should have made of it."""
    return msgspec.structs.replace(record, **fields)
