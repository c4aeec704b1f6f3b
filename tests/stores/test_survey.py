"""Of several servers that tell who is in charge, the one that has seen the newest change is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import hiredis
import pytest

from duly.errors import StoreRefused, StoreUnavailable
from duly.stores.redis.link import Link
from duly.stores.redis.sentinel import Sentinels
from duly.stores.redis.slots import read_map
from duly.stores.redis.topology import Hosts
from tests.servers import HOST, Server, free_port
from tests.topologies import Replicated

BOUND = 10.0
Replies = dict[bytes, Any]
Fake = Callable[[Replies], Awaitable[int]]


def encoded(value: Any) -> bytes:
    """A reply as it travels."""
    if isinstance(value, list):
        return b"*%d\r\n%s" % (len(value), b"".join(map(encoded, value)))
    if isinstance(value, int):
        return b":%d\r\n" % value
    data = value if isinstance(value, bytes) else str(value).encode()
    return data if data.startswith(b"-") else b"$%d\r\n%s\r\n" % (len(data), data)


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """Makes a server that answers each command, by its second word, and says nothing where there is no reply."""

    async def make(replies: Replies) -> int:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            parser = hiredis.Reader()
            while data := await reader.read(1000):
                parser.feed(data)
                while (words := parser.gets()) is not False:
                    if words[1] in replies:
                        writer.write(encoded(replies[words[1]]))
            writer.close()

        server = await asyncio.start_server(answer, HOST, 0)
        stack.callback(server.close)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async with AsyncExitStack() as stack:
        yield make


def view(port: int, epoch: int) -> Replies:
    return {b"MASTER": ["ip", HOST, "port", str(port), "config-epoch", str(epoch)]}


def slots(port: int, epoch: int, state: str = "ok") -> Replies:
    info = f"cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n"
    return {b"INFO": info, b"SLOTS": [[0, 16383, [HOST, port, "id"]]]}


@pytest.mark.parametrize("stale_first", [True, False])
async def test_a_sentinel_that_missed_the_failover_is_not_believed(
    redis_server: Server, fake: Fake, stale_first: bool
) -> None:
    ports = [await fake(view(free_port(), 3)), await fake(view(redis_server.port, 4))]
    ports = ports if stale_first else ports[::-1]
    link = Link(Sentinels("redis+sentinel://" + ",".join(f"{HOST}:{port}" for port in ports) + "/main"))
    async with asyncio.timeout(BOUND):
        assert await link.command(b"PING") == b"PONG"
    await link.close()


async def test_a_replica_that_a_sentinel_takes_for_the_primary_is_not_written_to(
    redis_sentinel: Replicated, fake: Fake
) -> None:
    port = await fake(view(redis_sentinel.replica.port, 1))
    link = Link(Sentinels(f"redis+sentinel://{HOST}:{port}/main"))
    with pytest.raises(StoreUnavailable, match="is a slave and not the primary"):
        await link.command(b"PING")
    await link.close()


async def test_a_node_that_missed_the_failover_is_not_believed(fake: Fake) -> None:
    ports = [await fake(slots(1, 10)), await fake(slots(2, 11))]
    assert (await read_map(hosts(ports), ())).masters == [(HOST, 2)]


async def test_a_node_that_takes_no_part_is_believed_last(fake: Fake) -> None:
    ports = [await fake(slots(1, 12, "fail")), await fake(slots(2, 11))]
    assert (await read_map(hosts(ports), ())).masters == [(HOST, 2)]


async def test_who_says_nothing_is_not_waited_for_long(fake: Fake) -> None:
    ports = [await fake({}), await fake({}), await fake(slots(1, 1))]
    async with asyncio.timeout(BOUND):
        assert (await read_map(hosts(ports), ())).masters == [(HOST, 1)]


async def test_a_node_without_a_host_is_where_it_was_asked_and_one_without_a_name_is_nowhere(fake: Fake) -> None:
    entries = [[0, 99, ["", 7000, "a"], ["?", 7001, "b"]], [100, 16383, ["?", 7002, "c"]]]
    port = await fake({**slots(1, 1), b"SLOTS": entries})
    found = await read_map(hosts([port]), ())
    assert (found.slots[99], found.slots[100]) == ((HOST, 7000), None)
    assert found.nodes == {(HOST, 7000)}


async def test_what_a_node_refuses_is_said(fake: Fake) -> None:
    port = await fake({b"INFO": b"-NOPERM this user has no permissions\r\n", b"SLOTS": []})
    with pytest.raises(StoreRefused, match="this user has no permissions"):
        await read_map(hosts([port]), ())


def hosts(ports: list[int]) -> Hosts:
    return Hosts("redis+cluster://" + ",".join(f"{HOST}:{port}" for port in ports), 6379)
