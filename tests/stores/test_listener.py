"""Who waits for a result on Redis hears of it, and a lost connection keeps nobody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from duly.errors import StoreRefused, StoreUnavailable
from duly.stores.redis.link import Link
from duly.stores.redis.topology import SingleServer
from tests.conftest import StartServer
from tests.waiting import eventually

BOUND = 10.0


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[Link]:
    link = Link(SingleServer(redis_url))
    yield link
    await link.close()


async def subscriptions(link: Link) -> int:
    """How many the server knows of for the channel `c`."""
    _, count = await link.command(b"PUBSUB", b"NUMSUB", b"c")
    return int(count)


async def nobody_listens(link: Link) -> bool:
    return await subscriptions(link) == 0


async def test_everybody_who_listens_hears_a_message(link: Link) -> None:
    async with (
        asyncio.timeout(BOUND),
        link.listening("c") as one,
        link.listening("c") as two,
        link.listening("d") as other,
    ):
        assert await subscriptions(link) == 1
        await link.command(b"PUBLISH", b"c", b"x")
        await asyncio.wait([one, two])
        assert not other.done()


async def test_a_channel_is_left_when_nobody_listens_any_more(link: Link) -> None:
    async with link.listening("c"):
        async with link.listening("c"):
            pass
        assert await subscriptions(link) == 1
    await eventually(lambda: nobody_listens(link))


async def test_who_listens_is_woken_when_the_connection_is_lost_and_may_listen_again(link: Link) -> None:
    async with asyncio.timeout(BOUND):
        async with link.listening("c") as message:
            await link.command(b"CLIENT", b"KILL", b"TYPE", b"pubsub")
            await message
        async with link.listening("c") as message:
            await link.command(b"PUBLISH", b"c", b"x")
            await message


async def test_a_server_that_lets_nobody_listen_for_a_moment_is_asked_again(start_server: StartServer) -> None:
    server = start_server("redis")
    link = Link(SingleServer(server.url))
    await link.command(b"CONFIG", b"SET", b"maxclients", 1)
    with pytest.raises((StoreUnavailable, StoreRefused)):
        async with link.listening("c"):
            pass
    await link.command(b"CONFIG", b"SET", b"maxclients", 100)
    async with asyncio.timeout(BOUND), link.listening("c") as message:
        await link.command(b"PUBLISH", b"c", b"x")
        await message
    await link.close()


async def test_a_listener_that_was_cancelled_leaves_nothing(link: Link) -> None:
    async def listen(entered: asyncio.Event) -> Any:
        async with link.listening("c") as message:
            entered.set()
            await message

    entered = asyncio.Event()
    task = asyncio.create_task(listen(entered))
    await asyncio.wait_for(entered.wait(), BOUND)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: nobody_listens(link))
