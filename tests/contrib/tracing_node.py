"""A worker that writes the spans that it has made: `python -m tests.contrib.tracing_node URL JOBS`; one JSON object a line."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from duly import Context, Retry, Scheduler
from duly.contrib.opentelemetry import instrument


def declare(scheduler: Scheduler) -> dict[str, Any]:
    """The tasks of both processes, by name."""

    @scheduler.task
    async def leaf(number: int) -> None: ...

    @scheduler.task
    def root(ctx: Context, number: int) -> None:
        ctx.push(leaf, number)

    @scheduler.task(retry=Retry(limit=1, delay=0, jitter=0))
    async def flaky(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("not yet")

    return {"leaf": leaf, "root": root, "flaky": flaky}


def recording() -> tuple[TracerProvider, InMemorySpanExporter]:
    """A provider, and what keeps the spans that it has finished."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def plain(span: ReadableSpan) -> dict[str, Any]:
    """A finished span as data."""
    assert span.context is not None
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": f"{span.context.trace_id:032x}",
        "span": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else None,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
        "events": [{"name": event.name, **dict(event.attributes or {})} for event in span.events],
    }


async def main(url: str, jobs: int) -> None:
    """Run so many jobs to their end."""
    provider, exporter = recording()
    scheduler = Scheduler(url)
    declare(scheduler)
    instrument(scheduler, provider)
    ended, left = asyncio.Event(), jobs

    @scheduler.on("job.ended")
    def count(_event: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            ended.set()

    await scheduler.start()
    await asyncio.wait_for(ended.wait(), 40)
    await scheduler.stop()
    for span in exporter.get_finished_spans():
        sys.stdout.write(json.dumps(plain(span)) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
