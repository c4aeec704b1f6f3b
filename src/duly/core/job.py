"""What a job is: its options, what is written at push, what a claim hands to a node."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from duly.config import not_a_partition
from duly.core.retry import DEFAULT_RETRY, NO_RETRY, Retry
from duly.errors import InvalidOption, nearest

PRIORITIES = 4
"""0 is first, 3 is last."""
DEFAULT_PRIORITY = 1
RESULT_SECONDS = 3600.0
"""How long `keep_result=True` keeps a result."""
MAX_CRASHES = 3

Delivery = Literal["at_least_once", "at_most_once"]
Executor = Literal["thread", "process"]


class Unique(msgspec.Struct, frozen=True, kw_only=True):
    """No second job with this key while the first is live.

    key: None derives it from the task's name and arguments.
    until: "end" (pending or running), "start" (pending only).
    seconds: instead of `until`, for that long after the push, whatever becomes of the job.
    """

    key: str | None = None
    until: Literal["end", "start"] = "end"
    seconds: float | None = None


class Hold(msgspec.Struct, frozen=True, array_like=True):
    """A unique key as the store sees it: `scope` is `end`, `start` or `time`; `ms` counts for `time` alone."""

    key: str
    scope: Literal["end", "start", "time"] = "end"
    ms: int = 0


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Task options as the user set them; None means not set. Build with `make_options`, which validates."""

    name: str | None = None
    queue: str | None = None
    priority: int | None = None
    delay: float | None = None
    at: float | None = None
    id: str | None = None
    replace: bool | None = None
    unique: Unique | None = None
    retry: Retry | None = None
    retry_timeout: float | None = None
    timeout: float | None = None
    lease: float | None = None
    delivery: Delivery | None = None
    expires: float | None = None
    keep_result: float | None = None
    max_crashes: int | None = None
    executor: Executor | None = None


OPTION_NAMES = Options.__struct_fields__
RUN_OPTIONS = ("retry", "retry_timeout", "timeout", "lease", "delivery", "expires", "keep_result", "max_crashes")
"""The options an envelope carries when they were set at push; the running node's declaration fills the rest."""
DECLARED_OPTIONS = ("executor",)
"""The options that a declaration alone may set."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Options resolved by the running node: what the envelope set, else the declaration, else the default."""

    retry: Retry = DEFAULT_RETRY
    timeout: float | None = None
    lease: float | None = None
    at_most_once: bool = False
    expires: float | None = None
    keep_result: float = 0.0
    max_crashes: int = MAX_CRASHES


class NewJob(msgspec.Struct, frozen=True):
    """One job as `enqueue` takes it. `due` (epoch ms) wins over `delay` (ms from the store's now).

    named: the id was given by the user and stays known for `remember` after the job's end.
    """

    id: str
    body: bytes
    delay: int = 0
    due: int | None = None
    priority: int = DEFAULT_PRIORITY
    named: bool = False
    replace: bool = False
    unique: Hold | None = None


def to_ms(seconds: float) -> int:
    """Whole milliseconds, rounded up: a moment or a duration given by a user is never cut short."""
    return math.ceil(round(seconds * 1000, 3))  # to the microsecond: what floats add beyond is not meant


def due_after(now_us: int, delay: int) -> int:
    """The first millisecond at which `delay` ms have passed since `now_us`; without a delay, the present one."""
    return now_us // 1000 if delay == 0 else -(-now_us // 1000) + delay


class Holder(msgspec.Struct, frozen=True):
    """Who held a job before the caller took it over. started: the start is marked. doubtful: it is not, but the server of
    that time may have been lost with the mark."""

    fence: int
    node: str
    started: bool
    doubtful: bool = False


