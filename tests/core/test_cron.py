"""Holds the cron engine against what it promises, a naive walk through local time, and three other cron libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from crondst import CronDst, CronDstError
from croniter import croniter
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from duly.core.cron import DST, Timetable, timetable
from duly.core.zone import EARLIEST, LATEST, stretch_at
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
@settings(deadline=None, max_examples=35)
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
@settings(deadline=None, max_examples=12)
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


@pytest.mark.parametrize(("zone", "year"), [("America/New_York", 2024), ("Pacific/Apia", 2011)])
def test_a_year_has_as_many_ticks_as_a_walk_by_minutes_finds(zone: str, year: int) -> None:
    both = frozenset({0, 30})
    fields = (Written("0", frozenset({0})), Written("0,30", both), Written("0-4", frozenset(range(5))))
    days = (Written("*", frozenset()),) * 3
    expression = Expression((*fields, *days), with_seconds=False, day=lambda d: True)
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    assert ticks_of(timetable(expression.text, zone), start, end) == walk(expression, zone, start, end)


# --- What may be written.


def days_of(text: str, year: int, month: int) -> list[int]:
    """The days of a month on which `0 0 TEXT` fires."""
    start = datetime(year, month, 1, tzinfo=UTC)
    end = (start + timedelta(days=31)).replace(day=1)
    return [tick.day for tick in ticks_of(timetable(f"0 0 {text}"), start, end)]


@pytest.mark.parametrize(
    ("text", "days"),  # June 2024 began on a Saturday
    [
        ("L * *", [30]),
        ("L-3,1 * *", [1, 27]),
        ("LW * *", [28]),
        ("15W,1W * *", [3, 14]),
        ("16W * *", [17]),
        ("8W,9W * *", [7, 10]),
        ("30W * *", [28]),  # the 30th is a Sunday, and 1 July is another month
        ("? * 5#2", [14]),
        ("? * FRIL,7#1", [2, 28]),
        ("? * 7L,0#2", [9, 30]),
        ("* * 6#5", [29]),
        ("13 * FRI", [7, 13, 14, 21, 28]),
        ("*/10 * MON", []),
        ("*/2 * 1", [3, 17]),
        ("28-2 * *", [1, 2, 28, 29, 30]),
        ("* * fri-Mon", [1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 17, 21, 22, 23, 24, 28, 29, 30]),
        ("? nov-jun/7 0", [2, 9, 16, 23, 30]),
        ("*/31 * 7", []),
        ("5-5/2 * *", [5]),
    ],
)
def test_the_days_of_june_2024(text: str, days: list[int]) -> None:
    assert days_of(text, 2024, 6) == days


def test_the_nearest_weekday_of_the_second_may_be_the_first_and_never_lies_in_another_month() -> None:
    assert days_of("2W * *", 2024, 3) == [1]  # the 2nd is a Saturday
    assert days_of("1W * *", 2024, 9) == [2]  # the 1st is a Sunday
    assert days_of("31W * *", 2024, 3) == [29]  # the 31st is a Sunday
    assert days_of("31W * *", 2024, 8) == [30]  # the 31st is a Saturday


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun", "7-7", "7-0", "0/7", "7/7"])
def test_sunday_has_many_names(sunday: str) -> None:
    assert days_of(f"* * {sunday}", 2024, 6) == [2, 9, 16, 23, 30]


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@WEEKLY", "0 0 * * SUN"),
        ("@daily", "0 0 * * ?"),
        ("@midnight", "0 0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_an_alias_is_its_expression(alias: str, text: str) -> None:
    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC)
    assert ticks_of(timetable(alias), start, end) == ticks_of(timetable(text), start, end) != []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("61 * * * *", 'minute "61" is not allowed: use 0-59'),
        ("* 24 * * *", 'hour "24" is not allowed: use 0-23'),
        ("* * 0 * *", 'day-of-month "0" is not allowed: use 1-31'),
        ("* * * FOO *", 'month "FOO" is not allowed: use 1-12 or JAN-DEC'),
        ("* * * * 8", 'day-of-week "8" is not allowed: use 0-7 or SUN-SAT'),
        ("60 * * * * *", 'second "60" is not allowed: use 0-59'),
        ("1,,2 * * * *", 'minute "1,,2" has an empty item'),
        ("* * 0W * *", 'day-of-month "0W" is not allowed: use 1-31'),
        ("* * 32W * *", 'day-of-month "32W" is not allowed: use 1-31'),
        ("* * L-31 * *", 'day-of-month "L-31" is not allowed: use 1-31'),
        ("* * * * 5#6", 'day-of-week "5#6" is not allowed: use 0-7'),
        ("* * * * 8#1", 'day-of-week "8#1" is not allowed: use 0-7'),
        ("* * * * 8L", 'day-of-week "8L" is not allowed: use 0-7'),
        ("*/0 * * * *", 'the step "0": a step is a whole number from 1 to 60'),
        ("*/61 * * * *", 'minute "*/61" has the step "61"'),
        ("? * * * *", 'minute "?" is not allowed'),
        ("1-2-3 * * * *", 'minute "1-2-3" is not allowed'),
        ("\u0661 * * * *", "minute"),
        ("* * L-31 * *", 'day-of-month "L-31" is not allowed'),
        ("* * * * L", "write 5L for the last Friday"),
        ("* * * * 5#6", 'day-of-week "5#6" is not allowed'),
        ("* * * *", "has 4 fields: write 5 (minute hour day-of-month month day-of-week) or 6 (second first)"),
        ("* * * * * * 2024", "has 7 fields"),
        ("@reboot", "use one of @yearly"),
        ("@every 5m", "use every()"),
        ("0 0 30 2 *", 'never fires: month "2" has no day-of-month "30"'),
        ("0 0 31 4,6,9,11 ?", "never fires"),
        ("0 0 31W FEB *", "never fires"),
        ("* " * 600, "at most 1000 characters"),
        ("* * 1,,2 * *", 'day-of-month "1,,2" has an empty item: remove the comma too many'),
        ("* * * * 1,,2", 'day-of-week "1,,2" has an empty item'),
        ("x-5 * * * *", 'minute "X-5" is not allowed'),
        ("0 0 */30 * FRI#2", 'never fires: month "*" has no day-of-month "*/30" with day-of-week "FRI#2"'),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(InvalidTrigger) as refused:
        timetable(text)
    assert words in str(refused.value)


def test_a_lone_l_among_weekdays_is_told_what_to_write() -> None:
    with pytest.raises(InvalidTrigger) as refused:
        timetable("* * * * L")
    said = 'day-of-week "L" needs a day before it: write 5L for the last Friday of the month'
    assert str(refused.value) == said


def test_seven_is_sunday_also_as_the_nth_and_the_last_of_a_month() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    for seven, zero in (("7#2", "0#2"), ("7L", "SUNL")):
        sevens = ticks_of(timetable(f"0 0 * * {seven}"), start, end)
        assert len(sevens) == 6
        assert sevens == ticks_of(timetable(f"0 0 * * {zero}"), start, end)


def test_an_unknown_alias_is_told_those_that_there_are() -> None:
    known = "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
    for text, hint in (("@reboot", ""), ("@every 5m", "; for fixed intervals use every()")):
        with pytest.raises(InvalidTrigger) as refused:
            timetable(text)
        assert str(refused.value) == f'cron alias "{text}" is not known: use one of {known}{hint}'


def test_an_expression_of_the_longest_length_is_read() -> None:
    text = "* * * * *"
    assert timetable(text.ljust(1000)).after(0) == 60_000
    with pytest.raises(InvalidTrigger, match="at most 1000 characters, got 1001"):
        timetable(text.ljust(1001))


def test_a_rare_day_is_found_however_far_away() -> None:
    leap_sunday = timetable("0 0 29 2 */7")
    assert leap_sunday.after(ms(datetime(2088, 3, 1, tzinfo=UTC))) == ms(datetime(2128, 2, 29, tzinfo=UTC))


def test_there_is_nothing_beyond_the_years_of_a_datetime() -> None:
    for zone in ("UTC", "Europe/Paris"):
        table = timetable("0 0 1 1 *", zone)
        assert table.after(10**18) is None
        assert table.before(-(10**18)) is None


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Asia/Kathmandu"])
def test_the_first_and_the_last_second_of_all_have_their_tick(zone: str) -> None:
    table, first, last = timetable("* * * * * *", zone), EARLIEST * 1000, LATEST * 1000
    assert (table.after(-(10**18)), table.before(10**18)) == (first, last)
    assert (table.after(first - 1), table.after(last - 1), table.after(last)) == (first, last, None)
    assert (table.before(first + 1), table.before(last + 1), table.before(first)) == (first, last, None)


# --- Clock changes, one by one.


def local_ticks(text: str, zone: str, day: str, days: int = 1, dst: DST = "vixie") -> list[str]:
    """The ticks of some days as local time and offset."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found = ticks_of(timetable(text, zone, dst), start, start + timedelta(days=days))
    return [f"{tick.astimezone(ZoneInfo(zone)):%d %H:%M:%S %z}" for tick in found]


