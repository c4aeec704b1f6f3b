"""Locks and semaphores of the whole cluster: so many holders at a time, fences that grow, an end that comes by itself."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from duly import Lock, LockLost, Scheduler, Semaphore, locks
from duly.errors import ConfigurationError, InvalidOption, StoreError, StoreRefused, StoreUnavailable, StoreUncertain
from duly.stores.capabilities import Calling
from duly.testing import ManualClock
from tests.schedulers import shared
from tests.virtual import Cluster, played
from tests.waiting import eventually


@pytest.fixture
async def two(store_url: str) -> AsyncIterator[tuple[Scheduler, Scheduler]]:
    """Two connected schedulers over one store."""
    url = shared(store_url)
    async with Scheduler(url) as one, Scheduler(url) as other:
        yield one, other


Two = tuple[Scheduler, Scheduler]


async def held(scheduler: Scheduler, name: str, ttl: float = 60) -> Lock:
    lock = await scheduler.try_lock(name, ttl=ttl)
    assert lock is not None
    return lock


class Answers:
    """What is said instead of the store's answer to each try for a lock: an error; None lets it pass.

    An uncertain one is applied all the same.
    """

    def __init__(self, scheduler: Scheduler, faults: list[StoreError | None]) -> None:
        self._lock, self.faults, self.count = scheduler.store.lock, faults, 0
        self.refused: set[str] = set()  # the owners that were told to wait

    async def __call__(self, *args: Any, **given: Any) -> int | None:
        self.count += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is None:
            fence = await self._lock(*args, **given)
            if fence is None:
                self.refused.add(args[1])
            return fence
        if isinstance(fault, StoreUncertain):
            await self._lock(*args, **given)
        raise fault


async def test_a_lock_has_one_holder(two: Two) -> None:
    one, other = two
    lock = await held(one, "a")
    assert lock.held
    assert await other.try_lock("a") is None
    assert await one.try_lock("a") is None  # the same scheduler, another holder
    assert (await held(other, "b")).held
    assert await lock.release() is True
    assert not lock.held
    assert (await held(other, "a")).held


async def test_the_fence_grows_with_every_holder(two: Two) -> None:
    fences = []
    for n in range(10):
        lock = await held(two[n % 2], "a")
        fences.append(lock.fence)
        await lock.release()
    assert all(a < b for a, b in pairwise(fences))


async def test_the_fence_grows_when_a_lock_ran_out(two: Two) -> None:
    first = await two[0].store.lock("a", "somebody", 20)
    second = await eventually(lambda: two[1].try_lock("a"))
    assert first is not None
    assert second is not None
    assert second.fence > first


async def test_only_the_owner_can_free_a_lock(two: Two) -> None:
    one, other = two
    lost = await held(one, "a", ttl=0.05)
    mine = await eventually(lambda: other.try_lock("a"))
    assert mine is not None
    assert await lost.release() is False
    assert await one.try_lock("a") is None
    assert await mine.release() is True
    assert await mine.release() is False


async def test_a_lock_frees_itself_after_its_time_and_not_before(two: Two) -> None:
    begun = time.monotonic()
    await held(two[0], "a", ttl=0.3)
    assert await two[1].try_lock("a") is None
    assert await eventually(lambda: two[1].try_lock("a"))
    assert 0.29 <= time.monotonic() - begun < 3


async def test_a_lock_that_was_only_tried_is_kept_for_a_day(two: Two) -> None:
    assert (await held(two[0], "a", ttl=24 * 3600)).ttl == 86_400
    lock = await two[0].try_lock("b")
    assert lock is not None
    assert lock.ttl == 86_400


async def test_a_held_lock_is_extended_by_its_owner_under_the_same_fence(two: Two) -> None:
    lock = await held(two[0], "a", ttl=0.5)
    fence, until = lock.fence, time.monotonic() + 0.8
    while time.monotonic() < until:
        assert await lock.acquire()
        assert await two[1].try_lock("a") is None
    assert lock.fence == fence


async def test_a_block_holds_its_lock_for_as_long_as_it_runs(two: Two) -> None:
    async with two[0].lock("a", ttl=0.6) as lock:
        fence, until = lock.fence, time.monotonic() + 0.9  # longer than its time to live
        while time.monotonic() < until:
            assert await two[1].try_lock("a") is None
            await asyncio.sleep(0)
        assert lock.fence == fence
    assert not lock.held
    assert await two[1].try_lock("a")


async def test_a_block_waits_until_the_lock_is_free(two: Two) -> None:
    one, other = two
    order: list[str] = []
    first = await held(one, "a")

    async def wait() -> None:
        async with other.lock("a") as lock:
            order.append("second")
            assert lock.fence > fence

    fence = first.fence
    waiting = asyncio.create_task(wait())
    assert not (await asyncio.wait([waiting], timeout=0.1))[0]
    order.append("first")
    await first.release()
    await asyncio.wait_for(waiting, 5)
    assert order == ["first", "second"]


async def test_who_waits_too_long_is_told_so(two: Two) -> None:
    lock = await held(two[0], "report")
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"lock 'report' was not free within 0\.1 s"):
        async with two[1].lock("report", timeout=0.1):
            raise AssertionError("it is held")
    assert 0.1 <= time.monotonic() - begun < 2
    assert lock.held
    assert await lock.release()


async def test_many_who_want_a_lock_have_it_one_after_the_other(two: Two) -> None:
    inside, fences = 0, []

    async def work(scheduler: Scheduler) -> None:
        nonlocal inside
        async with scheduler.lock("a") as lock:
            inside += 1
            assert inside == 1
            fences.append(lock.fence)
            await asyncio.sleep(0.001)
            inside -= 1

    async with asyncio.timeout(20):
        await asyncio.gather(*(work(two[n % 2]) for n in range(12)))
    assert len(fences) == 12
    assert all(a < b for a, b in pairwise(fences))


async def test_a_block_that_fails_frees_its_lock(two: Two) -> None:
    with pytest.raises(KeyError, match="no"):
        async with two[0].lock("a"):
            raise KeyError("no")
    assert await two[1].try_lock("a")


async def test_a_block_that_is_cancelled_frees_its_lock(two: Two) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with two[0].lock("a"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await two[1].try_lock("a")


async def test_who_stops_waiting_leaves_no_lock_behind(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last try may have been granted in the store when its answer was not waited for any more."""
    one, other = two
    granted = asyncio.Event()
    lock_in_store = one.store.lock

    async def slow(*args: Any, **given: Any) -> int | None:
        fence = await lock_in_store(*args, **given)
        granted.set()
        await asyncio.sleep(5)
        return fence

    monkeypatch.setattr(one.store, "lock", slow)
    with pytest.raises(TimeoutError):
        async with one.lock("a", timeout=0.2):
            raise AssertionError("its answer never came")
    assert granted.is_set()
    assert (await held(other, "a")).held
    granted.clear()

    async def work() -> None:
        async with one.lock("b"):
            raise AssertionError("its answer never came")

    task = asyncio.create_task(work())
    await granted.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (await held(other, "b")).held


