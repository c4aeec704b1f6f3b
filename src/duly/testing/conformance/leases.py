"""What every store promises when nodes die or sleep, the store was away, or clocks jump (DESIGN section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duly.core.job import Holder
from duly.stores.base import Renewal, Shard
from duly.testing.conformance.kit import (
    AGAIN,
    LEASE,
    Client,
    Node,
    Suite,
    ids,
    is_unknown,
    job,
    known,
    now_ms,
    pass_time,
    settlement,
)

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

LEASE_S = LEASE / 1000


class TakeOverSuite(Suite):
    """What becomes of leases that ended."""

    async def test_an_ended_lease_goes_to_the_next_node_that_claims(self, shard: Shard, clock: ManualClock) -> None:
        dead, node = Node(shard, "dead"), Node(shard, "n")
        await Client(shard).push(job("a", named=True))
        held = await dead.claim()
        await pass_time(shard, clock, LEASE_S - 0.001)
        assert ids(await node.claim()) == []
        clock.advance(0.001)
        batch = await node.claim()
        (taken,) = batch.jobs
        assert (taken.id, taken.body, taken.named) == ("a", b"body of a", True)
        assert (taken.before, taken.crashes) == (Holder(held.fence, "dead", False), 1)
        record = await known(shard, "a")
        assert (record.node, record.fence, record.at) == ("n", batch.fence, now_ms(clock) + LEASE)
        assert batch.fence > held.fence

    async def test_each_take_over_counts_one_crash_at_once(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "n0").claim_one()
        for crashes in (1, 2, 3):
            await pass_time(shard, clock, LEASE_S)
            claimed, _ = await Node(shard, f"n{crashes}").claim_one()
            assert claimed.crashes == crashes
            assert (await known(shard, "a")).crashes == crashes

    async def test_a_take_over_says_whether_the_run_had_started(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b"))
        batch = await Node(shard, "dead").claim()
        await shard.start([("a", batch.fence)])
        for name, former in (("n", "dead"), ("m", "n")):  # the mark outlives several holders
            await pass_time(shard, clock, LEASE_S)
            taken = {claimed.id: claimed.before for claimed in (await Node(shard, name).claim()).jobs}
            assert {id: (before.node, before.started) for id, before in taken.items() if before} == {
                "a": (former, True),
                "b": (former, False),
            }

    async def test_ended_leases_come_before_due_jobs_and_within_the_limit(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await Client(shard).push(*(job(f"old{i}") for i in range(3)))
        await Node(shard, "dead").claim()
        await pass_time(shard, clock, LEASE_S)
        await Client(shard, "other").push(job("new0", priority=0), job("new1"))
        node = Node(shard, "n")
        assert ids(await node.claim(2)) == ["old0", "old1"]
        assert ids(await node.claim(2)) == ["old2", "new0"]
        assert ids(await node.claim(2)) == ["new1"]

    async def test_a_take_over_is_no_concern_of_the_queues_limit(self, shard: Shard, clock: ManualClock) -> None:
        await shard.configure(limit=2)
        await Client(shard).push(*(job(f"j{i}") for i in range(4)))
        await Node(shard, "dead").claim()
        await pass_time(shard, clock, LEASE_S)
        assert ids(await Node(shard, "n").claim()) == ["j0", "j1"]
        assert (await shard.sizes()).leased == 2

    async def test_a_paused_queue_takes_nothing_over(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "dead").claim()
        await shard.configure(paused=True)
        await pass_time(shard, clock, LEASE_S)
        assert ids(await Node(shard, "n").claim()) == []
        assert (await known(shard, "a")).crashes == 0

    async def test_an_ended_lease_that_nobody_took_may_be_renewed(self, shard: Shard, clock: ManualClock) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        batch = await node.claim()
        await pass_time(shard, clock, 2 * LEASE_S)
        assert await shard.renew([Renewal("a", batch.fence, LEASE)]) == ["applied"]
        assert ids(await Node(shard, "m").claim()) == []
        assert (await known(shard, "a")).crashes == 0

    async def test_an_ended_lease_that_nobody_took_may_be_started_and_settled(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await pass_time(shard, clock, 2 * LEASE_S)
        assert await shard.start([("a", fence)]) == [True]
        assert await node.settle(settlement(claimed, fence)) == ["applied"]
        assert await is_unknown(shard, "a")

    async def test_a_callers_own_ended_lease_is_renewed_not_taken_over(self, shard: Shard, clock: ManualClock) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        held = await node.claim()
        await pass_time(shard, clock, LEASE_S)
        assert ids(await node.claim()) == []
        record = await known(shard, "a")
        assert (record.fence, record.crashes, record.at) == (held.fence, 0, now_ms(clock) + LEASE)

    async def test_own_leases_that_are_renewed_use_up_none_of_the_limit(self, shard: Shard, clock: ManualClock) -> None:
        node = Node(shard, "n")
        await Client(shard).push(*(job(f"j{i}") for i in range(6)))
        assert len((await node.claim(3)).jobs) == 3
        assert len((await Node(shard, "dead").claim()).jobs) == 3
        await pass_time(shard, clock, LEASE_S)
        assert ids(await node.claim(2)) == ["j3", "j4"]
        assert [record.crashes if record else None for record in await shard.get(["j0", "j3"])] == [0, 1]

    async def test_a_take_over_says_that_a_cancel_was_asked(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "dead").claim()
        await shard.cancel(["a"])
        await pass_time(shard, clock, LEASE_S)
        node = Node(shard, "n")
        claimed, fence = await node.claim_one()
        assert claimed.cancelled
        assert await node.settle(settlement(claimed, fence, AGAIN)) == ["cancel asked"]

    async def test_a_renewed_lease_is_not_taken_over(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("long"))
        batch = await Node(shard, "n").claim()
        for _ in range(18):  # six leases
            clock.advance(LEASE_S / 3)
            assert await shard.renew([Renewal("long", batch.fence, LEASE)]) == ["applied"]
            assert ids(await Node(shard, "m").claim()) == []
        assert (await known(shard, "long")).crashes == 0


class GapSuite(Suite):
    """The store was away, or its clock jumped: those who live come first."""

    async def test_after_a_gap_ended_leases_are_left_alone_for_a_third_of_a_lease(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        await Node(shard, "dead").claim()
        clock.advance(30)
        batch = await node.claim()
        assert (batch.jobs, batch.gap) == ([], True)
        assert batch.wait_us is not None
        assert batch.wait_us <= LEASE // 3 * 1_000
        await pass_time(shard, clock, LEASE // 3 / 1000 - 0.001)
        batch = await node.claim()
        assert (batch.jobs, batch.gap) == ([], True)
        clock.advance(0.001)
        batch = await node.claim()
        assert (ids(batch), batch.gap) == (["a"], False)

    async def test_a_node_that_comes_back_after_a_gap_keeps_its_job(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        held = await Node(shard, "n").claim()
        clock.advance(40)
        assert ids(await Node(shard, "m").claim()) == []
        clock.advance(1)
        assert await shard.renew([Renewal("a", held.fence, LEASE)]) == ["applied"]
        await pass_time(shard, clock, LEASE_S / 2)
        batch = await Node(shard, "k").claim()
        assert (batch.jobs, batch.gap) == ([], False)

    async def test_a_gap_is_met_by_renewals_too(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b"))
        batch = await Node(shard, "n").claim(1)
        await Node(shard, "dead").claim(1)
        clock.advance(30)
        assert await shard.renew([Renewal("a", batch.fence, LEASE)]) == ["applied"]
        node = Node(shard, "m")
        held_back = await node.claim()
        assert (held_back.jobs, held_back.gap) == ([], True)
        clock.advance(LEASE // 3 / 1000)  # since the renewal
        assert ids(await node.claim()) == ["b"]

    async def test_a_store_that_is_called_by_renewals_alone_is_in_use(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b"))
        batch = await Node(shard, "n").claim(1)
        await Node(shard, "dead").claim(1)
        for _ in range(6):
            clock.advance(LEASE_S / 3)
            assert await shard.renew([Renewal("a", batch.fence, LEASE)]) == ["applied"]
        taken = await Node(shard, "m").claim()
        assert (ids(taken), taken.gap) == (["b"], False)

    async def test_a_gap_in_which_no_lease_ended_is_not_worth_telling(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "n").claim()
        clock.advance(0.6 * LEASE_S)
        assert (await Node(shard, "m").claim()).gap is False

    async def test_due_jobs_are_claimed_during_the_gaps_hold(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b", delay=5_000))
        await Node(shard, "dead").claim()
        clock.advance(30)
        batch = await Node(shard, "n").claim()
        assert (ids(batch), batch.gap) == (["b"], True)

    async def test_a_store_that_flaps_holds_leases_back_only_once_per_lease(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "dead").claim()
        clock.advance(30)
        assert (await Node(shard, "n").claim()).gap
        clock.advance(0.6 * LEASE_S)  # a gap again, but the lives were given their time
        assert ids(await Node(shard, "m").claim()) == ["a"]

    async def test_a_store_in_use_holds_nothing_back(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "dead").claim()
        await pass_time(shard, clock, 1.5 * LEASE_S, step=LEASE_S / 2)  # half a lease is no gap
        batch = await Node(shard, "n").claim()
        assert (ids(batch), batch.gap) == (["a"], False)

    async def test_gaps_are_measured_against_the_shortest_lease_too(self, shard: Shard, clock: ManualClock) -> None:
        short = 2_000
        await Client(shard).push(job("a"))
        await Node(shard, "dead", lease=short).claim()
        node = Node(shard, "n", lease=LEASE, shortest=short)
        clock.advance(short / 1000)
        batch = await node.claim()
        assert (batch.jobs, batch.gap) == ([], True)
        clock.advance((short // 3) / 1000)
        assert ids(await node.claim()) == ["a"]

    async def test_a_gap_is_held_for_as_long_as_the_leases_it_was_too_long_for(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        short = 2_000
        for gap, held in ((LEASE // 2, short // 3), (LEASE // 2 + 1, LEASE // 3)):
            await Client(shard, f"{gap}").push(job(f"{gap}"))
            await Node(shard, f"dead {gap}", lease=short).claim()
            await pass_time(shard, clock, LEASE_S, step=0.9)
            node = Node(shard, f"n {gap}", lease=LEASE, shortest=short)
            await node.claim(0)
            clock.advance(gap / 1000)
            assert (await node.claim(0)).gap
            await pass_time(shard, clock, (held - 1) / 1000, step=0.9)
            assert (await node.claim(0)).gap
            clock.advance(0.001)
            batch = await node.claim()
            assert (ids(batch)[0], batch.gap) == (f"{gap}", False)

    async def test_a_gap_is_measured_against_the_leases_that_are_renewed(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        short = 2_000
        await Client(shard).push(job("long"), job("short"), job("z"))
        batch = await Node(shard, "n", lease=60_000).claim(2)
        fence = batch.fence
        await Node(shard, "dead", lease=1_000).claim()
        for gap, held in ((LEASE // 2 + 1, LEASE // 3), (short // 2 + 1, short // 3)):
            for order in (1, -1):
                await pass_time(shard, clock, 2 * LEASE_S, step=0.5)
                assert (await Node(shard, f"before {gap} {order}").claim(0)).gap is False
                clock.advance(gap / 1000)
                renewals = [Renewal("long", fence, LEASE), Renewal("short", fence, short)][::order]
                assert await shard.renew(renewals) == ["applied", "applied"]
                await pass_time(shard, clock, (held - 1) / 1000, step=0.9)
                assert (await Node(shard, f"m {gap} {order}", shortest=LEASE).claim(0)).gap
                clock.advance(0.001)
                assert (await Node(shard, f"k {gap} {order}", shortest=LEASE).claim(0)).gap is False

    async def test_the_first_call_of_all_meets_no_gap(self, shard: Shard, clock: ManualClock) -> None:
        await Node(shard, "first").claim(0)
        await Client(shard).push(job("a"))
        await Node(shard, "dead", lease=1_000).claim()
        clock.advance(1)
        batch = await Node(shard, "n").claim()
        assert (ids(batch), batch.gap) == (["a"], False)

    async def test_a_gap_one_lease_after_the_last_is_held_again(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "dead").claim()
        node = Node(shard, "n")
        clock.advance(30)
        assert (await node.claim(0)).gap
        clock.advance(LEASE_S / 2)  # no gap, and the hold is over
        assert (await node.claim(0)).gap is False
        clock.shift(-1)  # what was held before stays held before
        assert (await node.claim(0)).backwards_ms == 1_000
        clock.advance(LEASE_S / 2 + 1)
        batch = await node.claim()
        assert (batch.jobs, batch.gap) == ([], True)

    async def test_a_clock_that_went_back_is_reported(self, shard: Shard, clock: ManualClock) -> None:
        node = Node(shard, "n")
        await node.claim()
        clock.shift(-60)
        batch = await node.claim()
        assert batch.backwards_ms == 60_000
        assert (await node.claim()).backwards_ms == 0

    async def test_a_clock_that_went_back_does_not_keep_jobs_from_being_taken_over(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await node.claim()
        clock.advance(60)
        await node.claim()  # holds ended leases back for a third of a lease
        clock.shift(-3_600)
        await node.claim()
        await Client(shard).push(job("a"))
        await Node(shard, "dead").claim()
        await pass_time(shard, clock, LEASE_S)
        assert ids(await node.claim()) == ["a"]

    async def test_a_clock_that_jumped_forwards_costs_the_living_no_lease(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await Client(shard).push(job("a"))
        batch = await Node(shard, "n").claim()
        clock.shift(3_600)
        assert ids(await Node(shard, "m").claim()) == []
        assert await shard.renew([Renewal("a", batch.fence, LEASE)]) == ["applied"]
        assert (await known(shard, "a")).crashes == 0
