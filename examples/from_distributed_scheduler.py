"""The example of the Rust Distributed Scheduler, with duly: cron on exactly one of the machines that run this.

    python examples/from_distributed_scheduler.py [redis | redis-zset | etcd | local] [URL]

Start it several times: each line is printed by one of them; stop one, and another goes on with what was its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys

from duly.cluster import Cron, Driver, LocalDriver, NodePool, Tick


def driver(kind: str = "redis", url: str = "") -> Driver:
    """Where the nodes meet."""
    if kind == "etcd":
        from duly.cluster.etcd import EtcdDriver

        return EtcdDriver(url or "http://127.0.0.1:2379")
    if kind == "local":
        return LocalDriver()
    from duly.cluster.redis import RedisDriver, RedisZsetDriver

    return {"redis": RedisDriver, "redis-zset": RedisZsetDriver}[kind](url or "redis://localhost:6379")


async def main(*arguments: str) -> None:
    cron = Cron(NodePool(driver(*arguments)))

    def hello() -> None:
        print(f"Hello, I run every 10 seconds, this time in process {os.getpid()}", flush=True)

    async def often(tick: Tick) -> None:
        print(f"and I every second: {tick.nominal:.0f} in process {os.getpid()}", flush=True)

    await cron.add_job("test", "1/10 * * * * *", hello)
    await cron.add_job("often", "* * * * * *", often)
    async with cron:
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
