"""What every store promises about claiming: order, limits, fences, and when to come again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duly.core.job import Claimed, Hold
from duly.testing.conformance.kit import (
    AGAIN,
    BOUND,
    BRIEF,
    LEASE,
    Client,
    Node,
    Suite,
    drain_token,
    ids,
    job,
    known,
    now_ms,
    pass_time,
    schedule,
    settlement,
)

if TYPE_CHECKING:
    from duly.stores.base import Shard
    from duly.testing.clock import ManualClock


class ClaimSuite(Suite):
    """`Jobs.claim`, as long as nothing goes wrong; see `faults` for the rest."""

    async def test_a_claim_hands_out_all_that_was_pushed(self, shard: Shard, clock: ManualClock) -> None:
        now = now_ms(clock)
        await Client(shard).push(job("a", body=b"\x00\xff", priority=2, named=True, unique=Hold("k")))
        clock.advance(1)
        batch = await Node(shard, "n").claim()
        assert batch.jobs == [Claimed("a", b"\x00\xff", now, 2, True, "k", due=now)]
        assert batch.now == now + 1_000

    async def test_a_claim_says_when_each_job_was_due(self, shard: Shard, clock: ManualClock) -> None:
        now = now_ms(clock)
        await Client(shard).push(
            job("late", delay=300), job("past", due=now - 7), job("low", priority=3), job("top", priority=0)
        )
        clock.advance(1)
        batch = await Node(shard, "n").claim()
        assert [(one.id, one.due) for one in batch.jobs] == [
            ("top", now),
            ("past", now - 7),
            ("late", now + 300),
            ("low", now),
        ]

    async def test_what_is_put_back_with_a_delay_below_zero_has_been_due_for_so_long(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await Client(shard).push(job("a"))
        node = Node(shard, "n")
        batch = await node.claim()
        clock.advance(1)
        await Client(shard, "other").push(job("b"))
        clock.advance(1)
        await node.settle(settlement(batch.jobs[0], batch.fence, type(AGAIN)("again", delay=-2_000)))
        assert (await known(shard, "a")).at == now_ms(clock) - 2_000
        assert ids(await node.claim()) == ["a", "b"]

    async def test_of_a_job_that_is_taken_over_or_told_again_it_is_not_known_when_it_was_due(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await Client(shard).push(job("a"))
        dies, lives = Node(shard, "dies"), Node(shard, "lives")
        await dies.claim()
        assert [one.due for one in (await dies.repeat_claim()).jobs] == [0]
        await pass_time(shard, clock, LEASE / 1000 + 1)
        await Client(shard, "other").push(job("b"))
        batch = await lives.claim()
        assert [(one.id, one.due) for one in batch.jobs] == [("a", 0), ("b", now_ms(clock))]

    async def test_a_claimed_job_is_leased_under_the_fence(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        batch = await Node(shard, "n").claim()
        record = await known(shard, "a")
        assert (record.state, record.at) == ("leased", now_ms(clock) + LEASE)
        assert (record.node, record.fence, record.started, record.cancel_asked) == ("n", batch.fence, False, False)
        sizes = await shard.sizes()
        assert (sizes.pending, sizes.leased) == (0, 1)

    async def test_a_job_is_claimed_once(self, shard: Shard) -> None:
        await Client(shard).push(job("a"))
        assert ids(await Node(shard, "n").claim()) == ["a"]
        assert ids(await Node(shard, "m").claim()) == []

    async def test_a_job_is_not_claimed_before_it_is_due(self, shard: Shard, clock: ManualClock) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a", delay=1_000))
        clock.advance(0.999)
        assert ids(await node.claim()) == []
        clock.advance(0.001)
        assert ids(await node.claim()) == ["a"]

    async def test_jobs_come_by_priority_then_due_time_then_id(self, shard: Shard, clock: ManualClock) -> None:
        now = now_ms(clock)
        jobs = [job("z", due=now - 5), job("b", due=now - 9), job("a", due=now - 5), job("é", due=now - 5)]
        await Client(shard).push(
            *jobs, job("low", due=now - 99, priority=3), job("high", priority=0), job("2nd", priority=2)
        )
        batch = await Node(shard, "n").claim()
        assert ids(batch) == ["high", "b", "a", "z", "é", "2nd", "low"]

    async def test_every_eighth_claim_takes_the_last_priority_first(self, shard: Shard) -> None:
        node = Node(shard, "n")
        for i in range(16):
            await Client(shard, f"c{i}").push(*(job(f"{p}-{i:02}", priority=p) for p in range(4)))
        first = [(await node.claim(1)).jobs[0].priority for _ in range(16)]
        assert first == [0, 0, 0, 0, 0, 0, 0, 3] * 2

    async def test_a_claim_takes_no_more_than_its_limit(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(*(job(f"j{i}", priority=i % 3) for i in range(9)))
        assert len((await node.claim(4)).jobs) == 4
        assert (await node.claim(0)).jobs == []
        assert len((await node.claim(10)).jobs) == 5

    async def test_each_claim_has_a_greater_fence_even_when_it_takes_nothing(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        fences = [(await Node(shard, f"n{i}").claim()).fence for i in range(5)]
        assert fences == sorted(set(fences))
        assert fences[0] >= clock.epoch_us()
        clock.advance(1)
        assert (await Node(shard, "n").claim()).fence >= clock.epoch_us()

    async def test_counts_of_earlier_runs_come_with_the_job(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        assert (claimed.attempts, claimed.crashes, claimed.unfit_since) == (0, 0, 0)
        change = type(AGAIN)("again", 0, attempts=3, crashes=2, unfit_since=12_345)
        await node.settle(settlement(claimed, fence, change))
        claimed, _ = await node.claim_one()
        assert (claimed.attempts, claimed.crashes, claimed.unfit_since) == (3, 2, 12_345)
        assert claimed.before is None

    # --- pause and limit ---------------------------------------------------------------------------------------------

    async def test_a_paused_queue_gives_nothing_until_it_is_resumed(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        await shard.configure(paused=True)
        assert (await shard.sizes()).paused
        await drain_token(shard)
        batch = await node.claim()
        assert batch.jobs == []
        assert batch.wait_us is None
        assert not await shard.wait(BRIEF)
        await shard.configure(paused=False)
        assert await shard.wait(BOUND)
        assert ids(await node.claim()) == ["a"]

    async def test_a_limited_queue_has_no_more_leased_jobs_than_its_limit(self, shard: Shard) -> None:
        one, two = Node(shard, "one"), Node(shard, "two")
        await shard.configure(limit=3)
        assert (await shard.sizes()).limit == 3
        await Client(shard).push(*(job(f"j{i}") for i in range(6)))
        first = await one.claim(2)
        assert len(first.jobs) == 2
        assert len((await two.claim(2)).jobs) == 1
        assert len((await two.claim(2)).jobs) == 0
        await one.settle(settlement(first.jobs[0], first.fence))
        assert len((await two.claim(2)).jobs) == 1
        await shard.configure(limit=0)
        assert (await shard.sizes()).limit is None
        assert len((await two.claim(10)).jobs) == 2

    async def test_a_limit_below_what_is_leased_gives_nothing(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(*(job(f"j{i}") for i in range(6)))
        await node.claim(3)
        await shard.configure(limit=1)
        assert (await node.claim(10)).jobs == []
        await shard.configure(limit=4)
        assert len((await node.claim(10)).jobs) == 1

    async def test_a_limited_queue_that_is_not_full_asks_for_a_claim_when_work_is_due(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await shard.configure(limit=2)
        await Client(shard).push(job("a"), job("b", delay=1_000))
        assert (await node.claim()).wait_us == 1_000_000

    async def test_a_full_queue_asks_nobody_to_come_for_work_that_it_may_not_give(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await shard.configure(limit=1)
        await Client(shard).push(job("a"), job("b"))
        await node.claim()
        await drain_token(shard)
        batch = await Node(shard, "m").claim()
        assert batch.wait_us is not None  # the lease may end: somebody has to take it over
        assert batch.wait_us >= LEASE * 1_000
        assert not await shard.wait(BRIEF)

    # --- when to come again ------------------------------------------------------------------------------------------

    async def test_an_empty_queue_names_no_moment(self, shard: Shard) -> None:
        batch = await Node(shard, "n").claim()
        assert (batch.wait_us, batch.looks_due, batch.gap, batch.backwards_ms) == (None, False, False, 0)

    async def test_the_wait_ends_exactly_when_the_next_job_is_due(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("b", delay=9_000, priority=0), job("a", delay=2_000, priority=3))
        due = now_ms(clock) + 2_000
        clock.advance(0.000_300)
        node = Node(shard, "n")
        wait = (await node.claim()).wait_us
        assert wait == due * 1_000 - clock.epoch_us()
        clock.advance(wait / 1e6)
        assert ids(await node.claim()) == ["a"]

    async def test_the_wait_ends_when_the_next_lease_does(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b", delay=3 * LEASE))
        assert len((await Node(shard, "n").claim(1)).jobs) == 1
        batch = await Node(shard, "m").claim()
        assert batch.wait_us == LEASE * 1_000

    async def test_due_work_that_is_left_asks_for_another_claim_at_once(self, shard: Shard) -> None:
        await Client(shard).push(job("a"), job("b"))
        assert (await Node(shard, "n").claim(1)).wait_us == 0
        assert (await Node(shard, "m").claim(0)).wait_us == 0

    async def test_the_wait_ends_at_the_next_look_at_a_schedule(self, shard: Shard, clock: ManualClock) -> None:
        node = Node(shard, "n")
        await shard.put(schedule())
        assert (await node.claim()).looks_due
        await shard.due(10)
        batch = await node.claim()
        assert (batch.looks_due, batch.look_next, batch.wait_us) == (False, True, 1_000_000)
        assert not (await Node(shard, "other").claim()).look_next  # one node is enough
        await Client(shard).push(job("a", delay=500))
        batch = await node.claim()
        assert (batch.look_next, batch.wait_us) == (False, 500_000)
        clock.advance(1)
        batch = await node.claim(0)
        assert (batch.looks_due, batch.look_next, batch.wait_us) == (True, False, 0)

    async def test_other_idle_nodes_sleep_no_shorter_than_the_first(self, shard: Shard) -> None:
        await Client(shard).push(job("a", delay=3_000))
        assert (await Node(shard, "one").claim()).wait_us == 3_000_000
        for name in ("two", "three"):
            later = (await Node(shard, name).claim()).wait_us
            assert later is not None
            assert 3_000_000 <= later <= 3_500_000
        assert (await Node(shard, "one").claim()).wait_us == 3_000_000
