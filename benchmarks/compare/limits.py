"""What this machine and Redis allow: the same few things done with nothing around them. `python limits.py URL` prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import redis.asyncio
import uvloop

SCRIPT = "return redis.call('LPUSH', KEYS[1], ARGV[1])"


async def awaited(url: str, count: int, command: str) -> float:
    """Commands per second of redis-py's asyncio client, one awaited after the other."""
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    digest = await client.script_load(SCRIPT)
    began = time.perf_counter()
    for _ in range(count):
        if command == "LPUSH":
            await client.lpush("raw", b"x" * 60)  # type: ignore[misc]
        else:
            await client.evalsha(digest, 1, "raw", b"x" * 60)  # type: ignore[misc]
    seconds = time.perf_counter() - began
    await client.delete("raw")
    await client.aclose()
    return count / seconds


async def pipelined(url: str, count: int) -> float:
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    began = time.perf_counter()
    for _ in range(count // 1000):
        pipeline = client.pipeline(transaction=False)
        for _ in range(1000):
            pipeline.lpush("raw", b"x" * 60)
        await pipeline.execute()
    seconds = time.perf_counter() - began
    await client.delete("raw")
    await client.aclose()
    return count / seconds


async def sleepers(seconds: float) -> float:
    """Turns per second of 100 coroutines that do nothing but sleep 10 ms."""
    turns = 0
    until = time.perf_counter() + seconds

    async def sleeper() -> None:
        nonlocal turns
        while time.perf_counter() < until:
            await asyncio.sleep(0.01)
            turns += 1

    began = time.perf_counter()
    await asyncio.gather(*(sleeper() for _ in range(100)))
    return turns / (time.perf_counter() - began)


def on(loop: Any, coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(coroutine)


def main(url: str) -> None:
    figures = {
        "raw LPUSH/s": on(None, awaited(url, 8_000, "LPUSH")),
        "raw EVALSHA/s": on(None, awaited(url, 8_000, "EVALSHA")),
        "raw EVALSHA on uvloop/s": on(uvloop.new_event_loop, awaited(url, 8_000, "EVALSHA")),
        "raw pipeline/s": on(None, pipelined(url, 60_000)),
        "100 sleepers of 10 ms, turns/s": on(None, sleepers(2)),
        "100 sleepers of 10 ms on uvloop, turns/s": on(uvloop.new_event_loop, sleepers(2)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])
