"""duly: a distributed job scheduler without a special node.

scheduler = Scheduler("redis://localhost:6379/0")

@scheduler.task
async def send_receipt(order_id: int) -> None: ...

async with scheduler:
    await send_receipt.push(42)
"""

from duly.core.events import Event
from duly.core.job import Unique
from duly.core.outcome import Discard, Fail, RetryIn, Snooze
from duly.core.retry import Retry
from duly.core.trigger import At, Cron, Every, Trigger, at, cron, every
from duly.errors import (
    DulyError,
    JobFailed,
    LockLost,
    NotAccepting,
    PushFailed,
    PushUncertain,
    ResultNotKept,
    ResultTimeout,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnknownTask,
)
from duly.handle import JobHandle, JobView
from duly.locks import Lock
from duly.runtime.context import Context, current
from duly.scheduler import Scheduler
from duly.task import Task
from duly.version import __version__

__all__ = [
    "__version__",
    "At",
    "Context",
    "Cron",
    "Discard",
    "DulyError",
    "Event",
    "Every",
    "Fail",
    "JobFailed",
    "JobHandle",
    "JobView",
    "Lock",
    "LockLost",
    "NotAccepting",
    "PushFailed",
    "PushUncertain",
    "ResultNotKept",
    "ResultTimeout",
    "Retry",
    "RetryIn",
    "Scheduler",
    "Snooze",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "Task",
    "Trigger",
    "Unique",
    "UnknownTask",
    "at",
    "cron",
    "current",
    "every",
]
