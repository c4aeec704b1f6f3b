"""Several independent servers as one store: shards lie on all of them, locks and membership on the master.

A server that is away keeps only its own shards from being used. Nothing spans servers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from duly.clock import SYSTEM_CLOCK
from duly.core.measures import Counts
from duly.core.shards import place_of
from duly.errors import ConfigurationError, StoreError, StoreRefused
from duly.identity import new_name
from duly.stores.base import Page, Registry, Shard, Store
from duly.stores.capabilities import Calling, Examined, Finding, Forgetful, ListsLocks, Mapped, Measured, Numbered

PATIENCE = 1.0
ASK_AGAIN = 10.0
"""Seconds for which a server may be asked for its number, and between two such attempts."""


class SeveralStores:
    """The stores in the order of the list; `master` is an index."""

    def __init__(self, stores: Sequence[Store], master: int = 0) -> None:
        self.stores, self._master = tuple(stores), master
        self.master = self.stores[master]
        self.url = ", ".join(store.url for store in self.stores)
        self.servers = len(self.stores)
        self._epoch = 0
        self._numbered: set[int] = set()  # those that have said that they are where they are listed
        self._list, self._ask_again = "", float("-inf")

    @property
    def epoch(self) -> int:
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        for store in self.stores:
            if isinstance(store, Mapped):
                store.epoch = epoch

    async def connect(self) -> None:
        """The master has to answer; another one may be away, its shards wait for it."""
        faults = await asyncio.gather(*(store.connect() for store in self.stores), return_exceptions=True)
        for store, fault in zip(self.stores, faults, strict=True):
            if fault is not None and (store is self.master or not isinstance(fault, StoreError)):
                raise fault

    async def close(self) -> None:
        await asyncio.gather(*(store.close() for store in self.stores))

    def sibling(self, timeout: float | None = None) -> SeveralStores:
        return SeveralStores([store.sibling(timeout) for store in self.stores], self._master)

    def shard(self, name: str) -> Shard:
        place = place_of(name)
        return self.stores[place.server].shard(place._replace(server=0).name)

    async def _check_numbers(self) -> None:
        """Each server keeps which one of which list it is, from when it was first in one. Raises ConfigurationError for a
        list in another order, or with another master; those that do not answer are asked again with the next look."""
        if self._master not in self._numbered:
            self._list = await self._number(self._master, f"{new_name()}@{self._master}")
        now = SYSTEM_CLOCK.monotonic()
        if now < self._ask_again:
            return
        self._ask_again = now + ASK_AGAIN  # one that is away must not hold up who only wants the map
        asked = [self._number_soon(index) for index in range(self.servers) if index not in self._numbered]
        for fault in await asyncio.gather(*asked, return_exceptions=True):
            if fault is not None:
                self._ask_again = now
                raise fault

    async def _number_soon(self, index: int) -> None:
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._number(index, self._list)

    async def _number(self, index: int, name: str) -> str:
        """The name of the list that a server says it is in."""
        store = self.stores[index]
        told = await store.number(f"{name} {index}") if isinstance(store, Numbered) else f"{name} {index}"
        found, _, number = told.rpartition(" ")
        is_master = index == self._master
        if number != str(index) or (found.rpartition("@")[2] != str(self._master) if is_master else found != name):
            raise ConfigurationError(
                f"{store.url} is number {number} of its list, whose master is {found.rpartition('@')[2]}; here it is number "
                f"{index}, and the master {self._master}: give every process the same list, in the same order"
            )
        self._numbered.add(index)
        return found

    async def shard_map(self, queue: str, partitions: int, servers: int = 0) -> bytes | None:
        if len(self._numbered) < self.servers:
            await self._check_numbers()
        if isinstance(self.master, Mapped):
            return await self.master.shard_map(queue, partitions, servers or self.servers)
        await self.master.beat("", b"", 1, [queue] if queue else [])
        return b'{"servers":%d}' % self.servers

    async def change_map(self, before: bytes | None, after: bytes) -> bool:
        return isinstance(self.master, Mapped) and await self.master.change_map(before, after)

    async def registry(self) -> Registry:
        return await self.master.registry()

    async def beat(self, node: str, record: bytes, ttl: int, queues: Sequence[str]) -> None:
        await self.master.beat(node, record, ttl, queues)

    async def examine(self) -> list[Finding]:
        findings: list[Finding] = []
        for store in self.stores:
            if not isinstance(store, Examined):
                continue
            try:
                found = await store.examine()
            except StoreError as error:
                found = [Finding("error", str(error), "see that it runs; its part of the work waits for it")]
            findings += [Finding(finding.level, f"{store.url}: {finding.what}", finding.advice) for finding in found]
        return findings

    async def lock(self, name: str, owner: str, ttl: int, *, places: int = 1, waiting: int = 0) -> int | None:
        return await self.master.lock(name, owner, ttl, places=places, waiting=waiting)

    async def unlock(self, name: str, owner: str) -> bool:
        return await self.master.unlock(name, owner)

    async def locks(self, cursor: str, limit: int) -> Page:
        """As the master does it. Raises StoreRefused if it does not tell."""
        if not isinstance(self.master, ListsLocks):
            raise StoreRefused(f"{self.master.url} does not tell which locks are held")
        return await self.master.locks(cursor, limit)

    def called(self, name: str, owner: str) -> AbstractAsyncContextManager[asyncio.Future[None]]:
        """As the master does it. Raises StoreRefused if it does not call."""
        if not isinstance(self.master, Calling):
            raise StoreRefused(f"{self.master.url} calls nobody: ask it again")
        return self.master.called(name, owner)

    async def measure(self, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
        """As the master does it; nothing is kept if it does not."""
        if isinstance(self.master, Measured):
            await self.master.measure(minute, counts, keep)

    async def measured(self, first: int, last: int) -> Mapping[int, Mapping[str, Counts]]:
        return await self.master.measured(first, last) if isinstance(self.master, Measured) else {}

    async def forget(self) -> None:
        for store in self.stores:
            if isinstance(store, Forgetful):
                await store.forget()


def together(stores: Sequence[Store], master: int) -> Store:
    """The one store, or all as one. Raises ConfigurationError."""
    if master >= len(stores):
        raise ConfigurationError(f"master={master} is the index of no server: {len(stores)} listed, from 0")
    return stores[0] if len(stores) == 1 else SeveralStores(stores, master)
