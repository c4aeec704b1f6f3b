"""The steps of `claim`: take over ended leases, take due jobs, look ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duly.core.job import Claimed, Holder
from duly.errors import StoreRefused
from duly.stores.base import Batch
from duly.stores.sqlite.room import IN, Room, listed, pack, unpack

REVERSED_EVERY = 8
OTHERS_LATER_MS = 50
FACTS = "id, body, enqueued_at, priority, named, uniq, attempts, crashes, unfit_since, cancel"
TAKE = "UPDATE jobs SET state = 1, at = ?, node = ?, fence = ? WHERE shard = ? AND id " + IN


def claim(room: Room, node: str, n: int, limit: int, lease: int, shortest: int) -> Batch:
    """`Jobs.claim`, inside its step."""
    last = room.last_call("claim", node)
    if last is not None and n < last[0]:
        raise StoreRefused(f"claim {n} of node {node}, which has since sent {last[0]}: nothing taken")
    backwards = room.stamp(lease, shortest)
    if last is not None and n == last[0]:
        fence = last[1]
        jobs = _replay(room, fence, unpack(last[2]), lease)
    else:
        room.fence = fence = max(room.fence + 1, room.now_us)
        jobs = [] if room.paused else _take(room, node, fence, limit, lease)
        taken = [(job.id, (b.fence, b.node, b.started) if (b := job.before) else None) for job in jobs]
        room.keep_call("claim", node, n, fence, pack(taken))
        room.record("claim", node, len(jobs), [job.id for job in jobs])
    batch = Batch(fence, room.now, jobs, backwards_ms=backwards)
    _look_ahead(room, batch, node, limit)
    return batch


def _claimed(row: Any, before: Holder | None = None, due: int = 0) -> Claimed:
    id, body, enqueued_at, priority, named, unique, attempts, crashes, unfit_since, cancel = row
    return Claimed(
        id, body, enqueued_at, priority, named == 1, unique, attempts, crashes, unfit_since, before, cancel == 1, due
    )


def _replay(room: Room, fence: int, taken: list[Any], lease: int) -> list[Claimed]:
    """What is still held of the batch, as it is now; the caller has had nothing of its leases yet."""
    befores = {id: Holder(*before) if before else None for id, before in taken}
    rows = room.all(
        f"SELECT {FACTS} FROM jobs WHERE shard = ? AND id {IN} AND state = 1 AND fence = ?",
        room.shard, listed(befores), fence,
    )  # fmt: skip
    held = {row[0]: row for row in rows}
    room.do(f"UPDATE jobs SET at=? WHERE shard=? AND id {IN}", room.now + lease, room.shard, listed(held))
    return [_claimed(held[id], before) for id, before in befores.items() if id in held]


def _take(room: Room, node: str, fence: int, limit: int, lease: int) -> list[Claimed]:
    jobs = _take_over(room, node, fence, limit, lease) if room.now >= room.hold and room.leased else []
    room.turn += 1
    left = limit - len(jobs)
    if room.cap is not None:
        left = min(left, room.cap - room.leased)
    fresh: list[Claimed] = []
    for priority in (0, 1, 2, 3) if room.turn % REVERSED_EVERY else (3, 2, 1, 0):
        if left <= len(fresh) or room.pending <= len(fresh):
            break
        rows = room.all(
            f"SELECT at, {FACTS} FROM jobs WHERE shard = ? AND state = 0 AND priority = ? AND at <= ? "
            "ORDER BY at, id LIMIT ?",
            room.shard, priority, room.now, left - len(fresh),
        )  # fmt: skip
        fresh += [_claimed(facts, due=at) for at, *facts in rows]
    if fresh:
        room.do(TAKE, room.now + lease, node, fence, room.shard, listed(job.id for job in fresh))
        room.pending -= len(fresh)
        room.leased += len(fresh)
    return jobs + fresh


def lease_new(room: Room, ids: Sequence[str], node: str, lease: int) -> int | None:
    """Lease pending jobs to a node; the fence. None, and nothing is changed, unless all can be claimed now."""
    if room.paused or (room.cap is not None and room.leased + len(ids) > room.cap):
        return None
    (due,) = room.one(
        f"SELECT count(*) FROM jobs WHERE shard = ? AND id {IN} AND state = 0 AND at <= ?",
        room.shard,
        listed(ids),
        room.now,
    )
    if due < len(ids):
        return None
    room.fence = max(room.fence + 1, room.now_us)
    room.do(TAKE, room.now + lease, node, room.fence, room.shard, listed(ids))
    room.pending -= len(ids)
    room.leased += len(ids)
    return room.fence


def _take_over(room: Room, node: str, fence: int, limit: int, lease: int) -> list[Claimed]:
    """Ended leases of other nodes; the caller's own are renewed instead, for it evidently lives."""
    jobs: list[Claimed] = []
    while len(jobs) < limit:
        rows = room.all(
            f"SELECT {FACTS}, fence, node, started FROM jobs WHERE shard = ? AND state = 1 AND at <= ? "
            "ORDER BY at, id LIMIT ?",
            room.shard, room.now, limit - len(jobs),
        )  # fmt: skip
        if not rows:
            break
        own = [row[0] for row in rows if row[-2] == node]
        if own:
            room.do(f"UPDATE jobs SET at=? WHERE shard=? AND id {IN}", room.now + lease, room.shard, listed(own))
        for *facts, held, holder, started in rows:
            if holder != node:
                job = _claimed(facts, Holder(held, holder, started == 1))
                job.crashes += 1
                jobs.append(job)
        others = [row[0] for row in rows if row[-2] != node]
        room.do(
            f"UPDATE jobs SET at=?, node=?, fence=?, crashes=crashes+1 WHERE shard=? AND id {IN}",
            room.now + lease, node, fence, room.shard, listed(others),
        )  # fmt: skip
        if lease <= 0:
            break
    return jobs


def _look_ahead(room: Room, batch: Batch, node: str, limit: int) -> None:
    """Say when the caller should come again, and see that somebody does if work is left."""
    now, moments = room.now, []
    due = room.earliest_due() if not room.paused and not room.is_full() else None
    if due is not None and due > now:
        moments.append(due)
    if not room.paused and room.leased:
        end = room.one("SELECT at FROM jobs WHERE shard=? AND state=1 ORDER BY at LIMIT 1", room.shard)
        if end is not None:
            batch.gap = end[0] <= now < room.hold
            moments.append(max(end[0], room.hold))
    look = None
    if room.schedules:
        look = room.one(
            "SELECT look FROM schedules WHERE shard=? AND look IS NOT NULL ORDER BY look LIMIT 1", room.shard
        )
        if look is not None:
            batch.looks_due = look[0] <= now
            if not batch.looks_due:
                moments.append(look[0])
    if len(batch.jobs) >= limit and room.timer_node == node:  # a busy node watches no clock: let somebody else
        room.timer_node = None
        room.leave_token()
    if due is not None and due <= now:
        batch.wait_us = 0
        room.leave_token()
    if moments:
        moment = min(moments)
        if len(batch.jobs) < limit:
            moment = _timed(room, moment, node)
        if batch.wait_us is None:
            batch.wait_us = max(0, moment * 1000 - room.now_us)
            batch.look_next = look is not None and look[0] == moment


def _timed(room: Room, moment: int, node: str) -> int:
    """One idle node keeps the exact timer, the others come a little later, so that a thousand do not rush."""
    if room.timer_node is not None and room.timer_node != node and room.now < room.timer_at <= moment:
        return moment + OTHERS_LATER_MS
    room.timer_node, room.timer_at = node, moment
    return moment
