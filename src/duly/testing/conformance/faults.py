"""What every store promises when calls are lost, nodes die or sleep, and clocks jump (DESIGN sections 2 and 4)."""

from __future__ import annotations

import pytest

from duly.core.job import Claimed, Holder
from duly.core.lifecycle import END
from duly.errors import StoreRefused
from duly.stores.base import Renewal, Shard
from duly.testing.clock import ManualClock
from duly.testing.conformance.kit import (
    AGAIN,
    BRIEF,
    DEAD,
    LEASE,
    Client,
    Node,
    Suite,
    drain_token,
    ids,
    is_unknown,
    job,
    known,
    now_ms,
    pass_time,
    schedule,
    settlement,
)

LEASE_S = LEASE / 1000


class RepeatSuite(Suite):
    """Applied, but the reply was lost: the caller repeats, and nothing happens twice."""

    async def test_a_repeated_push_writes_nothing_and_answers_as_before(self, shard: Shard) -> None:
        client = Client(shard)
        await client.push(job("known"))
        answers = await client.push(job("a"), job("known"), job("b", named=True))
        assert answers == [("created", "a"), ("pending", "known"), ("created", "b")]
        for _ in range(2):
            assert await client.repeat() == answers
        assert (await shard.sizes()).pending == 3

    async def test_a_push_repeated_after_the_job_ended_does_not_run_it_again(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        assert await client.push(job("a")) == [("created", "a")]
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence))
        assert await client.repeat() == [("created", "a")]
        assert await is_unknown(shard, "a")
        assert ids(await node.claim()) == []

    async def test_the_numbers_of_one_client_are_not_those_of_another(self, shard: Shard) -> None:
        assert await Client(shard, "one").push(job("a")) == [("created", "a")]
        assert await Client(shard, "two").push(job("b")) == [("created", "b")]

    async def test_a_late_copy_of_an_old_push_is_refused(self, shard: Shard) -> None:
        client = Client(shard)
        await client.push(job("a"))
        await client.push(job("b"))
        with pytest.raises(StoreRefused):
            await shard.enqueue("client", 1, [job("c")])
        assert await is_unknown(shard, "c")
        assert await client.repeat() == [("created", "b")]

    async def test_three_lost_claim_replies_cost_no_crash_and_give_the_same_batch(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"), job("more", delay=1_000))
        first = await node.claim()
        for _ in range(3):
            clock.advance(0.6 * LEASE_S)
            again = await node.repeat_claim()
            assert again.fence == first.fence
            assert again.jobs == first.jobs
            assert (await known(shard, "a")).at == now_ms(clock) + LEASE
        assert (await known(shard, "a")).crashes == 0
        assert ids(await node.claim()) == ["more"]

    async def test_a_repeated_claim_takes_nothing_more(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        await node.claim(2)
        await Client(shard, "other").push(job("b"))
        await drain_token(shard)
        again = await node.repeat_claim(2)
        assert ids(again) == ["a"]
        assert again.wait_us == 0
        assert await shard.wait(BRIEF)
        assert (await shard.sizes()).pending == 1

    async def test_a_repeated_claim_of_nothing_gives_nothing(self, shard: Shard) -> None:
        node = Node(shard, "n")
        first = await node.claim()
        await Client(shard).push(job("a"))
        again = await node.repeat_claim()
        assert (again.fence, again.jobs) == (first.fence, [])
        assert ids(await node.claim()) == ["a"]

    async def test_a_repeated_claim_leaves_out_what_is_no_longer_held(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(*(job(id) for id in "abcd"))
        batch = await node.claim()
        a, b, c, _ = batch.jobs
        changes = (settlement(a, batch.fence), settlement(b, batch.fence, AGAIN), settlement(c, batch.fence, DEAD))
        await node.settle(*changes)
        assert ids(await node.repeat_claim()) == ["d"]
        await Node(shard, "m").claim()  # b runs elsewhere
        assert ids(await node.repeat_claim()) == ["d"]

    async def test_a_repeated_claim_says_what_became_known_meanwhile(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        await node.claim()
        await shard.cancel(["a"])
        assert [claimed.cancelled for claimed in (await node.repeat_claim()).jobs] == [True]

    async def test_a_repeated_take_over_names_the_former_holder_and_counts_one_crash(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        dead, node = Node(shard, "dead"), Node(shard, "n")
        await Client(shard).push(job("a"))
        held = await dead.claim()
        await pass_time(shard, clock, LEASE_S)
        first = await node.claim()
        assert [claimed.before for claimed in first.jobs] == [Holder(held.fence, "dead", False)]
        clock.advance(1)
        assert (await node.repeat_claim()).jobs == first.jobs
        assert (await known(shard, "a")).crashes == 1

    async def test_a_repeated_claim_gives_its_batch_also_on_a_paused_queue(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        await node.claim()
        await shard.configure(paused=True)
        assert ids(await node.repeat_claim()) == ["a"]

    async def test_a_late_copy_of_an_old_claim_is_refused(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await node.claim()
        await node.claim()
        await Client(shard).push(job("a"))
        with pytest.raises(StoreRefused):  # nobody would hear of what it took
            await shard.claim("n", 1, 10, LEASE, LEASE)
        assert (await known(shard, "a")).state == "pending"
        assert ids(await node.claim()) == ["a"]

    async def test_a_repeated_settle_writes_nothing(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"), job("c"))
        batch = await node.claim()
        a, b, c = batch.jobs
        await shard.cancel(["c"])
        settlements = (
            settlement(a, batch.fence, children=(job("x"),)),
            settlement(b, batch.fence - 1),
            settlement(c, batch.fence, AGAIN),
        )
        assert await node.settle(*settlements) == ["applied", "taken", "cancel asked"]
        await shard.clear("", None, 10, ["x"])
        for _ in range(2):
            assert await node.repeat_settle() == ["repeated", "taken", "cancel asked"]
        assert await is_unknown(shard, "x")

    async def test_a_repeated_settle_does_not_touch_the_next_run(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        assert await node.settle(settlement(claimed, fence, AGAIN)) == ["applied"]
        await node.claim_one()
        before = await shard.get(["a"])
        assert await node.repeat_settle() == ["repeated"]
        assert await shard.get(["a"]) == before

    async def test_a_late_copy_of_an_old_settle_changes_nothing(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        a, b = batch.jobs
        await node.settle(settlement(a, batch.fence))
        await node.settle(settlement(b, batch.fence))
        assert await shard.settle("n", 1, [settlement(a, batch.fence)]) == ["taken"]
        assert await node.repeat_settle() == ["repeated"]  # the last call is still known

    async def test_a_schedule_put_twice_is_the_same(self, shard: Shard) -> None:
        assert [await shard.put(schedule()) for _ in range(2)] == [("created", 1), ("same", 1)]


class FenceSuite(Suite):
    """A stale node changes nothing."""

    async def refused(self, shard: Shard, stale: Claimed, fence: int) -> None:
        """Every write under the stale fence is refused and changes nothing."""
        before = await shard.get([stale.id])
        late = Node(shard, "late")
        assert await shard.start([(stale.id, fence)]) == [False]
        assert await shard.renew([Renewal(stale.id, fence, LEASE, b"x")]) == ["taken"]
        for change in (END, AGAIN, DEAD):
            late_settlement = settlement(stale, fence, change, result=b"x", result_ms=9_999, children=(job("child"),))
            assert await late.settle(late_settlement) == ["taken"]
        assert await shard.get([stale.id, "child"]) == [*before, None]
        assert await shard.result(stale.id) is None

    async def test_a_lost_lease_cannot_settle(self, shard: Shard, clock: ManualClock) -> None:
        stale, node = Node(shard, "stale"), Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await stale.claim_one()
        await pass_time(shard, clock, LEASE_S)
        assert ids(await node.claim()) == ["a"]
        await self.refused(shard, claimed, fence)

    async def test_a_node_cannot_settle_the_next_run_of_its_own_job(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, AGAIN))
        await self.refused(shard, claimed, fence)  # pending
        await node.claim_one()
        await self.refused(shard, claimed, fence)  # leased anew

    async def test_a_stale_node_cannot_touch_an_id_that_was_pushed_anew(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence))
        await self.refused(shard, claimed, fence)  # gone
        await Client(shard, "other").push(job("a"))
        await self.refused(shard, claimed, fence)
        await Node(shard, "m").claim_one()
        await self.refused(shard, claimed, fence)

    async def test_a_stale_node_cannot_touch_a_job_that_died_or_was_revived(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, DEAD))
        await self.refused(shard, claimed, fence)
        await shard.revive(["a"])
        await self.refused(shard, claimed, fence)

    async def test_fences_grow_when_everything_was_cleared_and_the_clock_went_back(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        fence = (await node.claim(0)).fence
        await shard.clear("", None, 100)
        clock.shift(-3_600)
        assert (await node.claim()).fence > fence


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

    async def test_a_gap_that_a_renewal_meets_counts_too(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b"))
        batch = await Node(shard, "n").claim(1)
        await Node(shard, "dead").claim(1)
        clock.advance(30)
        assert await shard.renew([Renewal("a", batch.fence, LEASE)]) == ["applied"]
        late = await Node(shard, "m").claim()
        assert (late.jobs, late.gap) == ([], True)

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
        await pass_time(shard, clock, LEASE_S, step=LEASE_S / 2)  # half a lease is no gap
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


class FaultsSuite(RepeatSuite, FenceSuite, TakeOverSuite, GapSuite):
    """All of them."""
