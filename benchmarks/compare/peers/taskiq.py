"""What the two taskiq peers share: everything but the broker."""

from __future__ import annotations

import os
import subprocess
import sys
from asyncio import iscoroutinefunction
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from adapter import PROCESSES, SLOTS, URL, handlers
from taskiq import AsyncBroker, TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource

KINDS = ("noop", "sync", "io", "cpu", "stamp", "hold")


def task(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler as taskiq takes it: it renames what it registers, and a method cannot be renamed."""

    async def handle(*given: Any) -> None:
        await handler(*given)

    def handle_plainly(*given: Any) -> None:
        handler(*given)

    return handle if iscoroutinefunction(handler) else handle_plainly


class Taskiq:
    """An adapter around a broker; `module` has it as `broker` and its `scheduler`, where the command line looks for them."""

    def __init__(self, module: str, broker: AsyncBroker) -> None:
        self.module, self.broker = module, broker
        self.later = ListRedisScheduleSource(URL, prefix="bench:later", buffer_size=1_000)  # read at a time, for 50
        self.scheduler = TaskiqScheduler(broker, [self.later])
        if "BENCH_LEDGER" in os.environ:
            does = handlers()
            self.tasks = {kind: broker.register_task(task(getattr(does, kind)), task_name=kind) for kind in KINDS}

    def work(self) -> None:
        command, quiet = [sys.executable, "-m", "taskiq"], ["--log-level", "WARNING"]
        # Delayed jobs need this second process. It reads what is new every 60 s unless told; a second is the least it takes.
        subprocess.Popen([*command, "scheduler", f"{self.module}:scheduler", "--update-interval", "1", *quiet])
        command += ["worker", f"{self.module}:broker", "--workers", str(PROCESSES), *quiet]
        command += ["--max-async-tasks", str(SLOTS), "--max-threadpool-threads", str(SLOTS)]
        command += ["--no-parse"]  # arguments are not converted to the annotations
        os.execv(command[0], command)  # it takes uvloop where it is installed

    async def open(self) -> None:
        await self.broker.startup()

    async def push(self, kind: str, number: int) -> None:
        await self.tasks[kind].kiq(number)

    async def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        await self.tasks[kind].schedule_by_time(self.later, datetime.fromtimestamp(at, UTC), number, payload)

    async def close(self) -> None:
        await self.broker.shutdown()
