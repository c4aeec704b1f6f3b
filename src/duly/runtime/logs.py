"""What a process logs, and how: texts or JSON, each record made in a handler with the job that it is about.

Applications import it from `duly.contrib.logs`; `duly worker` and its child processes set it up with `set_up_logging`.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from duly.runtime.context import Context, current

FORMATS = ("text", "json")
JOB_FIELDS = ("job_id", "task", "queue", "attempt", "node", "trace_id")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

chosen: list[str] = []
"""How `set_up_logging` was called in this process, if it was: its child processes are to do the same."""


def trace_id(ctx: Context) -> str | None:
    """The trace that a run belongs to: of the span that is active, else of the context that the job came with."""
    api: Any = sys.modules.get("opentelemetry.trace")  # who does not use it does not load it
    if api is not None and (span := api.get_current_span().get_span_context()).is_valid:
        return f"{span.trace_id:032x}"
    parts = ctx.job.headers.get("traceparent", "").split("-")
    return parts[1] if len(parts) >= 4 else None


class JobFilter(logging.Filter):
    """Binds the job of `duly.current()` to each record made while one runs: `record.job_id`, `.task`, `.queue`, `.attempt`,
    `.node` and `.trace_id`; what a record says itself by these names (`extra=`) stays. Lets everything pass. To be added to
    handlers: those of a logger do not see the records of the loggers below it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            ctx = current()
        except LookupError:
            return True
        job = ctx.job
        for name, value in zip(
            JOB_FIELDS, (job.id, job.task, job.queue, ctx.attempt, ctx.node, trace_id(ctx)), strict=True
        ):
            if value is not None and not hasattr(record, name):
                setattr(record, name, value)
        return True


def iso(created: float) -> str:
    """2026-03-01T12:00:00.000+00:00, whatever the machine's zone."""
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")


class TextFormatter(logging.Formatter):
    """One line for people; of a record made in a handler with the job's id."""

    def __init__(self, *, with_pid: bool = False) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {'%(process)d ' if with_pid else ''}%(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  the base's name
        return iso(record.created)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the base's name
        line = super().formatMessage(record)
        id = getattr(record, "job_id", None)
        return line if id is None or str(id) in record.getMessage() else f"{line} [job {id}]"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; job_id, task, queue, attempt, node and trace_id where a JobFilter
    bound them; exception and stack; process and thread; and what was given as `extra=`, what JSON does not know as its repr.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": iso(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            "thread": record.threadName,
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in fields}
        fields |= {name: extra.pop(name) for name in JOB_FIELDS if name in extra} | extra
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return _json(fields)


def _json(fields: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(fields, enc_hook=repr).decode()
    except Exception:  # keys that are no texts, lone surrogates, cycles, a repr that fails: the rest is to be read
        plain = {name: _plain(value) for name, value in fields.items()}
        return msgspec.json.encode(plain).decode()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)
    try:
        return (value if isinstance(value, str) else repr(value)).encode(errors="backslashreplace").decode()
    except Exception:
        return f"<a {type(value).__name__} that cannot be shown>"


def set_up_logging(level: str, format: str = "text", *, with_pid: bool = False) -> None:
    """Everything that is logged goes to stderr, as `text` or `json`; an application's own set-up, made at its import, comes
    after this one. The child processes of this one do the same."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter(with_pid=with_pid))
    handler.addFilter(JobFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    chosen[:] = [level, format]
