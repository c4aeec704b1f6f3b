"""One node of the pool under chaos: `python -m tests.chaos.cron_node KIND URL LEDGER NAMES TIMEOUT JOURNAL`.

Names tick each second. JOURNAL may be empty: there is none then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from duly.cluster import Cron, Driver, NodePool, Tick
from duly.cluster.etcd import EtcdDriver
from duly.cluster.redis import RedisDriver, RedisZsetDriver
from duly.errors import StoreError
from duly.runtime.process import loop_factory
from tests.acceptance.nodes import Ledger

logger = logging.getLogger("node")
DRIVERS: dict[str, type[RedisDriver] | type[RedisZsetDriver] | type[EtcdDriver]] = {
    "redis": RedisDriver,
    "redis-zset": RedisZsetDriver,
    "etcd": EtcdDriver,
}


class OpenLedger(Ledger):
    """It stays open: a kill while it is opened would look like one before the function's first step."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, what: str, job: str, **facts: Any) -> None:
        os.write(self._file, (json.dumps([what, job, os.getpid(), time.monotonic(), facts]) + "\n").encode())


async def main(kind: str, url: str, ledger: Ledger, names: int, timeout: float, journal: str) -> None:
    driver: Driver = DRIVERS[kind](url, timeout=timeout)
    cron = Cron(NodePool(driver), journal=journal or None)

    async def run(tick: Tick) -> None:
        ledger.write("tick", tick.name, second=round(tick.nominal), late=time.time() - tick.nominal)

    for n in range(names):
        await cron.add_job(f"name {n}", "* * * * * *", run)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    while not stopping.is_set():
        try:
            await cron.start()
        except StoreError as error:  # cut off: as a supervisor would
            logger.warning("not started: %s", error)
            await asyncio.sleep(0.5)
            continue
        logger.info("is up as %s in process %d", cron.pool.me.id, os.getpid())
        await stopping.wait()
        await cron.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for each call
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        kind, url, path, names, timeout, journal = sys.argv[1:]
        runner.run(main(kind, url, OpenLedger(Path(path)), int(names), float(timeout), journal))
