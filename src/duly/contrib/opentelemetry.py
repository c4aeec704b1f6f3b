"""Traces and metrics by OpenTelemetry, named as its conventions for messaging name them.

A push makes a span `publish TASK`, whose context travels in the job's headers (W3C trace context); each run of the job makes
a span `process TASK` below it, on whichever node, so that retries are spans of the same trace. The spans of runs are made in
the node, also for those in child processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from duly.clock import SYSTEM_CLOCK
from duly.core.events import Event
from duly.core.outcome import ChildFailed, Discard, Ending, Fail, HandlerSignal, RetryIn, Snooze
from duly.errors import ConfigurationError
from duly.runtime.context import Context, current
from duly.runtime.middleware import Next
from duly.scheduler import Scheduler
from duly.task import JobRequest
from duly.version import __version__

try:
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.context import Context as TraceContext
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
except ModuleNotFoundError as error:
    raise ConfigurationError("traces need opentelemetry-api: pip install 'duly[opentelemetry]'") from error

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300)
"""The bounds of the histogram of run times: those of the conventions, and some for longer jobs."""
CANCELLED = {"timeout": "timed out", "asked": "cancelled", "taken": "taken", "stop": "interrupted"}
SIGNALS = {
    RetryIn: Ending.RETRY_IN.value,
    Snooze: Ending.SNOOZED.value,
    Discard: Ending.DISCARDED.value,
    Fail: Ending.FAILED.value,
}
Attributes = dict[str, Any]


def instrument(
    scheduler: Scheduler, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Trace and measure what this scheduler pushes and runs; once, before it is started (else ConfigurationError).

    By default by the global providers. One that is only the API's stand-in, as no SDK has been set up yet, is not used at
    all, so that nothing is spent on it: set the SDK up first.
    """
    if scheduler._node is not None:
        raise ConfigurationError(
            "instrument() comes before the scheduler is started: a node takes its middleware along"
        )
    if any(isinstance(one, _Tracing | _Measuring) for one in scheduler.middleware):
        raise ConfigurationError("this scheduler is instrumented already: call instrument() once")
    tracers, meters = tracer_provider or trace.get_tracer_provider(), meter_provider or metrics.get_meter_provider()
    if _is_real(meters):
        measuring = _Measuring(meters.get_meter("duly", __version__))
        scheduler.headers(measuring.pushed)
        scheduler.on("job.*", measuring.heard)
        scheduler.on("tick.*", measuring.heard)
        scheduler.middleware.insert(0, measuring)
    if _is_real(tracers):
        tracing = _Tracing(tracers.get_tracer("duly", __version__))
        scheduler.headers(tracing.publish)
        scheduler.middleware.insert(0, tracing)
    if not (_is_real(tracers) or _is_real(meters)):
        scheduler.config.logger.info(
            "OpenTelemetry has no SDK: set one up before instrument(); nothing is traced or measured"
        )


def _is_real(provider: object) -> bool:
    """Whether it does anything: what the API itself brings waits for an SDK, or does nothing."""
    return not type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


class _Tracing:
    """Makes the spans."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def publish(self, request: JobRequest) -> Mapping[str, str]:
        """The headers of a job that is pushed: the context of a span that says so."""
        attributes = {
            **_common("publish", "create", request.task, request.queue, request.new.id),
            "messaging.message.envelope.size": len(request.new.body),
        }
        span = self._tracer.start_span(f"publish {request.task}", _around(), SpanKind.PRODUCER, attributes)
        headers: dict[str, str] = {}
        propagate.inject(headers, trace.set_span_in_context(span))
        span.end()
        return headers

    async def __call__(self, ctx: Context, call_next: Next) -> Any:
        job = ctx.job
        attributes = {
            **_common("process", "process", job.task, job.queue, job.id),
            "messaging.message.envelope.size": len(ctx._run.job.body),
            "messaging.client.id": ctx.node,
            "duly.attempt": ctx.attempt,
            "duly.crashes": ctx.crashes,
            "duly.fence": ctx.fence,
        }
        if job.schedule is not None:
            attributes |= {"duly.schedule": job.schedule, "duly.nominal": job.nominal}
        with self._tracer.start_as_current_span(
            f"process {job.task}", propagate.extract(job.headers, TraceContext()), SpanKind.CONSUMER, attributes,
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                value = await call_next()
            except BaseException as error:
                _describe(span, error, ctx)
                raise
            late = ctx.cancel_reason == "timeout"  # a thread cannot be stopped: what it returns now does not count
            span.set_attribute("duly.outcome", CANCELLED["timeout"] if late else Ending.RETURNED.value)
            if late:
                _fail(span, "TimeoutError", "ran longer than its timeout")
            return value


def _around() -> TraceContext | None:
    """What a push belongs to: the span that is active (None says so); else, in a run, where there is none in a child
    process, the context that the running job came with."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    try:
        return propagate.extract(current().job.headers, TraceContext())
    except LookupError:
        return None


