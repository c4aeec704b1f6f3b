"""A whole worker process: its event loop, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable

from duly.config import Config
from duly.runtime.recycling import Recycling

YOUNG_OBJECTS = 10_000
"""New objects after which the youngest of them are looked through; Python's own 700 are what a hundred jobs make."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (the extra `fast`), else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def freeze_startup() -> None:
    """Leave what is there when work begins out of every later garbage collection, and look for garbage more seldom.

    Measured on no-op jobs: the longest pause of the loop went from 25 to 10 ms; a collection for every 70 jobs took 5 % of
    the instructions.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


class Link:
    """A worker's end of the line to its supervisor (a socket, by its descriptor).

    Once the worker is online it says there how many seconds its stop may take; that the other end was closed tells the
    worker that its supervisor is gone, however it died.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def say_online(self, patience: float) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone: that is heard, too
            self._socket.send(f"{patience}\n".encode())

    def listen(self, loop: asyncio.AbstractEventLoop, gone: Callable[[], None]) -> None:
        """Call `gone` once when the supervisor is. It says nothing, so all that can be read is the end."""

        def hear() -> None:
            loop.remove_reader(self._socket)
            gone()

        loop.add_reader(self._socket, hear)


def patience(config: Config) -> float:
    """Seconds that a stop takes at most: see Worker.stop; and some for the application's lifespan."""
    return config.grace * 1.25 + 1 + 2 * config.lease + 10


class Stopping:
    """The wish that this process stops: of a signal, of recycling, or because the supervisor is gone."""

    def __init__(self, logger: logging.Logger, *, is_supervised: bool) -> None:
        self.asked = asyncio.Event()
        self._logger, self._is_supervised = logger, is_supervised
        self._loop = asyncio.get_running_loop()
        self._signals = 0

    def ask(self, why: str) -> None:
        """Stop gracefully. Repeatable."""
        if not self.asked.is_set():
            self._logger.info("%s: stopping", why)
            self.asked.set()

    def on_signal(self, number: int, _frame: object) -> None:
        """A handler of Python's own, not of the loop: it is heard while a job blocks the loop."""
        name = signal.Signals(number).name
        self._signals += 1
        if self._is_supervised:
            # However often: a service manager signals each process of a service, and the supervisor passes its signal
            # on. Whom it must, it kills.
            self._loop.call_soon_threadsafe(self.ask, name)
        elif self._signals > 1:
            os.write(2, b"a second signal: ending at once; leases run out and the jobs are taken over\n")
            os._exit(128 + number)
        else:
            os.write(2, f"{name}: stopping; once more ends at once\n".encode())
            self._loop.call_soon_threadsafe(self.asked.set)


def run_until_stopped(start: Callable[[], Awaitable[None]], stop: Callable[..., Awaitable[None]], config: Config,
                      recycling: Recycling, link: Link | None) -> None:  # fmt: skip
    """Start, wait for a reason to stop, stop: SIGINT, SIGTERM, recycling, a supervisor that is gone.

    A second signal ends the process at once with its number, unless it has a supervisor.
    """

    async def main() -> None:
        stopping = Stopping(config.logger, is_supervised=link is not None)
        former = {number: signal.signal(number, stopping.on_signal) for number in SIGNALS}
        recycling.ask = stopping.ask
        if link is not None:
            link.listen(asyncio.get_running_loop(), lambda: stopping.ask("the supervisor is gone"))
        watch = asyncio.create_task(recycling.watch())
        try:
            await start()
            freeze_startup()
            if link is not None:
                link.say_online(patience(config))
            await stopping.asked.wait()
            await stop(leaving=True)
        finally:
            watch.cancel()
            for number, handler in former.items():
                signal.signal(number, handler)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