def test_a_fixed_time_runs_once_on_the_gap_day() -> None:
    assert local_ticks("30 2 * * *", "Europe/Paris", "2024-03-31") == ["31 03:00:00 +0200"]
    assert local_ticks("0 30 2 * * *", "Europe/Paris", "2024-03-31") == ["31 03:00:00 +0200"]


def test_a_fixed_time_runs_once_on_the_overlap_day() -> None:
    assert local_ticks("30 2 * * *", "Europe/Paris", "2024-10-27") == ["27 02:30:00 +0200"]
    assert local_ticks("15 30 2 * * *", "Europe/Paris", "2024-10-27") == ["27 02:30:15 +0200"]


def test_several_fixed_times_in_one_gap_are_one_run() -> None:
    assert local_ticks("0,30 2,3 * * *", "Europe/Paris", "2024-03-31") == ["31 03:00:00 +0200", "31 03:30:00 +0200"]


@pytest.mark.parametrize("hours", ["*", "0/1"])
def test_an_interval_follows_elapsed_time(hours: str) -> None:
    gap = local_ticks(f"30 {hours} * * *", "Europe/Paris", "2024-03-31")
    overlap = local_ticks(f"30 {hours} * * *", "Europe/Paris", "2024-10-27")
    assert (len(gap), len(overlap)) == (23, 25)
    assert gap[1:3] == ["31 01:30:00 +0100", "31 03:30:00 +0200"]
    assert overlap[2:4] == ["27 02:30:00 +0200", "27 02:30:00 +0100"]


