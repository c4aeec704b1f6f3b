"""The path of a job through a memory shard: enqueue, claim, start, renew, settle, wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duly.core.job import Claimed, Holder, NewJob, due_after
from duly.errors import StoreRefused
from duly.stores.base import Answer, Batch, Renewal, Renewed, Settled, Settlement, check_size
from duly.stores.editing import run_ended
from duly.stores.memory.state import FORGET_STEP, Job, Sent, ShardState, Taken, Written
from duly.stores.memory.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Sequence

REVERSED_EVERY = 8
"""One fresh claim of so many takes the last priority first, lest it starve."""
OTHERS_LATER_MS = 50
"""How much longer than the node with the exact timer the other idle nodes sleep."""


class JobVerbs(Verbs):
    """`base.Jobs` in memory."""

    async def enqueue(self, client: str, n: int, jobs: Sequence[NewJob], epoch: int = 0) -> list[Answer]:
        if not jobs:
            return []
        check_size(jobs)
        state = self._state
        with self._connection.step() as now_us:
            now = now_us // 1000
            last = state.clients.get(client)
            if last is not None and n == last.n:
                return list(last.answers)
            if last is not None and n < last.n:
                raise StoreRefused(f"enqueue {n} of client {client}, which has since sent {last.n}: not applied")
            answers, written = state.keep(now_us, list(jobs))
            state.clients[client] = Sent(n, now, answers)
            state.forget(now)
            state.record(now, self._limits.history, "enqueue", client, written, [job.id for job in jobs])
            return list(answers)

    async def claim(self, node: str, n: int, limit: int, lease: int, shortest: int) -> Batch:
        state = self._state
        with self._connection.step() as now_us:
            now = now_us // 1000
            last = state.claims.get(node)
            if last is not None and n < last.n:
                raise StoreRefused(f"claim {n} of node {node}, which has since sent {last.n}: nothing taken")
            backwards = state.stamp(now, lease, shortest)
            if last is not None and n == last.n:
                taken = last
                jobs = _replay(state, last, now + lease)
            else:
                taken = _take(state, now_us, node, n, limit, lease)
                state.claims[node] = taken
                jobs = [_claimed(state.jobs[id], before, taken.due.get(id, 0)) for id, before in taken.jobs]
                state.record(now, self._limits.history, "claim", node, len(jobs), [job.id for job in jobs])
            batch = Batch(taken.fence, now, jobs, backwards_ms=backwards)
            _look_ahead(state, batch, now_us, node, limit)
            return batch

    async def start(self, holds: Sequence[tuple[str, int]]) -> list[bool]:
        check_size(holds)
        with self._step():
            found = [_held(self._state, id, fence) for id, fence in holds]
            for job in found:
                if job is not None:
                    job.move("start")
                    job.started = True
            return [job is not None for job in found]

    async def renew(self, renewals: Sequence[Renewal]) -> list[Renewed]:
        check_size(renewals)
        with self._step() as now:
            if renewals:
                leases = [renewal.lease for renewal in renewals]
                self._state.stamp(now, max(leases), min(leases))
            return [_renew(self._state, renewal, now) for renewal in renewals]

    async def settle(self, node: str, n: int, settlements: Sequence[Settlement]) -> list[Settled]:
        if not settlements:
            return []
        check_size(settlements)
        state = self._state
        with self._connection.step() as now_us:
            now = now_us // 1000
            last = state.settles.get(node)
            if last is not None and n == last.n:
                return ["repeated" if answer == "applied" else answer for answer in last.answers]
            was_full = state.is_full()
            answers = [self._settle_one(settlement, now_us) for settlement in settlements]
            for settlement, answer in zip(settlements, answers, strict=True):
                if answer == "applied":  # after all changes: a child may take the place of a job that ended
                    state.keep(now_us, settlement.children)
            self._trim_dead(now)
            state.forget(now)
            due = state.earliest_due()
            if was_full and due is not None and due <= now:
                state.wake.leave_token()
            if last is None or n > last.n:
                state.settles[node] = Written(n, now, answers)
            applied = [s.id for s, answer in zip(settlements, answers, strict=True) if answer == "applied"]
            state.record(now, self._limits.history, "settle", node, len(applied), applied)
            return list(answers)

    async def wait(self, seconds: float) -> bool:
        with self._step():
            wake = self._state.wake
        return await wake.wait(seconds, self._connection.lock)

    # --- settle ------------------------------------------------------------------------------------------------------

    def _settle_one(self, settlement: Settlement, now_us: int) -> Settled:
        state, change = self._state, settlement.change
        job = _held(state, settlement.id, settlement.fence)
        if job is None:
            return "taken"
        if change.verb == "again" and job.cancel_asked:
            return "cancel asked"
        job.move(f"settle {change.verb}")
        state.leased.discard(job.id)
        if change.verb == "again":
            _put_back(state, job, settlement, now_us)
        else:
            self._end(job, settlement, now_us // 1000)
        return "applied"

    def _end(self, job: Job, settlement: Settlement, now: int) -> None:
        state = self._state
        if settlement.change.verb == "dead":
            _bury(state, job, settlement, now)
        else:
            state.drop(job.id)
            if settlement.named:
                state.remember(job.id, now, self._limits.remember_ms)
        state.release_key(settlement.unique, job.id)
        if settlement.result is not None and settlement.result_ms > 0:
            state.results[job.id] = settlement.result
            state.results_until.put(job.id, now + settlement.result_ms)
            state.kept.ring(job.id)
        if settlement.schedule is not None:
            _end_of_run(state, settlement, now)

    def _trim_dead(self, now: int) -> None:
        """Dead jobs are bounded by age and count, a step at each call."""
        state, limits = self._state, self._limits
        old = state.dead.due(now - limits.dead_ms, FORGET_STEP)
        surplus = min(FORGET_STEP, len(state.dead) - limits.dead_count)
        for id in [*old, *(id for _, id in state.dead.after(None, max(0, surplus)))]:
            state.drop(id)


def _held(state: ShardState, id: str, fence: int) -> Job | None:
    """The job, if it is leased under this fence."""
    job = state.jobs.get(id)
    return job if job is not None and job.state == "leased" and job.fence == fence else None


def _renew(state: ShardState, renewal: Renewal, now: int) -> Renewed:
    job = _held(state, renewal.id, renewal.fence)
    if job is None:
        return "taken"
    job.move("renew")
    state.leased.put(job.id, now + renewal.lease)
    if renewal.progress is not None:
        job.progress = renewal.progress
    return "cancel asked" if job.cancel_asked else "applied"


# --- claim -----------------------------------------------------------------------------------------------------------


def _replay(state: ShardState, taken: Taken, end: int) -> list[Claimed]:
    """What is still held of the batch, as it is now; the caller has had nothing of its leases yet."""
    jobs = []
    for id, before in taken.jobs:
        job = _held(state, id, taken.fence)
        if job is not None:
            job.move("renew")
            state.leased.put(id, end)
            jobs.append(_claimed(job, before))
    return jobs


def _take(state: ShardState, now_us: int, node: str, n: int, limit: int, lease: int) -> Taken:
    now = now_us // 1000
    state.fence = fence = max(state.fence + 1, now_us)
    taken = Taken(n, now, fence, [], {})
    if state.paused:
        return taken
    if now >= state.hold:
        _take_over(state, taken, now, node, limit, lease)
    state.turn += 1
    room = limit - len(taken.jobs)
    if state.limit is not None:
        room = min(room, state.limit - len(state.leased))
    lines = state.pending if state.turn % REVERSED_EVERY else state.pending[::-1]
    for line in lines:
        for at, id in line.places_due(now, room):
            room -= 1
            taken.due[id] = at
            state.jobs[id].move("claim")
            state.lease(id, node, fence, now + lease)
            taken.jobs.append((id, None))
    return taken


def _take_over(state: ShardState, taken: Taken, now: int, node: str, limit: int, lease: int) -> None:
    """Ended leases of other nodes; the caller's own are renewed instead, for it evidently lives."""
    while len(taken.jobs) < limit and (head := state.leased.head()) is not None and head[0] <= now:
        job = state.jobs[head[1]]
        if job.node == node:
            job.move("renew")
            state.leased.put(job.id, now + lease)
            continue
        job.move("claim take-over")
        taken.jobs.append((job.id, Holder(job.fence, job.node, job.started)))
        job.crashes += 1
        state.lease(job.id, node, taken.fence, now + lease)


