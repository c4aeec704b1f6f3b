"""Handlers that the tests of child processes run: at the top of a module, where a child can import them.

They report through files: in a folder given as an argument, or in the ledger of the acceptance tests, at $LEDGER.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duly
from duly import Context, Discard, Fail, RetryIn, Scheduler, Snooze
from duly.runtime import locate
from tests.acceptance.nodes import Ledger

scheduler = Scheduler(os.environ.get("DULY_URL", "memory://"))
ledger = Ledger(Path(os.environ.get("LEDGER", "ledger")))
LOOK = 0.005
hoard: list[bytes] = []
loops: list[Any] = []


def mark(folder: str, name: str, text: str = "") -> None:
    """A file that is whole as soon as it is there."""
    half = Path(folder) / f".{name}.{os.getpid()}"
    half.write_text(text or str(os.getpid()))
    half.rename(Path(folder) / name)


def names(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def wait_for(folder: str, name: str) -> None:
    while not (Path(folder) / name).exists():
        time.sleep(LOOK)


# --- what is returned ------------------------------------------------------------------------------------------------


@dataclass
class Order:
    id: UUID
    when: datetime
    count: int = 1


def pid() -> int:
    return os.getpid()


async def pid_async() -> int:
    await asyncio.sleep(0)
    return os.getpid()


async def same_loop() -> bool:
    loops.append(asyncio.get_running_loop())
    return len({id(loop) for loop in loops}) == 1


@scheduler.task(executor="process", keep_result=True)
def declared() -> int:
    return os.getpid()


def around(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapped(*args: Any) -> Any:
        return fn(*args)

    return wrapped


@around
@scheduler.task(executor="process", keep_result=True)
def decorated() -> int:
    return os.getpid()


def kinds(order: Order, *more: int, name: str = "") -> list[Any]:
    return [type(order).__name__, type(order.id).__name__, type(order.when).__name__, order.count, more, name]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def told(ctx: Context) -> dict[str, Any]:
    current = duly.current()
    return {
        "job": [ctx.job.id, ctx.job.task, ctx.job.queue, ctx.job.priority, ctx.job.enqueued_at],
        "counts": [ctx.attempt, ctx.crashes],
        "fence": ctx.fence,
        "state": ctx.state,
        "cancelled": ctx.cancelled,
        "current": current.job.id == ctx.job.id,
        "loading": locate.is_loading,
        "inheritable": [fd for fd in range(3, 64) if is_open(fd) and os.get_inheritable(fd)],
    }


async def told_async() -> str:
    return duly.current().job.id


def big(size: int) -> bytes:
    return b"x" * size


def length(data: bytes) -> int:
    return len(data)


def unencodable() -> object:
    return object()


def false() -> bool:
    return False


def coroutine() -> Any:
    return pid_async()


# --- what is raised --------------------------------------------------------------------------------------------------


def raising(seconds: float, what: str) -> None:
    """How it ends: by name."""
    raise {
        "error": ValueError("no such order"),
        "odd": ValueError("\ud800"),
        "exit": SystemExit(7),
        "interrupt": KeyboardInterrupt(),
        "retry in": RetryIn(seconds, "later"),
        "snooze": Snooze(seconds, "not yet"),
        "discard": Discard("not needed"),
        "fail": Fail("never"),
    }[what]


async def raising_async(seconds: float, what: str) -> None:
    await asyncio.sleep(0)
    raising(seconds, what)


# --- dying -----------------------------------------------------------------------------------------------------------


def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    elif how == "nowhere":
        ctypes.string_at(0)
    elif how == "forked":  # what it leaves behind holds its socket open
        if os.fork() == 0:
            time.sleep(30)
        os._exit(4)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "segv": signal.SIGSEGV}[how])


def die_in(folder: str) -> None:
    mark(folder, f"died-{len(names(folder))}")
    os.kill(os.getpid(), signal.SIGSEGV)


def die_after_return() -> int:
    """Its process ends itself as soon as it has answered."""
    process = os.getpid()

    def soon() -> None:
        time.sleep(0.05)
        os.kill(process, signal.SIGKILL)

    threading.Thread(target=soon, daemon=True).start()
    return process


def spoil_the_line(how: str) -> None:
    """Does to every open socket what a handler should not do."""
    for fd in range(3, 64):
        try:
            line = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if how == "closed":
            os.close(fd)
        elif how == "half closed":
            line.shutdown(socket.SHUT_WR)
        else:
            line.sendall(b"\0\0\0\1\xc1")
        line.close()
    if how != "closed":
        time.sleep(60)


def say_goodbye(folder: str) -> int:
    atexit.register(mark, folder, "goodbye")
    return os.getpid()


def leave_a_thread() -> int:
    threading.Thread(target=time.sleep, args=(60,)).start()
    return os.getpid()


# --- lasting ---------------------------------------------------------------------------------------------------------


def hang(folder: str) -> None:
    """Never looks whether it is cancelled."""
    mark(folder, "begun")
    time.sleep(60)


def hang_named(folder: str, name: str) -> None:
    mark(folder, name)
    time.sleep(60)


def held(folder: str, name: str) -> int:
    """Waits for the file `go`."""
    mark(folder, f"begun-{name}")
    wait_for(folder, "go")
    mark(folder, f"ended-{name}")
    return os.getpid()


def cooperative(ctx: Context, folder: str) -> str:
    mark(folder, "begun")
    while not ctx.cancelled:
        time.sleep(LOOK)
    mark(folder, "seen")
    return "stopped early"


async def cleaning(folder: str) -> None:
    mark(folder, "begun")
    try:
        await asyncio.Event().wait()
    finally:
        mark(folder, "cleaned")


def counted(folder: str, n: int) -> None:
    """Says how many are at work with it."""
    mine = Path(folder) / f"at-work-{n}"
    mine.touch()
    now = len([name for name in names(folder) if name.startswith("at-work")])
    time.sleep(0.02)
    mine.unlink()
    mark(folder, f"most-{n}", str(now))


def take_memory(megabytes: int) -> int:
    hoard.append(os.urandom(megabytes * 1_000_000))
    return os.getpid()


# --- telling ---------------------------------------------------------------------------------------------------------


def report(ctx: Context, folder: str) -> None:
    ctx.progress(0.25, "a quarter")
    wait_for(folder, "go")


def report_late(ctx: Context, folder: str) -> None:
    """From a thread that outlasts it."""

    def late() -> None:
        wait_for(folder, "late")
        ctx.progress(0.9, "late")
        mark(folder, "told late")

    threading.Thread(target=late, daemon=True).start()


async def report_async(ctx: Context, folder: str) -> None:
    await ctx.progress(0.25, "a quarter")
    await asyncio.to_thread(wait_for, folder, "go")


@scheduler.task(name="note")
def note(text: str) -> str:
    return text


def parent(ctx: Context, fails: bool) -> None:
    ctx.push(note, "here")
    ctx.push(note.options(queue="mail", id="there"), "there")
    if fails:
        raise ValueError("no")


# --- for the acceptance tests ----------------------------------------------------------------------------------------


@scheduler.task(executor="process")
def work(ctx: Context, seconds: float) -> None:
    ledger.write("begin", ctx.job.id, attempt=ctx.attempt, crashes=ctx.crashes, parent=os.getppid())
    time.sleep(seconds)
    ledger.write("end", ctx.job.id)


@scheduler.task(executor="process")
def program(ctx: Context) -> None:
    """Starts a program that SIGTERM must be able to end."""
    with subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"],
                          stdout=subprocess.PIPE) as started:  # fmt: skip
        assert started.stdout is not None
        started.stdout.readline()
        started.terminate()
        ledger.write("ended", ctx.job.id, code=started.wait(10))
