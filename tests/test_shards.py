"""Queues that lie in several shards: partitions of one server, and several servers in a list."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import redis

from duly import Context, Fail, Scheduler, every
from duly.core.shards import Place, slot_of, slot_of_job
from duly.errors import ConfigurationError, InvalidOption, StoreUnavailable
from duly.stores.base import Shard
from duly.stores.capabilities import Movable
from duly.stores.moving import change_map, move_all
from tests.conftest import StartServer
from tests.schedulers import running
from tests.servers import Server
from tests.waiting import eventually

RAN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.fixture
def three(start_server: StartServer) -> list[Server]:
    return [start_server(kind) for kind in ("redis", "redis", "valkey")]


def keys_of(server: Server) -> list[str]:
    with server.client() as client:
        return sorted(key.decode() for key in client.scan_iter())


def declare(scheduler: Scheduler) -> Scheduler:
    @scheduler.task
    async def note(value: object) -> object:
        RAN.append(value)
        return value

    @scheduler.task
    async def parent(ctx: Context, value: int) -> None:
        RAN.append(ctx.push(note, value))

    return scheduler


@pytest.fixture
async def spread(three: list[Server]) -> AsyncIterator[Scheduler]:
    scheduler = declare(Scheduler([server.url for server in three], push_timeout=1, lease=2))
    async with scheduler:
        yield scheduler


async def shards_with_jobs(scheduler: Scheduler, queue: str = "default") -> list[int]:
    """How many jobs wait in each shard."""
    places = scheduler.shards.places(queue)
    return [(await scheduler.shards.at(place).sizes()).pending for place in places]


# --- where things lie -------------------------------------------------------------------------------------------------


async def test_jobs_are_spread_over_all_servers_and_found_by_their_ids(spread: Scheduler, three: list[Server]) -> None:
    ids = await spread.push_many(spread.request("note", i) for i in range(300))
    assert min(await shards_with_jobs(spread)) > 50
    found = await asyncio.gather(*(spread.jobs.get(id) for id in ids))
    assert [job.args for job in found if job] == [[i] for i in range(300)]
    assert (await spread.queues.sizes()).pending == 300
    for server in three:
        assert any(key.startswith("{duly:default}:") for key in keys_of(server))


async def test_only_the_shard_of_an_id_is_asked_for_it(spread: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await spread.push("note", 1)
    asked: list[Place] = []
    for place in spread.shards.places("default"):
        shard = spread.shards.at(place)

        async def get(ids: list[str], place: Place = place, shard: Shard = shard) -> object:
            asked.append(place)
            return await type(shard).get(shard, ids)

        monkeypatch.setattr(shard, "get", get)
    assert await job.status() == "pending"
    assert len(asked) == 1


async def test_a_unique_key_and_an_id_hold_on_all_servers_together(spread: Scheduler) -> None:
    first = [await spread.push("note", i, unique=f"key{i}") for i in range(20)]
    again = [await spread.push("note", -1, unique=f"key{i}") for i in range(20)]
    assert [job.id for job in again] == [job.id for job in first]
    assert {job.answer for job in again} == {"pending"}
    named = [await spread.push("note", i, id=f"id{i}") for i in range(20)]
    assert [(await spread.push("note", 0, id=f"id{i}")).answer for i in range(20)] == ["pending"] * 20
    assert {await job.status() for job in (*first, *named)} == {"pending"}


async def test_a_job_with_both_an_id_and_a_unique_key_is_found_by_its_id(spread: Scheduler) -> None:
    for i in range(12):
        await spread.push("note", i, id=f"both{i}", unique=f"another{i}")
    views = [await spread.jobs.get(f"both{i}") for i in range(12)]
    assert [view.args for view in views if view] == [[i] for i in range(12)]
    assert await spread.jobs.cancel(*(f"both{i}" for i in range(12))) == ["cancelled"] * 12
    assert await spread.jobs.cancel("both0", "nothing") == ["ended", "unknown"]


async def test_a_wave_of_jobs_runs_once_each_wherever_it_lies(spread: Scheduler) -> None:
    async with running(spread):
        await spread.push_many(spread.request("note", i) for i in range(500))
        await eventually(lambda: len(RAN) >= 500)
    assert sorted(RAN, key=int) == list(range(500))  # type: ignore[call-overload]
    assert sum(await shards_with_jobs(spread)) == 0


async def test_a_result_is_found_wherever_its_job_ran(spread: Scheduler) -> None:
    async with running(spread):
        jobs = [await spread.push("note", i, keep_result=True) for i in range(12)]
        assert [await job.result(timeout=10) for job in jobs] == list(range(12))


async def test_children_lie_in_their_parents_shards(spread: Scheduler) -> None:
    async with running(spread):
        for i in range(9):
            await spread.push("parent", i)
        await eventually(lambda: sum(isinstance(value, int) for value in RAN) == 9)
    assert len({value for value in RAN if isinstance(value, str)}) == 9


async def test_a_schedule_fires_in_its_shard_and_is_found_there(spread: Scheduler) -> None:
    for i in range(12):
        assert await spread.schedules.put(f"s{i}", every(seconds=3600, start="now"), "note", args=(i,))
        assert not await spread.schedules.put(f"s{i}", every(seconds=3600, start="now"), "note", args=(i,))
    per_server = [(await spread.shards.at(place).sizes()).schedules for place in spread.shards.places("default")]
    assert min(per_server) > 0
    async with running(spread):
        await eventually(lambda: len(RAN) == 12)
    views = [view async for view in spread.schedules.list()]
    assert sorted(view.id for view in views) == sorted(f"s{i}" for i in range(12))
    assert {view.fired for view in views} == {1}
    job = await spread.schedules.trigger("s3")
    assert (await spread.jobs.get(job)) is not None
    assert await spread.schedules.remove("s3")
    assert await spread.schedules.get("s3") is None


async def test_all_shards_are_paused_limited_listed_and_cleared_together(spread: Scheduler) -> None:
    await spread.push_many(spread.request("note", i) for i in range(60))
    await spread.queues.pause()
    await spread.queues.limit("default", 7)
    sizes = await spread.queues.sizes()
    assert (sizes.pending, sizes.paused, sizes.limit) == (60, True, 7)
    with pytest.raises(InvalidOption, match="limit=2 for queue 'default', which lies in 3 shards"):
        await spread.queues.limit("default", 2)
    seen, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page, cursor = await spread.jobs.list(limit=9, cursor=cursor)
        seen += [view.id for view in page]
        pages += 1
    assert len(set(seen)) == len(seen) == 60
    assert await spread.clear() == 60
    assert (await spread.queues.sizes()).pending == 0


# --- partitions -------------------------------------------------------------------------------------------------------


async def test_a_queue_may_lie_in_partitions_each_with_a_hash_slot_of_its_own(redis_url: str) -> None:
    scheduler = declare(Scheduler(redis_url))
    mail = scheduler.queue("mail", partitions=6)
    async with scheduler:
        for i in range(60):
            await scheduler.push("note", i, queue=mail)
        tags = {key.decode().partition("}")[0] for key in redis.Redis.from_url(redis_url).keys("{duly:mail*")}
        assert tags == {"{duly:mail", *(f"{{duly:mail:{p}" for p in range(1, 6))}
        assert min(await shards_with_jobs(scheduler, mail)) > 0
    async with running(worker := declare(Scheduler(redis_url, queues=["mail"]))):
        await eventually(lambda: len(RAN) == 60)
        assert len(worker.shards.places("mail")) == 6  # what others have declared is known


async def test_partitions_declared_otherwise_are_refused_and_the_error_says_what_to_do(redis_url: str) -> None:
    first, second = declare(Scheduler(redis_url)), declare(Scheduler(redis_url))
    first.queue("mail", partitions=6)
    async with first:
        await first.push("note", 1, queue="mail")
    second.queue("mail", partitions=3)
    async with second:
        with pytest.raises(
            ConfigurationError, match=r"declared with 3 partition\(s\), and has 6.*rebalance --partitions mail=3"
        ):
            await second.push("note", 1, queue="mail")


async def test_a_queue_that_was_used_in_one_place_is_not_spread_by_a_declaration(redis_url: str) -> None:
    async with declare(Scheduler(redis_url)) as first:
        await first.push("note", 1, queue="mail")
    second = declare(Scheduler(redis_url, queues=["mail"]))
    second.queue("mail", partitions=2)
    with pytest.raises(ConfigurationError, match=r"declared with 2 partition\(s\), and has 1"):
        await second.start()


async def test_a_queue_that_is_declared_meanwhile_is_found_by_those_who_did_not_know(redis_url: str) -> None:
    late, early = declare(Scheduler(redis_url)), declare(Scheduler(redis_url))
    async with late:  # has read the map
        early.queue("mail", partitions=4)
        async with early:
            await early.push("note", 0, queue="mail", id="a")
        answers = [(await late.push("note", 0, queue="mail", id=id)).answer for id in ("a", "b")]
        assert answers == ["pending", "created"]
        assert len(late.shards.places("mail")) == 4


@pytest.mark.parametrize("name", ["mail:3", "a:b:0"])
def test_a_queue_is_not_called_like_a_partition(name: str) -> None:
    with pytest.raises(InvalidOption, match="name a partition"):
        Scheduler("memory://", queues=[name])
    with pytest.raises(InvalidOption, match="name a partition"):
        Scheduler("memory://").queue(name)


@pytest.mark.parametrize("partitions", [0, -1, 257, True, "6"])
def test_a_number_that_no_queue_can_have_is_refused(partitions: int) -> None:
    with pytest.raises(ConfigurationError, match="give a whole number from 1 to 256"):
        Scheduler("memory://").queue("mail", partitions=partitions)


async def test_an_embedded_store_keeps_a_queue_of_many_partitions_in_one_place(tmp_path: object) -> None:
    for url in ("memory://", f"sqlite:///{tmp_path}/duly.db"):
        RAN.clear()
        scheduler = declare(Scheduler(url, queues=["mail"]))
        scheduler.queue("mail", partitions=6)
        async with running(scheduler):
            await scheduler.push("note", 1, queue="mail")
            await eventually(lambda: RAN == [1])
            assert len(scheduler.shards.places("mail")) == 1


# --- several servers --------------------------------------------------------------------------------------------------


async def test_another_list_of_servers_is_refused_and_the_error_says_what_to_do(three: list[Server]) -> None:
    urls = [server.url for server in three]
    async with declare(Scheduler(urls)) as scheduler:
        await scheduler.push("note", 1)
    for other in (urls[:2], urls[:1]):
        with pytest.raises(ConfigurationError, match=r"lists \d server\(s\), the shard map 3.*duly shards rebalance"):
            await Scheduler(other).start()


async def test_a_store_that_was_used_alone_is_not_spread_by_a_longer_list(three: list[Server]) -> None:
    urls = [server.url for server in three]
    async with declare(Scheduler(urls[0])) as alone:
        await alone.push("note", 1)
    with pytest.raises(ConfigurationError, match=r"lists 3 server\(s\), the shard map 1"):
        await Scheduler(urls).start()


def test_a_list_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="in the list twice: redis://a"):
        Scheduler(["redis://a", "redis://b", "redis://a"])
    with pytest.raises(ConfigurationError, match="master=2 is the index of no server: 2 listed"):
        Scheduler(["redis://a", "redis://b"], master=2)
    monkeypatch.setenv("DULY_URL", "redis://a  redis://b")
    assert Scheduler().store.url == "redis://a, redis://b"


async def test_while_one_server_is_away_the_others_go_on_and_nothing_is_lost(three: list[Server]) -> None:
    scheduler = declare(Scheduler([server.url for server in three], push_timeout=0.3, lease=2, reconnect_interval=0.2))
    heard: list[tuple[str, object]] = []
    for name in ("disconnected", "reconnected", "offline", "online"):
        scheduler.on(name)(lambda event: heard.append((event.name, event.facts.get("server"))))
    async with running(scheduler):
        accepted, refused = list[int](), Counter[int]()
        await scheduler.push("note", -1)

        async def push(numbers: range) -> None:
            for i in numbers:
                request = scheduler.request("note", i)
                server = scheduler.shards.place_of_job("default", request.new).server
                try:
                    await scheduler.push_request(request)
                    accepted.append(i)
                except StoreUnavailable:
                    refused[server] += 1

        await push(range(30))
        await eventually(lambda: len(RAN) == 31)
        three[1].kill()
        await eventually(lambda: ("disconnected", 1) in heard)
        await push(range(30, 60))
        assert set(refused) == {1}  # only what belongs there, with a clear error
        gone_on = [i for i in accepted if i >= 30]
        await eventually(lambda: set(gone_on) <= set(RAN))
        three[1].start()
        await eventually(lambda: ("reconnected", 1) in heard)
        before = len(accepted)
        await push(range(60, 90))
        assert len(accepted) - before == 30
        await eventually(lambda: set(range(60, 90)) <= set(RAN))
    assert heard.count(("disconnected", 1)) == 1
    assert not [name for name, server in heard if name == "offline" and server is not None]


async def test_without_the_master_a_node_is_offline_and_what_needs_it_is_refused_clearly(three: list[Server]) -> None:
    urls = [server.url for server in three]
    scheduler = declare(Scheduler(urls, master=2, push_timeout=0.3, lease=2, reconnect_interval=0.2))
    heard: list[str] = []
    for name in ("offline", "online"):
        scheduler.on(name)(lambda event: heard.append(event.name))
    async with running(scheduler):
        await scheduler.push("note", -1)
        await eventually(lambda: len(RAN) == 1)  # it may lie on the server that goes
        three[2].kill()
        await eventually(lambda: heard == ["online", "offline"])
        with pytest.raises(StoreUnavailable, match=three[2].url):
            await scheduler.try_lock("a")
        requests = [scheduler.request("note", i) for i in range(40)]
        elsewhere = [r for r in requests if scheduler.shards.place_of_job("default", r.new).server != 2]
        assert len(await scheduler.push_many(elsewhere)) == len(elsewhere) > 0
        await eventually(lambda: len(RAN) == len(elsewhere) + 1)
        three[2].start()
        await eventually(lambda: heard == ["online", "offline", "online"])
        lock = await scheduler.try_lock("a")
        assert lock is not None
        await lock.release()


async def test_a_server_that_is_away_at_the_start_is_waited_for(three: list[Server]) -> None:
    three[1].kill()
    scheduler = declare(Scheduler([server.url for server in three], push_timeout=0.3, lease=2))
    async with running(scheduler):
        requests = [scheduler.request("note", i) for i in range(40)]
        there = [r for r in requests if scheduler.shards.place_of_job("default", r.new).server != 1]
        await scheduler.push_many(there)
        await eventually(lambda: len(RAN) == len(there))
        three[1].start()
        late = [r for r in requests if r not in there]
        await eventually(lambda: _pushed(scheduler, late))
        await eventually(lambda: len(RAN) == 40)


async def _pushed(scheduler: Scheduler, requests: list[object]) -> bool:
    try:
        await scheduler.push_many(requests)  # type: ignore[arg-type]
    except Exception:
        return False
    return True


def test_the_slot_of_a_unique_job_is_in_its_id() -> None:
    scheduler = declare(Scheduler("memory://"))
    request = scheduler.request("note", 1, unique="key")
    assert slot_of_job(request.new) == slot_of_job(request.new.__class__(request.new.id, b""))


# --- moving to another map --------------------------------------------------------------------------------------------


async def move_until_all_is_there(scheduler: Scheduler) -> None:
    async def is_done() -> bool:
        return await move_all(scheduler.shards, 0) == 0

    await eventually(is_done)


async def where(scheduler: Scheduler, queue: str = "default") -> dict[str, Place]:
    """Each job that is kept, and its place."""
    found: dict[str, Place] = {}
    for place in scheduler.shards.places(queue):
        shard, cursor = scheduler.shards.at(place), ""
        assert isinstance(shard, Movable)
        while True:
            page = await shard.kept("jobs", cursor, 500)
            for id, _ in page.items:
                assert found.setdefault(id, place) == place
            cursor = page.cursor
            if not cursor:
                break
    return found


async def test_more_partitions_take_what_belongs_to_them_with_all_that_is_known_of_it(redis_url: str) -> None:
    scheduler = declare(Scheduler(redis_url))
    async with scheduler:
        jobs = [await scheduler.push("note", i, delay=3600, priority=i % 4) for i in range(200)]
        await scheduler.push("note", -1, id="named", delay=3600)
        first = await scheduler.push("note", -2, unique="key", delay=3600)
        await scheduler.schedules.put("s", every(seconds=3600), "note", args=(7,))
        before = {job.id: await scheduler.jobs.get(job.id) for job in jobs}
        schedule = await scheduler.schedules.get("s")
        await change_map(scheduler.shards, 1, {"default": 6})
        assert (await scheduler.push("note", -1, id="named")).answer == "pending"  # while it all still is where it was
        assert (await scheduler.push("note", -2, unique="key")).id == first.id
        await move_until_all_is_there(scheduler)
        places = await where(scheduler)
        assert len(places) == 202
        assert places["named"] == scheduler.shards.spread("default").place(slot_of("named"))
        assert all(scheduler.shards.spread("default").place(slot_of(id)) == place for id, place in places.items())
        assert min(Counter(places.values()).values()) > 10
        assert {job.id: await scheduler.jobs.get(job.id) for job in jobs} == before
        assert await scheduler.schedules.get("s") == schedule
        assert (await scheduler.push("note", -2, unique="key")).id == first.id
        assert (await scheduler.push("note", -1, id="named")).answer == "pending"


async def test_dead_jobs_move_with_their_reasons(redis_url: str) -> None:
    scheduler = declare(Scheduler(redis_url))

    @scheduler.task
    async def fails(i: int) -> None:
        raise Fail(f"no {i}")

    async with running(scheduler):
        jobs = [await fails.push(i) for i in range(20)]
        await eventually(lambda: _all_dead(scheduler, 20))
        await change_map(scheduler.shards, 1, {"default": 3})
        await move_until_all_is_there(scheduler)
        views = [await scheduler.jobs.get(job.id) for job in jobs]
        assert [(view.state, view.reason) for view in views if view] == [("dead", f"failed: no {i}") for i in range(20)]
        assert len(set((await where(scheduler)).values())) == 3
        assert all(await scheduler.jobs.retry(*(job.id for job in jobs)))


async def _all_dead(scheduler: Scheduler, count: int) -> bool:
    return (await scheduler.queues.sizes()).dead == count


async def test_a_server_more_takes_its_part_while_nodes_run_and_each_job_runs_once(start_server: StartServer) -> None:
    urls = [start_server("redis").url for _ in range(4)]
    old = declare(Scheduler(urls[:3], push_timeout=0.5, concurrency=8))
    async with running(old):
        await old.push_many(old.request("note", i) for i in range(3000))
        new = declare(Scheduler(urls, concurrency=8))
        with pytest.raises(ConfigurationError, match="duly shards rebalance"):
            await new.start()
        await rebalance(urls, 4)
        async with running(new):
            await new.push_many(new.request("note", i) for i in range(3000, 4000))
            with pytest.raises(ConfigurationError, match=r"lists 3 server\(s\), the shard map 4"):
                await old.push("note", 0)
            await eventually(lambda: len(RAN) >= 4000, 30)
            assert (await new.queues.sizes()).pending == 0
    assert sorted(RAN, key=int) == list(range(4000))  # type: ignore[call-overload]


async def rebalance(urls: list[str], servers: int) -> None:
    """As the command does it."""
    scheduler = Scheduler(urls)
    await scheduler.store.connect()
    try:
        await change_map(scheduler.shards, servers, {})
        await scheduler.shards.refresh()
        await move_until_all_is_there(scheduler)
    finally:
        await scheduler.store.close()


@pytest.mark.parametrize("step", ["arrive", "departed"])
async def test_a_move_that_broke_off_is_finished_by_anybody(
    redis_url: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = declare(Scheduler(redis_url))
    async with scheduler:
        jobs = [await scheduler.push("note", i, delay=3600) for i in range(50)]
        await scheduler.schedules.put("s", every(seconds=3600), "note", args=(7,))
        await scheduler.schedules.put("t", every(seconds=3600), "note", args=(7,))
        await change_map(scheduler.shards, 1, {"default": 2})
        await scheduler.shards.refresh()

        async def dies(*_: object) -> None:
            raise KeyError("the mover died")

        with monkeypatch.context() as patch:
            for place in scheduler.shards.places("default"):
                patch.setattr(scheduler.shards.at(place), step, dies)
            with pytest.raises(KeyError):
                await move_all(scheduler.shards, 0)
        assert {await job.status() for job in jobs} <= {"pending", "leased"}
        assert await scheduler.schedules.get("s") is not None  # whoever asks brings it home
        assert await scheduler.schedules.get("t") is not None
        await move_until_all_is_there(scheduler)
        assert len(await where(scheduler)) == 50
        assert {await job.status() for job in jobs} == {"pending"}


async def test_a_job_is_cancelled_on_its_way(redis_url: str) -> None:
    async with declare(Scheduler(redis_url)) as scheduler:
        jobs = [await scheduler.push("note", i, delay=3600) for i in range(30)]
        await change_map(scheduler.shards, 1, {"default": 2})
        await scheduler.shards.refresh()
        source, target = scheduler.shards.places("default")
        moving = [job for job in jobs if scheduler.shards.spread("default").place(slot_of(job.id)) == target]
        shard = scheduler.shards.at(source)
        assert isinstance(shard, Movable)
        assert await shard.depart(target.name, "mover", [job.id for job in moving])
        assert await moving[0].cancel() == "asked"
        await move_until_all_is_there(scheduler)
        assert await moving[0].status() == "ended"
        assert {await job.status() for job in moving[1:]} == {"pending"}


async def test_what_is_asked_for_twice_stays_one_change_and_another_waits_for_its_end(redis_url: str) -> None:
    async with declare(Scheduler(redis_url)) as scheduler:
        await scheduler.push("note", 1, delay=3600)
        await change_map(scheduler.shards, 1, {"default": 2})
        await change_map(scheduler.shards, 1, {"default": 2})
        await scheduler.shards.refresh()
        assert scheduler.shards.map.epoch == 1
        with pytest.raises(ConfigurationError, match="is not finished: rebalance to that first"):
            await change_map(scheduler.shards, 1, {"default": 3})
        await move_until_all_is_there(scheduler)
        await change_map(scheduler.shards, 1, {"default": 3})


async def test_ids_that_ended_before_the_change_are_remembered_after_it(redis_url: str) -> None:
    scheduler = declare(Scheduler(redis_url))
    async with running(scheduler):
        for i in range(20):
            await scheduler.push("note", i, id=f"id{i}")
        await eventually(lambda: len(RAN) == 20)
        await change_map(scheduler.shards, 1, {"default": 4})
        assert [(await scheduler.push("note", i, id=f"id{i}")).answer for i in range(20)] == ["ended"] * 20
        while await move_all(scheduler.shards, 3_600_000):
            pass
        assert not scheduler.shards.map.is_moving
        assert [(await scheduler.push("note", i, id=f"id{i}")).answer for i in range(20)] == ["ended"] * 20
    assert len(RAN) == 20


async def test_a_schedule_whose_run_is_under_way_moves_when_that_has_ended(redis_url: str) -> None:
    scheduler = declare(Scheduler(redis_url))
    gate = asyncio.Event()

    @scheduler.task
    async def waits() -> None:
        RAN.append("began")
        await gate.wait()

    async with running(scheduler):
        for i in range(4):
            await scheduler.schedules.put(f"s{i}", every(seconds=3600, start="now"), waits, overlap="skip")
        await eventually(lambda: len(RAN) == 4)
        await change_map(scheduler.shards, 1, {"default": 2})
        assert await move_all(scheduler.shards, 0) > 0
        gate.set()
        await move_until_all_is_there(scheduler)
        views = [view async for view in scheduler.schedules.list()]
    assert sorted((view.id, view.fired, view.outcome, view.living) for view in views) == [
        (f"s{i}", 1, "ended", 0) for i in range(4)
    ]


async def test_a_node_claims_from_partitions_that_come_while_it_runs(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.runtime.surveyor.PAUSE", 0.1)
    node, pusher = declare(Scheduler(redis_url)), declare(Scheduler(redis_url))
    async with running(node), pusher:
        await pusher.push_many(pusher.request("note", i, delay=0.5) for i in range(100))
        await change_map(pusher.shards, 1, {"default": 5})
        await pusher.push_many(pusher.request("note", i) for i in range(100, 200))
        await eventually(lambda: len(RAN) == 200)  # the node moved what was elsewhere, and ran it
    assert sorted(RAN, key=int) == list(range(200))  # type: ignore[call-overload]


async def test_pushes_wait_while_a_change_is_not_published_yet(redis_url: str) -> None:
    async with declare(Scheduler(redis_url, push_timeout=0.2)) as scheduler:
        await scheduler.push("note", 1)
        shard = scheduler.shards.at(Place("default"))
        assert isinstance(shard, Movable)
        await shard.remapped(1)
        with pytest.raises(StoreUnavailable, match="the map of shards is at epoch 1, not 0"):
            await scheduler.push("note", 2)
        await change_map(scheduler.shards, 1, {"default": 2})  # whoever began it calls it again
        await scheduler.push("note", 2)
