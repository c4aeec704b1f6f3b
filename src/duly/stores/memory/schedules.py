"""Recurring work of a memory shard: the store compares and writes, `core.schedule` decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from duly.stores.base import Due, Fired, Firing, NewSchedule, Page, ScheduleRecord, check_firings, check_size
from duly.stores.editing import HIDDEN_MS, compared, created, fired, is_as_read, look_until, resumed, updated
from duly.stores.memory.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duly.stores.memory.state import ShardState


class ScheduleVerbs(Verbs):
    """`base.Schedules` in memory."""

    async def put(self, schedule: NewSchedule) -> tuple[str, int]:
        state = self._state
        with self._step() as now:
            old = state.schedules.get(schedule.id)
            what = compared(old, schedule, now)
            if what not in ("created", "updated"):
                return what, old.revision if old is not None else 0
            new = created(schedule, now) if old is None else updated(old, schedule, now)
            state.schedules[new.id] = new
            _log(state, now, self._limits.history, new.id, new.mark, what, "", 1)
            if new.paused is None:
                _look_now(state, new.id, now)
            return what, new.revision

    async def schedules(self, ids: Sequence[str] | None, cursor: str, limit: int) -> Page:
        known = self._state.schedules
        with self._step():
            if ids is not None:
                check_size(ids)
                return Page([known.get(id) for id in ids])
            found = sorted(id for id in known if id > cursor)
            page = found[:limit]
            return Page([known[id] for id in page], page[-1] if len(found) > limit else "")

    async def due(self, limit: int, until: int | None = None) -> Due:
        state = self._state
        with self._step() as now:
            found, until = [], look_until(now, until)
            for id in state.looks.due(until, limit):
                record = state.schedules[id]
                live = tuple(job for job in record.live if job in state.jobs and job not in state.dead)
                if live != record.live:  # a run that vanished must not silence its schedule
                    record = state.schedules[id] = replace(record, live=live)
                state.looks.put(id, until + HIDDEN_MS)
                found.append(record)
            return Due(now, found)

    async def fire(self, node: str, firings: Sequence[Firing]) -> list[Fired]:
        check_firings(firings)
        state, keep = self._state, self._limits.history
        with self._connection.step() as now_us:
            now = now_us // 1000
            answers: list[Fired] = []
            ids: list[str] = []
            leased: list[str] = []
            for firing in firings:
                record = state.schedules.get(firing.id)
                if record is None or not is_as_read(record, firing):
                    answers.append("stale")
                    continue
                all_new = _fire(state, record, firing, now, keep)
                born = [job.id for job in firing.jobs]
                ids += born
                fence = state.lease_new(born, node, firing.lease, now_us) if firing.lease and all_new else None
                answers.append("fired" if fence is None else fence)
                leased += born if fence is not None else []
            state.record(now, keep, "fire", node, len(ids), ids)
            state.record(now, keep, "claim", node, len(leased), leased)
            return answers

    async def steer(self, id: str, *, remove: bool = False, paused: str | None = None) -> bool:
        state = self._state
        with self._step() as now:
            record = state.schedules.get(id)
            if record is None:
                return False
            if remove:
                self._remove(record, now)
            elif paused is not None:
                state.schedules[id] = replace(record, paused=paused)
                state.looks.discard(id)
                _log(state, now, self._limits.history, id, now, "paused", paused, 1)
            elif record.paused is not None:  # else a repeated resume would pass over what came due between the two
                state.schedules[id] = resumed(record, now)
                _look_now(state, id, now)
                _log(state, now, self._limits.history, id, now, "resumed", "", 1)
            return True

    def _remove(self, record: ScheduleRecord, now: int) -> None:
        state = self._state
        for id in record.live:
            job = state.jobs.get(id)
            if job is not None and job.state == "pending":
                state.cancel_pending(job, now, self._limits.remember_ms)
        del state.schedules[record.id]
        state.looks.discard(record.id)


def _fire(state: ShardState, record: ScheduleRecord, firing: Firing, now: int, keep: int) -> bool:
    """Whether all its jobs, and any, are new."""
    answers, _ = state.keep(now * 1000, firing.jobs)
    state.schedules[firing.id] = fired(record, firing)
    if firing.look is None or firing.pause is not None:
        state.looks.discard(firing.id)
    else:
        state.looks.put(firing.id, firing.look)
    for nominal in firing.nominals:
        _log(state, now, keep, firing.id, nominal, "fired", "", 1)
    for why, count in firing.skipped.items():
        _log(state, now, keep, firing.id, firing.new_mark, "skipped", why, count)
    if firing.pause is not None:
        _log(state, now, keep, firing.id, firing.new_mark, "paused", firing.pause, 1)
    return bool(answers) and all(answer == "created" for answer, _ in answers)


def _look_now(state: ShardState, id: str, now: int) -> None:
    state.looks.put(id, now)
    state.wake.leave_token()


def _log(state: ShardState, now: int, keep: int, id: str, nominal: int, what: str, why: str, count: int) -> None:
    fields = {"schedule": id, "nominal": str(nominal), "state": what, "why": why, "count": str(count)}
    state.ticks.append(now, keep, fields)
