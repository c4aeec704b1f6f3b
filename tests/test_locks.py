"""Locks of the whole cluster: one holder at a time, a fence that grows, an end that comes by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from duly import Lock, LockLost, Scheduler
from duly.errors import InvalidOption, StoreUnavailable
from tests.schedulers import shared
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
    first = await held(two[0], "a", ttl=0.02)
    second = await eventually(lambda: two[1].try_lock("a"))
    assert second is not None
    assert second.fence > first.fence


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

    async def slow(*args: Any) -> int | None:
        fence = await lock_in_store(*args)
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
    assert await one.store.unlock(lock.name, lock._owner)
    return await held(other, lock.name)


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


async def test_a_store_that_is_away_for_a_moment_costs_no_lock(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    lock_in_store, failed = one.store.lock, 0

    async def failing(*args: Any) -> int | None:
        nonlocal failed
        failed += 1
        if failed in (1, 2):
            raise StoreUnavailable("away")
        return await lock_in_store(*args)

    async with one.lock("a", ttl=1) as lock:
        monkeypatch.setattr(one.store, "lock", failing)
        lock.ttl = 0.3  # renew sooner
        await eventually(lambda: failed >= 4)
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


async def test_namespaces_do_not_share_locks(redis_url: str) -> None:
    async with Scheduler(redis_url, namespace="a") as one, Scheduler(redis_url, namespace="b") as other:
        assert (await held(one, "l")).held
        assert (await held(other, "l")).held
