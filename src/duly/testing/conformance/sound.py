"""What every store promises about its inside, as far as it can be asked: whatever became of jobs, nothing is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duly.core.job import Hold
from duly.core.lifecycle import Change
from duly.stores.base import Renewal, Shard
from duly.testing.conformance.kit import (
    AGAIN,
    DEAD,
    LEASE,
    LIMITS,
    Client,
    Node,
    Suite,
    ids,
    is_unknown,
    job,
    kill_one,
    known,
    pass_time,
    schedule,
    settlement,
)

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock


async def found(shard: Shard) -> dict[str, int]:
    """What a reconciler finds in all its steps."""
    total: dict[str, int] = {}
    cursor, more = await shard.reconcile("", 100)
    while True:
        for name, count in more.items():
            total[name] = total.get(name, 0) + count
        if not cursor:
            return total
        cursor, more = await shard.reconcile(cursor, 100)


async def run_with_everything(shard: Shard, id: str, **options: object) -> None:
    """The job is pending again after a run that left all that a run can leave, and leased once more."""
    node = Node(shard, f"of {id}")
    await Client(shard, f"of {id}").push(job(id, **options))  # type: ignore[arg-type]
    claimed, fence = await node.claim_one()
    await shard.start([(id, fence)])
    await shard.renew([Renewal(id, fence, LEASE, b"half")])
    change = Change("again", attempts=2, crashes=1, unfit_since=5, reason="why", error="KeyError", trace="Traceback")
    assert await node.settle(settlement(claimed, fence, change)) == ["applied"]


async def is_fresh(shard: Shard, id: str) -> bool:
    """Pushed anew, the job has nothing of the one before."""
    await Client(shard, f"again {id}").push(job(id))
    record = await known(shard, id)
    claimed, _ = await Node(shard, f"again {id}").claim_one()
    return (
        (record.attempts, record.crashes, record.unfit_since, record.progress) == (0, 0, 0, None)
        and (record.reason, record.error, record.trace, record.cancel_asked) == ("", "", "", False)
        and (claimed.attempts, claimed.crashes, claimed.unfit_since, claimed.cancelled) == (0, 0, 0, False)
    )


class SoundSuite(Suite):
    """Every way out of the store, and what is found afterwards."""

    async def test_a_job_that_ended_leaves_nothing_behind(self, shard: Shard) -> None:
        for id, unique in (("plain", None), ("unique", Hold("k")), ("started", Hold("l", "start"))):
            await run_with_everything(shard, id, unique=unique)
            node = Node(shard, f"last of {id}")
            claimed, fence = await node.claim_one()
            await shard.cancel([id])
            assert await node.settle(settlement(claimed, fence)) == ["applied"]
            assert await is_unknown(shard, id)
            assert await found(shard) == {}
            assert await is_fresh(shard, id)

    async def test_a_job_that_was_cancelled_or_cleared_leaves_nothing_behind(self, shard: Shard) -> None:
        for id, unique in (("plain", None), ("unique", Hold("k"))):
            await run_with_everything(shard, id, unique=unique)
            assert list(await shard.cancel([id])) == ["cancelled"]
            assert await found(shard) == {}
            assert await is_fresh(shard, id)
        for id, unique in (("plain 2", None), ("unique 2", Hold("k"))):
            await run_with_everything(shard, id, unique=unique)
            assert (await shard.clear("", None, 10))[0] == 1
            assert await found(shard) == {}
            assert await is_fresh(shard, id)

    async def test_a_job_that_died_keeps_only_what_the_dead_have(self, shard: Shard) -> None:
        await run_with_everything(shard, "a", unique=Hold("k"))
        node = Node(shard, "n")
        claimed, fence = await node.claim_one()
        await shard.cancel(["a"])
        await node.settle(settlement(claimed, fence, DEAD))
        assert await found(shard) == {}
        record = await known(shard, "a")
        assert (record.fence, record.node, record.started, record.cancel_asked) == (0, "", False, False)
        assert (record.attempts, record.crashes, record.unfit_since) == (4, 0, 0)
        assert (await shard.clear("", None, 10))[0] == 1
        assert await found(shard) == {}
        assert await is_fresh(shard, "a")

    async def test_dead_jobs_that_are_dropped_leave_nothing_behind(self, shard: Shard, clock: ManualClock) -> None:
        for i in range(LIMITS.dead_count + 3):
            clock.advance(0.01)
            await kill_one(shard, f"j{i:02}")
        assert await found(shard) == {}
        clock.advance(LIMITS.dead_ms / 1000 - 60)
        await kill_one(shard, "new")
        clock.advance(60)
        await kill_one(shard, "newer")
        assert await is_fresh(shard, "j00")
        assert (await shard.sizes()).dead == 2
        assert {name for name, _ in (await found(shard)).items()} <= {"stale"}  # those who killed them are silent

    async def test_dead_jobs_of_exactly_the_age_are_dropped(self, shard: Shard, clock: ManualClock) -> None:
        await kill_one(shard, "old")
        clock.advance(0.001)
        await kill_one(shard, "younger")
        clock.advance(LIMITS.dead_ms / 1000 - 0.001)
        await kill_one(shard, "new")
        assert [record and record.id for record in await shard.get(["old", "younger", "new"])] == [
            None,
            "younger",
            "new",
        ]

    async def test_old_and_surplus_dead_jobs_are_dropped_in_one_call(self, shard: Shard, clock: ManualClock) -> None:
        await kill_one(shard, "old 1")
        await kill_one(shard, "old 2")
        clock.advance(LIMITS.dead_ms / 1000)
        node, count = Node(shard, "n"), LIMITS.dead_count + 1
        await Client(shard, "last").push(*(job(f"j{i:02}") for i in range(count)))
        batch = await node.claim()
        await node.settle(*(settlement(one, batch.fence, DEAD) for one in batch.jobs))
        assert (await shard.sizes()).dead == LIMITS.dead_count
        assert await shard.get(["old 1", "old 2", "j00"]) == [None, None, None]

    async def test_a_job_that_was_taken_over_replaced_or_removed_leaves_nothing_behind(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        client = Client(shard)
        await client.push(job("a", named=True, unique=Hold("k")), job("b", delay=60_000, named=True, unique=Hold("l")))
        await client.push(job("b", delay=60_000, priority=3, named=True, replace=True, unique=Hold("m")))
        await client.push(job("b", delay=60_000, priority=0, named=True, replace=True))
        assert await found(shard) == {}
        await Node(shard, "dead").claim()
        await pass_time(shard, clock, LEASE / 1000)
        node = Node(shard, "n")
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, AGAIN))
        assert await found(shard) == {}
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence))
        await shard.put(schedule())
        await shard.steer("s", paused="x")
        assert await found(shard) == {}
        await shard.steer("s", remove=True)
        assert await found(shard) == {}

    async def test_a_run_that_goes_back_with_no_counts_has_none(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        for counts in ((1, 0, 0), (0, 0, 0), (0, 2, 0), (0, 0, 0), (0, 0, 7), (0, 0, 0)):
            claimed, fence = await node.claim_one()
            attempts, crashes, unfit_since = counts
            await node.settle(settlement(claimed, fence, Change("again", 0, attempts, crashes, unfit_since)))
            record = await known(shard, "a")
            assert (record.attempts, record.crashes, record.unfit_since) == counts
        assert ids(await node.claim()) == ["a"]
