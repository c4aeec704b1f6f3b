"""Redis behind Sentinel: whoever is the primary is found, a failover is survived, and nobody waits for the dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from duly import InvalidURL, Scheduler, StoreRefused, StoreUnavailable, StoreUncertain
from duly.core.job import NewJob
from duly.stores import open_store
from duly.stores.redis.store import RedisStore
from tests.conftest import StartServer
from tests.schedulers import running
from tests.servers import HOST, Server
from tests.topologies import Replicated, replicated
from tests.waiting import eventually

BOUND = 20.0


@pytest.fixture(params=[pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("redis", "valkey")])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replicated]:
    """Some of a test's own, for it does not leave them as they were."""
    servers = Replicated(request.param, tmp_path)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@asynccontextmanager
async def opened(url: str, timeout: float = 5.0) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, timeout=timeout)
    try:
        await store.connect()
        yield store
    finally:
        await store.close()


@pytest.mark.slow
@pytest.mark.server
async def test_jobs_and_pushes_survive_the_death_of_the_primary(servers: Replicated) -> None:
    scheduler = Scheduler(servers.url, lease=2, push_timeout=BOUND)
    ran: list[int] = []

    @scheduler.task
    async def work(n: int) -> None:
        ran.append(n)
        await asyncio.sleep(0.01)

    async with running(scheduler), opened(servers.url) as other:
        await scheduler.push_many(work.job(n) for n in range(100))
        await work.options(delay=3).push(100)
        old = servers.primary
        await asyncio.to_thread(replicated, old, servers.replica)
        waiting = asyncio.ensure_future(other.shard("other").wait(60))
        await eventually(lambda: old.facts("clients")["blocked_clients"] >= 1)
        old.kill()
        with pytest.raises(StoreUnavailable):
            await waiting
        pushed = await asyncio.gather(*(work.push(n) for n in range(101, 121)))
        assert all(job.created for job in pushed)
        await eventually(lambda: set(ran) == set(range(121)), BOUND)

        old.start()  # empty, and a primary by its own word until the sentinels tell it otherwise
        async with opened(servers.url) as store:
            new = servers.primary
            assert new is not old
            assert await store._link.command(b"CONFIG", b"GET", b"port") == [b"port", str(new.port).encode()]
        await work.push(121)
        await eventually(lambda: 121 in ran, BOUND)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_wait_ends_when_its_server_is_not_the_primary_any_more(kind: str, start_server: StartServer) -> None:
    server = start_server(kind)
    async with opened(server.url) as store, asyncio.timeout(BOUND):
        waiting = asyncio.ensure_future(store.shard("q").wait(60))
        with server.client() as client:
            await eventually(lambda: client.info("clients")["blocked_clients"] == 1)
            client.execute_command("REPLICAOF", HOST, 1)
            with pytest.raises(StoreUnavailable, match=r"UNBLOCKED|broke"):
                await waiting
            client.execute_command("REPLICAOF", "NO", "ONE")
        await eventually(lambda: pushed_to(store))
        assert await store.shard("q").wait(1)


async def pushed_to(store: RedisStore) -> bool:
    try:
        await store.shard("q").enqueue("client", 1, [NewJob("job", b"")])
    except (StoreUnavailable, StoreUncertain):
        return False
    return True


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.server
async def test_a_primary_that_hangs_keeps_neither_calls_nor_waits(tmp_path: Path) -> None:
    servers = Replicated("redis", tmp_path)
    try:
        servers.start()
        old = servers.primary
        async with opened(servers.url, timeout=0.5) as store, asyncio.timeout(BOUND):
            waiting = asyncio.ensure_future(store.shard("q").wait(60))
            await eventually(lambda: old.facts("clients")["blocked_clients"] == 1)
            old.pause()
            with pytest.raises(StoreUncertain):
                await store.shard("q").sizes()
            with pytest.raises(StoreUnavailable):
                await waiting
            await eventually(lambda: pushed_to(store))
        assert servers.primary is not old
    finally:
        for member in servers.data:
            member.resume()
        servers.stop()


async def test_one_sentinel_that_answers_is_enough(redis_sentinel: Replicated) -> None:
    silent, dead, _ = redis_sentinel.sentinels
    silent.pause()
    dead.kill()
    async with asyncio.timeout(BOUND), opened(redis_sentinel.url) as store:
        assert (await store.shard("q").sizes()).pending == 0
        assert any("1 of 3 sentinels answer" in finding.what for finding in await store.examine())


async def test_doctor_speaks_of_the_primary_and_of_the_sentinels(redis_sentinel: Replicated) -> None:
    async with opened(redis_sentinel.url) as store:
        found = {finding.what: finding.level for finding in await store.examine()}
    assert found["the server is a primary"] == "ok"
    assert found["3 of 3 sentinels answer; 3 watch 'main', quorum 2"] == "ok"
    assert found["the sentinels know 1 replica(s)"] == "ok"


async def test_a_service_that_the_sentinels_do_not_know_is_refused_at_once(redis_sentinel: Replicated) -> None:
    url = redis_sentinel.url.replace("/main", "/other")
    with pytest.raises(StoreRefused, match=r"no sentinel of .* knows a service 'other'.*No such master"):
        await Scheduler(url, start_timeout=BOUND).start()


async def test_a_server_that_is_no_sentinel_is_refused_at_once(redis_server: Server) -> None:
    with pytest.raises(StoreRefused, match=r"knows a service 'main'.*unknown command"):
        await Scheduler(f"redis+sentinel://{HOST}:{redis_server.port}/main").connect()


async def test_without_sentinels_the_store_is_away(redis_sentinel: Replicated) -> None:
    with pytest.raises(StoreUnavailable, match=r"no connection to redis\+sentinel://127.0.0.1:1/main"):
        await Scheduler("redis+sentinel://127.0.0.1:1/main").connect()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://h1,h2", "names no service"),
        ("redis+sentinel://h1/main/x", "the database 'x' is not a number"),
        ("redis+sentinel://h1/main/0/1", "the database '0/1' is not a number"),
        ("redis+sentinel:///main", "names no host"),
        ("rediss+sentinel://user:pw@h1:port,h2/main", "'h1:port' is not an address"),
        ("valkey+sentinel://h1/main?no_such_option=1", "no_such_option"),
    ],
)
def test_a_url_that_cannot_be_used_says_why_and_shows_no_password(url: str, why: str) -> None:
    with pytest.raises(InvalidURL, match=why) as caught:
        open_store(url)
    assert "pw" not in str(caught.value)
