"""Many jobs at once: chunks per queue, the next one built while the last one travels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from duly.errors import InvalidOption, PushFailed, PushUncertain, StoreError
from duly.runtime.producer import MAX_BYTES, Producer, bytes_of
from duly.stores.base import MAX_BATCH, Answer
from duly.task import JobRequest


def _chunk(requests: Iterable[JobRequest]) -> tuple[list[JobRequest], Exception | None]:
    """The next requests that may travel together: MAX_BATCH of them, or fewer if they are large, or if one is at fault."""
    chunk: list[JobRequest] = []
    size = 0
    try:
        for request in islice(requests, MAX_BATCH):
            if not isinstance(request, JobRequest):
                raise InvalidOption(f"push_many takes jobs as task.job(…) builds them, not {type(request).__name__}")
            chunk.append(request)
            size += bytes_of(request.new)
            if size > MAX_BYTES:
                break
    except Exception as error:  # a job that cannot be built; those before it are whole
        return chunk, error
    return chunk, None


class _Sent:
    """What became of one chunk; each queue travels in a call of its own."""

    def __init__(self, chunk: Sequence[JobRequest]) -> None:
        self.chunk = chunk
        self.answers: dict[int, Answer] = {}
        self.uncertain: list[str] = []
        self.fault: StoreError | PushUncertain | None = None

    async def send(self, producer_of: Callable[[str], Producer]) -> None:
        """Send it; the first queue that fails ends it, and says so in `fault`."""
        for queue in dict.fromkeys(request.queue for request in self.chunk):
            part = [(i, request.new) for i, request in enumerate(self.chunk) if request.queue == queue]
            try:
                answers = await producer_of(queue).push_batch([new for _, new in part])
            except PushUncertain as error:
                self.fault, self.uncertain = error, [new.id for _, new in part]
                return
            except StoreError as error:
                self.fault = error
                return
            self.answers.update({i: answer for (i, _), answer in zip(part, answers, strict=True)})

    @property
    def accepted(self) -> list[str]:
        """The ids that the store answered, in the chunk's order."""
        return [self.answers[i][1] for i in sorted(self.answers)]

    @property
    def rest(self) -> list[JobRequest]:
        """What was not sent, or was refused."""
        unknown = set(self.uncertain)
        return [r for i, r in enumerate(self.chunk) if i not in self.answers and r.new.id not in unknown]


def _drain(requests: Iterable[JobRequest]) -> list[JobRequest]:
    """All that can still be built."""
    rest: list[JobRequest] = []
    while True:
        chunk, fault = _chunk(requests)
        rest += chunk
        if not chunk and fault is None:
            return rest


async def push_many(producer_of: Callable[[str], Producer], requests: Iterable[JobRequest]) -> list[str]:
    """Push all; see Scheduler.push_many."""
    source = iter(requests)
    accepted: list[str] = []
    chunk, fault = _chunk(source)
    if fault is not None:
        raise fault  # nothing was sent
    while chunk:
        sent = _Sent(chunk)
        sending = asyncio.get_running_loop().create_task(sent.send(producer_of))
        await asyncio.sleep(0)  # let it go out before the next chunk is built
        chunk, fault = _chunk(source)
        await sending
        accepted += sent.accepted
        error = sent.fault or fault
        if error is not None:
            raise PushFailed(accepted, sent.uncertain, [*sent.rest, *chunk, *_drain(source)], error) from error
    return accepted
