"""The scheduler of a Django project, made from its settings; database connections that live no longer than is meant."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import Any

from duly.contrib.settings import read_settings
from duly.contrib.wrapping import AsyncRun, Run, wrap_handlers
from duly.errors import ConfigurationError
from duly.runtime.handler import Handler
from duly.scheduler import Scheduler

OUTSIDE = "duly.contrib.django.outside"
"""The module that sets Django up for processes that it did not start."""


@functools.cache
def get_scheduler() -> Scheduler:
    """The project's scheduler: the one that `DULY["SCHEDULER"]` names by its dotted path, else one of its own.

    The other keys are `URL` and the settings of `duly.Config` in capitals. Raises ConfigurationError.
    """
    given = dict(_settings())
    path = given.pop("SCHEDULER", None)
    settings = read_settings(given, "DULY[{!r}]")
    if path is None:
        scheduler = Scheduler(settings.pop("url", None), **settings)
    else:
        scheduler = _own(path)
        if settings:
            scheduler.configure(**settings)
    wrap_handlers(scheduler, _around, _around_async, _target)
    return scheduler


def _settings() -> Mapping[str, Any]:
    try:
        from django.conf import settings  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ConfigurationError("duly.contrib.django needs Django: pip install django") from error
    given = getattr(settings, "DULY", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"the setting DULY is {given!r}: give a dict, such as {{'URL': 'redis://localhost'}}")
    return given


def _own(path: str) -> Scheduler:
    from django.utils.module_loading import import_string  # type: ignore[import-untyped]

    found = import_string(path)
    if not isinstance(found, Scheduler):
        raise ConfigurationError(f"DULY['SCHEDULER'] is {path!r}, and that is {found!r}: name a duly.Scheduler")
    return found


def _around(call: Run) -> Any:
    """What Django does around a request: connections that are broken, or older than CONN_MAX_AGE, are closed."""
    from django.db import close_old_connections  # type: ignore[import-untyped]

    loop = asyncio._get_running_loop()
    if loop is not None:
        return _in_place(call, loop)
    close_old_connections()
    try:
        return call()
    finally:
        close_old_connections()


def _in_place(call: Run, loop: asyncio.AbstractEventLoop) -> Any:
    """No thread of a worker has a loop: this is `duly.testing.eager`, in the thread of a test and on its connections. Django
    refuses its ORM to plain code in which it sees a loop, so it must not see this one."""
    asyncio._set_running_loop(None)
    try:
        return call()
    finally:
        asyncio._set_running_loop(loop)


async def _around_async(call: AsyncRun) -> Any:
    """Async code has its connections in a thread that all of it shares, so only before: a long query holds up others."""
    from asgiref.sync import sync_to_async
    from django.db import close_old_connections

    await sync_to_async(close_old_connections)()
    return await call()


def _target(handler: Handler) -> str:
    """A child process has to set Django up before it imports the module of a handler."""
    module, _, name = handler.target.partition(":")
    return handler.target if module == "__main__" else f"{OUTSIDE}:handlers.{module.replace('.', '/')}.{name}"
