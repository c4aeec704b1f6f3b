"""What a store promises whose jobs and schedules can be moved between shards: `capabilities.Movable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from duly.core.job import Hold
from duly.core.lifecycle import Change
from duly.core.shards import Place
from duly.stores.base import Firing, Renewal, Shard, Store
from duly.stores.capabilities import Departure, Movable
from duly.testing.conformance.kit import (
    BOUND,
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
    walk,
)
from duly.testing.conformance.plans import STEP, firing, ids_of, plan, read
from duly.testing.conformance.sound import found, is_fresh

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

THERE = Place("default", 1).name


def movable(shard: Shard) -> Movable:
    assert isinstance(shard, Movable)
    return shard


async def departing(
    shard: Shard, *jobs: str, schedules: tuple[str, ...] = (), to: str = THERE, name: str = "mover"
) -> Departure:
    """Some of what is here begins its way."""
    departure = await movable(shard).depart(to, name, jobs, schedules)
    assert departure is not None
    return departure


async def move(shard: Shard, there: Shard, *jobs: str, schedules: tuple[str, ...] = ()) -> None:
    """All of it goes from one shard to another."""
    departure = await departing(shard, *jobs, schedules=schedules)
    assert departure.ids >= {*jobs, *schedules}
    assert await movable(there).arrive(departure) == len(departure.ids)
    assert list(await movable(shard).departed(departure.n)) == []
    assert await movable(shard).depart(THERE, "mover") is None


class MovesSuite(Suite):
    """kept, holder, lasts, depart, arrive, departed: two shards of a queue."""

    @pytest.fixture
    def there(self, store: Store) -> Shard:
        return store.shard(THERE)

    # --- jobs --------------------------------------------------------------------------------------------------------

    async def test_jobs_arrive_as_they_were_and_leave_nothing_behind(
        self, shard: Shard, there: Shard, clock: ManualClock
    ) -> None:
        await kill_one(shard, "dead", named=True)
        await Client(shard, "first").push(job("again", priority=2))
        claimed, fence = await (node := Node(shard, "n")).claim_one()
        assert await shard.renew([Renewal("again", fence, LEASE, b"half")]) == ["applied"]
        change = Change("again", 60_000, 2, 1, 5, "it raised", "ValueError", "Traceback")
        assert await node.settle(settlement(claimed, fence, change)) == ["applied"]
        await Client(shard).push(
            job("due", named=True, unique=Hold("k")), *(job(f"p{p}", delay=9_000 + p, priority=p) for p in range(4))
        )
        names = ["dead", "again", "due", "p0", "p1", "p2", "p3"]
        before = await shard.get(names)
        clock.advance(1)
        await move(shard, there, *names)
        assert await there.get(names) == before
        assert (await known(there, "again")).progress == b"half"
        assert await shard.get(names) == [None] * len(names)
        sizes = await shard.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead) == (0, 0, 0)
        assert [record.id for record in await walk(there, "pending")] == ["p0", "due", "p1", "p2", "again", "p3"]
        assert await found(there) == await found(shard) == {}
        for id in ("dead", "again"):
            assert await is_fresh(shard, id)
        batch = await Node(there, "n").claim()
        assert [(one.id, one.named, one.unique, one.before) for one in batch.jobs] == [("due", True, "k", None)]

    async def test_a_job_that_has_moved_is_taken_over_like_any_other(
        self, shard: Shard, there: Shard, clock: ManualClock
    ) -> None:
        await Client(shard).push(job("a"))
        await move(shard, there, "a")
        await Node(there, "gone").claim()
        await pass_time(there, clock, LEASE / 1000)
        claimed, _ = await Node(there, "other").claim_one()
        assert (claimed.attempts, claimed.crashes, claimed.before and claimed.before.node) == (0, 1, "gone")

    async def test_what_is_not_named_or_not_there_or_claimed_stays(self, shard: Shard, there: Shard) -> None:
        await Client(shard).push(job("leased"), job("later", delay=9_000))
        claimed, fence = await (node := Node(shard, "n")).claim_one()
        assert await movable(shard).depart(THERE, "mover", ["leased", "nobody"], ["nobody"]) is None
        assert await movable(shard).depart(THERE, "mover") is None
        await Client(shard, "c").push(job("a", delay=5_000))
        await move(shard, there, "a")
        assert [(await known(shard, id)).state for id in ("leased", "later")] == ["leased", "pending"]
        assert await node.settle(settlement(claimed, fence)) == ["applied"]
        assert [record.id for record in await walk(there, "pending")] == ["a"]

    async def test_a_job_on_its_way_is_run_by_nobody(self, shard: Shard, there: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b", delay=1))
        departure = await departing(shard, "a", "b")
        assert departure.to == THERE
        assert departure.ids == {"a", "b"}
        for _ in range(2):
            assert ids(await Node(shard, f"n{clock.epoch_us()}").claim()) == []
            assert [(await known(shard, id)).state for id in ("a", "b")] == ["leased", "leased"]
            await pass_time(shard, clock, 3 * LEASE / 1000)
        assert await is_unknown(there, "a")
        assert await found(shard) == {}
        assert await movable(there).arrive(departure) == 2
        assert ids(await Node(there, "n").claim()) == ["a", "b"]
        assert ids(await Node(shard, "late").claim()) == []

    async def test_fences_grow_through_a_departure_though_the_clock_went_back(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        first = (await Node(shard, "n").claim()).fence
        await Client(shard).push(job("a", delay=5_000))
        clock.shift(-3_600)
        await departing(shard, "a")
        fence = (await known(shard, "a")).fence
        assert first < fence < (await Node(shard, "m").claim()).fence

    async def test_a_job_is_asked_to_be_cancelled_on_its_way(self, shard: Shard, there: Shard) -> None:
        await Client(shard).push(job("a"), job("b"))
        departure = await departing(shard, "a", "b")
        assert list(await shard.cancel(["b"])) == ["asked"]
        assert await movable(there).arrive(departure) == 2
        for _ in range(2):  # one who brought it may have died here
            assert list(await movable(shard).departed(departure.n)) == ["b"]
        assert (await known(there, "b")).cancel_asked is False  # who brings it says so there
        assert list(await shard.cancel(["a"])) == ["asked"]
        assert list(await movable(shard).departed(departure.n, ["b"])) == ["a"]
        assert list(await movable(shard).departed(departure.n, ["b", "a"])) == []
        for id in ("a", "b"):
            assert await is_fresh(shard, id)

    # --- three steps -------------------------------------------------------------------------------------------------

    async def test_a_batch_under_way_is_the_answer_until_it_has_departed(
        self, shard: Shard, there: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        await kill_one(shard, "dead")
        await Client(shard).push(job("a", delay=5_000, unique=Hold("k")), job("b"))
        first = await departing(shard, "a", "dead", schedules=("s",))
        clock.advance(1)
        for again in (await departing(shard, "b", to="elsewhere", name="another"), await departing(shard, to="")):
            assert (again.name, again.n, again.to, again.ids) == ("mover", first.n, THERE, first.ids)
        assert (await known(shard, "b")).state == "pending"
        assert await movable(there).arrive(again) == 3  # as good as the first
        assert [(await known(there, id)).state for id in ("a", "dead")] == ["pending", "dead"]
        assert (await read(there)).definition == schedule().definition
        assert await movable(there).holder("k") == ("pending", "a")
        for n in (first.n + 1, first.n - 1):
            assert list(await movable(shard).departed(n)) == []
            assert (await known(shard, "a")).state == "leased"
        assert list(await movable(shard).departed(first.n)) == []
        second = await departing(shard, "b", name="another")
        assert (second.name, second.n > first.n) == ("mover", True)
        assert second.ids == {"b"}

    async def test_a_repeat_of_any_step_changes_nothing(self, shard: Shard, there: Shard) -> None:
        await shard.put(schedule())
        await Client(shard).push(job("a"))
        departure = await departing(shard, "a", schedules=("s",))
        assert await movable(there).arrive(departure) == 2
        claimed, fence = await (node := Node(there, "n")).claim_one()
        assert await node.settle(settlement(claimed, fence)) == ["applied"]
        await there.steer("s", remove=True)
        assert await movable(there).arrive(departure) == 0
        assert await is_unknown(there, "a")
        assert (await there.sizes()).schedules == 0
        for _ in range(2):
            assert list(await movable(shard).departed(departure.n)) == []
        await Client(shard, "c").push(job("a"), job("b", delay=5_000))
        assert list(await movable(shard).departed(departure.n)) == []
        assert (await known(shard, "a")).state == "pending"
        following = await departing(shard, "b")
        assert await movable(there).arrive(following) == 1
        assert await movable(there).arrive(departure) == 0
        assert await movable(there).arrive(following) == 0
        assert (await departing(shard)).ids == {"b"}
        assert list(await movable(shard).departed(following.n)) == []
        assert (await known(shard, "a")).state == "pending"

    async def test_what_is_known_where_it_arrives_stays_as_it_is_there(self, shard: Shard, there: Shard) -> None:
        for place, word in ((shard, b"of here"), (there, b"of there")):
            await place.put(schedule(definition=word))
            await Client(place).push(job("a", delay=5_000, body=word, unique=Hold("k")))
        await kill_one(shard, "dead")
        await Client(there, "c").push(job("dead", delay=5_000))
        await Client(shard, "c").push(job("b", delay=5_000, unique=Hold("l")))
        await Client(there, "d").push(job("other", delay=5_000, unique=Hold("l")))
        before = await there.get(["a", "dead"])
        departure = await departing(shard, "a", "dead", "b", schedules=("s",))
        assert await movable(there).arrive(departure) == 1
        assert await there.get(["a", "dead"]) == before
        assert (await read(there)).definition == b"of there"
        assert await movable(there).holder("l") == ("pending", "other")
        assert list(await movable(shard).departed(departure.n)) == []
        assert await shard.get(["a", "dead", "b"]) == [None] * 3

    async def test_what_arrives_leaves_a_token(self, shard: Shard, there: Shard) -> None:
        await Client(shard).push(job("a"))
        await drain_token(there)
        await move(shard, there, "a")
        assert await there.wait(BOUND)

    # --- unique keys -------------------------------------------------------------------------------------------------

    async def test_a_unique_key_goes_with_its_holder(self, shard: Shard, there: Shard) -> None:
        await Client(shard).push(
            job("a", delay=5_000, unique=Hold("k")), job("b", delay=5_000, unique=Hold("t", "time", 9_000))
        )
        await move(shard, there, "a", "b")
        assert [await movable(shard).holder(key) for key in "kt"] == [None, None]
        assert [await movable(there).holder(key) for key in "kt"] == [("pending", "a"), ("pending", "b")]
        asked = [job("x", unique=Hold("k")), job("y", unique=Hold("t"))]
        assert await Client(there).push(*asked) == [("pending", "a"), ("pending", "b")]
        assert await Client(shard, "c").push(*asked) == [("created", "x"), ("created", "y")]

    @pytest.mark.parametrize(("former", "holder"), [("b", "bc"), ("bc", "b"), ("b", "c b"), ("17", "b")])
    async def test_a_key_that_is_anothers_by_now_stays_with_it(
        self, shard: Shard, there: Shard, clock: ManualClock, former: str, holder: str
    ) -> None:
        await Client(shard).push(job(former, delay=90_000, unique=Hold("t", "time", 1_000)))
        clock.advance(1)
        await Client(shard, "c").push(job(holder, delay=90_000, unique=Hold("t", "time", 9_000)))
        await move(shard, there, former)
        assert await movable(there).holder("t") is None
        assert await movable(shard).holder("t") == ("pending", holder)

    async def test_a_job_whose_key_is_free_moves_without_it(self, shard: Shard, there: Shard) -> None:
        await Client(shard).push(job("a", unique=Hold("k")))
        claimed, fence = await (node := Node(shard, "n")).claim_one()
        assert await node.settle(settlement(claimed, fence, Change("dead", reason="why"))) == ["applied"]
        await move(shard, there, "a")
        assert await movable(there).holder("k") is None

    async def test_a_key_until_the_start_is_held_while_its_job_is_on_its_way(self, shard: Shard) -> None:
        await Client(shard).push(job("a", unique=Hold("k", "start")))
        await departing(shard, "a")
        assert await movable(shard).holder("k") == ("leased", "a")
        assert await Client(shard, "c").push(job("b", unique=Hold("k", "start"))) == [("leased", "a")]

    async def test_who_holds_a_key_is_said(self, shard: Shard) -> None:
        await Client(shard).push(job("a", unique=Hold("k")))
        assert await movable(shard).holder("other") is None
        assert await movable(shard).holder("k") == ("pending", "a")
        claimed, fence = await (node := Node(shard, "n")).claim_one()
        assert await movable(shard).holder("k") == ("leased", "a")
        await node.settle(settlement(claimed, fence))
        assert await movable(shard).holder("k") is None

    # --- schedules ---------------------------------------------------------------------------------------------------

    async def test_a_schedule_arrives_as_it_was_and_is_looked_at(
        self, shard: Shard, there: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule(definition=b"\x00 \xff", app="shop", buffer=True))
        before = await plan(shard, look=now_ms(clock) + 60_000)
        await Client(shard).push(job("s", delay=5_000))  # a job of that name is another thing
        departure = await departing(shard, schedules=("s",))
        assert (await shard.schedules(["s"], "", 1)).items == [None]
        assert (await shard.due(10)).schedules == []
        assert await movable(there).arrive(departure) == 1
        assert await read(there) == before
        assert (await there.due(10)).schedules == [before]
        assert list(await movable(shard).departed(departure.n)) == []
        assert (await known(shard, "s")).state == "pending"
        assert await found(there) == await found(shard) == {}

    async def test_a_schedule_that_is_not_looked_at_stays_silent_where_it_arrives(
        self, shard: Shard, there: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        await shard.put(schedule("paused"))
        await shard.steer("paused", paused="why")
        mark = (await read(shard)).mark
        assert await shard.fire("n", [Firing("s", 1, mark, mark, None, None)]) == ["fired"]
        before = await shard.schedules(["s", "paused"], "", 2)
        await move(shard, there, schedules=("s", "paused"))
        clock.advance(60)
        assert (await there.due(10)).schedules == []
        assert await there.schedules(["s", "paused"], "", 2) == before

    async def test_a_schedule_takes_the_jobs_of_its_runs_along(
        self, shard: Shard, there: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one, two = (f"s@{record.mark + n * STEP}" for n in (1, 2))
        await shard.fire("n", [firing(record, record.mark + STEP, record.mark + 2 * STEP, counted=True)])
        await Client(shard).push(job("a"))
        departure = await departing(shard, schedules=("s",))
        assert departure.ids == {"s", one, two}
        assert await movable(there).arrive(departure) == 3
        assert list(await movable(shard).departed(departure.n)) == []
        assert [record.id for record in await walk(there, "pending")] == [one, two]
        assert [record.id for record in await walk(shard, "pending")] == ["a"]
        assert (await read(there)).live == (one, two)

    async def test_a_schedule_with_a_claimed_run_stays_and_makes_no_other_meanwhile(
        self, shard: Shard, there: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one, two = (f"s@{record.mark + n * STEP}" for n in (1, 2))
        await shard.fire("n", [firing(record, record.mark + STEP, record.mark + 2 * STEP, counted=True)])
        batch = await (node := Node(shard, "n")).claim(1)
        assert await movable(shard).depart(THERE, "mover", [], ["s"]) is None
        assert [(await known(shard, id)).state for id in (one, two)] == ["leased", "pending"]
        await pass_time(shard, clock, 9.999)
        assert (await shard.due(10)).schedules == []
        clock.advance(0.001)
        assert ids_of(await shard.due(10)) == ["s"]
        assert await node.settle(settlement(batch.jobs[0], batch.fence, schedule="s")) == ["applied"]
        await move(shard, there, two, schedules=("s",))
        assert (await read(there)).live == (two,)

    async def test_a_silent_schedule_with_a_claimed_run_stays_silent(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        record = await read(shard)
        last = changed(firing(record, record.mark + STEP, counted=True), next=None, look=None)
        assert await shard.fire("n", [last]) == ["fired"]
        await Node(shard, "n").claim(1)
        assert await movable(shard).depart(THERE, "mover", [], ["s"]) is None
        clock.advance(60)
        assert (await shard.due(10)).schedules == []

    async def test_a_schedule_moves_though_a_run_of_it_vanished(self, shard: Shard, there: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
        await shard.clear("", None, 10, [f"s@{record.mark + STEP}"])
        await move(shard, there, schedules=("s",))
        assert (await read(there)).fired == 1

    # --- looking -----------------------------------------------------------------------------------------------------

    async def test_all_that_is_kept_is_walked_through_with_its_keys(self, shard: Shard) -> None:
        await kill_one(shard, "dead")
        await Client(shard).push(job("leased", unique=Hold("l")))
        await Node(shard, "n").claim(1)
        many = [job(f"j{i}", body=b"x" * 100, delay=1, unique=Hold(f"k{i}") if i % 2 else None) for i in range(40)]
        await Client(shard, "c").push(*many)
        for n in range(3):
            await shard.put(schedule(f"s{n}"))
        keys = {"dead": "", "leased": "l", **{one.id: one.unique.key if one.unique else "" for one in many}}
        for what, expected in (("jobs", keys), ("schedules", {f"s{n}": "" for n in range(3)})):
            seen: dict[str, str] = {}
            cursor, pages = "", 0
            while pages == 0 or cursor:
                page = await movable(shard).kept(what, cursor, 5)  # type: ignore[arg-type]
                seen.update(page.items)
                cursor, pages = page.cursor, pages + 1
            assert seen == expected
            assert (pages > 1) is (what == "jobs")
