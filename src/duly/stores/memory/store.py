"""A store in this process's memory: the executable specification of the contract, and what tests and trials run on.

It keeps nothing: when the process ends, so does all that was in it. One lock makes each verb one atomic step, for all
threads and event loops of the process.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from duly.clock import SYSTEM_CLOCK, Clock
from duly.core.measures import Counts, add, check_minutes, few
from duly.stores.base import Limits, Page, Registry, Shard, Store
from duly.stores.memory.care import CareVerbs
from duly.stores.memory.line import Line
from duly.stores.memory.locks import Locks
from duly.stores.memory.schedules import ScheduleVerbs
from duly.stores.memory.shard import JobVerbs
from duly.stores.memory.state import ShardState
from duly.stores.memory.verbs import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMITS = Limits()


class Memory:
    """What the stores of one URL share: shards, nodes, queues, locks, one clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.shards: dict[str, ShardState] = {}
        self.queues: set[str] = set()
        self.nodes: dict[str, bytes] = {}
        self.nodes_until = Line()
        self.locks = Locks()
        self.minutes: dict[int, dict[str, dict[str, int]]] = {}


class MemoryShard(JobVerbs, CareVerbs, ScheduleVerbs):
    """One queue in memory."""


class MemoryStore:
    """`base.Store` in memory. `memory` is given by those who share it: siblings, and `open_memory` for named ones."""

    def __init__(
        self,
        limits: Limits = LIMITS,
        clock: Clock = SYSTEM_CLOCK,
        url: str = "memory://",
        memory: Memory | None = None,
    ) -> None:
        self.url = url
        self._memory = memory or Memory(clock)
        self._connection = Connection(url, limits, self._memory.clock, self._memory.lock)
        self._shards: dict[str, MemoryShard] = {}

    async def connect(self) -> None:
        self._connection.is_open = True

    async def close(self) -> None:
        self._connection.is_open = False

    def sibling(self, timeout: float | None = None) -> Store:
        return MemoryStore(self._connection.limits, self._memory.clock, self.url, self._memory)

    def shard(self, queue: str) -> Shard:
        shard = self._shards.get(queue)
        if shard is None:
            with self._memory.lock:
                state = self._memory.shards.setdefault(queue, ShardState())
            shard = self._shards[queue] = MemoryShard(queue, state, self._connection)
        return shard

    async def registry(self) -> Registry:
        memory = self._memory
        with self._connection.step() as now_us:
            now = now_us // 1000
            for node in memory.nodes_until.due(now, len(memory.nodes)):
                del memory.nodes[node]
            until = {node: at for node in memory.nodes if (at := memory.nodes_until.at(node)) is not None}
            return Registry(now, dict(memory.nodes), sorted(memory.queues), until)

    async def beat(self, node: str, record: bytes, ttl: int, queues: Sequence[str]) -> None:
        memory = self._memory
        with self._connection.step() as now_us:
            memory.queues.update(queues)
            if not node:
                return  # a process that only pushes names its queues
            if ttl > 0:
                memory.nodes[node] = record
                memory.nodes_until.put(node, now_us // 1000 + ttl)
            else:
                memory.nodes.pop(node, None)
                memory.nodes_until.discard(node)

    async def lock(self, name: str, owner: str, ttl: int, *, places: int = 1, waiting: int = 0) -> int | None:
        with self._connection.step() as now_us:
            return self._memory.locks.take(name, owner, ttl, places, waiting, now_us)

    async def unlock(self, name: str, owner: str) -> bool:
        with self._connection.step() as now_us:
            return self._memory.locks.free(name, owner, now_us // 1000)

    async def locks(self, cursor: str, limit: int) -> Page:
        with self._connection.step() as now_us:
            return self._memory.locks.page(cursor, limit, now_us // 1000)

    async def measure(self, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
        minutes = self._memory.minutes
        with self._connection.step():
            for _ in add(minutes.setdefault(minute, {}), few(counts)):
                pass
            for old in [known for known in minutes if known <= minute - keep]:
                del minutes[old]

    async def measured(self, first: int, last: int) -> Mapping[int, Mapping[str, Counts]]:
        check_minutes(first, last)
        with self._connection.step():
            found = {minute: tasks for minute, tasks in self._memory.minutes.items() if first <= minute <= last}
            return {minute: {task: dict(there) for task, there in tasks.items()} for minute, tasks in found.items()}
