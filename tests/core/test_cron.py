"""Holds the cron engine against what it promises, a naive walk through local time, and three other cron libraries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

import pytest
from crondst import CronDst
from croniter import croniter
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from duly.core.cron import Timetable, timetable
from duly.errors import InvalidTrigger
from tests.core.cron_expressions import MINUTE, Expression, Written, changes, expressions, walk

ODD_ZONES = [
    "Australia/Lord_Howe",  # moves by half an hour
    "Pacific/Apia",  # had no 30 December 2011
    "Africa/Cairo",  # its gap begins at midnight
    "Africa/Casablanca",  # leaves its summer offset during Ramadan
    "Antarctica/Troll",  # moves by two hours
    "Europe/Dublin",  # its winter time is the "saving" one
    "America/New_York",
    "Asia/Kathmandu",  # no changes, and a quarter of an hour in its offset
]
zones = st.sampled_from(ODD_ZONES) | st.sampled_from(sorted(available_timezones() - {"localtime", "posixrules"}))


def compiled(text: str, zone: str = "UTC") -> Timetable:
    """The timetable; a generated expression that never fires is set aside."""
    try:
        return timetable(text, zone)
    except InvalidTrigger as error:
        if "never fires" not in str(error):
            raise
        assume(False)
        raise


def ms(moment: datetime) -> int:
    return round(moment.timestamp()) * 1000


def ticks_of(table: Timetable, start: datetime, end: datetime) -> list[datetime]:
    """The engine's ticks in [start, end)."""
    found, moment = [], table.after(ms(start) - 1)
    while moment is not None and moment < ms(end):
        found.append(datetime.fromtimestamp(moment / 1000, UTC))
        moment = table.after(moment)
    return found


def backwards(table: Timetable, start: datetime, end: datetime) -> list[datetime]:
    """The same, found from the end."""
    found, moment = [], table.before(ms(end))
    while moment is not None and moment >= ms(start):
        found.append(datetime.fromtimestamp(moment / 1000, UTC))
        moment = table.before(moment)
    return found[::-1]


@given(expressions(wrap=True, special=True), zones, st.integers(1971, 2040), st.data())
@settings(deadline=None, max_examples=80)
def test_ticks_around_a_clock_change_are_those_of_a_walk_by_minutes(
    expression: Expression, zone: str, year: int, data: st.DataObject
) -> None:
    found = changes(zone, year)
    change = data.draw(st.sampled_from(found)) if found else datetime(year, 6, 1, tzinfo=UTC)
    start, end = change - timedelta(hours=27), change + timedelta(hours=27)
    for dst in ("vixie", "literal"):
        compiled(expression.text, zone)
        table = timetable(expression.text, zone, dst)
        expected = walk(expression, zone, start, end, literal=dst == "literal")
        assert ticks_of(table, start, end) == expected
        assert backwards(table, start, end) == expected


@given(expressions(seconds=True), zones, st.integers(1971, 2040), st.data())
@settings(deadline=None, max_examples=25)
def test_ticks_with_seconds_are_those_of_a_walk_by_seconds(
    expression: Expression, zone: str, year: int, data: st.DataObject
) -> None:
    found = changes(zone, year)
    assume(found)
    change = data.draw(st.sampled_from(found))
    table = compiled(expression.text, zone)
    # Two hours on either side; Apia's day and Troll's two hours are walked by minutes above.
    start, end = change - timedelta(hours=2), change + timedelta(hours=2)
    assert ticks_of(table, start, end) == walk(expression, zone, start, end)


@pytest.mark.parametrize(
    ("zone", "year"), [("America/New_York", 2024), ("Africa/Casablanca", 2023), ("Pacific/Apia", 2011)]
)
def test_a_year_has_as_many_ticks_as_a_walk_by_minutes_finds(zone: str, year: int) -> None:
    both = frozenset({0, 30})
    fields = (Written("0", frozenset({0})), Written("0,30", both), Written("0-4", frozenset(range(5))))
    days = (Written("*", frozenset()),) * 3
    expression = Expression((*fields, *days), with_seconds=False, day=lambda d: True)
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    assert ticks_of(timetable(expression.text, zone), start, end) == walk(expression, zone, start, end)


# --- Laws.


@given(expressions(seconds=True, wrap=True, special=True), zones, st.integers(-(10**12), 4 * 10**12))
@settings(deadline=None, max_examples=150)
def test_after_and_before_are_strict_and_inverse(expression: Expression, zone: str, moment: int) -> None:
    table = compiled(expression.text, zone)
    later, earlier = table.after(moment), table.before(moment)
    assert later is not None
    assert earlier is not None
    assert earlier < moment < later
    assert table.before(later + 1) == later == table.after(later - 1)
    assert table.after(earlier) in (later, moment)
    assert table.before(later) in (earlier, moment)


