"""Who else is there, and where schedules are placed by the ring: what nodes know of each other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from duly.core.ring import Ring
from duly.stores.base import Store

LOOK_SECONDS = 60.0
"""How often a node looks who else is there, while no schedule is placed by the ring; half as much more or less."""
CLOSE_SECONDS = 2.0
"""How often it looks when some are."""
SECONDS_EACH = 0.05
"""How much more seldom for each node: what all of them publish is read by all of them."""


class Serving(Protocol):
    """A node, as it publishes itself."""

    @property
    def id(self) -> str: ...

    @property
    def queues(self) -> Sequence[str]: ...

    @property
    def placing(self) -> Sequence[str]: ...


def ring_of(nodes: Iterable[Serving], queue: str) -> Ring:
    """The nodes that serve a queue, each with an equal part of its schedules."""
    return Ring(node.id for node in nodes if queue in node.queues)


class Neighbours:
    """Who else is there, and in which queues there are schedules that are placed by the ring. A service of a node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._nodes: list[Serving] = []
        self._rings: dict[str, Ring] = {}
        self._seen: dict[str, set[str]] = {}  # queue -> those of its shards that have such schedules
        self._told: frozenset[str] = frozenset()
        self.begins: Callable[[], None] = lambda: None
        """Called when such a schedule is seen in a queue that had none."""

    async def tick(self) -> float:
        """Look; returns the seconds until the next time."""
        registry = await self._store.registry()
        nodes = [node for packed in registry.nodes.values() if (node := _read(packed)) is not None]
        if [(node.id, node.queues) for node in nodes] != [(node.id, node.queues) for node in self._nodes]:
            self._rings = {}
        self._nodes = nodes
        self._told = frozenset(queue for node in nodes for queue in node.placing)
        every = CLOSE_SECONDS if self.is_placing else LOOK_SECONDS
        return (every + len(nodes) * SECONDS_EACH) * (0.5 + random.random())

    def ring(self, queue: str) -> Ring:
        """By what is known now; the same object as long as that is the same."""
        if queue not in self._rings:
            self._rings[queue] = ring_of(self._nodes, queue)
        return self._rings[queue]

    @property
    def placing(self) -> list[str]:
        """Queues in which this node has seen such schedules; it tells the others."""
        return sorted(self._seen)

    def are_placed(self, queue: str) -> bool:
        """Whether the queue has such schedules, as far as any node knows."""
        return queue in self._seen or queue in self._told

    @property
    def is_placing(self) -> bool:
        """Whether any queue has such schedules, as far as any node knows."""
        return bool(self._seen or self._told)

    def saw(self, queue: str, shard: str, placed: bool) -> None:
        """What a look at the schedules of a shard has shown."""
        is_news = placed and not self.are_placed(queue)
        shards = self._seen.pop(queue, set()) - {shard} | ({shard} if placed else set())
        if shards:
            self._seen = {**self._seen, queue: shards}  # another thread reads it
        if is_news:
            self.begins()


class _Record(msgspec.Struct, frozen=True):
    """What is read here of what a node publishes (`NodeRecord`)."""

    id: str
    queues: tuple[str, ...]
    placing: tuple[str, ...] = ()


_decode = msgspec.msgpack.Decoder(_Record).decode


def _read(packed: bytes) -> Serving | None:
    try:
        return _decode(packed)
    except msgspec.MsgspecError:
        return None  # of a newer duly
