"""The settings of a node: one frozen, validated object; the same names as keywords, flags and DULY_… variables."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from duly.errors import ConfigurationError, InvalidOption, InvalidURL, nearest

DEFAULT_QUEUE = "default"
DURABILITIES = ("local", "replicated")
DEFAULT_URL = "sqlite:///duly.db"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a node. Durations in seconds.

    namespace: separates applications that share a store. app: owns the schedules declared in code.
    concurrency: slots. threads: for sync handlers (None: as many as slots).
    children: child processes at most, for handlers with executor="process" (None: as many as there are processors).
    child_jobs: runs after which a child is replaced. child_memory: megabytes above which it is (None: never).
    queues: those this node serves.
    lease: how long a silent node keeps its jobs. grace: what running jobs get at a stop. poll: the safety poll.
    tags: free labels of the node. history: entries kept in the streams. remember: how long the ids that users gave
    stay known after their end. unfit_for: how long misfit arguments are put back before the job is dead.
    master: which of several servers (an index) has locks and membership; the same in every process.
    reconnect_interval: the longest pause between two tries to reach a server that is away; never more than a sixth of the
    lease, which is also the default.
    durability: "replicated" has a push return, a tick count as fired and a job at most once begin only when a replica of the
    Redis server knows of it; "local" when the server does.
    measures: whether runs are counted, for /metrics and for the store's history of the last twelve hours.
    push_timeout: how long a push waits for a store that is away. start_timeout: how long a start does (0: it fails).
    """

    namespace: str = "duly"
    app: str = "default"
    concurrency: int = 100
    threads: int | None = None
    children: int | None = None
    child_jobs: int = 1000
    child_memory: int | None = None
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    lease: float = 10.0
    grace: float = 20.0
    poll: float = 2.0
    tags: tuple[str, ...] = ()
    history: int = 10_000
    remember: float = 3600.0
    unfit_for: float = 3600.0
    master: int = 0
    reconnect_interval: float | None = None
    push_timeout: float = 5.0
    start_timeout: float = 0.0
    durability: str = "local"
    measures: bool = True
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("duly"))

    def __post_init__(self) -> None:
        for name, least, most in _RANGES:
            value = getattr(self, name)
            whole = name in _WHOLE
            if name in _MAY_BE_NONE and value is None:
                continue
            kind = int if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                raise InvalidOption(
                    f"{name}={value!r}: give a {'whole ' if whole else ''}number from {least:g} to {most:g}"
                )
        if not isinstance(self.measures, bool):
            raise InvalidOption(f"measures={self.measures!r}: give True or False")
        if self.durability not in DURABILITIES:
            raise InvalidOption(f"durability={self.durability!r}: give {' or '.join(map(repr, DURABILITIES))}")
        for name in ("namespace", "app"):
            _name(name, getattr(self, name))
        for name in ("queues", "tags"):
            value = getattr(self, name)
            if (
                isinstance(value, str)
                or not isinstance(value, Collection)
                or not all(isinstance(p, str) for p in value)
            ):
                raise InvalidOption(f"{name}={value!r}: give a sequence of names, such as ['mail', 'default']")
            object.__setattr__(self, name, tuple(dict.fromkeys(_name(name, part) for part in value)))
        for queue in self.queues:
            not_a_partition(queue)
        if not self.queues:
            raise InvalidOption("queues=(): name at least one queue")
        if not hasattr(self.logger, "warning") or not hasattr(self.logger, "info"):
            raise InvalidOption(f"logger={self.logger!r}: give a logging.Logger")

    @property
    def lease_ms(self) -> int:
        return int(self.lease * 1000)

    @property
    def longest_pause(self) -> float:
        """Seconds between two tries to reach the store, at most: a gap in calls must not cost live nodes their leases."""
        return min(self.lease / 6, self.reconnect_interval or self.lease)


