"""Many jobs at once: chunks per queue, the next one built while the last one travels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

from duly.errors import InvalidOption, PushFailed, PushUncertain, StoreError
from duly.runtime.producer import MAX_BYTES, Producer
from duly.stores.base import MAX_BATCH, Answer
from duly.task import JobRequest


def _chunk(requests: Iterable[JobRequest]) -> list[JobRequest]:
    """The next requests that may travel together: MAX_BATCH of them, or fewer if they are large."""
    chunk: list[JobRequest] = []
    size = 0
    for request in islice(requests, MAX_BATCH):
        if not isinstance(request, JobRequest):
            raise InvalidOption(f"push_many takes jobs as task.job(…) builds them, not {type(request).__name__}")
        chunk.append(request)
        size += len(request.new.body)
        if size > MAX_BYTES:
            break
    return chunk


async def _send(producer_of: Callable[[str], Producer], chunk: list[JobRequest]) -> list[Answer]:
    """One chunk, each queue in a call of its own; answers in the chunk's order."""
    queues = {request.queue for request in chunk}
    if len(queues) == 1:
        return await producer_of(chunk[0].queue).push_batch([request.new for request in chunk])
    answers: dict[int, Answer] = {}
    for queue in queues:
        part = [(i, request) for i, request in enumerate(chunk) if request.queue == queue]
        found = await producer_of(queue).push_batch([request.new for _, request in part])
        answers.update({i: answer for (i, _), answer in zip(part, found, strict=True)})
    return [answers[i] for i in range(len(chunk))]


async def push_many(producer_of: Callable[[str], Producer], requests: Iterable[JobRequest]) -> list[str]:
    """Push all; see Scheduler.push_many."""
    source = iter(requests)
    accepted: list[str] = []
    chunk = _chunk(source)
    while chunk:
        sending = asyncio.get_running_loop().create_task(_send(producer_of, chunk))
        await asyncio.sleep(0)  # let it go out before the next chunk is built
        following: list[JobRequest] = []
        fault: Exception | None = None
        try:
            following = _chunk(source)
        except Exception as error:  # a job that cannot be built: what is under way is still answered
            fault = error
        try:
            accepted += [id for _, id in await sending]
        except PushUncertain as error:
            raise PushFailed(accepted, error.ids, [*following, *source], error) from error
        except StoreError as error:
            raise PushFailed(accepted, (), [*chunk, *following, *source], error) from error
        if fault is not None:
            raise PushFailed(accepted, (), list(source), fault) from fault
        chunk = following
    return accepted
