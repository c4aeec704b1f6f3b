"""What every store promises about two queues that hold the same ids: each verb touches the queue it was asked for alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from duly.core.job import Hold
from duly.core.lifecycle import END, Change
from duly.stores.base import Renewal, Settlement, Shard, Store
from duly.testing.conformance.kit import AGAIN, DEAD, LEASE, LIMITS, Suite, job, known, schedule, walk
from duly.testing.conformance.plans import STEP, firing

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

T = TypeVar("T")
IDS = ["a", "b", "c", "d", "e", "child", "s@1", "nobody"]


async def everything(shard: Shard) -> list[Any]:
    """All that can be seen of a queue without changing it."""
    return [
        await shard.sizes(),
        *[await walk(shard, state) for state in ("pending", "leased", "dead")],
        await shard.get(IDS),
        [await shard.result(id) for id in IDS],
        sorted((await shard.schedules(None, "", 100)).items, key=lambda record: str(record.id)),
        await shard.schedules(["s", "t"], "", 10),
        *[[fields for _, fields in (await shard.history(name, "", 1_000)).items] for name in ("history", "ticks")],
    ]


class Twins:
    """Two queues to which everything is done, one after the other."""

    def __init__(self, store: Store) -> None:
        self.shards = store.shard("one"), store.shard("two")

    async def both(self, call: Callable[[Shard], Awaitable[T]]) -> T:
        """The answer, which is the same for both; neither call changes the other queue."""
        one, two = self.shards
        answers = []
        for mine, other in ((one, two), (two, one)):
            before = await everything(other)
            answers.append(await call(mine))
            assert await everything(other) == before
        assert answers[0] == answers[1]
        assert await everything(one) == await everything(two)
        return answers[0]

    async def settle(self, n: int, *settlements: Settlement) -> list[str]:
        return list(await self.both(lambda shard: shard.settle("n", n, settlements)))


class ApartSuite(Suite):
    """One queue is not another, whatever the names in them."""

    async def test_the_jobs_of_two_queues_with_the_same_ids_are_apart(self, store: Store, clock: ManualClock) -> None:
        twins = Twins(store)
        first = (
            job("a", priority=0, named=True, unique=Hold("k")),
            job("b", named=True, delay=1_000),
            job("c", unique=Hold("t", "time", 5_000)),
            job("d", unique=Hold("l", "start")),
            job("e"),
        )
        for _ in range(2):
            answers = await twins.both(lambda shard: shard.enqueue("c", 1, first))
            assert [state for state, _ in answers] == ["created"] * 5
        again = (
            job("b", named=True, replace=True, delay=500, priority=2, unique=Hold("m")),
            job("x", unique=Hold("k")),
            job("y", unique=Hold("t")),
        )
        answers = await twins.both(lambda shard: shard.enqueue("c", 2, again))
        assert answers == [("pending", "b"), ("pending", "a"), ("pending", "c")]
        batches = [await twins.both(lambda shard: shard.claim("n", 1, 3, LEASE, LEASE)) for _ in range(2)]
        assert [[one.id for one in batch.jobs] for batch in batches] == [["a", "c", "d"]] * 2
        fence = batches[0].fence
        assert await twins.both(lambda shard: shard.start([("a", fence), ("e", fence)])) == [True, False]
        renewals = [Renewal("a", fence, LEASE, b"half"), Renewal("c", fence, 2 * LEASE)]
        assert await twins.both(lambda shard: shard.renew(renewals)) == ["applied", "applied"]
        assert list(await twins.both(lambda shard: shard.cancel(["a", "e"]))) == ["asked", "cancelled"]
        end = Settlement("a", fence, END, 0, True, "k", None, b"result", 60_000, (job("child", unique=Hold("k")),))
        for expected in ("applied", "repeated"):
            assert await twins.settle(1, end) == [expected]
        assert await twins.settle(2, Settlement("c", fence, DEAD, unique="t")) == ["applied"]
        assert await twins.settle(3, Settlement("d", fence, AGAIN, unique="l")) == ["applied"]
        answers = await twins.both(
            lambda shard: shard.enqueue("c", 3, [job("a", named=True), job("z", unique=Hold("k"))])
        )
        assert answers == [("ended", "a"), ("pending", "child")]
        assert list(await twins.both(lambda shard: shard.revive(["c", "child"]))) == [True, False]
        removed, _, _ = await twins.both(lambda shard: shard.clear("", None, 10, ["c", "nobody"]))
        assert removed == 1
        clock.advance(1)
        batch = await twins.both(lambda shard: shard.claim("gone", 1, 10, LEASE, LEASE))
        assert [one.id for one in batch.jobs] == ["child", "d", "b"]
        for n in range(5):
            clock.advance(LEASE / 4_000)
            batch = await twins.both(lambda shard, n=n: shard.claim("n", 2 + n, 2, LEASE, LEASE))  # type: ignore[misc]
        assert [(one.id, one.crashes) for one in batch.jobs] == [("d", 1)]  # the others came with the call before
        assert [record.node for record in await walk(store.shard("one"), "leased")] == ["n", "n", "n"]
        assert (await twins.both(lambda shard: shard.clear("", None, 2)))[:2] == (0, "")

    async def test_the_numbers_and_switches_of_two_queues_are_apart(self, store: Store, clock: ManualClock) -> None:
        twins = Twins(store)
        await twins.both(lambda shard: shard.configure(paused=True, limit=3))
        for name in ("c", "d", "e"):
            await twins.both(lambda shard, name=name: shard.enqueue(name, 1, [job(name)]))  # type: ignore[misc]
        clock.advance(2 * 86_400)
        cursor = ""
        while True:
            cursor, _ = await twins.both(lambda shard, cursor=cursor: shard.reconcile(cursor, 2))  # type: ignore[misc]
            if not cursor:
                break

    async def test_what_one_queue_knows_another_does_not(self, store: Store) -> None:
        one, two = store.shard("one"), store.shard("two")
        await one.enqueue(
            "c", 1, [job("a", named=True), job("b", unique=Hold("k", "time", 5_000)), job("c", delay=9_000)]
        )
        batch = await one.claim("n", 1, 10, LEASE, LEASE)
        ends = [
            Settlement("a", batch.fence, END, named=True, result=b"x", result_ms=60_000),
            Settlement("b", batch.fence, DEAD),
        ]
        assert await one.settle("n", 1, ends) == ["applied", "applied"]
        await one.put(schedule())
        await one.enqueue("c", 2, [job("h")])
        held = await one.claim("m", 1, 1, LEASE, LEASE)
        assert [job.id for job in held.jobs] == ["h"]
        assert await everything(two) == await everything(store.shard("three"))
        assert await two.settle("m", 1, [Settlement("h", held.fence, END)]) == ["taken"]
        assert await two.renew([Renewal("h", held.fence, LEASE)]) == ["taken"]
        assert await two.start([("h", held.fence)]) == [False]
        assert list(await two.cancel(["a", "b", "c"])) == ["unknown"] * 3
        assert list(await two.revive(["b"])) == [False]
        assert (await two.clear("", None, 10))[0] == 0
        assert (await two.clear("", None, 10, ["b", "c"]))[0] == 0
        assert (await two.due(10)).schedules == []
        assert await two.steer("s") is False
        assert await two.start([("c", batch.fence)]) == [False]
        assert await two.settle("n", 1, ends) == ["taken", "taken"]
        batch = await two.claim("n", 1, 10, LEASE, LEASE)
        assert (batch.jobs, batch.wait_us, batch.looks_due) == ([], None, False)
        assert await two.enqueue("c", 1, [job("a", named=True)]) == [("created", "a")]
        assert await two.enqueue("c", 2, [job("d", unique=Hold("k"))]) == [("created", "d")]
        assert await two.enqueue("c", 3, [job("e", delay=9_999)]) == [("created", "e")]
        batch = await two.claim("n", 2, 10, LEASE, LEASE)
        assert [job.id for job in batch.jobs] == ["a", "d"]
        assert batch.wait_us == 9_999_000

    async def test_what_one_queue_forgets_another_still_knows(self, store: Store, clock: ManualClock) -> None:
        one, two = store.shard("one"), store.shard("two")
        hour = 3_600 + LIMITS.remember_ms / 1000
        for n, shard in enumerate((one, two)):
            await shard.enqueue("c", 1, [job("a", named=True, unique=Hold("k", "time", LIMITS.remember_ms))])
            batch = await shard.claim("n", 1, 10, LEASE, LEASE)
            end = Settlement(
                "a", batch.fence, END, named=True, unique="k", result=b"x", result_ms=60_000 + 3_600_000 * n
            )
            assert await shard.settle("n", 1, [end]) == ["applied"]
            if shard is one:
                clock.advance(hour)
        for n, shard in enumerate((one, two, one)):
            await shard.enqueue("other", 1 + n, [job(f"j{n}")])
            batch = await shard.claim("n", 2 + n, 10, LEASE, LEASE)
            await shard.settle("n", 2 + n, [Settlement(f"j{n}", batch.fence, END)])
            assert [record and record.state for record in await two.get(["a"])] == ["ended"]
            assert await two.result("a") == b"x"
        assert await one.get(["a"]) == [None]
        assert await two.enqueue("c", 2, [job("b", unique=Hold("k"))]) == [("ended", "a")]
        assert await one.enqueue("c", 2, [job("b", unique=Hold("k"))]) == [("created", "b")]
        assert await one.enqueue("c", 3, [job("a", named=True)]) == [("created", "a")]
        assert [record and record.state for record in await two.get(["a"])] == ["ended"]

    async def test_the_keys_and_states_of_one_queue_are_not_those_of_another(self, store: Store) -> None:
        one, two = store.shard("one"), store.shard("two")
        for n, shard in enumerate((one, two)):
            await shard.enqueue("c", 1, [job("0", unique=Hold(f"z{n}")), job("a", named=True, unique=Hold(f"k{n}"))])
            await shard.enqueue("c", 2, [job("b", delay=9_000, unique=Hold("l"))])
        for first, second in ((one, two), (two, one)):
            await first.claim("n", 1, 1, LEASE, LEASE)  # 0
            assert await second.enqueue("d", 1, [job("x", unique=Hold("l"))]) == [("pending", "b")]
        for n, shard in enumerate((one, two)):
            moved = job("a", delay=9_000, named=True, replace=True, unique=Hold("m"))
            assert await shard.enqueue("c", 3, [moved]) == [("pending", "a")]
            assert await shard.enqueue("c", 4, [job("y", unique=Hold("m"))]) == [("pending", "a")]
            assert await shard.enqueue("c", 5, [job("y", delay=9_000, unique=Hold(f"k{n}"))]) == [("created", "y")]
        for shard in (one, two):
            assert await shard.clear("", None, 10, ["b"]) == (1, "", (await shard.sizes()).now)
            assert await shard.enqueue("c", 6, [job("x", unique=Hold("l"))]) == [("created", "x")]
            await shard.enqueue("c", 7, [job("b", delay=9_000)])

    async def test_the_state_of_a_holder_is_that_in_its_own_queue(self, store: Store) -> None:
        one, two = store.shard("one"), store.shard("two")
        for shard in (one, two):
            await shard.enqueue("c", 1, [job("a", unique=Hold("k")), job("b", delay=9_000, unique=Hold("l"))])
        await one.claim("n", 1, 1, LEASE, LEASE)
        await two.enqueue("c", 2, [job("b", replace=True, unique=Hold("l"))])
        await two.clear("", None, 10, ["a"])
        await two.enqueue("c", 3, [job("a", delay=9_000, unique=Hold("k"))])
        await two.claim("n", 1, 1, LEASE, LEASE)  # of each queue another one is leased
        for shard, a, b in ((one, "leased", "pending"), (two, "pending", "leased")):
            asked = [job("x", unique=Hold("k")), job("y", unique=Hold("l"))]
            assert await shard.enqueue("d", 1, asked) == [(a, "a"), (b, "b")]

    async def test_what_is_freed_or_cleared_in_one_queue_is_held_in_another(self, store: Store) -> None:
        one, two = store.shard("one"), store.shard("two")
        for shard in (one, two):
            await shard.enqueue("c", 1, [job("a", unique=Hold("k"))])
        for n, (first, second) in enumerate(((one, two), (two, one))):
            assert (await first.clear("", None, 10, ["a"]))[0] == 1
            assert await second.enqueue("d", n, [job("x", unique=Hold("k"))]) == [("pending", "a")]
            await first.enqueue("c", 2, [job("a", unique=Hold("k"))])
        await one.claim("n", 1, 1, LEASE, LEASE)
        assert (await one.clear("", None, 10, ["a"]))[0] == 0
        assert [(await known(shard, "a")).state for shard in (one, two)] == ["leased", "pending"]

    async def test_the_runs_of_a_schedule_are_those_of_its_queue(self, store: Store, clock: ManualClock) -> None:
        one, two = store.shard("one"), store.shard("two")
        for shard in (one, two):
            await shard.put(schedule())
        (record,) = (await one.due(1)).schedules
        assert (await two.due(1)).schedules == [record]
        first, second = record.mark + STEP, record.mark + 2 * STEP
        for shard in (one, two):
            await shard.fire("n", [firing(record, first, second, counted=True)])
        await one.clear("", None, 10, [f"s@{first}"])
        clock.advance(5)
        assert [record.live for record in (await one.due(10)).schedules] == [(f"s@{second}",)]
        assert [record.live for record in (await two.due(10)).schedules] == [(f"s@{first}", f"s@{second}")]
        batch = await one.claim("n", 1, 10, LEASE, LEASE)
        assert [run.id for run in batch.jobs] == [f"s@{second}"]
        assert await one.steer("s", remove=True) is True
        assert [record and record.state for record in await one.get([f"s@{second}"])] == ["leased"]

    async def test_streams_are_bounded_apart(self, store: Store) -> None:
        one, two = store.shard("one"), store.shard("two")
        for shard in (one, two):
            await shard.put(schedule())
            await shard.enqueue("few", 1, [job("few")])
        for n in range(1, LIMITS.history + 3):
            await one.enqueue("c", n, [job(f"j{n}", delay=9_000)])
            await one.steer("s", paused=f"{n}")
            await two.steer("s", paused=f"{n}")
        for shard, stream, count in ((one, "history", 50), (one, "ticks", 50), (two, "ticks", 50), (two, "history", 1)):
            page = await shard.history(stream, "", 1_000)  # type: ignore[arg-type]
            assert len(page.items) >= min(count, LIMITS.history)

    async def test_the_dead_of_two_queues_are_bounded_apart(self, store: Store, clock: ManualClock) -> None:
        twins = Twins(store)
        count = LIMITS.dead_count + 2
        jobs = [job(f"j{i:02}") for i in range(count)]
        await twins.both(lambda shard: shard.enqueue("c", 1, jobs))
        batch = await twins.both(lambda shard: shard.claim("n", 1, 100, LEASE, LEASE))
        assert (
            await twins.settle(1, *(Settlement(one.id, batch.fence, DEAD) for one in batch.jobs)) == ["applied"] * count
        )
        assert (await store.shard("two").sizes()).dead == LIMITS.dead_count
        clock.advance(LIMITS.dead_ms / 1000)
        await twins.both(lambda shard: shard.enqueue("c", 2, [job("last")]))
        batch = await twins.both(lambda shard: shard.claim("n", 2, 100, LEASE, LEASE))
        await twins.settle(2, Settlement("last", batch.fence, DEAD))
        assert (await store.shard("two").sizes()).dead == 1

    async def test_a_repeated_claim_gives_and_renews_what_its_own_queue_holds(
        self, store: Store, clock: ManualClock
    ) -> None:
        one, two = store.shard("one"), store.shard("two")
        for shard in (one, two):
            await shard.enqueue("c", 1, [job("a"), job("b")])
        batches = [await shard.claim("n", 1, 10, LEASE, LEASE) for shard in (one, two)]
        assert batches[0].fence == batches[1].fence
        assert await two.settle("n", 1, [Settlement("a", batches[1].fence, END)]) == ["applied"]
        clock.advance(1)
        before = await everything(one)
        assert [claimed.id for claimed in (await two.claim("n", 1, 10, LEASE, LEASE)).jobs] == ["b"]
        assert await everything(one) == before

    async def test_leases_and_looks_of_one_queue_are_not_those_of_another(
        self, store: Store, clock: ManualClock
    ) -> None:
        one, two = store.shard("one"), store.shard("two")
        for shard in (one, two):
            await shard.enqueue("c", 1, [job("a")])
            await shard.claim("n", 1, 10, LEASE, LEASE)
        for n in range(4):
            clock.advance(LEASE / 4_000)
            for shard in (one, two):
                await shard.claim("watcher", n, 0, LEASE, LEASE)
        before = await everything(one)
        assert (await two.claim("n", 2, 10, LEASE, LEASE)).jobs == []  # its own is renewed
        assert await everything(one) == before
        await two.put(schedule("t"))
        await two.due(10)
        await one.put(schedule())
        batch = await two.claim("n", 3, 10, LEASE, LEASE)
        assert (batch.looks_due, batch.wait_us) == (False, 1_000_000)

    async def test_the_dead_of_one_queue_keep_no_others_in_theirs(self, store: Store) -> None:
        count = LIMITS.dead_count + 2
        for name in ("one", "two"):
            shard = store.shard(name)
            await shard.enqueue("c", 1, [job(f"{name} {i:02}") for i in range(count)])
            batch = await shard.claim("n", 1, 100, LEASE, LEASE)
            await shard.settle("n", 1, [Settlement(claimed.id, batch.fence, DEAD) for claimed in batch.jobs])
            assert [record.id for record in await walk(shard, "dead")] == [f"{name} {i:02}" for i in range(2, count)]

    async def test_the_schedules_of_two_queues_with_the_same_ids_are_apart(
        self, store: Store, clock: ManualClock
    ) -> None:
        twins = Twins(store)
        for what in ("created", "same"):
            assert await twins.both(lambda shard: shard.put(schedule(buffer=True))) == (what, 1)
        assert (await twins.both(lambda shard: shard.put(schedule("t"))))[0] == "created"
        due = await twins.both(lambda shard: shard.due(1))
        (record,) = due.schedules
        one, two = record.mark + STEP, record.mark + 2 * STEP
        for expected in ("fired", "stale"):
            plan = firing(record, one, two, counted=True)
            assert await twins.both(lambda shard, plan=plan: shard.fire("n", [plan])) == [expected]  # type: ignore[misc]
        batch = await twins.both(lambda shard: shard.claim("n", 1, 1, LEASE, LEASE))
        (run,) = batch.jobs
        assert await twins.settle(1, Settlement(run.id, batch.fence, Change("dead", reason="why"), schedule="s")) == [
            "applied"
        ]
        await twins.both(lambda shard: shard.clear("", None, 10, [f"s@{two}"]))
        assert (await twins.both(lambda shard: shard.put(schedule(definition=b"other"))))[0] in ("due", "updated")
        clock.advance(60)
        due = await twins.both(lambda shard: shard.due(10))
        assert {record.id: record.live for record in due.schedules} == {"s": (), "t": ()}
        await twins.both(lambda shard: shard.steer("s", paused="a while"))
        await twins.both(lambda shard: shard.steer("s"))
        (record,) = (await store.shard("one").schedules(["s"], "", 1)).items
        plan = firing(record, record.mark + STEP, counted=True)
        assert await twins.both(lambda shard: shard.fire("n", [plan])) == ["fired"]
        await twins.both(lambda shard: shard.steer("s", remove=True))
        assert (await store.shard("one").sizes()).pending == 0
        assert (await store.shard("one").sizes()).schedules == 1
