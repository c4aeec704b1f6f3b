"""duly in a Flask application: its settings, an app context around each run, and `flask duly …`.

app = Flask(__name__)
scheduler = Scheduler()
init_app(app, scheduler)  # app.config: DULY_URL, DULY_NAMESPACE, and the other settings

@app.post("/orders/<int:order>")
def pay(order: int) -> str:
    return send_receipt.push_sync(order).id
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

import click

from duly.contrib.commands import run_command
from duly.contrib.settings import read_settings
from duly.contrib.wrapping import AsyncRun, Run, wrap_handlers
from duly.errors import ConfigurationError
from duly.scheduler import Scheduler

try:
    from flask import Flask
    from flask.cli import ScriptInfo
except ModuleNotFoundError as error:
    raise ConfigurationError("duly.contrib.flask needs Flask: pip install flask") from error

__all__ = ["get_scheduler", "init_app"]

PREFIX = "DULY_"
TARGET = "duly.contrib.flask:scheduler"
"""What the command line takes for the application's scheduler: see `__getattr__`."""

_served: WeakKeyDictionary[Scheduler, tuple[Flask, dict[str, Any]]] = WeakKeyDictionary()
"""The application of each scheduler, the one that came last, and the settings it gave."""


def init_app(app: Flask, scheduler: Scheduler) -> None:
    """Give the application this scheduler: it takes the settings `DULY_…` of `app.config`, and each run of a handler has an
    app context of its own, which is torn down in its thread at its end. Adds `flask duly …`.

    Tasks may be declared before or after. With several applications for one scheduler (tests), the last one counts. In a
    child process (`executor="process"`) there is an app context if the import of the handler's module comes by here.
    Raises ConfigurationError for a setting that there is not, and InvalidOption.
    """
    given = {name.removeprefix(PREFIX): value for name, value in app.config.items() if name.startswith(PREFIX)}
    settings = read_settings(given, PREFIX + "{}")
    former = _served.get(scheduler)
    if settings and (former is None or former[1] != settings):
        scheduler.configure(**settings)
    _served[scheduler] = app, settings
    if former is None:
        wrap_handlers(scheduler, *_around(scheduler))
    app.extensions["duly"] = scheduler
    app.cli.add_command(command)


def get_scheduler(app: Flask) -> Scheduler:
    """The scheduler of an application (also of `current_app`). Raises ConfigurationError if it has none."""
    scheduler = app.extensions.get("duly")
    if not isinstance(scheduler, Scheduler):
        raise ConfigurationError(
            f"the application {app.name!r} has no scheduler: init_app(app, scheduler) gives it one"
        )
    return scheduler


def _around(scheduler: Scheduler) -> tuple[Callable[[Run], Any], Callable[[AsyncRun], Awaitable[Any]]]:
    """What wraps a run, and one of an async handler."""

    def around(call: Run) -> Any:
        with _served[scheduler][0].app_context():
            return call()

    async def around_async(call: AsyncRun) -> Any:
        with _served[scheduler][0].app_context():
            return await call()

    return around, around_async


@click.command(
    "duly",
    short_help="Jobs: worker, push, jobs, schedules, queues …",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """The command line of duly, with the scheduler of this application: `flask --app shop duly worker`."""
    info = ctx.ensure_object(ScriptInfo)
    if info.app_import_path:
        os.environ["FLASK_APP"] = info.app_import_path  # for worker processes that this one starts
    run_command(arguments, TARGET, parent=ctx.parent)


def __getattr__(name: str) -> Any:
    """`scheduler`: that of the application which Flask's command line finds (`--app`, FLASK_APP, app.py, wsgi.py)."""
    if name != "scheduler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    ctx = click.get_current_context(silent=True)
    info = ctx.find_object(ScriptInfo) if ctx is not None else None
    return get_scheduler((info or ScriptInfo(os.environ.get("FLASK_APP"))).load_app())
