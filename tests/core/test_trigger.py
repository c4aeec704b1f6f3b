"""Triggers as values: their moments, their encoding, their words, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from duly.core.moments import FIRST, LAST
from duly.core.trigger import At, Cron, Every, Trigger, at, cron, every
from duly.errors import InvalidTrigger

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
NOON_MS = 1_704_110_400_000
DAY_MS = 86_400_000

starts = st.none() | st.just("now") | st.integers(-(10**6), 10**6)
everys = st.builds(Every, st.integers(1, 5000), starts, st.none() | st.integers(1, 5000), st.booleans())
moments = st.integers(-(10**6), 2 * 10**6)
triggers = (
    everys
    | st.builds(At, moments)
    | st.just(cron("*/7 * * * * *"))
    | st.just(cron("5 1,2 * * *", timezone="Europe/Paris"))
)


# --- every()


def test_the_first_moment_is_one_interval_after_the_anchor() -> None:
    assert list(every(seconds=10).moments(NOON_MS - 1, NOON_MS + 20_000, anchor=NOON_MS)) == [
        NOON_MS + 10_000,
        NOON_MS + 20_000,
    ]


def test_start_now_fires_at_once() -> None:
    assert list(every(seconds=10, start="now").moments(NOON_MS - 1, NOON_MS + 10_000, anchor=NOON_MS)) == [
        NOON_MS,
        NOON_MS + 10_000,
    ]


@pytest.mark.parametrize(
    "start", [NOON, NOON.timestamp(), int(NOON.timestamp()), NOON.astimezone(ZoneInfo("Asia/Tokyo"))]
)
def test_a_start_of_its_own_is_the_first_moment_whatever_the_anchor(start: Any) -> None:
    trigger = every(minutes=1, start=start)
    assert trigger == Every(60_000, NOON_MS)
    assert trigger.after(0, anchor=5) == NOON_MS
    assert trigger.after(NOON_MS, anchor=5) == NOON_MS + 60_000
    assert trigger.before(NOON_MS + 1) == NOON_MS
    assert trigger.before(NOON_MS) is None


def test_aligned_moments_are_rounded_up_and_stay_apart() -> None:
    trigger = every(seconds=90, align=60)
    found = trigger.moments(NOON_MS, NOON_MS + 400_000, anchor=NOON_MS + 1)
    assert [(moment - NOON_MS) // 60_000 for moment in found] == [2, 4, 5]


def test_aligned_moments_that_meet_are_one() -> None:
    trigger = every(seconds=20, align=60)
    assert list(islice(trigger.moments(0, 10**9, anchor=0), 3)) == [60_000, 120_000, 180_000]


def test_after_completion_counts_from_the_end_of_the_last_run() -> None:
    trigger = every(seconds=10, start=1000, after_completion=True)
    assert trigger.after(0, anchor=5) == 1_000_000
    assert trigger.after(1_003_500, anchor=1_003_500) == 1_013_500
    assert every(seconds=10, after_completion=True, start="now").after(3_500, anchor=3_500) == 13_500


def test_parts_of_an_interval_add_up() -> None:
    assert every(weeks=1, days=1, hours=1, minutes=1, seconds=1, milliseconds=1).interval == 694_861_001
    assert every(timedelta(hours=1), seconds=0.25).interval == 3_600_250
    assert every(seconds=0.1) == every(milliseconds=100) == every(timedelta(milliseconds=100))


def test_ten_million_moments_are_counted_at_once() -> None:
    assert every(seconds=1).count(0, 10_000_000_000, limit=5) == 10_000_000


@given(everys, moments, moments, moments)
@settings(deadline=None, max_examples=300)
def test_every_is_a_set_of_rounded_multiples(trigger: Every, anchor: int, moment: int, until: int) -> None:
    # The definition, written out: all unrounded moments near by, each rounded up, as a set.
    base = anchor if trigger.start == "now" else anchor + trigger.interval if trigger.start is None else trigger.start
    if trigger.after_completion and isinstance(trigger.start, int):
        base = max(trigger.start, anchor)
    align = trigger.align or 1
    near = range(
        max(0, (moment - base - 20_000) // trigger.interval),
        max(0, (moment - base + 20_000) // trigger.interval + 1) + 1,
    )
    grid = sorted({-(-(base + k * trigger.interval) // align) * align for k in near})
    assert trigger.after(moment, anchor) == next(m for m in grid if m > moment)
    earlier = [m for m in grid if m < moment]
    assert trigger.before(moment, anchor) == (earlier[-1] if earlier else None)


# --- Laws of all triggers


@given(triggers, moments, st.integers(0, 20_000), st.integers(-(10**6), 10**6))
@settings(deadline=None, max_examples=200)
def test_count_is_the_number_of_moments(trigger: Trigger, start: int, length: int, anchor: int) -> None:
    found = list(islice(trigger.moments(start, start + length, anchor), 30_000))
    counted = trigger.count(start, start + length, anchor)
    assert (counted, type(counted)) == (len(found), int)
    assert found == sorted(set(found))


@given(triggers, moments, st.integers(-(10**6), 10**6))
@settings(deadline=None, max_examples=200)
def test_after_and_before_are_inverse(trigger: Trigger, moment: int, anchor: int) -> None:
    later = trigger.after(moment, anchor)
    assume(later is not None)
    assert later is not None
    assert later > moment
    assert trigger.before(later + 1, anchor) == later
    earlier = trigger.before(later, anchor)
    assert earlier is None or earlier <= moment
    assert earlier is None or trigger.after(earlier, anchor) == later


@given(triggers)
def test_a_trigger_survives_msgpack(trigger: Trigger) -> None:
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(trigger), type=Trigger)
    assert copy == trigger
    assert hash(copy) == hash(trigger)


def test_the_wire_format_is_what_stores_hold() -> None:
    assert msgspec.to_builtins(cron("0 9 * * *", timezone="Europe/Paris")) == [
        "cron",
        "0 9 * * *",
        "Europe/Paris",
        "vixie",
    ]
    assert msgspec.to_builtins(every(seconds=1)) == ["every", 1000, None, None, False]
    assert msgspec.to_builtins(at(1)) == ["at", 1000]
    assert msgspec.convert(["every", 1000], Trigger) == every(seconds=1)


@pytest.mark.parametrize(
    "data", [["cron", "61 * * * *"], ["every", 0], ["every", 1000, "soon"], ["at", 10**18], ["never"]]
)
def test_what_could_not_be_made_cannot_be_decoded(data: list[Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(data, Trigger)


def test_a_trigger_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        every(seconds=1).interval = 5  # type: ignore[misc]


# --- at(), cron(), upcoming()


def test_a_moment_happens_once() -> None:
    trigger = at(NOON)
    assert trigger == at(NOON.timestamp()) == At(NOON_MS)
    assert trigger.after(NOON_MS - 1) == NOON_MS
    assert trigger.after(NOON_MS) is None
    assert trigger.before(NOON_MS + 1) == NOON_MS
    assert trigger.before(NOON_MS) is None
    assert trigger.count(0, NOON_MS) == 1


def test_the_last_moment_and_the_longest_interval_are_taken_and_what_is_beyond_is_not() -> None:
    assert at(LAST // 1000).moment == LAST
    assert every(milliseconds=LAST).interval == LAST
    assert [Every(1, moment).start for moment in (FIRST, LAST)] == [FIRST, LAST]
    assert [At(moment).moment for moment in (FIRST, LAST)] == [FIRST, LAST]
    for make in (lambda: at(LAST // 1000 + 1), lambda: every(milliseconds=LAST + 1)):
        with pytest.raises(InvalidTrigger, match=str(LAST)[:9]):
            make()


def test_moments_are_cut_to_the_millisecond() -> None:
    assert at(NOON + timedelta(microseconds=1999)).moment == NOON_MS + 1
    assert at(1700000000.1239).moment == 1_700_000_000_123


def test_spacing_makes_no_difference_to_a_cron_trigger() -> None:
    assert cron(" 0  9 * * * ") == cron("0 9 * * *") == Cron("0 9 * * *")
    assert cron("0 9 * * *", timezone=ZoneInfo("Asia/Tokyo")) == Cron("0 9 * * *", "Asia/Tokyo")


def test_counting_cron_ticks_ends_at_the_limit() -> None:
    assert cron("* * * * *").count(0, DAY_MS) == 1440
    assert cron("* * * * *").count(0, DAY_MS, limit=100) == 100


def test_upcoming_is_aware_and_in_the_zone_of_the_trigger() -> None:
    paris = ZoneInfo("Europe/Paris")
    found = cron("30 * * * *", timezone="Europe/Paris").upcoming(3, datetime(2024, 10, 27, 0, 0, tzinfo=UTC))
    assert [tick.isoformat() for tick in found] == [
        "2024-10-27T02:30:00+02:00",
        "2024-10-27T02:30:00+01:00",
        "2024-10-27T03:30:00+01:00",
    ]
    assert all(tick.tzinfo is paris for tick in found)
    assert at(NOON).upcoming(5, NOON - timedelta(microseconds=1)) == [NOON]
    assert at(NOON).upcoming(5, NOON) == []
    second = every(hours=6).upcoming(2, NOON, anchor=NOON_MS)[1]
    assert (second, second.tzinfo) == (datetime(2024, 1, 2, tzinfo=UTC), UTC)


# --- Words


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (cron("*/10 * * * * *"), "every 10 seconds"),
        (cron("* * * * *", timezone="Europe/Paris"), "every minute"),
        (cron("*/7 * * * *"), "at every 7th minute from 0 through 56 of the hour"),
        (cron("30 * * * *"), "at minute 30 of every hour"),
        (cron("10 0 * * * *"), "at minute 0, second 10 of every hour"),
        (cron("0 */2 * * *"), "every 2 hours, UTC"),
        (cron("30 9-17 * * *"), "every hour from 09:30 through 17:30, UTC"),
        (cron("*/5 9-17 * * *"), "every 5 minutes, during hours 9 through 17, UTC"),
        (cron("*/10 30 1 * * *"), "every 10 seconds, during minute 30, during hour 1, UTC"),
        (cron("0 9 * * 1-5", timezone="Europe/Paris"), "at 09:00 on Monday through Friday, Europe/Paris"),
        (cron("15 10 5,6 * * SAT,SUN"), "at 05:10:15 and 06:10:15 on Saturday and Sunday, UTC"),
        (
            cron("0 0 L-3,LW,15W * *"),
            "at 00:00 on the last day but 3, the last weekday and the weekday nearest to day 15 of the month, UTC",
        ),
        (cron("0 0 13 * FRI"), "at 00:00 on day 13 of the month or on Friday, UTC"),
        (cron("0 0 */2 * MON"), "at 00:00 on every 2nd day from 1 through 31 of the month, if it is Monday, UTC"),
        (
            cron("0 0 ? JUN-AUG 5#2,5L"),
            "at 00:00 on the second Friday of the month and the last Friday of the month in June through August, UTC",
        ),
        (
            cron("@yearly", dst="literal"),
            "at 00:00 on day 1 of the month in January, UTC, clock changes taken literally",
        ),
        (every(seconds=10), "every 10 seconds"),
        (every(minutes=90, start=NOON), "every 90 minutes, from 2024-01-01 12:00:00 UTC"),
        (every(weeks=1, start="now", align=3600), "every week, at once, rounded up to a full hour"),
        (every(minutes=5, align=90), "every 5 minutes, rounded up to a multiple of 90 seconds"),
        (every(minutes=5, align=7), "every 5 minutes, rounded up to a multiple of 7 seconds"),
        (every(seconds=0.25, after_completion=True), "every 250 milliseconds after the end of the last run"),
        (at(NOON_MS / 1000 + 0.5), "once, at 2024-01-01 12:00:00.500 UTC"),
    ],
)
def test_a_trigger_says_what_it_does(trigger: Trigger, words: str) -> None:
    assert trigger.describe() == words


# --- Refusals


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (every, "the interval is 0 ms: it must be at least 1 ms, as in every(seconds=10)"),
        (lambda: every(10), "write every(seconds=10)"),  # type: ignore[arg-type]
        (lambda: every(seconds=True), "seconds is True: it must be a number"),
        (lambda: every(seconds="5"), "seconds is '5'"),  # type: ignore[arg-type]
        (lambda: every(seconds=float("nan")), "seconds is nan"),
        (lambda: every(hours=float("inf")), "hours is inf"),
        (lambda: every(minutes=5, seconds=-1), "seconds is -1: it must be finite and not negative"),
        (lambda: every(timedelta(days=-1), days=5), "must not be negative"),
        (lambda: every(milliseconds=0.5), "must be a whole number of milliseconds"),
        (lambda: every(timedelta(microseconds=1500)), "must be a whole number of milliseconds"),
        (lambda: every(days=1e300), "must be at most"),
        (lambda: every(seconds=1, align=0), "align is 0 ms"),
        (lambda: every(seconds=1, align=-60), "align is -60"),
        (
            lambda: every(seconds=1, start=datetime(2024, 1, 1)),
            "start is 2024-01-01T00:00:00, without a time zone: make it aware",
        ),
        (lambda: every(seconds=1, start="soon"), "start is 'soon'"),  # type: ignore[arg-type]
        (lambda: every(seconds=1).between(datetime(2024, 1, 1)), "start is 2024-01-01T00:00:00, without a time zone"),
        (lambda: every(seconds=1).between(end=datetime(2024, 1, 1)), "end is 2024-01-01T00:00:00, without a time zone"),
        (lambda: Every(0), "interval is 0 ms"),
        (lambda: Every(LAST + 1), f"interval is {LAST + 1} ms"),
        (lambda: Every(1, align=0), "align is 0 ms"),
        (lambda: Every(1, FIRST - 1), f"start is {FIRST - 1} ms"),
        (lambda: Every(1, LAST + 1), f"start is {LAST + 1} ms"),
        (lambda: At(FIRST - 1), f"moment is {FIRST - 1} ms"),
        (lambda: At(LAST + 1), f"moment is {LAST + 1} ms"),
        (lambda: at(datetime(2024, 1, 1)), '.replace(tzinfo=ZoneInfo("Europe/Paris"))'),
        (lambda: at(True), "at() is True"),
        (lambda: at(float("nan")), "at() is nan"),
        (lambda: at(-1), "at() is -1"),
        (lambda: at(NOON_MS), "is it in milliseconds?"),
        (lambda: at("2024-01-01"), "use an aware datetime or epoch seconds"),  # type: ignore[arg-type]
        (lambda: cron("* * * * *", timezone="Mars/Olympus"), 'time zone "Mars/Olympus" is not known'),
        (lambda: cron("* * * * *", timezone="../../etc/passwd"), "is not known"),
        (lambda: cron("* * * * *", timezone="Europe"), "is not known"),
        (lambda: cron("* * * * *", timezone="localtime"), "is not known"),
        (lambda: cron("* * * * *", timezone=timezone.utc), "use an IANA name"),  # type: ignore[arg-type]  # noqa: UP017
        (lambda: cron("* * * * *", dst="spring"), 'use "vixie" or "literal"'),  # type: ignore[arg-type]
        (lambda: cron(5), "a cron expression is a string, got int"),  # type: ignore[arg-type]
        (
            lambda: every(seconds=1).upcoming(1, datetime(2024, 1, 1)),
            "start is 2024-01-01T00:00:00, without a time zone",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(make: Any, words: str) -> None:
    with pytest.raises(InvalidTrigger) as refused:
        make()
    assert words in str(refused.value)
