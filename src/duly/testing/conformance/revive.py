"""What every store promises about running again what has died, and at once what waits: `base.Care.revive`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duly.core.job import Hold
from duly.stores.base import Shard
from duly.testing.conformance.kit import DEAD, Client, Node, Suite, changed, job, kill_one, known, now_ms, settlement

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock


class ReviveSuite(Suite):
    """revive."""

    async def test_a_revived_job_is_due_now_with_its_counts_at_zero(self, shard: Shard, clock: ManualClock) -> None:
        await kill_one(shard, "a")
        await kill_one(shard, "left")
        before = await known(shard, "a")
        assert before.attempts > 0
        clock.advance(1)
        assert list(await shard.revive(["a", "nobody"])) == [True, False]
        record = await known(shard, "a")
        assert record == changed(before, state="pending", at=now_ms(clock), attempts=0, crashes=0, unfit_since=0)
        assert (await shard.sizes()).dead == 1
        assert (await known(shard, "left")).state == "dead"
        claimed, _ = await Node(shard, "n").claim_one()
        assert (claimed.attempts, claimed.crashes) == (0, 0)

    async def test_what_a_revived_job_left_as_its_result_is_gone(self, shard: Shard) -> None:
        for id in ("a", "left"):
            await Client(shard, id).push(job(id))
            node = Node(shard, id)
            claimed, fence = await node.claim_one()
            await node.settle(settlement(claimed, fence, DEAD, result=b"no", result_ms=60_000))
        assert list(await shard.revive(["a"])) == [True]
        assert [await shard.result(id) for id in ("a", "left")] == [None, b"no"]

    async def test_only_dead_jobs_are_revived(self, shard: Shard) -> None:
        await Client(shard).push(job("leased"))
        await Node(shard, "n").claim()
        await Client(shard, "x").push(job("pending", delay=5_000))
        before = await shard.get(["leased", "pending"])
        assert list(await shard.revive(["leased", "pending"])) == [False, False]
        assert await shard.get(["leased", "pending"]) == before

    async def test_what_waits_is_due_now_if_asked_with_its_counts_key_and_earlier_moment(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await Client(shard, "l").push(job("leased"))
        assert [each.id for each in (await Node(shard, "n").claim()).jobs] == ["leased"]
        await Client(shard, "a").push(job("later", delay=50_000, priority=3, unique=Hold("key")))
        await Client(shard, "b").push(job("due", delay=10))
        await kill_one(shard, "dead")
        clock.advance(1)
        before = [await known(shard, id) for id in ("later", "due", "leased")]
        answers = await shard.revive(["later", "due", "leased", "dead", "nobody"], waiting=True)
        assert list(answers) == [True, True, False, True, False]
        later, due, leased = [await known(shard, id) for id in ("later", "due", "leased")]
        assert later == changed(before[0], at=now_ms(clock))
        assert due == changed(before[1], at=min(before[1].at, now_ms(clock)))
        assert leased == before[2]
        assert await shard.wait(0.0)
        clock.advance(20)
        assert list(await shard.revive(["later", "due"], waiting=True)) == [True, True]
        assert [(await known(shard, id)).at for id in ("later", "due")] == [later.at, due.at]
        assert (await Client(shard, "c").push(job("other", unique=Hold("key"))))[0] == ("pending", "later")
