"""What every store promises about the sleep of idle nodes: one of them keeps the exact timer, the others come a little later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duly.testing.conformance.kit import (
    BOUND,
    BRIEF,
    LEASE,
    Client,
    Node,
    Suite,
    drain_token,
    ids,
    job,
    kill_one,
    schedule,
    settlement,
)

if TYPE_CHECKING:
    from duly.stores.base import Shard, Store
    from duly.testing.clock import ManualClock

LITTLE_US = 500_000
"""How much later than the moment the others may come."""


async def wait_of(node: Node, limit: int = 100) -> int:
    """How long a claim says that its node may sleep."""
    wait_us = (await node.claim(limit)).wait_us
    assert wait_us is not None
    return wait_us


class IdleSuite(Suite):
    """`Batch.wait_us` of several nodes."""

    async def test_the_others_come_a_little_later_than_the_node_that_keeps_the_timer(self, shard: Shard) -> None:
        await Client(shard).push(job("a", delay=3_000))
        assert await wait_of(Node(shard, "one")) == 3_000_000
        for name in ("two", "three"):
            assert 3_000_000 < await wait_of(Node(shard, name)) <= 3_000_000 + LITTLE_US

    async def test_the_node_that_keeps_the_timer_keeps_it_while_time_passes(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        one, two = Node(shard, "one"), Node(shard, "two")
        await Client(shard).push(job("a", delay=3_000))
        await wait_of(one)
        clock.advance(1)
        assert await wait_of(two) > 2_000_000
        assert await wait_of(one) == 2_000_000

    async def test_a_moment_before_the_timer_is_kept_by_whoever_hears_of_it(self, shard: Shard) -> None:
        one, two = Node(shard, "one"), Node(shard, "two")
        await Client(shard).push(job("a", delay=3_000))
        await wait_of(one)
        await Client(shard, "other").push(job("b", delay=1_000))
        assert await wait_of(two) == 1_000_000
        assert await wait_of(one) > 1_000_000

    async def test_a_timer_for_an_earlier_moment_serves_a_later_one(self, shard: Shard) -> None:
        one, two = Node(shard, "one"), Node(shard, "two")
        client = Client(shard)
        await client.push(job("a", delay=1_000, named=True))
        await wait_of(one)
        await client.push(job("a", delay=3_000, named=True, replace=True))
        assert await wait_of(two) > 3_000_000  # the one with the timer looks before

    async def test_a_timer_whose_moment_has_come_is_kept_by_the_next_who_is_idle(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        one, two = Node(shard, "one"), Node(shard, "two")
        await Client(shard).push(job("a", delay=1_000), job("b", delay=2_000))
        await wait_of(one)  # and is never heard of again
        clock.advance(1)
        assert await wait_of(two) == 1_000_000

    async def test_a_node_that_gets_busy_gives_up_the_timer_and_leaves_a_token(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        one, two = Node(shard, "one", lease=20_000), Node(shard, "two")
        await Client(shard).push(job("a", delay=1_000), job("b", delay=9_000))
        await wait_of(one)
        clock.advance(1)
        await drain_token(shard)
        assert ids(await one.claim(1)) == ["a"]
        assert await shard.wait(BOUND)
        assert await wait_of(two) == 8_000_000

    async def test_the_timer_of_a_node_that_got_busy_before_its_moment_goes_to_the_next(self, shard: Shard) -> None:
        one, two = Node(shard, "one", lease=20_000), Node(shard, "two")
        await Client(shard).push(job("later", delay=9_000))
        await wait_of(one)
        await Client(shard, "other").push(job("a"))
        assert ids(await one.claim(1)) == ["a"]
        assert await wait_of(two) == 9_000_000

    async def test_a_node_that_is_busy_without_the_timer_leaves_no_token(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        one, two = Node(shard, "one", lease=20_000), Node(shard, "two", lease=20_000)
        await Client(shard).push(job("later", delay=9_000))
        assert await wait_of(one) == 9_000_000
        await Client(shard, "other").push(job("a"))
        await drain_token(shard)
        assert ids(await two.claim(1)) == ["a"]
        assert not await shard.wait(BRIEF)
        assert await wait_of(one) == 9_000_000

    async def test_a_node_that_takes_a_part_of_what_it_could_keeps_the_timer(self, shard: Shard) -> None:
        node = Node(shard, "one", lease=20_000)
        await Client(shard).push(job("a"), job("later", delay=5_000))
        await drain_token(shard)
        batch = await node.claim(2)
        assert (ids(batch), batch.wait_us) == (["a"], 5_000_000)
        assert not await shard.wait(BRIEF)
        assert await wait_of(Node(shard, "two")) > 5_000_000

    async def test_a_node_that_has_nothing_to_wait_for_leaves_no_token(self, shard: Shard) -> None:
        node = Node(shard, "one")
        await Client(shard).push(job("a", delay=3_000))
        await wait_of(node)
        await shard.cancel(["a"])
        await drain_token(shard)
        assert (await node.claim()).wait_us is None
        assert not await shard.wait(BRIEF)

    # --- the nearest of several moments --------------------------------------------------------------------------------

    async def test_the_wait_ends_at_the_nearest_of_job_lease_and_look(self, shard: Shard, clock: ManualClock) -> None:
        node = Node(shard, "n")
        await shard.put(schedule())
        await shard.due(10)  # to be looked at in a second
        await Client(shard).push(job("running"))
        assert (await node.claim(1)).wait_us == 1_000_000
        await Client(shard, "x").push(job("a", delay=500))
        assert (await node.claim(1)).wait_us == 500_000
        assert await wait_of(node) == 500_000
        await shard.steer("s", remove=True)
        await shard.cancel(["a"])
        assert await wait_of(node) == LEASE * 1_000
        await Client(shard, "y").push(job("b", delay=LEASE + 1_000))
        assert await wait_of(node) == LEASE * 1_000

    async def test_a_look_that_is_due_shortens_no_wait(self, shard: Shard) -> None:
        await shard.put(schedule())
        await Client(shard).push(job("a", delay=3_000))
        batch = await Node(shard, "n").claim()
        assert (batch.looks_due, batch.wait_us) == (True, 3_000_000)

    async def test_the_wait_ends_when_the_first_of_any_priority_is_due(self, shard: Shard) -> None:
        delays = {0: 4_000, 1: 3_000, 2: 5_000, 3: 6_000}
        await Client(shard).push(
            *(job(f"{priority}", delay=delay, priority=priority) for priority, delay in delays.items())
        )
        assert await wait_of(Node(shard, "n")) == 3_000_000

    async def test_a_paused_queue_waits_for_the_looks_at_its_schedules_alone(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("running"), job("a", delay=500))
        await node.claim(1)
        await shard.configure(paused=True)
        batch = await node.claim()
        assert (batch.jobs, batch.wait_us, batch.gap) == ([], None, False)
        clock.advance(3 * LEASE / 1000)  # a gap, but nothing is held back: nothing would be taken over
        assert (await node.claim()).gap is False
        await shard.put(schedule())
        await shard.due(10)
        assert await wait_of(node) == 1_000_000

    async def test_a_lease_that_ends_as_the_hold_does_is_not_held_back(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b"))
        await Node(shard, "dead").claim(1)
        clock.advance(30)
        node = Node(shard, "n")
        assert (await node.claim(0)).gap is True
        clock.advance(LEASE // 3 / 1000)
        batch = await node.claim(0)
        assert batch.gap is False

    async def test_only_pending_jobs_of_the_queue_itself_are_due_work(
        self, store: Store, shard: Shard, clock: ManualClock
    ) -> None:
        await kill_one(shard, "dead")
        await Client(store.shard("other")).push(job("a"))
        await Client(shard).push(job("b", delay=1_000))
        await drain_token(shard)
        assert await wait_of(Node(shard, "n")) == 1_000_000
        assert not await shard.wait(BRIEF)

    async def test_the_wait_of_a_gap_ends_with_the_hold(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "dead").claim()
        clock.advance(30)
        assert await wait_of(Node(shard, "n")) == LEASE // 3 * 1_000

    async def test_a_full_queue_is_open_again_when_a_job_has_ended(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await shard.configure(limit=1)
        await Client(shard).push(job("a"), job("b", delay=1_000))
        claimed, fence = await node.claim_one()
        assert await wait_of(node) == LEASE * 1_000
        await node.settle(settlement(claimed, fence))
        assert await wait_of(node) == 1_000_000
