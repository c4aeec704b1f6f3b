"""The examples of interval-scheduler, with duly.

    python examples/from_interval_scheduler.py [redis://localhost:6379/0 redis://localhost:8888/0]

Give one address, or several: tasks are then spread over all of these servers, and locks are on the first. Without any
the store is a file, duly.db. It takes a second or two.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict

from duly import NotAccepting, Scheduler, every

# --- Implement a task object


class Serialized(TypedDict):
    user_id: int
    task_type: str


@dataclass
class MyTask:
    """Any object with these four is one; there is no base class. Each may be an attribute, a property or a method."""

    user_id: int
    on_execute_reschedule_to: float | None = 60  # seconds; None: it runs once

    @property
    def id(self) -> str:
        return f"user:{self.user_id}"

    @property
    def execute_on(self) -> datetime:
        return datetime.now(UTC)  # as soon as possible; epoch seconds would do, too

    def serialize(self) -> Serialized:
        return {"user_id": self.user_id, "task_type": "MyTask"}  # no need to make a text of it


# --- Assigning tasks


async def assign(scheduler: Scheduler) -> None:
    async with scheduler:  # connected: may assign, and runs nothing
        # True: it is new. False: there was one, which was updated, or was equal. What is changed counts from the run
        # after the pending one, as there. remote: whoever executes "MyTask" need not be this program.
        for task in (MyTask(1), MyTask(2), MyTask(1)):
            print(f"{task.id} is new: {await scheduler.schedules.put(task, remote=True)}")

        # The plain call: an interval, a name, arguments. An edit of it counts at once, unless after_pending=True is given.
        await scheduler.schedules.put(
            "report", every(hours=1, align=60), "report", kwargs={"day": "today"}, remote=True
        )
        print("report is there:", await scheduler.schedules.get("report") is not None)


# --- Removing tasks


async def remove(scheduler: Scheduler) -> None:
    async with scheduler:
        for id in (MyTask(1).id, MyTask(2).id, "report"):
            print(f"{id} is removed: {await scheduler.schedules.remove(id)}")


# --- Pulling tasks


async def execute(scheduler: Scheduler) -> None:
    done = asyncio.Event()

    async def my_task_executor(task: Serialized) -> None:
        print(f"performing task.. user: {task['user_id']}, type: {task['task_type']}", flush=True)
        done.set()

    # "*" is every name that has no handler of its own. By default a run that raises is tried again three times;
    # there it is only logged, as it is here without retries.
    scheduler.bind("*", my_task_executor, retry=False)
    await scheduler.start()
    await scheduler.schedules.put(MyTask(1))
    await done.wait()


# --- Locking task execution (auto released)


async def lock_for_a_time(scheduler: Scheduler) -> None:
    done = asyncio.Event()

    async def my_executor(task: Serialized) -> None:
        if await scheduler.try_lock(f"user:{task['user_id']}:auto", ttl=60):
            print("locked for 60 seconds", flush=True)
        else:
            print("locked by another: ignored", flush=True)
        done.set()

    scheduler.bind("*", my_executor)
    await scheduler.schedules.put(MyTask(2))
    await done.wait()


# --- Locking task execution (manually released)


async def lock(scheduler: Scheduler) -> None:
    done = asyncio.Event()

    async def my_task_executor(task: Serialized) -> None:
        lock = await scheduler.try_lock(f"user:{task['user_id']}")  # released by itself after 24 hours
        if lock is None:
            print("locked by another: ignored", flush=True)
        else:
            # `async with lock:` would do the same, and renew the lock for as long as its block runs.
            print("locked", flush=True)
            await asyncio.sleep(0.09)
            print("unlocked:", await lock.release(), flush=True)  # False if it was another's by now
        done.set()

    scheduler.bind("*", my_task_executor)
    await scheduler.schedules.put(MyTask(3))
    await done.wait()


# --- Stopping task execution, stopping task accept


async def stop(scheduler: Scheduler) -> None:
    scheduler.stop_executing()
    print("executing:", scheduler.executing)
    await scheduler.schedules.put(MyTask(4))  # tasks are still accepted

    scheduler.stop_accepting()  # by itself, it lets the executor go on
    print("accepting:", scheduler.accepting)
    try:
        await scheduler.schedules.put(MyTask(5))
    except NotAccepting as error:
        print(error)


# --- Clearing all tasks


async def clear(scheduler: Scheduler) -> None:
    # Small steps; schedules, and jobs that wait or are dead. Unlike SCAN it ends, however much is added meanwhile.
    print("cleared:", await scheduler.clear())


# --- Configuring


def configure(*urls: str) -> Scheduler:
    return Scheduler(
        urls or None,
        namespace="from-interval-scheduler",
        master=0,
        reconnect_interval=5,  # at most; it looks for a lost server more often at first
        poll=60,  # what is due wakes a node: this is only for safety, and 2 by default
        logger=logging.getLogger("my-logger"),
    )  # times are rounded for each task: every(seconds=60, align=60)


async def main(*urls: str) -> None:
    await assign(configure(*urls))
    await remove(configure(*urls))
    scheduler = configure(*urls)
    try:
        for example in (execute, lock_for_a_time, lock, stop, clear):
            await example(scheduler)
    finally:
        await scheduler.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
