"""Unions, exclusions and bounds of triggers, held against the plain thought: all moments, one by one, filtered."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duly.core.calendar import Days, days
from duly.core.trigger import AnyOf, Between, Cron, Except, Trigger, at, cron, every, pinned
from duly.errors import InvalidTrigger

START = datetime(2026, 3, 27, tzinfo=UTC)  # Friday; the clocks of Paris go forward on Sunday the 29th
START_MS = int(START.timestamp() * 1000)
SPAN_MS = 6 * 86_400_000
PARIS = ZoneInfo("Europe/Paris")

simple = st.sampled_from(
    [
        cron("0 */3 * * *", timezone="Europe/Paris"),
        cron("30 2 * * *", timezone="Europe/Paris"),
        cron("15 9-17 * * mon-fri", timezone="America/New_York"),
        every(hours=5, start=START),
        every(minutes=90, start=0),
        at(datetime(2026, 3, 29, 12, tzinfo=UTC)),
    ]
)
exclusions = st.lists(
    st.sampled_from(
        ["sat", "Sunday", "mon", "2026-03-28", date(2026, 3, 29), cron("* 0-6 * * *", timezone="Europe/Paris"),
         cron("* * 30 * *"), cron("*/2 12-13 * * *"), cron("30 15 9 * * *", timezone="America/New_York")]
    ), min_size=1, max_size=4,
)  # fmt: skip


def walk(trigger: Trigger) -> list[int]:
    return list(trigger.moments(START_MS - 1, START_MS + SPAN_MS))


def walk_back(trigger: Trigger) -> list[int]:
    found, moment = [], trigger.before(START_MS + SPAN_MS + 1)
    while moment is not None and moment >= START_MS:
        found.append(moment)
        moment = trigger.before(moment)
    return found[::-1]


def is_excluded(moment: int, what: Any, zone: str) -> bool:
    """By the calendar on the wall, without the code under test."""
    if isinstance(what, Cron):
        local = datetime.fromtimestamp(moment // 1000, ZoneInfo(what.timezone))
        unit = {"second": 0} if len(what.expression.split()) == 5 else {}
        floor = int(local.replace(microsecond=0, **unit).timestamp()) * 1000
        literal = cron(what.expression, timezone=what.timezone, dst="literal")
        return literal.after(floor - 1) == floor
    local = datetime.fromtimestamp(moment / 1000, ZoneInfo(zone))
    if isinstance(what, date):
        return local.date() == what
    if what[0].isdigit():
        return local.date() == date.fromisoformat(what)
    return local.strftime("%A").lower().startswith(what.lower())


@given(st.lists(simple, min_size=2, max_size=4))
def test_a_union_has_the_moments_of_each_once(parts: list[Trigger]) -> None:
    union = AnyOf(tuple(parts))
    expected = sorted({moment for part in parts for moment in walk(part)})
    assert walk(union) == walk_back(union) == expected
    assert union.count(START_MS - 1, START_MS + SPAN_MS) == len(expected)


@settings(max_examples=200)
@given(simple, exclusions)
def test_what_is_excluded_is_left_out_and_nothing_else(trigger: Trigger, what: list[Any]) -> None:
    zone = getattr(trigger.zone, "key", "UTC")
    expected = [moment for moment in walk(trigger) if not any(is_excluded(moment, one, zone) for one in what)]
    excepted = trigger.excluding(*what)
    assert walk(excepted) == walk_back(excepted) == expected


@given(simple, st.integers(0, SPAN_MS), st.integers(0, SPAN_MS))
def test_bounds_keep_what_lies_between_them_both_included(trigger: Trigger, one: int, other: int) -> None:
    start, end = START_MS + min(one, other), START_MS + max(one, other)
    bounded = Between(trigger, start, end)
    expected = [moment for moment in walk(trigger) if start <= moment <= end]
    assert walk(bounded) == walk_back(bounded) == expected
    assert bounded.count(START_MS - 1, START_MS + SPAN_MS) == len(expected)
    assert bounded.after(end) is None
    assert bounded.before(start) is None


@given(simple, simple, exclusions)
def test_combinations_are_values_that_travel(one: Trigger, other: Trigger, what: list[Any]) -> None:
    trigger = ((one | other).excluding(*what) | one).between(START, START + timedelta(days=3))
    packed = msgspec.msgpack.encode(trigger)
    back = msgspec.msgpack.decode(packed, type=Trigger)
    assert back == trigger
    assert hash(back) == hash(trigger)
    assert msgspec.msgpack.encode(back) == packed
    assert walk(back) == walk(trigger)


def test_words() -> None:
    trigger = cron("0 9 * * *", timezone="Europe/Paris").excluding("sun", "2026-12-25") | every(hours=7, start=0)
    assert trigger.between(end=datetime(2027, 1, 3, tzinfo=UTC)).describe() == (
        "at 09:00, Europe/Paris, except Sunday, 2026-12-25 (Europe/Paris); "
        "or every 7 hours, from 1970-01-01 00:00:00 UTC, until 2027-01-03 00:00:00 UTC"
    )
    assert trigger.zone == PARIS


def test_a_union_of_unions_is_one_union() -> None:
    a, b, c = cron("0 1 * * *"), cron("0 2 * * *"), cron("0 3 * * *")
    assert (a | b) | c == a | (b | c) == AnyOf((a, b, c))


def test_days_of_an_interval_are_those_of_the_zone_that_is_named() -> None:
    hourly = every(hours=1, start=0)
    tokyo = hourly.excluding("sat", timezone="Asia/Tokyo")
    assert datetime.fromtimestamp((tokyo.after(START_MS + 14 * 3_600_000) or 0) / 1000, ZoneInfo("Asia/Tokyo")) == (
        datetime(2026, 3, 29, tzinfo=ZoneInfo("Asia/Tokyo"))
    )


def test_what_is_excluded_ends_with_its_last_millisecond() -> None:
    saturday, sunday = START_MS + 86_400_000, START_MS + 2 * 86_400_000
    crowded = every(milliseconds=1, start=0).excluding("sat")
    assert (crowded.after(saturday - 1), crowded.before(sunday)) == (sunday, saturday - 1)


def test_an_exclusion_of_months_is_passed_over_quickly() -> None:
    trigger = every(seconds=1, start=0).excluding(cron("* * * 1-11 *"))
    assert trigger.after(START_MS) == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)


def test_a_trigger_of_which_nothing_is_left_has_ended() -> None:
    assert cron("0 9 * * sat").excluding("sat").after(START_MS) is None
    assert cron("0 9 * * sat").excluding("sat").before(START_MS) is None


def test_the_first_moment_is_known_through_combinations() -> None:
    begun = every(hours=1, start=START)
    assert (cron("0 9 * * *") | begun).first(0) == START_MS
    assert begun.excluding("sun").first(0) == START_MS
    assert begun.between(START + timedelta(minutes=1)).first(0) is None
    assert every(hours=1, start="now").between().first(7) == 7
    assert every(hours=1, start="now").excluding("sun").first(7) == 7
    assert (cron("0 9 * * *") | every(hours=1, start="now")).first(7) == 7
    assert (cron("0 9 * * *") | cron("0 10 * * *")).first(7) is None
    crowded = every(milliseconds=1) | begun
    assert crowded.between(START - timedelta(days=1)).first(START_MS - 5000) == START_MS
    assert cron("0 9 * * *").first(0) is None


ANCHOR = START_MS + 1_234
ANCHORED = pytest.mark.parametrize(
    "trigger",
    [
        every(hours=5),
        every(hours=5, start="now"),
        every(hours=5, align=3600),
        every(hours=5, start=START),
        cron("0 */3 * * *") | every(hours=5) | every(hours=7, start="now"),
        every(hours=5) | every(hours=7),
        every(hours=5).excluding("sat"),
        every(hours=5, start="now").between(START, START + timedelta(days=2)),
        (every(hours=5).excluding("sat") | at(START + timedelta(hours=1))).between(START + timedelta(hours=2)),
        cron("0 */3 * * *"),
        at(START + timedelta(days=1)),
    ],
    ids=lambda trigger: trigger.describe(),
)


@ANCHORED
def test_a_pinned_trigger_has_the_moments_it_had_whatever_the_anchor(trigger: Trigger) -> None:
    expected = list(trigger.moments(START_MS - 1, START_MS + SPAN_MS, ANCHOR))
    assert expected
    for anchor in (0, START_MS + 99_999):
        assert list(pinned(trigger, ANCHOR).moments(START_MS - 1, START_MS + SPAN_MS, anchor)) == expected


@ANCHORED
def test_every_question_is_answered_from_the_anchor(trigger: Trigger) -> None:
    fixed, hour = pinned(trigger, ANCHOR), 3_600_000
    for moment in range(START_MS, START_MS + SPAN_MS, 7 * hour):
        assert trigger.after(moment, ANCHOR) == fixed.after(moment)
        assert trigger.before(moment, ANCHOR) == fixed.before(moment)
        assert trigger.count(START_MS, moment, ANCHOR) == fixed.count(START_MS, moment)
    start = START + timedelta(minutes=1)
    assert trigger.upcoming(3, start, ANCHOR) == fixed.upcoming(3, start)


@ANCHORED
def test_without_an_anchor_an_interval_counts_from_the_epoch(trigger: Trigger) -> None:
    assert list(trigger.moments(START_MS, START_MS + SPAN_MS)) == list(trigger.moments(START_MS, START_MS + SPAN_MS, 0))
    assert trigger.after(START_MS) == trigger.after(START_MS, 0)
    assert trigger.before(START_MS + SPAN_MS) == trigger.before(START_MS + SPAN_MS, 0)
    assert trigger.count(START_MS, START_MS + SPAN_MS) == trigger.count(START_MS, START_MS + SPAN_MS, 0)
    assert trigger.upcoming(3, START) == trigger.upcoming(3, START, 0)


def test_bounds_are_kept_to_the_millisecond_and_count_no_further_than_they_are_asked() -> None:
    bounded = every(milliseconds=1, start=0).between(START, START + timedelta(milliseconds=5))
    everything = list(range(START_MS, START_MS + 6))
    assert walk(bounded) == walk_back(bounded) == everything
    assert (bounded.after(START_MS - 10), bounded.before(START_MS + 10)) == (START_MS, START_MS + 5)
    assert bounded.count(START_MS - 10, START_MS + 10) == 6
    assert bounded.count(START_MS + 10, START_MS - 10) == bounded.count(START_MS, START_MS) == 0
    assert cron("* * * * *").between(START).count(START_MS, START_MS + SPAN_MS, limit=100) == 100
    assert every(milliseconds=1, start=0).between(end=START).count(START_MS - 10, START_MS + 10) == 10
    assert every(milliseconds=1, start=0).between(START).count(START_MS - 10, START_MS + 10) == 11


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (every(hours=1).between(), "every hour"),
        (every(hours=1).between(START), "every hour, from 2026-03-27 00:00:00 UTC"),
        (
            every(hours=1).between(START, START + timedelta(days=1)),
            "every hour, from 2026-03-27 00:00:00 UTC, until 2026-03-28 00:00:00 UTC",
        ),
        (
            every(hours=1).excluding("sat", cron("* 0-6 * * *")),
            "every hour, except Saturday (UTC); every minute, during hours 0 through 6, UTC",
        ),
    ],
)
def test_a_combination_says_what_it_adds(trigger: Trigger, words: str) -> None:
    assert trigger.describe() == words


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: cron("0 9 * * *").excluding(), "excluding"),
        (lambda: cron("0 9 * * *").excluding("satturday"), "'satturday'.*did you mean 'saturday'"),
        (lambda: cron("0 9 * * *").excluding("sa"), "'sa'"),
        (lambda: cron("0 9 * * *").excluding("2026-13-01"), "write 2026-12-25"),
        (lambda: cron("0 9 * * *").excluding(START), "is no day"),
        (lambda: cron("0 9 * * *").excluding(7), "7 is no day"),
        (lambda: cron("0 9 * * *").excluding("mon", "tue", "wed", "thu", "fri", "sat", "sun"), "one to six"),
        (lambda: cron("0 9 * * *").excluding("mon", timezone="Mars/Olympus"), "Mars/Olympus"),
        (lambda: cron("0 9 * * *").between(START, START - timedelta(days=1)), "is after end"),
        (lambda: cron("0 9 * * *").between(datetime(2026, 1, 1)), "without a time zone"),
        (lambda: cron("0 9 * * *") | "0 10 * * *", "is no trigger"),
        (lambda: cron("0 9 * * *") | every(hours=1, after_completion=True), "after_completion"),
        (lambda: AnyOf((cron("0 9 * * *"),)), "from 2"),
        (lambda: AnyOf((cron("0 9 * * *"),) * 101), "from 2 to 100"),
        (lambda: Days(dates=("2026-01-01",) * 2001), "2001 dates.*at most 2000"),
        (lambda: Days((7,)), "weekdays=.7,."),
        (lambda: Days((-1,)), "weekdays=.-1,."),
        (lambda: Days(timezone="Mars/Olympus"), "Mars/Olympus"),
        (lambda: cron("0 9 * * *").excluding("2026-02-28", "2026-02-30"), "'2026-02-30' is no date.*write 2026-12-25"),
        (lambda: Days(dates=(20261225,)), "20261225 is no date"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, complaint: str) -> None:
    with pytest.raises(InvalidTrigger, match=complaint):
        make()


def at_ms(text: str, zone: str = "Europe/Paris") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("calendar", "begin", "end", "pieces"),
    [  # the clocks of Paris go forward at two o'clock on Sunday the 29th: what is excluded is cut there
        (Days((0,), timezone="Europe/Paris"), "2026-03-29T00:00", "2026-03-30T00:00", 2),
        (Days((6,), timezone="Europe/Paris"), "2026-03-28T00:00", "2026-03-29T00:00", 1),
        (Days(dates=("2026-03-28",), timezone="Europe/Paris"), "2026-03-28T00:00", "2026-03-29T00:00", 1),
        (cron("* * 28 3 *", timezone="Europe/Paris"), "2026-03-28T00:00", "2026-03-29T00:00", 1),
        (cron("* * * * * SUN#5", timezone="Europe/Paris"), "2026-03-29T00:00", "2026-03-30T00:00", 2),
        (cron("* 22-23 28 3 *", timezone="Europe/Paris"), "2026-03-28T22:00", "2026-03-29T00:00", 2),
        (cron("58-59 23 28 3 *", timezone="Europe/Paris"), "2026-03-28T23:58", "2026-03-29T00:00", 2),
        (cron("7 * 28 3 *", timezone="Europe/Paris"), "2026-03-28T09:07", "2026-03-28T09:08", 1),
        (cron("30-31 7 9 28 3 *", timezone="Europe/Paris"), "2026-03-28T09:07:30", "2026-03-28T09:07:32", 2),
        (cron("* 7 9 28 3 *", timezone="Europe/Paris"), "2026-03-28T09:07", "2026-03-28T09:08", 1),
    ],
    ids=lambda value: value.describe() if isinstance(value, Days | Cron) else str(value),
)
def test_what_a_calendar_names_lasts_from_its_first_to_its_last_millisecond(
    calendar: Days | Cron, begin: str, end: str, pieces: int
) -> None:
    moment, found = at_ms(begin), []
    assert calendar.around(moment - 1) is None
    while around := calendar.around(moment):
        assert around == calendar.around(around[0]) == calendar.around(around[1] - 1)
        assert around[0] == moment
        found.append(around)
        moment = around[1]
    assert (moment, len(found)) == (at_ms(end), pieces)


@pytest.mark.parametrize(
    ("names", "weekdays"),
    [
        (["sun"], (0,)),
        (["Sunday", "SUN", "sund"], (0,)),
        (["tue", "thu", "Saturday"], (2, 4, 6)),
        (["mon", "tue", "wed", "thu", "fri", "sat"], (1, 2, 3, 4, 5, 6)),
    ],
)
def test_a_weekday_is_named_by_three_letters_or_more(names: list[str], weekdays: tuple[int, ...]) -> None:
    assert days(names, "UTC") == Days(weekdays)


def test_dates_are_given_as_dates_or_as_texts_and_each_counts_once() -> None:
    found = days([date(2026, 12, 25), "2026-01-01", "2026-12-25", "sun"], "Europe/Paris")
    assert found == Days((0,), ("2026-01-01", "2026-12-25"), "Europe/Paris")
    assert found.describe() == "Sunday, 2026-01-01, 2026-12-25 (Europe/Paris)"


def test_as_many_dates_as_are_allowed_are_taken() -> None:
    assert len(Days(dates=("2026-01-01",) * 2000).dates) == 2000
    assert len(AnyOf((cron("0 9 * * *"),) * 100).triggers) == 100


def test_an_exclusion_of_an_exclusion_excludes_both() -> None:
    twice = every(hours=1, start=0).excluding("sat").excluding("sun")
    assert isinstance(twice, Except)
    assert {datetime.fromtimestamp(m / 1000, UTC).weekday() for m in walk(twice)} == {0, 1, 2, 3, 4}