def test_wildcard_seconds_make_a_time_interval_like() -> None:
    assert local_ticks("*/30 30 2 * * *", "Europe/Paris", "2024-03-31") == []
    assert len(local_ticks("*/30 30 2 * * *", "Europe/Paris", "2024-10-27")) == 4


def test_literal_skips_what_is_in_a_gap_and_repeats_what_is_in_an_overlap() -> None:
    assert local_ticks("30 2 * * *", "Europe/Paris", "2024-03-31", dst="literal") == []
    twice = ["27 02:30:00 +0200", "27 02:30:00 +0100"]
    assert local_ticks("30 2 * * *", "Europe/Paris", "2024-10-27", dst="literal") == twice


@pytest.mark.parametrize(
    ("zone", "text", "day", "expected"),
    [
        ("Australia/Lord_Howe", "10,40 2 * * *", "2024-10-06", ["06 02:30:00 +1100", "06 02:40:00 +1100"]),
        ("Australia/Lord_Howe", "10,40 1 * * *", "2024-04-07", ["07 01:10:00 +1100", "07 01:40:00 +1100"]),
        ("Africa/Cairo", "0 0 * * *", "2024-04-26", ["26 01:00:00 +0300"]),
        ("Africa/Casablanca", "30 2 * * *", "2024-03-10", ["10 02:30:00 +0100"]),
        ("Africa/Casablanca", "30 2 * * *", "2024-04-14", ["14 03:00:00 +0100"]),
        ("Antarctica/Troll", "0 2 * * *", "2024-03-31", ["31 03:00:00 +0200"]),
        ("Antarctica/Troll", "0 2 * * *", "2024-10-27", ["27 02:00:00 +0200"]),
        ("Europe/Dublin", "30 1 * * *", "2024-10-27", ["27 01:30:00 +0100"]),
        ("America/New_York", "30 2 * * *", "2024-03-10", ["10 03:00:00 -0400"]),
    ],
)
def test_a_fixed_time_runs_once_in_odd_zones(zone: str, text: str, day: str, expected: list[str]) -> None:
    assert local_ticks(text, zone, day) == expected


