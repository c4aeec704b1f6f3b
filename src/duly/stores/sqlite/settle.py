"""The steps of `settle`: what became of runs, written if their leases are still held."""

from __future__ import annotations

from collections.abc import Sequence

from duly.core.job import due_after
from duly.stores.base import Settled, Settlement
from duly.stores.sqlite.keep import keep
from duly.stores.sqlite.room import DEAD, FORGET_STEP, IN, LEASED, PENDING, Room, listed
from duly.stores.sqlite.schedules import end_of_run

LETTERS: dict[str, Settled] = {"a": "applied", "t": "taken", "c": "cancel asked"}
REPEATED: dict[str, Settled] = {**LETTERS, "a": "repeated"}


def settle(room: Room, node: str, n: int, settlements: Sequence[Settlement]) -> list[Settled]:
    """`Jobs.settle`, inside its step."""
    last = room.last_call("settle", node)
    if last is not None and n == last[0]:
        return [REPEATED[letter] for letter in last[2].decode()]
    was_full = room.is_full()
    letters = _Settling(room, settlements).run(settlements)
    for settlement, letter in zip(settlements, letters, strict=True):
        if letter == "a":  # after all changes: a child may take the place of a job that ended
            keep(room, settlement.children)
    _trim_dead(room)
    room.forget()
    if was_full and not room.token:
        due = room.earliest_due()
        if due is not None and due <= room.now:
            room.leave_token()
    if last is None or n > last[0]:
        room.keep_call("settle", node, n, 0, "".join(letters).encode())
    applied = [s.id for s, letter in zip(settlements, letters, strict=True) if letter == "a"]
    room.record("settle", node, len(applied), applied)
    return [LETTERS[letter] for letter in letters]


class _Settling:
    """What one call knows: who is held, and which plain ends are to be deleted together."""

    def __init__(self, room: Room, settlements: Sequence[Settlement]) -> None:
        self.room = room
        rows = room.all(
            f"SELECT id, fence, cancel, uniq FROM jobs WHERE shard = ? AND id {IN} AND state = 1",
            room.shard, listed(s.id for s in settlements),
        )  # fmt: skip
        self.held = {id: (fence, cancel, key) for id, fence, cancel, key in rows}
        self.ended: list[str] = []
        self.head: int | None = None
        self.knows_head = False

    def run(self, settlements: Sequence[Settlement]) -> list[str]:
        letters = [self._one(settlement) for settlement in settlements]
        if self.ended:
            self.room.do(f"DELETE FROM jobs WHERE shard = ? AND id {IN}", self.room.shard, listed(self.ended))
            self.room.leased -= len(self.ended)
        return letters

    def _one(self, settlement: Settlement) -> str:
        room, change, id = self.room, settlement.change, settlement.id
        held = self.held.get(id)
        if held is None or held[0] != settlement.fence:
            return "t"
        if change.verb == "again" and held[1]:
            return "c"
        del self.held[id]
        if change.verb == "again":
            self._put_back(settlement)
            return "a"
        if change.verb == "dead":
            _bury(room, settlement)
        else:
            self.ended.append(id)
            room.release_key(held[2], id)
            if settlement.named:
                room.remember(id)
        room.release_key(settlement.unique, id)
        if settlement.result is not None and settlement.result_ms > 0:
            until = room.now + settlement.result_ms
            room.do("INSERT OR REPLACE INTO results VALUES (?,?,?,?)", room.shard, id, until, settlement.result)
        if settlement.schedule is not None:
            end_of_run(room, settlement.schedule, id, settlement.change)
        return "a"

    def _put_back(self, settlement: Settlement) -> None:
        room, change = self.room, settlement.change
        due = due_after(room.now_us, change.delay)
        if not self.knows_head:
            self.head, self.knows_head = room.earliest_due(), True
        if due <= room.now or self.head is None or due < self.head:
            room.leave_token(others_first=change.unfit_since > 0)
            self.head = due
        room.do(
            "UPDATE jobs SET state=0, at=?, fence=0, node='', started=0, priority=?, attempts=?, crashes=?, "
            "unfit_since=? WHERE shard=? AND id=?",
            due, settlement.priority, change.attempts, change.crashes, change.unfit_since, room.shard, settlement.id,
        )  # fmt: skip
        if change.reason or change.error:
            room.do("UPDATE jobs SET reason=?, error=?, trace=? WHERE shard=? AND id=?", change.reason, change.error,
                    change.trace, room.shard, settlement.id)  # fmt: skip
        room.count(LEASED, -1)
        room.count(PENDING, 1)


def _bury(room: Room, settlement: Settlement) -> None:
    change = settlement.change
    room.do(
        "UPDATE jobs SET state=2, at=?, fence=0, node='', started=0, cancel=0, attempts=?, crashes=?, unfit_since=0, "
        "reason=?, error=?, trace=? WHERE shard=? AND id=?",
        room.now, change.attempts, change.crashes, change.reason, change.error, change.trace, room.shard, settlement.id,
    )  # fmt: skip
    room.count(LEASED, -1)
    room.count(DEAD, 1)


def _trim_dead(room: Room) -> None:
    """Dead jobs are bounded by age and count, a step at each call."""
    if not room.dead:
        return
    oldest = "SELECT id FROM jobs WHERE shard = ? AND state = 2 {} ORDER BY at, id LIMIT ?"
    old = room.all(oldest.format("AND at <= ?"), room.shard, room.now - room.limits.dead_ms, FORGET_STEP)
    room.drop([id for (id,) in old])
    surplus = min(FORGET_STEP, room.dead - room.limits.dead_count)
    if surplus > 0:
        room.drop([id for (id,) in room.all(oldest.format(""), room.shard, surplus)])