def _claimed(job: Job, before: Holder | None, due: int = 0) -> Claimed:
    return Claimed(
        job.id,
        job.body,
        job.enqueued_at,
        job.priority,
        job.named,
        job.unique,
        job.attempts,
        job.crashes,
        job.unfit_since,
        before,
        job.cancel_asked,
        due,
    )


def _look_ahead(state: ShardState, batch: Batch, now_us: int, node: str, limit: int) -> None:
    """Say when the caller should come again, and see that somebody does if work is left."""
    now = now_us // 1000
    moments = []
    due = state.earliest_due() if not state.paused and not state.is_full() else None
    if due is not None and due > now:
        moments.append(due)
    lease_end = state.leased.head() if not state.paused else None
    if lease_end is not None:
        batch.gap = lease_end[0] <= now < state.hold
        moments.append(max(lease_end[0], state.hold))
    look = state.looks.head()
    if look is not None:
        batch.looks_due = look[0] <= now
        if not batch.looks_due:
            moments.append(look[0])
    if len(batch.jobs) >= limit:
        _give_up_timer(state, node)
    if due is not None and due <= now:
        batch.wait_us = 0
        state.wake.leave_token()
    if moments:
        moment = min(moments)
        if len(batch.jobs) < limit:
            moment = _timed(state, moment, now, node)
        if batch.wait_us is None:
            batch.wait_us = max(0, moment * 1000 - now_us)
            batch.look_next = look is not None and look[0] == moment


