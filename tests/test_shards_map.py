"""The map of shards changes, or is not what a process thought: nothing is lost, left behind, or stopped for good."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import pytest

from duly import Context, JobHandle, Scheduler, Unique
from duly.core.shards import Place, Spread, slot_of
from duly.errors import ConfigurationError, PushFailed, StoreError, StoreUnavailable
from duly.stores.base import Shard
from duly.stores.moving import Mover, change_map, move_all
from tests.conftest import StartServer
from tests.schedulers import running
from tests.servers import Server
from tests.waiting import eventually

HOUR_MS = 3_600_000
RAN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


def declare(scheduler: Scheduler) -> Scheduler:
    @scheduler.task
    async def note(value: object) -> None:
        RAN.append(value)

    return scheduler


@pytest.fixture
def three(start_server: StartServer) -> list[Server]:
    return [start_server("redis") for _ in range(3)]


async def push_where_it_can(scheduler: Scheduler, away: int, count: int = 12) -> int:
    """Pushes to all servers but one; how many were answered."""
    requests = [scheduler.request("note", n) for n in range(count)]
    there = [each for each in requests if scheduler.shards.place_of_job("default", each.new).server != away]
    answers = await asyncio.gather(*(scheduler.push_request(each) for each in there), return_exceptions=True)
    assert all(isinstance(answer, StoreError) for answer in answers if isinstance(answer, BaseException))
    return sum(not isinstance(answer, BaseException) for answer in answers)


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_a_server_that_is_away_holds_no_slot_of_a_node(start_server: StartServer, concurrency: int) -> None:
    servers = [start_server("redis") for _ in range(2)]
    scheduler = Scheduler([server.url for server in servers], concurrency=concurrency, lease=2, push_timeout=0.3)
    scheduler.queue("default", partitions=3)
    async with running(declare(scheduler)):
        await scheduler.push("note", -1)
        await eventually(lambda: RAN == [-1])
        servers[1].kill()
        node = scheduler._node
        assert node is not None
        lines = [line for line in node.worker.lines if line.place.server == 1]
        await eventually(lambda: all(line._unheard for line in lines))
        count = await push_where_it_can(scheduler, 1, 30)
        await eventually(lambda: len(RAN) == count + 1)
        servers[1].start()
        await scheduler.push_many(scheduler.request("note", n) for n in range(30))
        await eventually(lambda: len(RAN) == count + 31)


async def test_a_process_that_knew_less_of_a_queue_pushes_to_where_its_jobs_belong(redis_url: str) -> None:
    early, later = declare(Scheduler(redis_url)), declare(Scheduler(redis_url))
    later.queue("default", partitions=6)
    ids = [f"receipt:{n}" for n in range(12)]
    async with early, later:
        await later.push("note", "first")
        await asyncio.gather(*(early.push("note", id, id=id) for id in ids))
        answers = [(await later.push("note", id, id=id)).answer for id in ids]
        assert answers == ["pending"] * len(ids)
        places = [place for place in later.shards.places("default") if (await later.shards.at(place).sizes()).pending]
        assert len(places) > 1


async def test_a_source_that_has_forgotten_its_last_batches_loses_no_later_one(start_server: StartServer) -> None:
    """As after a failover to a replica that lagged, or a restart from a snapshot."""
    source, target = start_server("redis"), start_server("redis")
    async with declare(Scheduler(source.url)) as alone:
        ids = [(await alone.push("note", n, delay=3600)).id for n in range(60)]
    scheduler, home = Scheduler([source.url, target.url]), Place("default", 0, 1)
    await scheduler.store.connect()
    await change_map(scheduler.shards, 2, {})
    await scheduler.shards.refresh()
    mover = Mover(scheduler.shards)
    going = [id for id in ids if scheduler.shards.spread("default").place(slot_of(id)) == home]
    await mover.move(Place("default"), home, "jobs", going[:1])
    with source.client() as client:
        client.save()
    await mover.move(Place("default"), home, "jobs", going[1:5])
    source.kill()
    source.start()
    await eventually(lambda: _answers(scheduler))
    await mover.move(Place("default"), home, "jobs", going[5:])
    assert None not in await scheduler.shards.at(home).get(going)
    await scheduler.store.close()


async def _answers(scheduler: Scheduler) -> bool:
    try:
        await scheduler.shards.at(Place("default")).sizes()
    except StoreError:
        return False
    return True


async def test_a_queue_stays_paused_and_limited_when_it_is_spread(redis_url: str) -> None:
    async with declare(Scheduler(redis_url)) as scheduler:
        await scheduler.push_many(scheduler.request("note", n) for n in range(40))
        await scheduler.queues.pause("default")
        await scheduler.queues.limit("default", 6)
        await change_map(scheduler.shards, 1, {"default": 4})
        assert await move_all(scheduler.shards, HOUR_MS) == 0
        sizes = await scheduler.queues.sizes()
        assert (sizes.paused, sizes.limit, sizes.pending) == (True, 6, 40)
        await scheduler.queues.limit("default", 4)
        with pytest.raises(
            ConfigurationError, match="the limit of queue 'default' is 4, and 5 shards cannot divide it"
        ):
            await change_map(scheduler.shards, 1, {"default": 5})
        await scheduler.push("note", 41)


async def test_while_a_server_is_away_a_change_is_refused_and_pushes_to_the_others_go_on(three: list[Server]) -> None:
    async with declare(Scheduler([server.url for server in three], push_timeout=0.3)) as scheduler:
        await scheduler.push_many(scheduler.request("note", n) for n in range(20))
        three[2].kill()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=three[2].url):
                await change_map(scheduler.shards, 2, {})
            assert await push_where_it_can(scheduler, 2) > 0


async def test_a_shorter_list_leaves_no_server_behind(three: list[Server]) -> None:
    urls = [server.url for server in three]
    async with declare(Scheduler(urls)) as scheduler:
        await scheduler.push("note", 1)
    shorter = Scheduler(urls[:2])
    await shorter.store.connect()
    with pytest.raises(ConfigurationError, match=r"has 2 server\(s\), the shard map 3.*list them all"):
        await change_map(shorter.shards, 2, {})
    await shorter.store.close()


async def test_another_order_of_the_list_or_another_master_is_refused(three: list[Server]) -> None:
    urls = [server.url for server in three]
    async with declare(Scheduler(urls)) as scheduler:
        await scheduler.push("note", 1)
        for other, master in (([0, 2, 1], 0), ([1, 0, 2], 0), ([1, 0, 2], 1), ([0, 1, 2], 1)):
            wrong = Scheduler([urls[n] for n in other], master=master)
            with pytest.raises(ConfigurationError, match="give every process the same list, in the same order"):
                await wrong.start()
        async with Scheduler(urls) as same:
            await same.push("note", 2, remote=True)


async def test_a_server_that_was_away_is_asked_for_its_number_when_it_is_back(
    three: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.stores.several.ASK_AGAIN", 0.0)
    urls = [server.url for server in three]
    async with declare(Scheduler(urls)) as scheduler:
        await scheduler.push("note", 1)
    three[2].kill()
    three[1].kill()
    wrong = declare(Scheduler([urls[0], urls[2], urls[1]], push_timeout=0.2))
    async with wrong:
        await wrong.shards.refresh()
        for server in three[1:]:
            server.start()
        store = wrong.shards.at(Place("default", 0, 1))
        with_numbers = Scheduler(urls)
        async with with_numbers:  # the servers kept nothing on disk: they are numbered anew
            await with_numbers.shards.refresh()
        await eventually(lambda: _has_an_answer(store))
        with pytest.raises(ConfigurationError, match="in the same order"):
            await wrong.shards.refresh()


async def _has_an_answer(shard: Shard) -> bool:
    try:
        await shard.sizes()
    except StoreError:
        return False
    return True


async def test_a_change_that_is_made_while_another_is_finished_is_not_taken_for_it(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with declare(Scheduler(redis_url)) as one, declare(Scheduler(redis_url)) as other:
        await one.push_many(one.request("note", n, delay=3600) for n in range(60))
        await change_map(one.shards, 1, {"default": 2})
        assert await move_all(one.shards, HOUR_MS) == 0
        refresh = one.shards.refresh

        async def slow() -> bool:
            found = await refresh()
            monkeypatch.undo()
            await change_map(other.shards, 1, {"default": 6})  # between the two reads of the map
            return found

        monkeypatch.setattr(one.shards, "refresh", slow)
        assert await move_all(one.shards, HOUR_MS) > 0
        assert await move_all(other.shards, HOUR_MS) == 0
        sizes = [await other.shards.at(place).sizes() for place in other.shards.spread("default").places]
        assert all(size.pending for size in sizes)
        assert sum(size.pending for size in sizes) == 60


async def test_a_map_that_somebody_else_has_written_meanwhile_is_looked_at_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with declare(Scheduler(redis_url)) as one, declare(Scheduler(redis_url)) as other:
        await one.push("note", 1)
        change = one.store.change_map  # type: ignore[attr-defined]

        async def meanwhile(before: bytes | None, after: bytes) -> bool:
            monkeypatch.undo()
            other.queue("new", partitions=3)
            await other.shards.ensure("new")
            answer: bool = await change(before, after)
            return answer

        monkeypatch.setattr(one.store, "change_map", meanwhile)
        await change_map(one.shards, 1, {"default": 2})
        await one.shards.refresh()
        assert one.shards.map.partitions == {"default": 2, "new": 3}
        await one.push("note", 2)


# --- a second change, while something of the first is remembered ------------------------------------------------------


async def spread(scheduler: Scheduler, partitions: int, remember_ms: int = HOUR_MS) -> None:
    await change_map(scheduler.shards, 1, {"default": partitions})
    assert await move_all(scheduler.shards, remember_ms) == 0


async def test_ids_keys_and_results_of_before_two_changes_are_known(redis_url: str) -> None:
    names = [f"n{n}" for n in range(24)]
    async with running(scheduler := declare(Scheduler(redis_url))):
        await scheduler.push_many(scheduler.request("note", name, id=name) for name in names)
        held = {name: Unique(key=name, seconds=7200) for name in names}
        await scheduler.push_many(
            scheduler.request("note", name, unique=held[name], keep_result=7200) for name in names
        )
        await eventually(lambda: len(RAN) == 2 * len(names))
        former = [await scheduler.push("note", name, unique=held[name]) for name in names]
        for partitions in (4, 7):
            await spread(scheduler, partitions)
        assert {(await scheduler.push("note", name, id=name)).answer for name in names} == {"ended"}
        again = [await scheduler.push("note", name, unique=held[name], keep_result=7200) for name in names]
        assert [handle.id for handle in again] == [handle.id for handle in former]
        assert [await handle.result(timeout=1) for handle in again] == [None] * len(names)


async def test_former_places_are_asked_as_long_as_a_key_is_held_there(redis_url: str) -> None:
    async with running(scheduler := declare(Scheduler(redis_url))):
        held = await scheduler.push("note", 1, unique=Unique(key="k", seconds=7200))
        await eventually(lambda: RAN == [1])
        await spread(scheduler, 4, remember_ms=0)
        assert await move_all(scheduler.shards, 0) == 0
        assert scheduler.shards.remembers
        other = await scheduler.push("note", 2, unique=Unique(key="k", seconds=7200))
        assert (other.id, other.answer) == (held.id, "ended")


async def test_what_has_come_to_a_former_place_since_is_moved_before_the_place_is_forgotten(redis_url: str) -> None:
    async with declare(Scheduler(redis_url)) as scheduler:
        await scheduler.push("note", 0, delay=3600)
        await spread(scheduler, 4, remember_ms=0)
        requests = [scheduler.request("note", n, delay=3600).new for n in range(20)]
        await scheduler.shards.at(Place("default")).enqueue("late", 1, requests, 9)
        assert await move_all(scheduler.shards, 0) == 0
        assert not scheduler.shards.remembers
        places = {id: scheduler.shards.spread("default").place(slot_of(id)) for id in (new.id for new in requests)}
        found = [(await scheduler.shards.at(place).get([id]))[0] for id, place in places.items()]
        assert None not in found


async def test_a_node_that_knows_an_earlier_map_keeps_no_child_where_it_does_not_belong(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, later = Scheduler(redis_url, poll=0.2), declare(Scheduler(redis_url))
    begun, go = asyncio.Event(), asyncio.Event()

    @early.task
    async def note(value: object) -> None: ...

    @early.task
    async def parent(ctx: Context) -> None:
        begun.set()
        await go.wait()
        for n in range(20):
            ctx.push(note.options(id=f"child:{n}", delay=3600), n)
            ctx.push(note.options(unique=Unique(key=f"key:{n}"), delay=3600), n)

    async with running(early), later:
        going = next(id for id in map(str, range(40)) if Spread("default", 1, 4).place(slot_of(id)) != Place("default"))
        job = await early.push(parent.options(id=going))
        await begun.wait()
        await change_map(later.shards, 1, {"default": 4})
        assert await move_all(later.shards, HOUR_MS) == 1  # the parent runs
        keyed = [await later.push("note", n, unique=Unique(key=f"key:{n}"), delay=3600) for n in range(20)]
        named = [await later.push("note", n, id=f"child:{n}", delay=3600) for n in range(20)]
        monkeypatch.setattr(early.shards, "refresh", _nothing)
        go.set()
        await eventually(lambda: _is(job, "ended"))
        monkeypatch.undo()
        await eventually(lambda: _has_pending(later, 40))
        assert {handle.answer for handle in keyed + named} == {"created"}
        assert await move_all(later.shards, HOUR_MS) == 0
        assert await _has_pending(later, 40)


async def _nothing() -> bool:
    return False


async def _is(job: JobHandle[Any], status: str) -> bool:
    return await job.status() == status


async def _has_pending(scheduler: Scheduler, count: int) -> bool:
    sizes = await scheduler.queues.sizes()
    return (sizes.pending, sizes.leased) == (count, 0)


async def test_who_lists_fewer_servers_does_not_say_that_all_has_moved(three: list[Server]) -> None:
    urls = [server.url for server in three]
    async with declare(Scheduler(urls)) as scheduler:
        await scheduler.push_many(scheduler.request("note", n, delay=3600) for n in range(60))
    mover = Scheduler(urls)
    await mover.store.connect()
    mover.shards.is_longer_list = True
    await change_map(mover.shards, 2, {})
    async with declare(Scheduler(urls[:2])) as shorter:  # a worker that was restarted with the new list
        assert await move_all(shorter.shards, HOUR_MS) > 0
        assert shorter.shards.map.is_moving
        assert await move_all(mover.shards, HOUR_MS) == 0
        assert (await shorter.queues.sizes()).pending == 60
    await mover.store.close()


async def test_many_pushes_wait_for_a_server_that_is_away_no_longer_than_one(three: list[Server]) -> None:
    urls = [server.url for server in three]
    async with declare(Scheduler(urls[:2])) as scheduler:
        await scheduler.push("note", 0, delay=3600)
    mover = Scheduler(urls)
    await mover.store.connect()
    await change_map(mover.shards, 3, {})
    assert await move_all(mover.shards, HOUR_MS) == 0
    await mover.store.close()
    async with declare(Scheduler(urls, push_timeout=0.5)) as scheduler:
        three[1].kill()
        waited = AsyncMock(side_effect=asyncio.sleep)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("duly.runtime.pushes.asyncio.sleep", waited)
            with pytest.raises(PushFailed):
                await scheduler.push_many(scheduler.request("note", n, id=f"id:{n}", delay=3600) for n in range(200))
        assert sum(call.args[0] for call in waited.await_args_list) < 5


async def test_a_walk_goes_on_through_the_shards_that_it_began_with(redis_url: str) -> None:
    async with declare(Scheduler(redis_url)) as early, declare(Scheduler(redis_url)) as later:
        for n in range(60):
            await early.push("note", n, delay=3600)
        await spread(later, 3)
        shard, seen, cursor = early.shard("default"), 0, ""
        while True:
            page = await shard.list("pending", cursor, 10)
            seen, cursor = seen + len(page.items), page.cursor
            if not cursor:
                break
        assert seen == 60
