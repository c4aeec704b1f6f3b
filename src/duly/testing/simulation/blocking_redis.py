"""The Redis store over a connection that is used synchronously: the real scripts on a real server, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from duly.stores.base import Limits
from duly.stores.redis.link import explain
from duly.stores.redis.scripts import Script
from duly.stores.redis.store import RedisStore
from duly.testing.clock import ManualClock
from duly.testing.simulation.stores import wait_for_token


class BlockingLink:
    """`stores.redis.link.Link`, answering before it returns."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def call(self, script: Script, keys: Sequence[str], args: Iterable[Any]) -> asyncio.Future[Any]:
        words = (len(keys), *keys, *args)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            try:
                answer.set_result(self._client.execute_command("EVALSHA", script.digest, *words))
            except NoScriptError:
                answer.set_result(self._client.execute_command("EVAL", script.text, *words))
        except ResponseError as error:
            answer.set_exception(explain(error))
        return answer

    def command(self, *words: Any) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result(self._client.execute_command(*words))
        return answer

    def server_id_of(self, key: str) -> str:
        """One server, all through."""
        return "simulated"

    def flush(self) -> None:
        """Nothing waits to be sent."""

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[asyncio.Future[None]]:
        """Nothing is heard: whoever listens looks again after a time."""
        yield asyncio.get_running_loop().create_future()

    async def pop(self, key: str, seconds: float) -> bool:
        return await wait_for_token(lambda: self._client.lpop(key) is not None, seconds)

    async def close(self) -> None:
        """The connection is shared."""


class BlockingRedisStore(RedisStore):
    """One connection for the store and its siblings."""

    def __init__(self, url: str, namespace: str, limits: Limits, clock: ManualClock,
                 client: redis.Redis | None = None) -> None:  # fmt: skip
        super().__init__(url, namespace, limits, clock)
        self._client: Any = client or redis.Redis.from_url(url, decode_responses=False)
        self._client.response_callbacks.clear()
        self._link = BlockingLink(self._client)  # type: ignore[assignment]

    def empty(self) -> None:
        """Delete everything on the server."""
        self._client.execute_command("FLUSHALL")

    async def connect(self) -> None:
        """It is connected."""

    async def close(self) -> None:
        """One sibling of many."""

    def hang_up(self) -> None:
        """Close the connection."""
        self._client.close()

    def sibling(self, timeout: float | None = None) -> BlockingRedisStore:
        url, namespace, limits, clock = self._given
        assert isinstance(clock, ManualClock)
        return BlockingRedisStore(url, namespace, limits, clock, self._client)
