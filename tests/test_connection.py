"""The life of a connection: a store that is away at the start, not ready, silent, or that takes no settlements."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
import redis

from duly import Context, Scheduler
from duly.errors import DulyError, StoreUnavailable
from duly.stores.base import Store
from duly.stores.memory.store import MemoryStore
from duly.testing import Faults, FaultyStore
from duly.testing.faults import Call, WrappedStore
from tests.conftest import StartServer
from tests.schedulers import running, shared
from tests.servers import Server, free_port
from tests.waiting import eventually

# --- a store that is away or not ready --------------------------------------------------------------------------------


async def test_a_start_fails_at_once_when_the_store_is_away() -> None:
    scheduler = Scheduler(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StoreUnavailable, match="no connection to redis://127"):
        await scheduler.start()


async def test_a_start_may_wait_for_the_store_and_says_for_what(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("redis")
    server.stop()
    scheduler = Scheduler(server.url, start_timeout=20)
    starting = asyncio.ensure_future(scheduler.start())
    await eventually(lambda: "waiting for it, for at most 20 s" in caplog.text)
    assert server.url in caplog.text
    server.start()
    await starting
    await scheduler.stop()
    assert caplog.text.count("waiting for it") == 1


async def test_a_start_gives_up_after_its_time_and_may_be_made_again(start_server: StartServer) -> None:
    server = start_server("redis")
    server.stop()
    scheduler = Scheduler(server.url, start_timeout=0.2)
    with pytest.raises(StoreUnavailable):
        await scheduler.start()
    server.start()
    await scheduler.start()
    await scheduler.stop()


async def test_a_push_waits_for_a_server_that_is_a_replica_for_a_moment(start_server: StartServer) -> None:
    """As after a failover behind one address: the connection is given up, and what was refused is tried again."""
    server = start_server("redis")
    scheduler = Scheduler(server.url, push_timeout=20)
    async with scheduler:
        await scheduler.push("work", remote=True)
        with server.client() as client:
            before = connections(client)
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            pushing = asyncio.ensure_future(scheduler.push("work", remote=True))
            await eventually(lambda: client.info("errorstats").get("errorstat_READONLY") is not None)
            client.execute_command("REPLICAOF", "NO", "ONE")
            assert (await pushing).created
            assert len(before) == len(connections(client)) == 2
            assert len(before & connections(client)) == 1  # our own client's
        assert (await scheduler.queues.sizes()).pending == 2


def connections(client: redis.Redis) -> set[str]:
    """The ids that the server gave to the connections it has."""
    return {facts["id"] for facts in client.client_list()}


async def test_a_server_that_is_not_ready_for_long_fails_a_push_and_says_why(start_server: StartServer) -> None:
    server = start_server("redis", "--min-replicas-to-write", "1")
    async with Scheduler(server.url, push_timeout=0.2) as scheduler:
        with pytest.raises(StoreUnavailable, match="not ready: NOREPLICAS"):
            await scheduler.push("work", remote=True)


# --- a connection that falls silent -----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_renewal_whose_connection_fell_silent_is_sent_over_another_before_the_lease_ends(
    redis_server: Server, redis_url: str
) -> None:
    door = await SilentDoor(redis_server.port).open()
    runs: list[str] = []
    released = asyncio.Event()

    def declare(scheduler: Scheduler, name: str) -> Any:
        @scheduler.task(name="long")
        async def long() -> None:
            runs.append(name)
            await released.wait()

        return long

    behind, other = Scheduler(door.url, lease=2), Scheduler(redis_url, lease=2)
    task = declare(behind, "behind the door")
    declare(other, "other")
    async with running(behind):
        await task.push()
        await eventually(lambda: len(runs) == 1)
        async with running(other):
            door.silence()  # what is open by now says nothing more; new connections are well
            await asyncio.sleep(5)  # more than two leases, in which the other node would take the job over
            assert runs == ["behind the door"]
            released.set()
            await eventually(lambda: drained(other))
    await door.close()
    assert runs == ["behind the door"]


async def drained(scheduler: Scheduler) -> bool:
    sizes = await scheduler.queues.sizes()
    return sizes.pending + sizes.leased == 0


class SilentDoor:
    """A TCP proxy on loopback whose open connections can fall silent: neither bytes nor ends pass any more."""

    def __init__(self, port: int) -> None:
        self._port, self._epoch = port, 0
        self._pumps: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> SilentDoor:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def silence(self) -> None:
        self._epoch += 1

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, to_writer]
        self._pumps += [asyncio.ensure_future(self._pump(*way)) for way in ((reader, to_writer), (to_reader, writer))]

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        epoch = self._epoch
        try:
            while data := await source.read(65_536):
                if epoch == self._epoch:
                    target.write(data)
            if epoch == self._epoch:
                target.close()
        except OSError:
            target.close()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


# --- settlements that the store does not take, claims that are answered late --------------------------------------------


async def test_a_node_whose_settlements_are_not_taken_claims_no_more_after_a_while() -> None:
    """What has ended waits in the node, and that is bounded; once the store takes it, each is settled once."""
    refused: list[str] = []
    store = FaultyStore(
        MemoryStore(),
        random.Random(1),
        Faults(before=1, verbs=frozenset({"settle"})),
        lambda verb, _: refused.append(verb),
    )
    scheduler = Scheduler("memory://", concurrency=5, lease=1)
    scheduler.store = store
    runs: list[int] = []

    @scheduler.task
    async def work(n: int) -> None:
        runs.append(n)

    async with running(scheduler):
        await scheduler.push_many(work.job(n) for n in range(100))
        await eventually(lambda: len(runs) >= 20)
        seen = len(refused)
        await eventually(lambda: len(refused) >= seen + 10)  # ten exchanges later
        assert len(runs) <= 25  # four times the slots, and one claim that was under way
        store.faults = Faults()
        await eventually(lambda: drained(scheduler))
    assert sorted(runs) == list(range(100))


async def test_a_claim_whose_answer_is_read_late_is_asked_for_again() -> None:
    """The process stood still: in the meantime its jobs may have been taken over, and run."""
    url = shared("memory://")
    late, other = Scheduler(url, lease=1), Scheduler(url, lease=1)
    late.store = store = LateAnswers(late.store)
    runs: list[str] = []

    def declare(scheduler: Scheduler, name: str) -> None:
        @scheduler.task(name="work")
        async def work() -> None:
            runs.append(name)

    declare(late, "late")
    declare(other, "other")
    async with running(late):
        await eventually(lambda: store.claims > 0)
        store.gate.clear()
        await late.push("work")
        await eventually(lambda: is_leased(late))
        async with running(other):
            await eventually(lambda: bool(runs))  # a lease later
            seen = store.claims
            store.gate.set()
            await eventually(lambda: store.claims >= seen + 2)
    assert runs == ["other"]


async def is_leased(scheduler: Scheduler) -> bool:
    return bool((await scheduler.queues.sizes()).leased)


class LateAnswers(WrappedStore):
    """A store whose answers to claims are not read while the gate is closed."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.gate, self.claims = asyncio.Event(), 0
        self.gate.set()

    async def through(self, verb: str, queue: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        answer = await call(*args, **kwargs)
        if verb == "claim":
            self.claims += 1
            await self.gate.wait()
        return answer

    def sibling(self, timeout: float | None = None) -> Store:
        return self.inner.sibling(timeout)


async def test_the_next_claim_is_on_its_way_before_the_jobs_of_the_last_one_begin() -> None:
    """Node and store work at the same time: while jobs run, what comes after them travels."""
    scheduler = Scheduler(shared("memory://"), concurrency=4)
    scheduler.store = store = Telling(scheduler.store)

    @scheduler.task
    async def noop() -> None:
        store.said.append("run")

    async with scheduler:
        await scheduler.push_many(noop.job() for _ in range(40))
        await scheduler.start()
        await eventually(lambda: store.said.count("run") == 40)
        await scheduler.stop()
    starts = [place for place, what in enumerate(store.said) if what == "run"]
    begun = 0
    for batch, count in enumerate(store.brought):
        if begun == 40:
            break
        assert store.said[: starts[begun]].count("claim") >= batch + 2, (store.said, store.brought)
        begun += count


class Telling(WrappedStore):
    """A store some turns of the loop away, which says when a claim is made, and how many jobs each has brought."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.said: list[str] = []
        self.brought: list[int] = []

    async def through(self, verb: str, queue: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if verb == "claim":
            self.said.append(verb)
        for _ in range(20):
            await asyncio.sleep(0)
        answer = await call(*args, **kwargs)
        if verb == "claim":
            self.brought.append(len(answer.jobs))
        return answer

    def sibling(self, timeout: float | None = None) -> Store:
        return self.inner.sibling(timeout)


# --- waiting for results ----------------------------------------------------------------------------------------------


async def test_a_user_without_rights_on_channels_gets_results_and_children(start_server: StartServer) -> None:
    server = start_server("redis")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "resetchannels")
    scheduler = Scheduler(server.url.replace("//", "//app:pw@"))
    ran: list[int] = []

    @scheduler.task
    async def child(n: int) -> None:
        ran.append(n)

    @scheduler.task(keep_result=True)
    async def parent(ctx: Context) -> str:
        ctx.push(child, 1)
        return "done"

    async with running(scheduler):
        assert await (await parent.push()).result(timeout=10) == "done"
        await eventually(lambda: ran == [1])


async def test_a_wait_for_a_result_ends_with_its_scheduler(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url))
    await scheduler.connect()
    job = await scheduler.push("nobody's", keep_result=True, remote=True)
    waiting = asyncio.ensure_future(job.result())
    await asyncio.sleep(0.05)
    await scheduler.close()
    with pytest.raises(DulyError):
        await asyncio.wait_for(waiting, 10)


async def test_a_start_may_wait_for_a_server_that_is_a_replica_for_a_moment(start_server: StartServer) -> None:
    server = start_server("redis")
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        scheduler = Scheduler(server.url, start_timeout=20)
        starting = asyncio.ensure_future(scheduler.start())
        await eventually(lambda: client.info("errorstats").get("errorstat_READONLY") is not None)
        client.execute_command("REPLICAOF", "NO", "ONE")
    await starting
    await scheduler.stop()
