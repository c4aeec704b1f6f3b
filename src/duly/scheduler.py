"""The scheduler that applications touch: declares tasks, pushes jobs, and is itself a node when it is started."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, TypeVar

from duly.clock import SYSTEM_CLOCK, Clock
from duly.config import SETTINGS, Config, make_config, resolve_url
from duly.core.job import Options, make_options, push_options
from duly.declaring import Declaring
from duly.errors import ConfigurationError, InvalidOption, NotAccepting
from duly.handle import JobHandle, Jobs, Queues
from duly.identity import generation
from duly.locks import DAY, Lock
from duly.reconciler import Reconciler
from duly.runtime import forward
from duly.runtime.emitter import Emitter
from duly.runtime.loop import insist
from duly.runtime.middleware import Middleware
from duly.runtime.node import Node
from duly.runtime.producer import Producer
from duly.schedules import Schedules
from duly.sending import push_many
from duly.stores import open_store
from duly.stores.base import Limits, Shard, Store
from duly.sync import Sync
from duly.task import Call, JobRequest, arguments, name_of, named
from duly.version import __version__

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
CLEAR_STEP = 500


class _Switches:
    """What `stop_accepting` and `stop_executing` turn; one for a scheduler and its siblings."""

    accepting = executing = True


T = TypeVar("T")


class Scheduler(Declaring):
    """Tasks, pushes and, once started, a node. `url` names the store; settings are those of `duly.config.Config`.

    lifespan: a function that returns an async context manager; what it yields is `ctx.state`.
    middleware: async functions (ctx, call_next) around every handler. clock: for tests.
    """

    node_class = Node
    """What `start` makes; a simulation makes one without threads."""

    def __init__(self, url: str | None = None, *, lifespan: Lifespan | None = None, middleware: Sequence[Middleware] = (),
                 clock: Clock | None = None, **settings: Any) -> None:  # fmt: skip
        self.config: Config = make_config(settings)
        self.lifespan, self.middleware, self.clock = lifespan, list(middleware), clock or SYSTEM_CLOCK
        self._url, self._store_clock = resolve_url(url), clock
        self.store: Store = self._open_store(self._url, self.config)
        self.jobs, self.queues, self.schedules = Jobs(self), Queues(self), Schedules(self)
        super().__init__(Emitter(self.config.logger))
        self._book.builtin[forward.TASK] = forward.forwarder(self.producer)
        self._producers: dict[str, Producer] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users, self._generation = 0, generation()
        self._node: Node | None = None
        self._resources = AsyncExitStack()
        self._switches = _Switches()
        self.sync = Sync(self)

    def configure(self, url: str | None = None, **settings: Any) -> None:
        """Other settings, or another store, while it is not connected (else ConfigurationError); None changes nothing."""
        if self._users or self.sync.is_open:
            raise ConfigurationError("configure() comes before start() and `async with scheduler:`: they have read it")
        given = {name: value for name, value in settings.items() if value is not None}
        config = make_config({name: getattr(self.config, name) for name in SETTINGS} | given)
        if url is not None or given.keys() & {"namespace", "remember", "history"}:  # what a store is opened with
            self.store = self._open_store(url or self._url, config)
        self.config, self._url, self._emitter.logger = config, url or self._url, config.logger

    def _open_store(self, url: str, config: Config) -> Store:
        limits = Limits(remember_ms=int(config.remember * 1000), history=config.history)
        return open_store(url, config.namespace, limits, self._store_clock)

    # connecting

    async def __aenter__(self) -> Scheduler:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Open the store for this event loop: may push now, runs nothing. Calls are counted; each wants its `close`."""
        loop = asyncio.get_running_loop()
        if self._generation != generation():
            self._start_afresh()
        if self._users and self._loop is not loop:
            raise ConfigurationError(
                "this scheduler is connected in another event loop; close it there, or make another one"
            )
        self._loop = loop
        self._users += 1
        try:
            await self.store.connect()
        except BaseException:
            self._users -= 1
            if not self._users:
                await self.store.close()
            raise

    def sibling(self) -> Scheduler:
        """This scheduler for another thread's event loop: the same tasks, settings and switches, unconnected."""
        twin = copy.copy(self)
        twin.store = self.store.sibling()
        twin.jobs, twin.queues, twin.schedules = Jobs(twin), Queues(twin), Schedules(twin)
        twin._emitter, twin._producers, twin._resources = Emitter(self.config.logger), {}, AsyncExitStack()
        twin._loop, twin._users, twin._node = None, 0, None
        return twin

    def _start_afresh(self) -> None:
        """In a forked child: nothing of the parent's connections and node is ours."""
        self._generation, self._users, self._node = generation(), 0, None
        self.store = self.store.sibling()
        self._producers, self._resources = {}, AsyncExitStack()

    async def close(self) -> None:
        """Give back what `connect` took; the last one waits for pushes under way, then closes the store."""
        if self._users > 1:
            self._users -= 1
            return
        self._users = 0
        for producer in self._producers.values():
            await producer.close()
        self._producers.clear()
        await self._emitter.drain()
        await self.store.close()
        self._loop = None

    @property
    def connected_store(self) -> Store:
        """The store. Raises ConfigurationError if the scheduler is not connected."""
        if not self._users:
            raise ConfigurationError("the scheduler is not connected: use `async with scheduler:`, or start it")
        return self.store

    def shard(self, queue: str) -> Shard:
        """The shard of a queue. Raises ConfigurationError if the scheduler is not connected."""
        return self.connected_store.shard(queue)

    def producer(self, queue: str) -> Producer:
        """The way of pushes into a queue."""
        producer = self._producers.get(queue)
        if producer is None:
            shard = self.shard(make_options({"queue": queue}).queue or queue)
            producer = self._producers[queue] = Producer(shard, self.config.push_timeout, self.clock, self.store)
        return producer

    # pushing

    def push(self, task: Any, *payload: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
             remote: bool = False, **options: Any) -> Coroutine[Any, Any, JobHandle[Any]]:  # fmt: skip
        """Push by name (or task): one payload, or `args=` and `kwargs=`; options as keywords. To be awaited.

        Raises UnknownTask if it is not declared here (`remote=True`: another node has it), and what Call.push raises.
        """

        async def push() -> JobHandle[Any]:
            request = self.request(task, *payload, args=args, kwargs=kwargs, remote=remote, **options)
            return await self.push_request(request)

        return named(push(), f"scheduler.push({name_of(task) or task!r})", "scheduler.sync.push")

    def request(self, task: Any, *payload: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
                remote: bool = False, **options: Any) -> JobRequest:  # fmt: skip
        """The job that `push` pushes, built and validated."""
        args, kwargs = arguments(args, kwargs)
        if len(payload) > 1 or (payload and args):
            raise InvalidOption(f"push({task!r}, …) takes one payload; give several arguments as args=[…]")
        name, handler = self.resolve(task, remote=remote)
        declared = handler.options if handler is not None else Options()
        call: Call[..., Any] = Call(self, name, handler, declared, push_options(options))
        return call.job(*(payload or args), **kwargs)

    async def push_request(self, request: JobRequest) -> JobHandle[Any]:
        """Push a job that is built already (`task.job(...)`)."""
        self.require_accepting()
        answer, id = await self.producer(request.queue).push(request.new)
        return JobHandle(self, request.queue, id, answer, request.keeps_result)

    async def push_many(self, requests: Iterable[JobRequest]) -> list[str]:
        """Push many jobs in large calls; returns their ids in order.

        Each call is all or none, the whole is not: raises PushFailed(accepted, uncertain, rest) where it stopped.
        """
        self.require_accepting()
        return await push_many(self.producer, requests)

    def require_accepting(self) -> None:
        if not self._switches.accepting:
            raise NotAccepting("this scheduler is not accepting tasks: start_accepting() lets it again")

    # switches

    @property
    def accepting(self) -> bool:
        return self._switches.accepting

    @property
    def executing(self) -> bool:
        return self._switches.executing

    def stop_accepting(self) -> None:
        """Pushes and puts through this scheduler raise NotAccepting; running goes on."""
        self._switches.accepting = False

    def start_accepting(self) -> None:
        self._switches.accepting = True

    def stop_executing(self) -> None:
        """This node claims no more jobs; what runs goes on, pushes are still accepted."""
        self._switches.executing = False
        if self._node is not None:
            self._node.worker.stop_claiming()

    def start_executing(self) -> None:
        self._switches.executing = True
        if self._node is not None:
            self._node.worker.start_claiming()

    # locks, clearing

    def lock(self, name: str, *, ttl: float = 60, timeout: float | None = None) -> Lock:
        """A lock for `async with`: waits until it is free (at most `timeout` seconds), renews it while the block runs."""
        return Lock(self.connected_store, name, ttl, timeout)

    async def try_lock(self, name: str, *, ttl: float = DAY) -> Lock | None:
        """The lock if it is free, else None. It frees itself after `ttl` seconds (24 h); `release()` frees it before."""
        lock = Lock(self.connected_store, name, ttl)
        return lock if await lock.acquire() else None

    async def clear(self, *, queue: str | None = None) -> int:
        """Remove what was pending or dead when the call was made, and all schedules, of one queue or of all; the number.

        Bounded steps: pushes go on meanwhile, and what they add stays. Running jobs are left alone.
        """
        removed = 0
        known = [queue] if queue is not None else sorted({*await self.queues.list(), *self.config.queues})
        for name in known:
            removed += await self.schedules.clear(queue=name)
            cursor, until = "", None
            while True:
                count, cursor, until = await self.shard(name).clear(cursor, until, CLEAR_STEP)
                removed += count
                if not cursor:
                    break
        return removed

    # running

    async def start(self) -> None:
        """Run jobs in the current event loop until `stop`. Raises StoreError if the store cannot be reached, after
        `start_timeout` seconds of trying."""
        if self._node is not None:
            raise ConfigurationError("this scheduler is started already")
        self._book.require_importable()
        await self._patiently(self.connect)
        try:
            state = await self._resources.enter_async_context(self.lifespan()) if self.lifespan is not None else None
            node = self.node_class(
                self.store, self.config, self._book, self.clock, self._emitter, self.middleware, __version__
            )
            reconciler = Reconciler(self, self._declarations.values())
            node.manifest = await self._patiently(reconciler.begin)
            ttl = int(3 * self.config.lease * 1000)
            await self._patiently(lambda: self.store.beat(node.id, node.record(), ttl, self.config.queues))
            await self._patiently(reconciler.tick)
            node.serve("reconciler", reconciler.tick)
        except BaseException:
            await self._resources.aclose()
            await self.close()
            raise
        self._node = node
        node.start(state)
        if not self._switches.executing:
            node.worker.stop_claiming()
        self.config.logger.info("%s: namespace %s", self.store.url, self.config.namespace)
        self._emitter.emit("online", node=node.id, url=self.store.url)

    def _patiently(self, call: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        return insist(call, self.config.start_timeout, self.clock, self.config.logger)

    async def stop(self, grace: float | None = None, *, leaving: bool = False) -> None:
        """Stop the node gracefully: no more claims, `grace` seconds for what runs, then cancel and hand back.

        leaving: the process ends right after. The scheduler can be started again.
        """
        node, self._node = self._node, None
        if node is None:
            return
        try:
            await node.stop(grace, leaving=leaving)
        finally:
            self._emitter.emit("offline", node=node.id)
            await self._resources.aclose()
            self._resources = AsyncExitStack()
            await self.close()

    def run(
        self, *, max_jobs: int | None = None, max_memory: float | None = None, supervisor: int | None = None
    ) -> None:
        """Be a worker process: run until SIGINT or SIGTERM, then stop gracefully; a second signal ends at once.

        max_jobs, max_memory: stop gracefully, too, once about so many jobs have ended (10 % more or less, so that
        processes do not all stop together), or above so many megabytes; who keeps the process running starts a fresh
        one. Raises InvalidOption. supervisor: a descriptor; see `duly.runtime.process.Link`.
        """
        from duly.runtime.process import Link, run_until_stopped
        from duly.runtime.recycling import Recycling

        recycling = Recycling(max_jobs, max_memory)

        async def start() -> None:
            await self.start()
            assert self._node is not None
            self._node.worker.run_ended = recycling.run_ended

        run_until_stopped(start, self.stop, self.config, recycling, None if supervisor is None else Link(supervisor))