def _common(operation: str, kind: str, task: str, queue: str, id: str) -> Attributes:
    attributes = _of_metric(operation, task, queue)
    return attributes | {"messaging.operation.type": kind, "messaging.message.id": id}


def _ending(error: BaseException, ctx: Context) -> tuple[str, str]:
    """(outcome, the type of the error; "" if it is none) of a run that did not return."""
    if isinstance(error, HandlerSignal):
        outcome = next((outcome for kind, outcome in SIGNALS.items() if isinstance(error, kind)), Ending.RAISED.value)
        return outcome, "" if isinstance(error, Snooze | Discard) else type(error).__name__
    if isinstance(error, ChildFailed):
        ending = error.outcome.ending
        is_fault = ending is not Ending.HANDED_BACK
        return ending.value, (error.outcome.error.partition(":")[0] or ending.value) if is_fault else ""
    if isinstance(error, asyncio.CancelledError):
        reason = ctx.cancel_reason
        kind = {"timeout": "TimeoutError", None: "CancelledError"}.get(reason, "")
        return CANCELLED.get(reason or "", "cancelled"), kind
    return Ending.RAISED.value, type(error).__qualname__


def _describe(span: Span, error: BaseException, ctx: Context) -> None:
    outcome, kind = _ending(error, ctx)
    span.set_attribute("duly.outcome", outcome)
    if not kind:
        return
    if isinstance(error, ChildFailed):  # the exception itself stayed in the child
        texts = {
            "message": error.outcome.error or error.outcome.reason,
            "stacktrace": error.outcome.trace,
            "type": kind,
        }
        span.add_event("exception", {f"exception.{name}": text for name, text in texts.items()})
    elif not isinstance(error, HandlerSignal | asyncio.CancelledError):
        span.record_exception(error)
    _fail(span, kind, str(error))


def _fail(span: Span, kind: str, text: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, text[:500]))


class _Measuring:
    """Makes the metrics; those of runs count what this node runs, those of events what it has decided."""

    def __init__(self, meter: Meter) -> None:
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Jobs pushed by this process.")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}", "Runs begun here.")
        self._duration = meter.create_histogram(
            "messaging.process.duration", "s", "Time of runs.", explicit_bucket_boundaries_advisory=SECONDS
        )
        self._running = meter.create_up_down_counter("duly.running", "{job}", "Runs under way here.")
        self._events = meter.create_counter(
            "duly.jobs", "{job}", "Ends, retries, deaths and the like of jobs, by event."
        )
        self._ticks = meter.create_counter("duly.ticks", "{tick}", "Ticks fired and skipped by this node.")

    def pushed(self, request: JobRequest) -> Mapping[str, str]:
        """Counts; it adds no headers."""
        self._sent.add(1, _of_metric("publish", request.task, request.queue))
        return {}

    async def __call__(self, ctx: Context, call_next: Next) -> Any:
        job = ctx.job
        attributes = _of_metric("process", job.task, job.queue)
        began, kind = SYSTEM_CLOCK.monotonic(), ""
        self._consumed.add(1, attributes)
        self._running.add(1, attributes)
        try:
            return await call_next()
        except BaseException as error:
            kind = _ending(error, ctx)[1]
            raise
        finally:
            self._running.add(-1, attributes)
            seconds = SYSTEM_CLOCK.monotonic() - began
            self._duration.record(seconds, {**attributes, "error.type": kind} if kind else attributes)

    def heard(self, event: Event) -> None:
        """An event of a job or a tick."""
        facts = event.facts
        kind, _, what = event.name.partition(".")
        if kind == "tick":
            attributes = {"duly.event": what, "messaging.destination.name": facts["queue"]}  # of a million schedules
            self._ticks.add(facts.get("count", 1), attributes)
        elif what != "started":
            attributes = {"duly.event": what, "duly.task": facts["task"], "messaging.destination.name": facts["queue"]}
            self._events.add(1, attributes)


def _of_metric(operation: str, task: str, queue: str) -> Attributes:
    return {
        "messaging.system": "duly",
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "duly.task": task,
    }
