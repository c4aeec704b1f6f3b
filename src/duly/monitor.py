"""What people look at, gathered from the store: for the command line, the HTTP API and the pages alike.

Every call is bounded, however much there is: a listing looks at LOOKED entries at most, and says where to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import msgspec

from duly.checks import examine
from duly.core import codec
from duly.core.audit import Entry, Tick, ticks
from duly.core.measures import KEEP_MINUTES
from duly.core.schedule import Definition
from duly.core.trigger import Trigger
from duly.errors import FormatError, InvalidOption
from duly.stores.base import Registry, ScheduleRecord
from duly.stores.capabilities import Finding, ListsLocks, LockRecord, Measured
from duly.views import queues as queue_views
from duly.views import schedules as schedule_views
from duly.views.cursors import read_cursor, reading, write_cursor
from duly.views.dead import DeadGroups, groups
from duly.views.happenings import Happening, happenings, of_job
from duly.views.jobs import JobView, result_view
from duly.views.listings import (
    JobDetail,
    JobPage,
    Lane,
    Lanes,
    Overview,
    ScheduleDetail,
    SchedulePage,
    TickLog,
)
from duly.views.locks import LockPage
from duly.views.locks import view as lock_view
from duly.views.measures import Measures, measures
from duly.views.nodes import NodeView, node_views, nodes_of
from duly.views.queues import QueueView
from duly.views.redaction import redacted
from duly.views.schedules import ScheduleView, definition_of
from duly.views.why import sentence

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

LOOKED = 1_000
"""Entries that one call of a filtered listing looks at."""
STEP = 200
MOST_TICKS = 5_000
"""Of one schedule, in one answer."""
EXAMINED = 1_000
AT_ONCE = 100
"""Queues that are asked together."""
HISTORY = 1_000
"""Entries of a stream that one call reads."""
MOST_LOG_PAGES = 12
MOST_SCANS = 20
"""Steps in which locks are looked for among all keys."""
HOUR = 3600.0
State = Literal["leased", "pending", "dead"]
STATES: tuple[State, ...] = get_args(State)
Item = TypeVar("Item")
View = TypeVar("View")


class Monitor:
    """Looks at the store of a connected scheduler. Raises StoreError."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    async def overview(self) -> Overview:
        """Totals, and every queue."""
        scheduler = self.scheduler
        registry = await scheduler.connected_store.registry()
        nodes = nodes_of(registry)
        queues = await self._queues(registry)
        return Overview(
            scheduler.store.url, scheduler.config.namespace, registry.now / 1000,
            sum(queue.pending for queue in queues), sum(queue.leased for queue in queues),
            sum(queue.dead for queue in queues), sum(queue.schedules for queue in queues), queues,
            len(nodes), sum(node.concurrency for node in nodes), sum(node.running for node in nodes),
        )  # fmt: skip

    async def now(self) -> float:
        """The store's clock, in epoch seconds."""
        return (await self.scheduler.connected_store.registry()).now / 1000

    async def _walk(self, queue: str | None, look: Callable[[str, str, int], Awaitable[tuple[Sequence[Item], str]]],
                    pick: Callable[[str, Sequence[Item]], list[View]], limit: int, cursor: str, *,
                    is_filtered: bool) -> tuple[list[View], str, int]:  # fmt: skip
        """A page of one queue, or of all, queue by queue: (what was picked, the cursor to go on at, entries looked at).

        look: (queue, the store's cursor there, entries at most) → (a page, the next cursor). pick: (queue, that page) →
        what of it is wanted.
        """
        names = [queue] if queue else sorted(await self.scheduler.queues.list())
        name, inner = read_cursor(cursor, names)
        found: list[View] = []
        looked = 0
        while name is not None and looked < LOOKED and len(found) < limit:
            size = min(STEP, LOOKED - looked) if is_filtered else limit - len(found)
            with reading(inner):
                page, inner = await look(name, inner, size)
            looked += len(page)
            found += pick(name, page)
            if not inner:
                name = next((other for other in names if other > name), None)
        return found, write_cursor(name, inner), looked

    # queues and nodes

    async def queues(self) -> list[QueueView]:
        """Every queue that was ever pushed to or served, by name."""
        return await self._queues(await self.scheduler.connected_store.registry())

    async def _queues(self, registry: Registry) -> list[QueueView]:
        nodes, names, found = nodes_of(registry), sorted(registry.queues), []
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            sizes = await asyncio.gather(*(self.scheduler.queues.sizes(name) for name in some))
            found += [queue_views.view(name, size, nodes) for name, size in zip(some, sizes, strict=True)]
        return found

    async def nodes(self) -> list[NodeView]:
        """Every live node, with its parts of the rings."""
        return node_views(await self.scheduler.connected_store.registry())

    async def findings(self) -> list[Finding]:
        """What `duly doctor` says; of each queue, EXAMINED entries are looked at."""
        return await examine(self.scheduler, EXAMINED)

    # jobs

    async def jobs(self, state: State, *, queue: str | None = None, task: str = "", text: str = "", limit: int = 50,
                   cursor: str = "") -> JobPage:  # fmt: skip
        """A page of the jobs of one state, of one queue or of all, queue by queue, in each by priority and time.

        task: only those of this task. text: only those that have it in their id or arguments (as JSON, redacted). A page
        of a filtered listing may be short, or empty, and have a next one: LOOKED entries were looked at.
        """
        _check_state(state)

        async def look(name: str, inner: str, size: int) -> tuple[Sequence[JobView], str]:
            return await self.scheduler.jobs.list(state, queue=name, limit=size, cursor=inner)

        def pick(_: str, page: Sequence[JobView]) -> list[JobView]:
            return [shown(job) for job in page if _matches(job, task, text)]

        return JobPage(*await self._walk(queue, look, pick, limit, cursor, is_filtered=bool(task or text)))

    async def find_job(self, id: str, queue: str | None = None) -> list[JobView]:
        """The job of this id, of each queue that knows one."""
        names = [queue] if queue else sorted(await self.scheduler.queues.list())
        found: list[JobView] = []
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            answers = await asyncio.gather(*(self.scheduler.jobs.get(id, queue=name) for name in some))
            found += [shown(job) for job in answers if job is not None]
        return found

    async def job(self, id: str, queue: str) -> JobDetail | None:
        """Everything about one job; None if the store knows nothing of it."""
        job = await self.scheduler.jobs.get(id, queue=queue)
        if job is None:
            return None
        now = await self.now()
        past = await self._past_of(id, queue, since=max(job.enqueued_at - 1, now - HOUR))
        reasons = await self.scheduler.jobs.reasons(id, queue=queue)
        result = result_view(await self.scheduler.shard(queue).result(id))
        return JobDetail(shown(job), past, sentence(reasons), now, reasons, result)

    async def _past_of(self, id: str, queue: str, *, since: float) -> list[Happening]:
        """What the history still has of a job since then, as far as MOST_LOG_PAGES of it reach."""
        cursor, found = f"{max(0, round(since * 1000))}-0", []
        for _ in range(MOST_LOG_PAGES):
            page = await self.scheduler.shard(queue).history("history", cursor, HISTORY)
            found += of_job(happenings(page.items), id)
            if len(page.items) < HISTORY:
                break
            cursor = page.cursor
        return found

    async def history(self, queue: str, *, since: float) -> list[Happening]:
        """What happened in a queue since then (epoch seconds), oldest first; at most HISTORY entries of it."""
        page = await self.scheduler.shard(queue).history("history", f"{max(0, round(since * 1000))}-0", HISTORY)
        return happenings(page.items)

    async def dead_groups(self, queue: str | None = None) -> DeadGroups:
        """What jobs died of, of one queue or of all; LOOKED dead jobs are looked at."""
        found: list[JobView] = []
        cursor = ""
        while len(found) < LOOKED:
            page = await self.jobs("dead", queue=queue, limit=STEP, cursor=cursor)
            found += page.jobs
            if not (cursor := page.cursor):
                break
        queues = [await self.scheduler.queues.sizes(queue)] if queue else await self.queues()
        return DeadGroups(groups(found), sum(one.dead for one in queues), len(found))

    # measures and locks

    async def measures(self, hours: float = 1.0, *, queue: str = "", task: str = "") -> Measures:
        """What was counted of runs in the last hours, of all, of one queue or of one task; at most as far as it is kept."""
        last = int(await self.now() // 60)
        first = last - max(1, min(round(hours * 60), KEEP_MINUTES)) + 1
        store = self.scheduler.connected_store
        if not isinstance(store, Measured):
            return msgspec.structs.replace(measures({}, first, last), is_kept=False)
        return measures(await store.measured(first, last), first, last, queue, task)

    async def locks(self, limit: int = 50, cursor: str = "") -> LockPage:
        """A page of the locks that are held, in no order; it may be short, or empty, and have a next one."""
        store = self.scheduler.connected_store
        if not isinstance(store, ListsLocks):
            return LockPage([], "", await self.now(), is_known=False)
        found: list[LockRecord] = []
        for _ in range(MOST_SCANS):
            with reading(cursor):
                page = await store.locks(cursor, limit if found else max(limit, LOOKED))
            found, cursor = [*found, *page.items], page.cursor
            if not cursor or len(found) >= limit:
                break
        return LockPage([lock_view(record) for record in found], cursor, await self.now())

    # schedules

    async def schedules(self, *, queue: str | None = None, task: str = "", text: str = "", limit: int = 50,
                        cursor: str = "") -> SchedulePage:  # fmt: skip
        """A page of schedules, queue by queue, in no particular order; text: only those that have it in their id. Those that
        a newer duly has defined are left out. As with `jobs`, a page of a filtered listing may be short."""

        async def look(name: str, inner: str, size: int) -> tuple[Sequence[ScheduleRecord], str]:
            page = await self.scheduler.shard(name).schedules(None, inner, size)
            return page.items, page.cursor

        def pick(name: str, page: Sequence[ScheduleRecord]) -> list[ScheduleView]:
            readable = _readable(page, name)
            return [one for one in readable if (not task or one.task == task) and text.lower() in one.id.lower()]

        return SchedulePage(*await self._walk(queue, look, pick, limit, cursor, is_filtered=bool(task or text)))

    async def schedule(self, id: str, queue: str, *, hours: float = 24.0, coming: int = 10) -> ScheduleDetail | None:
        """Everything about one schedule: its moments of the last hours as far as the tick log goes, and the next ones."""
        record = (await self.scheduler.shard(queue).schedules([id], "", 1)).items[0]
        if record is None:
            return None
        definition, now = definition_of(record), await self.now()
        log = await self._tick_log(queue, now - hours * HOUR, now)
        found, since = _ticks_of(record, definition, log, now, hours, coming)
        policies = {
            name: getattr(definition, name)
            for name in ("priority", "catch_up", "window", "overlap", "times", "jitter", "pause_after", "placement")
        }
        return ScheduleDetail(
            schedule_views.view(record, queue), redacted(codec.unpack(definition.args)),
            redacted(codec.unpack(definition.kwargs)), policies, found, since, now,
        )  # fmt: skip

    async def lanes(
        self, queue: str, *, hours: float = 3.0, coming: int = 5, limit: int = 20, cursor: str = ""
    ) -> Lanes:
        """A page of a queue's schedules with their moments of the last hours, and the next ones."""
        now = await self.now()
        with reading(cursor):
            page = await self.scheduler.shard(queue).schedules(None, cursor, limit)
        log = await self._tick_log(queue, now - hours * HOUR, now)
        found = []
        for record in page.items:
            with contextlib.suppress(FormatError):
                shown_ticks, _ = _ticks_of(record, definition_of(record), log, now, hours, coming)
                found.append(Lane(schedule_views.view(record, queue), shown_ticks))
        return Lanes(found, page.cursor, max(now - hours * HOUR, log.first / 1000), now)

    async def _tick_log(self, queue: str, since: float, now: float) -> TickLog:
        """What the log of a queue's ticks still has since then (epoch seconds): the last MOST_LOG_PAGES of it. All that the
        stream holds is read, for which its bound is the setting `history`."""
        cursor, pages = f"{max(0, round(since * 1000))}-0", deque[Sequence[Any]](maxlen=MOST_LOG_PAGES)
        while True:
            page = await self.scheduler.shard(queue).history("ticks", cursor, HISTORY)
            pages.append(page.items)
            if len(page.items) < HISTORY:
                break
            cursor = page.cursor
        first, entries = 0, defaultdict[str, list[Entry]](list)
        for entry, fields in itertools.chain.from_iterable(pages):
            at = int(entry.partition("-")[0])
            first = first or at
            entries[fields["schedule"]].append((at, fields))
        return TickLog(entries, first or round(now * 1000))

    async def preview(self, trigger: Trigger, n: int = 10) -> list[float]:
        """The next moments of a trigger that no schedule has yet, from the store's now; epoch seconds."""
        now = round(await self.now() * 1000)
        return [moment / 1000 for moment in _some(trigger, now, n)]


def _ticks_of(
    record: ScheduleRecord, definition: Definition, log: TickLog, now: float, hours: float, coming: int
) -> tuple[list[Tick], float]:
    """(the moments, since when they are known); the latest, if there are very many."""
    own = log.entries.get(record.id, ())
    since = max(log.first, round((now - hours * HOUR) * 1000), record.anchor)
    found = ticks(definition, record.anchor, record.mark, own, since, round(now * 1000), coming)
    if record.paused is not None:  # it owes nothing; its pause may lie before what was read
        found = [tick for tick in found if tick.state != "overdue"]
    return found[-MOST_TICKS:], max(since / 1000, found[-MOST_TICKS].moment if len(found) > MOST_TICKS else 0)


def _some(trigger: Trigger, now: int, n: int) -> list[int]:
    found: list[int] = []
    moment = trigger.after(now, now)
    while moment is not None and len(found) < n:
        found.append(moment)
        moment = trigger.after(moment, now)
    return found


def shown(job: JobView) -> JobView:
    """The job with its arguments redacted."""
    return msgspec.structs.replace(job, args=redacted(job.args), kwargs=redacted(job.kwargs))


def _check_state(state: str) -> None:
    if state not in STATES:
        raise InvalidOption(f"state={state!r}: give one of {', '.join(STATES)}")


def _matches(job: JobView, task: str, text: str) -> bool:
    if task and job.task != task:
        return False
    return not text or text.lower() in job.id.lower() or text.lower() in _as_text(job).lower()


def _as_text(job: JobView) -> str:
    return json.dumps([redacted(job.args), redacted(job.kwargs)], ensure_ascii=False)


def _readable(records: Sequence[ScheduleRecord], queue: str) -> list[ScheduleView]:
    found = []
    for record in records:
        try:
            found.append(schedule_views.view(record, queue))
        except FormatError:
            continue
    return found
