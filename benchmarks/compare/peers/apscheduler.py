"""APScheduler 3 with its Redis job store, a scheduler of jobs in one process; they run at most once."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from adapter import SLOTS, URL, handlers, main
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from redis.connection import parse_url

if "BENCH_LEDGER" in os.environ:
    does = handlers()
    noop, stamp, hold = does.sync, does.sync_stamp, does.sync_hold
    DOOR = os.environ["BENCH_LEDGER"] + ".door"


class Remote(BaseManager):
    """The scheduler as other processes see it.

    A store must never be shared between schedulers, says the documentation: one would not notice what another adds.
    Its way is one scheduler in a process of its own, and calls to it from elsewhere.
    """


class APScheduler:
    """See adapter.Adapter."""

    def __init__(self) -> None:
        self.scheduler: Any = None
        self.is_apart = False

    def start(self, paused: bool) -> BackgroundScheduler:
        scheduler = BackgroundScheduler(
            jobstores={"default": RedisJobStore(**parse_url(URL))},
            executors={"default": ThreadPoolExecutor(SLOTS)},
            job_defaults={"misfire_grace_time": None},  # a late job runs all the same
            timezone=UTC,
        )
        scheduler.start(paused)
        return scheduler

    def work(self) -> None:
        Path(DOOR).unlink(missing_ok=True)
        Remote.register("scheduler", lambda: self.scheduler, exposed=["add_job", "wakeup"])
        server = Remote(DOOR, b"bench").get_server()  # before the scheduler reads its store: see `close`
        self.scheduler = self.start(paused=False)
        server.serve_forever()

    def open(self) -> None:
        self.scheduler = self.remote()
        if self.scheduler is None:  # no worker yet: it will find in the store what one that never runs puts there
            self.scheduler, self.is_apart = self.start(paused=True), True

    def remote(self) -> Any:
        """The worker's scheduler, if there is a worker."""
        Remote.register("scheduler")
        remote = Remote(DOOR, b"bench")
        try:
            remote.connect()
        except OSError:
            return None
        return remote.scheduler()

    def push(self, kind: str, number: int) -> None:
        """A job without a trigger is due at once; there is no queue of such jobs."""
        self.scheduler.add_job(f"peers.apscheduler:{kind}", args=(number,))

    def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        due = datetime.fromtimestamp(at, UTC)
        self.scheduler.add_job(f"peers.apscheduler:{kind}", "date", args=(number, payload), run_date=due)

    def close(self) -> None:
        worker = self.remote() if self.is_apart else None
        if worker is not None:  # it has begun meanwhile, and may have read the store before
            worker.wakeup()


if __name__ == "__main__":
    main(APScheduler())
