"""Spans of pushes and runs belong together, in whichever process they are made; metrics count what happened."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context as TraceContext
from opentelemetry.context import attach
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from duly import ConfigurationError, Context, Discard, Fail, Retry, RetryIn, Scheduler, Snooze, every
from duly.contrib.opentelemetry import instrument
from duly.runtime.logs import trace_id
from tests.contrib import handlers
from tests.contrib.tracing_node import declare, plain, recording
from tests.schedulers import running
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
Spans = list[dict[str, Any]]


class Hopeless(Fail):
    """A signal of an application's own."""


@pytest.fixture
def traced() -> tuple[TracerProvider, InMemorySpanExporter]:
    return recording()


@pytest.fixture
def scheduler(traced: tuple[TracerProvider, InMemorySpanExporter]) -> Scheduler:
    scheduler = Scheduler(f"memory://{uuid.uuid4().hex}", children=1, grace=0.5)
    instrument(scheduler, traced[0])
    return scheduler


def named(spans: Spans, name: str) -> Spans:
    return [span for span in spans if span["name"] == name]


def one(spans: Spans, name: str) -> dict[str, Any]:
    (span,) = named(spans, name)
    return span


async def finished(exporter: InMemorySpanExporter, name: str, count: int = 1) -> Spans:
    """All spans, once there are so many of that name."""
    await eventually(lambda: [span.name for span in exporter.get_finished_spans()].count(name) >= count, 30)
    return [plain(span) for span in exporter.get_finished_spans()]


# --- across processes ------------------------------------------------------------------------------------------------