class Claimed(msgspec.Struct):
    """One job as `claim` returns it. Times are epoch ms of the store's clock.

    attempts: failures counted so far. crashes: leases that ended with their node, and runs whose child process died.
    unfit_since: 0, or when a node first could not run it. before: the former holder, if this is a take-over.
    cancelled: a cancel was asked. due: when it was; 0 if that is not known any more, as of one taken over or told again.
    """

    id: str
    body: bytes
    enqueued_at: int
    priority: int = DEFAULT_PRIORITY
    named: bool = False
    unique: str | None = None
    attempts: int = 0
    crashes: int = 0
    unfit_since: int = 0
    before: Holder | None = None
    cancelled: bool = False
    due: int = 0


def duration(name: str, value: Any, *, least: float = 0.0, zero: bool = True) -> float:
    """Seconds from a number or timedelta, or one clear error."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise InvalidOption(f"{name}={value!r}: give seconds as a number, or a timedelta")
    if seconds < least or (seconds == 0 and not zero):
        raise InvalidOption(
            f"{name}={value!r}: it must be {'at least' if zero or least else 'more than'} {least:g} seconds"
        )
    if seconds > 1e10:
        raise InvalidOption(f"{name}={value!r}: that is more than 300 years; give seconds, not milliseconds")
    return float(seconds)


def moment(name: str, value: Any) -> float:
    """Epoch seconds from an aware datetime or a number, or one clear error."""
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise InvalidOption(
                f"{name}={value!r} has no time zone: give an aware datetime, such as "
                f"datetime(…, tzinfo=ZoneInfo('Europe/Paris')) or datetime.now(UTC)"
            )
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidOption(f"{name}={value!r}: give an aware datetime, or seconds since 1970 as a number")
    if not 0 <= value < 1e11:
        raise InvalidOption(f"{name}={value!r}: that is not a moment in seconds since 1970 (milliseconds, perhaps?)")
    return float(value)


def text(name: str, value: Any) -> str:
    """A name or id that can be written anywhere, or one clear error."""
    if not isinstance(value, str) or not value or len(value.encode(errors="replace")) > 200:
        raise InvalidOption(f"{name}={value!r}: give a text of 1 to 200 bytes")
    if any(ord(c) < 32 or c in "{}" or "\ud800" <= c <= "\udfff" for c in value):
        raise InvalidOption(f"{name}={value!r}: no control characters, no braces and no lone surrogates, please")
    return value


def queue_name(value: Any) -> str:
    """A queue's name. Raises InvalidOption."""
    return not_a_partition(text("queue", value))


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < PRIORITIES:
        raise InvalidOption(f"priority={value!r}: give 0 (first) to {PRIORITIES - 1} (last)")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidOption(f"{name}={value!r}: give True or False")
    return value


def _unique(value: Any) -> Unique | None:
    if value is False:
        return None
    if value is True:
        return Unique()
    if isinstance(value, str):
        return Unique(key=text("unique", value))
    if isinstance(value, int | float | timedelta):
        return Unique(seconds=duration("unique", value, zero=False))
    if isinstance(value, Unique):
        if value.key is not None:
            text("unique key", value.key)
        if value.until not in ("end", "start"):
            raise InvalidOption(f"Unique(until={value.until!r}): give 'end' or 'start'")
        if value.seconds is not None:
            duration("Unique(seconds)", value.seconds, zero=False)
        return value
    raise InvalidOption(f"unique={value!r}: give True, a key, seconds, or Unique(key=…, until=…)")


def _retry(value: Any) -> Retry:
    if value is True:
        return DEFAULT_RETRY
    if value is False:
        return NO_RETRY
    if isinstance(value, Retry):
        return value
    if isinstance(value, int):
        return Retry(limit=value)
    raise InvalidOption(f"retry={value!r}: give Retry(limit=…, delay=…), a number of retries, True or False")


