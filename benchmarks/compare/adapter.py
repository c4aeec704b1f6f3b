"""What a peer has to offer to be measured, and the program around it: `python -m peers.NAME work | push …`.

It runs in the peer's own virtual environment, with nothing of duly in it, and takes where to work from BENCH_URL (a Redis),
BENCH_LEDGER, BENCH_SLOTS (jobs at once in a process), BENCH_PROCESSES and BENCH_KIND (the task that will be measured,
for a peer whose settings depend on it).
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

from ledger import PUSHED, Ledger, opened

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0")
SLOTS = int(os.environ.get("BENCH_SLOTS", "100"))
PROCESSES = int(os.environ.get("BENCH_PROCESSES", "1"))
KIND = os.environ.get("BENCH_KIND", "noop")
GATHERED = 1_000
"""Pushes that are awaited together, when that is measured."""
AT_ONCE = 100
"""Pushes that are awaited together, when it is not."""
BULK = 1_000
"""Jobs in a call of a bulk push."""
PACE = 0.01
"""Seconds between pushes to an idle worker."""


class Handlers:
    """What each task does; an adapter declares one of its tasks for each method it can run."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def noop(self, number: int) -> None:
        self.ledger.count()

    def sync(self, number: int) -> None:
        """The no-op of a peer, or of an executor, that runs plain functions."""
        self.ledger.count()

    async def io(self, number: int) -> None:
        await asyncio.sleep(0.01)
        self.ledger.count()

    def sync_io(self, number: int) -> None:
        time.sleep(0.01)
        self.ledger.count()

    async def cpu(self, number: int) -> None:
        burn()
        self.ledger.count()

    def sync_cpu(self, number: int) -> None:
        burn()
        self.ledger.count()

    async def stamp(self, number: int, payload: str = "") -> None:
        self.ledger.start(number)

    def sync_stamp(self, number: int, payload: str = "") -> None:
        self.ledger.start(number)

    async def hold(self, number: int) -> None:
        """Runs for ever, unless its worker is killed: what starts a second time has been recovered."""
        self.ledger.start(number)
        await asyncio.sleep(3600)

    def sync_hold(self, number: int) -> None:
        self.ledger.start(number)
        time.sleep(3600)

    def plain(self) -> dict[str, Any]:
        """Of each kind the plain function, for a peer that runs nothing else."""
        return {
            "noop": self.sync,
            "sync": self.sync,
            "io": self.sync_io,
            "cpu": self.sync_cpu,
            "stamp": self.sync_stamp,
            "hold": self.sync_hold,
        }


def burn() -> int:
    """Some 200 us of Python."""
    total = 0
    for number in range(3_500):
        total += number
    return total


def handlers() -> Handlers:
    return Handlers(opened())


class Adapter(Protocol):
    """A peer, by its public interface and tuned as its documentation says. Methods may be async or not.

    `kind` is the name of a task without its `sync_`: noop, sync, io, cpu, stamp, hold; a peer that runs plain functions
    alone takes those, and `noop` is then its `sync`.
    """

    def work(self) -> None:
        """Be the worker, in BENCH_PROCESSES processes with BENCH_SLOTS jobs at once each, until SIGTERM or SIGKILL."""

    def open(self) -> Any:
        """Get ready to push: connect, declare."""

    def push(self, kind: str, number: int) -> Any:
        """Push a job that is due now, and return when the store has it."""

    def push_at(self, kind: str, number: int, at: float, payload: str) -> Any:
        """Push a job that is due at a time in seconds since the epoch, with this payload as its second argument.

        A peer without delayed jobs has no such method.
        """

    def push_many(self, kind: str, numbers: Sequence[int]) -> Any:
        """Push many in a call; a peer without it has no such method."""

    def close(self) -> Any: ...


def main(adapter: Any) -> None:
    """The program of an adapter."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["work", "push", "can"])
    parser.add_argument("--kind", default="noop")
    parser.add_argument("--how", choices=["single", "gather", "bulk", "paced", "at"], default="single")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--due", type=float, default=0.0, help="seconds since the epoch when the first is due")
    parser.add_argument("--over", type=float, default=0.0, help="seconds over which the due times are spread")
    parser.add_argument("--payload", type=int, default=0, help="bytes of the second argument")
    options = parser.parse_args()
    if options.role == "work":
        adapter.work()
    elif options.role == "can":
        print(json.dumps(can(adapter)))
    else:
        numbers = range(options.first, options.first + options.count)
        push = push_awaited(adapter, options, numbers) if is_async(adapter) else push_plainly(adapter, options, numbers)
        print(json.dumps({"seconds": run(push) if inspect.iscoroutine(push) else push}))


def is_async(adapter: Any) -> bool:
    return inspect.iscoroutinefunction(adapter.push)


def can(adapter: Any) -> dict[str, bool]:
    """What this peer offers at all."""
    offered = {"bulk": "push_many", "at": "push_at"}
    return {what: hasattr(adapter, method) for what, method in offered.items()} | {"gather": is_async(adapter)}


def run(coroutine: Any) -> Any:
    """On uvloop, where the environment has it."""
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


def due_times(options: argparse.Namespace) -> list[float]:
    return [options.due + options.over * place / options.count for place in range(options.count)]


async def push_awaited(adapter: Any, options: argparse.Namespace, numbers: range) -> float:
    """Push through an adapter whose methods are coroutines; the seconds it took."""
    kind, payload = options.kind, "x" * options.payload
    await adapter.open()
    began = time.perf_counter()
    if options.how == "single":
        for number in numbers:
            await adapter.push(kind, number)
    elif options.how == "gather":
        for start in range(0, len(numbers), GATHERED):
            await asyncio.gather(*(adapter.push(kind, number) for number in numbers[start : start + GATHERED]))
    elif options.how == "bulk":
        for start in range(0, len(numbers), BULK):
            await adapter.push_many(kind, numbers[start : start + BULK])
    elif options.how == "paced":
        ledger = opened()
        for number in numbers:
            await asyncio.sleep(PACE)
            ledger.note(PUSHED, number)
            await adapter.push(kind, number)
    else:
        jobs = list(zip(numbers, due_times(options), strict=True))
        for start in range(0, len(jobs), AT_ONCE):
            some = jobs[start : start + AT_ONCE]
            await asyncio.gather(*(adapter.push_at(kind, number, at, payload) for number, at in some))
    seconds = time.perf_counter() - began
    await adapter.close()
    return seconds


def push_plainly(adapter: Any, options: argparse.Namespace, numbers: range) -> float:
    """Push through an adapter whose methods are plain functions; the seconds it took."""
    kind, payload = options.kind, "x" * options.payload
    adapter.open()
    began = time.perf_counter()
    if options.how == "single":
        for number in numbers:
            adapter.push(kind, number)
    elif options.how == "bulk":
        for start in range(0, len(numbers), BULK):
            adapter.push_many(kind, numbers[start : start + BULK])
    elif options.how == "paced":
        ledger = opened()
        for number in numbers:
            time.sleep(PACE)
            ledger.note(PUSHED, number)
            adapter.push(kind, number)
    elif options.how == "at":
        for number, at in zip(numbers, due_times(options), strict=True):
            adapter.push_at(kind, number, at, payload)
    else:
        raise SystemExit(f"{options.how}: this peer's pushes cannot be awaited together")
    seconds = time.perf_counter() - began
    adapter.close()
    return seconds
