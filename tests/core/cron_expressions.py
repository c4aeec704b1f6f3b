"""Cron expressions made together with their meaning, and a naive walk through local time: the tests' own reference.

No parser of ours is needed to check ours.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Written:
    """A field's text and the values it means."""

    text: str
    values: frozenset[int]

    @property
    def stepped(self) -> bool:
        return "*" in self.text or "/" in self.text


@dataclass(frozen=True)
class Expression:
    fields: tuple[Written, ...]
    with_seconds: bool
    day: Callable[[date], bool]

    @property
    def text(self) -> str:
        return " ".join(field.text for field in self.fields[not self.with_seconds :])

    def __repr__(self) -> str:
        return self.text

    def fixed(self) -> bool:
        return not any(field.stepped for field in self.fields[:3])

    def matches(self, local: datetime) -> bool:
        second, minute, hour = (field.values for field in self.fields[:3])
        return local.minute in minute and local.hour in hour and local.second in second and self.day(local.date())


def plain(low: int, high: int, *, steps: bool = True, wrap: bool = False) -> st.SearchStrategy[Written]:
    """A field of low-high. `steps`: also those that do not begin with a star. `wrap`: ranges over the end."""
    size = high - low + 1
    value = st.integers(low, high)
    step = st.integers(1, size)
    # A range of one value (5-5/2) is left to the examples: croniter reads it as `*`, cronsim as 5/2.
    ends = st.lists(value, min_size=2, max_size=2, unique=True).map(lambda e: tuple(e if wrap else sorted(e)))

    def run(first: int, last: int, n: int) -> frozenset[int]:
        last += 0 if first <= last else size
        return frozenset(low + (v - low) % size for v in range(first, last + 1, n))

    items = value.map(lambda v: Written(f"{v}", frozenset({v})))
    items |= ends.map(lambda e: Written(f"{e[0]}-{e[1]}", run(*e, 1)))
    if steps:
        items |= st.builds(lambda e, n: Written(f"{e[0]}-{e[1]}/{n}", run(*e, n)), ends, step)
        items |= st.builds(lambda v, n: Written(f"{v}/{n}", run(v, high, n)), value, step)
    lists = st.lists(items, min_size=1, max_size=3).map(
        lambda items: Written(",".join(i.text for i in items), frozenset().union(*(i.values for i in items)))
    )
    star = st.just(Written("*", run(low, high, 1)))
    return star | lists | step.map(lambda n: Written(f"*/{n}", run(low, high, n)))


def weekday(day: date) -> int:
    return day.isoweekday() % 7


def same_month(day: date) -> list[date]:
    return [day.replace(day=d) for d in range(1, calendar.monthrange(day.year, day.month)[1] + 1)]


def nearest_weekday(number: int, day: date) -> bool:
    month = same_month(day)
    work = [d for d in month if d.weekday() < 5]
    return number <= len(month) and day == min(work, key=lambda d: abs(d.day - number))


def special_days() -> st.SearchStrategy[tuple[str, Callable[[date], bool]]]:
    """One item of the day-of-month field that is not a plain value, with its meaning spelled out."""
    return (
        st.just(("L", lambda d: d == same_month(d)[-1]))
        | st.integers(1, 30).map(lambda n: (f"L-{n}", lambda d: d == dict(enumerate(same_month(d)[::-1])).get(n)))
        | st.just(("LW", lambda d: d == [w for w in same_month(d) if w.weekday() < 5][-1]))
        | st.integers(1, 31).map(lambda n: (f"{n}W", lambda d: nearest_weekday(n, d)))
    )


def special_weekdays() -> st.SearchStrategy[tuple[str, Callable[[date], bool]]]:
    def those(d: date, w: int) -> list[date]:
        return [x for x in same_month(d) if weekday(x) == w % 7]

    return st.builds(
        lambda w, n: (f"{w}#{n}", lambda d: d in those(d, w)[n - 1 : n]), st.integers(0, 7), st.integers(1, 5)
    ) | st.builds(lambda w: (f"{w}L", lambda d: d == those(d, w)[-1]), st.integers(0, 7))


@st.composite
def expressions(
    draw: st.DrawFn, *, seconds: bool = False, steps: bool = True, wrap: bool = False, special: bool = False
) -> Expression:
    dom, month, dow = (draw(plain(*bounds, wrap=wrap)) for bounds in ((1, 31), (1, 12), (0, 6)))
    by_date: Callable[[date], bool] = lambda d: d.day in dom.values  # noqa: E731  (a value, replaced below)
    by_weekday: Callable[[date], bool] = lambda d: weekday(d) in dow.values  # noqa: E731
    dom_text, dow_text = dom.text, dow.text
    if special and draw(st.booleans()):
        dom_text, by_date = draw(special_days())
    if special and draw(st.booleans()):
        dow_text, by_weekday = draw(special_weekdays())
    both = dom_text.startswith("*") or dow_text.startswith("*")

    def day(d: date) -> bool:
        rule = all if both else any
        return d.month in month.values and rule((by_date(d), by_weekday(d)))

    if draw(st.booleans()):  # or hardly any would have ticks on the day of a clock change
        dom_text, dow_text, month, both = "*", "?" if special else "*", Written("*", frozenset(range(1, 13))), True
        by_date = by_weekday = lambda d: True
    small = plain(0, 59, steps=steps, wrap=wrap)
    second = draw(small) if seconds else Written("0", frozenset({0}))
    hour = draw(plain(0, 23, steps=steps, wrap=wrap) | st.just(Written("0-4", frozenset(range(5)))))
    fields = (second, draw(small), hour, Written(dom_text, dom.values), month, Written(dow_text, dow.values))
    return Expression(fields, seconds, day)


@lru_cache(maxsize=512)
def changes(zone: str, year: int) -> list[datetime]:
    """The first moments (UTC) of new offsets in a year, to the minute."""
    info, found = ZoneInfo(zone), []
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=6 * n) for n in range(366 * 4)]
    for before, after in pairwise(hours):
        if before.astimezone(info).utcoffset() != after.astimezone(info).utcoffset():
            minutes = (before + n * MINUTE for n in range(1, 361))
            found.append(
                next(m for m in minutes if m.astimezone(info).utcoffset() != before.astimezone(info).utcoffset())
            )
    return found


def walk(expression: Expression, zone: str, start: datetime, end: datetime, *, literal: bool = False) -> list[datetime]:
    """The ticks in [start, end), found by looking at every minute (second, if it has seconds) of local time.

    A fixed-time expression looks at each local moment once: one seen before is passed over, those left out are looked
    at together when the clock has jumped over them. `start` must lie more than the largest overlap from a change.
    """
    info = ZoneInfo(zone)
    step = timedelta(seconds=1) if expression.with_seconds else MINUTE
    once = expression.fixed() and not literal
    ticks, moment, unseen = [], start, start.astimezone(info).replace(tzinfo=None)
    while moment < end:
        local = moment.astimezone(info).replace(tzinfo=None)
        if not once:
            hit = expression.matches(local)
        else:
            hit = False
            while unseen <= local:
                hit = hit or expression.matches(unseen)
                unseen += step
        if hit:
            ticks.append(moment)
        moment += step
    return ticks
