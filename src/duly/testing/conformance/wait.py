"""What every store promises about the token for which idle nodes sleep: `Jobs.wait`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from duly.core.lifecycle import Change
from duly.testing.conformance.kit import (
    BOUND,
    BRIEF,
    Client,
    Node,
    Suite,
    drain_token,
    job,
    kill_one,
    schedule,
    settlement,
)

if TYPE_CHECKING:
    from duly.stores.base import Shard
    from duly.testing.clock import ManualClock


class WaitSuite(Suite):
    """`Jobs.wait`: one token at most, left when there is a reason to claim."""

    async def test_a_new_queue_has_no_token(self, shard: Shard) -> None:
        assert not await shard.wait(BRIEF)

    async def test_a_push_of_due_work_leaves_one_token(self, shard: Shard) -> None:
        await Client(shard).push(job("a"), job("b"))
        await Client(shard, "other").push(job("c"))
        assert await shard.wait(BOUND)
        assert not await shard.wait(BRIEF)

    async def test_only_an_earlier_due_time_leaves_a_token(self, shard: Shard) -> None:
        client = Client(shard)
        await client.push(job("a", delay=5_000, named=True))
        assert await shard.wait(BOUND)
        await client.push(job("b", delay=9_000, priority=0))
        assert not await shard.wait(BRIEF)
        await client.push(job("c", delay=4_000, priority=3))
        assert await shard.wait(BOUND)
        await client.push(job("a", delay=3_000, named=True, replace=True))
        assert await shard.wait(BOUND)
        await client.push(job("a", delay=2_000, named=True))  # known, nothing written
        assert not await shard.wait(BRIEF)

    async def test_a_claim_that_leaves_due_work_leaves_a_token(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"))
        await drain_token(shard)
        await node.claim(1)
        assert await shard.wait(BOUND)
        await node.claim(0)  # the token passes by a node that has no room
        assert await shard.wait(BOUND)
        await node.claim(2)
        assert not await shard.wait(BRIEF)

    async def test_a_job_that_goes_back_leaves_a_token_if_it_is_due_or_first(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("later", delay=5_000))
        for delay, token in ((0, True), (2_000, True), (9_000, False)):
            claimed, fence = await node.claim_one()
            await drain_token(shard)
            await node.settle(settlement(claimed, fence, Change("again", delay)))
            assert await shard.wait(BOUND if token else BRIEF) is token
            clock.advance(min(delay, 2_000) / 1000)

    async def test_children_leave_a_token(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await drain_token(shard)
        await node.settle(settlement(claimed, fence, children=(job("x", delay=5_000),)))
        assert await shard.wait(BOUND)

    async def test_the_settle_that_makes_room_under_the_limit_leaves_a_token(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await shard.configure(limit=1)
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        await drain_token(shard)
        assert not await shard.wait(BRIEF)
        await node.settle(settlement(batch.jobs[0], batch.fence))
        assert await shard.wait(BOUND)

    async def test_a_settle_with_nothing_to_do_leaves_no_token(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b", delay=5_000))
        claimed, fence = await node.claim_one()
        await drain_token(shard)
        await node.settle(settlement(claimed, fence))
        assert not await shard.wait(BRIEF)

    async def test_revived_jobs_and_new_schedules_leave_a_token(self, shard: Shard) -> None:
        await kill_one(shard, "a")
        await drain_token(shard)
        await shard.revive(["a"])
        assert await shard.wait(BOUND)
        await shard.put(schedule())
        assert await shard.wait(BOUND)

    async def test_a_sleeper_is_woken_by_a_push(self, shard: Shard) -> None:
        async with asyncio.timeout(BOUND):
            sleeper = asyncio.create_task(shard.wait(2 * BOUND))
            while not sleeper.done():
                await Client(shard, "client").push(job("a"))  # known after the first time: no second token
                await asyncio.wait([sleeper], timeout=BRIEF)
            assert sleeper.result()
        assert not await shard.wait(BRIEF)

    async def test_one_token_wakes_one_of_several_sleepers(self, shard: Shard) -> None:
        sleepers = [asyncio.create_task(shard.wait(10 * BRIEF)) for _ in range(3)]
        await Client(shard).push(job("a"))
        async with asyncio.timeout(BOUND):
            assert sorted(await asyncio.gather(*sleepers)) == [False, False, True]
