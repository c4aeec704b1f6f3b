"""Audits of schedules: what the log must say for each kind of finding."""

from __future__ import annotations

from typing import Any

import pytest

from duly.core.audit import Audit, Entry, audit, ticks
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


def test_the_time_asked_about_begins_after_its_first_moment_and_ends_with_its_last() -> None:
    found = audit(SECONDLY, 0, START + 10_000, [entry(n) for n in range(1, 13)], START + 5_000, START + 10_000)
    assert (found.since, found.until) == (START / 1000 + 5, START / 1000 + 10)
    assert (found.expected, found.fired, found.missing) == (5, 5, ())


def test_a_tick_a_second_after_its_moment_is_in_time_and_a_millisecond_more_is_late() -> None:
    found = audited(*(entry(n, late={3: 1.0, 4: 1.001}.get(n, 0)) for n in range(1, 11)))
    assert found.late == ((START / 1000 + 4, 1.001),)


def test_what_was_late_before_the_time_asked_about_is_not_said() -> None:
    assert audited(*(entry(n, late=5 if n == 2 else 0) for n in range(1, 11)), since=2).late == ()


def test_doubles_and_missing_moments_are_named_in_their_order() -> None:
    found = audited(*(entry(n) for n in (9, 7, 3, 1, 9, 3, 9)))
    assert found.doubled == seconds(3, 9)
    assert found.missing == seconds(2, 4, 5, 6, 8, 10)
    assert found.fired == 7


def test_a_pause_that_the_log_does_not_know_the_begin_of_began_before_it() -> None:
    found = audited(entry(6, "resumed"), *(entry(n) for n in range(7, 11)))
    assert (found.expected, found.missing) == (4, ())


def test_a_moment_of_the_pause_itself_is_expected_and_one_of_the_resume_is_not() -> None:
    found = audited(entry(1), entry(2, "paused"), entry(6, "resumed"), *(entry(n) for n in range(7, 11)))
    assert (found.expected, found.missing) == (6, seconds(2))


def test_a_pause_said_twice_began_with_the_first_and_a_second_pause_is_another() -> None:
    log = [entry(1), entry(1.5, "paused"), entry(3.5, "paused"), entry(4.5, "resumed")]
    log += [entry(5), entry(5.5, "paused"), entry(7.5, "resumed"), *(entry(n) for n in range(8, 11))]
    found = audited(*log)
    assert (found.expected, found.fired, found.missing) == (5, 5, ())


@pytest.mark.parametrize("edit", ["created", "updated"])
def test_a_schedule_is_asked_from_its_making_and_from_its_change(edit: str) -> None:
    assert audited(entry(2.2, edit)).since == START / 1000 + 2.2


def test_an_interval_is_asked_from_its_anchor() -> None:
    of = Definition(every(seconds=4), "t")
    found = audit(of, START - 3_000, START, [], START, START + 10_000)
    assert found.overdue == seconds(1, 5, 9)


def test_the_moment_at_which_the_mark_stands_is_dealt_with() -> None:
    found = audited(*(entry(n) for n in range(1, 8)), mark=8)
    assert (found.missing, found.overdue) == (seconds(8), seconds(9, 10))


def test_only_the_last_of_several_edits_counts_and_only_if_it_came_after_since() -> None:
    log = [entry(0.5, "created"), entry(3.2, "updated"), *(entry(n) for n in range(6, 11))]
    assert audited(*log, since=5.5).since == START / 1000 + 5.5
    assert audited(*log).missing == seconds(4, 5)


def test_a_skip_of_moments_that_were_fired_all_the_same_takes_nothing() -> None:
    found = audited(*(entry(n) for n in range(1, 11)), entry(6, "skipped", "late", 3))
    assert (found.skipped, found.missing) == ({}, ())


def test_skips_are_counted_by_their_reason_and_take_the_moments_before_the_one_they_name() -> None:
    log = [entry(3, "skipped", "late", 2), entry(6, "skipped", "overlap", 1), entry(9, "skipped", "late", 2)]
    found = audited(*log, entry(1), entry(4), entry(5), entry(7))
    assert found.skipped == {"late": 4, "overlap": 1}
    assert found.missing == seconds(10)


def test_an_interval_after_completion_is_asked_for_doubles_only() -> None:
    definition = Definition(every(seconds=1, after_completion=True), "t")
    found = audited(entry(1.5), entry(4.7), entry(4.7), definition=definition)
    assert (found.expected, found.missing, found.doubled) == (2, (), seconds(4.7))


def test_a_long_time_is_looked_at_in_part() -> None:
    def log() -> Any:
        return audit(SECONDLY, 0, START, [], START, START + 10**9)

    assert log().expected == 100_000


def told(
    *entries: Entry, mark: float = 10, definition: Definition = SECONDLY, coming: int = 0
) -> list[tuple[float, str, str]]:
    found = ticks(definition, 0, START + round(mark * 1000), entries, START, START + 10_500, coming)
    return [(round(tick.moment - START / 1000, 3), tick.state, tick.why) for tick in found]


def test_each_moment_is_told_with_what_became_of_it() -> None:
    log = [*(entry(n) for n in (1, 2)), entry(3, late=2), entry(6, "skipped", "window", 2), entry(8)]
    assert told(*log, mark=8) == [
        (1, "fired", ""),
        (2, "fired", ""),
        (3, "late", ""),
        (4, "missing", ""),
        (5, "skipped", "window"),
        (6, "skipped", "window"),
        (7, "missing", ""),
        (8, "fired", ""),
        (9, "overdue", ""),
        (10, "overdue", ""),
    ]


def test_a_tick_that_was_fired_says_when() -> None:
    found = ticks(SECONDLY, 0, START + 1000, [entry(1, late=0.25)], START, START + 1500, 0)
    assert [(tick.state, round((tick.at or 0) - tick.moment, 3)) for tick in found] == [("fired", 0.25)]


def test_the_moments_to_come_are_told_too() -> None:
    assert told(*(entry(n) for n in range(1, 11)), coming=3)[10:] == [
        (11, "coming", ""),
        (12, "coming", ""),
        (13, "coming", ""),
    ]


def test_moments_of_a_pause_are_not_told() -> None:
    log = [entry(1), entry(2), entry(2.5, "paused"), entry(8.5, "resumed"), entry(9), entry(10)]
    assert [moment for moment, *_ in told(*log)] == [1, 2, 9, 10]


def test_a_schedule_that_counts_from_completion_tells_what_was_fired() -> None:
    definition = Definition(every(seconds=1, after_completion=True), "t")
    assert told(entry(1.5), entry(4.25), definition=definition, coming=3) == [(1.5, "fired", ""), (4.25, "fired", "")]