@given(st.sampled_from(ODD_ZONES[:-1]), st.integers(1985, 2037), st.data())
@settings(deadline=None, max_examples=100)
def test_every_local_moment_in_a_gap_runs_at_the_first_moment_after_it(
    zone: str, year: int, data: st.DataObject
) -> None:
    info = ZoneInfo(zone)
    gaps = [
        c for c in changes(zone, year) if (c - MINUTE).astimezone(info).utcoffset() < c.astimezone(info).utcoffset()
    ]
    assume(gaps)
    end = data.draw(st.sampled_from(gaps))
    first = (end - MINUTE).astimezone(info).replace(tzinfo=None) + MINUTE
    length = end.astimezone(info).replace(tzinfo=None) - first
    local = first + data.draw(st.integers(0, length // MINUTE - 1)) * MINUTE
    table = timetable(f"{local.minute} {local.hour} {local.day} {local.month} ?", zone)
    for before in (1, 1000, 60_000, 3_600_000):
        assert table.after(ms(end) - before) == ms(end)
    assert table.before(ms(end) + 1) == ms(end)
    later = table.after(ms(end))
    assert later is not None
    assert later > ms(end) + 86_400_000 * 300


@given(expressions(special=True), st.integers(0, 2 * 10**12))
@settings(deadline=None, max_examples=100)
def test_in_utc_both_rules_give_the_same_ticks(expression: Expression, moment: int) -> None:
    compiled(expression.text)
    assert timetable(expression.text, "UTC", "literal").after(moment) == timetable(expression.text).after(moment)


# --- Other libraries. Each difference we know of is named where it is set aside.


def same_as_peers(expression: Expression) -> bool:
    """Whether the three read the text as we do.

    In day-of-week, `a/n` runs to 7 for them, so that 1/3 (MON, THU) has a Sunday too. Our field ends with Saturday, like
    `*/n` for everybody.
    """
    text = expression.text.split()[-1]
    return not any("/" in item and "-" not in item and "*" not in item for item in text.split(","))


seconds_of_years = st.integers(0, 2 * 10**9)


@given(expressions() | expressions(seconds=True), seconds_of_years)
@settings(deadline=None, max_examples=120)
def test_cronsim_agrees_in_utc_forwards_and_backwards(expression: Expression, second: int) -> None:
    assume(same_as_peers(expression))
    table, start = compiled(expression.text), datetime.fromtimestamp(second, UTC)
    moment = ms(start)
    for theirs in islice(CronSim(expression.text, start), 4):
        moment = table.after(moment) or 0
        assert moment == ms(theirs)
    moment = ms(start)
    for theirs in islice(CronSim(expression.text, start, reverse=True), 4):
        moment = table.before(moment) or 0
        assert moment == ms(theirs)


@given(expressions(wrap=True) | expressions(seconds=True), seconds_of_years)
@settings(deadline=None, max_examples=120)
def test_croniter_agrees_in_utc(expression: Expression, second: int) -> None:
    # In zones it is no measure: it fires a fixed 01:30 twice in an overlap.
    assume(same_as_peers(expression))
    table, start = compiled(expression.text), datetime.fromtimestamp(second, UTC)
    # Without `implement_cron_bug`, `*/2` in a day field would count as restricted there.
    theirs = croniter(expression.text, start, datetime, second_at_beginning=True, implement_cron_bug=True)
    moment = ms(start)
    for _ in range(4):
        moment = table.after(moment) or 0
        assert moment == ms(theirs.get_next())


@given(expressions(steps=False), zones, st.integers(1971, 2036), st.integers(-40, 40), st.data())
@settings(deadline=None, max_examples=150)
def test_cronsim_and_crondst_agree_around_clock_changes(
    expression: Expression, zone: str, year: int, hours: int, data: st.DataObject
) -> None:
    # Steps without a star (0/15, 0-8/2) are left out: they are interval-like for us only, see cron.py.
    assume(same_as_peers(expression))
    found, info = changes(zone, year), ZoneInfo(zone)
    change = data.draw(st.sampled_from(found)) if found else datetime(year, 6, 1, tzinfo=UTC)
    start = (change + timedelta(hours=hours)).astimezone(info)
    table = compiled(expression.text, zone)
    ours = ticks_of(table, start + timedelta(seconds=1), start + timedelta(hours=60))
    for peer in (CronSim(expression.text, start), CronDst(expression.text).iter(start)):
        theirs = []
        for tick in peer:
            if tick.timestamp() >= start.timestamp() + 60 * 3600:
                break
            theirs.append(tick.astimezone(UTC))
        assert ours == theirs, type(peer)