def test_a_fixed_time_of_an_absent_day_runs_when_the_next_day_begins() -> None:
    ticks = local_ticks("0 9 * * *", "Pacific/Apia", "2011-12-29", days=3)
    assert ticks == ["29 09:00:00 -1000", "31 00:00:00 +1400", "31 09:00:00 +1400"]


# --- Laws.


@given(expressions(seconds=True, wrap=True, special=True), zones, st.integers(-(10**12), 4 * 10**12))
@settings(deadline=None, max_examples=60)
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
@settings(deadline=None, max_examples=60)
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
@settings(deadline=None, max_examples=40)
def test_in_utc_both_rules_give_the_same_ticks(expression: Expression, moment: int) -> None:
    compiled(expression.text)
    assert timetable(expression.text, "UTC", "literal").after(moment) == timetable(expression.text).after(moment)


# --- Other libraries. Each difference we know of is named where it is set aside.


def read_alike(expression: Expression) -> bool:
    """Whether the others read day-of-week as we do.

    `a/n` runs to 7 for them, so that 1/3 (MON, THU) has a Sunday too. Our field ends with Saturday, as `*/n` does for
    everybody.
    """
    items = expression.text.split()[-1].split(",")
    return not any("/" in item and "-" not in item and "*" not in item for item in items)


seconds_of_years = st.integers(0, 2 * 10**9)


@given(expressions() | expressions(seconds=True), seconds_of_years)
@settings(deadline=None, max_examples=50)
def test_cronsim_agrees_in_utc_forwards_and_backwards(expression: Expression, second: int) -> None:
    assume(read_alike(expression))
    table, start = compiled(expression.text), datetime.fromtimestamp(second, UTC)
    for reverse, step in ((False, table.after), (True, table.before)):
        moment = ms(start)
        for theirs in islice(CronSim(expression.text, start, reverse=reverse), 4):
            moment = step(moment) or 0
            assert moment == ms(theirs)


@given(expressions(wrap=True) | expressions(seconds=True), seconds_of_years)
@settings(deadline=None, max_examples=50)
def test_croniter_agrees_in_utc(expression: Expression, second: int) -> None:
    # In zones it is no measure: it fires a fixed 01:30 twice in an overlap.
    assume(read_alike(expression))
    # Its steps stumble when a range wraps around: 23-5/5 minutes are 58 and 4 there, where 58 + 5 makes 3.
    assume(not any(int(a) > int(b) for a, b in re.findall(r"(\d+)-(\d+)/", expression.text)))
    table, start = compiled(expression.text), datetime.fromtimestamp(second, UTC)
    # Without `implement_cron_bug`, `*/2` in a day field would count as restricted there.
    theirs = croniter(expression.text, start, datetime, second_at_beginning=True, implement_cron_bug=True)
    moment = ms(start)
    for _ in range(4):
        moment = table.after(moment) or 0
        assert moment == ms(theirs.get_next())


