"""Audits of schedules: what the log must say for each kind of finding."""

from __future__ import annotations

from typing import Any

import pytest

from duly.core.audit import Audit, Entry, audit
from duly.core.schedule import Definition
from duly.core.trigger import every

START = 1_750_000_000_000
SECONDLY = Definition(every(seconds=1, start=START / 1000), "t")


def entry(second: float, state: str = "fired", why: str = "", count: int = 1, late: float = 0.003) -> Entry:
    nominal = START + round(second * 1000)
    fields = {"schedule": "s", "nominal": str(nominal), "state": state, "why": why, "count": str(count)}
    return nominal + round(late * 1000), fields


def audited(*entries: Entry, mark: float = 10, definition: Definition = SECONDLY, since: float = 0) -> Audit:
    return audit(definition, 0, START + round(mark * 1000), entries, START + round(since * 1000), START + 10_500)


def seconds(*moments: float) -> tuple[float, ...]:
    return tuple(START / 1000 + moment for moment in moments)


def test_each_moment_fired_once_is_clean() -> None:
    found = audited(*(entry(n) for n in range(1, 11)))
    assert (found.expected, found.fired, found.is_clean) == (10, 10, True)
    assert (found.missing, found.overdue, found.doubled, found.late, found.skipped) == ((), (), (), (), {})


def test_a_moment_that_was_neither_fired_nor_skipped_is_missing() -> None:
    found = audited(*(entry(n) for n in range(1, 11) if n not in (4, 7)))
    assert (found.missing, found.is_clean) == (seconds(4, 7), False)


def test_a_moment_behind_which_the_mark_has_not_moved_yet_is_overdue() -> None:
    found = audited(*(entry(n) for n in range(1, 9)), mark=8)
    assert (found.missing, found.overdue, found.is_clean) == ((), seconds(9, 10), True)


def test_a_moment_fired_twice_is_doubled() -> None:
    found = audited(*(entry(n) for n in range(1, 11)), entry(5))
    assert (found.doubled, found.is_clean) == (seconds(5), False)


def test_a_tick_that_came_late_is_said() -> None:
    found = audited(*(entry(n, late=2.5 if n == 3 else 0.9) for n in range(1, 11)))
    assert found.late == ((START / 1000 + 3, 2.5),)
    assert found.is_clean


@pytest.mark.parametrize(
    "entries",
    [
        [
            entry(1),
            entry(2),
            entry(7, "skipped", "late", 4),
            *(entry(n) for n in range(7, 11)),
        ],  # latest: with the tick
        [entry(1), entry(2), entry(6, "skipped", "late", 4), *(entry(n) for n in range(7, 11))],  # passed over
        [
            entry(1),
            entry(2),
            entry(4, "skipped", "late", 2),
            entry(6, "skipped", "late", 2),
            *(entry(n) for n in range(7, 11)),
        ],
    ],
)
def test_what_was_skipped_for_a_reason_is_not_missing(entries: list[Entry]) -> None:
    found = audited(*entries)
    assert (found.missing, found.skipped, found.fired) == ((), {"late": 4}, 6)


def test_a_skip_does_not_hide_what_is_missing_beside_it() -> None:
    found = audited(entry(1), entry(6, "skipped", "overlap", 3), *(entry(n) for n in range(7, 11)))
    assert (found.missing, found.skipped) == (seconds(2, 3), {"overlap": 3})


def test_moments_of_a_pause_are_not_expected() -> None:
    log = [entry(1), entry(1.5, "paused"), entry(6.5, "resumed"), *(entry(n) for n in range(7, 11))]
    found = audited(*log)
    assert (found.expected, found.fired, found.missing) == (5, 5, ())
    assert audited(entry(1), entry(1.5, "paused"), mark=1).overdue == ()


def test_only_what_came_after_the_last_edit_is_asked_for() -> None:
    found = audited(entry(0.5, "created"), entry(1), entry(4.2, "updated"), *(entry(n) for n in range(5, 11)))
    assert (found.since, found.expected, found.missing) == (START / 1000 + 4.2, 6, ())


def test_since_is_where_the_question_begins() -> None:
    found = audited(*(entry(n) for n in range(8, 11)), since=7.5)
    assert (found.expected, found.missing) == (3, ())


def test_an_interval_after_completion_is_asked_for_doubles_only() -> None:
    definition = Definition(every(seconds=1, after_completion=True), "t")
    found = audited(entry(1.5), entry(4.7), entry(4.7), definition=definition)
    assert (found.expected, found.missing, found.doubled) == (2, (), seconds(4.7))


def test_a_long_time_is_looked_at_in_part() -> None:
    def log() -> Any:
        return audit(SECONDLY, 0, START, [], START, START + 10**9)

    assert log().expected == 100_000
