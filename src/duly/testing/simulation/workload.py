"""What a simulated cluster is given to do: tasks of every kind, and clients that push them and cancel some."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from duly import Context, Discard, Fail, Retry, RetryIn, Snooze, every
from duly.core.trigger import cron
from duly.errors import PushUncertain, ScheduleConflict, StoreError

if TYPE_CHECKING:
    from duly.scheduler import Scheduler
    from duly.task import JobRequest, Task
    from duly.testing.loop import Process
    from duly.testing.simulation.world import Member, World

QUEUES = ("default", "mail")
SCHEDULES = ("beat", "lone", "held", "stamp")
Told = Callable[[Context], AbstractContextManager[None]]
Made = tuple[str, tuple[Any, ...]]
KINDS = ("work",) * 4 + ("long",) * 2 + ("once",) * 3 + ("flaky", "ends", "hangs", "parent")


def declare(scheduler: Scheduler, world: World, member: Member | Client) -> None:
    """Every member of the cluster has the same code. Handlers tell the oracle when they begin and when they return."""

    @contextmanager
    def told(ctx: Context) -> Iterator[None]:
        world.oracle.begin(member.process.name, ctx.job.id, ctx.fence)
        yield
        world.oracle.finish(ctx.job.id, ctx.fence)

    work = _declare_common(scheduler, world, told)
    _declare_special(scheduler, world, told, member, work)


def _declare_common(scheduler: Scheduler, world: World, told: Told) -> Task[..., None]:
    @scheduler.task(name="work", retry=Retry(limit=2, delay=0.5))
    async def work(ctx: Context, seconds: float) -> None:
        with told(ctx):
            await asyncio.sleep(seconds)

    @scheduler.task(name="flaky", retry=Retry(limit=3, delay=0.3, backoff=2))
    async def flaky(ctx: Context, failures: int) -> None:
        with told(ctx):
            if ctx.attempt <= failures:
                raise ValueError(f"attempt {ctx.attempt}")

    @scheduler.task(name="ends", retry=Retry(limit=2, delay=0.5))
    async def ends(ctx: Context, how: str) -> None:
        with told(ctx):
            await asyncio.sleep(0.01)
            if how == "fail":
                raise Fail("said so")
            if how == "discard":
                raise Discard("not needed")
            if how == "retry" and ctx.attempt == 1:
                raise RetryIn(1)
            if how == "snooze" and world.first_time(ctx.job.id):
                raise Snooze(2)

    return work


def _declare_special(
    scheduler: Scheduler, world: World, told: Told, member: Member | Client, work: Task[..., None]
) -> None:
    @scheduler.task(name="hangs", timeout=1.5, retry=Retry(limit=1, delay=0.5))
    async def hangs(ctx: Context) -> None:
        with told(ctx):
            await asyncio.sleep(1_000)

    @scheduler.task(name="once", delivery="at_most_once")
    async def once(ctx: Context, seconds: float) -> None:
        with told(ctx):
            await asyncio.sleep(seconds)

    @scheduler.task(name="poison", retry=Retry(limit=5, delay=0.2))
    async def poison(ctx: Context, seconds: float) -> None:
        with told(ctx):
            await asyncio.sleep(seconds)
            # A neighbour may be buried for the crash of a job that had not crashed before, for nobody can know; not for one
            # of a suspect.
            world.die(cast("Member", member), f"poison {ctx.job.id}" if ctx.crashes >= 2 else "an unknown poison")
            await asyncio.sleep(1_000)

    @scheduler.task(name="parent", retry=Retry(limit=2, delay=0.3))
    async def parent(ctx: Context, children: int, failures: int) -> None:
        with told(ctx):
            for number in range(children):
                ctx.push(work.options(queue=QUEUES[number % 2]), 0.02)
            await asyncio.sleep(0.05)
            if ctx.attempt <= failures:
                raise ValueError("its children are not pushed")

    @scheduler.task(name="tick")
    async def tick(ctx: Context, seconds: float) -> None:
        with told(ctx):
            await asyncio.sleep(seconds)


def any_request(scheduler: Scheduler, world: World) -> JobRequest:
    """A job of some kind, with some options."""
    r = world.random
    task, args = _any_call(r, world.lease)
    options: dict[str, Any] = {"queue": r.choice(QUEUES), "priority": r.choice((0, 1, 1, 1, 2, 3))}
    if r.random() < 0.3:
        options["delay"] = r.choice((0.2, 1, 5, 12))
    if r.random() < 0.3:
        options["id"] = f"{task}:{r.randrange(10**9)}"
    if r.random() < 0.08:
        options["unique"] = f"key:{r.randrange(4)}"
    if r.random() < 0.1:
        options["keep_result"] = True
    request = scheduler.request(task, args=args, **options)
    if task == "once":
        world.at_most_once.add(request.new.id)
    return request


def _any_call(r: random.Random, lease: float) -> Made:
    kind = r.choice(KINDS)
    if kind == "work":
        return "work", (r.choice((0.0, 0.01, 0.1, 1.0)),)
    if kind == "long":
        return "work", (lease * r.choice((0.5, 1.5, 3.0)),)
    if kind == "once":
        return "once", (lease * r.choice((0.0, 0.01, 0.5, 1.5)),)
    if kind == "flaky":
        return "flaky", (r.choice((1, 2, 4)),)
    if kind == "ends":
        return "ends", (r.choice(("fail", "discard", "retry", "snooze")),)
    return ("hangs", ()) if kind == "hangs" else ("parent", (r.randint(1, 4), r.choice((0, 0, 1))))


class Client:
    """Pushes until it is told to stop; holds on to what it does not know the fate of."""

    def __init__(self, scheduler: Scheduler, world: World, process: Process) -> None:
        self.scheduler, self.world, self.process = scheduler, world, process
        declare(scheduler, world, self)
        self.pushed: list[tuple[str, str]] = []

    async def run(self) -> None:
        await patiently(self.scheduler.connect)
        await self.put_schedules()
        r = self.world.random
        while self.world.accepts_work:
            if r.random() < 0.15:
                await self.push_poisoned()
            else:
                burst = [any_request(self.scheduler, self.world) for _ in range(r.choice((1, 1, 2, 6)))]
                await asyncio.gather(*(self.push(request) for request in burst))
            if r.random() < 0.15 and self.pushed:
                queue, id = r.choice(self.pushed)
                await patiently(partial(self.scheduler.jobs.cancel, id, queue=queue))
            if r.random() < 0.1:
                await self.edit()
            await asyncio.sleep(r.expovariate(1 / self.world.pace))
        await self.scheduler.close()

    async def push_poisoned(self) -> None:
        """A job that kills its node, and harmless ones beside it. Few: each costs three processes."""
        world = self.world
        if world.poisons_left:
            world.poisons_left -= 1
            task = self.scheduler.request("poison", args=(world.random.choice((0.0, 0.0, 0.3)),))
            beside = [self.scheduler.request("work", args=(0.5,)) for _ in range(3)]
            await asyncio.gather(*(self.push(request) for request in (task, *beside)))

    async def push(self, request: JobRequest) -> None:
        """Until it is known to be accepted; under a generated id it may not be sent anew once it is uncertain."""
        while self.world.accepts_work:
            try:
                handle = await self.scheduler.push_request(request)
            except PushUncertain:
                if not request.new.named:
                    return
            except StoreError:
                await asyncio.sleep(0.5)
            else:
                self.world.oracle.account(handle.id).accepted = True
                self.pushed.append((request.queue, handle.id))
                return

    async def put_schedules(self) -> None:
        for id in SCHEDULES:
            await self.put(id, 0)

    async def edit(self) -> None:
        """Another trigger, by somebody who has read the schedule before; or the same put again, as a deploy makes it."""
        r = self.world.random
        id = r.choice(SCHEDULES)
        with suppress(StoreError, ScheduleConflict):
            view = await self.scheduler.schedules.get(id)
            await self.put(id, r.randrange(3), revision=view.revision if view is not None else None)

    async def put(self, id: str, variant: int, revision: int | None = None) -> None:
        lease = self.world.lease
        trigger: Any = (cron("*/3 * * * * *"), every(seconds=2.5), every(seconds=lease))[variant]
        overlap = {"lone": "skip", "held": "buffer"}.get(id, "allow")
        task, seconds = ("once", 0.1) if id == "stamp" else ("tick", 0.1 if overlap == "allow" else lease * 0.7)
        await patiently(
            lambda: self.scheduler.schedules.put(
                id,
                trigger,
                task,
                args=(seconds,),
                overlap=overlap,
                catch_up=self.world.catch_up[id],
                placement=self.world.placement[id],
                revision=revision,
            )
        )


async def patiently(call: Callable[[], Any]) -> Any:
    """Until the store answers."""
    while True:
        try:
            return await call()
        except StoreError:
            await asyncio.sleep(0.3)
