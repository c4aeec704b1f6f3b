"""The scheduler that applications touch: declares tasks, pushes jobs, and is itself a node when it is started."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, TypeVar

from duly.clock import SYSTEM_CLOCK, Clock
from duly.config import SETTINGS, Config, make_config, resolve_urls
from duly.core.job import NewJob, Options, push_options, queue_name
from duly.declaring import Declaring
from duly.errors import ConfigurationError, InvalidOption, NotAccepting, StaleMap
from duly.handle import JobHandle, Jobs, Queues, clear
from duly.identity import generation
from duly.locks import DAY, Lock, OnLoss, Semaphore
from duly.reconciler import Reconciler
from duly.runtime import forward
from duly.runtime.emitter import Emitter
from duly.runtime.loop import insist
from duly.runtime.middleware import Middleware
from duly.runtime.node import Node
from duly.runtime.pushes import Pushes
from duly.runtime.surveyor import Surveyor
from duly.schedules import Schedules
from duly.sending import push_many
from duly.stores import open_store
from duly.stores.base import Limits, Shard, Store
from duly.stores.sealed import Seal
from duly.stores.sealing import Keys, keys_of_environment
from duly.stores.several import together
from duly.stores.shards import Shards, check_partitions
from duly.sync import Sync
from duly.task import Call, JobRequest, arguments, name_of, named, options_of
from duly.version import __version__

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
STORE_SETTINGS = {"namespace", "remember", "history", "master", "durability"}
"""What a store is opened with."""


class _Switches:
    """What `stop_accepting` and `stop_executing` turn; one for a scheduler and its siblings."""

    accepting = executing = True


T = TypeVar("T")


class Scheduler(Declaring):
    """Tasks, pushes and, once started, a node. `url` names the store, or several servers, over which everything is
    spread (the same list in every process); settings are those of `duly.config.Config`.

    lifespan: a function that returns an async context manager; what it yields is `ctx.state`.
    middleware: async functions (ctx, call_next) around every handler. clock: for tests. keys: see `Keys`.
    """

    node_class = Node
    """What `start` makes; a simulation makes one without threads."""

    def __init__(self, url: str | Sequence[str] | None = None, *, lifespan: Lifespan | None = None,
                 middleware: Sequence[Middleware] = (), clock: Clock | None = None,
                 keys: Keys | None = None, **settings: Any) -> None:  # fmt: skip
        self.config: Config = make_config(settings)
        self.lifespan, self.middleware, self.clock = lifespan, list(middleware), clock or SYSTEM_CLOCK
        self._urls, self._store_clock, self._keys = resolve_urls(url), clock, keys or keys_of_environment()
        self.store: Store = self._open(self._urls, self.config)
        self._partitions: dict[str, int] = {}
        self._look_afresh()
        self.jobs, self.queues, self.schedules = Jobs(self), Queues(self), Schedules(self)
        super().__init__(Emitter(self.config.logger))
        self._book.builtin[forward.TASK] = forward.forwarder(self._bring)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users, self._generation = 0, generation()
        self._node: Node | None = None
        self._resources = AsyncExitStack()
        self._switches = _Switches()
        self.sync = Sync(self)

    def configure(self, url: str | Sequence[str] | None = None, **settings: Any) -> None:
        """Other settings, or another store, while it is not connected (else ConfigurationError); None changes nothing."""
        if self._users or self.sync.is_open:
            raise ConfigurationError("configure() comes before start() and `async with scheduler:`: they have read it")
        given = {name: value for name, value in settings.items() if value is not None}
        config = make_config({name: getattr(self.config, name) for name in SETTINGS} | given)
        urls = self._urls if url is None else resolve_urls(url)
        if urls != self._urls or given.keys() & STORE_SETTINGS:
            self.store = self._open(urls, config)
        self.config, self._urls, self._emitter.logger = config, urls, config.logger

    def _open(self, urls: Sequence[str], config: Config) -> Store:
        return together([self._open_store(url, config) for url in urls], config.master)

    def _open_store(self, url: str, config: Config) -> Store:
        replicas = int(config.durability == "replicated")
        limits = Limits(int(config.remember * 1000), config.history, replicas=replicas)
        return open_store(url, config.namespace, limits, self._store_clock)

    def _look_afresh(self) -> None:
        """Nothing is known of what lies where in the store, and nothing is on its way there."""
        self.shards = Shards(self.store, self._partitions, Seal(self._keys, self.config) if self._keys else None)
        self._pushes = Pushes(self.shards, self.config.push_timeout, self.clock)

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
            if self._users == 1:
                self._look_afresh()
            await self.store.connect()
            await self.shards.refresh()
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
        twin._emitter, twin._resources = Emitter(self.config.logger), AsyncExitStack()
        twin._loop, twin._users, twin._node = None, 0, None
        return twin

    def _start_afresh(self) -> None:
        """In a forked child: nothing of the parent's connections and node is ours."""
        self._generation, self._users, self._node = generation(), 0, None
        self.store = self.store.sibling()
        self._resources = AsyncExitStack()

    async def close(self) -> None:
        """Give back what `connect` took; the last one waits for pushes under way, then closes the store."""
        if self._users > 1:
            self._users -= 1
            return
        self._users = 0
        await self._pushes.close()
        await self._emitter.drain()
        await self.store.close()
        self._loop = None

    @property
    def connected_store(self) -> Store:
        """The store. Raises ConfigurationError if the scheduler is not connected."""
        if not self._users:
            raise ConfigurationError("the scheduler is not connected: use `async with scheduler:`, or start it")
        return self.store

    @property
    def connected_shards(self) -> Shards:
        """The shards. Raises ConfigurationError if the scheduler is not connected."""
        _ = self.connected_store
        return self.shards

    def shard(self, queue: str) -> Shard:
        """A queue, to look at its jobs and schedules. Raises ConfigurationError if the scheduler is not connected."""
        return self.connected_shards.whole(queue_name(queue))

    async def _bring(self, queue: str, child: NewJob) -> None:
        """What a forward does."""
        await self.pushes.enqueue(queue, child)

    @property
    def pushes(self) -> Pushes:
        """The way of jobs into the store. Raises ConfigurationError if the scheduler is not connected."""
        _ = self.connected_store
        return self._pushes

    def queue(self, name: str, *, partitions: int = 1) -> str:
        """Declare a queue that lies in several partitions on each server, each of them a shard; its name. Before it is
        used, in every process alike. Embedded stores keep everything in one place. Raises InvalidOption.

        More partitions later are `duly shards rebalance`.
        """
        check_partitions(queue_name(name), partitions, len(self._urls))
        self._partitions[name] = partitions
        return name

    # pushing

    def push(self, task: Any, *payload: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
             remote: bool = False, **options: Any) -> Coroutine[Any, Any, JobHandle[Any]]:  # fmt: skip
        """Push by name, or a task: one payload, or `args=` and `kwargs=`; options as keywords. To be awaited.

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
        call: Call[..., Any] = Call(self, name, handler, declared, push_options(options, options_of(task)))
        return call.job(*(payload or args), **kwargs)

    async def push_request(self, request: JobRequest) -> JobHandle[Any]:
        """Push a job that is built already (`task.job(...)`)."""
        self.require_accepting()
        request = self.stamped(request) if self._headers else request  # what is off costs nothing
        answer, id = await self.pushes.enqueue(request.queue, request.new)
        return JobHandle(self, request.queue, id, answer, request.keeps_result)

    async def make_known(self, queue: str) -> None:
        """See Shards.ensure."""
        with contextlib.suppress(StaleMap):  # it is known, and the map was read
            await self.connected_shards.ensure(queue)

    async def push_many(self, requests: Iterable[JobRequest]) -> list[str]:
        """Push many jobs in large calls; returns their ids in order.

        Each call is all or none, the whole is not: raises PushFailed(accepted, uncertain, rest) where it stopped.
        """
        self.require_accepting()
        return await push_many(self.pushes, map(self.stamped, requests) if self._headers else requests)

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

    def lock(self, name: str, *, ttl: float = 60, timeout: float | None = None, on_loss: OnLoss = "report") -> Lock:
        """A lock for `async with`: waits in line until it is free (at most `timeout` seconds, then TimeoutError), renews
        it while the block runs.

        If it is lost (`ttl` seconds without a renewal), the block ends with LockLost, once it is over, or by being
        cancelled (`on_loss="cancel"`).
        """
        return Lock(self.connected_store, self.clock, name, ttl, timeout, on_loss)

    async def try_lock(self, name: str, *, ttl: float = DAY) -> Lock | None:
        """The lock if it is free and nobody waits for it, else None. It frees itself after `ttl` seconds (24 h);
        `release()` frees it before. In an `async with` it is renewed while the block runs, and then released.
        """
        lock = Lock(self.connected_store, self.clock, name, ttl)
        return lock if await lock.acquire() else None

    def semaphore(self, name: str, n: int, *, ttl: float = 60, timeout: float | None = None,
                  on_loss: OnLoss = "report") -> Semaphore:  # fmt: skip
        """As `lock`, with at most `n` holders at the same time. Each try is judged by the n that it gives: while two
        numbers are in use (a deploy), the one with the larger may hold what the other would not. A lock of the same name
        is the same thing with n = 1.
        """
        return Semaphore(self.connected_store, self.clock, name, ttl, timeout, on_loss, n)

    async def try_semaphore(self, name: str, n: int, *, ttl: float = DAY) -> Semaphore | None:
        """As `try_lock`, with at most `n` holders at the same time."""
        semaphore = Semaphore(self.connected_store, self.clock, name, ttl, places=n)
        return semaphore if await semaphore.acquire() else None

    async def clear(self, *, queue: str | None = None) -> int:
        """Remove what was pending or dead when the call was made, and all schedules, of one queue or of all; the number.

        Bounded steps: pushes go on meanwhile, and what they add stays. Running jobs are left alone.
        """
        removed = 0
        known = [queue] if queue is not None else sorted({*await self.queues.list(), *self.config.queues})
        for name in known:
            removed += await self.schedules.clear(queue=name)
            removed += await clear(self.shard(name))
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
            for queue in self.config.queues:
                await self._patiently(functools.partial(self.make_known, queue))
            state = await self._resources.enter_async_context(self.lifespan()) if self.lifespan is not None else None
            node = self.node_class(
                self.shards, self.config, self._book, self.clock, self._emitter, self.middleware, __version__
            )
            reconciler = Reconciler(self, self._declarations.values())
            node.manifest = await self._patiently(reconciler.begin)
            ttl = int(3 * self.config.lease * 1000)
            await self._patiently(lambda: self.store.beat(node.id, node.record(), ttl, self.config.queues))
            await self._patiently(reconciler.tick)
            node.serve("reconciler", reconciler.tick)
            node.serve("surveyor", Surveyor(node, self.shards, self.config).tick)
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