async def stolen(one: Scheduler, other: Scheduler, lock: Lock) -> Lock:
    """The lock in the hands of another, as after a pause longer than its time to live."""
    await one.store.unlock(lock.name, lock._owner)
    thief = await eventually(lambda: other.try_lock(lock.name))
    assert thief is not None
    return thief


async def test_a_block_whose_lock_was_lost_hears_of_it(two: Two) -> None:
    one, other = two

    async def block() -> None:
        async with one.lock("a", ttl=0.1) as lock:
            await stolen(one, other, lock)
            await eventually(lambda: not lock.held)
            with pytest.raises(LockLost, match="is not held"):
                _ = lock.fence

    with pytest.raises(LockLost, match="lock 'a' was lost while its block ran"):
        await block()
    assert await one.try_lock("a") is None  # the thief's was not freed


async def test_an_error_of_the_block_is_not_hidden_by_the_loss_of_its_lock(two: Two) -> None:
    one, other = two

    async def block() -> None:
        async with one.lock("a", ttl=0.1) as lock:
            await stolen(one, other, lock)
            await eventually(lambda: not lock.held)
            raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        await block()


async def test_a_lock_that_ran_out_and_was_free_again_is_lost_all_the_same(two: Two) -> None:
    one, other = two

    async def block() -> None:
        async with one.lock("a", ttl=0.1) as lock:
            thief = await stolen(one, other, lock)
            await thief.release()  # another has been in between: the renewal gets another fence
            await eventually(lambda: not lock.held)

    with pytest.raises(LockLost):
        await block()
    assert (await held(other, "a")).held  # nothing is left of the first


