"""Looking at and steering the jobs of a memory shard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from duly.stores.base import Answer, JobRecord, Page, Sizes, check_size
from duly.stores.capabilities import Ahead
from duly.stores.memory.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duly.stores.memory.line import Line, Place
    from duly.stores.memory.state import Job, Sent, ShardState, Taken, Written

UNHEARD_MS = 86_400_000
"""After so long without a call, the numbers of a client or node are forgotten: none repeats a call for a day."""


class CareVerbs(Verbs):
    """`base.Care` in memory."""

    async def get(self, ids: Sequence[str]) -> list[JobRecord | None]:
        check_size(ids)
        with self._step() as now:
            return [_record(self._state, id, now) for id in ids]

    async def list(self, state: Literal["pending", "leased", "dead"], cursor: str, limit: int) -> Page:
        with self._step() as now:
            lines = _lines(self._state, state)
            places, following = _walk(lines, cursor, limit)
            return Page([_record(self._state, id, now) for _, id in places], following)

    async def sizes(self) -> Sizes:
        state = self._state
        with self._step() as now:
            return Sizes(
                now,
                pending=sum(len(line) for line in state.pending),
                leased=len(state.leased),
                dead=len(state.dead),
                schedules=len(state.schedules),
                paused=state.paused,
                limit=state.limit,
                paused_since=state.paused_since if state.paused else 0,
            )

    async def ahead(self, id: str) -> Ahead | None:
        state = self._state
        with self._step() as now:
            job = state.jobs.get(id)
            if job is None or job.state != "pending":
                return None
            return Ahead(_due_before(state, job, now))

    async def holder(self, key: str) -> Answer | None:
        with self._step() as now:
            return self._state.holder(key, now)

    async def result(self, id: str, seconds: float = 0.0) -> bytes | None:
        with self._step() as now:
            found = self._state.result(id, now)
            if found is not None or seconds <= 0:
                return found
            caller = self._state.kept.add(id)
        try:
            await asyncio.wait([caller.future], timeout=seconds)
        finally:
            with self._connection.lock:
                self._state.kept.leave(id, caller)
        with self._step() as now:
            return self._state.result(id, now)

    async def cancel(self, ids: Sequence[str]) -> Sequence[str]:
        check_size(ids)
        with self._step() as now:
            return [self._cancel_one(id, now) for id in ids]

    def _cancel_one(self, id: str, now: int) -> str:
        job = self._state.jobs.get(id)
        if job is None:
            return "ended" if self._state.is_remembered(id, now) else "unknown"
        if job.state == "pending":
            self._state.cancel_pending(job, now, self._limits.remember_ms)
            return "cancelled"
        if job.state == "leased":
            job.move("cancel")
            job.cancel_asked = True
            return "asked"
        return job.state

    async def revive(self, ids: Sequence[str], *, waiting: bool = False) -> Sequence[bool]:
        check_size(ids)
        state = self._state
        with self._step() as now:
            jobs = [state.jobs.get(id) for id in ids]
            done = [
                job is not None and (_revive(state, job, now) or (waiting and _hurry(state, job, now))) for job in jobs
            ]
            if any(done):
                state.wake.leave_token()
            return done

    async def clear(
        self, cursor: str, until: int | None, limit: int, ids: Sequence[str] | None = None, *, dead_only: bool = False
    ) -> tuple[int, str, int]:
        state = self._state
        with self._step() as now:
            until = now if until is None else until
            states = ("dead",) if dead_only else ("pending", "dead")
            if ids is not None:
                check_size(ids)
                return sum(_clear(state, id, until, states) for id in ids), "", until
            places, following = _walk([line for name in states for line in _lines(state, name)], cursor, limit)
            return sum(_clear(state, id, until, states) for _, id in places), following, until

    async def configure(self, *, paused: bool | None = None, limit: int | None = None) -> None:
        state = self._state
        with self._step() as now:
            if paused is not None:
                state.paused_since = now if not state.paused else state.paused_since
                state.paused = paused
            if limit is not None:
                state.limit = limit or None
            if paused is not None or limit is not None:
                state.wake.leave_token()  # what was held back may go now

    async def reconcile(self, cursor: str, limit: int, *, repair: bool = True) -> tuple[str, dict[str, int]]:
        """Nothing is ever evicted from this store, so only the numbers of the silent are to be forgotten."""
        if not repair:
            return "", {}
        state = self._state
        with self._step() as now:
            counts = [_forget_silent(room, now, limit) for room in (state.clients, state.claims, state.settles)]
            return "more" if limit in counts else "", {"stale": sum(counts)} if any(counts) else {}

    async def history(self, stream: Literal["history", "ticks"], after: str, limit: int) -> Page:
        with self._step():
            return (self._state.history if stream == "history" else self._state.ticks).page(after, limit)


def _record(state: ShardState, id: str, now: int) -> JobRecord | None:
    job = state.jobs.get(id)
    if job is None:
        return JobRecord(id, "ended", b"", 0, state.ended.at(id) or 0) if state.is_remembered(id, now) else None
    places = (line.at(id) for line in _lines(state, job.state))
    return JobRecord(
        id,
        job.state,
        job.body,
        job.enqueued_at,
        next(at for at in places if at is not None),
        job.priority,
        job.attempts,
        job.crashes,
        job.unfit_since,
        job.fence,
        job.node,
        job.started,
        job.cancel_asked,
        job.reason,
        job.error,
        job.trace,
        job.progress,
    )


def _due_before(state: ShardState, job: Job, now: int) -> int:
    """How many come before a job that is due."""
    mine = (state.pending[job.priority].at(job.id) or 0, job.id)
    earlier = sum(line.count((now + 1, "")) for line in state.pending[: job.priority])
    return earlier + state.pending[job.priority].count(mine)


def _lines(state: ShardState, name: str) -> tuple[Line, ...]:
    """The lines in which ids of this state stand, in the order in which they are listed."""
    return {"pending": state.pending, "leased": (state.leased,), "dead": (state.dead,)}[name]


def _walk(lines: Sequence[Line], cursor: str, limit: int) -> tuple[list[Place], str]:
    """The next places behind the cursor through several lines. The cursor is "line:time:id" of the last place."""
    first, place = 0, None
    if cursor:
        line, at, id = cursor.split(":", 2)
        first, place = int(line), (int(at), id)
    found: list[Place] = []
    for number in range(first, len(lines)):
        found += lines[number].after(place if number == first else None, limit - len(found))
        if len(found) >= limit:
            return found, f"{number}:{found[-1][0]}:{found[-1][1]}"
    return found, ""


def _revive(state: ShardState, job: Job, now: int) -> bool:
    if job.state != "dead":
        return False
    job.move("revive")
    state.dead.discard(job.id)
    state.results.pop(job.id, None)
    state.results_until.discard(job.id)
    job.attempts = job.crashes = job.unfit_since = 0
    state.pending[job.priority].put(job.id, now)
    return True


def _hurry(state: ShardState, job: Job, now: int) -> bool:
    """A job that waits is due now, if it was not before."""
    if job.state != "pending":
        return False
    line = state.pending[job.priority]
    at = line.at(job.id)
    line.put(job.id, now if at is None else min(at, now))
    return True


def _clear(state: ShardState, id: str, until: int, states: Sequence[str]) -> bool:
    """Remove a job in one of these states pushed (of the dead alone: died) up to `until`, as if it had never been pushed."""
    job = state.jobs.get(id)
    if job is None or job.state not in states:
        return False
    since = job.enqueued_at if "pending" in states else state.dead.at(id)
    if since is None or since > until:
        return False
    job.move("clear")
    state.drop(id)
    return True


def _forget_silent(records: dict[str, Sent] | dict[str, Taken] | dict[str, Written], now: int, limit: int) -> int:
    silent = [name for name, record in records.items() if record.at < now - UNHEARD_MS][:limit]
    for name in silent:
        del records[name]
    return len(silent)
