"""Starting and stopping, again and again, with jobs under way: nothing is lost, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from functools import partial

from duly import Scheduler
from tests.schedulers import shared
from tests.waiting import eventually

TURNS, JOBS = 10, 50


def descriptors() -> set[tuple[int, int]]:
    """What this process has open: sockets, pipes and files, each as (its number, what it is)."""
    found = set()
    for number in range(1_000):
        with contextlib.suppress(OSError):
            found.add((number, os.fstat(number).st_ino))
    return found


def is_left() -> tuple[list[str], list[str]]:
    """Tasks beside the test's own, and duly's threads."""
    tasks = [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    return tasks, [thread.name for thread in threading.enumerate() if thread.name.startswith("duly")]


def is_as_before(before: set[tuple[int, int]]) -> bool:
    return is_left() == ([], []) and descriptors() <= before


async def test_ten_starts_and_stops_with_fifty_jobs_under_way_leave_no_task_thread_or_socket(store_url: str) -> None:
    url = shared(store_url)
    began: Counter[int] = Counter()
    ended: Counter[int] = Counter()
    scheduler = Scheduler(url, lease=1, grace=2, threads=10)

    @scheduler.task
    async def work(n: int) -> None:
        began[n] += 1
        await asyncio.sleep(0.02 * (n % 5))
        ended[n] += 1

    @scheduler.task
    def work_in_thread(n: int) -> None:
        began[n] += 1
        time.sleep(0.004 * (n % 3))
        ended[n] += 1

    async def turn(number: int) -> None:
        first = number * JOBS
        await scheduler.start()
        tasks = (work, work_in_thread)
        await asyncio.gather(*(tasks[n % 2].push(n) for n in range(first, first + JOBS)))
        if number % 3:  # else it is stopped before anything has begun, or while it claims
            await eventually(lambda: sum(began.values()) > first + number)
        await scheduler.stop((None, 0, 0.01, 0.03)[number % 4])

    before: set[tuple[int, int]] = set()
    for number in range(TURNS):
        await turn(number)
        await eventually(lambda: is_left() == ([], []))
        if number == 0:
            before = descriptors()  # what a first use opens for the whole process stays open
        else:
            await eventually(partial(is_as_before, before))
    await scheduler.start()
    await eventually(lambda: set(ended) == set(range(TURNS * JOBS)))
    await scheduler.stop()
    async with scheduler:
        sizes = await scheduler.queues.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead) == (0, 0, 0)
    await eventually(partial(is_as_before, before))
