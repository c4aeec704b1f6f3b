"""Headers, keys and traces as type checkers see them: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_type

from opentelemetry.trace import get_tracer_provider

from duly import Context, Keys, Scheduler
from duly.contrib.logs import JobFilter, JsonFormatter
from duly.contrib.opentelemetry import instrument
from duly.task import JobRequest

scheduler = Scheduler(
    "memory://", keys=Keys(signing={"1": "secret"}, encryption={"1": b"secret"}, current="1", require=False)
)
Scheduler(keys={"1": "secret"})  # type: ignore[arg-type]
Keys({"1": 5})  # type: ignore[dict-item]


@scheduler.headers
def who(request: JobRequest) -> dict[str, str]:
    return {"task": request.task, "id": request.new.id}


@scheduler.headers  # type: ignore[type-var]
def wrong(request: JobRequest) -> int:
    return 1


@scheduler.task
def work(ctx: Context) -> None:
    assert_type(ctx.job.headers, Mapping[str, str])
    assert_type(ctx.node, str)
    assert_type(ctx.cancel_reason, str | None)


assert_type(who(scheduler.request(work)), dict[str, str])
instrument(scheduler, get_tracer_provider())
formatter, job_filter = JsonFormatter(), JobFilter()
