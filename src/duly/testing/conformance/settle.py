"""What every store promises about runs: start, renew, settle, with their results, children and cancels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from duly.core.job import Hold
from duly.core.lifecycle import END, Change
from duly.stores.base import Firing, JobRecord, Renewal, Shard
from duly.testing.conformance.kit import (
    AGAIN,
    BOUND,
    BRIEF,
    DEAD,
    LEASE,
    LIMITS,
    Client,
    Node,
    Suite,
    changed,
    ids,
    is_unknown,
    job,
    kill_one,
    known,
    now_ms,
    schedule,
    settlement,
    walk,
)

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock


class SettleSuite(Suite):
    """`Jobs.start`, `.renew`, `.settle`."""

    async def test_a_start_is_marked_and_may_be_repeated(self, shard: Shard) -> None:
        await Client(shard).push(job("a"), job("b"))
        batch = await Node(shard, "n").claim()
        for _ in range(2):
            assert await shard.start([("a", batch.fence), ("nobody", batch.fence)]) == [True, False]
        assert (await known(shard, "a")).started
        assert not (await known(shard, "b")).started

    async def test_a_start_under_another_fence_is_refused(self, shard: Shard) -> None:
        await Client(shard).push(job("a"))
        batch = await Node(shard, "n").claim()
        assert await shard.start([("a", batch.fence - 1), ("a", batch.fence + 1)]) == [False, False]
        assert not (await known(shard, "a")).started

    async def test_a_renewed_lease_ends_later(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b"))
        batch = await Node(shard, "n").claim()
        clock.advance(3)
        assert (
            await shard.renew([Renewal("a", batch.fence, LEASE), Renewal("b", batch.fence, 2_000)]) == ["applied"] * 2
        )
        assert (await known(shard, "a")).at == now_ms(clock) + LEASE
        assert (await known(shard, "b")).at == now_ms(clock) + 2_000

    async def test_a_renewal_under_another_fence_is_refused(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("pending", delay=5_000))
        batch = await Node(shard, "n").claim()
        before = await shard.get(["a", "pending"])
        clock.advance(1)
        refused = [
            Renewal("a", batch.fence - 1, LEASE, b"x"),
            Renewal("pending", batch.fence, LEASE),
            Renewal("none", 1, LEASE),
        ]
        assert await shard.renew(refused) == ["taken"] * 3
        assert await shard.get(["a", "pending"]) == before

    async def test_progress_travels_with_a_renewal_and_stays(self, shard: Shard) -> None:
        await Client(shard).push(job("a"))
        fence = (await Node(shard, "n").claim()).fence
        await shard.renew([Renewal("a", fence, LEASE, b"\x92\xcb\x00half")])
        await shard.renew([Renewal("a", fence, LEASE)])
        assert (await known(shard, "a")).progress == b"\x92\xcb\x00half"

    async def test_an_end_leaves_nothing_of_a_job(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        await shard.renew([Renewal("a", batch.fence, LEASE, b"half")])
        await shard.cancel(["a"])
        assert await node.settle(settlement(batch.jobs[0], batch.fence)) == ["applied"]
        assert await is_unknown(shard, "a")
        sizes = await shard.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead) == (0, 1, 0)
        await Client(shard, "later").push(job("a"))
        record = await known(shard, "a")
        assert (record.progress, record.cancel_asked, record.attempts, record.error) == (None, False, 0, "")

    async def test_a_job_that_goes_back_is_pending_with_its_counts_and_its_error(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        node, now = Node(shard, "n"), now_ms(clock)
        await Client(shard).push(job("a", priority=2))
        claimed, fence = await node.claim_one()
        await shard.start([("a", fence)])
        clock.advance(1)
        change = Change("again", 5_000, 2, 1, now, "it raised", "ValueError: né", "Traceback\n…")
        assert await node.settle(settlement(claimed, fence, change)) == ["applied"]
        assert await shard.get(["a"]) == [
            JobRecord(
                "a",
                "pending",
                b"body of a",
                now,
                now + 6_000,
                priority=2,
                attempts=2,
                crashes=1,
                unfit_since=now,
                reason="it raised",
                error="ValueError: né",
                trace="Traceback\n…",
            )
        ]
        clock.advance(4.999)
        assert ids(await node.claim()) == []
        clock.advance(0.001)
        assert ids(await node.claim()) == ["a"]
        assert not (await known(shard, "a")).started

    async def test_the_last_error_is_remembered_until_there_is_another(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        for change, error in (
            (AGAIN, "ValueError: no"),
            (Change("again", attempts=1), "ValueError: no"),
            (Change("again", attempts=2, error="KeyError"), "KeyError"),
        ):
            claimed, fence = await node.claim_one()
            await node.settle(settlement(claimed, fence, change))
            assert (await known(shard, "a")).error == error

    async def test_a_dead_job_is_kept_with_the_reason(self, shard: Shard, clock: ManualClock) -> None:
        now = now_ms(clock)
        await Client(shard, "x").push(job("other", delay=9_000))
        await kill_one(shard, "a")
        assert await shard.get(["a"]) == [
            JobRecord(
                "a",
                "dead",
                b"body of a",
                now,
                now,
                attempts=4,
                reason="failed: it raised",
                error="ValueError: no",
                trace="Traceback",
            )
        ]
        sizes = await shard.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead) == (1, 0, 1)
        assert ids(await Node(shard, "n").claim()) == []

    async def test_the_oldest_dead_jobs_are_dropped_beyond_the_count(self, shard: Shard, clock: ManualClock) -> None:
        for i in range(LIMITS.dead_count + 5):
            clock.advance(0.01)
            await kill_one(shard, f"j{i:02}")
        kept = [f"j{i:02}" for i in range(5, LIMITS.dead_count + 5)]
        assert [record.id for record in await walk(shard, "dead")] == kept
        assert await is_unknown(shard, "j00")

    async def test_dead_jobs_are_dropped_beyond_the_age(self, shard: Shard, clock: ManualClock) -> None:
        await kill_one(shard, "old")
        clock.advance(LIMITS.dead_ms / 1000 + 1)
        await kill_one(shard, "new")
        assert [record.id for record in await walk(shard, "dead")] == ["new"]
        await Client(shard, "later").push(job("old"))
        assert (await known(shard, "old")).error == ""  # it was dropped with all it had

    async def test_settlements_of_one_call_are_answered_in_order(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(*(job(id) for id in "abcd"))
        batch = await node.claim()
        a, b, c, d = batch.jobs
        fence = batch.fence
        await shard.cancel(["c"])
        answers = await node.settle(
            settlement(a, fence),
            settlement(b, fence - 1),
            settlement(c, fence, AGAIN),
            settlement(d, fence, DEAD),
            settlement(a, fence, AGAIN),
        )
        assert answers == ["applied", "taken", "cancel asked", "applied", "taken"]
        states = [record.state if record else None for record in await shard.get(["a", "b", "c", "d"])]
        assert states == [None, "leased", "leased", "dead"]

    async def test_a_full_batch_is_settled(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(*(job(f"{i:04}") for i in range(1_000)))
        batch = await node.claim(1_000)
        changes = (END, AGAIN, DEAD)
        settlements = [settlement(one, batch.fence, changes[i % 3]) for i, one in enumerate(batch.jobs)]
        assert await node.settle(*settlements) == ["applied"] * 1_000
        sizes = await shard.sizes()
        assert (sizes.leased, sizes.pending) == (0, 333)
        assert sizes.dead >= LIMITS.dead_count

    async def test_empty_calls_are_harmless(self, shard: Shard) -> None:
        node = Node(shard, "n")
        assert await shard.start([]) == []
        assert await shard.renew([]) == []
        assert await node.settle() == []
        assert await shard.get([]) == []
        await node.claim()  # also in a queue that has been used
        assert await shard.start([]) == []
        assert await shard.renew([]) == []
        assert not await shard.cancel([])
        assert not await shard.revive([])
        await shard.put(schedule())
        assert (await shard.schedules([], "", 10)).items == []

    async def test_calls_of_too_many_are_refused_and_nothing_is_written(self, shard: Shard) -> None:
        node, many = Node(shard, "n"), [f"{i:04}" for i in range(1_001)]
        await Client(shard).push(*(job(id) for id in many[:-1]))
        batch = await node.claim(1_000)
        everyone = [*batch.jobs, changed(batch.jobs[0], id=many[-1])]
        calls = (
            lambda: shard.enqueue("c", 1, [job(f"new {id}") for id in many]),
            lambda: shard.start([(id, batch.fence) for id in many]),
            lambda: shard.renew([Renewal(id, batch.fence, 5 * LEASE) for id in many]),
            lambda: node.settle(*(settlement(one, batch.fence) for one in everyone)),
            lambda: shard.get(many),
            lambda: shard.cancel(many),
            lambda: shard.revive(many),
            lambda: shard.clear("", None, 10, many),
            lambda: shard.schedules(many, "", 10),
            lambda: shard.fire("n", [Firing(id, 1, 0, 0, None, None) for id in many]),
        )
        before = await shard.get(many[:-1])
        for call in calls:
            with pytest.raises(ValueError, match="at most 1000"):
                await call()
        assert await shard.get(many[:-1]) == before
        assert (await shard.sizes()).pending == 0

    # --- results -----------------------------------------------------------------------------------------------------

    async def test_a_result_is_kept_for_its_time(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"), job("c"), job("d"))
        batch = await node.claim()
        fence = batch.fence
        a, b, c, d = batch.jobs
        answers = await node.settle(
            settlement(a, fence, result=b"\x00\xff one", result_ms=3_600_000),
            settlement(b, fence - 1, result=b"of another", result_ms=3_600_000),
            settlement(c, fence, DEAD, result=b"why", result_ms=3_600_000),
            settlement(d, fence),
        )
        assert answers == ["applied", "taken", "applied", "applied"]
        assert [await shard.result(id) for id in "abcde"] == [b"\x00\xff one", None, b"why", None, None]

    async def test_a_result_that_is_to_be_kept_for_no_time_is_not_kept(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        a, b = batch.jobs
        answers = await node.settle(
            settlement(a, batch.fence, result=b"x", result_ms=0),
            settlement(b, batch.fence, result=b"y", result_ms=3_600_000),
        )
        assert answers == ["applied", "applied"]
        assert [await shard.result(id) for id in "ab"] == [None, b"y"]

    async def test_who_waits_for_a_result_gets_it_once_it_is_settled(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        a, b = batch.jobs
        waiters = [asyncio.create_task(shard.result(id, 10 * BOUND)) for id in "aab"]
        assert await asyncio.wait(waiters, timeout=BRIEF) == (set(), set(waiters))
        await node.settle(settlement(a, batch.fence, result=b"one", result_ms=3_600_000))
        await asyncio.wait(waiters, timeout=BRIEF)
        assert not waiters[2].done()
        await node.settle(settlement(b, batch.fence, result=b"two", result_ms=3_600_000))
        async with asyncio.timeout(BOUND):
            assert await asyncio.gather(*waiters) == [b"one", b"one", b"two"]
            assert await shard.result("a", BOUND) == b"one"

    async def test_a_wait_for_a_result_ends_after_its_time(self, shard: Shard) -> None:
        await Client(shard).push(job("a"))
        assert await shard.result("a", BRIEF) is None
        assert await shard.result("unknown", BRIEF) is None

    async def test_results_go_to_their_jobs_whoever_else_is_settled(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a", named=True), job("b"), job("c", named=True), job("d"))
        batch = await node.claim()
        a, b, c, d = sorted(batch.jobs, key=lambda one: one.id)
        answers = await node.settle(
            settlement(a, batch.fence, children=(job("x"),)),
            settlement(b, batch.fence, result=b"of b", result_ms=60_000),
            settlement(c, batch.fence),
            settlement(d, batch.fence, result=b"of d", result_ms=60_000),
        )
        assert answers == ["applied"] * 4
        assert [await shard.result(id) for id in "abcd"] == [None, b"of b", None, b"of d"]
        assert await is_unknown(shard, "b")  # only a user's id stays known

    # --- children ----------------------------------------------------------------------------------------------------

    async def test_children_are_pushed_with_the_settle_by_the_rules_of_a_push(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("known", delay=5_000), job("holder", delay=5_000, unique=Hold("k")))
        claimed, fence = await node.claim_one()
        children = (
            job("x", priority=0),
            job("y", delay=1_000, named=True),
            job("known", body=b"new"),
            job("z", unique=Hold("k")),
        )
        assert await node.settle(settlement(claimed, fence, children=children)) == ["applied"]
        assert (await known(shard, "x")).priority == 0
        assert (await known(shard, "known")).body == b"body of known"
        assert await is_unknown(shard, "z")
        assert ids(await node.claim()) == ["x"]
        assert (await shard.sizes()).pending == 3

    async def test_children_of_a_run_that_is_not_held_are_not_pushed(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        a, b = batch.jobs
        await shard.cancel(["b"])
        answers = await node.settle(
            settlement(a, batch.fence - 1, children=(job("x"),)),
            settlement(b, batch.fence, AGAIN, children=(job("y"),)),
        )
        assert answers == ["taken", "cancel asked"]
        assert await shard.get(["x", "y"]) == [None, None]

    async def test_a_child_may_take_the_place_of_its_parent(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a", unique=Hold("k")), job("b"))
        batch = await node.claim()
        a, b = batch.jobs
        await node.settle(
            settlement(b, batch.fence, children=(job("b", body=b"next"), job("c", unique=Hold("k")))),
            settlement(a, batch.fence),  # whichever of the two is settled first
        )
        assert (await known(shard, "b")).body == b"next"
        assert ids(await node.claim()) == ["b", "c"]
        sizes = await shard.sizes()
        assert (sizes.pending, sizes.leased) == (0, 2)

    async def test_a_child_cannot_replace_a_parent_that_ended(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a", named=True))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, children=(job("a", named=True, replace=True),)))
        assert (await known(shard, "a")).state == "ended"
        sizes = await shard.sizes()
        assert (sizes.pending, sizes.leased) == (0, 0)

    # --- cancel ------------------------------------------------------------------------------------------------------

    async def test_a_node_hears_that_a_cancel_was_asked(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        a, b = batch.jobs
        assert await shard.cancel(["a"]) == ["asked"]
        renewals = [Renewal("a", batch.fence, LEASE), Renewal("b", batch.fence, LEASE)]
        assert await shard.renew(renewals) == ["cancel asked", "applied"]
        before = await shard.get(["a"])
        refused = settlement(a, batch.fence, AGAIN, children=(job("x"),))
        assert await node.settle(refused, settlement(b, batch.fence, AGAIN)) == ["cancel asked", "applied"]
        assert await shard.get(["a"]) == before
        assert await node.settle(settlement(a, batch.fence)) == ["applied"]

    async def test_a_job_that_died_may_be_revived_though_its_cancel_was_asked(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await shard.cancel(["a"])
        await node.settle(settlement(claimed, fence, DEAD))
        assert await shard.revive(["a"]) == [True]
        claimed, fence = await node.claim_one()
        assert not claimed.cancelled
        assert await node.settle(settlement(claimed, fence, AGAIN)) == ["applied"]
