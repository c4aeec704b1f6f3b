"""How soon every page and every read of the HTTP API answers beside a million jobs, and what the server's SLOWLOG says.

    python benchmarks/dashboard.py [--jobs 1000000] [--schedules 100000] [--rounds 5] [--json]

A redis-server of its own holds the jobs (pending now, pending later, leased, dead; a tenth of them in a second queue) and
the schedules (a part of them with ticks in the log), `duly dashboard` runs beside it as a process, a browser's requests are
made by hand. The promise is less than 200 ms for each answer and no command of more than 10 ms on the server. On a machine
that is busy with other things read the CPU column. Ends with 1 if the promise is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import redis
from throughput import own_server

from duly import cron, every
from duly.core import codec
from duly.core import schedule as planning
from duly.core.job import NewJob
from duly.core.lifecycle import Change
from duly.core.schedule import Definition
from duly.runtime.ticker import fire_due
from duly.stores.base import MAX_BATCH, NewSchedule, Settlement, Shard
from duly.stores.redis.store import RedisStore

PROMISED_MS, PROMISED_COMMAND_MS = 200.0, 10.0
LATER, LEASE = 86_400_000, 3_600_000
DEAD = Change("dead", 0, 4, 0, 0, "failed: ValueError", "ValueError: no", "Traceback (most recent call last): …")
TOKEN = "benchmark-token-of-sixteen"
PAGES = [
    "/", "/queues", "/jobs", "/jobs?state=leased", "/jobs?state=dead", "/jobs?state=pending&queue=big", "/schedules",
    "/jobs?state=pending&text=n123456", "/jobs?state=pending&task=nobody", "/schedules?text=s99", "/ticks?queue=big", "/nodes",
    "/locks", "/dead", "/doctor", "/api/overview", "/api/queues", "/api/jobs?state=pending&limit=200",
    "/api/jobs?state=pending&text=nobody", "/api/schedules?limit=200", "/api/nodes", "/api/locks", "/api/findings", "/metrics",
]  # fmt: skip


def body(n: int) -> bytes:
    return codec.encode("send_receipt", (f"n{n}",), {"to": f"user{n}@example.org", "password": "x" * 20})


async def fill(url: str, jobs: int, schedules: int) -> None:
    """Nine tenths in `big`, one in `small`."""
    store = RedisStore(url, namespace="duly")
    await store.connect()
    for name, share in (("big", 9), ("small", 1)):
        shard = store.shard(name)
        await fill_jobs(shard, jobs * share // 10)
        await fill_schedules(shard, schedules * share // 10)
        await store.beat("node-of-" + name, b"", 1, [name])
    await store.close()


async def fill_jobs(shard: Shard, count: int) -> None:
    for call, start in enumerate(range(0, count, MAX_BATCH), 1):
        some = range(start, min(start + MAX_BATCH, count))
        later = 0 if call % 2 else LATER
        await shard.enqueue("client", call, [NewJob(f"job{n}", body(n), delay=later, priority=n % 4) for n in some])
    for call in range(1, 21):
        batch = await shard.claim("node", call, 500, LEASE, LEASE)
        if call > 10:
            await shard.settle("node", call, [Settlement(job.id, batch.fence, DEAD) for job in batch.jobs])


async def fill_schedules(shard: Shard, count: int) -> None:
    triggers = (every(seconds=3600), cron("0 9 * * *", timezone="Europe/Paris"))
    definitions = [planning.encode(Definition(trigger, "send_receipt")) for trigger in triggers]
    for start in range(0, count, 500):
        await asyncio.gather(
            *(shard.put(NewSchedule(f"s{n}", definitions[n % 2])) for n in range(start, min(start + 500, count)))
        )
    fast = planning.encode(Definition(every(seconds=1), "send_receipt"))
    now = (await shard.due(1)).now
    await shard.put(NewSchedule("fast", fast, mark=now - 600_000))
    for _ in range(20):
        await fire_due(shard, "node", await shard.due(100))


@contextlib.contextmanager
def served(url: str) -> Iterator[tuple[str, int]]:
    """`duly dashboard` as a process; its address and its pid."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "duly", "dashboard", url, "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "DULY_DASHBOARD_TOKEN": TOKEN}, stdout=subprocess.DEVNULL)
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_of(pid: int) -> float:
    """Seconds that a process has computed."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(address: str, pid: int, rounds: int, paths: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as client:
        for path in paths:
            took, computed, status, size = [], cpu_of(pid), 0, 0
            for _ in range(rounds):
                began = time.perf_counter()
                answer = client.get(path)
                took.append((time.perf_counter() - began) * 1000)
                status, size = answer.status_code, len(answer.content)
            cpu = (cpu_of(pid) - computed) * 1000 / rounds
            found[path] = {
                "status": status, "bytes": size, "median_ms": statistics.median(took), "max_ms": max(took), "cpu_ms": cpu,
            }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with own_server() as url:
        asyncio.run(fill(url, args.jobs, args.schedules))
        client = redis.Redis.from_url(url, protocol=2)
        client.config_set("slowlog-log-slower-than", int(PROMISED_COMMAND_MS * 1000))
        client.slowlog_reset()
        ones = ["/job?queue=big&id=job6000", "/job?queue=big&id=job899999", "/schedule?queue=big&id=s0"]
        paths = [*PAGES, *ones, "/schedule?queue=big&id=fast&hours=24"]
        with served(url) as (address, pid):
            found = measure(address, pid, args.rounds, paths)
        slow = [(entry["duration"] / 1000, entry["command"][:60]) for entry in client.slowlog_get(50)]
    if args.json:
        print(json.dumps({"pages": found, "slowlog": [(ms, command.decode("replace")) for ms, command in slow]}))
    else:
        print(f"{'path':45} status  median ms   max ms  cpu ms    bytes")
        for path, one in found.items():
            times = f"{one['median_ms']:10.1f} {one['max_ms']:8.1f} {one['cpu_ms']:7.1f}"
            print(f"{path:45} {one['status']:6} {times} {one['bytes']:8,}")
        print(f"commands of more than {PROMISED_COMMAND_MS:g} ms: {slow or 'none'}")
    bad = [path for path, one in found.items() if one["median_ms"] >= PROMISED_MS or one["status"] >= 400]
    if bad or slow:
        raise SystemExit(f"not as promised: {bad} {slow}")


if __name__ == "__main__":
    main()
