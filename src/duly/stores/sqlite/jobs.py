"""The path of a job in SQLite: enqueue, claim, start, renew, settle, wait."""

from __future__ import annotations

from collections.abc import Sequence

from duly.core.job import NewJob
from duly.errors import StoreRefused
from duly.stores.base import Answer, Batch, Renewal, Renewed, Settled, Settlement, check_size
from duly.stores.sqlite.claim import claim
from duly.stores.sqlite.keep import keep
from duly.stores.sqlite.room import IN, Room, Verbs, listed, pack, unpack
from duly.stores.sqlite.settle import settle


class JobVerbs(Verbs):
    """`base.Jobs` in SQLite."""

    async def enqueue(self, client: str, n: int, jobs: Sequence[NewJob], epoch: int = 0) -> list[Answer]:
        if not jobs:
            return []
        check_size(jobs)
        return await self._write(_enqueue, client, n, jobs)

    async def claim(self, node: str, n: int, limit: int, lease: int, shortest: int) -> Batch:
        return await self._write(claim, node, n, limit, lease, shortest)

    async def start(self, holds: Sequence[tuple[str, int]]) -> list[bool]:
        check_size(holds)
        return await self._write(_start, holds)

    async def renew(self, renewals: Sequence[Renewal]) -> list[Renewed]:
        check_size(renewals)
        return await self._write(_renew, renewals)

    async def settle(self, node: str, n: int, settlements: Sequence[Settlement]) -> list[Settled]:
        if not settlements:
            return []
        check_size(settlements)
        return await self._write(settle, node, n, settlements)

    async def wait(self, seconds: float) -> bool:
        return await self._thread().wait(self._place, seconds)


def _enqueue(room: Room, client: str, n: int, jobs: Sequence[NewJob]) -> list[Answer]:
    last = room.last_call("enqueue", client)
    if last is not None and n == last[0]:
        if last[2] is None:
            return [("created", job.id) for job in jobs]
        return [(state, id) for state, id in unpack(last[2])]
    if last is not None and n < last[0]:
        raise StoreRefused(f"enqueue {n} of client {client}, which has since sent {last[0]}: not applied")
    answers, written = keep(room, jobs)
    plain = all(state == "created" for state, _ in answers)
    room.keep_call("enqueue", client, n, 0, None if plain else pack(answers))
    room.forget()
    room.record("enqueue", client, written, [job.id for job in jobs[:100]])
    return answers


def _start(room: Room, holds: Sequence[tuple[str, int]]) -> list[bool]:
    return [
        room.do("UPDATE jobs SET started=1 WHERE shard=? AND id=? AND state=1 AND fence=?", room.shard, id, fence) == 1
        for id, fence in holds
    ]


def _renew(room: Room, renewals: Sequence[Renewal]) -> list[Renewed]:
    if not renewals:
        return []
    leases = [renewal.lease for renewal in renewals]
    room.stamp(max(leases), min(leases))
    rows = room.all(
        f"SELECT id, fence, cancel FROM jobs WHERE shard = ? AND id {IN} AND state = 1",
        room.shard, listed(renewal.id for renewal in renewals),
    )  # fmt: skip
    held = {id: (fence, cancel) for id, fence, cancel in rows}
    answers: list[Renewed] = []
    together: dict[int, list[str]] = {}
    for renewal in renewals:
        fence, cancel = held.get(renewal.id, (None, 0))
        if fence != renewal.fence:
            answers.append("taken")
            continue
        if renewal.progress is not None:
            room.do("UPDATE jobs SET progress=? WHERE shard=? AND id=?", renewal.progress, room.shard, renewal.id)
        together.setdefault(renewal.lease, []).append(renewal.id)
        answers.append("cancel asked" if cancel else "applied")
    for lease, ids in together.items():
        room.do(f"UPDATE jobs SET at = ? WHERE shard = ? AND id {IN}", room.now + lease, room.shard, listed(ids))
    return answers
