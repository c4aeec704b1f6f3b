"""The scheduler for code that is not async: Flask, Django, scripts, threads.

One background thread with an event loop of its own does the work, over a connection of its own; callers wait for it.
So it works from any thread, and also inside a running event loop, which it then holds up for a round trip. The thread
starts at the first call, anew in a forked child, and ends with `close`, or with the interpreter.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from duly.errors import ConfigurationError
from duly.handle import JobHandle
from duly.identity import generation
from duly.locks import DAY, Lock
from duly.runtime.process import loop_factory
from duly.task import JobRequest

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

R = TypeVar("R")
T = TypeVar("T")
EXIT_SECONDS = 5.0
"""How long `close`, and so the end of the interpreter, waits for calls under way."""


class SyncJobHandle(Generic[R]):
    """A JobHandle for code that is not async: the same names, each call waits for its answer."""

    __slots__ = ("_handle", "_sync")

    def __init__(self, sync: Sync, handle: JobHandle[R]) -> None:
        self._sync, self._handle = sync, handle

    def __repr__(self) -> str:
        return repr(self._handle)

    @property
    def id(self) -> str:
        return self._handle.id

    @property
    def queue(self) -> str:
        return self._handle.queue

    @property
    def answer(self) -> str:
        """What the push found: created, pending, leased, dead or ended."""
        return self._handle.answer

    @property
    def created(self) -> bool:
        """Whether this push wrote the job."""
        return self._handle.created

    def status(self) -> str:
        """See JobHandle.status."""
        return self._sync.run(lambda _: self._handle.status())

    def cancel(self) -> str:
        """See Jobs.cancel."""
        return self._sync.run(lambda _: self._handle.cancel())

    def result(self, timeout: float | None = None) -> R:
        """See JobHandle.result."""
        return self._sync.run(lambda _: self._handle.result(timeout))


class SyncLock:
    """A Lock or Semaphore for code that is not async: the same names, each call waits for its answer."""

    __slots__ = ("_lock", "_sync")

    def __init__(self, sync: Sync, lock: Lock) -> None:
        self._sync, self._lock = sync, lock

    @property
    def name(self) -> str:
        return self._lock.name

    @property
    def fence(self) -> int:
        """See Lock.fence."""
        return self._lock.fence

    @property
    def held(self) -> bool:
        """See Lock.held."""
        return self._lock.held

    def acquire(self) -> bool:
        """See Lock.acquire."""
        return self._sync.run(lambda _: self._lock.acquire())

    def release(self) -> bool:
        """See Lock.release."""
        return self._sync.run(lambda _: self._lock.release())

    def __enter__(self) -> SyncLock:
        self._sync.run(lambda _: self._lock.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sync.run(lambda _: self._lock.__aexit__(kind, error, trace))


class Sync:
    """What `scheduler.sync` is. Every call raises what its async namesake raises."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._portal: _Portal | None = None
        self._generation, self._lock = generation(), threading.Lock()
        self.jobs: Any = _Waiting(self, lambda scheduler: scheduler.jobs)
        self.queues: Any = _Waiting(self, lambda scheduler: scheduler.queues)
        self.schedules: Any = _Waiting(self, lambda scheduler: scheduler.schedules)

    def run(self, work: Callable[[Scheduler], Awaitable[T]]) -> T:
        """Await anything on this scheduler, from plain code: `scheduler.sync.run(lambda s: s.jobs.get("receipt:42"))`.

        The scheduler that `work` is given is connected, and belongs to the background thread's event loop.
        """
        if self._generation != generation():  # a forked child has neither the thread nor a sound lock
            self._generation, self._lock, self._portal = generation(), threading.Lock(), None
        with self._lock:
            portal = self._portal
            if portal is None:
                portal = self._portal = _Portal(self._scheduler.sibling())
                atexit.register(self.close)
            waiter = portal.submit(work)
        try:
            return waiter.result()  # type: ignore[no-any-return]
        except BaseException:
            waiter.cancel()  # Ctrl-C, say: nobody waits any more
            raise

    @property
    def is_open(self) -> bool:
        """Whether it holds a connection."""
        return self._portal is not None and self._generation == generation()

    def close(self) -> None:
        """Wait for calls under way, close the connection, end the thread. A later call opens them anew."""
        if not self.is_open:
            return
        with self._lock:
            portal, self._portal = self._portal, None
            atexit.unregister(self.close)
        if portal is not None:
            portal.close()

    def __enter__(self) -> Sync:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def push(self, task: Any, *payload: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
             remote: bool = False, **options: Any) -> SyncJobHandle[Any]:  # fmt: skip
        """See Scheduler.push."""
        request = self._scheduler.request(task, *payload, args=args, kwargs=kwargs, remote=remote, **options)
        return self.push_request(request)

    def push_request(self, request: JobRequest) -> SyncJobHandle[Any]:
        """Push a job that is built already (`task.job(...)`)."""
        return SyncJobHandle(self, self.run(lambda scheduler: scheduler.push_request(request)))

    def push_many(self, requests: Iterable[JobRequest]) -> list[str]:
        """See Scheduler.push_many. `requests` is read by the background thread."""
        return self.run(lambda scheduler: scheduler.push_many(requests))

    def lock(self, name: str, *, ttl: float = 60, timeout: float | None = None) -> SyncLock:
        """See Scheduler.lock: `with scheduler.sync.lock("report") as lock: ...`. A loss is reported: LockLost at the end
        of the block; plain code cannot be cancelled."""
        return self._lock_of(lambda scheduler: scheduler.lock(name, ttl=ttl, timeout=timeout))

    def try_lock(self, name: str, *, ttl: float = DAY) -> SyncLock | None:
        """See Scheduler.try_lock."""
        return self._tried(lambda scheduler: scheduler.try_lock(name, ttl=ttl))

    def semaphore(self, name: str, n: int, *, ttl: float = 60, timeout: float | None = None) -> SyncLock:
        """See Scheduler.semaphore, and `lock`."""
        return self._lock_of(lambda scheduler: scheduler.semaphore(name, n, ttl=ttl, timeout=timeout))

    def try_semaphore(self, name: str, n: int, *, ttl: float = DAY) -> SyncLock | None:
        """See Scheduler.try_semaphore."""
        return self._tried(lambda scheduler: scheduler.try_semaphore(name, n, ttl=ttl))

    def _lock_of(self, make: Callable[[Scheduler], Lock]) -> SyncLock:
        async def work(scheduler: Scheduler) -> Lock:
            return make(scheduler)

        return SyncLock(self, self.run(work))

    def _tried(self, work: Callable[[Scheduler], Awaitable[Lock | None]]) -> SyncLock | None:
        lock = self.run(work)
        return None if lock is None else SyncLock(self, lock)

    def clear(self, *, queue: str | None = None) -> int:
        """See Scheduler.clear."""
        return self.run(lambda scheduler: scheduler.clear(queue=queue))


