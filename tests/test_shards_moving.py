"""What processes see of jobs and schedules while, and after, others bring them to other shards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from duly import Fail, JobHandle, Scheduler, Unique, every
from duly.core.shards import Place, Spread, slot_of_key
from duly.errors import ScheduleConflict, StoreError, StoreUnavailable, StoreUncertain
from duly.stores.base import NewSchedule, Page
from duly.stores.capabilities import Mapped, Movable
from duly.stores.moving import Mover, change_map, move_all
from tests.schedulers import running
from tests.waiting import eventually

FORMER = Place("default")
FOUR = Spread("default", 1, 4)
GOING = [name for name in (f"s{i}" for i in range(40)) if FOUR.place(slot_of_key(name)) != FORMER]
"""Names, of keys and of schedules, that belong elsewhere when `default` has four partitions."""
HOUR, DAY = every(seconds=3600), every(seconds=86_400)


def declare(scheduler: Scheduler) -> Scheduler:
    @scheduler.task
    async def note(value: object) -> None: ...

    return scheduler


@pytest.fixture
async def one(redis_url: str) -> AsyncIterator[Scheduler]:
    async with declare(Scheduler(redis_url, push_timeout=2)) as scheduler:
        yield scheduler


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Scheduler]:
    """Another process."""
    async with declare(Scheduler(redis_url)) as scheduler:
        yield scheduler


async def remap(scheduler: Scheduler) -> Mover:
    """The map has changed, and nothing has moved yet."""
    await change_map(scheduler.shards, 1, {"default": 4})
    await scheduler.shards.refresh()
    return Mover(scheduler.shards)


async def rebalance(scheduler: Scheduler) -> None:
    await remap(scheduler)
    assert await move_all(scheduler.shards, 3_600_000) == 0


def movable(scheduler: Scheduler, place: Place) -> Movable:
    shard = scheduler.shards.at(place)
    assert isinstance(shard, Movable)
    return shard


def home_of(name: str) -> Place:
    return FOUR.place(slot_of_key(name))


async def copies(scheduler: Scheduler, id: str) -> list[Place]:
    """Where a schedule is kept."""
    found = {place: await scheduler.shards.at(place).schedules([id], "", 1) for place in FOUR.places}
    return [place for place, page in found.items() if page.items[0] is not None]


def before_its_put(scheduler: Scheduler, event: Callable[[], Awaitable[Any]]) -> None:
    """Something happens after the next look at the former place, and before what is put there."""
    shard = scheduler.shards.at(FORMER)

    async def late(new: NewSchedule) -> tuple[str, int]:
        patch.undo()
        await event()
        return await shard.put(new)

    patch = pytest.MonkeyPatch()
    patch.setattr(shard, "put", late)


# --- edits while schedules are moved ----------------------------------------------------------------------------------


async def test_a_schedule_that_leaves_while_it_is_edited_is_edited_where_it_went(one: Scheduler) -> None:
    await one.schedules.put(id := GOING[0], HOUR, "note", args=(1,))
    mover = await remap(one)
    before_its_put(one, lambda: mover.move(FORMER, home_of(id), "schedules", [id]))
    assert await one.schedules.put(id, DAY, "note", args=(1,)) is False
    assert await copies(one, id) == [home_of(id)]
    view = await one.schedules.get(id)
    assert view is not None
    assert (view.trigger, view.revision) == (DAY, 2)


async def test_a_schedule_on_its_way_is_edited_where_it_arrives(one: Scheduler) -> None:
    await one.schedules.put(id := GOING[0], HOUR, "note", args=(1,))
    await remap(one)
    assert await movable(one, FORMER).depart(home_of(id).name, "another", schedules=[id])
    assert await one.schedules.put(id, HOUR, "note", args=(1,)) is False  # equal: it need not be fired first
    assert await copies(one, id) == [home_of(id)]
    view = await one.schedules.get(id)
    assert view is not None
    assert view.revision == 1


@pytest.mark.parametrize("revision", [None, 2])
async def test_an_edit_where_it_still_lies_sees_one_that_came_just_before(one: Scheduler, revision: int | None) -> None:
    await one.schedules.put(id := GOING[0], HOUR, "note", args=(1,))
    await remap(one)
    await one.schedules.put(id, HOUR, "note", args=(2,))
    before_its_put(one, lambda: one.schedules.put(id, HOUR, "note", args=(3,)))
    if revision is None:
        assert await one.schedules.put(id, DAY, "note", args=(4,)) is False
    else:
        with pytest.raises(ScheduleConflict):
            await one.schedules.put(id, DAY, "note", args=(4,), revision=revision)
    view = await one.schedules.get(id)
    assert view is not None
    assert (view.trigger, view.revision) == ((DAY, 4) if revision is None else (HOUR, 3))
    assert await copies(one, id) == [FORMER]


async def test_what_is_due_of_a_schedule_that_has_not_moved_is_fired_where_it_lies(one: Scheduler) -> None:
    await one.schedules.put(id := GOING[0], every(seconds=3600, start="now"), "note", args=(1,))
    await remap(one)
    async with asyncio.timeout(10):
        assert await one.schedules.put(id, DAY, "note", args=(1,)) is False
    view = await one.schedules.get(id)
    assert view is not None
    assert (view.trigger, view.fired) == (DAY, 1)
    assert await copies(one, id) == [FORMER]


async def test_an_edit_before_which_others_always_fire_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with declare(Scheduler("memory://", push_timeout=0.1)) as scheduler:
        await scheduler.schedules.put("s", every(seconds=3600, start="now"), "note", args=(1,))

        async def fire(*_: object) -> list[str]:
            return ["stale"]

        monkeypatch.setattr(scheduler.store.shard("default"), "fire", fire)
        with pytest.raises(StoreUnavailable, match="schedule 's' is not put: others fire or move it; put it again"):
            await scheduler.schedules.put("s", DAY, "note", args=(1,))


async def test_an_edit_of_a_schedule_that_was_removed_is_a_conflict() -> None:
    async with declare(Scheduler("memory://")) as scheduler:
        await scheduler.schedules.put("s", HOUR, "note", args=(1,))
        await scheduler.schedules.remove("s")
        with pytest.raises(ScheduleConflict, match="'s' is gone, not at revision 1: read it again"):
            await scheduler.schedules.put("s", DAY, "note", args=(1,), revision=1)
        assert await scheduler.schedules.get("s") is None


# --- processes that did not hear of it --------------------------------------------------------------------------------


VERBS: dict[str, tuple[Callable[[Scheduler, str], Awaitable[Any]], object]] = {
    "status": (lambda one, id: JobHandle[Any](one, "default", id, "created", None).status(), "pending"),
    "cancel some": (lambda one, id: one.jobs.cancel(id, "nobody"), ["cancelled", "unknown"]),
    "remove a schedule": (lambda one, id: one.schedules.remove(id), True),
    "pause a schedule": (lambda one, id: one.schedules.pause(id), True),
    "resume a schedule": (lambda one, id: one.schedules.resume(id), True),
    "trigger a schedule": (lambda one, id: _starts_with(one.schedules.trigger(id), id), True),
}


async def _starts_with(text: Awaitable[str], start: str) -> bool:
    return (await text).startswith(start)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_process_without_a_node_finds_what_another_has_moved(
    one: Scheduler, other: Scheduler, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.stores.whole.FRESH", 0.0)
    await one.push("note", 1, id=GOING[0], delay=3600)
    await one.schedules.put(GOING[0], HOUR, "note", args=(1,))
    await rebalance(other)
    call, expected = VERBS[verb]
    assert await call(one, GOING[0]) == expected
    assert one.shards.map.epoch == 1


async def test_dead_jobs_are_deleted_by_their_ids_wherever_they_lie(one: Scheduler) -> None:
    @one.task
    async def fails() -> None:
        raise Fail("no")

    await rebalance(one)
    async with running(one):
        ids = [(await fails.push()).id for _ in range(20)]

        async def all_dead() -> bool:
            return (await one.queues.sizes()).dead == 20

        await eventually(all_dead)
        assert await one.jobs.delete(*ids) == 20
        assert (await one.queues.sizes()).dead == 0


async def test_who_waits_for_a_result_waits_on_when_its_job_has_moved(one: Scheduler, other: Scheduler) -> None:
    ids = GOING[:8]
    jobs = [await one.push("note", id, id=id, delay=3600, keep_result=True) for id in ids]
    await rebalance(other)
    found = await asyncio.gather(*(job._look(0.0) for job in jobs))  # each at once, though the map was just read
    assert found == [None] * 8
    assert one.shards.map.epoch == 1
    assert [await job.status() for job in jobs] == ["pending"] * 8


async def test_a_process_that_does_not_push_puts_schedules_by_the_present_map(one: Scheduler, other: Scheduler) -> None:
    names = GOING[:3]
    await one.schedules.put(names[0], HOUR, "note", args=(1,))
    await rebalance(other)
    assert [await one.schedules.put(name, DAY, "note", args=(1,)) for name in names] == [False, True, True]
    assert [await copies(one, name) for name in names] == [[home_of(name)] for name in names]


async def test_a_schedule_is_put_when_the_change_that_it_waits_for_is_published(redis_url: str) -> None:
    async with declare(Scheduler(redis_url, push_timeout=0.2)) as scheduler:
        await scheduler.push("note", 1, delay=3600)
        await movable(scheduler, FORMER).remapped(1)
        with pytest.raises(StoreUnavailable, match=r"'s' is not put: .*the map of shards is at epoch 1, not 0"):
            await scheduler.schedules.put("s", HOUR, "note", args=(1,))
        await change_map(scheduler.shards, 1, {"default": 4})
        assert await scheduler.schedules.put("s", HOUR, "note", args=(1,))


async def test_a_queue_is_paused_and_counted_in_the_shards_that_it_has_now(one: Scheduler, other: Scheduler) -> None:
    await one.push_many(one.request("note", i, delay=3600) for i in range(40))
    await rebalance(other)
    await one.queues.pause()
    assert [(await other.shards.at(place).sizes()).paused for place in FOUR.places] == [True] * 4
    assert (await one.queues.sizes()).pending == 40


async def test_many_ids_that_are_unknown_cost_one_look_at_the_map(
    one: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looks = one.shards.store, 0
    assert isinstance(store, Mapped)
    shard_map = store.shard_map

    async def counted(queue: str, partitions: int, servers: int = 0) -> bytes | None:
        nonlocal looks
        looks += 1
        return await shard_map(queue, partitions, servers)

    monkeypatch.setattr(store, "shard_map", counted)
    for number in (0, 1):
        one.shards._read_at = float("-inf") if number else one.shards._read_at  # as after a long time
        assert await one.jobs.cancel("a", "b", "c") == ["unknown"] * 3
        await asyncio.gather(*(one.jobs.get(f"nobody{i}") for i in range(20)))
        assert looks == number


# --- keys and ids on their way ----------------------------------------------------------------------------------------


async def test_a_key_that_is_free_from_the_start_on_is_held_while_its_job_is_on_its_way(one: Scheduler) -> None:
    unique = Unique(key=GOING[0], until="start")
    first = await one.push("note", 1, delay=3600, unique=unique)
    await remap(one)
    assert await movable(one, FORMER).depart(home_of(GOING[0]).name, "another", [first.id])
    assert await movable(one, FORMER).holder(GOING[0]) == ("leased", first.id)
    again = await one.push("note", 1, delay=3600, unique=unique)
    assert (again.answer, again.id) == ("pending", first.id)
    assert (await one.queues.sizes()).pending == 1


async def test_a_job_that_is_pushed_again_by_its_id_takes_its_key_nowhere(one: Scheduler) -> None:
    ids = [f"id{i}" for i in range(10)]
    for id, key in zip(ids, GOING, strict=False):
        await one.push("note", 1, id=id, unique=key, delay=3600)
    await remap(one)
    assert [(await one.push("note", 1, id=id, delay=3600)).answer for id in ids] == ["pending"] * 10
    again = [await one.push("note", 2, unique=key, delay=3600) for key in GOING[:10]]
    assert [(job.answer, job.id) for job in again] == [("pending", id) for id in ids]


async def test_a_job_is_replaced_while_its_queue_is_moved(one: Scheduler) -> None:
    for id in GOING[:4]:
        await one.push("note", 1, id=id, delay=3600)
    await remap(one)
    for id in GOING[:4]:
        assert (await one.push("note", 2, id=id, delay=3600, replace=True)).answer == "pending"
        view = await one.jobs.get(id)
        assert view is not None
        assert view.args == [2]
        assert (await one.shards.at(home_of(id)).get([id]))[0] is not None
    assert (await one.queues.sizes()).pending == 4


async def test_a_cancel_on_its_way_outlives_who_brings_it(one: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [await one.push("note", n, unique=Unique(key=name), delay=3600) for n, name in enumerate(GOING)]
    home = home_of(GOING[0])
    mover = await remap(one)
    assert await movable(one, FORMER).depart(home.name, "mover", [jobs[0].id]) is not None
    assert await jobs[0].cancel() == "asked"

    async def dies(ids: object) -> None:
        raise KeyError("the mover died")

    with monkeypatch.context() as patch:
        patch.setattr(one.shards.at(home), "cancel", dies)
        with pytest.raises(KeyError):
            await mover.finish(FORMER)
    assert await move_all(one.shards, 3_600_000) == 0
    assert await jobs[0].status() == "ended"
    assert {await job.status() for job in jobs[1:]} == {"pending"}


@pytest.mark.parametrize("fault", [StoreUnavailable, StoreUncertain])
async def test_a_push_by_id_waits_for_the_server_that_may_know_it_from_before(
    one: Scheduler, fault: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await one.push("note", 1, id=GOING[0], delay=3600)
    await remap(one)
    shard, failures = one.shards.at(FORMER), 3
    get = shard.get

    async def away(ids: Sequence[str]) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise fault("it is away")
        return await get(ids)

    monkeypatch.setattr(shard, "get", away)
    assert (await one.push("note", 1, id=known.id)).answer == "pending"
    failures = 1_000
    with pytest.raises(StoreUnavailable, match="it is away"):
        await one.push("note", 1, id=GOING[1])


async def pending_ids(scheduler: Scheduler) -> set[str]:
    found, cursor = await scheduler.jobs.list()
    while cursor:
        page, cursor = await scheduler.jobs.list(cursor=cursor)
        found = [*found, *page]
    return {job.id for job in found}


async def test_walks_begin_with_the_shards_that_there_are_and_end_when_there_are_fewer(
    one: Scheduler, other: Scheduler
) -> None:
    ids = {(await one.push("note", n, delay=3600)).id for n in range(60)}
    await rebalance(one)
    assert await pending_ids(other) == ids
    shard = one.shard("default")
    page = await shard.list("pending", "", 5)
    while page.cursor.split(" ")[0] != "3":
        page = await shard.list("pending", page.cursor, 5)
    past = await other.shard("default").history("history", "", 5)
    await change_map(one.shards, 1, {"default": 1})
    assert await move_all(one.shards, 0) == 0
    assert await move_all(one.shards, 0) == 0
    fewer = one.shard("default")
    assert (await fewer.list("pending", page.cursor, 5)) == Page([])
    assert await fewer.clear(page.cursor, None, 5) == (0, "", 0)
    assert await fewer.reconcile(page.cursor, 5) == ("", {})
    assert (await fewer.history("history", past.cursor, 5)).items
