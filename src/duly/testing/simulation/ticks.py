"""The judge of schedules: every moment between two marks is fired or counted as skipped, once, and the mark only moves on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from duly.core import schedule as planning
from duly.core.schedule import Definition
from duly.stores.base import Firing, NewSchedule

if TYPE_CHECKING:
    from duly.testing.simulation.oracle import Oracle

SILENT_MS = 15_000
"""How far behind the clock the last planned moment may be at the end."""


@dataclass
class Rule:
    """One schedule as it is in force."""

    definition: Definition
    revision: int
    mark: int
    anchor: int
    fired: set[int] = field(default_factory=set)
    live: list[str] = field(default_factory=list)
    fired_at: int = 0
    free_at: int = 0
    """When the last of the runs that ended did, as far as was looked."""


class TickJudge:
    """Part of the oracle."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.rules: dict[str, Rule] = {}

    def put(self, schedule: NewSchedule, what: str, revision: int) -> None:
        now = self._oracle.now()
        definition = planning.decode(schedule.definition)
        rule = self.rules.get(schedule.id)
        if what == "created":
            mark = now if schedule.mark is None else min(schedule.mark, now)
            self.rules[schedule.id] = Rule(definition, revision, mark, now)
            if rule is not None:
                self._oracle.fault(f"schedule {schedule.id} was created twice")
        elif what == "updated" and rule is not None:
            if schedule.revision is not None and schedule.revision != rule.revision:
                self._oracle.fault(f"an edit of {schedule.id} overwrote one that it had not seen")
            if planning.encode(rule.definition) == schedule.definition:
                self._oracle.fault(f"an equal put changed schedule {schedule.id}")
            missed = rule.definition.trigger.count(rule.mark, now, rule.anchor)
            if missed and not (rule.definition.overlap == "buffer" and self._living(rule)):
                self._oracle.fault(f"an edit of {schedule.id} dropped {missed} moment(s) that were due")
            rule.definition, rule.revision, rule.mark = definition, revision, max(rule.mark, now)

    def _living(self, rule: Rule) -> list[str]:
        rule.free_at = max([rule.free_at, *(self._oracle.ended_at(id) for id in rule.live)])
        rule.live = [id for id in rule.live if not self._oracle.has_ended(id)]
        return rule.live

    def fired(self, firing: Firing) -> None:
        rule = self.rules.get(firing.id)
        if rule is None:
            self._oracle.fault(f"{firing.id} fired, and is no schedule")
            return
        if (firing.mark, firing.revision) != (rule.mark, rule.revision):
            self._oracle.fault(f"{firing.id} fired from mark {firing.mark}, and the mark was {rule.mark}")
        definition = rule.definition
        moments = set(definition.trigger.moments(rule.mark, firing.new_mark, rule.anchor))
        for nominal in firing.nominals:
            if nominal in rule.fired:
                self._oracle.fault(f"tick {firing.id}@{nominal} fired twice")
            if nominal not in moments:
                self._oracle.fault(f"tick {firing.id}@{nominal} is none that the schedule asks for")
        accounted = len(firing.nominals) + sum(firing.skipped.values())
        if accounted != len(moments):
            self._oracle.fault(f"{firing.id} passed over {len(moments)} moments and accounts for {accounted}")
        if firing.skipped and definition.catch_up == "all" and definition.overlap == "allow":
            self._oracle.fault(f"{firing.id} dropped moments within its window: {dict(firing.skipped)}")
        if firing.nominals and definition.counted and (len(firing.nominals) > 1 or self._living(rule)):
            self._oracle.fault(f"{firing.id} fired while {rule.live} lived")
        rule.fired.update(firing.nominals)
        if firing.nominals:
            rule.fired_at = self._oracle.now()
        rule.live += [job.id for job in firing.jobs]
        rule.mark = firing.new_mark

    def judge_the_end(self) -> None:
        now = self._oracle.now()
        for id, rule in self.rules.items():
            following = rule.definition.trigger.after(rule.mark, rule.anchor)
            is_held = rule.definition.overlap == "buffer" and bool(
                self._living(rule)
            )  # it may lag, as long as it fires
            if following is not None and max(following, rule.fired_at, rule.free_at) < now - SILENT_MS and not is_held:
                self._oracle.fault(f"schedule {id} fell silent {(now - following) / 1000:.0f} s ago")