def peers(expression: Expression, start: datetime, zone: str) -> Iterator[Iterator[datetime]]:
    """Those of the two that know what to do here."""
    info = ZoneInfo(zone)
    jumps = {
        c.astimezone(info).utcoffset() - (c - MINUTE).astimezone(info).utcoffset() for c in changes(zone, start.year)
    }
    # cronsim reads a start in the second half of an overlap as if it were the first, for fixed times; and it walks
    # wildcard hours by 3600 seconds, which goes astray where the clock moves by half an hour (Lord Howe).
    by_hours = all(jump % timedelta(hours=1) == timedelta(0) for jump in jumps)
    if not start.fold if expression.fixed() else by_hours:
        yield CronSim(expression.text, start)
    # crondst loops for ever in a two-hour overlap (Troll) and counts on changes of one hour; it refuses `* * * 9 *`, for
    # its star means day 31 too.
    if all(abs(jump) == timedelta(hours=1) for jump in jumps):
        with suppress(CronDstError):
            yield CronDst(expression.text).iter(start)


@given(expressions(steps=False), zones, st.integers(1971, 2036), st.integers(-40, 4), st.data())
@settings(deadline=None, max_examples=40)
def test_cronsim_and_crondst_agree_around_clock_changes(
    expression: Expression, zone: str, year: int, hours: int, data: st.DataObject
) -> None:
    # Steps without a star (0/15, 0-8/2) are left out: they are interval-like for us only, see cron.py.
    assume(read_alike(expression))
    found = changes(zone, year)
    change = data.draw(st.sampled_from(found)) if found else datetime(year, 6, 1, tzinfo=UTC)
    start = change + timedelta(hours=hours)
    end = start + timedelta(hours=48)
    ours = ticks_of(compiled(expression.text, zone), start + timedelta(seconds=1), end)
    for peer in peers(expression, start.astimezone(ZoneInfo(zone)), zone):
        assert [t.astimezone(UTC) for t in takewhile(lambda t: t.timestamp() < end.timestamp(), peer)] == ours


# --- edges that mutants showed unheld -----------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ODD_ZONES)
@pytest.mark.parametrize("expression", ["0 3 * * *", "30 2 * * *", "*/30 * * * *", "0 0 * * *"])
def test_an_answer_does_not_depend_on_the_questions_before_it(zone: str, expression: str) -> None:
    asked = compiled(expression, zone)
    second = ms(datetime(2024, 1, 1, tzinfo=UTC)) // 1000
    for _ in range(4):
        start, end, *_ = stretch_at(ZoneInfo(zone), second)
        for near in (end - 1, end, end + 1, end + 3600):
            for question in ("after", "before"):
                for moment in (near * 1000, near * 1000 + 1):
                    fresh = timetable.__wrapped__(expression, zone)  # type: ignore[attr-defined]
                    wanted = getattr(fresh, question)(moment)
                    for known in (start, end - 1, end):  # which stretch of the zone it has in mind
                        asked.after(known * 1000)
                        assert getattr(asked, question)(moment) == wanted
        second = end


def test_days_from_the_end_and_weekdays_are_of_their_own_month() -> None:
    year = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
    firsts = list(ticks_of(compiled("0 0 L-30 * *"), *year))
    assert [(day.month, day.day) for day in firsts] == [(month, 1) for month in (1, 3, 5, 7, 8, 10, 12)]
    found = [(day.month, day.day) for day in ticks_of(compiled("0 0 15,LW * *"), *year)][:8]
    assert found == [(1, 15), (1, 31), (2, 15), (2, 29), (3, 15), (3, 29), (4, 15), (4, 30)]


def test_beyond_the_years_that_there_are_nothing_fires() -> None:
    table = compiled("0 0 1 1 *")
    assert table.after(ms(datetime(9999, 1, 1, tzinfo=UTC))) is None
    assert table.before(ms(datetime(1, 1, 1, tzinfo=UTC))) is None


@pytest.mark.parametrize(("seven", "zero"), [("7#2", "0#2"), ("7L", "0L"), ("sun#1", "0#1"), ("7", "0")])
def test_sunday_is_seven_too(seven: str, zero: str) -> None:
    year = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
    found = ticks_of(compiled(f"0 0 * * {seven}"), *year)
    assert found == ticks_of(compiled(f"0 0 * * {zero}"), *year)
    assert {day.weekday() for day in found} == {6}
