"""What the schedule suites share: a schedule of one tick a second, and what a node plans for it."""

from __future__ import annotations

import itertools

from duly.core.lifecycle import END, Change
from duly.stores.base import Due, Firing, ScheduleRecord, Shard
from duly.testing.conformance.kit import (
    Node,
    ids,
    job,
    settlement,
)

STEP = 1_000
_runners = itertools.count()


def firing(
    record: ScheduleRecord, *nominals: int, counted: bool = False, look: int | None = None, skipped: int = 0
) -> Firing:
    """What a node plans that fires these moments of a schedule of one tick a second."""
    mark = nominals[-1] if nominals else record.mark + STEP * skipped
    jobs = tuple(job(f"{record.id}@{nominal}") for nominal in nominals)
    return Firing(
        record.id,
        record.revision,
        record.mark,
        mark,
        mark + STEP,
        mark + STEP if look is None else look,
        jobs,
        nominals,
        {"late": skipped} if skipped else {},
        counted,
    )


def ids_of(due: Due) -> list[str]:
    return [record.id for record in due.schedules]


async def read(shard: Shard, id: str = "s") -> ScheduleRecord:
    (record,) = (await shard.schedules([id], "", 1)).items
    assert isinstance(record, ScheduleRecord)
    return record


async def plan(shard: Shard, id: str = "s", *, look: int | None = None) -> ScheduleRecord:
    """Put off the first look: the schedule is planned, and nothing is due."""
    record = await read(shard, id)
    assert await shard.fire("n", [firing(record, look=look)]) == ["fired"]
    return await read(shard, id)


async def run_all(shard: Shard, change: Change = END, schedule_id: str | None = "s") -> list[str]:
    """Claim and settle what is due; the settle names the schedule, as that of a counted run does."""
    node = Node(shard, f"runner {next(_runners)}")
    batch = await node.claim()
    if batch.jobs:
        await node.settle(*(settlement(one, batch.fence, change, schedule=schedule_id) for one in batch.jobs))
    return ids(batch)
