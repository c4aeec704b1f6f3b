"""duly in a Django project: a scheduler from its settings, tasks from its apps, `manage.py duly …`.

# settings.py
INSTALLED_APPS = [..., "duly.contrib.django"]
DULY = {"URL": "redis://localhost:6379/0", "NAMESPACE": "shop"}

# shop/tasks.py, found by itself
from duly.contrib.django import scheduler

@scheduler.task
def send_receipt(order: int) -> None: ...

# shop/views.py
with transaction.atomic():
    order = Order.objects.create()
    push_on_commit(send_receipt, order.pk)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from duly.contrib.django.project import get_scheduler
from duly.sync import SyncJobHandle
from duly.task import Call, Task

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

    scheduler: Scheduler

__all__ = ["apush", "get_scheduler", "push_on_commit", "scheduler"]

P = ParamSpec("P")
R = TypeVar("R")


def push_on_commit(task: Task[P, R] | Call[P, R], *args: P.args, **kwargs: P.kwargs) -> str:
    """Push when the transaction of the default database is committed (now, if there is none); not if it is rolled back.
    Returns the id that the job will have.

    The job is built and checked here, and raises here what it raises. The commit and the push are two steps: if the process
    dies between them, or the store cannot be reached (that raises after the commit), there is no job. What must not be
    missed is found by a schedule that looks for rows without one.
    """
    from django.db import transaction  # type: ignore[import-untyped]

    request = task.job(*args, **kwargs)
    transaction.on_commit(lambda: get_scheduler().sync.push_request(request))
    return request.new.id


async def apush(task: Task[P, R] | Call[P, R], *args: P.args, **kwargs: P.kwargs) -> SyncJobHandle[R]:
    """Push from an async view, under ASGI or WSGI, without `async with scheduler`: the connection is that of `push_sync`,
    and belongs to no event loop of Django's. Raises what `Call.push` raises; see SyncJobHandle for what it returns."""
    request = task.job(*args, **kwargs)
    return await asyncio.to_thread(get_scheduler().sync.push_request, request)


def __getattr__(name: str) -> Any:
    """`scheduler` is made when it is asked for first: it needs the project's settings."""
    if name == "scheduler":
        return get_scheduler()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
