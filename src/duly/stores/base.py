# architecture: the contract is one file, in reading order (DESIGN section 6)
"""The store contract, in the order of a job's life; each docstring is a promise, checked by `duly.testing.conformance`.

A store keeps state, makes each verb one atomic step per shard, and owns the clock. It has no policy: what a failed run
leads to, which ticks are fired, is decided by `duly.core` and handed in. Times are epoch milliseconds of the store's
clock, durations milliseconds, unless a name says otherwise. A verb that raises StoreRefused applied nothing; one that
raises StoreUncertain may have been applied, and may be repeated with the same arguments.

No call takes or returns more than MAX_BATCH ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from duly.core.job import Claimed, NewJob
from duly.core.lifecycle import Change, State

MAX_BATCH = 1_000
DEAD_COUNT = 10_000
DEAD_MS = 180 * 86_400_000
FORMAT = 1

Answer = tuple[str, str]
"""(what the store did or found, id): created | pending | leased | dead | ended, and the id that it speaks of."""
Fired = str | int
"""`fired` or `stale`; or the fence of jobs that were leased as they were fired."""
Settled = Literal["applied", "repeated", "taken", "cancel asked", "map changed"]
Renewed = Literal["applied", "taken", "cancel asked"]


def check_size(items: Sequence[object]) -> None:
    """Refuse a call of more than MAX_BATCH items, before anything is written."""
    if len(items) > MAX_BATCH:
        raise ValueError(f"{len(items)} items in one call: at most {MAX_BATCH}; make several calls")


def check_firings(firings: Sequence[Firing]) -> None:
    """Refuse a call of more than MAX_BATCH firings, or one with jobs and moments that do not go together."""
    check_size(firings)
    for firing in firings:
        if len(firing.jobs) != len(firing.nominals):
            raise ValueError(f"{firing.id}: {len(firing.jobs)} jobs with {len(firing.nominals)} moments; give one each")


class Limits(msgspec.Struct, frozen=True):
    """What is kept, and for how long. remember_ms: user-given ids after their end. history: entries in the streams.
    replicas: how many have to have what `enqueue`, `fire` and `start` wrote before they return."""

    remember_ms: int = 3_600_000
    history: int = 10_000
    dead_count: int = DEAD_COUNT
    dead_ms: int = DEAD_MS
    replicas: int = 0


class Batch(msgspec.Struct):
    """What `claim` took, all under one fence.

    now: the store's clock. wait_us: microseconds from now to the next moment at which the caller should claim again
    (0: there is more due work; None: nothing is known to come). looks_due: a schedule wants `due`; look_next: one will,
    at that next moment.
    gap: the store had not been called for long, so ended leases are left alone for a moment. moved: another process of the
    server answers than before (a failover, a restart): what the former one had not passed on is lost. backwards_ms: by how much
    the store's clock has gone back since it was last read.
    """

    fence: int
    now: int
    jobs: list[Claimed]
    wait_us: int | None = None
    looks_due: bool = False
    look_next: bool = False
    gap: bool = False
    backwards_ms: int = 0
    moved: bool = False


class Renewal(NamedTuple):
    """One lease to be kept for `lease` ms more. progress: packed, or None to leave it as it is."""

    id: str
    fence: int
    lease: int
    progress: bytes | None = None


class Settlement(msgspec.Struct, frozen=True):
    """One change to be written if the lease is still held under `fence`.

    children are enqueued in the same step; result is kept for result_ms if given. named, unique, priority are the job's
    own, schedule the one whose tick it is: an end or a death is noted there, and the run no longer lives. epoch: of the map
    of shards by which the children belong to the job's shard; None if they may be kept anywhere.
    """

    id: str
    fence: int
    change: Change
    priority: int = 1
    named: bool = False
    unique: str | None = None
    schedule: str | None = None
    result: bytes | None = None
    result_ms: int = 0
    children: tuple[NewJob, ...] = ()
    epoch: int | None = None


class JobRecord(msgspec.Struct, frozen=True):
    """All that the store knows of one job. at: due time, lease end, time of death, or until when an ended one is remembered."""

    id: str
    state: State
    body: bytes
    enqueued_at: int
    at: int
    priority: int = 1
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


class Sizes(msgspec.Struct, frozen=True):
    """Counts of one shard, its switches, and the store's clock. moved_at: when another process of the server was seen to
    answer than before; 0 if never. paused_since: 0 if it is not paused, or not known."""

    now: int
    pending: int = 0
    leased: int = 0
    dead: int = 0
    schedules: int = 0
    paused: bool = False
    limit: int | None = None
    moved_at: int = 0
    paused_since: int = 0


class Page(msgspec.Struct, frozen=True):
    """One bounded step of a longer walk; an empty cursor says that it is over."""

    items: list[Any]
    cursor: str = ""


class NewSchedule(msgspec.Struct, frozen=True):
    """A schedule as `put` takes it.

    definition: opaque bytes, compared for equality. mark: where the high-water mark begins when the schedule is new
    (None: the store's now; never later than now). app: whose code declares it ("" for one put at run time).
    buffer: while a run lives, due moments are held back, so an edit need not fire them first.
    revision: the one the editor has read; None for whichever is there, or none.
    """

    id: str
    definition: bytes
    mark: int | None = None
    app: str = ""
    buffer: bool = False
    revision: int | None = None


class ScheduleRecord(msgspec.Struct, frozen=True):
    """A schedule as the store has it. mark, anchor (its creation), next (0: not planned yet; None: no more) in ms.

    live: ids of its living runs, as far as its definition counts them. paused: the note, or None.
    late: ticks fired late. ended, outcome, failures: when its last run ended (0: none has), how ("ended", or
    "dead: " and why), and how many have died since one ended well.
    """

    id: str
    definition: bytes
    revision: int
    mark: int
    anchor: int
    next: int | None = 0
    app: str = ""
    buffer: bool = False
    paused: str | None = None
    live: tuple[str, ...] = ()
    fired: int = 0
    skipped: Mapping[str, int] = {}
    last: int = 0
    late: int = 0
    ended: int = 0
    outcome: str = ""
    failures: int = 0


class Due(msgspec.Struct, frozen=True):
    """Schedules to be planned, hidden from other callers for a second; now is the store's clock."""

    now: int
    schedules: list[ScheduleRecord]


class Firing(msgspec.Struct, frozen=True):
    """What a node planned for one schedule; written only if (revision, mark) are still those it read.

    look: when to look again (None: never). counted: the jobs become living runs. nominals: the jobs' moments.
    late: how many of them are late. pause: the note with which the schedule is paused in the same step, or None.
    waits: it only puts the look off until a living run has ended. lease: for how many ms the jobs are leased to the node
    that fires, if that can be; 0: they wait for a claim.
    """

    id: str
    revision: int
    mark: int
    new_mark: int
    next: int | None
    look: int | None
    jobs: tuple[NewJob, ...] = ()
    nominals: tuple[int, ...] = ()
    skipped: Mapping[str, int] = {}
    counted: bool = False
    late: int = 0
    pause: str | None = None
    waits: bool = False
    lease: int = 0


class Registry(msgspec.Struct, frozen=True):
    """Who is there: node id -> its last beat (packed), the queues ever used, the store's clock; until: when a beat runs out."""

    now: int
    nodes: Mapping[str, bytes]
    queues: list[str]
    until: Mapping[str, int] = {}


class Jobs(Protocol):
    """The path of a job through one shard."""

    async def enqueue(self, client: str, n: int, jobs: Sequence[NewJob], epoch: int = 0) -> list[Answer]:
        """Keep `jobs`, all or none, in order. epoch: of the map by which the caller has chosen this shard; raises StaleMap,
        but for a repeat of what was applied, if the shard was told of a later one (`capabilities.Movable`).

        Answers one (state, id) per job; only `created` was written.

        A known id is answered with its state and left alone; with `replace`, a pending one gets the new body, due
        time and priority (`pending`, written). A held unique key is answered with the state and id of its holder.
        A user-given id is `ended` until `remember` after its end. Repeating (client, n) writes nothing and answers
        as before; an n below the client's last is refused. Raises StoreFull if there is no memory.
        """
        ...

    async def claim(self, node: str, n: int, limit: int, lease: int, shortest: int) -> Batch:
        """Lease at most `limit` jobs to `node` for `lease` ms under a new fence: ended leases of others first
        (one more crash each, `before` says who held them), then due jobs by priority and due time; every eighth
        call takes the priorities in reverse. A job whose ended lease is the caller's own is renewed instead.

        Repeating (node, n) returns what of that batch is still held under its fence, renewed, and takes nothing more; an n
        below the node's last is refused.
        A paused shard gives nothing; a limited one not more than its limit of leased jobs. After a gap of more than
        half a lease between claims and renewals, ended leases are left alone for a third of a lease, once per lease
        (`shortest` ms is the shortest lease the node knows of: gaps are measured against it too).
        A claim that leaves due work leaves a token for `wait`.
        """
        ...

    async def start(self, holds: Sequence[tuple[str, int]]) -> list[bool]:
        """Mark runs, given as (id, fence), as started; False where the lease is no longer held. Safe to repeat."""
        ...

    async def renew(self, renewals: Sequence[Renewal]) -> list[Renewed]:
        """Extend leases, also ended ones that nobody took. `taken`: no longer held under that fence, nothing changed."""
        ...

    async def settle(self, node: str, n: int, settlements: Sequence[Settlement]) -> list[Settled]:
        """Write each change whose lease is still held under its fence, then the children of those, in one step.

        `taken`: not held, nothing changed. `cancel asked`: the change would have run the job again, and it was asked
        to be cancelled: nothing changed, settle it otherwise. Repeating (node, n) writes nothing and answers
        `repeated` where it was applied before. Dead jobs beyond the store's limits are dropped with all they had.
        """
        ...

    async def wait(self, seconds: float) -> bool:
        """Wait for a token for at most `seconds`; True if there was one. At most one token exists per shard.

        A token is left when the earliest due time became earlier or is past, and by a claim that leaves due work.
        """
        ...


class Care(Protocol):
    """Looking at and steering the jobs of one shard. Every call is bounded."""

    async def get(self, ids: Sequence[str]) -> list[JobRecord | None]:
        """What is known of each id; `ended` ids that are remembered have an empty body; None if unknown."""
        ...

    async def list(self, state: Literal["pending", "leased", "dead"], cursor: str, limit: int) -> Page:
        """Records in order of priority and time, `limit` a page; the first cursor is the empty string."""
        ...

    async def sizes(self) -> Sizes:
        """Counts in O(1), and the switches."""
        ...

    async def result(self, id: str, seconds: float = 0.0) -> bytes | None:
        """The kept result of a job, waited for at most `seconds`; None if it is not there, or not any more. May return
        None before the time is over: whoever waits on looks at the job, and asks again.
        """
        ...

    async def cancel(self, ids: Sequence[str]) -> Sequence[str]:
        """`cancelled` (it was pending, and is gone), `asked` (it is leased; its node will hear), or its state
        (`dead`, `ended`), or `unknown`."""
        ...

    async def revive(self, ids: Sequence[str], *, waiting: bool = False) -> Sequence[bool]:
        """Dead jobs back to pending, due now, counts at zero, what was kept as their results gone. False where there is no
        such dead job. With `waiting`, pending ones that are not due yet are due now too, their counts as they were; then
        False is: neither dead nor pending."""
        ...

    async def clear(
        self, cursor: str, until: int | None, limit: int, ids: Sequence[str] | None = None, *, dead_only: bool = False
    ) -> tuple[int, str, int]:
        """One step of removing pending and dead jobs pushed up to `until` (None: the store's now). Returns (removed,
        cursor, until) for the next step; an empty cursor says that it is over. With `ids`, only those; with
        `dead_only`, those that died up to `until`, and none that is pending."""
        ...

    async def configure(self, *, paused: bool | None = None, limit: int | None = None) -> None:
        """Pause or resume claims; limit the leased jobs of the whole cluster (0: no limit). None leaves as it is."""
        ...

    async def reconcile(self, cursor: str, limit: int, *, repair: bool = True) -> tuple[str, dict[str, int]]:
        """One bounded step of the repair of what an eviction or a failover broke: (next cursor, what was found).
        Without `repair`, nothing is changed.

        `orphans` (kept, in no state) become pending; `ghosts` (in a state, not kept) and companions of ids that are
        gone are removed; records of clients and nodes unheard of for long are pruned.
        """
        ...

    async def history(self, stream: Literal["history", "ticks"], after: str, limit: int) -> Page:
        """Entries (id, fields) of a bounded stream after the given id; the cursor is the last id."""
        ...


class Schedules(Protocol):
    """Recurring work of one shard."""

    async def put(self, schedule: NewSchedule) -> tuple[str, int]:
        """(what happened, revision): `created`, `same` (equal definition: nothing changes), `updated` (the mark is
        now, unless it was later), `conflict` (another revision than the editor's, or 0 if there is none any more: nothing
        changes), or `due` (a moment is due, or it is not known yet whether one is: fire first, then repeat; nothing
        changes). A new or updated one is due for a look.
        """
        ...

    async def schedules(self, ids: Sequence[str] | None, cursor: str, limit: int) -> Page:
        """The records of `ids` (None where there is none), or a page of all, in no particular order."""
        ...

    async def due(self, limit: int, until: int | None = None) -> Due:
        """Schedules to look at now, hidden from other callers for a second. Ids of living runs whose job is gone
        are forgotten. until: those to be looked at up to that moment (ms, at most a second ahead) too; the caller fires
        them when it has come."""
        ...

    async def fire(self, node: str, firings: Sequence[Firing]) -> list[Fired]:
        """Per schedule, all or none: `fired` if (revision, mark) are as read: jobs enqueued (an id that is known
        is left alone), mark, next, look, counters and tick log written; else `stale`, nothing changed. One that `waits`
        for a run when none lives any more is stale too: the run's settle has asked for a look, which must come.

        Of one with a `lease`, the answer is the fence under which its jobs are leased to `node`, if all of them are new and
        due, the queue is not paused and its limit has room for them."""
        ...

    async def steer(self, id: str, *, remove: bool = False, paused: str | None = None) -> bool:
        """Remove a schedule with its jobs that have not been claimed, or pause it with a note, or (neither given)
        resume it, its mark then being now, unless it was later. False if there is none."""
        ...


class Shard(Jobs, Care, Schedules, Protocol):
    """The unit of atomicity: one queue, or one of the places that it is spread over."""

    queue: str


class Store(Protocol):
    """A connection to where state lives; belongs to the event loop in which `connect` was called."""

    url: str
    """As given, without a password: for logs and errors."""

    async def connect(self) -> None:
        """Open and check: reachable, a version that is supported, a format that is readable. Safe to repeat."""
        ...

    async def close(self) -> None:
        """Give back connections, tasks and threads. Safe to repeat."""
        ...

    def sibling(self, timeout: float | None = None) -> Store:
        """Another store object over the same state, unconnected, for another event loop or thread. timeout: seconds
        after which a call without an answer is given up, where the store waits for answers; None leaves it as it is.
        """
        ...

    def shard(self, name: str) -> Shard:
        """The shard of that name, which is its queue's, or says which of several (`core.shards.Place.name`); the same
        object each time."""
        ...

    async def registry(self) -> Registry:
        """Nodes whose beat has not run out, and queues."""
        ...

    async def beat(self, node: str, record: bytes, ttl: int, queues: Sequence[str]) -> None:
        """Publish a node for `ttl` ms (0: it leaves), and the queues it serves."""
        ...

    async def lock(self, name: str, owner: str, ttl: int, *, places: int = 1, waiting: int = 0) -> int | None:
        """Hold one of a lock's `places` for `ttl` ms, or extend the owner's own: its fence; None if there is none for it.

        The fence is larger than any that was given for this lock before, also after it was free; an owner that extends
        keeps its own. A place is free while fewer than `places` are held, and whoever waits is served first: those who
        wait stand in a line in the order of their first try. waiting: ms for which the owner's place in that line is kept
        (anew with each try); 0 leaves the line as it is. Safe to repeat.
        """
        ...

    async def unlock(self, name: str, owner: str) -> bool:
        """Free the owner's place of the lock, or in its line. True if it held the lock; another's is left alone."""
        ...
