"""The one way from the command line to a store: `--url` and `--namespace`, or an application's own with `--scheduler`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import click

from duly.cli.application import find_scheduler
from duly.config import DEFAULT_URL, resolve_urls
from duly.errors import ConfigurationError, EncodingError, InvalidArguments, StoreUnavailable, TaskError, TooLarge
from duly.scheduler import Scheduler

Work = Callable[..., Coroutine[Any, Any, None]]


def with_store(*, creates: bool = False, connected: bool = True) -> Callable[[Work], Callable[..., None]]:
    """Gives a command the options that say where the store is, and runs it, a coroutine function, with a connected
    scheduler as its first argument.

    creates: whether an SQLite file that is not there is made. A command that only looks must not leave one behind.
    connected: False for a command that connects by itself.
    """

    def decorate(work: Work) -> Callable[..., None]:
        @functools.wraps(work)
        def command(url: str | None, namespace: str | None, target: str | None, **given: Any) -> None:
            with asked():
                scheduler = open_scheduler(url, namespace, target, creates=creates)
                asyncio.run((_connected(work) if connected else work)(scheduler, **given))

        for option in reversed(OPTIONS):
            command = option(command)
        return command

    return decorate


OPTIONS = (
    click.option("--url", metavar="URL", help="Where state lives (several servers: with spaces between); else $DULY_URL, else sqlite:///duly.db."),
    click.option("--namespace", metavar="NAME", help="The application's namespace; else $DULY_NAMESPACE, else duly."),
    click.option("-s", "--scheduler", "target", metavar="MODULE:ATTRIBUTE",
                 help="Take both from an application's scheduler, such as app:scheduler."),
)  # fmt: skip


def _connected(work: Work) -> Work:
    async def run(scheduler: Scheduler, **given: Any) -> None:
        try:
            await scheduler.connect()
        except StoreUnavailable as error:
            raise click.ClickException(f"{error}; is it running, and is --url (or DULY_URL) right?") from error
        try:
            await work(scheduler, **given)
        finally:
            await scheduler.close()

    return run


@contextlib.contextmanager
def asked() -> Iterator[None]:
    """What cannot be done as it was asked for ends with exit code 2, as click's own errors do."""
    try:
        yield
    except (ConfigurationError, TaskError, InvalidArguments, EncodingError, TooLarge) as error:
        raise click.UsageError(str(error)) from error


def open_scheduler(url: str | None, namespace: str | None, target: str | None, *, creates: bool) -> Scheduler:
    """An unconnected scheduler over the store that was asked for. Raises ClickException if there is no such file."""
    if target is not None:
        scheduler = find_scheduler(target)
        scheduler.configure(url, namespace=namespace)
    else:
        scheduler = Scheduler(url, namespace=namespace)
    store = scheduler.store.url
    if store.startswith("memory://"):
        raise click.UsageError(f"{store} lives inside one process and cannot be seen from another; give --url")
    if not creates:
        _require_file(store)
    return scheduler


def _require_file(url: str) -> None:
    scheme, _, _ = url.partition("://")
    if scheme != "sqlite":
        return
    from duly.stores.sqlite.file import read_url

    path = Path(read_url(url).path)
    if not path.exists():
        if (url,) == (DEFAULT_URL,) == resolve_urls(None):
            raise click.ClickException(f"there is no {path} here; give --url or set DULY_URL")
        raise click.ClickException(f"there is no file {path}, so nothing was pushed to {url}; is the URL right?")
