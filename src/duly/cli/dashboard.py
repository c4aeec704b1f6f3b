"""`duly dashboard`: the dashboard in a process of its own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from duly.cli.connection import OPTIONS, asked, open_scheduler
from duly.errors import ConfigurationError
from duly.runtime.logs import set_up_logging

if TYPE_CHECKING:
    from duly.dashboard import Access
    from duly.scheduler import Scheduler

MOST_AT_ONCE = 1_000
"""Connections and requests; more are told to come again."""
STOPS_WITHIN = 3
"""Seconds that answers under way have when it is stopped."""
BACKLOG = 100
HOST, PORT = "127.0.0.1", 8080


def _secret(_ctx: click.Context, param: click.Parameter, path: Path | None) -> str:
    """The first line of a file."""
    if path is None:
        return ""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} cannot be read: {error}") from None
    if not lines or not lines[0].strip():
        raise click.BadParameter(f"{path} is empty: its first line is the {str(param.name).replace('_', ' ')}")
    return lines[0].strip()


def _file_option(name: str, words: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--{name}-file", name.replace("-", "_"), type=click.Path(path_type=Path), callback=_secret, metavar="FILE",
        help=f"{words}; else $DULY_DASHBOARD_{name.upper().replace('-', '_')}.",
    )  # fmt: skip


@click.command("dashboard", short_help="Look at everything in a browser, and steer it.")
@click.argument("store", required=False, metavar="[URL]")
@click.option("--host", default=HOST, show_default=True, help="Address to listen at; 0.0.0.0 for every one.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 for any free one.")
@_file_option("password", "A file whose first line is the password to read and to change")
@_file_option("read-password", "The same, for a password that may only read")
@_file_option("token", "The same, for a token with which programs read and change")
@_file_option("read-token", "The same, for a token that may only read")
@click.option(
    "--open", "is_open", is_flag=True, help="Let everybody in who can reach the address, to change everything."
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name by which browsers may ask for it.")
@click.option("--proxy", metavar="ADDRESS", help="Believe what the reverse proxy at this address says of who asks.")
@click.option("--root-path", default="", metavar="PATH", help="The path under which a reverse proxy shows it.")
@OPTIONS[0]
@OPTIONS[1]
@OPTIONS[2]
def command(store: str | None, host: str, port: int, url: str | None, namespace: str | None, target: str | None,
            **given: Any) -> None:  # fmt: skip
    """Show the dashboard of the store at URL in a browser, and serve its HTTP API.

    On this machine alone (127.0.0.1) it asks nobody who they are. At an address that others can reach it starts only with a
    password or a token, or with --open.
    """
    if store is not None and url is not None:
        raise click.UsageError(f"URL {store} and --url {url}: give one of them")
    with asked():
        try:
            import uvicorn

            from duly.dashboard import dashboard
        except ModuleNotFoundError as error:
            raise ConfigurationError("the dashboard needs uvicorn and others: pip install 'duly[dashboard]'") from error
        scheduler = open_scheduler(store or url, namespace, target, creates=False)
        app = dashboard(scheduler, access=_access(host, given))
    proxy, root = given["proxy"], given["root_path"].rstrip("/")
    config = uvicorn.Config(
        app, limit_concurrency=MOST_AT_ONCE,
        log_config=None, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=STOPS_WITHIN,
        proxy_headers=proxy is not None, forwarded_allow_ips=proxy, root_path=root,
    )  # fmt: skip
    with listening(host, port) as listener, _deaf():
        set_up_logging("info")
        _greet(listener, host, root, scheduler)
        uvicorn.Server(config).run([listener])


def _access(host: str, given: dict[str, Any]) -> Access:
    """Who may what. Raises UsageError for an address that others can reach, without anything that keeps them out."""
    from duly.dashboard.access import LOOPBACK, PREFIX, SETTINGS, Access

    secrets: dict[str, Any] = {name: given[name] or os.environ.get(PREFIX + name.upper(), "") for name in SETTINGS}
    # a proxy shows it to others, wherever it listens itself
    here = is_loopback(host) and given["proxy"] is None and not given["root_path"]
    names = frozenset(name.lower() for name in given["allow_host"])
    hosts = names | LOOPBACK | {host.lower()} if here else names or None
    if given["is_open"] and any(given[name] for name in SETTINGS):
        raise click.UsageError("--open lets everybody in: leave the passwords and tokens out, or --open")
    if given["is_open"] or (here and not any(secrets.values())):
        return Access(open=True, hosts=hosts, secret=os.environ.get(f"{PREFIX}SECRET", ""))
    if not any(secrets.values()):
        raise click.UsageError(
            f"others can reach {'it through the proxy' if is_loopback(host) else host}: give a password (--password-file, or "
            "DULY_DASHBOARD_PASSWORD) or a token "
            "(--token-file, or DULY_DASHBOARD_TOKEN), or say --open"
        )
    return Access(hosts=hosts, secret=os.environ.get(f"{PREFIX}SECRET", ""), **secrets)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises ClickException if the address is taken, or not one of this machine."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = error.strerror or str(error)
        raise click.ClickException(
            f"cannot listen at {host}, port {port} ({why}): give another --port or --host"
        ) from None
    with listener:
        yield listener


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """The server takes SIGINT and SIGTERM as its stop, and raises them again when it has: that is then not our end."""
    former = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _greet(listener: socket.socket, host: str, root: str, scheduler: Scheduler) -> None:
    shown = f"[{host}]" if ":" in host else host
    store = f"{scheduler.store.url}, namespace {scheduler.config.namespace}"
    click.echo(f"http://{shown}:{listener.getsockname()[1]}{root}/  ({store}; Ctrl+C ends it)")
