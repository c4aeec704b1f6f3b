"""A site monitor: asks each of a list of web addresses every few seconds, and keeps what they answered.

    export MONITOR_SITES="https://example.org https://example.com"
    duly worker examples.site_monitor:scheduler          # or: python examples/site_monitor.py

State is in the store that $DULY_URL names. Start this program twice, on one machine or (with a Redis) on ten: together
they do what one does, and any of them may be killed at any moment. The results go into a SQLite table of our own.
"""

import logging
import os
import sqlite3
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPException

from duly import Context, Retry, Scheduler, Unique, every

SITES = os.environ.get("MONITOR_SITES", "https://example.org https://example.com").split()
INTERVAL = float(os.environ.get("MONITOR_INTERVAL", "30"))  # seconds between two checks of a site
RESULTS = os.environ.get("MONITOR_RESULTS", "site_monitor.db")
PRUNE = os.environ.get("MONITOR_PRUNE", "15 4 * * *")  # when old results are deleted: at 04:15 UTC
KEEP = float(os.environ.get("MONITOR_KEEP_DAYS", "30")) * 86_400

RECHECKS = 3  # more looks before a site is called down: after 10, 20 and 40 % of the interval

log = logging.getLogger("monitor")


@asynccontextmanager
async def results() -> AsyncIterator[None]:
    """Runs around each node's life: the table is there before the first job."""
    # Promise: one node of the cluster at a time is in here. (Two that switch a new file to WAL at once may collide.)
    async with scheduler.lock("site-monitor:table", ttl=10):
        with database() as db:
            db.execute("PRAGMA journal_mode = WAL")  # readers and the one writer do not wait for each other
            db.execute("""
                CREATE TABLE IF NOT EXISTS checks (
                    site TEXT, tick REAL, fence INTEGER, attempt INTEGER,
                    up INTEGER, answer TEXT, took REAL, pid INTEGER, PRIMARY KEY (site, tick)
                )""")
    yield


scheduler = Scheduler(app="site-monitor", lifespan=results)


@scheduler.task(retry=Retry(limit=RECHECKS, delay=INTERVAL / 10, backoff=2), timeout=INTERVAL)
def check(ctx: Context, site: str) -> None:
    """Ask one site and keep its answer. A plain function runs in a thread: a slow site holds up nobody."""
    began = time.monotonic()
    up, answer = ask(site)
    keep(ctx, site, up, answer, time.monotonic() - began)
    if not up and ctx.attempt <= RECHECKS:
        raise ConnectionError(f"{site}: {answer}")  # raising is failing: the job runs again as its retry= says
    if not up:
        # Promise: this job's end and the push of its child are one step. The alarm is not lost if the process dies
        # right here, and a run that has lost its lease to another node raises none. `unique`: one an hour for a site.
        ctx.push(alarm.options(unique=Unique(key=site, seconds=3600)), site, answer)


for site in SITES:
    # Promise: each tick fires once in the whole cluster, whichever node carries it, and ticks are not forgotten: after
    # an outage `catch_up` decides. A monitor wants to know how things are now, so "none" drops what is over a minute old.
    scheduler.schedule(check, every(seconds=INTERVAL), id=site, args=[site], catch_up="none")


# Promise: at most once. If the node dies while it calls us, the job is kept as `lost`; nobody is woken twice.
@scheduler.task(delivery="at_most_once")
def alarm(site: str, answer: str) -> None:
    log.error("%s is down: %s", site, answer)


@scheduler.cron(PRUNE)
def prune() -> None:
    """Delete what is too old to matter."""
    with database() as db:
        deleted = db.execute("DELETE FROM checks WHERE tick < ?", (time.time() - KEEP,)).rowcount
    log.info("pruned %d results", deleted)


def ask(site: str) -> tuple[bool, str]:
    """Whether the site is up, and what it said."""
    try:
        with urllib.request.urlopen(site, timeout=min(10, INTERVAL / 2)) as response:
            return True, str(response.status)
    except (OSError, HTTPException) as error:
        return False, str(error)


def keep(ctx: Context, site: str, up: bool, answer: str, took: float) -> None:
    """Write the row of this tick, unless a newer run of it was here before.

    Promise: at least once. A check whose node died is run again, so a tick can have several runs, and the first may
    still be on its way to this table when the second has written. Each run carries a larger fence than those before it:
    whoever comes with a smaller one than the row has is late, and changes nothing.
    """
    tick = ctx.job.nominal or ctx.job.enqueued_at  # when it was due by the schedule, however late it runs
    row = (site, tick, ctx.fence, ctx.attempt, up, answer, took, os.getpid())
    with database() as db:
        db.execute(
            """
            INSERT INTO checks VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (site, tick) DO UPDATE SET
                fence = excluded.fence, attempt = excluded.attempt, up = excluded.up,
                answer = excluded.answer, took = excluded.took, pid = excluded.pid
            WHERE excluded.fence > checks.fence""",
            row,
        )


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """One transaction on the results; it waits for those of other nodes on this machine."""
    db = sqlite3.connect(RESULTS, timeout=10)
    try:
        with db:  # commits, or rolls back
            yield db
    finally:
        db.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    scheduler.run()
