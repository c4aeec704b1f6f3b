"""What every store promises about looking at jobs and steering them: `base.Care`."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from duly.testing.conformance.looks import LookSuite
from duly.testing.conformance.plans import read
from duly.testing.conformance.revive import ReviveSuite
from duly.testing.conformance.sound import SoundSuite

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock


class CareSuite(ReviveSuite, SoundSuite, LookSuite, Suite):
    """get, list, sizes, cancel, revive, clear, configure, reconcile, history."""

    async def test_all_that_is_known_of_a_job_is_shown(self, shard: Shard, clock: ManualClock) -> None:
        now, node = now_ms(clock), Node(shard, "node 7")
        await Client(shard).push(job("a", priority=0), job("b", delay=9_000))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, AGAIN))
        clock.advance(1)
        claimed, fence = await node.claim_one()
        await shard.start([("a", fence)])
        await shard.renew([Renewal("a", fence, LEASE, b"half")])
        await shard.cancel(["a"])
        assert await shard.get(["b", "nobody", "a"]) == [
            JobRecord("b", "pending", b"body of b", now, now + 9_000),
            None,
            JobRecord(
                "a",
                "leased",
                b"body of a",
                now,
                now + 1_000 + LEASE,
                priority=0,
                attempts=1,
                fence=fence,
                node="node 7",
                started=True,
                cancel_asked=True,
                reason=AGAIN.reason,
                error=AGAIN.error,
                trace=AGAIN.trace,
                progress=b"half",
            ),
        ]

    async def test_pending_jobs_are_listed_by_priority_and_due_time(self, shard: Shard) -> None:
        jobs = [job("c", delay=2_000), job("b", delay=2_000), job("d", delay=5_000), job("a", delay=9_000, priority=0)]
        await Client(shard).push(*jobs)
        for limit in (1, 2, 3, 4, 10):
            assert [record.id for record in await walk(shard, "pending", limit)] == ["a", "b", "c", "d"]
        assert (await shard.list("pending", "", 1)).items == await shard.get(["a"])

    async def test_leased_and_dead_jobs_are_listed_by_time(self, shard: Shard, clock: ManualClock) -> None:
        for id in ("d2", "d1"):
            await kill_one(shard, id)
            clock.advance(1)
        await Client(shard).push(job("a", delay=0), job("b", delay=0))
        await Node(shard, "long", lease=9_000).claim(1)
        await Node(shard, "short", lease=3_000).claim(1)
        for limit in (1, 2, 5):
            assert [record.id for record in await walk(shard, "dead", limit)] == ["d2", "d1"]
            assert [record.id for record in await walk(shard, "leased", limit)] == ["b", "a"]
        assert await walk(shard, "pending") == []

    async def test_sizes_count_everything(self, shard: Shard, clock: ManualClock) -> None:
        empty = await shard.sizes()
        assert (empty.pending, empty.leased, empty.dead, empty.schedules) == (0, 0, 0, 0)
        assert (empty.now, empty.paused, empty.limit) == (now_ms(clock), False, None)
        await kill_one(shard, "dead")
        await Client(shard).push(*(job(f"j{i}", priority=i % 4) for i in range(6)))
        await Node(shard, "n").claim(2)
        await shard.put(schedule("s1"))
        await shard.put(schedule("s2"))
        sizes = await shard.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead, sizes.schedules) == (4, 2, 1, 2)

    async def test_switches_change_one_at_a_time(self, shard: Shard) -> None:
        await shard.configure(limit=5)
        await shard.configure(paused=True)
        await shard.configure()
        sizes = await shard.sizes()
        assert (sizes.paused, sizes.limit) == (True, 5)
        await shard.configure(limit=0)
        sizes = await shard.sizes()
        assert (sizes.paused, sizes.limit) == (True, None)

    async def test_a_change_of_the_switches_leaves_at_most_one_token(self, shard: Shard) -> None:
        await Client(shard).push(job("a"))
        await shard.configure(limit=5)
        await shard.configure(paused=False)
        assert await shard.wait(BOUND)
        assert not await shard.wait(BRIEF)

    # --- cancel ------------------------------------------------------------------------------------------------------

    async def test_a_cancel_says_what_it_found(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await kill_one(shard, "dead")
        await Client(shard).push(job("leased"), job("ended", named=True))
        batch = await node.claim()
        await node.settle(settlement(batch.jobs[0], batch.fence))
        assert batch.jobs[0].id == "ended"
        await Client(shard, "x").push(job("pending"))
        answers = await shard.cancel(["pending", "leased", "dead", "ended", "nobody", "pending"])
        assert list(answers) == ["cancelled", "asked", "dead", "ended", "unknown", "unknown"]

    async def test_a_cancel_finds_nothing_when_the_memory_of_an_id_is_over(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await Client(shard).push(job("a", named=True))
        await shard.cancel(["a"])
        clock.advance(LIMITS.remember_ms / 1000 - 0.001)
        assert list(await shard.cancel(["a"])) == ["ended"]
        clock.advance(0.001)
        assert list(await shard.cancel(["a"])) == ["unknown"]

    async def test_a_cancelled_pending_job_is_gone(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a", named=True), job("b", priority=2))
        claimed, fence = (batch := await node.claim()).jobs[0], batch.fence
        await node.settle(settlement(claimed, fence, AGAIN), settlement(batch.jobs[1], fence, AGAIN))
        assert list(await shard.cancel(["a", "b"])) == ["cancelled", "cancelled"]
        assert ids(await node.claim()) == []
        assert (await known(shard, "a")).state == "ended"  # a user-given id stays known
        assert await is_unknown(shard, "b")
        assert await client.push(job("a", named=True), job("b")) == [("ended", "a"), ("created", "b")]
        assert (await known(shard, "b")).attempts == 0

    async def test_asking_to_cancel_a_leased_job_changes_nothing_else(self, shard: Shard) -> None:
        await Client(shard).push(job("a"))
        await Node(shard, "n").claim()
        before = await known(shard, "a")
        for _ in range(2):
            assert list(await shard.cancel(["a"])) == ["asked"]
        assert await known(shard, "a") == changed(before, cancel_asked=True)

    # --- clear -------------------------------------------------------------------------------------------------------

    async def clear_all(self, shard: Shard, until: int | None = None, limit: int = 3) -> int:
        removed, cursor, until = await shard.clear("", until, limit)
        while cursor:
            more, cursor, until = await shard.clear(cursor, until, limit)
            removed += more
        return removed

    async def test_a_clear_removes_pending_and_dead_jobs_and_no_others(self, shard: Shard, clock: ManualClock) -> None:
        await kill_one(shard, "dead", named=True)
        await Client(shard).push(job("leased"))
        await Node(shard, "n").claim()
        pending = [job(f"j{i}", delay=i * 1_000, priority=i % 4, named=True) for i in range(20)]
        await Client(shard, "x").push(*pending)
        await shard.put(schedule())
        assert await self.clear_all(shard) == 21
        sizes = await shard.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead, sizes.schedules) == (0, 1, 0, 1)
        assert await shard.get(["dead", "j0", "j9"]) == [None, None, None]
        assert await Client(shard, "y").push(job("dead", named=True)) == [("created", "dead")]
        assert (await known(shard, "dead")).error == ""

    async def test_a_clear_leaves_what_was_pushed_after_its_moment(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(*(job(f"old{i}", delay=60_000) for i in range(5)))
        clock.advance(0.001)
        until = now_ms(clock)
        await Client(shard, "x").push(job("just", due=1))
        clock.advance(0.001)
        await Client(shard, "y").push(*(job(f"new{i}", due=1) for i in range(5)))
        assert await self.clear_all(shard, until) == 6
        assert sorted(record.id for record in await walk(shard, "pending")) == [f"new{i}" for i in range(5)]

    async def test_a_clear_fixes_its_moment_at_the_first_step(self, shard: Shard, clock: ManualClock) -> None:
        now = now_ms(clock)
        await Client(shard).push(job("a"))
        assert (await shard.clear("", None, 100))[2] == now
        assert (await shard.clear("", now - 5, 100))[2] == now - 5

    async def test_a_clear_of_ids_removes_only_those(self, shard: Shard) -> None:
        await kill_one(shard, "dead")
        await Client(shard).push(job("leased"))
        await Node(shard, "n").claim()
        await Client(shard, "x").push(job("a"), job("b"))
        removed, cursor, _ = await shard.clear("", None, 100, ["a", "dead", "leased", "nobody"])
        assert (removed, cursor) == (2, "")
        assert await shard.get(["a", "dead"]) == [None, None]
        assert [(await known(shard, id)).state for id in ("b", "leased")] == ["pending", "leased"]

    async def test_a_clear_of_no_ids_removes_nothing(self, shard: Shard) -> None:
        await Client(shard).push(job("a"))
        removed, cursor, _ = await shard.clear("", None, 100, [])
        assert (removed, cursor) == (0, "")
        assert (await known(shard, "a")).state == "pending"

    async def test_a_clear_of_the_dead_leaves_those_that_die_meanwhile(self, shard: Shard, clock: ManualClock) -> None:
        await kill_one(shard, "dead")
        node = Node(shard, "n")
        await Client(shard).push(job("since"))
        claimed, fence = await node.claim_one()
        until = now_ms(clock)
        clock.advance(0.001)
        await node.settle(settlement(claimed, fence, DEAD))
        removed, cursor, _ = await shard.clear("", until, 10, dead_only=True)
        assert (removed, cursor) == (1, "")
        assert (await shard.clear("", until, 10, ["since"], dead_only=True))[0] == 0
        assert (await known(shard, "since")).state == "dead"

    async def test_a_clear_of_the_dead_removes_nothing_else(self, shard: Shard) -> None:
        await kill_one(shard, "dead")
        await kill_one(shard, "other")
        await kill_one(shard, "third")
        await Client(shard).push(job("leased"))
        await Node(shard, "n").claim()
        await Client(shard, "x").push(job("pending"), job("later", delay=5_000, priority=3))
        some = ["dead", "leased", "pending", "nobody"]
        assert (await shard.clear("", None, 100, some, dead_only=True))[:2] == (1, "")
        removed, cursor, until = 0, "", None
        while True:
            more, cursor, until = await shard.clear(cursor, until, 1, dead_only=True)
            removed += more
            if not cursor:
                break
        assert removed == 2
        assert await shard.get(["dead", "other", "third"]) == [None, None, None]
        assert [(await known(shard, id)).state for id in ("leased", "pending", "later")] == [
            "leased",
            "pending",
            "pending",
        ]

    async def test_a_clear_of_the_dead_takes_no_more_steps_where_many_jobs_wait(self, shard: Shard) -> None:
        await kill_one(shard, "dead")
        await Client(shard).push(*(job(f"j{i}", body=b"x" * 100) for i in range(40)))
        assert (await shard.clear("", None, 10, dead_only=True))[:2] == (1, "")

    # --- reconcile, history ------------------------------------------------------------------------------------------

    async def reconcile_all(self, shard: Shard, *, repair: bool = True) -> dict[str, int]:
        cursor, found = await shard.reconcile("", 5, repair=repair)
        while cursor:
            cursor, more = await shard.reconcile(cursor, 5, repair=repair)
            found = {name: found.get(name, 0) + more.get(name, 0) for name in {*found, *more}}
        return found

    async def test_reconciling_what_is_sound_changes_nothing(self, shard: Shard) -> None:
        await kill_one(shard, "dead")
        await Client(shard).push(*(job(f"j{i}", priority=i % 4, named=i > 3) for i in range(9)))
        node = Node(shard, "n")
        batch = await node.claim(3)
        await shard.start([(batch.jobs[0].id, batch.fence)])
        await shard.cancel([batch.jobs[1].id])
        await node.settle(settlement(batch.jobs[2], batch.fence, AGAIN))
        await shard.put(schedule())
        await shard.put(schedule("over"))
        mark = (await read(shard, "over")).mark
        assert await shard.fire("n", [Firing("over", 1, mark, mark, None, None)]) == ["fired"]
        everything = [await walk(shard, state) for state in ("pending", "leased", "dead")]
        assert await self.reconcile_all(shard) == {}
        assert [await walk(shard, state) for state in ("pending", "leased", "dead")] == everything
        assert ids(await node.repeat_claim(3)) == ids(batch)[:2]
        assert await node.repeat_settle() == ["repeated"]

    async def test_the_numbers_of_clients_and_nodes_unheard_of_for_long_are_dropped(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await kill_one(shard, "a")
        for n in range(12):
            await Client(shard, f"c{n}").push(job(f"j{n}"))
        clock.advance(30 * 86_400)
        await self.reconcile_all(shard, repair=False)
        assert sum((await self.reconcile_all(shard)).values()) > 12
        assert await self.reconcile_all(shard) == {}

    async def test_the_history_has_one_entry_per_call(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard, "c").push(*(job(f"{i:03}") for i in range(100)))
        batch = await node.claim(40)
        await node.claim(0)
        await node.settle(*(settlement(claimed, batch.fence, DEAD) for claimed in batch.jobs[:2]))
        page = await shard.history("history", "", 10)
        entries = [fields for _, fields in page.items]
        assert [(entry["verb"], entry["who"], entry["count"]) for entry in entries] == [
            ("enqueue", "c", "100"),
            ("claim", "n", "40"),
            ("settle", "n", "2"),
        ]
        assert entries[0]["ids"].split() == [f"{i:03}" for i in range(16)]
        assert entries[2]["ids"] == "000 001"
        assert page.cursor == page.items[-1][0]

    async def test_the_history_names_only_what_was_applied(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"), job("b"))
        batch = await node.claim()
        a, b = batch.jobs
        await node.settle(settlement(a, batch.fence - 1), settlement(b, batch.fence))
        await node.settle(settlement(a, batch.fence - 1))
        entries = [fields for _, fields in (await shard.history("history", "", 10)).items]
        assert [(entry["verb"], entry["count"], entry["ids"]) for entry in entries[2:]] == [("settle", "1", "b")]

    async def test_a_repeat_leaves_no_entry_in_the_history(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        await client.push(job("a"))
        await client.repeat()
        claimed, fence = await node.claim_one()
        await node.repeat_claim()
        await node.settle(settlement(claimed, fence))
        await node.repeat_settle()
        assert len((await shard.history("history", "", 10)).items) == 3

    async def test_the_history_is_read_in_pages_and_can_be_followed(self, shard: Shard, clock: ManualClock) -> None:
        for i in range(7):
            await Client(shard, f"c{i}").push(job(f"j{i}"))
            clock.advance(0.001)
        found, cursor = [], ""
        for size in (3, 3, 1, 0):
            page = await shard.history("history", cursor, 3)
            assert len(page.items) == size
            cursor = page.cursor
            found += [fields["who"] for _, fields in page.items]
        assert found == [f"c{i}" for i in range(7)]
        await Client(shard, "c7").push(job("j7"))
        assert [fields["who"] for _, fields in (await shard.history("history", cursor, 3)).items] == ["c7"]

    async def test_the_history_of_one_moment_is_read_in_pages_too(self, shard: Shard, clock: ManualClock) -> None:
        for i in range(4):
            if i == 2:
                clock.shift(-10)
            await Client(shard, f"c{i}").push(job(f"j{i}"))
        found, cursor = [], ""
        while (page := await shard.history("history", cursor, 1)).items:
            cursor = page.cursor
            found += [fields["who"] for _, fields in page.items]
        assert found == [f"c{i}" for i in range(4)]

    async def test_the_history_is_read_from_a_moment_on(self, shard: Shard, clock: ManualClock) -> None:
        for i in range(4):
            await Client(shard, f"c{i}").push(job(f"j{i}"))
        (first, _), *_ = entries = (await shard.history("history", "", 10)).items
        moment = first.partition("-")[0]
        page = await shard.history("history", moment, 10)
        assert page.items == [entry for entry in entries if entry[0] != f"{moment}-0"]

    async def test_the_history_is_bounded(self, shard: Shard) -> None:
        for i in range(10 * LIMITS.history):
            await Client(shard, f"c{i}").push(job("x", named=True, replace=True))
        page = await shard.history("history", "", 1_000)
        assert LIMITS.history <= len(page.items) <= 6 * LIMITS.history  # a store may drop them in larger pieces
        assert page.items[-1][1]["who"] == f"c{10 * LIMITS.history - 1}"
