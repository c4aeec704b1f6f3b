"""Finding a job, a schedule or a queue when people did not say, or misspelled, the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click

from duly.errors import nearest
from duly.scheduler import Scheduler

T = TypeVar("T")
AT_ONCE = 100
"""Queues that are asked together."""


async def known_queues(scheduler: Scheduler, queue: str | None = None) -> Sequence[str]:
    """All queues, or the one asked for. Raises ClickException if nobody has ever used it."""
    known = await scheduler.queues.list()
    if queue is None:
        return known
    if queue not in known:
        raise click.ClickException(f"there is no queue {queue!r} in this namespace; {nearest(queue, known)}")
    return [queue]


async def find(
    scheduler: Scheduler, queue: str | None, what: str, look: Callable[[str], Awaitable[T | None]]
) -> tuple[str, T]:
    """(queue, what `look` found in it). Raises ClickException if no queue has it, or several do."""
    queues = await known_queues(scheduler, queue)
    found: list[tuple[str, T]] = []
    for i in range(0, len(queues), AT_ONCE):
        some = queues[i : i + AT_ONCE]
        answers = await asyncio.gather(*(look(name) for name in some))
        found += [(name, answer) for name, answer in zip(some, answers, strict=True) if answer is not None]
    if not found:
        where = f"queue {queue!r}" if queue is not None else "any queue"
        raise click.ClickException(f"there is no {what} in {where} of this namespace")
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise click.ClickException(f"there is a {what} in several queues ({names}); say which with --queue")
    return found[0]
