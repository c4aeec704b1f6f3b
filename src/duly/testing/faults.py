"""A store that fails on purpose, by a seeded plan: wrap any store with it, and see what a program makes of its faults."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from duly.errors import StoreError, StoreUnavailable, StoreUncertain
from duly.stores.base import Registry, Shard, Store

REPEATABLE = frozenset({"enqueue", "claim", "start", "renew", "settle", "due", "fire"})
"""The verbs of which a late second copy changes nothing, by number, fence or mark: these may be duplicated."""


@dataclass(frozen=True)
class Faults:
    """How often a call meets which fault, each a chance from 0 to 1, drawn anew for each call.

    before: it fails before it is applied (StoreUnavailable). after: it is applied, and its answer is lost
    (StoreUncertain). delay: it is held up on its way for up to `longest` seconds. duplicate: it arrives a second time,
    up to `longest` seconds later; only verbs in REPEATABLE. verbs: those that are disturbed; None for all.
    """

    before: float = 0.0
    after: float = 0.0
    delay: float = 0.0
    duplicate: float = 0.0
    longest: float = 1.0
    verbs: frozenset[str] | None = None


class Call(Protocol):
    """One verb of the wrapped store."""

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]: ...


class WrappedStore:
    """A store through which every call goes by way of `through`. For wrappers; overrides `through` and `sibling`."""

    def __init__(self, store: Store) -> None:
        self.inner, self.url = store, store.url
        self._shards: dict[str, Shard] = {}

    async def through(self, verb: str, queue: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the call, or not. queue: "" for verbs of the store itself."""
        return await call(*args, **kwargs)

    async def connect(self) -> None:
        await self.inner.connect()

    async def close(self) -> None:
        await self.inner.close()

    def sibling(self, timeout: float | None = None) -> Store:
        return type(self)(self.inner.sibling(timeout))

    def shard(self, queue: str) -> Shard:
        shard = self._shards.get(queue)
        if shard is None:
            shard = self._shards[queue] = cast(Shard, _WrappedShard(self, queue))
        return shard

    async def registry(self) -> Registry:
        return cast(Registry, await self.through("registry", "", self.inner.registry, (), {}))

    async def beat(self, node: str, record: bytes, ttl: int, queues: Sequence[str]) -> None:
        await self.through("beat", "", self.inner.beat, (node, record, ttl, queues), {})

    async def lock(self, name: str, owner: str, ttl: int, *, places: int = 1, waiting: int = 0) -> int | None:
        given = {"places": places, "waiting": waiting}
        return cast("int | None", await self.through("lock", "", self.inner.lock, (name, owner, ttl), given))

    async def unlock(self, name: str, owner: str) -> bool:
        return cast(bool, await self.through("unlock", "", self.inner.unlock, (name, owner), {}))


class _WrappedShard:
    """The shard of a wrapped store: each verb is looked up when it is called, for a store may make its shards anew."""

    def __init__(self, store: WrappedStore, queue: str) -> None:
        self._store, self.queue = store, queue

    def __getattr__(self, verb: str) -> Call:
        if verb.startswith("_") or not hasattr(Shard, verb):
            raise AttributeError(verb)
        store, queue = self._store, self.queue

        async def call(*args: Any, **kwargs: Any) -> Any:
            inner = functools.partial(_on_shard, store, queue, verb)
            return await store.through(verb, queue, inner, args, kwargs)

        setattr(self, verb, call)
        return call


def _on_shard(store: WrappedStore, queue: str, verb: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
    return cast("Awaitable[Any]", getattr(store.inner.shard(queue), verb)(*args, **kwargs))


class FaultyStore(WrappedStore):
    """A store whose calls meet `faults`, drawn from `random`: the same seed and the same calls give the same faults.

    `faults` may be exchanged at any time; Faults() disturbs nothing. `heard` is told of each fault: (verb, its name).
    """

    def __init__(self, store: Store, random: random.Random, faults: Faults = Faults(),
                 heard: Callable[[str, str], None] = lambda _verb, _fault: None) -> None:  # fmt: skip
        super().__init__(store)
        self.random, self.heard = random, heard
        self._shared = [faults]
        self._late: set[asyncio.Task[None]] = set()

    @property
    def faults(self) -> Faults:
        """What calls meet; one for a store and its siblings."""
        return self._shared[0]

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._shared[0] = faults

    async def through(self, verb: str, queue: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        faults = self.faults
        if faults.verbs is not None and verb not in faults.verbs:
            return await call(*args, **kwargs)
        before, after, delay, duplicate = (self.random.random() for _ in range(4))
        if before < faults.before:
            self.heard(verb, "before")
            raise StoreUnavailable(f"{verb} was not sent, on purpose")
        if delay < faults.delay:
            self.heard(verb, "delay")
            await asyncio.sleep(self.random.random() * faults.longest)
        if duplicate < faults.duplicate and verb in REPEATABLE:
            self.heard(verb, "duplicate")
            self._send_late(call, args, kwargs, self.random.random() * faults.longest)
        answer = await call(*args, **kwargs)
        if after < faults.after:
            self.heard(verb, "after")
            raise StoreUncertain(f"the answer of {verb} was lost, on purpose")
        return answer

    def _send_late(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float) -> None:
        """In a context of its own: a copy on its way does not die with its sender."""

        async def send() -> None:
            await asyncio.sleep(seconds)
            with contextlib.suppress(StoreError):  # refused as late, or lost as well: nobody waits for it
                await call(*args, **kwargs)

        task = asyncio.get_running_loop().create_task(send(), context=contextvars.Context())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def close(self) -> None:
        """Copies that are still on their way are lost."""
        for task in list(self._late):
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await super().close()

    def sibling(self, timeout: float | None = None) -> Store:
        """Over the same state, with the same faults, and the same source of chance."""
        sibling = FaultyStore(self.inner.sibling(timeout), self.random, heard=self.heard)
        sibling._shared = self._shared
        return sibling