async def run_elsewhere(url: str, jobs: int) -> Spans:
    """The spans of another process that runs what was pushed."""
    command = [sys.executable, "-m", "tests.contrib.tracing_node", url, str(jobs)]
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_a_run_in_another_process_is_a_span_below_that_of_its_push(
    tmp_path: Path, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, exporter = traced
    url = f"sqlite:///{tmp_path}/duly.db"
    tasks = declare(scheduler := Scheduler(url))
    instrument(scheduler, provider)
    async with scheduler:
        with provider.get_tracer("shop").start_as_current_span("checkout") as checkout:
            pushed = await tasks["leaf"].push(1)
            await tasks["root"].push(2)
            await scheduler.push_many([tasks["leaf"].job(3), tasks["leaf"].job(4)])
            await tasks["flaky"].push()
            await asyncio.to_thread(tasks["leaf"].push_sync, 5)
    scheduler.sync.close()
    there = await run_elsewhere(url, 7)
    here = [plain(span) for span in exporter.get_finished_spans()]

    request = f"{checkout.get_span_context().trace_id:032x}"
    assert {span["trace"] for span in here + there} == {request}
    top = f"{checkout.get_span_context().span_id:016x}"
    publishes = {span["span"]: span for span in here + there if span["name"].startswith("publish ")}
    assert {span["parent"] for span in here if span["name"].startswith("publish ")} == {top}
    runs = [span for span in there if span["name"].startswith("process ")]
    assert {span["name"] for span in runs} == {"process leaf", "process root", "process flaky"}
    assert len(named(runs, "process leaf")) == 5
    for run in runs:
        publish = publishes[run["parent"]]
        assert publish["attributes"]["messaging.message.id"] == run["attributes"]["messaging.message.id"]
        assert publish["name"].split()[1] == run["name"].split()[1]
    first = next(span for span in runs if span["attributes"]["messaging.message.id"] == pushed.id)
    assert first["kind"] == "CONSUMER"
    assert publishes[first["parent"]]["kind"] == "PRODUCER"

    child = one(there, "publish leaf")  # by ctx.push, in a thread of the other process
    assert child["parent"] == one(there, "process root")["span"]

    attempts = sorted(named(runs, "process flaky"), key=lambda span: span["attributes"]["duly.attempt"])
    assert [span["attributes"]["duly.attempt"] for span in attempts] == [1, 2]
    assert len({span["parent"] for span in attempts}) == 1
    assert [span["status"] for span in attempts] == ["ERROR", "UNSET"]
    assert attempts[0]["events"][0]["exception.message"] == "not yet"
    assert attempts[0]["attributes"]["error.type"] == "ValueError"


async def test_a_handler_in_a_child_process_is_spanned_by_its_node(
    scheduler: Scheduler, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    task = scheduler.bind("boom", handlers.fail, executor="process", retry=False)
    async with running(scheduler):
        await task.push("no way")
        spans = await finished(traced[1], "process boom")
    span = one(spans, "process boom")
    assert span["parent"] == one(spans, "publish boom")["span"]
    assert (span["status"], span["attributes"]["duly.outcome"]) == ("ERROR", "raised")
    assert "no way" in span["events"][0]["exception.message"]
    assert "handlers.py" in span["events"][0]["exception.stacktrace"]


async def test_where_no_span_is_active_a_child_belongs_to_the_trace_of_its_parent(
    scheduler: Scheduler, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """As in a child process, where the span of the run is not."""

    @scheduler.task
    async def leaf() -> None: ...

    @scheduler.task
    async def root(ctx: Context) -> None:
        attach(TraceContext())
        ctx.push(leaf)

    async with running(scheduler):
        await root.push()
        spans = await finished(traced[1], "process leaf")
    assert len({span["trace"] for span in spans}) == 1
    assert one(spans, "publish leaf")["parent"] == one(spans, "publish root")["span"]


# --- what a span says ------------------------------------------------------------------------------------------------


async def test_a_span_says_what_was_run_and_where(
    scheduler: Scheduler, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    seen: list[Any] = []

    @scheduler.task(queue="mail")
    async def send(ctx: Context) -> None:
        seen.append((ctx.fence, ctx.node, trace.get_current_span().get_span_context().span_id, ctx.job.headers))

    scheduler.configure(queues=["mail"])
    async with running(scheduler):
        job = await send.push()
        spans = await finished(traced[1], "process send")
    ((fence, node, inside, headers),) = seen
    span = one(spans, "process send")
    assert span["span"] == f"{inside:016x}"
    assert headers["traceparent"].startswith(f"00-{span['trace']}-{span['parent']}-")
    expected = {
        "messaging.system": "duly",
        "messaging.destination.name": "mail",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": job.id,
        "messaging.client.id": node,
        "duly.task": "send",
        "duly.attempt": 1,
        "duly.crashes": 0,
        "duly.fence": fence,
        "duly.outcome": "returned",
    }
    assert expected.items() <= span["attributes"].items()


@pytest.mark.parametrize(
    ("signal", "outcome", "status"),
    [
        (Snooze(60), "snoozed", "UNSET"),
        (Discard("old"), "discarded", "UNSET"),
        (RetryIn(60), "retry in", "ERROR"),
        (Fail("never"), "failed", "ERROR"),
        (Hopeless("never"), "failed", "ERROR"),
    ],
)
async def test_an_end_that_the_handler_asked_for_is_named_and_is_an_error_only_if_it_counts_as_one(
    signal: Exception, outcome: str, status: str, scheduler: Scheduler,
    traced: tuple[TracerProvider, InMemorySpanExporter],
) -> None:  # fmt: skip
    @scheduler.task
    async def end() -> None:
        raise signal

    async with running(scheduler):
        await end.push()
        span = one(await finished(traced[1], "process end"), "process end")
    assert (span["attributes"]["duly.outcome"], span["status"]) == (outcome, status)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_run_over_its_timeout_is_an_error(
    is_async: bool, scheduler: Scheduler, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    async def sleep(ctx: Context) -> None:
        await asyncio.Event().wait()

    def wait(ctx: Context) -> None:
        while not ctx.cancelled:
            pass

    task = scheduler.bind("late", sleep if is_async else wait, timeout=0.05, retry=False)
    async with running(scheduler):
        await task.push()
        span = one(await finished(traced[1], "process late"), "process late")
    assert (span["attributes"]["duly.outcome"], span["status"]) == ("timed out", "ERROR")
    assert span["attributes"]["error.type"] == "TimeoutError"


async def test_the_tick_of_a_schedule_begins_a_trace_of_its_own(
    scheduler: Scheduler, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    @scheduler.task
    async def sweep() -> None: ...

    scheduler.schedule(sweep, every(seconds=60, start=0), id="sweeping")
    async with running(scheduler):
        await scheduler.schedules.put("now", every(seconds=60, start="now"), sweep)
        spans = await finished(traced[1], "process sweep")
    span = spans[0]
    assert (span["parent"], span["attributes"]["duly.schedule"]) == (None, "now")


async def test_what_is_logged_in_a_handler_says_the_trace_of_its_span(
    scheduler: Scheduler, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    said: list[str | None] = []

    @scheduler.task
    async def sweep(ctx: Context) -> None:
        said.append(trace_id(ctx))

    async with running(scheduler):  # the tick of a schedule comes without a trace: the run begins one
        await scheduler.schedules.put("now", every(seconds=60, start="now"), sweep)
        span = (await finished(traced[1], "process sweep"))[0]
    assert said == [span["trace"]]


# --- metrics ---------------------------------------------------------------------------------------------------------


async def test_metrics_count_pushes_runs_and_ends() -> None:
    reader = InMemoryMetricReader()
    scheduler = Scheduler(f"memory://{uuid.uuid4().hex}")
    instrument(scheduler, meter_provider=MeterProvider([reader]))

    @scheduler.task(retry=Retry(limit=1, delay=0, jitter=0))
    async def work(ctx: Context, fails: bool) -> None:
        if fails:
            raise KeyError("x")

    ended: list[str] = []
    scheduler.on("job.*", lambda event: ended.append(event.name))
    async with running(scheduler):
        await work.push(False)
        await work.push(True)
        await eventually(lambda: "job.dead" in ended and "job.ended" in ended)
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {
        metric.name: metric.data.data_points
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }

    def count(name: str, **wanted: Any) -> int:
        points = [
            p
            for p in metrics[name]
            if wanted.items() <= {k.rpartition(".")[2]: v for k, v in p.attributes.items()}.items()
        ]
        return sum(getattr(point, "count", None) or getattr(point, "value", 0) for point in points)

    assert count("messaging.client.sent.messages", task="work") == 2
    assert count("messaging.client.consumed.messages", task="work") == 3
    assert count("duly.running") == 0
    assert count("messaging.process.duration", type="KeyError") == 2
    assert count("messaging.process.duration") == 3
    assert [count("duly.jobs", event=event) for event in ("ended", "retried", "dead")] == [1, 1, 1]


# --- when, and when not ----------------------------------------------------------------------------------------------


async def test_without_an_sdk_nothing_is_installed() -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider), "another test has left a provider behind"
    scheduler = Scheduler(f"memory://{uuid.uuid4().hex}")
    instrument(scheduler)
    assert scheduler.middleware == []
    async with scheduler:
        job = await scheduler.push("t", 1, remote=True)
        assert (await scheduler.shard("default").get([job.id]))[0].body.endswith(b"\x92\xa1t\x91\x01")  # type: ignore[union-attr]


async def test_instrumenting_twice_or_too_late_is_refused(
    scheduler: Scheduler, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    with pytest.raises(ConfigurationError, match="already"):
        instrument(scheduler, traced[0])
    other = Scheduler(f"memory://{uuid.uuid4().hex}")
    async with running(other):
        with pytest.raises(ConfigurationError, match="before the scheduler is started"):
            instrument(other, traced[0])


def test_without_the_library_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import duly.contrib.opentelemetry\nexcept ValueError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'duly[opentelemetry]'" in said.stdout