async def test_what_a_block_gets_after_its_loss_is_freed_at_once(two: Two) -> None:
    one, other = two

    async def block() -> None:
        async with one.lock("a") as lock:
            thief = await stolen(one, other, lock)
            await thief.release()
            assert await lock.acquire() is False
            assert await other.try_lock("a")

    with pytest.raises(LockLost):
        await block()


async def test_a_store_that_is_away_for_a_moment_costs_no_lock(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    calls = Answers(one, [StoreUnavailable("away"), StoreUncertain("no answer")])
    async with one.lock("a", ttl=0.9) as lock:
        monkeypatch.setattr(one.store, "lock", calls)
        await eventually(lambda: calls.count >= 4)
        assert lock.held
        assert await other.try_lock("a") is None


async def test_a_lock_that_is_not_held_has_no_fence(two: Two) -> None:
    lock = two[0].lock("a")
    assert not lock.held
    with pytest.raises(LockLost, match="lock 'a' is not held"):
        _ = lock.fence
    assert await lock.release() is False


@pytest.mark.parametrize("ttl", [0, -1, "60", None, True, float("nan"), 60_000_000_000_000], ids=str)
async def test_a_time_that_is_none_is_refused(ttl: Any) -> None:
    async with Scheduler("memory://") as scheduler:
        with pytest.raises(InvalidOption, match="ttl="):
            scheduler.lock("a", ttl=ttl)
        with pytest.raises(InvalidOption, match="ttl="):
            await scheduler.try_lock("a", ttl=ttl)


@pytest.mark.parametrize("name", ["", 5, None, "a\nb", "\ud800", "x" * 201], ids=ascii)
async def test_a_name_that_is_none_is_refused(name: Any) -> None:
    async with Scheduler("memory://") as scheduler:
        with pytest.raises(InvalidOption, match="lock="):
            scheduler.lock(name)


@pytest.mark.parametrize("given", [{"timeout": "5"}, {"timeout": -1}, {"on_loss": "ignore"}], ids=str)
async def test_an_option_that_is_none_is_refused(given: Any) -> None:
    async with Scheduler("memory://") as scheduler:
        with pytest.raises(InvalidOption, match=f"{next(iter(given))}="):
            scheduler.lock("a", **given)
        with pytest.raises(InvalidOption, match=f"{next(iter(given))}="):
            scheduler.semaphore("a", 2, **given)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True, 1_000_001], ids=str)
async def test_a_number_of_holders_that_is_none_is_refused(n: Any) -> None:
    async with Scheduler("memory://") as scheduler:
        with pytest.raises(InvalidOption, match="n="):
            scheduler.semaphore("a", n)
        with pytest.raises(InvalidOption, match="n="):
            await scheduler.try_semaphore("a", n)


async def test_namespaces_do_not_share_locks(redis_url: str) -> None:
    async with Scheduler(redis_url, namespace="a") as one, Scheduler(redis_url, namespace="b") as other:
        assert (await held(one, "l")).held
        assert (await held(other, "l")).held


# --- the line ----------------------------------------------------------------------------------------------------------


async def in_line(scheduler: Scheduler, name: str, owner: str = "somebody") -> None:
    """Somebody stands in the line of a lock, for longer than the test takes."""
    assert await scheduler.store.lock(name, owner, 1_000, waiting=60_000) is None


