"""Children for other shards. A job and its children are settled in one step, and a step is atomic within one shard only:
a child for another one therefore travels as a forward, a job of the parent's own shard whose run enqueues the child there.

The child keeps its id, and is enqueued as an id that the user gave: a forward that runs twice adds nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from duly.core import codec
from duly.core.job import NewJob, Options
from duly.core.retry import Retry
from duly.core.shards import Place
from duly.identity import new_job_id
from duly.runtime.handler import Handler
from duly.stores.shards import Shards

TASK = "duly:forward"


class Child(Protocol):
    """A job that a run has asked for."""

    @property
    def queue(self) -> str: ...

    @property
    def new(self) -> NewJob: ...


def beside(place: Place, children: Sequence[Child], shards: Shards) -> tuple[NewJob, ...]:
    """The children of a job in a shard as they are kept with its end: themselves, if they belong there and can be known
    nowhere else; else what brings them to their own."""

    def is_here(child: Child) -> bool:
        belongs = child.queue == place.queue and shards.place_of_job(child.queue, child.new) == place
        return belongs and not shards.former(child.queue, child.new)

    return tuple(child.new if is_here(child) else _forward(child.queue, child.new) for child in children)


def forwards(children: Sequence[Child]) -> tuple[NewJob, ...]:
    """What brings each of them to where it belongs."""
    return tuple(_forward(child.queue, child.new) for child in children)


def _forward(queue: str, child: NewJob) -> NewJob:
    """The job that brings `child` to `queue`."""
    named = msgspec.structs.replace(child, named=True)
    args = msgspec.Raw(msgspec.msgpack.encode((queue, msgspec.msgpack.encode(named))))
    body = codec.encode_packed(
        TASK, args, msgspec.Raw(b"\x80"), None, None
    )  # a little over the limit, if the child is at it
    return NewJob(new_job_id(), body, priority=child.priority)


def forwarder(enqueue: Callable[[str, NewJob], Awaitable[object]]) -> Handler:
    """The handler of forwards, on every node; it never gives up."""

    async def bring(queue: str, child: bytes) -> None:
        await enqueue(queue, msgspec.msgpack.decode(child, type=NewJob))

    return Handler(TASK, bring, Options(name=TASK, retry=Retry(limit=None, delay=1, backoff=2, max_delay=60)))
