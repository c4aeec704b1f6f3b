"""APScheduler 3 over its SQLAlchemy store on an SQLite file, at its defaults: `python apscheduler_sqlite.py PATH COUNT`.

Prints JSON: jobs added one by one a second, and jobs that are due run a second, in the process that added them. A job is
deleted from the file before it is run: at most once.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

done, lock = threading.Event(), threading.Lock()
left = 0


def noop(_number: int) -> None:
    global left  # noqa: PLW0603 - a job is found by its name
    with lock:
        left -= 1
        if not left:
            done.set()


def measure(path: str, count: int) -> dict[str, float]:
    global left  # noqa: PLW0603
    left = count
    scheduler = BackgroundScheduler(jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{path}")}, timezone=UTC)
    scheduler.start(paused=True)
    due = datetime.now(UTC) - timedelta(seconds=1)
    began = time.perf_counter()
    for number in range(count):
        scheduler.add_job(noop, "date", args=(number,), run_date=due, misfire_grace_time=None)
    pushed = time.perf_counter()
    scheduler.resume()
    done.wait()
    ended = time.perf_counter()
    scheduler.shutdown()
    return {"push one by one": count / (pushed - began), "jobs": count / (ended - pushed)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
