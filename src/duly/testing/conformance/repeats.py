"""What every store promises when replies are lost, and when those who lost a lease still write (DESIGN section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from duly.core.job import Claimed, Holder
from duly.core.lifecycle import END
from duly.errors import StoreRefused
from duly.stores.base import Renewal, Shard
from duly.testing.conformance.kit import (
    AGAIN,
    BRIEF,
    DEAD,
    LEASE,
    Client,
    Node,
    Suite,
    changed,
    drain_token,
    ids,
    is_unknown,
    job,
    kill_one,
    known,
    now_ms,
    pass_time,
    schedule,
    settlement,
)
from duly.testing.conformance.plans import plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from duly.testing.clock import ManualClock

LEASE_S = LEASE / 1000
CALLS: dict[str, Callable[[Shard, int], Awaitable[object]]] = {
    "start": lambda shard, fence: shard.start([("leased", fence)]),
    "renew": lambda shard, fence: shard.renew([Renewal("leased", fence, 2 * LEASE, b"half")]),
    "cancel what waits": lambda shard, _: shard.cancel(["waits"]),
    "cancel what runs": lambda shard, _: shard.cancel(["leased"]),
    "revive": lambda shard, _: shard.revive(["dead"]),
    "clear": lambda shard, _: shard.clear("", None, 100),
    "clear some": lambda shard, _: shard.clear("", None, 100, ["dead"]),
    "pause the queue": lambda shard, _: shard.configure(paused=True),
    "limit the queue": lambda shard, _: shard.configure(limit=3),
    "put anew": lambda shard, _: shard.put(schedule("new")),
    "edit": lambda shard, _: shard.put(schedule("runs", b"another")),
    "due": lambda shard, _: shard.due(10),
    "pause": lambda shard, _: shard.steer("runs", paused="note"),
    "resume": lambda shard, _: shard.steer("paused"),
    "remove": lambda shard, _: shard.steer("runs", remove=True),
    "reconcile": lambda shard, _: shard.reconcile("", 1_000),
}
"""Calls that carry no number: what they do is done after the first, and a second finds it so."""


async def seen(shard: Shard) -> list[object]:
    """All that can be seen of the jobs and schedules of a shard."""
    records = (await shard.schedules(["runs", "paused", "new"], "", 3)).items
    return [await shard.sizes(), await shard.get(["waits", "later", "leased", "dead"]), records]


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

    async def test_a_repeated_push_that_wrote_nothing_answers_as_before(self, shard: Shard) -> None:
        client = Client(shard)
        await client.push(job("a"))
        for _ in range(2):
            assert await (client.push(job("a")) if client.n == 1 else client.repeat()) == [("pending", "a")]

    async def test_a_push_repeated_after_the_job_ended_does_not_run_it_again(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        assert await client.push(job("a")) == [("created", "a")]
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence))
        assert await client.repeat() == [("created", "a")]
        assert await is_unknown(shard, "a")
        assert ids(await node.claim()) == []

    @pytest.mark.parametrize("verb", list(CALLS))
    async def test_a_call_without_a_number_that_is_made_again_changes_nothing_more(
        self, shard: Shard, clock: ManualClock, verb: str
    ) -> None:
        await kill_one(shard, "dead")
        await Client(shard).push(job("leased"))
        batch = await Node(shard, "n").claim()
        await Client(shard, "other").push(job("waits", named=True), job("later", delay=LEASE))
        for id in ("runs", "paused"):
            await shard.put(schedule(id))
            await plan(shard, id)
        await shard.steer("paused", paused="why")
        clock.advance(0.5)
        before = await seen(shard)
        await CALLS[verb](shard, batch.fence)
        once = await seen(shard)
        assert once != before or verb in ("due", "reconcile")
        await CALLS[verb](shard, batch.fence)
        assert await seen(shard) == once

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
            assert again.jobs == [changed(one, due=0) for one in first.jobs]
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