_WHOLE = ("concurrency", "threads", "children", "child_jobs", "child_memory", "history", "master")
_MAY_BE_NONE = ("threads", "children", "child_memory", "reconnect_interval")
_SWITCHES = ("measures",)
_YES_AND_NO = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_RANGES = (
    ("concurrency", 1, 100_000),
    ("threads", 1, 10_000),
    ("children", 1, 10_000),
    ("child_jobs", 1, 1_000_000_000),
    ("child_memory", 1, 100_000_000),
    ("lease", 1, 86_400),
    ("grace", 0, 86_400),
    ("poll", 0.05, 60),
    ("history", 0, 10_000_000),
    ("remember", 0, 31_536_000),
    ("unfit_for", 0, 31_536_000),
    ("master", 0, 1_000),
    ("reconnect_interval", 0.05, 3600),
    ("push_timeout", 0, 86_400),
    ("start_timeout", 0, 86_400),
)
SETTINGS = tuple(f.name for f in fields(Config))


def _name(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 200:
        raise InvalidOption(f"{what}={value!r}: give a name of 1 to 200 characters")
    if any(c in "{}" or ord(c) < 33 or "\ud800" <= c <= "\udfff" for c in value):
        raise InvalidOption(f"{what}={value!r}: a name holds no braces, spaces, control characters or lone surrogates")
    return value


def not_a_partition(queue: str) -> str:
    """The name of a queue. Raises InvalidOption for one that names a partition of a queue."""
    if re.search(r":\d+\Z", queue):
        raise InvalidOption(f"queue={queue!r}: `:` and a number at the end name a partition; give a name without them")
    return queue


def make_config(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Config:
    """Settings from keywords, else from DULY_… variables, else defaults. Raises InvalidOption naming the setting."""
    environment = os.environ if environment is None else environment
    for name in given:
        if name not in SETTINGS:
            raise InvalidOption(f"unknown setting {name!r}; {nearest(name, SETTINGS)}")
    values = {name: value for name, value in given.items() if value is not None}
    for name in SETTINGS:
        variable = f"DULY_{name.upper()}"
        if name not in values and name != "logger" and environment.get(variable):
            values[name] = _from_text(name, variable, environment[variable])
    if isinstance(values.get("queues"), list):
        values["queues"] = tuple(values["queues"])
    return Config(**values)


def _from_text(name: str, variable: str, text: str) -> Any:
    if name in ("queues", "tags"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if name in ("namespace", "app", "durability"):
        return text
    if name in _SWITCHES:
        if text.lower() not in _YES_AND_NO:
            raise ConfigurationError(f"{variable}={text!r}: give one of {', '.join(_YES_AND_NO)}")
        return _YES_AND_NO[text.lower()]
    try:
        return int(text) if name in _WHOLE else float(text)
    except ValueError:
        raise ConfigurationError(f"{variable}={text!r}: give a number") from None


def masked(url: str) -> str:
    """The URL as it may be logged and shown: without user, password, and secrets in its query."""
    head, mark, query = url.partition("?")
    head = re.sub(r"//.*@", "//…@", head)
    query = re.sub(r"(?i)([^&=]*(?:pass|user|secret|token)[^&=]*)=[^&]*", r"\1=…", query)
    return head + mark + query


def resolve_urls(url: str | Sequence[str] | None, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The store's URL, or those of several servers: as given, else from $DULY_URL, else the embedded store in the working
    directory. A text may hold several, with spaces between. Raises ConfigurationError."""
    environment = os.environ if environment is None else environment
    url = url or environment.get("DULY_URL") or DEFAULT_URL
    if isinstance(url, str):
        url = re.split(r"\s+(?=[a-z+]+://)", url.strip())  # a path may hold spaces
    urls = tuple(url) if isinstance(url, list | tuple) else (url,)
    for one in urls:
        if not isinstance(one, str):
            raise InvalidURL(f"{one!r} is not a URL; give one such as redis://localhost:6379/0, or a list of them")
    if len(set(urls)) < len(urls):
        raise ConfigurationError(f"a server is in the list twice: {', '.join(masked(one) for one in urls)}")
    return urls
