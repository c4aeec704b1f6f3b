"""All that one shard keeps, and the steps that several verbs share. Nothing here locks or waits: the verbs do.

The rooms have the names of DESIGN section 5. `jobs` holds every job that is pending, leased or dead, and the line in
which its id stands says when; where an id may go from where is read from `lifecycle.TRANSITIONS`, so a change that the
table does not know raises KeyError instead of being made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from duly.core.job import PRIORITIES, Hold, Holder, NewJob, due_after
from duly.core.lifecycle import TRANSITIONS, State
from duly.stores.memory.line import Line
from duly.stores.memory.stream import Stream
from duly.stores.memory.wake import Calls, Wake

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duly.stores.base import Answer, ScheduleRecord, Settled

FORGET_STEP = 1_000
"""How many ids whose time is over are forgotten by one call."""
FORGET_AFTER_MS = 3_600_000
HISTORY_IDS = 16
"""How many ids an entry of the history names."""


class Job(msgspec.Struct):
    """One kept job. fence, node and started mean something while it is leased."""

    id: str
    body: bytes
    enqueued_at: int
    priority: int
    named: bool
    unique: str | None
    state: State = "new"
    attempts: int = 0
    crashes: int = 0
    unfit_since: int = 0
    fence: int = 0
    node: str = ""
    started: bool = False
    cancel_asked: bool = False
    reason: str = ""
    error: str = ""
    trace: str = ""
    progress: bytes | None = None

    def move(self, verb: str) -> None:
        """Change the state as the table says that `verb` changes it."""
        self.state = TRANSITIONS[self.state, verb]


class Held(NamedTuple):
    """Who holds a unique key. Whether it is still held is found out when somebody asks."""

    id: str
    scope: Literal["end", "start", "time"]
    until: int


class Sent(NamedTuple):
    """The last enqueue call of a client."""

    n: int
    at: int
    answers: list[Answer]


class Taken(NamedTuple):
    """The last batch that a node claimed: (id, who held it before); and when those that nobody held were due."""

    n: int
    at: int
    fence: int
    jobs: list[tuple[str, Holder | None]]
    due: dict[str, int]


class Written(NamedTuple):
    """The last settle call of a node: an answer per settlement."""

    n: int
    at: int
    answers: list[Settled]


class ShardState:
    """The rooms of one shard."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.pending = tuple(Line() for _ in range(PRIORITIES))
        self.leased = Line()
        self.dead = Line()
        self.ended = Line()  # user-given ids -> remembered until
        self.unique: dict[str, Held] = {}
        self.free_at = Line()  # unique keys held for a time -> free again
        self.clients: dict[str, Sent] = {}
        self.claims: dict[str, Taken] = {}
        self.settles: dict[str, Written] = {}
        self.results: dict[str, bytes] = {}
        self.results_until = Line()
        self.kept = Calls()
        self.schedules: dict[str, ScheduleRecord] = {}
        self.looks = Line()
        self.fence = 0
        self.turn = 0  # fresh claims, for the reversed one of every eight
        self.seen = 0
        self.hold = 0
        self.held_at = 0
        self.timer: tuple[str, int] | None = None  # (node, moment): who sleeps until exactly then
        self.paused = False
        self.paused_since = 0
        self.limit: int | None = None
        self.history = Stream()
        self.ticks = Stream()
        self.wake = Wake()

    # --- enqueue: the one way in which jobs come to be kept, for pushes, children and ticks --------------------------

    def keep(self, now_us: int, jobs: tuple[NewJob, ...] | list[NewJob]) -> tuple[list[Answer], int]:
        """Enqueue in order: (the answers, how many were written). Leaves a token if a sleeper has to know."""
        now, before = now_us // 1000, self.earliest_due()
        answers: list[Answer] = []
        written: list[int] = []
        for job in jobs:
            state, id, due = self._keep_one(now_us, job)
            answers.append((state, id))
            if due is not None:
                written.append(due)
        if written and (min(written) <= now or before is None or min(written) < before):
            self.wake.leave_token()
        return answers, len(written)

    def _keep_one(self, now_us: int, new: NewJob) -> tuple[str, str, int | None]:
        """(state, id, due time if it was written)."""
        now = now_us // 1000
        known = self.jobs.get(new.id)
        if known is not None and not (new.replace and known.state == "pending"):
            return known.state, known.id, None
        if known is None and new.named and self.is_remembered(new.id, now):
            return "ended", new.id, None
        if new.unique is not None:
            holder = self.holder(new.unique.key, now)
            if holder is not None and holder[1] != new.id:
                return *holder, None
        due = new.due if new.due is not None else due_after(now_us, new.delay)
        if known is not None:
            self._replace(now, known, new, due)
            return "pending", new.id, due
        job = Job(new.id, new.body, now, new.priority, new.named, new.unique.key if new.unique else None)
        job.move("enqueue")
        self.jobs[job.id] = job
        self.pending[job.priority].put(job.id, due)
        if new.named:
            self.ended.discard(job.id)
        self.hold_key(new.unique, job.id, now)
        return "created", job.id, due

    def _replace(self, now: int, job: Job, new: NewJob, due: int) -> None:
        """Attempts, crashes and the last error stay: they are the id's."""
        job.move("enqueue replace")
        key = new.unique.key if new.unique else None
        if job.unique is not None and job.unique != key:
            self.release_key(job.unique, job.id)
        self.pending[job.priority].discard(job.id)
        job.body, job.enqueued_at, job.priority, job.unique = new.body, now, new.priority, key
        job.named = job.named or new.named
        self.pending[job.priority].put(job.id, due)
        self.hold_key(new.unique, job.id, now)

    # --- unique keys -------------------------------------------------------------------------------------------------

    def holder(self, key: str, now: int) -> tuple[str, str] | None:
        """(state, id) of the job that holds the key now, or None if it is free."""
        held = self.unique.get(key)
        if held is None:
            return None
        job = self.jobs.get(held.id)
        if held.scope == "time":
            return None if held.until <= now else (job.state if job else "ended", held.id)
        if job is None or job.state == "dead" or (held.scope == "start" and job.state == "leased"):
            return None
        return job.state, held.id

    def hold_key(self, hold: Hold | None, id: str, now: int) -> None:
        if hold is None:
            return
        self.unique[hold.key] = Held(id, hold.scope, now + hold.ms)
        if hold.scope == "time":
            self.free_at.put(hold.key, now + hold.ms)
        else:
            self.free_at.discard(hold.key)

    def release_key(self, key: str | None, id: str) -> None:
        """Free the key when its job is done, unless it is held for a time or by another."""
        held = self.unique.get(key) if key is not None else None
        if key is not None and held is not None and held.id == id and held.scope != "time":
            del self.unique[key]

    # --- leaving -----------------------------------------------------------------------------------------------------

    def remember(self, id: str, now: int, ms: int) -> None:
        """Keep a user-given id known after its end."""
        if ms > 0:
            self.ended.put(id, now + ms)

    def is_remembered(self, id: str, now: int) -> bool:
        until = self.ended.at(id)
        return until is not None and until > now

    def drop(self, id: str) -> None:
        """Take a job and all that belongs to it out of the shard; what is remembered of it is not touched."""
        job = self.jobs.pop(id)
        for line in (*self.pending, self.leased, self.dead):
            line.discard(id)
        self.release_key(job.unique, id)

    def result(self, id: str, now: int) -> bytes | None:
        """The kept result of a job, as long as it is to be kept."""
        until = self.results_until.at(id)
        return self.results[id] if until is not None and until > now else None

    def cancel_pending(self, job: Job, now: int, remember_ms: int) -> None:
        job.move("cancel")
        self.drop(job.id)
        if job.named:
            self.remember(job.id, now, remember_ms)

    def forget(self, now: int) -> None:
        """Let go of what is past its time, a little at each call; nobody can see the difference but in memory used."""
        over = now - FORGET_AFTER_MS  # a clock that goes back a little must find what it knew
        self.ended.due(over, FORGET_STEP)
        for id in self.results_until.due(now, FORGET_STEP):
            del self.results[id]
        for key in self.free_at.due(over, FORGET_STEP):
            del self.unique[key]

    # --- time --------------------------------------------------------------------------------------------------------

    def earliest_due(self) -> int | None:
        """The earliest due time of all priorities."""
        return min((head[0] for line in self.pending if (head := line.head()) is not None), default=None)

    def is_full(self) -> bool:
        """Whether the queue's limit of leased jobs is reached."""
        return self.limit is not None and len(self.leased) >= self.limit

    def lease(self, id: str, node: str, fence: int, end: int) -> None:
        job = self.jobs[id]
        job.node, job.fence = node, fence
        self.leased.put(id, end)

    def lease_new(self, ids: Sequence[str], node: str, ms: int, now_us: int) -> int | None:
        """Lease pending jobs to a node; the fence. None, and nothing is changed, unless all can be claimed now."""
        now = now_us // 1000
        moments = [self.pending[self.jobs[id].priority].at(id) for id in ids]
        is_open = not self.paused and (self.limit is None or len(self.leased) + len(ids) <= self.limit)
        if not is_open or any(moment is None or moment > now for moment in moments):
            return None
        self.fence = max(self.fence + 1, now_us)
        for id in ids:
            job = self.jobs[id]
            job.move("claim")
            self.pending[job.priority].discard(id)
            self.lease(id, node, self.fence, now + ms)
        return self.fence

    def stamp(self, now: int, lease: int, shortest: int) -> int:
        """The gap guard (DESIGN section 4): after a silence, live nodes come first. Returns by how many ms the clock
        has gone back since the last call."""
        gap, self.seen, first = now - self.seen, now, self.seen == 0
        if first:
            return 0
        if gap < 0:  # a hold made under the clock as it was must not keep dead nodes' jobs away until it catches up
            self.hold, self.held_at = min(self.hold, now), min(self.held_at, now)
            return -gap
        if 2 * gap > shortest:
            length = lease if 2 * gap > lease else shortest
            if now - self.held_at >= length:
                self.hold, self.held_at = now + length // 3, now
        return 0

    # --- history -----------------------------------------------------------------------------------------------------

    def record(self, now: int, keep: int, verb: str, who: str, count: int, ids: list[str]) -> None:
        """One entry per call that did something, never per job."""
        if count > 0:
            named = " ".join(ids[:HISTORY_IDS])
            self.history.append(now, keep, {"verb": verb, "who": who, "count": str(count), "ids": named})
