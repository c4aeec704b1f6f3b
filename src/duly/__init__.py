"""duly: a distributed job scheduler without a special node.

scheduler = Scheduler("redis://localhost:6379/0")

@scheduler.task
async def send_receipt(order_id: int) -> None: ...

async with scheduler:
    await send_receipt.push(42)
"""

from duly.config import Config
from duly.core.events import Event
from duly.core.job import Unique
from duly.core.outcome import Discard, Fail, RetryIn, Snooze
from duly.core.retry import Retry
from duly.core.trigger import At, Cron, Every, Trigger, at, cron, every
from duly.errors import (
    ConfigurationError,
    DulyError,
    DuplicateTask,
    EncodingError,
    FormatError,
    InvalidArguments,
    InvalidOption,
    InvalidTrigger,
    InvalidURL,
    JobFailed,
    LockLost,
    NotAccepting,
    PushError,
    PushFailed,
    PushUncertain,
    ResultError,
    ResultNotKept,
    ResultTimeout,
    ScheduleConflict,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    StoreUncertain,
    TaskError,
    TooLarge,
    UnknownTask,
)
from duly.handle import JobHandle
from duly.locks import Lock, Semaphore
from duly.runtime.context import Context, current
from duly.scheduler import Scheduler
from duly.stores.sealing import Keys
from duly.sync import Sync, SyncJobHandle, SyncLock
from duly.task import Task
from duly.version import __version__
from duly.views.jobs import JobView
from duly.views.schedules import ScheduleView

__all__ = [
    "__version__",
    "at",
    "At",
    "Config",
    "ConfigurationError",
    "Context",
    "Cron",
    "cron",
    "current",
    "Discard",
    "DulyError",
    "DuplicateTask",
    "EncodingError",
    "Event",
    "every",
    "Every",
    "Fail",
    "FormatError",
    "InvalidArguments",
    "InvalidOption",
    "InvalidTrigger",
    "InvalidURL",
    "JobFailed",
    "JobHandle",
    "JobView",
    "Keys",
    "Lock",
    "LockLost",
    "NotAccepting",
    "PushError",
    "PushFailed",
    "PushUncertain",
    "ResultError",
    "ResultNotKept",
    "ResultTimeout",
    "Retry",
    "RetryIn",
    "ScheduleConflict",
    "Scheduler",
    "ScheduleView",
    "Semaphore",
    "Snooze",
    "StoreError",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "StoreUncertain",
    "Sync",
    "SyncJobHandle",
    "SyncLock",
    "Task",
    "TaskError",
    "TooLarge",
    "Trigger",
    "Unique",
    "UnknownTask",
]
