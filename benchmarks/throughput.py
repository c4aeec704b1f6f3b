"""How fast the core line is, as ratios to a raw one-at-a-time LPUSH of redis-py's asyncio client in the same run.

    python benchmarks/throughput.py --store redis [--url redis://…] [--jobs 60000] [--rounds 3] [--json]

Everything is at its defaults: history, validation of arguments, INFO logging. One worker process with 100 slots; jobs
are pushed before it starts. Without --url a redis-server of its own is started on a free port and stopped again.
Figures of shared machines are noisy: read the ratios, and the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import redis.asyncio

from duly import Context, Scheduler
from duly.runtime.process import freeze_startup, loop_factory


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """A redis-server for this run alone, on loopback."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("no redis-server on the PATH: run tools/ensure-program redis-server, or give --url")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


async def raw_lpush(url: str, count: int) -> float:
    """One awaited LPUSH after the other: the yardstick."""
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    await client.ping()
    began = time.perf_counter()
    for _ in range(count):
        await client.lpush("raw", b"x" * 60)
    rate = count / (time.perf_counter() - began)
    await client.delete("raw")
    await client.aclose()
    return rate


class Probe:
    """Notes when a job's handler ended and when its settlement was answered, in the worker under test."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.lags: list[float] = []
        self._ended: dict[str, float] = {}
        node = scheduler._node
        assert node is not None
        self.worker = node.worker
        inner_ended = self.worker.ended

        def ended(run: Any, outcome: Any, *, frees: bool = True) -> None:
            self._ended[run.job.id] = time.perf_counter()
            inner_ended(run, outcome, frees=frees)

        self.worker.executor._ended = ended
        self.worker.threads._ended = ended
        for line in self.worker.lines:
            self._watch(line)

    def _watch(self, line: Any) -> None:
        inner = line._settled

        def settled(answers: Any) -> Any:
            sent = [run.job.id for run, _ in line._sent]
            fault = inner(answers)
            if fault is None:
                now = time.perf_counter()
                self.lags += [now - self._ended.pop(id) for id in sent]
            return fault

        line._settled = settled


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def run_jobs(url: str, count: int, kind: str, lags: list[float] | None) -> float:
    """Jobs per second of one worker with 100 slots over a backlog of `count`."""
    scheduler = Scheduler(url, namespace=f"bench-{kind}", logger=logging.getLogger("duly.bench"))
    done = 0

    @scheduler.task(name="async-noop")
    async def async_noop(ctx: Context, number: int) -> None:
        nonlocal done
        done += 1

    @scheduler.task(name="sync-noop")
    def sync_noop(ctx: Context, number: int) -> None:
        nonlocal done
        done += 1

    task = async_noop if kind == "async" else sync_noop
    async with scheduler:
        await scheduler.push_many(task.job(i) for i in range(count))
        began = time.perf_counter()
        await scheduler.start()
        freeze_startup()  # as a worker process does
        probe = Probe(scheduler) if lags is not None else None
        await until(lambda: done >= count)
        while (await scheduler.queues.sizes()).leased:
            await asyncio.sleep(0.001)
        rate = count / (time.perf_counter() - began)
        if probe is not None and lags is not None:
            lags += probe.lags
        await scheduler.stop()
    return rate


async def push_bulk(url: str, count: int) -> float:
    scheduler = Scheduler(url, namespace="bench-bulk")

    @scheduler.task
    async def noop(number: int) -> None: ...

    async with scheduler:
        await scheduler.queues.sizes()
        began = time.perf_counter()
        await scheduler.push_many(noop.job(i) for i in range(count))
        return count / (time.perf_counter() - began)


async def push_concurrent(url: str, count: int) -> float:
    scheduler = Scheduler(url, namespace="bench-gather")

    @scheduler.task
    async def noop(number: int) -> None: ...

    async with scheduler:
        await noop.push(0)
        began = time.perf_counter()
        for start in range(0, count, 1000):
            await asyncio.gather(*(noop.push(i) for i in range(start, start + 1000)))
        return count / (time.perf_counter() - began)


async def push_single(url: str, count: int) -> float:
    scheduler = Scheduler(url, namespace="bench-single")

    @scheduler.task
    async def noop(number: int) -> None: ...

    async with scheduler:
        await noop.push(0)
        began = time.perf_counter()
        for i in range(count):
            await noop.push(i)
        return count / (time.perf_counter() - began)


async def push_beside_evalsha(url: str, turns: int = 20, count: int = 400) -> list[float]:
    """Pushes one by one over awaited EVALSHAs of one LPUSH by redis-py, in turns on one loop: how fast two processes wake
    each other changes from one second to the next, and for both alike."""
    scheduler = Scheduler(url, namespace="bench-beside")
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    digest = await client.script_load("return redis.call('LPUSH', KEYS[1], ARGV[1])")

    @scheduler.task
    async def noop(number: int) -> None: ...

    ratios = []
    async with scheduler:
        await noop.push(0)
        for _ in range(turns):
            began = time.perf_counter()
            for i in range(count):
                await noop.push(i)
            pushed = time.perf_counter()
            for _ in range(count):
                await client.evalsha(digest, 1, "raw", b"x" * 60)  # type: ignore[misc]
            ratios.append((time.perf_counter() - pushed) / (pushed - began))
    await client.delete("raw")
    await client.aclose()
    return ratios


async def lags_to(role: str, url: str, count: int, send: Callable[[], Awaitable[Any]]) -> list[float]:
    """Milliseconds from the call of `send` in this process to the time that another process then prints."""
    command = (sys.executable, __file__, "--role", role, "--url", url)
    worker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    lags: list[float] = []
    await worker.stdout.readline()  # it is ready
    for _ in range(count + 20):
        await asyncio.sleep(0.01)
        sent = time.time()
        await send()
        lags.append((float(await worker.stdout.readline()) - sent) * 1000)
    worker.terminate()
    await worker.wait()
    return lags[20:]


async def push_to_start(url: str, count: int) -> list[float]:
    """From push to the start of the handler, in an idle worker process."""
    scheduler = Scheduler(url, namespace="bench-idle")

    @scheduler.task
    async def started() -> None: ...

    async with scheduler:
        return await lags_to("idle worker", url, count, started.push)


async def bare_chain(url: str, count: int) -> list[float]:
    """The same way with nothing on it: LPUSH, a blocked BLPOP in another process, one more round trip from there."""
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    try:
        return await lags_to("bare worker", url, count, lambda: client.lpush("bare", b"x"))  # type: ignore[arg-type,return-value]
    finally:
        await client.aclose()


async def be_bare_worker(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=None)
    await client.ping()
    print("ready", flush=True)
    while True:
        await client.blpop(["bare"], timeout=0)
        await client.lpush("bare-answer", b"x")
        print(time.time(), flush=True)


async def be_idle_worker(url: str) -> None:
    scheduler = Scheduler(url, namespace="bench-idle")

    @scheduler.task
    async def started() -> None:
        print(time.time(), flush=True)

    stopped = asyncio.Event()
    await scheduler.start()
    freeze_startup()
    import signal

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print("ready", flush=True)
    await stopped.wait()
    await scheduler.stop()


async def idle_commands(url: str, seconds: float) -> float:
    """Store commands a second of one idle node, over the whole server."""
    scheduler = Scheduler(url, namespace="bench-quiet")

    @scheduler.task
    async def noop() -> None: ...

    client = redis.asyncio.Redis.from_url(url, protocol=2)
    await scheduler.start()
    await asyncio.sleep(3)

    async def calls() -> int:
        stats = await client.info("commandstats")
        return sum(int(stats[name]["calls"]) for name in ("cmdstat_evalsha", "cmdstat_blpop") if name in stats)

    before = await calls()
    await asyncio.sleep(seconds)
    count = await calls() - before
    await scheduler.stop()
    await client.aclose()
    return count / seconds


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work())  # type: ignore[arg-type]


def measure(url: str, jobs: int, rounds: int, idle_seconds: float) -> dict[str, Any]:
    """All figures; each round measures the yardstick anew, the medians of the ratios count."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        raw = run(lambda: raw_lpush(url, 8_000))
        figures = {
            "async no-op jobs": run(lambda: run_jobs(url, jobs, "async", None)),
            "sync no-op jobs": run(lambda: run_jobs(url, jobs // 3, "sync", None)),
            "push_many": run(lambda: push_bulk(url, jobs)),
            "push by gather": run(lambda: push_concurrent(url, jobs // 2)),
            "push one by one": run(lambda: push_single(url, 4_000)),
        }
        raw = (raw + run(lambda: raw_lpush(url, 8_000))) / 2
        found.setdefault("raw LPUSH", []).append(raw)
        for name, rate in figures.items():
            found.setdefault(name, []).append(rate)
            found.setdefault(f"{name} / raw", []).append(rate / raw)
    found["push / raw EVALSHA, in turns"] = run(lambda: push_beside_evalsha(url))
    lags: list[float] = []
    run(lambda: run_jobs(url, jobs, "async", lags))
    starts: list[float] = []
    bare: list[float] = []
    for _ in range(3):
        starts += run(lambda: push_to_start(url, 150))
        bare += run(lambda: bare_chain(url, 150))
    return {
        "medians": {name: statistics.median(values) for name, values in found.items()},
        "spread": {name: [min(values), max(values)] for name, values in found.items()},
        "end to settled ms": {"p50": percentile(lags, 0.5) * 1000, "p99": percentile(lags, 0.99) * 1000},
        "push to start ms": {"p50": percentile(starts, 0.5), "p99": percentile(starts, 0.99), "max": max(starts)},
        "bare chain ms": {"p50": percentile(bare, 0.5), "p99": percentile(bare, 0.99), "max": max(bare)},
        "idle commands/s": run(lambda: idle_commands(url, idle_seconds)) if idle_seconds else None,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["redis"], default="redis")
    parser.add_argument("--url")
    parser.add_argument("--jobs", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-seconds", type=float, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--role", choices=["idle worker", "bare worker"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    if options.role is not None:
        run(lambda: (be_idle_worker if options.role == "idle worker" else be_bare_worker)(options.url))
        return
    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(own_server())
        figures = measure(url, options.jobs, options.rounds, options.idle_seconds)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures["medians"].items():
        low, high = figures["spread"][name]
        form = "{:>12.2f}  ({:.2f} … {:.2f})" if " / " in name else "{:>10,.0f}/s  ({:,.0f} … {:,.0f})"
        print(f"{name:28}", form.format(value, low, high))
    for name in ("end to settled ms", "push to start ms", "bare chain ms"):
        print(f"{name:28}", "  ".join(f"{k} {v:.2f}" for k, v in figures[name].items()))
    if figures["idle commands/s"] is not None:
        print(f"{'idle commands/s':28} {figures['idle commands/s']:.2f}")


if __name__ == "__main__":
    main()
