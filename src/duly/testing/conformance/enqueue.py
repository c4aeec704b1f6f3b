"""What every store promises about pushing: what is kept, what is known already, unique keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duly.core.job import Hold
from duly.core.lifecycle import Change
from duly.stores.base import JobRecord, Shard
from duly.testing.conformance.kit import (
    AGAIN,
    DEAD,
    LIMITS,
    Client,
    Node,
    Suite,
    ids,
    is_unknown,
    job,
    kill_one,
    known,
    now_ms,
    settlement,
    walk,
)

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

END_OF_MEMORY = LIMITS.remember_ms / 1000


class EnqueueSuite(Suite):
    """`Jobs.enqueue`."""

    async def test_a_pushed_job_is_kept_with_all_that_was_given(self, shard: Shard, clock: ManualClock) -> None:
        now = now_ms(clock)
        assert await Client(shard).push(job("a", body=b"\x00\xff{}", priority=3, delay=1_500)) == [("created", "a")]
        expected = JobRecord("a", "pending", b"\x00\xff{}", now, now + 1_500, priority=3)
        assert await shard.get(["a"]) == [expected]

    async def test_a_due_time_wins_over_a_delay(self, shard: Shard, clock: ManualClock) -> None:
        due = now_ms(clock) + 77
        await Client(shard).push(job("a", due=due, delay=5_000))
        assert (await known(shard, "a")).at == due

    async def test_a_delay_is_never_cut_short_by_the_part_of_a_millisecond_that_has_passed(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        clock.advance(0.000_001)
        now = now_ms(clock)
        await Client(shard).push(job("later", delay=5), job("special", delay=5, priority=0), job("now"))
        node = Node(shard, "n")
        batch = await node.claim()
        await node.settle(settlement(batch.jobs[0], batch.fence, Change("again", delay=7, attempts=1)))
        assert [(await known(shard, id)).at - now for id in ("later", "special", "now")] == [6, 6, 8]

    async def test_jobs_are_kept_and_answered_in_order(self, shard: Shard) -> None:
        await Client(shard).push(job("b", named=True))
        answers = await Client(shard, "other").push(job("a"), job("b", named=True), job("c"), job("c"))
        assert answers == [("created", "a"), ("pending", "b"), ("created", "c"), ("pending", "c")]
        assert (await shard.sizes()).pending == 3

    async def test_an_id_that_comes_twice_in_one_call_is_written_once(self, shard: Shard) -> None:
        plain, special = job("a", body=b"plain"), job("a", body=b"special", priority=0)
        for first, second in ((plain, special), (special, plain), (plain, plain), (special, special)):
            answers = await Client(shard, f"{first.body!r} {second.body!r}").push(first, second)
            assert answers == [("created", "a"), ("pending", "a")]
            assert [record.body for record in await walk(shard, "pending")] == [first.body]
            assert list(await shard.cancel(["a"])) == ["cancelled"]

    async def test_a_full_batch_is_kept(self, shard: Shard) -> None:
        jobs = [job(f"{i:04}") for i in range(1_000)]
        assert await Client(shard).push(*jobs) == [("created", one.id) for one in jobs]
        assert (await shard.sizes()).pending == 1_000
        assert ids(await Node(shard, "n").claim(1_000)) == [one.id for one in jobs]

    async def test_an_empty_push_is_harmless(self, shard: Shard) -> None:
        assert await Client(shard).push() == []

    async def test_a_known_id_is_answered_with_its_state_and_left_alone(self, shard: Shard, clock: ManualClock) -> None:
        client, node = Client(shard), Node(shard, "n")
        await kill_one(shard, "dead")
        await client.push(job("leased"))
        await node.claim()
        await client.push(job("pending", delay=5_000))
        before = await shard.get(["dead", "leased", "pending"])
        clock.advance(1)
        for named in (False, True):
            again = [job(id, body=b"other", priority=0, named=named) for id in ("dead", "leased", "pending")]
            answers = await client.push(*again)
            assert answers == [("dead", "dead"), ("leased", "leased"), ("pending", "pending")]
        assert await shard.get(["dead", "leased", "pending"]) == before

    async def test_a_plain_push_of_a_known_id_is_answered_with_its_state_too(self, shard: Shard) -> None:
        client = Client(shard)
        await kill_one(shard, "dead")
        await client.push(job("leased"))
        await Node(shard, "n").claim()
        await client.push(job("pending"))
        answers = await client.push(job("dead"), job("new"), job("leased"), job("pending"), job("new"))
        assert [state for state, _ in answers] == ["dead", "created", "leased", "pending", "pending"]

    async def test_an_id_that_comes_three_times_in_one_call_is_written_once(self, shard: Shard) -> None:
        special, plain = job("a", body=b"special", priority=0), job("a", body=b"plain")
        answers = await Client(shard).push(special, special, plain)
        assert answers == [("created", "a"), ("pending", "a"), ("pending", "a")]
        assert [record.body for record in await walk(shard, "pending")] == [b"special"]

    # --- replace -----------------------------------------------------------------------------------------------------

    async def test_replace_gives_a_pending_job_a_new_body_due_time_and_priority(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        client = Client(shard)
        await client.push(job("a", body=b"old", delay=1_000, priority=2, named=True))
        clock.advance(0.5)
        new = job("a", body=b"new", delay=9_000, priority=0, named=True, replace=True)
        assert await client.push(new) == [("pending", "a")]
        now = now_ms(clock)
        assert await shard.get(["a"]) == [JobRecord("a", "pending", b"new", now, now + 9_000, priority=0)]
        clock.advance(1)
        node = Node(shard, "n")
        assert ids(await node.claim()) == []  # it stands in one line only
        clock.advance(8)
        assert ids(await node.claim()) == ["a"]
        assert (await shard.sizes()).pending == 0

    async def test_replace_of_an_unknown_id_creates_it(self, shard: Shard) -> None:
        assert await Client(shard).push(job("a", named=True, replace=True)) == [("created", "a")]

    async def test_replace_leaves_alone_what_is_no_longer_pending(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await kill_one(shard, "dead", named=True)
        await client.push(job("leased", named=True))
        await node.claim()
        before = await shard.get(["dead", "leased"])
        again = [job(id, body=b"new", named=True, replace=True) for id in ("dead", "leased")]
        assert await client.push(*again) == [("dead", "dead"), ("leased", "leased")]
        assert await shard.get(["dead", "leased"]) == before

    async def test_replace_does_not_revive_an_id_that_ended(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", named=True))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence))
        assert await client.push(job("a", named=True, replace=True)) == [("ended", "a")]

    # --- ids that ended ----------------------------------------------------------------------------------------------

    async def test_a_user_given_id_stays_known_for_a_time_after_its_end(self, shard: Shard, clock: ManualClock) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", named=True))
        claimed, fence = await node.claim_one()
        assert claimed.named
        await node.settle(settlement(claimed, fence))
        assert await client.push(job("a", named=True)) == [("ended", "a")]
        record = await known(shard, "a")
        assert (record.state, record.body) == ("ended", b"")
        clock.advance(END_OF_MEMORY - 0.001)
        assert await client.push(job("a", named=True)) == [("ended", "a")]
        clock.advance(0.001)
        assert await is_unknown(shard, "a")
        assert await client.push(job("a", named=True)) == [("created", "a")]

    async def test_a_generated_id_is_forgotten_at_its_end(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a"))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence))
        assert await is_unknown(shard, "a")
        assert await client.push(job("a")) == [("created", "a")]

    # --- unique keys -------------------------------------------------------------------------------------------------

    async def test_a_unique_key_keeps_others_out_while_its_job_lives(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        answers = await client.push(job("a", unique=Hold("k")), job("b", unique=Hold("k")), job("c", unique=Hold("l")))
        assert answers == [("created", "a"), ("pending", "a"), ("created", "c")]
        batch = await node.claim()
        assert {one.id: one.unique for one in batch.jobs} == {"a": "k", "c": "l"}
        assert await client.push(job("b", unique=Hold("k"))) == [("leased", "a")]
        assert await is_unknown(shard, "b")

    async def test_a_unique_key_is_held_over_a_retry_and_free_at_the_end(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", unique=Hold("k")))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, AGAIN))
        assert await client.push(job("b", unique=Hold("k"))) == [("pending", "a")]
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence))
        assert await client.push(job("b", unique=Hold("k"))) == [("created", "b")]

    async def test_a_unique_key_is_free_when_its_job_dies_is_cancelled_or_cleared(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", unique=Hold("k")))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, DEAD))
        assert await client.push(job("b", unique=Hold("k"))) == [("created", "b")]
        await shard.cancel(["b"])
        assert await client.push(job("c", unique=Hold("k"))) == [("created", "c")]
        await shard.clear("", None, 100, ["c"])
        assert await client.push(job("d", unique=Hold("k"))) == [("created", "d")]

    async def test_a_job_that_was_revived_holds_its_key_no_more(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", unique=Hold("k")))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, DEAD))
        assert list(await shard.revive(["a"])) == [True]
        assert await client.push(job("b", unique=Hold("k"))) == [("created", "b")]

    async def test_the_end_of_a_job_does_not_free_a_key_that_another_holds(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", unique=Hold("k", "start")))
        claimed, fence = await node.claim_one()
        assert await client.push(job("b", unique=Hold("k"))) == [("created", "b")]
        await node.settle(settlement(claimed, fence))
        assert await client.push(job("c", unique=Hold("k"))) == [("pending", "b")]

    async def test_a_key_that_is_unique_until_the_start_is_free_once_its_job_is_claimed(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", unique=Hold("k", "start")))
        assert await client.push(job("b", unique=Hold("k", "start"))) == [("pending", "a")]
        await node.claim()
        assert await client.push(job("b", unique=Hold("k", "start"))) == [("created", "b")]

    async def test_a_key_that_is_unique_for_a_time_stays_so_whatever_becomes_of_its_job(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", unique=Hold("k", "time", 5_000)))
        assert await client.push(job("b", unique=Hold("k", "time", 5_000))) == [("pending", "a")]
        claimed, fence = await node.claim_one()
        assert await client.push(job("b", unique=Hold("k"))) == [("leased", "a")]
        await node.settle(settlement(claimed, fence))
        assert await client.push(job("b", unique=Hold("k"))) == [("ended", "a")]
        clock.advance(4.999)
        assert await client.push(job("b", unique=Hold("k"))) == [("ended", "a")]
        clock.advance(0.001)
        assert await client.push(job("b", unique=Hold("k"))) == [("created", "b")]

    async def test_replace_moves_the_unique_key(self, shard: Shard) -> None:
        client = Client(shard)
        await client.push(job("a", named=True, unique=Hold("k")))
        moved = job("a", named=True, replace=True, unique=Hold("l"))
        assert await client.push(moved) == [("pending", "a")]
        assert await client.push(job("b", unique=Hold("l"))) == [("pending", "a")]
        assert await client.push(job("b", unique=Hold("k"))) == [("created", "b")]
        assert {one.id: one.unique for one in (await Node(shard, "n").claim()).jobs} == {"a": "l", "b": "k"}

    async def test_the_holder_of_a_key_is_told_from_its_neighbours(self, shard: Shard) -> None:
        client = Client(shard)
        await kill_one(shard, "dead")
        await client.push(job("0"))
        await Node(shard, "n").claim()
        await client.push(job("1", delay=9_000, unique=Hold("z")), job("m", delay=9_000, named=True, unique=Hold("k")))
        assert await client.push(job("x", unique=Hold("k"))) == [("pending", "m")]
        await client.push(job("m", delay=9_000, named=True, replace=True, unique=Hold("l")))
        assert await client.push(job("x", unique=Hold("k"))) == [("created", "x")]
        assert await client.push(job("y", unique=Hold("z"))) == [("pending", "1")]

    async def test_replace_cannot_take_a_key_that_another_holds(self, shard: Shard) -> None:
        client = Client(shard)
        await client.push(job("a", body=b"old", named=True), job("b", unique=Hold("k")))
        refused = job("a", body=b"new", named=True, replace=True, unique=Hold("k"))
        assert await client.push(refused) == [("pending", "b")]
        assert (await known(shard, "a")).body == b"old"

    async def test_replace_keeps_the_key_that_its_job_holds_already(self, shard: Shard) -> None:
        client = Client(shard)
        await client.push(job("a", named=True, unique=Hold("k")))
        assert await client.push(job("a", body=b"new", named=True, replace=True, unique=Hold("k"))) == [
            ("pending", "a")
        ]
        assert (await known(shard, "a")).body == b"new"
        assert await client.push(job("b", unique=Hold("k"))) == [("pending", "a")]

    async def test_an_id_that_a_user_gave_once_stays_a_users_when_it_is_replaced(self, shard: Shard) -> None:
        for names in ((True, False), (False, True)):
            for number, named in enumerate(names):
                await Client(shard, f"{names} {number}").push(job("a", named=named, replace=True))
            claimed, fence = await (node := Node(shard, f"{names}")).claim_one()
            assert claimed.named
            await node.settle(settlement(claimed, fence))
            assert (await known(shard, "a")).state == "ended"

    async def test_an_id_that_ended_is_refused_to_users_alone(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", named=True))
        for priority in (1, 0):
            claimed, fence = await node.claim_one()
            await node.settle(settlement(claimed, fence))
            assert (await known(shard, "a")).state == "ended"
            assert await client.push(job("a", named=True)) == [("ended", "a")]
            assert await client.push(job("a", priority=priority)) == [("created", "a")]
        await shard.clear("", None, 10)
        assert (await known(shard, "a")).state == "ended"
        answers = await client.push(job("a"), job("a", named=True), job("z", named=True))
        assert answers == [("created", "a"), ("pending", "a"), ("created", "z")]
        await shard.clear("", None, 10)
        assert (await known(shard, "a")).state == "ended"

    async def test_a_job_may_be_replaced_by_the_call_that_pushes_it(self, shard: Shard) -> None:
        old, new = job("a", body=b"old", named=True), job("a", body=b"new", delay=9_000, named=True, replace=True)
        assert await Client(shard).push(job("b"), old, new) == [("created", "b"), ("created", "a"), ("pending", "a")]
        assert (await known(shard, "a")).body == b"new"
        assert ids(await Node(shard, "n").claim()) == ["b"]

    async def test_an_id_that_was_pushed_anew_is_not_remembered_from_before(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", named=True))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence))
        clock.advance(END_OF_MEMORY)
        assert await client.push(job("a", named=True)) == [("created", "a")]
        await shard.clear("", None, 10)  # as if it had never been pushed
        clock.shift(-10)
        assert await is_unknown(shard, "a")

    async def test_all_that_was_pushed_is_listed_once(self, shard: Shard) -> None:
        await Client(shard).push(*(job(f"j{i}", priority=i % 4) for i in range(20)))
        assert sorted(record.id for record in await walk(shard, "pending", 7)) == sorted(f"j{i}" for i in range(20))
