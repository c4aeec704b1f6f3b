"""The dashboard: pages, an HTTP API and live numbers of one scheduler, as an ASGI application.

Mounted in an application (`app.mount("/duly", dashboard(scheduler, access=…))`), or alone (`duly dashboard`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from duly.errors import ConfigurationError

try:
    for _name in ("jinja2", "python_multipart", "sse_starlette", "starlette"):
        importlib.import_module(_name)
except ModuleNotFoundError as error:
    raise ConfigurationError("the dashboard needs Starlette and others: pip install 'duly[dashboard]'") from error

from duly.dashboard.access import Access

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from duly.scheduler import Scheduler

__all__ = ["Access", "dashboard"]


def dashboard(scheduler: Scheduler, *, access: Access | None = None) -> Starlette:
    """The application. It connects the scheduler when it starts, or, mounted, with the first request; it runs no jobs.

    access: who may what; without it, as DULY_DASHBOARD_PASSWORD and the others say. Raises ConfigurationError if that
    leaves it open to everybody.
    """
    from duly.dashboard.app import application

    return application(scheduler, access or Access.from_environment())