class _Waiting:
    """An object of which every async method is a plain call, and every async iterator a plain one."""

    def __init__(self, sync: Sync, find: Callable[[Scheduler], Any]) -> None:
        self._sync, self._find = sync, find

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._find(self._sync._scheduler), name)  # an unknown name is an AttributeError here
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            async def work(scheduler: Scheduler) -> Any:
                answer = getattr(self._find(scheduler), name)(*args, **kwargs)
                return answer if isinstance(answer, AsyncIterator) else await answer

            answer = self._sync.run(work)
            return self._each(answer) if isinstance(answer, AsyncIterator) else answer

        return call

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        end = object()

        async def following(_: Scheduler) -> Any:
            return await anext(items, end)

        while (item := self._sync.run(following)) is not end:
            yield item


class _Portal:
    """The background thread, its event loop, and the scheduler that is connected in it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: asyncio.Event | None = None
        self._opening: asyncio.Lock | None = None
        self._calls: set[asyncio.Task[Any] | None] = set()
        self._is_connected = False
        self._thread = threading.Thread(target=self._main, name="duly-sync", daemon=True)
        self._thread.start()
        self._ready.wait()

    def submit(self, work: Callable[[Scheduler], Awaitable[Any]]) -> Any:
        """Have it done; the answer is a concurrent.futures.Future."""
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a plain call inside scheduler.sync.run would wait for itself: await the async one"
            )
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self._do(work), self._loop)

    def close(self) -> None:
        assert self._loop is not None
        assert self._asked is not None
        self._loop.call_soon_threadsafe(self._asked.set)
        self._thread.join(EXIT_SECONDS + 1)

    async def _do(self, work: Callable[[Scheduler], Awaitable[Any]]) -> Any:
        assert self._opening is not None
        call = asyncio.current_task()
        self._calls.add(call)
        try:
            async with self._opening:
                if not self._is_connected:
                    await self._scheduler.connect()
                    self._is_connected = True
            return await work(self._scheduler)
        finally:
            self._calls.discard(call)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked, self._opening = asyncio.Event(), asyncio.Lock()
        self._ready.set()
        await self._asked.wait()
        await asyncio.sleep(0)  # what was submitted before begins before
        calls = [call for call in self._calls if call is not None]
        _, left = await asyncio.wait(calls, timeout=EXIT_SECONDS) if calls else (set(), set())
        for call in left:
            call.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._is_connected:
            await self._scheduler.close()
