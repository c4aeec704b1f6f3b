"""Redis Cluster: one link per node, and calls sent to the node that serves their slot.

All keys of a script carry one hash tag, so a call is for one slot. The map of slots is read when it is first needed and
when it proved to be old: a node said MOVED, or did not answer. Several nodes are asked, as one that was cut off does not
know that it was replaced.

While a slot is moved key by key (CLUSTER SETSLOT), a script is refused with TRYAGAIN until it has arrived as a whole:
our scripts name keys that may not exist, and the node cannot tell those from keys that are on the other side.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from duly.errors import StoreError, StoreUnavailable
from duly.stores.redis.link import CALL_TIMEOUT, ELSEWHERE, MOST_TRIES, Call, Link, reason
from duly.stores.redis.listener import Message
from duly.stores.redis.scripts import Script
from duly.stores.redis.slots import SlotMap, read_map, slot_of
from duly.stores.redis.topology import LOST, Address, Hosts
from duly.stores.redis.wire import Wire, pack

PORT = 6_379


class NodeLink(Link):
    """The link to one node; what the node does not serve goes back to the cluster."""

    def __init__(self, cluster: ClusterLink, address: Address) -> None:
        super().__init__(cluster.hosts.server(address), cluster.timeout)
        self.cluster, self.address = cluster, address

    def _refused(self, wire: Wire, call: Call, said: str) -> None:
        if said.startswith(ELSEWHERE) and call.tries < MOST_TRIES:
            address = self.cluster.told(self, said)
            again = call._replace(tries=call.tries + 1, asking=said.startswith("ASK"))
            self.cluster.link(address).forward(again)
        else:
            super()._refused(wire, call, said)

    def _explain(self, said: str) -> StoreError:
        if said.startswith(ELSEWHERE):
            self.cluster.told(self, said)
            return StoreUnavailable(f"the cluster is changing: {said}")
        return super()._explain(said)

    def trouble(self) -> None:
        self.cluster.troubled.add(self.address)


class ClusterLink:
    """What `Link` is to one server: the same calls, each sent to the node that serves its key; for one event loop."""

    def __init__(self, url: str, timeout: float = CALL_TIMEOUT) -> None:
        self.hosts, self.timeout = Hosts(url, PORT), timeout
        if self.hosts.path not in ([], ["0"]):
            raise self.hosts.invalid("a cluster has database 0 only; end the URL after the hosts")
        self.hosts.server(self.hosts.addresses[0])  # refuses options that it does not know
        self.troubled: set[Address] = set()
        """Nodes that did not answer: the map is read again before they are called."""
        self._map: SlotMap | None = None
        self._links: dict[Address, NodeLink] = {}
        self._held: list[tuple[int | None, Call]] = []
        self._reading: asyncio.Task[StoreError | None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    # calls

    def call(self, script: Script, keys: Sequence[str], args: Iterable[Any]) -> asyncio.Future[Any]:
        """See `Link.call`; all keys are in the slot of the first."""
        return self._submit(slot_of(keys[0]), pack((b"EVALSHA", script.digest, len(keys), *keys, *args)), script)

    def command(self, *words: Any) -> asyncio.Future[Any]:
        """Run a plain command: where its key is served, which is the second word and begins with a brace as all of
        ours do; one without a key anywhere."""
        key = words[1] if len(words) > 1 else None
        slot = slot_of(key) if isinstance(key, str) and key.startswith("{") else None
        return self._submit(slot, pack(words), None)

    def server_id_of(self, key: str) -> str:
        """See `Link.server_id_of`."""
        link = self._serving(slot_of(key))
        return link.server_id if link is not None else ""

    def _submit(self, slot: int | None, packed: bytes, script: Script | None) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        link = self._serving(slot)
        if self._closed:
            answer.set_exception(self._is_closed())
        elif link is None or link.address in self.troubled:
            self._held.append((slot, Call(packed, answer, script)))
            self._read_soon()
        else:
            link.forward(Call(packed, answer, script))
        return answer

    def flush(self) -> None:
        """Send what waits; see `Link.flush`."""
        for link in self._links.values():
            link.flush()

    async def pop(self, key: str, seconds: float) -> bool:
        """See `Link.pop`; raises StoreUnavailable too when the slot went to another node meanwhile."""
        return await (await self._reach(key)).pop(key, seconds)

    async def replicated(self, key: str, count: int) -> str:
        """See `Link.replicated`."""
        return await (await self._reach(key)).replicated(key, count)

    @asynccontextmanager
    async def listening(self, channel: str) -> AsyncIterator[Message]:
        """See `Link.listening`. A message reaches all nodes; we listen where its key is served."""
        async with (await self._reach(channel)).listening(channel) as message:
            yield message

    async def close(self) -> None:
        """Let calls under way be answered, then give back every connection."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
        self._closed = True
        await asyncio.gather(*self._leaving, *(link.close() for link in self._links.values()))

    def _is_closed(self) -> StoreUnavailable:
        return StoreUnavailable(f"the connection to {self.hosts.url} is closed")

    # who serves what

    def link(self, address: Address) -> NodeLink:
        """The link to a node, made when it is first needed."""
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = NodeLink(self, address)
        return link

    def told(self, link: NodeLink, said: str) -> Address:
        """Where a node said that a slot is: `MOVED slot host:port`, or ASK, which is for one call only."""
        kind, slot, where = said.split()[:3]
        host, _, port = where.rpartition(":")
        address = (host or link.address[0], int(port))
        if kind == "MOVED" and self._map is not None:
            self._map.slots[int(slot)] = address
            self._map.nodes.add(address)
            self._read_soon()
        return address

    async def masters(self) -> list[NodeLink]:
        """The links to all nodes that serve slots, by a map that is read anew. Raises StoreError."""
        await self._have_read()
        return [self.link(address) for address in self._map.masters] if self._map is not None else []

    def _serving(self, slot: int | None) -> NodeLink | None:
        if self._map is None:
            return None
        if slot is None:
            well = [self.link(address) for address in self._map.masters if address not in self.troubled]
            return next((link for link in well if link.connected), random.choice(well)) if well else None
        address = self._map.slots[slot]
        return self.link(address) if address is not None else None

    async def _reach(self, key: str) -> NodeLink:
        link = self._serving(slot_of(key))
        if link is None or link.address in self.troubled:
            await self._have_read()
            link = self._serving(slot_of(key))
        if link is None:
            raise _unserved()
        return link

    async def _have_read(self) -> None:
        if self._closed:
            raise self._is_closed()
        self._read_soon()
        assert self._reading is not None
        fault = await asyncio.shield(self._reading)
        if fault is not None:
            raise type(fault)(str(fault))

    def _read_soon(self) -> None:
        """Read the map, once at a time; then what waited for it is sent, or fails."""
        if self._reading is None and not self._closed:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> StoreError | None:
        fault: StoreError | None = None
        try:
            async with asyncio.timeout(self.timeout):
                self._map = await read_map(self.hosts, self._map.nodes if self._map is not None else ())
            self.troubled.clear()
            self._leave()
        except StoreError as error:
            fault = error
        except LOST as error:
            fault = StoreUnavailable(f"no node of {self.hosts.url} answers: {reason(error)}")
        finally:
            self._reading = None
            held, self._held = self._held, []
            for slot, call in held:
                self._go_on(slot, call, fault)
            self.flush()
        return fault

    def _go_on(self, slot: int | None, call: Call, fault: StoreError | None) -> None:
        link = self._serving(slot)
        if link is not None and fault is None:
            link.forward(call)
        elif not call.answer.done():
            call.answer.set_exception(_unserved() if fault is None else type(fault)(str(fault)))

    def _leave(self) -> None:
        """Give back the links to nodes that are not in the cluster any more."""
        nodes = self._map.nodes if self._map is not None else set()
        for address in self._links.keys() - nodes:
            task = asyncio.get_running_loop().create_task(self._links.pop(address).close())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


def _unserved() -> StoreUnavailable:
    return StoreUnavailable("no node of the cluster serves the slot of this key")
