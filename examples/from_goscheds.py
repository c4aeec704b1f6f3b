"""The example of goscheds, with duly.

    python examples/from_goscheds.py [redis://localhost:6379/1]

Without an address the store is a file, duly.db. It takes a second or two.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from duly import Context, Retry, Scheduler

JOB_NAME = "your_job_name"


def connect(url: str | None) -> Scheduler:
    """Each has connections of its own, also for what blocks: in one process, or in two."""
    # An id is taken for as long as its job lives, and by default for an hour longer: a push that is repeated runs
    # nothing twice. goscheds remembers no ids.
    return Scheduler(url, namespace="namespace", remember=0)


async def main(url: str | None = None) -> None:
    executed: asyncio.Queue[str] = asyncio.Queue()

    # Nobody has to run a scheduler: what is due is found by the workers, who sleep until the earliest job, and are
    # woken for an earlier one. The process that pushes only connects.
    async with connect(url) as scheduler:
        # remote: the handler is in another process, the worker's.
        push = partial(scheduler.push, JOB_NAME, {"args": "can be anything"}, remote=True)
        scheduled = await push(id="1234", at=datetime.now(UTC) + timedelta(hours=24))

        # A job has one id and one moment, so this is another one. It gets an id that nobody else has.
        await push()

        async def execute(ctx: Context, args: dict[str, Any]) -> None:
            print(f"{ctx.job.id} executed with {args}", flush=True)
            executed.put_nowait(ctx.job.id)

        worker = connect(url)
        # A run that fails is put back, and tried again at once by whichever worker is free; by default three times, 5 s
        # apart. A worker that dies loses its jobs after `lease` seconds; a run that lives keeps them, however long it takes.
        worker.bind(JOB_NAME, execute, retry=Retry(limit=None, delay=0), lease=10)
        await worker.start()  # a process that is only a worker: worker.run()
        await executed.get()

        print(f"1234: {await scheduler.jobs.why(scheduled.id)}")
        await push(id="1234", replace=True)  # the same id again: the job that waits is due now
        await executed.get()
        await worker.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
