"""Cron on exactly one of N machines: each name belongs to a node of the pool, and each of its ticks is claimed before it runs.

The owner claims a tick when it is due, and with it whatever was due since the last claim; a tick that its owner did not claim
for the pool's time-out is claimed by the next node in the order of the ring. A claim is one step where the members meet, so
nodes that know different members for a moment never run a tick twice. A claimed tick runs at most once: what a node had
claimed and not begun when it was killed is lost, unless it keeps a journal, and the process that follows it runs that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any

from duly.cluster.cronjob import CronJob, Tick, takes_argument
from duly.cluster.journal import Journal
from duly.cluster.members import CLAIM_KEPT_MS, MOST_CLAIMS, Claim, Members
from duly.cluster.pool import NodePool
from duly.core.job import duration, text
from duly.core.trigger import Trigger, cron
from duly.errors import DuplicateTask, InvalidOption, StoreError, StoreUncertain, UnknownTask
from duly.runtime.handler import is_async
from duly.runtime.loop import Loop, insist

if TYPE_CHECKING:
    from typing import Self

CATCH_UP = 60.0
GRACE = 30.0
TOGETHER = 50
"""Ticks in one claim. A node that is killed while a claim is on its way loses what it is for, unless it has a journal: one by one
there would be as many such moments as ticks."""
CALLS = 100
"""Claims that are made one after the other; of more ticks than those are for, more travel together."""
MOST_AT_ONCE = 1_000
"""Missed ticks of one name that are made up for at once; the oldest are left out."""
CLOCK_SECONDS = 30.0
"""How often the time is asked for where the members meet."""
AHEAD_MS = 60_000
"""The longest sleep."""
IN_TURN = 6
"""After the next node in the order of the ring, each further one waits this part of the time-out longer."""


class Cron:
    """Functions that run by the clock, each tick on one node of the pool. The same jobs are added on every node.

    timezone: of cron expressions given as text. catch_up: ticks that were missed because no node could claim them run late,
    unless they are older than this (seconds). journal: a file of this process alone, by which the one that follows it on
    its machine runs what it had claimed and not begun when it was killed.
    """

    def __init__(
        self, pool: NodePool, *, timezone: str = "UTC", catch_up: float = CATCH_UP, logger: logging.Logger | None = None,
        threads: int | None = None, journal: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        self.pool, self.timezone, self.logger = pool, timezone, logger or pool.logger
        self._catch_up = int(duration("catch_up", catch_up) * 1000)
        self._jobs: dict[str, CronJob] = {}
        self._journal = Journal(journal) if journal is not None else None
        self._count, self._threads = threads, ThreadPoolExecutor(threads, "duly-cron")
        self._sorted: tuple[Members, list[CronJob], list[CronJob]] | None = None
        self._loop = self._looping()
        self._tasks: list[asyncio.Task[None]] = []
        self._offset, self._asked, self._guarded = 0, float("-inf"), float("-inf")

    # jobs

    async def add_job(self, name: str, trigger: Trigger | str, fn: Callable[..., Any]) -> None:
        """Run a function, async or not (then in a thread), at each moment of a trigger or a cron expression of five or six
        fields. If it takes an argument it is given the `Tick`. Ticks begin now, or where the pool has left off.

        Raises DuplicateTask, InvalidTrigger, InvalidOption; StoreError if the cron has started and its pool cannot be reached.
        """
        if text("name", name) in self._jobs:
            raise DuplicateTask(f"there is a job {name!r} already: remove it first, or give this one another name")
        if isinstance(trigger, str):
            trigger = cron(trigger, timezone=self.timezone)
        if trigger.counts_from_completion:
            raise InvalidOption(f"the trigger of {name!r} counts from the end of its runs: only a Scheduler keeps that")
        job = CronJob(name, trigger, self._runner(fn), self._now())
        self._jobs[name], self._sorted = job, None
        if self._tasks:
            try:
                await self._read_marks([job])
            except StoreError:
                del self._jobs[name]
                self._sorted = None
                raise
            self._loop.wake()

    async def remove_job(self, name: str) -> None:
        """Claim no more of its ticks on this node; what runs goes on. Raises UnknownTask."""
        if self._jobs.pop(name, None) is None:
            raise UnknownTask(f"there is no job {name!r}")
        self._sorted = None

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names that were added here."""
        return tuple(self._jobs)

    def next(self, name: str) -> float | None:
        """When a job is due next, in epoch seconds; None if never. Raises UnknownTask."""
        if name not in self._jobs:
            raise UnknownTask(f"there is no job {name!r}")
        moment = self._jobs[name].trigger.after(self._now(), 0)
        return None if moment is None else moment / 1000

    def _runner(self, fn: Callable[..., Any]) -> Callable[[Tick, int], Awaitable[None]]:
        if not callable(fn):
            raise InvalidOption(f"fn={fn!r}: give a function")
        takes_tick, is_awaited = takes_argument(fn), is_async(fn)

        def begin(tick: Tick, moment: int) -> Any:
            self._note_begin(tick.name, moment)
            return fn(tick) if takes_tick else fn()

        async def run(tick: Tick, moment: int) -> None:
            if is_awaited:
                await begin(tick, moment)
            else:
                await asyncio.get_running_loop().run_in_executor(self._threads, begin, tick, moment)

        return run

    # life

    async def start(self) -> None:
        """Join the pool, and begin. Raises StoreError if the place where its members meet cannot be reached;
        ConfigurationError if the journal cannot be used."""
        if self._journal is not None:
            self._journal.open()
        try:
            await self.pool.start()
        except BaseException:
            self._close_journal()
            raise
        try:
            await self._ask_the_time()
            for job in self._jobs.values():
                job.mark = self._now()
            await self._read_marks(list(self._jobs.values()))
            await self._recover()
        except BaseException:
            await self.pool.stop()
            self._close_journal()
            raise
        self._tasks = [asyncio.create_task(self._loop.run()), asyncio.create_task(self._follow())]

    async def stop(self, grace: float = GRACE) -> None:
        """Claim no more, leave the pool, let what runs end for `grace` seconds, then cancel it (a thread cannot be). Within
        that time it is also asked again for claims whose answers are missing."""
        tasks, self._tasks = self._tasks, []
        until = self.pool.clock.monotonic() + grace
        self._loop.stop()
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop = self._looping()
        if tasks:
            await self._resolve_all(grace)
        await self.pool.stop()
        runs = {run for job in self._jobs.values() for run in job.runs}
        if runs:
            _, late = await asyncio.wait(runs, timeout=max(0.0, until - self.pool.clock.monotonic()))
            for run in late:
                run.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._threads.shutdown(wait=False)
        self._threads = ThreadPoolExecutor(self._count, "duly-cron")
        self._close_journal()

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _note_begin(self, name: str, moment: int) -> None:
        if self._journal is not None:
            try:
                self._journal.begin(name, moment)
            except OSError as error:  # it is this node's all the same
                self.logger.warning("cron job %s: the journal: %s", name, error)

    async def _recover(self) -> None:
        """Run what the process before this one had claimed and not begun."""
        if self._journal is None:
            return
        least, begun = self._now() - CLAIM_KEPT_MS, frozenset(self._journal.begun)
        for member, ticks in list(self._journal.asked):
            open_ticks = [tick for tick in ticks if tick[0] in self._jobs and tick[1] > least and tick not in begun]
            claims = await self.pool.driver.claim(open_ticks, member) if open_ticks else []
            for (name, moment), claim in zip(open_ticks, claims, strict=True):
                if claim is None:
                    continue
                job = self._jobs[name]
                for nominal in self._granted(job, claim, moment):
                    if (name, nominal) not in begun:
                        self.logger.warning("cron job %s: the tick at %.3f is run after a kill", name, nominal / 1000)
                        self._begin(job, nominal)
                job.mark = max(job.mark, moment)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _looping(self) -> Loop:
        return Loop("cron", self._tick, self.logger, self._every)

    @property
    def _every(self) -> float:
        """The longest pause between two looks, in seconds."""
        return self.pool.driver.timeout / 4

    async def _follow(self) -> None:
        async for _ in self.pool.changes():
            self._loop.wake()

    # the time

    def _now(self) -> int:
        """By the clock that the members share, in ms."""
        return self.pool.clock.epoch_us() // 1000 + self._offset

    async def _ask_the_time(self) -> None:
        clock = self.pool.clock
        begun = clock.epoch_us()
        told = await self.pool.driver.now()
        self._offset = told - (begun + clock.epoch_us()) // 2000
        self._asked = clock.monotonic()

    # ticks

    async def _tick(self) -> float:
        """Claim and run what is due; returns the seconds until the next look."""
        present = self.pool.clock.monotonic()
        if not self.pool.members:
            await self._resolve(list(self._jobs.values()))  # what was granted is this node's, in the pool or not
            return self._every
        if present > self._asked + CLOCK_SECONDS:
            await self._ask_the_time()
        mine, others = self._sort()
        await self._take(mine)
        if present >= self._guarded + self._every:
            self._guarded = present
            await self._guard(others)
        now = self._now()
        moments = [job.trigger.after(now, 0) for job in mine]
        following = min((moment for moment in moments if moment is not None), default=now + AHEAD_MS)
        return max(0.0, min(self._every, (following - self._now()) / 1000))

    def _sort(self) -> tuple[list[CronJob], list[CronJob]]:
        """The jobs of this node and those of others, who stay so until members or jobs change: at a tick there is no time to
        ask the ring for each."""
        members = self.pool.members
        if self._sorted is None or self._sorted[0] is not members:
            mine: list[CronJob] = []
            others: list[CronJob] = []
            for job in self._jobs.values():
                (mine if self.pool.owns(job.name) else others).append(job)
            self._sorted = members, mine, others
        return self._sorted[1:]

    async def _guard(self, others: Sequence[CronJob]) -> None:
        """Take the ticks of others that have not taken them in time."""
        await self._resolve(others)
        overdue = [job for job in others if self._is_overdue(job)]
        await self._read_marks(overdue)
        overdue = [job for job in overdue if self._is_overdue(job)]
        if overdue:
            self.logger.warning("cron: %d tick(s) were not taken by their owners in time; taking them", len(overdue))
            await self._take(overdue)

    def _is_overdue(self, job: CronJob) -> bool:
        """Whether a moment has passed for so long that it is this node's turn to take it."""
        ranked = self.pool.ranked(job.name)
        if self.pool.me not in ranked:
            return False
        patience = self.pool.driver.timeout * (1 + (ranked.index(self.pool.me) - 1) / IN_TURN)
        return job.latest(self._now() - int(patience * 1000)) is not None

    async def _read_marks(self, jobs: Sequence[CronJob]) -> None:
        """What was taken meanwhile. Of a name that has a mark, ticks after it are due; of a new one, from now on."""
        marks = await self.pool.driver.marks([job.name for job in jobs])
        for job in jobs:
            job.mark = marks.get(job.name, job.mark)

    async def _take(self, jobs: Sequence[CronJob]) -> None:
        """Claim what is due of these, and let it run."""
        await self._resolve(jobs)
        now = self._now()
        await self._claim([(job, moment) for job in jobs if (moment := job.latest(now)) is not None])

    async def _resolve(self, jobs: Sequence[CronJob]) -> None:
        """Ask again for ticks of which it is not known whether they were granted; before anything later is asked for."""
        least = self._now() - CLAIM_KEPT_MS
        for job in jobs:
            if job.doubt is not None and job.doubt <= least:
                self._give_up(job)
        await self._claim([(job, job.doubt) for job in jobs if job.doubt is not None])

    async def _resolve_all(self, seconds: float) -> None:
        """Ask until it is known, for at most so long: what was granted to this node is nobody's once it has left."""
        jobs = list(self._jobs.values())
        with contextlib.suppress(StoreError):
            await insist(lambda: self._resolve(jobs), seconds, self.pool.clock, self.logger)
        for job in jobs:
            if job.doubt is not None:
                self._give_up(job)

    def _give_up(self, job: CronJob) -> None:
        assert job.doubt is not None
        self.logger.warning("cron job %s: it will not be known who had the tick at %.3f", job.name, job.doubt / 1000)
        job.doubt = None

    async def _claim(self, ticks: Sequence[tuple[CronJob, int]]) -> None:
        """Take ticks, and what was due before them, as far as nobody has, and let them run."""
        size = min(MOST_CLAIMS, max(TOGETHER, -(-len(ticks) // CALLS)))
        for first in range(0, len(ticks), size):
            part = ticks[first : first + size]
            asked = [(job.name, moment) for job, moment in part]
            if self._journal is not None:
                self._journal.forget(lambda moment: moment > self._now() - CLAIM_KEPT_MS)
                self._journal.ask(self.pool.me.id, asked)
            try:
                claims = await self.pool.driver.claim(asked)
            except StoreUncertain:
                for job, moment in part:
                    job.doubt = moment
                raise
            for (job, moment), claim in zip(part, claims, strict=True):
                if claim is not None:
                    for nominal in self._granted(job, claim, moment):
                        self._begin(job, nominal)
                job.doubt, job.mark = None, max(job.mark, moment)
            await asyncio.sleep(0)  # the functions take their first steps before anything else is done here

    def _granted(self, job: CronJob, claim: Claim, moment: int) -> Iterator[int]:
        """The moments that a claim has granted, the oldest left out if there are too many or they are too late."""
        after = job.mark if claim.before is None else claim.before
        least = max(after, self._now() - self._catch_up - 1)
        missed = list(islice(job.trigger.moments(least, moment - 1, 0), MOST_AT_ONCE)) if least < moment - 1 else []
        if claim.before is not None and claim.before < least:
            left = job.trigger.count(claim.before, least, 0, MOST_AT_ONCE)
            if left:
                self.logger.warning("cron job %s: %d tick(s) were missed and are too late to run", job.name, left)
        yield from missed
        yield moment

    def _begin(self, job: CronJob, nominal: int) -> None:
        run = asyncio.create_task(self._run(job, nominal))
        job.runs.add(run)
        run.add_done_callback(job.runs.discard)

    async def _run(self, job: CronJob, nominal: int) -> None:
        try:
            await job.run(Tick(job.name, nominal / 1000), nominal)
        except Exception:
            self.logger.exception("cron job %s: the tick at %.3f failed", job.name, nominal / 1000)