async def test_those_who_wait_have_the_lock_in_the_order_in_which_they_came(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []

    async def work(n: int) -> None:
        async with two[n % 2].lock("a"):
            order.append(n)

    first = await held(two[0], "a")
    waiting, refused = [], [Answers(scheduler, []) for scheduler in two]
    for scheduler, calls in zip(two, refused, strict=True):
        monkeypatch.setattr(scheduler.store, "lock", calls)
    for n in range(6):
        waiting.append(asyncio.create_task(work(n)))
        await eventually(lambda n=n: sum(len(calls.refused) for calls in refused) == n + 1)
    await first.release()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert order == list(range(6))


async def test_nobody_takes_a_free_lock_before_those_who_wait_for_it(two: Two) -> None:
    one, other = two
    lock = await held(one, "a")
    await in_line(other, "a")
    await lock.release()
    assert await other.try_lock("a") is None
    assert await lock.acquire() is False
    with pytest.raises(TimeoutError):
        async with one.lock("a", timeout=0.1):
            raise AssertionError("it is another's turn")
    await other.store.unlock("a", "somebody")
    assert await other.try_lock("a")


async def test_who_stops_waiting_is_in_nobodys_way(two: Two) -> None:
    one, other = two
    lock = await held(one, "a")

    async def work() -> None:
        async with other.lock("a"):
            raise AssertionError("it is held")

    task = asyncio.create_task(work())
    with pytest.raises(TimeoutError):
        async with one.lock("a", timeout=0.05):
            raise AssertionError("it is held")
    task.cancel()
    await asyncio.wait([task])
    await lock.release()
    assert await other.try_lock("a")


async def test_who_waits_is_called_where_the_store_calls(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    if not isinstance(one.store, Calling):
        return
    monkeypatch.setattr(locks, "CALLED_PAUSE", 60.0)  # who is not called comes too late
    lock = await held(one, "a")
    calls = Answers(other, [])
    monkeypatch.setattr(other.store, "lock", calls)

    async def work() -> None:
        async with other.lock("a"):
            pass

    waiting = asyncio.create_task(work())
    await eventually(lambda: calls.count >= 2)
    await lock.release()
    await asyncio.wait_for(waiting, 10)


async def test_who_may_not_listen_asks_from_time_to_time(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    if not isinstance(one.store, Calling):
        return

    def called(name: str, owner: str) -> Any:
        raise StoreRefused("no rights on channels")

    monkeypatch.setattr(other.store, "called", called)
    monkeypatch.setattr(locks, "CALLED_PAUSE", 60.0)
    lock = await held(one, "a")

    async def work() -> None:
        async with other.lock("a"):
            pass

    waiting = asyncio.create_task(work())
    await asyncio.wait([waiting], timeout=0.05)
    await lock.release()
    await asyncio.wait_for(waiting, 10)


def test_who_waits_asks_ten_times_a_second_and_is_not_late() -> None:
    """In virtual time, over a store that calls nobody."""
    late: list[float] = []

    async def course(cluster: Cluster) -> None:
        holder, waiter = await cluster.client(), await cluster.client()

        async def work() -> None:
            async with waiter.lock("a"):
                late.append(cluster.loop.now - released)

        for _ in range(20):
            lock = await held(holder, "a")
            before = len(cluster.seen)
            waiting = asyncio.create_task(work())
            await asyncio.sleep(10)
            assert 50 <= sum(call.verb == "lock" for call in cluster.seen[before:]) <= 120
            released = cluster.loop.now
            await lock.release()
            await waiting

    played(course)
    assert len(late) == 20
    assert max(late) < 0.2
    assert sum(late) / len(late) < 0.1


def test_a_process_that_dies_in_the_line_is_in_the_way_for_three_seconds_at_most() -> None:
    async def course(cluster: Cluster) -> None:
        holder, waiter = await cluster.client(), await cluster.client()
        lock = await held(holder, "a")
        dead = await cluster.client(mishap=lambda seat, verb: "after" if verb == "lock" else None)
        died = asyncio.create_task(dead.lock("a").__aenter__())
        await asyncio.sleep(0.5)
        await lock.release()
        begun = cluster.loop.now
        async with waiter.lock("a"):
            assert 2 < cluster.loop.now - begun < 3
        died.cancel()
        await asyncio.wait([died])

    played(course)


# --- semaphores --------------------------------------------------------------------------------------------------------


async def test_a_semaphore_has_so_many_holders(two: Two) -> None:
    inside, most, fences = 0, 0, []

    async def work(scheduler: Scheduler) -> None:
        nonlocal inside, most
        async with scheduler.semaphore("a", 3) as semaphore:
            inside += 1
            most = max(most, inside)
            fences.append(semaphore.fence)
            await asyncio.sleep(0.03)
            inside -= 1

    async with asyncio.timeout(20):
        await asyncio.gather(*(work(two[n % 2]) for n in range(12)))
    assert most == 3
    assert len(set(fences)) == 12


async def test_a_semaphore_is_tried_as_a_lock_is(two: Two) -> None:
    one, other = two
    first, second = await one.try_semaphore("a", 2), await other.try_semaphore("a", 2)
    assert isinstance(first, Semaphore)
    assert isinstance(second, Semaphore)
    assert first.ttl == 86_400
    assert second.fence > first.fence
    assert await one.try_semaphore("a", 2) is None
    assert await one.try_lock("a") is None  # a lock is a semaphore of one
    with pytest.raises(TimeoutError, match=r"semaphore 'a' was not free within 0\.05 s"):
        async with other.semaphore("a", 2, timeout=0.05):
            raise AssertionError("it is held")
    assert await first.release() is True
    assert await first.release() is False
    assert await one.try_lock("a") is None
    third = await one.try_semaphore("a", 2)
    assert third is not None
    assert third.fence > second.fence


async def test_a_place_of_a_semaphore_that_was_lost_is_reported(two: Two) -> None:
    one, _ = two

    async def block() -> None:
        async with one.semaphore("a", 2, ttl=0.1) as semaphore:
            await one.store.unlock("a", semaphore._owner)
            await eventually(lambda: not semaphore.held)

    with pytest.raises(LockLost, match="semaphore 'a' was lost while its block ran"):
        await block()


# --- loss --------------------------------------------------------------------------------------------------------------


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def until_lost(one: Scheduler, other: Scheduler, lock: Lock) -> None:
    await stolen(one, other, lock)
    await asyncio.Event().wait()


async def test_a_block_whose_lock_was_lost_is_cancelled_if_that_was_asked_for(two: Two) -> None:
    one, other = two
    with pytest.raises(LockLost, match="lock 'a' was lost while its block ran") as raised:
        async with asyncio.timeout(10), one.lock("a", ttl=0.3, on_loss="cancel") as lock:
            await until_lost(one, other, lock)
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    assert cancelling() == 0
    await asyncio.sleep(0)  # nothing is left of the cancellation
    assert await one.try_lock("a") is None  # the thief's was not freed


async def test_a_block_that_goes_on_after_its_cancellation_ends_with_the_loss(two: Two) -> None:
    one, other = two

    async def block() -> None:
        async with asyncio.timeout(10), one.lock("a", ttl=0.3, on_loss="cancel") as lock:
            with pytest.raises(asyncio.CancelledError):
                await until_lost(one, other, lock)
            assert cancelling() == 1

    with pytest.raises(LockLost):
        await block()
    assert cancelling() == 0


async def test_a_block_that_fails_while_it_is_cancelled_for_a_loss_ends_with_its_error(two: Two) -> None:
    one, other = two

    async def block() -> None:
        async with asyncio.timeout(10), one.lock("a", ttl=0.3, on_loss="cancel") as lock:
            try:
                await until_lost(one, other, lock)
            finally:
                raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        await block()
    assert cancelling() == 0


async def test_who_is_cancelled_by_another_too_ends_cancelled(two: Two) -> None:
    one, other = two

    async def work() -> None:
        async with one.lock("a", ttl=0.3, on_loss="cancel") as lock:
            try:
                await until_lost(one, other, lock)
            finally:
                task.cancel()

    task = asyncio.create_task(work())
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()


async def test_a_cancellation_from_outside_is_none_for_a_loss(two: Two) -> None:
    """A block whose lock is held, or whose loss was to be reported."""
    one, other = two
    begun = asyncio.Event()

    async def work(is_lost: bool) -> None:
        async with one.lock("a", ttl=0.3 if is_lost else 60, on_loss="report" if is_lost else "cancel") as lock:
            if is_lost:
                thief = await stolen(one, other, lock)
                await eventually(lambda: not lock.held)
                await thief.release()
            begun.set()
            await asyncio.Event().wait()

    for is_lost in (False, True):
        task = asyncio.create_task(work(is_lost))
        await begun.wait()
        begun.clear()
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()


async def test_a_lock_counts_as_lost_when_its_time_passed_without_a_renewal(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the store says that it is away, or says nothing."""
    one, _ = two

    async def away(*args: Any, **given: Any) -> int | None:
        raise StoreUnavailable("away")

    async def silent(*args: Any, **given: Any) -> int | None:
        await asyncio.Event().wait()
        return None

    async def block(lock: Lock, answer: Any) -> None:
        with monkeypatch.context() as patch:
            async with asyncio.timeout(10), lock:
                patch.setattr(one.store, "lock", answer)
                await asyncio.Event().wait()

    for name, answer in (("a", away), ("b", silent)):
        lock = one.lock(name, ttl=0.2, on_loss="cancel")
        with pytest.raises(LockLost):
            await block(lock, answer)
        assert not lock.held


async def test_a_holder_that_stood_still_for_too_long_knows_that_it_has_lost() -> None:
    """By its own clock, before anything else ran."""
    clock = ManualClock()

    async def block() -> None:
        async with Scheduler("memory://", clock=clock) as scheduler, scheduler.lock("a", ttl=10) as lock:
            clock.advance(9.999)
            assert lock.held
            clock.advance(0.001)
            assert not lock.held
            with pytest.raises(LockLost, match="is not held"):
                _ = lock.fence

    with pytest.raises(LockLost, match="was lost while its block ran"):
        await block()


async def test_the_time_of_a_lock_counts_from_before_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    async with Scheduler("memory://", clock=clock) as scheduler:
        lock_in_store = scheduler.store.lock

        async def slow(*args: Any, **given: Any) -> int | None:
            fence = await lock_in_store(*args, **given)
            clock.advance(6)
            return fence

        monkeypatch.setattr(scheduler.store, "lock", slow)
        lock = await held(scheduler, "a", ttl=10)
        clock.advance(3.999)
        assert lock.held
        clock.advance(0.001)
        assert not lock.held


async def test_a_store_that_is_away_at_the_end_of_a_block_hides_nothing(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any) -> bool:
        raise StoreUnavailable("away")

    monkeypatch.setattr(two[0].store, "unlock", away)
    async with two[0].lock("a") as lock:
        pass  # its time frees it
    assert not lock.held
    with pytest.raises(KeyError, match="own"):
        async with two[0].lock("b"):
            raise KeyError("own")


# --- answers that are lost ---------------------------------------------------------------------------------------------

LOST = StoreUncertain("no answer")


async def test_a_try_whose_answer_was_lost_is_made_again(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    monkeypatch.setattr(locks, "REPEATS", (0.001, 0.001, 0.001))
    calls = Answers(one, [LOST, StoreUnavailable("away"), LOST])
    monkeypatch.setattr(one.store, "lock", calls)
    lock = await held(one, "a")
    assert calls.count == 4
    assert await other.try_lock("a") is None
    assert await lock.release() is True
    calls.faults, calls.count = [LOST], 0
    async with one.lock("a", timeout=10):
        assert calls.count == 2


async def test_a_try_whose_answer_never_comes_leaves_no_lock_behind(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    monkeypatch.setattr(locks, "REPEATS", (0.001, 0.001))
    calls = Answers(one, [LOST, LOST, StoreUnavailable("away")])
    monkeypatch.setattr(one.store, "lock", calls)
    with pytest.raises(StoreUncertain):
        await one.try_lock("a")
    assert calls.count == 3
    assert await other.try_lock("a")


async def test_tries_whose_answers_come_late_are_not_repeated_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    async with Scheduler("memory://", clock=clock) as scheduler:
        tries = 0

        async def late(*args: Any, **given: Any) -> int | None:
            nonlocal tries
            tries += 1
            clock.advance(3)
            raise LOST

        monkeypatch.setattr(scheduler.store, "lock", late)
        with pytest.raises(StoreUncertain):
            await scheduler.try_lock("a")
        assert tries == 2


async def test_a_try_that_was_not_sent_fails_at_once(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Answers(two[0], [StoreUnavailable("away")])
    monkeypatch.setattr(two[0].store, "lock", calls)
    with pytest.raises(StoreUnavailable):
        await two[0].try_lock("a")
    assert calls.count == 1


async def test_a_try_that_is_cancelled_leaves_no_lock_behind(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    lock_in_store, granted = one.store.lock, asyncio.Event()

    async def slow(*args: Any, **given: Any) -> int | None:
        await lock_in_store(*args, **given)
        granted.set()
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(one.store, "lock", slow)
    task = asyncio.create_task(one.try_lock("a"))
    await granted.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await other.try_lock("a")


async def test_an_extension_that_fails_leaves_the_lock_held(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    lock = await held(one, "a")
    monkeypatch.setattr(one.store, "lock", Answers(one, [StoreUnavailable("away")]))
    with pytest.raises(StoreUnavailable):
        await lock.acquire()
    assert lock.held
    assert await other.try_lock("a") is None


# --- blocks ------------------------------------------------------------------------------------------------------------


async def test_a_lock_that_was_tried_is_renewed_in_a_block_and_freed_at_its_end(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    lock = await held(one, "a", ttl=0.6)
    fence, calls = lock.fence, Answers(one, [])
    monkeypatch.setattr(one.store, "lock", calls)
    async with lock:
        assert calls.count == 0  # it was not acquired again
        await eventually(lambda: calls.count >= 4)  # longer than its time to live
        assert lock.fence == fence
        assert await other.try_lock("a") is None
    assert not lock.held
    assert await other.try_lock("a")


async def test_a_lock_has_one_block_at_a_time(two: Two) -> None:
    lock = two[0].lock("a")
    async with lock:
        with pytest.raises(ConfigurationError, match="lock 'a' has a block already"):
            async with lock:
                raise AssertionError("two blocks would both hold it")
        assert lock.held
    async with lock:  # one after the other
        assert lock.held


async def test_a_lock_that_was_released_in_its_block_was_not_lost(two: Two) -> None:
    async with two[0].lock("a", on_loss="cancel") as lock:
        assert await lock.release() is True
        assert not lock.held
        assert await two[1].try_lock("a")
    assert await two[1].try_lock("a") is None


# --- the page ----------------------------------------------------------------------------------------------------------


async def test_what_the_page_about_locks_shows_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parent.parent / "docs" / "locks.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("DULY_URL", f"sqlite:///{tmp_path}/duly.db")
    shown: dict[str, Any] = {}
    exec("\n".join(blocks), shown)
    scheduler, database = shown["scheduler"], shown["database"]
    async with scheduler:
        for name in ("nightly", "careful", "call_partner"):
            await shown[name]()
        await shown["refresh"](1)
        text, fence = database.execute("SELECT text, fence FROM report").fetchone()
        assert (text, fence > 0) == ("all is well", True)
        with pytest.raises(RuntimeError, match="somebody with a later lock"):
            await shown["write_report"]("late", fence - 1)
        await asyncio.to_thread(shown["from_a_thread"])
        assert int(capsys.readouterr().out) > fence
    scheduler.sync.close()
    database.close()
