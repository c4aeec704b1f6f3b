"""What a store tells those who ask why: who comes before a job, who holds a key or a lock, since when a queue is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from duly.core.job import Hold
from duly.stores.base import Shard, Store
from duly.stores.capabilities import PLACES_SHOWN, Keyed, Lined, ListsLocks, LockPlace, LockRecord
from duly.testing.conformance.kit import LIMITS, Client, Node, Suite, job, kill_one, known, now_ms, settlement

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

TTL = 10_000
WAITING = 3_000
STEPS = 10_000
"""After which a walk does not end."""


class LookSuite(Suite):
    """`capabilities.Lined` and `Keyed`, where there are, and what `get` and `sizes` say of moments."""

    @pytest.fixture
    def lined(self, shard: Shard) -> Lined:
        if not isinstance(shard, Lined):
            pytest.skip("this store cannot say where in its line a job stands")
        return shard

    @pytest.fixture
    def keyed(self, shard: Shard) -> Keyed:
        if not isinstance(shard, Keyed):
            pytest.skip("this store cannot say who holds a key")
        return shard

    async def _ahead(self, lined: Lined, *ids: str) -> list[int]:
        found = [await lined.ahead(id) for id in ids]
        assert not any(ahead is not None and ahead.is_more for ahead in found)
        return [-1 if ahead is None else ahead.jobs for ahead in found]

    async def test_due_jobs_stand_in_line_by_priority_and_time(
        self, shard: Shard, lined: Lined, clock: ManualClock
    ) -> None:
        client = Client(shard)
        await client.push(
            job("c"), job("low", priority=3), job("high", priority=0), job("late", delay=5_000, priority=0)
        )
        clock.advance(0.5)
        await client.push(job("a"), job("b"), job("last", priority=3))
        assert await self._ahead(lined, "high", "c", "a", "b", "low", "last") == [0, 1, 2, 3, 4, 5]
        clock.advance(5)
        assert await self._ahead(lined, "high", "late", "c") == [0, 1, 2]

    async def test_who_is_not_pending_stands_in_no_line(self, shard: Shard, lined: Lined) -> None:
        await kill_one(shard, "dead")
        await Client(shard).push(job("leased"), job("waits"))
        await Node(shard, "n").claim(1)
        assert await self._ahead(lined, "dead", "leased", "never", "waits") == [-1, -1, -1, 0]

    async def test_the_holder_of_a_key_is_told_until_it_is_free(
        self, shard: Shard, keyed: Keyed, clock: ManualClock
    ) -> None:
        assert await keyed.holder("end") is None
        await Client(shard).push(
            job("a", unique=Hold("end")),
            job("b", unique=Hold("start", "start")),
            job("c", unique=Hold("t", "time", 9_000)),
        )
        assert [await keyed.holder(key) for key in ("end", "start", "t")] == [
            ("pending", "a"),
            ("pending", "b"),
            ("pending", "c"),
        ]
        batch = await (node := Node(shard, "n")).claim()
        assert [await keyed.holder(key) for key in ("end", "start", "t")] == [("leased", "a"), None, ("leased", "c")]
        await node.settle(*(settlement(one, batch.fence) for one in batch.jobs))
        assert [await keyed.holder(key) for key in ("end", "start", "t")] == [None, None, ("ended", "c")]
        clock.advance(9)
        assert await keyed.holder("t") is None

    async def test_an_end_is_remembered_until_the_moment_that_is_told(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a", named=True))
        claimed, fence = await (node := Node(shard, "n")).claim_one()
        clock.advance(1)
        await node.settle(settlement(claimed, fence))
        until = now_ms(clock) + LIMITS.remember_ms
        clock.advance(3)
        record = await known(shard, "a")
        assert (record.state, record.at) == ("ended", until)
        clock.advance((until - now_ms(clock)) / 1000)
        assert await shard.get(["a"]) == [None]

    async def test_a_pause_has_a_beginning(self, shard: Shard, clock: ManualClock) -> None:
        assert (await shard.sizes()).paused_since == 0
        clock.advance(1)
        await shard.configure(paused=True)
        since = now_ms(clock)
        clock.advance(1)
        await shard.configure(paused=True)  # it was already
        await shard.configure(limit=5)
        assert (await shard.sizes()).paused_since == since
        await shard.configure(paused=False)
        assert (await shard.sizes()).paused_since == 0
        clock.advance(1)
        await shard.configure(paused=True)
        assert (await shard.sizes()).paused_since == now_ms(clock)


class HeldLocksSuite(Suite):
    """`capabilities.ListsLocks`, where there is."""

    @pytest.fixture
    def listing(self, store: Store) -> ListsLocks:
        if not isinstance(store, ListsLocks):
            pytest.skip("this store does not list its locks")
        return store

    async def _held(self, listing: ListsLocks, limit: int = 100) -> dict[str, LockRecord]:
        """All of them, page by page."""
        found: dict[str, LockRecord] = {}
        cursor = ""
        for _ in range(STEPS):
            page = await listing.locks(cursor, limit)
            found |= {record.name: record for record in page.items}
            cursor = page.cursor
            if not cursor:
                return found
        raise AssertionError("the walk does not end")

    async def test_locks_that_are_held_are_listed_with_their_holders(
        self, store: Store, listing: ListsLocks, clock: ManualClock
    ) -> None:
        assert await self._held(listing) == {}
        one = await store.lock("report", "one", TTL)
        assert one is not None
        begun = now_ms(clock)
        assert await store.lock("report", "two", TTL, waiting=WAITING) is None
        clock.advance(1)
        places = [
            LockPlace(owner, await store.lock("pool", owner, ttl, places=3) or 0, begun + 1_000 + ttl)
            for owner, ttl in (("long", 2 * TTL), ("short", TTL))
        ]
        assert await self._held(listing) == {
            "report": LockRecord("report", (LockPlace("one", one, begun + TTL),), 1, 1),
            "pool": LockRecord("pool", tuple(reversed(places)), 2, 0),
        }

    async def test_what_is_over_or_freed_is_not_listed(
        self, store: Store, listing: ListsLocks, clock: ManualClock
    ) -> None:
        await store.lock("freed", "one", TTL)
        await store.unlock("freed", "one")
        await store.lock("over", "one", TTL)
        assert await store.lock("over", "two", TTL, waiting=WAITING) is None
        await store.lock("half", "one", TTL, places=2)
        await store.lock("half", "two", 2 * TTL, places=2)
        clock.advance(TTL / 1000 - 0.001)
        assert set(await self._held(listing)) == {"over", "half"}
        assert (await self._held(listing))["over"].waiting == 0
        clock.advance(0.001)
        found = await self._held(listing)
        assert {name: [place.owner for place in record.places] for name, record in found.items()} == {"half": ["two"]}

    async def test_very_many_are_listed_in_bounded_pages(self, store: Store, listing: ListsLocks) -> None:
        for n in range(60):
            await store.lock(f"lock {n}", f"owner {n}", TTL)
        await Client(store.shard("default")).push(job("a"))  # other things lie beside them
        found = await self._held(listing, 7)
        assert {name: record.places[0].owner for name, record in found.items()} == {
            f"lock {n}": f"owner {n}" for n in range(60)
        }

    async def test_of_very_many_holders_those_are_shown_that_end_first(
        self, store: Store, listing: ListsLocks, clock: ManualClock
    ) -> None:
        count = PLACES_SHOWN + 5
        for n in range(count):
            await store.lock("wide", f"owner {n:03}", TTL + n, places=count)
        (record,) = (await self._held(listing)).values()
        assert record.held == count
        assert [place.until - now_ms(clock) - TTL for place in record.places] == list(range(PLACES_SHOWN))

    @pytest.mark.parametrize("name", ["a*b", "[x]?", "back\\slash", "held", "ü: held"])
    async def test_names_are_taken_as_they_are(self, store: Store, listing: ListsLocks, name: str) -> None:
        await store.lock(name, "one", TTL)
        assert list(await self._held(listing)) == [name]