def _max_crashes(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise InvalidOption(f"max_crashes={value!r}: give a whole number from 1 to 1000")
    return value


def _delivery(value: Any) -> Delivery:
    if value not in ("at_least_once", "at_most_once"):
        raise InvalidOption(f"delivery={value!r}: give 'at_least_once' or 'at_most_once'")
    return value  # type: ignore[no-any-return]


def _executor(value: Any) -> Executor:
    if value not in ("thread", "process"):
        raise InvalidOption(f"executor={value!r}: give 'thread' or 'process'")
    return value  # type: ignore[no-any-return]


def _keep_result(value: Any) -> float:
    if isinstance(value, bool):
        return RESULT_SECONDS if value else 0.0
    return duration("keep_result", value)


def _retry_timeout(value: Any) -> float:
    seconds = duration("retry_timeout", value, least=1)
    Retry(limit=None, delay=seconds)  # it stands for a policy with that delay
    return seconds


_CHECKS: Mapping[str, Any] = {
    "name": lambda v: text("name", v),
    "queue": queue_name,
    "priority": _priority,
    "delay": lambda v: duration("delay", v),
    "at": lambda v: moment("at", v),
    "id": lambda v: text("id", v),
    "replace": lambda v: _flag("replace", v),
    "unique": _unique,
    "retry": _retry,
    "retry_timeout": _retry_timeout,
    "timeout": lambda v: duration("timeout", v, zero=False),
    "lease": lambda v: duration("lease", v, least=1),
    "delivery": _delivery,
    "expires": lambda v: duration("expires", v, zero=False),
    "keep_result": _keep_result,
    "max_crashes": _max_crashes,
    "executor": _executor,
}


def make_options(given: Mapping[str, Any], base: Options | None = None) -> Options:
    """Validated options: `given` over `base`. An option given as None is not set.

    Raises InvalidOption, naming the option, the value and what is allowed; an unknown name gets the nearest known one.
    """
    known: dict[str, Any] = {}
    for name, value in given.items():
        check = _CHECKS.get(name)
        if check is None:
            raise InvalidOption(f"unknown option {name!r}; {nearest(name, OPTION_NAMES)}")
        known[name] = None if value is None else check(value)
    merged = {n: known[n] if n in known else (getattr(base, n) if base else None) for n in OPTION_NAMES}
    options = Options(**merged)
    if options.delay is not None and options.at is not None:
        raise InvalidOption(f"delay={options.delay!r} and at={options.at!r} were both given; give one of them")
    if options.delivery == "at_most_once":
        for name in ("retry", "retry_timeout"):
            value = getattr(options, name)
            if value is not None and value != NO_RETRY:
                raise InvalidOption(
                    f"delivery='at_most_once' never runs a job again, so {name}= cannot be given with it"
                )
    if options.replace and options.id is None and known.get("replace"):
        raise InvalidOption("replace=True needs id=: it says which pending job is to be replaced")
    return options


def push_options(given: Mapping[str, Any], base: Options | None = None) -> Options:
    """`make_options` for one push or schedule. Raises InvalidOption also for what belongs to the declaration alone."""
    for name in DECLARED_OPTIONS:
        if given.get(name) is not None:
            raise InvalidOption(
                f"{name}={given[name]!r} belongs to the task, not to one push: declare it, @scheduler.task({name}=…)"
            )
    return make_options(given, base)


def make_policy(declared: Options, pushed: Options | None = None) -> Policy:
    """What applies to a run: the envelope's options over the declaration's over the defaults."""

    def chosen(name: str) -> Any:
        value = getattr(pushed, name) if pushed is not None else None
        return value if value is not None else getattr(declared, name)

    once = chosen("delivery") == "at_most_once"
    retry, lease, sugar = chosen("retry"), chosen("lease"), chosen("retry_timeout")
    if sugar is not None and not once:
        retry = retry if retry is not None else Retry(limit=None, delay=sugar, on_false=True)
        lease = lease if lease is not None else sugar
    return Policy(
        retry=NO_RETRY if once else retry if retry is not None else DEFAULT_RETRY,
        timeout=chosen("timeout"),
        lease=lease,
        at_most_once=once,
        expires=chosen("expires"),
        keep_result=chosen("keep_result") or 0.0,
        max_crashes=chosen("max_crashes") or MAX_CRASHES,
    )
