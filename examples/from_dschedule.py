"""The examples of dschedule, with duly.

    python examples/from_dschedule.py [redis://:dummy@127.0.0.1:5379]

Without an address the store is a file, duly.db. It ends after a tick and the delayed job: some fifteen seconds.
"""

from __future__ import annotations

import asyncio
import sys

from duly import Scheduler, cron


def create_scheduler(url: str | None, instance: str, ticked: asyncio.Event) -> Scheduler:
    """What every instance of the application declares alike."""
    # Host, port, password and database are in the address; the prefix of all keys is the namespace.
    scheduler = Scheduler(url, namespace="from-dschedule")

    async def task_a() -> None:
        print(f"task, in instance {instance}", flush=True)
        ticked.set()

    # At most once is said where it is wanted. By default a run whose machine has crashed is run again.
    scheduler.bind("taskA", task_a, delivery="at_most_once")
    scheduler.schedule("taskA", cron("*/10 * * * * *"))

    # A handler is bound here, also one that takes data; only what recurs is a schedule.
    scheduler.bind("taskB", lambda data: print("received", data, flush=True), keep_result=True)
    return scheduler


async def main(url: str | None = None) -> None:
    ticked = asyncio.Event()
    scheduler, another = (create_scheduler(url, instance, ticked) for instance in ("one", "two"))
    await scheduler.start()  # nothing runs before
    await another.start()  # the same configuration, on a second machine, say: each tick still fires once and runs once
    await ticked.wait()

    await scheduler.stop()  # the other one goes on
    await scheduler.start()

    await scheduler.push("taskA")

    # Here a job is pushed that comes again after a crash, or if its handler returned False. Times are seconds.
    await scheduler.push("taskA", delivery="at_least_once", retry_timeout=5)

    job = await scheduler.push("taskB", "im data", delay=5)
    await job.result()  # for this example to know when it is over; needs keep_result

    await another.stop()
    await scheduler.stop()
    async with scheduler:  # connected, without running anything
        await scheduler.clear()  # an example leaves no schedule behind


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
