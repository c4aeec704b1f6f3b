"""Locks and their lines: so many holders at a time, in the order in which they came, under fences that only grow."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

from duly.stores.capabilities import Calling
from duly.testing.conformance.kit import BOUND, BRIEF, Suite

if TYPE_CHECKING:
    from duly.stores.base import Store
    from duly.testing.clock import ManualClock

TTL = 10_000
WAITING = 3_000


async def held(store: Store, owner: str, places: int = 1, ttl: int = TTL) -> int:
    """Take it, or extend it: the fence."""
    fence = await store.lock("report", owner, ttl, places=places)
    assert fence is not None
    return fence


async def waits(store: Store, owner: str, places: int = 1) -> bool:
    """Try, and stand in the line if that is in vain; whether it waits."""
    return await store.lock("report", owner, TTL, places=places, waiting=WAITING) is None


class LockSuite(Suite):
    """lock, unlock."""

    # --- holding -----------------------------------------------------------------------------------------------------

    async def test_a_lock_has_one_owner(self, store: Store) -> None:
        await held(store, "one")
        assert await store.lock("report", "two", TTL) is None
        assert await store.lock("other", "two", TTL) is not None

    async def test_an_owner_extends_its_lock_under_the_same_fence(self, store: Store, clock: ManualClock) -> None:
        fence = await held(store, "one")
        clock.advance(6)
        assert await held(store, "one") == fence
        clock.advance(9.999)
        assert await store.lock("report", "two", TTL) is None
        assert await held(store, "one", ttl=1_000) == fence  # its time may also be made shorter
        clock.advance(1)
        assert await held(store, "two") > fence

    async def test_a_lock_whose_time_ran_out_is_free_under_a_greater_fence(
        self, store: Store, clock: ManualClock
    ) -> None:
        first = await held(store, "one")
        clock.advance(10)
        second = await held(store, "two")
        assert second > first
        assert await store.lock("report", "one", TTL) is None
        assert await store.unlock("report", "one") is False
        clock.advance(10)
        assert await held(store, "two") > second  # its own, but it had lost it

    async def test_a_lock_is_freed_by_its_owner_alone(self, store: Store) -> None:
        first = await held(store, "one")
        assert await store.unlock("report", "two") is False
        assert await store.unlock("other", "one") is False
        assert await store.lock("report", "two", TTL) is None
        assert await store.unlock("report", "one") is True
        assert await store.unlock("report", "one") is False
        assert await held(store, "two") > first

    async def test_the_places_of_an_owner_in_two_locks_are_apart(self, store: Store) -> None:
        await held(store, "one")
        assert await store.lock("other", "two", TTL) is not None
        assert await store.lock("other", "one", TTL, waiting=WAITING) is None
        await held(store, "one")
        assert await store.unlock("other", "one") is False
        assert await store.unlock("report", "one") is True
        assert await store.lock("report", "two", TTL) is not None
        assert await store.unlock("other", "two") is True

    async def test_a_lock_whose_time_ran_out_cannot_be_freed(self, store: Store, clock: ManualClock) -> None:
        await held(store, "one")
        clock.advance(10)
        assert await store.unlock("report", "one") is False

    async def test_the_fence_of_a_lock_grows_though_the_clock_went_back(self, store: Store, clock: ManualClock) -> None:
        await store.lock("another", "one", TTL)
        clock.advance(1)
        first = await held(store, "one")
        await store.unlock("report", "one")
        clock.shift(-3_600)
        assert await held(store, "two") > first

    # --- places ------------------------------------------------------------------------------------------------------

    async def test_a_lock_with_places_has_so_many_owners(self, store: Store) -> None:
        fences = [await held(store, f"owner {n}", 3) for n in range(3)]
        assert all(a < b for a, b in pairwise(fences))
        assert await store.lock("report", "late", TTL, places=3) is None
        assert [await held(store, f"owner {n}", 3) for n in range(3)] == fences
        assert await store.unlock("report", "owner 1") is True
        assert await held(store, "late", 3) > max(fences)
        assert await store.lock("report", "owner 1", TTL, places=3) is None
        assert [await store.unlock("report", f"owner {n}") for n in range(3)] == [True, False, True]

    async def test_an_owner_takes_one_place_alone(self, store: Store) -> None:
        fence = await held(store, "one", 2)
        assert await held(store, "one", 2) == fence
        assert await store.lock("report", "one", TTL, places=2, waiting=WAITING) == fence
        await held(store, "two", 2)
        assert await store.unlock("report", "one") is True
        assert await store.unlock("report", "one") is False
        await held(store, "three", 2)

    async def test_each_place_runs_out_by_itself(self, store: Store, clock: ManualClock) -> None:
        await held(store, "short", 2, ttl=1_000)
        await held(store, "long", 2)
        clock.advance(1)
        late = await held(store, "late", 2)
        assert await store.lock("report", "later", TTL, places=2) is None
        assert await store.unlock("report", "short") is False
        assert await store.unlock("report", "long") is True
        assert await held(store, "later", 2) > late

    async def test_a_try_is_judged_by_the_places_that_it_names(self, store: Store) -> None:
        fence = await held(store, "one", 2)
        await held(store, "two", 2)
        assert await store.lock("report", "three", TTL, places=2) is None
        await held(store, "three", 3)
        assert await held(store, "one", 1) == fence  # what is held stays held
        assert await store.unlock("report", "three") is True
        assert await store.lock("report", "four", TTL, places=1) is None

    # --- the line ----------------------------------------------------------------------------------------------------

    async def test_those_who_wait_are_served_in_the_order_in_which_they_came(self, store: Store) -> None:
        await held(store, "holder")
        line = ["c", "a", "d", "b"]
        for owner in line:
            assert await waits(store, owner)
        for owner in reversed(line):  # to try again changes nothing
            assert await waits(store, owner)
        before = "holder"
        for n, owner in enumerate(line):
            assert await store.unlock("report", before) is True
            for later in reversed(line[n + 1 :]):
                assert await waits(store, later)
            assert not await waits(store, owner)
            before = owner

    async def test_a_free_place_is_not_taken_before_those_who_wait_for_it(self, store: Store) -> None:
        await held(store, "holder")
        assert await waits(store, "first")
        await store.unlock("report", "holder")
        assert await store.lock("report", "late", TTL) is None
        assert await store.lock("report", "holder", TTL) is None  # who had it comes no sooner again
        assert await store.lock("another", "late", TTL) is not None
        await held(store, "first")
        await store.unlock("report", "first")
        await held(store, "late")  # neither it nor the holder stood in the line

    async def test_who_has_had_its_turn_goes_to_the_end_of_the_line(self, store: Store) -> None:
        await held(store, "holder")
        assert await waits(store, "first")
        assert await waits(store, "second")
        await store.unlock("report", "holder")
        assert not await waits(store, "first")
        await store.unlock("report", "first")
        assert await waits(store, "first")
        assert not await waits(store, "second")

    async def test_of_those_who_wait_so_many_are_served_as_places_are_free(self, store: Store) -> None:
        await held(store, "one", 3)
        await held(store, "two", 3)
        await held(store, "three", 3)
        for owner in ("a", "b", "c"):
            assert await waits(store, owner, 3)
        await store.unlock("report", "one")
        assert await waits(store, "b", 3)
        await store.unlock("report", "two")
        assert await waits(store, "c", 3)
        assert not await waits(store, "b", 3)  # the first may be slow: it is in nobody's way
        assert await waits(store, "c", 3)
        assert not await waits(store, "a", 3)

    async def test_the_place_of_one_who_died_runs_out(self, store: Store, clock: ManualClock) -> None:
        await held(store, "holder")
        assert await waits(store, "dead")
        clock.advance(1)
        assert await waits(store, "next")
        await store.unlock("report", "holder")
        clock.advance(1.999)
        assert await waits(store, "next")
        assert await store.lock("report", "late", TTL) is None
        clock.advance(0.001)
        assert not await waits(store, "next")
        await store.unlock("report", "next")
        await held(store, "late")

    async def test_a_try_keeps_the_place(self, store: Store, clock: ManualClock) -> None:
        await held(store, "holder")
        assert await waits(store, "first")
        assert await waits(store, "second")
        for _ in range(3):
            clock.advance(2)
            assert await waits(store, "second")
            assert await waits(store, "first")
        await store.unlock("report", "holder")
        assert await waits(store, "second")
        assert not await waits(store, "first")

    async def test_whose_place_ran_out_stands_at_the_end(self, store: Store, clock: ManualClock) -> None:
        await held(store, "holder")
        assert await waits(store, "slow")
        clock.advance(2)
        assert await waits(store, "next")
        clock.advance(1)
        assert await waits(store, "slow")
        await store.unlock("report", "holder")
        assert await waits(store, "slow")
        assert not await waits(store, "next")

    async def test_a_place_in_the_line_can_be_given_up(self, store: Store) -> None:
        await held(store, "holder")
        assert await waits(store, "gone")
        assert await waits(store, "next")
        assert await store.unlock("report", "gone") is False
        await store.unlock("report", "holder")
        assert not await waits(store, "next")

    async def test_who_waits_takes_a_lock_whose_time_ran_out(self, store: Store, clock: ManualClock) -> None:
        fence = await held(store, "holder", ttl=1_000)
        assert await waits(store, "next")
        clock.advance(1)
        assert await store.lock("report", "holder", TTL) is None  # it has lost it
        assert await held(store, "next") > fence

    async def test_the_holder_keeps_its_lock_though_others_wait(self, store: Store, clock: ManualClock) -> None:
        fence = await held(store, "holder")
        assert await waits(store, "next")
        clock.advance(2)
        assert await store.lock("report", "holder", TTL, waiting=WAITING) == fence
        assert await store.unlock("report", "holder") is True
        assert not await waits(store, "next")

    async def test_a_store_that_calls_calls_who_is_next(self, store: Store) -> None:
        if not isinstance(store, Calling):
            return  # who waits asks from time to time
        await held(store, "one", 2)
        await held(store, "two", 2)
        async with store.called("report", "a") as a, store.called("report", "b") as b, store.called("report", "c") as c:
            for owner in ("a", "b", "c"):
                assert await waits(store, owner, 2)
            await store.unlock("report", "one")
            await store.unlock("report", "two")
            await asyncio.wait_for(a, BOUND)
            assert not await waits(store, "a", 2)
            await asyncio.wait_for(b, BOUND)  # there is a place for the next, too
            assert not await waits(store, "b", 2)
            assert not (await asyncio.wait([c], timeout=BRIEF))[0]
            await store.unlock("report", "a")
            await asyncio.wait_for(c, BOUND)

    async def test_a_store_that_calls_calls_the_next_when_the_first_gives_up(self, store: Store) -> None:
        if not isinstance(store, Calling):
            return
        await held(store, "one", 2)
        await held(store, "two", 2)
        assert await waits(store, "a", 2)
        async with store.called("report", "b") as b:
            assert await waits(store, "b", 2)
            await store.unlock("report", "one")
            await store.unlock("report", "a")
            await asyncio.wait_for(b, BOUND)
