"""The path of a job on Redis: each verb one script, whose file says what it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duly.clock import Clock
from duly.core.job import Claimed, NewJob
from duly.errors import FormatError, StoreRefused, StoreUncertain
from duly.stores.base import FORMAT, Answer, Batch, Limits, Renewal, Renewed, Settled, Settlement, check_size
from duly.stores.redis.keys import ShardKeys
from duly.stores.redis.link import UNTOLD, Link
from duly.stores.redis.packing import due_of, keeps_result, options_of, pack_runs, read_counts, read_dues, read_holder
from duly.stores.redis.scripts import Script, script

_SETTLED: dict[int, Settled] = {
    ord("a"): "applied", ord("r"): "repeated", ord("t"): "taken", ord("c"): "cancel asked", ord("m"): "map changed",
}  # fmt: skip
_RENEWED: dict[int, Renewed] = {ord("a"): "applied", ord("t"): "taken", ord("c"): "cancel asked"}


class ShardCalls:
    """What every room of a shard needs: its link, its keys, and how a script is called."""

    def __init__(self, link: Link, keys: ShardKeys, queue: str, limits: Limits, clock: Clock | None) -> None:
        self.queue = queue
        self.link, self.keys, self.limits, self.clock = link, keys, limits, clock
        self.epoch = 0
        self._prepared: dict[str, tuple[Script, tuple[str, ...]]] = {}
        self._checked = False

    def prepare(self, name: str) -> tuple[Script, tuple[str, ...]]:
        """The script of a verb and this shard's keys for it."""
        prepared = self._prepared.get(name)
        if prepared is None:
            loaded = script(name)
            prepared = self._prepared[name] = (loaded, self.keys.named(loaded.keys))
        return prepared

    async def call(self, name: str, *args: Any, more_keys: Sequence[str] = (), at_once: bool = False) -> Any:
        """Run the script of a verb; the first argument of all scripts is the time, empty for the server's own.

        at_once: do not wait for other calls of this turn of the loop; there is none that belongs to this one.
        """
        if not self._checked:
            await self._check_format()
        loaded, keys = self._prepared.get(name) or self.prepare(name)
        now = self.clock.epoch_us() if self.clock is not None else b""
        answer = self.link.call(loaded, (*keys, *more_keys) if more_keys else keys, (now, *args))
        if at_once:
            self.link.flush()
        return await answer

    async def call_replicated(self, name: str, *args: Any, at_once: bool = False) -> Any:
        """As `call`; with `replicas`, only when so many have what it wrote. Raises StoreUncertain otherwise."""
        if not self.limits.replicas:
            return await self.call(name, *args, at_once=at_once)
        server = self.link.server_id_of(self.keys.prefix)
        reply = await self.call(name, *args, at_once=at_once)
        present = self.link.server_id_of(self.keys.prefix)
        confirmed = await self.link.replicated(self.keys.key("meta"), self.limits.replicas)
        if confirmed == UNTOLD:
            raise StoreRefused("durability='replicated' needs to know which server answers: allow INFO to this user")
        if not server == present == confirmed:
            raise StoreUncertain(f"another server than the one that answered {name} has confirmed it")
        return reply

    async def _check_format(self) -> None:
        """Once per shard object: refuse data written in a newer format, and say ours where there is none."""
        meta = self.keys.key("meta")
        found = await self.link.command(b"HGET", meta, b"format")
        if found is None:
            await self.link.command(b"HSETNX", meta, b"format", FORMAT)
        elif int(found) > FORMAT:
            raise FormatError(
                f"queue {self.queue!r} holds data of format {int(found)}; this duly reads up to {FORMAT}: upgrade this node"
            )
        self._checked = True


class RedisJobs(ShardCalls):
    """enqueue, claim, start, renew, settle, wait."""

    async def enqueue(self, client: str, n: int, jobs: Sequence[NewJob], epoch: int = 0) -> list[Answer]:
        check_size(jobs)
        if not jobs:
            return []
        args: list[Any] = [client, n, self.limits.history, epoch]
        for job in jobs:
            args += (job.id, due_of(job), options_of(job), job.body)
        call = self.call_replicated if self.limits.replicas else self.call
        reply = await call("enqueue", *args, at_once=True)
        if isinstance(reply, int):
            return [("created", job.id) for job in jobs]
        return [(reply[i].decode(), reply[i + 1].decode()) for i in range(0, len(reply), 2)]

    async def claim(self, node: str, n: int, limit: int, lease: int, shortest: int) -> Batch:
        server = self.link.server_id_of(self.keys.prefix)
        reply = await self.call("claim", node, n, limit, lease, shortest, self.limits.history, server)
        fence, now, wait_us, looks, gap, backwards, ids, values, counts, befores, moved, dues = reply
        jobs: list[Claimed | None] = []
        for id, value, due in zip(ids, values, read_dues(dues, len(ids)), strict=True):
            if value is None:
                jobs.append(None)
                continue
            flags, length = value[6], value[7]
            jobs.append(
                Claimed(id.decode(), value[8 + length :], int.from_bytes(value[:6]), (flags >> 1) & 3, flags & 1 == 1,
                        value[8 : 8 + length].decode() if length else None, 0, 0, 0, None, False, due)
            )  # fmt: skip
        for i in range(0, len(counts), 2):
            if (job := jobs[counts[i] - 1]) is not None:
                job.attempts, job.crashes, job.unfit_since = read_counts(counts[i + 1])
        for i in range(0, len(befores), 3):
            if (job := jobs[befores[i] - 1]) is not None:
                job.before = read_holder(befores[i + 1]) if befores[i + 1] else None
                job.cancelled = bool(befores[i + 2])
        wait = int(wait_us)
        return Batch(
            int(fence), int(now), [job for job in jobs if job is not None], None if wait < 0 else wait, looks == 1,
            looks == 2, bool(gap), backwards, bool(moved),
        )  # fmt: skip

    async def start(self, holds: Sequence[tuple[str, int]]) -> list[bool]:
        check_size(holds)
        args: list[Any] = []
        for id, fence in holds:
            args += (id, fence)
        return [answer == 1 for answer in await self.call_replicated("start", *args)]

    async def renew(self, renewals: Sequence[Renewal]) -> list[Renewed]:
        check_size(renewals)
        args: list[Any] = []
        for id, fence, lease, progress in renewals:
            args += (id, fence, lease, progress or b"")
        return [_RENEWED[letter] for letter in await self.call("renew", *args)]

    async def settle(self, node: str, n: int, settlements: Sequence[Settlement]) -> list[Settled]:
        check_size(settlements)
        if not settlements:
            return []
        limits = self.limits
        results = [self.keys.result(s.id) for s in settlements if s.result is not None and keeps_result(s)]
        args = (node, n, limits.remember_ms, limits.dead_count, limits.dead_ms, limits.history)
        letters = await self.call("settle", *args, pack_runs(settlements), more_keys=results)
        return [_SETTLED[letter] for letter in letters]

    async def wait(self, seconds: float) -> bool:
        return await self.link.pop(self.keys.key("wake"), seconds)