def _timed(state: ShardState, moment: int, now: int, node: str) -> int:
    """One idle node keeps the exact timer, the others come a little later, so that a thousand do not rush."""
    if state.timer is not None and state.timer[0] != node and now < state.timer[1] <= moment:
        return moment + OTHERS_LATER_MS
    state.timer = (node, moment)
    return moment


def _give_up_timer(state: ShardState, node: str) -> None:
    """A busy node watches no clock: let somebody else."""
    if state.timer is not None and state.timer[0] == node:
        state.timer = None
        state.wake.leave_token()


# --- the ends of a run -----------------------------------------------------------------------------------------------


def _put_back(state: ShardState, job: Job, settlement: Settlement, now_us: int) -> None:
    change = settlement.change
    job.fence, job.node, job.started, job.priority = 0, "", False, settlement.priority
    job.attempts, job.crashes, job.unfit_since = change.attempts, change.crashes, change.unfit_since
    if change.reason or change.error:
        job.reason, job.error, job.trace = change.reason, change.error, change.trace
    now, due, before = now_us // 1000, due_after(now_us, change.delay), state.earliest_due()
    state.pending[job.priority].put(job.id, due)
    if due <= now or before is None or due < before:
        state.wake.leave_token()


def _bury(state: ShardState, job: Job, settlement: Settlement, now: int) -> None:
    change = settlement.change
    job.fence, job.node, job.started, job.cancel_asked = 0, "", False, False
    job.attempts, job.crashes, job.unfit_since = change.attempts, change.crashes, 0
    job.reason, job.error, job.trace = change.reason, change.error, change.trace
    state.dead.put(job.id, now)


def _end_of_run(state: ShardState, settlement: Settlement, now: int) -> None:
    """The end is noted with the schedule, and one that waited for it is looked at again."""
    record = state.schedules.get(settlement.schedule or "")
    if record is None:
        return
    state.schedules[record.id] = run_ended(record, settlement.id, settlement.change, now)
    if record.buffer and record.paused is None:
        state.looks.put(record.id, now)
        state.wake.leave_token()
