"""The parent of `duly worker --processes N`: keeps N worker processes running, and runs nothing of the application.

Each is started as `python -m duly worker …` (no fork), in a session of its own: Ctrl-C in a terminal reaches this
process alone, which decides. Each has one end of a socket (runtime/process.py, Link): it says there that it is online,
and sees by its end of file that this process is gone, however it died.

The first worker goes ahead, and the others follow once it is online. So what keeps an application from starting is
said once, not N times; nothing but a change can mend it, so it ends the supervisor too, or waits for the next change
(--reload). Once a worker has been online, whatever ends one is followed by a successor, after a pause that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from duly.cli.reload import changes
from duly.clock import SYSTEM_CLOCK
from duly.runtime.loop import Backoff

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds
STEADY = 30.0
"""Seconds after which a worker's death has nothing to do with that of its forerunner."""
PATIENCE = 60.0
"""Seconds for the stop of a worker that has not said yet how many it needs."""

logger = logging.getLogger("duly")


def require_posix(platform: str = sys.platform) -> None:
    """Raises click.UsageError on Windows, which has neither the signals nor the sessions that this needs."""
    if platform == "win32":
        raise click.UsageError(
            "--processes and --reload are not supported on Windows: start `duly worker` several times instead"
        )


class End(enum.Enum):
    """What the end of a worker process means."""

    TOLD = "it was told to stop"
    DONE = "it stopped by itself, well: it was recycled, or signalled by somebody else"
    HOPELESS = "it cannot start, and another try would end the same way"
    DIED = "all else"


def judge(code: int, *, is_told: bool, was_online: bool, is_proven: bool) -> End:
    """`code`: as of subprocess. is_proven: a worker with this code has been online before."""
    if is_told:
        return End.TOLD
    if was_online and code == 0:
        return End.DONE
    return End.HOPELESS if code >= 0 and not is_proven else End.DIED


def ended_how(code: int) -> str:
    """How a process ended, for a sentence."""
    if code >= 0:
        return f"ended with code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"was killed by {known.get(-code, f'signal {-code}')}"


def processes(count: int) -> str:
    """`1 worker process`, `2 worker processes`."""
    return f"{count} worker process{'' if count == 1 else 'es'}"


class Restarts:
    """How long successors wait: longer from death to death, until a worker has lived for STEADY seconds."""

    def __init__(self) -> None:
        self._backoff = Backoff(LONGEST_PAUSE, FIRST_PAUSE)

    def pause(self, lived: float) -> float:
        """Seconds until the successor of a worker that lived so many seconds may start."""
        if lived >= STEADY:
            self._backoff.reset()
        return self._backoff.pause()


class WorkerProcess:
    """One worker process, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket, news: Callable[[], None]) -> None:
        self.pid = process.pid
        self.is_online = self.is_told = self.has_ended = False
        self.began = SYSTEM_CLOCK.monotonic()
        self._process, self._link, self._news = process, link, news
        self._patience = PATIENCE
        self._loop = asyncio.get_running_loop()
        self._limit: asyncio.TimerHandle | None = None
        link.setblocking(False)
        self._loop.add_reader(link, self._hear)

    @classmethod
    async def start(cls, arguments: Sequence[str], news: Callable[[], None]) -> WorkerProcess:
        """`duly worker ARGUMENTS…`; `news` is called once it is online. Raises OSError if the system starts no process."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "duly", "worker", *arguments, "--supervisor", str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
                )  # fmt: skip
            except BaseException:
                ours.close()
                raise
        return cls(process, ours, news)

    def _hear(self) -> None:
        """A worker says one thing, or its end is all that is heard."""
        if not self._loop.remove_reader(self._link):
            return  # heard before
        said = b""
        with contextlib.suppress(BlockingIOError):  # it ended in silence, and a child of its own holds its end
            said = self._link.recv(100)
        if said:
            self.is_online, self._patience = True, float(said)
            self._news()

    def tell_to_stop(self) -> None:
        """Stop gracefully; what has not within its patience is killed. Repeatable."""
        if not self.is_told:
            self.is_told = True
            self._signal(signal.SIGTERM)
            self._limit = self._loop.call_later(self._patience, self._kill_late)

    def _kill_late(self) -> None:
        logger.error("worker %d has not stopped within %g s: killed", self.pid, self._patience)
        self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            self._process.send_signal(number)

    async def end(self) -> int:
        """Wait for its end; its exit code, negative for a signal."""
        code = await self._process.wait()
        self.has_ended = True
        if self._limit is not None:
            self._limit.cancel()
        self._hear()  # its end may be known before its last words
        self._link.close()
        return code


