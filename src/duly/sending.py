"""Many jobs at once: chunks per shard, the next one built while the last one travels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice

from duly.core.job import NewJob
from duly.errors import ConfigurationError, InvalidOption, PushFailed, PushUncertain, StaleMap, StoreError
from duly.runtime.producer import MAX_BYTES, Producer, bytes_of
from duly.runtime.pushes import Pushes
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
    """What became of one chunk; what goes to one shard travels in a call of its own."""

    def __init__(self, chunk: Sequence[JobRequest]) -> None:
        self.chunk = chunk
        self.answers: dict[int, Answer] = {}
        self.uncertain: list[str] = []
        self.fault: StoreError | PushUncertain | ConfigurationError | None = None

    async def send(self, pushes: Pushes) -> None:
        """Send it, to all its shards side by side; a fault of one of them is said in `fault`."""
        left: list[int] = list(range(len(self.chunk)))
        until = pushes.patience
        while left:
            parts = await self._part(pushes, left, until)
            left = []
            if len(parts) == 1:  # at once, without tasks of its own
                left = await self._send_part(*parts.popitem())
            elif parts:
                moved = await asyncio.gather(*(self._send_part(producer, part) for producer, part in parts.items()))
                left = [i for part in moved for i in part]

    async def _part(self, pushes: Pushes, left: Sequence[int], until: float) -> dict[Producer, list[int]]:
        """Which of them travel together; those of which something may be known elsewhere have been sent one by one."""
        parts: dict[Producer, list[int]] = {}
        whole: dict[str, list[int] | None] = {}  # queues that lie in one place
        for i in left:
            request = self.chunk[i]
            if request.queue not in whole:
                only = pushes.only(request.queue)
                whole[request.queue] = parts.setdefault(only, []) if only is not None else None
            part = whole[request.queue]
            if part is not None:
                part.append(i)
            elif pushes.is_known_before(request.queue, request.new):
                await self._send_one(pushes, i, until)
            else:
                parts.setdefault(pushes.producer(request.queue, request.new), []).append(i)
        return parts

    async def _send_part(self, producer: Producer, part: list[int]) -> list[int]:
        """One call; what belongs elsewhere by now, and has to be sent again."""
        jobs = [self.chunk[i].new for i in part]
        try:
            self.answers.update(zip(part, await producer.push_batch(jobs), strict=True))
        except StaleMap:
            return part
        except (PushUncertain, StoreError, ConfigurationError) as error:
            self._failed(error, jobs)
        return []

    async def _send_one(self, pushes: Pushes, i: int, until: float) -> None:
        request = self.chunk[i]
        try:
            self.answers[i] = await pushes.enqueue(request.queue, request.new, until)
        except (PushUncertain, StoreError, ConfigurationError) as error:
            self._failed(error, [request.new])

    def _failed(self, error: PushUncertain | StoreError | ConfigurationError, jobs: list[NewJob]) -> None:
        if isinstance(error, PushUncertain):
            self.fault = error
            self.uncertain += [new.id for new in jobs]
        else:
            self.fault = self.fault or error

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


async def push_many(pushes: Pushes, requests: Iterable[JobRequest]) -> list[str]:
    """Push all; see Scheduler.push_many."""
    source = iter(requests)
    accepted: list[str] = []
    chunk, fault = _chunk(source)
    if fault is not None:
        raise fault  # nothing was sent
    while chunk:
        sent = _Sent(chunk)
        sending = asyncio.get_running_loop().create_task(sent.send(pushes))
        for _ in range(2):
            await asyncio.sleep(0)  # let it go out, to all shards, before the next chunk is built
        chunk, fault = _chunk(source)
        await sending
        accepted += sent.accepted
        error = sent.fault or fault
        if error is not None:
            raise PushFailed(accepted, sent.uncertain, [*sent.rest, *chunk, *_drain(source)], error) from error
    return accepted
