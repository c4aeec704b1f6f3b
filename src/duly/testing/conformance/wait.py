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
    now_ms,
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

    async def test_the_earliest_of_what_is_pushed_together_decides_about_the_token(self, shard: Shard) -> None:
        client = Client(shard)
        await client.push(job("head", delay=5_000))
        await drain_token(shard)
        await client.push(job("a", delay=5_000), job("b", delay=9_000))
        assert not await shard.wait(BRIEF)
        await client.push(job("c", delay=4_000), job("d", delay=9_000))
        assert await shard.wait(BOUND)
        await client.push(job("e", delay=9_000), job("f", delay=3_000, priority=0), job("g", delay=3_500))
        assert await shard.wait(BOUND)
        await client.push(job("h", delay=3_000), job("i", delay=3_000))
        assert not await shard.wait(BRIEF)

    async def test_what_is_due_leaves_a_token_though_older_work_waits(self, shard: Shard, clock: ManualClock) -> None:
        client = Client(shard)
        await client.push(job("old"))
        clock.advance(1)
        for name in ("one", "two"):
            await drain_token(shard)
            await client.push(job(f"{name} later", delay=9_000), job(name))
            assert await shard.wait(BOUND)
        await client.push(job("moment", due=now_ms(clock)), job("later", delay=9_000))
        assert await shard.wait(BOUND)

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

    async def test_of_several_that_go_back_the_earliest_decides_about_the_token(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(*(job(id) for id in "abcd"), job("later", delay=5_000))
        batch = await node.claim()
        a, b, c, d = batch.jobs
        fence = batch.fence
        await drain_token(shard)
        await node.settle(settlement(a, fence, Change("again", 5_000)))
        assert not await shard.wait(BRIEF)
        await node.settle(settlement(b, fence, Change("again", 4_000)), settlement(c, fence, Change("again", 9_000)))
        assert await shard.wait(BOUND)
        await node.settle(settlement(d, fence, Change("again", 4_000)))
        assert not await shard.wait(BRIEF)

    async def test_a_job_that_is_due_again_leaves_a_token_though_older_work_waits(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"), job("older", priority=3))
        batch = await node.claim(2)
        clock.advance(1)
        await drain_token(shard)
        a, b = batch.jobs
        await node.settle(settlement(a, batch.fence, Change("again", 0)))
        assert await shard.wait(BOUND)
        await shard.put(schedule())
        await drain_token(shard)
        await node.settle(settlement(b, batch.fence, schedule="s"))  # an end that wakes nobody
        assert not await shard.wait(BRIEF)

    async def test_an_end_does_not_take_back_the_token_of_the_job_before_it(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await shard.put(schedule())
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        a, b = batch.jobs
        await drain_token(shard)
        await node.settle(settlement(a, batch.fence, Change("again", 0)), settlement(b, batch.fence, schedule="s"))
        assert await shard.wait(BOUND)

    async def test_a_settle_leaves_work_that_was_left_before_to_those_who_know(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(*(job(id) for id in "abcd"))
        batch = await node.claim(2)
        for limit, claimed in zip((0, 50), batch.jobs, strict=True):
            await shard.configure(limit=limit)  # no limit, and one that is not reached
            await drain_token(shard)
            await node.settle(settlement(claimed, batch.fence))
            assert not await shard.wait(BRIEF)

    async def test_a_settle_in_a_full_queue_leaves_a_token_if_there_is_something_to_do(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await shard.configure(limit=1)
        await Client(shard).push(job("only"))
        claimed, fence = await node.claim_one()
        await drain_token(shard)
        await node.settle(settlement(claimed, fence))  # nothing waits
        assert not await shard.wait(BRIEF)
        await Client(shard, "x").push(job("a"))
        claimed, fence = await node.claim_one()
        await drain_token(shard)
        await node.settle(settlement(claimed, fence, Change("again", 5_000)))  # the first that is to come
        assert await shard.wait(BOUND)
        await Client(shard, "y").push(job("b"))
        claimed, fence = await node.claim_one()
        await drain_token(shard)
        await node.settle(settlement(claimed, fence))  # what waits is not due
        assert not await shard.wait(BRIEF)

    async def test_very_many_children_leave_a_token_if_the_first_of_them_is_due(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await drain_token(shard)
        children = (*(job(f"j{i}") for i in range(1_000)), job("last", delay=3_600_000))
        assert await node.settle(settlement(claimed, fence, children=children)) == ["applied"]
        assert (await shard.sizes()).pending == 1_001
        assert await shard.wait(BOUND)

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

    async def test_switches_that_are_left_as_they_are_leave_no_token(self, shard: Shard) -> None:
        await shard.configure()
        assert not await shard.wait(BRIEF)

    async def test_a_revival_of_nothing_leaves_no_token(self, shard: Shard) -> None:
        await Client(shard).push(job("a", delay=5_000))
        await drain_token(shard)
        assert list(await shard.revive(["a", "nobody"])) == [False, False]
        assert not await shard.wait(BRIEF)

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