class Supervisor:
    """Keeps `count` workers running: `duly worker ARGUMENTS…`. With `root`, code below it that changes is reloaded. The worker
    at place i has metrics_port + i (0: any free one)."""

    def __init__(self, target: str, count: int, arguments: Sequence[str], root: Path | None = None,
                 metrics_port: int | None = None) -> None:  # fmt: skip
        self.target, self.count, self.arguments, self.root = target, count, arguments, root
        self.metrics_port = metrics_port
        self.code = 0
        self._workers: dict[int, WorkerProcess] = {}  # by place
        self._is_proven = False  # a worker of this generation has been online
        self._stopping = asyncio.Event()
        self._generation = 0  # of the code: counts reloads
        self._bell = asyncio.Event()
        self._hangup = asyncio.Event()

    async def run(self) -> int:
        """Until a signal asks to stop, or no worker can start; the exit code of the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        logger.info("supervisor %d runs %s of %s", os.getpid(), processes(self.count), self.target)
        if self.root is None:
            loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
            service = asyncio.create_task(self._roll_when_asked())
        else:  # a closed terminal ends it, as any development server
            service = asyncio.create_task(self._reload_changes(self.root))
        service.add_done_callback(lambda _: self.stop())  # one that fails ends all: its error is raised below
        await asyncio.gather(*(self._keep(place) for place in range(self.count)))
        service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service
        logger.info("supervisor %d has stopped", os.getpid())
        return self.code

    # signals

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            logger.warning("a second signal: killing %s", processes(len(self._workers)))
            for worker in self._workers.values():
                worker.kill()
            os._exit(128 + number)
        logger.info("%s: stopping; once more ends at once", number.name)
        self.stop()

    def stop(self) -> None:
        """Tell all workers to stop; `run` returns when they have. Repeatable."""
        self._stopping.set()
        for worker in self._workers.values():
            worker.tell_to_stop()
        self._ring()

    def _ring(self) -> None:
        """Something has changed: whoever waits for a fact looks again."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def _until(self, fact: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until it is true, until the supervisor stops, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stopping.is_set() and not fact():
                    await self._bell.wait()

    # one place

    async def _keep(self, place: int) -> None:
        """Have a worker at this place, one after the other, until the supervisor stops."""
        restarts = Restarts()
        while not self._stopping.is_set():
            await self._until(lambda: place == 0 or self._is_proven)
            if not self._stopping.is_set():
                await self._keep_one(place, restarts)

    async def _keep_one(self, place: int, restarts: Restarts) -> None:
        """Start a worker, see it out, and wait until its successor may start."""
        generation = self._generation
        pause: float | None
        try:
            worker = await WorkerProcess.start(self._arguments_at(place), lambda: self._came_online(place))
        except OSError as error:
            pause = restarts.pause(0)
            logger.error("no worker could be started: %s; again in %.1f s", error, pause)
        else:
            pause = await self._see_out(place, worker, restarts)
        await self._until(lambda: self._generation != generation, pause)

    def _arguments_at(self, place: int) -> list[str]:
        port = self.metrics_port
        return [*self.arguments, *([] if port is None else [f"--metrics-port={port and port + place}"])]

    def _came_online(self, place: int) -> None:
        if not self._workers[place].is_told:  # else it runs code that has changed since
            self._is_proven = True
        self._ring()

    async def _see_out(self, place: int, worker: WorkerProcess, restarts: Restarts) -> float | None:
        """Wait for the end of a worker; seconds until its successor may start, None: not before a change."""
        self._workers[place] = worker
        if self._stopping.is_set():
            worker.tell_to_stop()
        self._ring()
        code = await worker.end()
        del self._workers[place]
        self._ring()
        end = judge(code, is_told=worker.is_told, was_online=worker.is_online, is_proven=self._is_proven)
        how = f"worker {worker.pid} {ended_how(code)}"
        if end is End.DONE:
            logger.info("%s; its successor starts", how)
        if end is End.HOPELESS and self.root is not None:
            logger.info("%s before it was online; waiting for a change", how)
            return None
        if end is End.HOPELESS:
            logger.info("%s before it was online; so would the others", how)
            self.code = code or 1
            self.stop()
        if end is not End.DIED:
            return 0
        pause = restarts.pause(SYSTEM_CLOCK.monotonic() - worker.began)
        logger.warning("%s; its successor starts in %.1f s", how, pause)
        return pause

    # all places anew

    async def _roll_when_asked(self) -> None:
        """At SIGHUP: one worker after the other makes room for its successor. One more SIGHUP meanwhile: once more."""
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            logger.info("SIGHUP: replacing %s, one by one", processes(self.count))
            for place in range(self.count):
                if not await self._replace(place):
                    logger.error("that one was a successor: the other workers stay as they are")
                    break
            else:
                logger.info("%s replaced", processes(self.count))

    async def _replace(self, place: int) -> bool:
        """Stop the worker of a place and wait for its successor; False if that ended before it was online."""
        former = self._workers.get(place)
        if former is None:  # it has died: its successor starts by itself
            return True
        former.tell_to_stop()
        await self._until(lambda: self._workers.get(place, former) is not former)
        successor = self._workers.get(place, former)
        await self._until(lambda: successor.is_online or successor.has_ended)
        return not successor.has_ended

    async def _reload_changes(self, root: Path) -> None:
        """At a change of the code: all workers stop, and the first of the new ones goes ahead again."""
        async for path in changes(root, self._stopping):
            logger.info("%s has changed: starting the workers anew", path)
            self._generation += 1
            self._is_proven = False
            for worker in self._workers.values():
                worker.tell_to_stop()
            self._ring()
