"""Every error duly raises, drawn as one tree; each names the value it met and says what to do now.

DulyError
├── ConfigurationError (ValueError)     a setting, option, trigger or URL that cannot be used
│   ├── InvalidOption
│   ├── InvalidTrigger
│   └── InvalidURL
├── TaskError
│   ├── UnknownTask (LookupError)       no handler of that name here
│   └── DuplicateTask                   a name declared twice
├── PushError                           nothing was written, unless the class says otherwise
│   ├── InvalidArguments (TypeError)    the arguments do not fit the handler's signature
│   ├── EncodingError (TypeError)       an argument that msgpack cannot carry
│   ├── TooLarge (ValueError)
│   ├── NotAccepting
│   ├── PushUncertain                   the push may or may not have been applied; carries the ids
│   └── PushFailed                      part of a push_many; carries accepted, uncertain, rest
├── StoreError
│   ├── StoreRefused                    the store answered, and applied nothing
│   │   ├── StoreFull
│   │   ├── StaleMap                    what lies where has changed since this process looked
│   │   └── FormatError                 the data was written by a newer duly
│   ├── StoreUnavailable                never sent: there is no connection
│   └── StoreUncertain                  sent, and no answer came: it may have been applied
├── UnfitJob                            this node cannot run the job as it stands (another may)
├── ScheduleConflict                    another edit of the schedule came first
├── LockLost                        a lock or semaphore that is not held, or was lost while its block ran
└── ResultError
    ├── ResultNotKept
    ├── ResultTimeout (TimeoutError)
    └── JobFailed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class DulyError(Exception):
    """The root of duly's errors."""


class ConfigurationError(DulyError, ValueError):
    """A setting that cannot be used as given."""


class InvalidOption(ConfigurationError):
    """An option that is unknown, or whose value is out of its range."""


class InvalidTrigger(ConfigurationError):
    """A cron expression, interval or moment that cannot be used."""


class InvalidURL(ConfigurationError):
    """A store URL that names no store."""


class TaskError(DulyError):
    """A fault in the declaration or naming of tasks."""


class UnknownTask(TaskError, LookupError):
    """No task of that name is declared here."""


class DuplicateTask(TaskError, ValueError):
    """A task name that is declared already."""


class PushError(DulyError):
    """A job that was not accepted."""


class InvalidArguments(PushError, TypeError):
    """Arguments that do not fit the handler's signature."""


class EncodingError(PushError, TypeError):
    """A value that msgpack cannot carry."""


class TooLarge(PushError, ValueError):
    """An envelope above the size limit."""


class NotAccepting(PushError):
    """This scheduler was told to stop accepting jobs."""


class PushUncertain(PushError):
    """The store did not answer in time: each of `ids` may or may not have been accepted.

    Pushing the same ids again is safe: an id that is known is not written twice.
    """

    def __init__(self, ids: Sequence[str], cause: str) -> None:
        self.ids = tuple(ids)
        shown = ", ".join(self.ids[:3]) + (f" and {len(self.ids) - 3} more" if len(self.ids) > 3 else "")
        super().__init__(
            f"the store did not say whether {shown} was accepted ({cause}); "
            "push again with the same id: a known id is not written twice"
        )


class PushFailed(PushError):
    """A `push_many` that ended early: what was accepted, what is uncertain, what was not sent."""

    def __init__(
        self, accepted: Sequence[str], uncertain: Sequence[str], rest: Sequence[Any], cause: Exception
    ) -> None:
        self.accepted, self.uncertain, self.rest = list(accepted), list(uncertain), list(rest)
        super().__init__(
            f"push_many stopped: {len(self.accepted)} accepted, {len(self.uncertain)} uncertain, "
            f"{len(self.rest)} not accepted ({cause})"
        )


class StoreError(DulyError):
    """The store could not do what was asked."""


class StoreRefused(StoreError):
    """The store answered and applied nothing; the call may be made again later."""


class StoreFull(StoreRefused):
    """The store has no memory left for new data; running jobs still renew and settle."""


class StaleMap(StoreRefused):
    """The shards of the queue have changed since this process read the map; it reads it again, and then knows better."""


class FormatError(StoreRefused):
    """The data in the store was written in a format newer than this duly reads."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, or is not ready (it loads its data, it fails over): nothing was applied."""


class StoreUncertain(StoreError):
    """The call was sent and no answer came: it may or may not have been applied."""


class UnfitJob(DulyError):
    """This node cannot run a job as it stands: `reason` is `task`, `envelope` or `arguments`."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class ScheduleConflict(DulyError):
    """The schedule was changed by another since it was read: read it again, then edit."""


class LockLost(DulyError):
    """The lock's time ran out, or it was released by somebody else."""


class ResultError(DulyError):
    """A result that cannot be given."""


class ResultNotKept(ResultError):
    """The job was pushed without `keep_result`."""


class ResultTimeout(ResultError, TimeoutError):
    """The job did not end within the time-out; it goes on."""


class JobFailed(ResultError):
    """The job ended without a result; `reason` says how, `error` carries the last error's text."""

    def __init__(self, id: str, reason: str, error: str = "") -> None:
        self.id, self.reason, self.error = id, reason, error
        super().__init__(f"job {id} ended as {reason}" + (f": {error}" if error and error not in reason else ""))


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that names the nearest known name, or lists them all: for the end of an error's sentence."""
    known = sorted(known)
    match = difflib.get_close_matches(name, known, n=1)
    if match:
        return f"did you mean {match[0]!r}?"
    return "known: " + (", ".join(known) if known else "none")
