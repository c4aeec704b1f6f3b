"""What lies between a simulated process and the store: latency, partitions, and a store that may be away.

Requests are served outside of every process: what was sent is served though its sender has died meanwhile. Each verb is
one call of plain code at one moment of virtual time, whatever the store; what it answered is told to the witness.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine
from typing import Any

from duly.errors import StoreError, StoreUnavailable, StoreUncertain
from duly.stores.base import Store
from duly.testing.clock import ManualClock
from duly.testing.faults import Call, WrappedStore
from duly.testing.loop import Process, VirtualLoop

LATENCY = (0.0002, 0.004)
Witness = Callable[[str, str, str, tuple[Any, ...], dict[str, Any], Any], None]
"""(process, verb, queue, positional arguments, keywords, the answer or error): what the store did, as it did it."""


class StoreClock(ManualClock):
    """The store's clock: the loop's time, and what an administrator adds to it or takes away."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.now

    def epoch_us(self) -> int:
        return super().epoch_us() + round(self._loop.now * 1e6)


class NodeClock:
    """A node's clocks: the durations are right, the wall clock is off by `skew` seconds."""

    def __init__(self, loop: VirtualLoop, skew: float) -> None:
        self._loop, self._skew = loop, skew

    def monotonic(self) -> float:
        return self._loop.now

    def epoch_us(self) -> int:
        return round((1.75e9 + self._loop.now + self._skew) * 1e6)


class Server:
    """The store as all processes reach it."""

    def __init__(self, loop: VirtualLoop, random: random.Random, patience: float, witness: Witness) -> None:
        self.loop, self.random, self.patience, self.witness = loop, random, patience, witness
        self.is_away = False
        self.is_closed = False
        self.context = contextvars.Context()
        self.cut: dict[Process, None] = {}
        self.waits: dict[asyncio.Task[None], None] = {}

    def latency(self) -> float:
        least, most = LATENCY
        return least + (most - least) * self.random.random() ** 3

    def is_out_of_reach(self, process: Process) -> bool:
        return self.is_away or process in self.cut

    def serve(self, process: Process, verb: str, queue: str, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a verb to its end, now. Stores of a simulation never wait in a verb (`wait` has a way of its own)."""
        try:
            work.send(None)
        except StopIteration as done:
            return done.value
        work.close()
        raise AssertionError(f"{verb} waited for something in the middle of its step")


class RemoteStore(WrappedStore):
    """A process's connection to the server."""

    def __init__(self, store: Store, server: Server, process: Process) -> None:
        super().__init__(store)
        self._server, self._process = server, process
        self._is_connected = False

    async def connect(self) -> None:
        if self._is_connected:
            return
        await self._reach("connect")
        await self.inner.connect()
        self._is_connected = True

    async def close(self) -> None:
        self._is_connected = False

    def sibling(self, timeout: float | None = None) -> Store:
        return RemoteStore(self.inner.sibling(timeout), self._server, self._process)

    async def _reach(self, verb: str) -> None:
        """Wait as long as it takes to find out that the store cannot be reached, if it cannot."""
        server = self._server
        if server.is_closed:
            raise StoreUnavailable("the simulation is over")
        if server.is_out_of_reach(self._process):
            patient = server.random.random() < 0.3 and verb != "renew"
            await asyncio.sleep(server.patience if patient else server.latency())
            kind = StoreUncertain if patient else StoreUnavailable
            raise kind(f"{verb}: the store is out of reach")

    async def through(self, verb: str, queue: str, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        await self._reach(verb)
        if not self._is_connected:
            raise StoreUnavailable(f"{verb}: not connected")
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        arrive = self._wait if verb == "wait" else self._arrive
        server = self._server
        server.loop.call_later(server.latency(), arrive, reply, verb, queue, call, args, kwargs, context=server.context)
        return await reply

    def _arrive(self, reply: asyncio.Future[Any], verb: str, queue: str, call: Call, args: tuple[Any, ...],
                kwargs: dict[str, Any]) -> None:  # fmt: skip
        server = self._server
        if server.is_closed or server.is_out_of_reach(self._process):
            self._answer_later(reply, server.patience, None, StoreUncertain(f"{verb}: no answer"))
            return
        answer: Any = None
        error: StoreError | None = None
        try:
            answer = server.serve(self._process, verb, queue, call(*args, **kwargs))  # type: ignore[arg-type]
        except StoreError as fault:
            error = fault
        server.witness(self._process.name, verb, queue, args, kwargs, answer if error is None else error)
        self._answer_later(reply, server.latency(), answer, error)

    def _wait(self, reply: asyncio.Future[Any], verb: str, queue: str, call: Call, args: tuple[Any, ...],
              kwargs: dict[str, Any]) -> None:  # fmt: skip
        """The server keeps who waits, and does not notice that it is gone."""
        server = self._server
        if server.is_closed:
            _answer(reply, None, StoreUnavailable("wait: the simulation is over"))
            return

        async def wait() -> None:
            found = await call(*args, **kwargs)
            lost = server.is_closed or server.is_out_of_reach(self._process)
            _answer(reply, found, StoreUnavailable("wait: the connection broke") if lost else None)

        task = server.loop.create_task(wait(), context=contextvars.Context())
        server.waits[task] = None
        task.add_done_callback(lambda done: server.waits.pop(done, None))

    def _answer_later(self, reply: asyncio.Future[Any], seconds: float, answer: Any, error: StoreError | None) -> None:
        server = self._server
        server.loop.call_later(seconds, _answer, reply, answer, error, context=server.context)


def _answer(reply: asyncio.Future[Any], answer: Any, error: StoreError | None) -> None:
    if reply.done():
        return  # who asked went away
    if error is None:
        reply.set_result(answer)
    else:
        reply.set_exception(error)
