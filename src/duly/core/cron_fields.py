"""Parses a cron expression into one bit mask per field, and says in one sentence what is wrong with it.

Accepted: 5 fields (minute first) or 6 (second first); `*`, `?` (day fields), values, names (JAN, MON), lists, ranges,
ranges that wrap around (22-2, FRI-MON), steps (`*/5`, `1/10` = from 1 to the field's end, `2-20/3`), `L`, `L-3`, `LW`,
`15W` in day-of-month, `5#2` and `5L` in day-of-week, and the aliases @yearly ... @hourly. 0 and 7 are both Sunday.

Two facts are taken from the text, not from the mask, as Vixie cron does: a day field that starts with `*` (or is `?`)
counts as unrestricted, and a second, minute or hour field with a `*` or a step counts as interval-like (see cron.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from duly.errors import InvalidTrigger

MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
LAST = -1  # the n of `5L`, where `5#2` has 2

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST = 1000  # characters; an expression may come from a user of the application


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a field may hold. `high` is the largest value that may be written, `low + size - 1` the largest kept."""

    name: str
    low: int
    high: int
    size: int
    names: tuple[str, ...] = ()
    extras: str = ""

    @property
    def allowed(self) -> str:
        words = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"{self.low}-{self.high}{words}, alone or in a list, a range or a step{self.extras}"


SECOND = _Kind("second", 0, 59, 60)
MINUTE = _Kind("minute", 0, 59, 60)
HOUR = _Kind("hour", 0, 23, 24)
DAY_OF_MONTH = _Kind("day-of-month", 1, 31, 31, extras=", or L, L-3, LW, 15W, ?")
MONTH = _Kind("month", 1, 12, 12, MONTH_NAMES)
DAY_OF_WEEK = _Kind("day-of-week", 0, 7, 7, DAY_NAMES, ", or 5#2, 5L, ?")


@dataclass(frozen=True, slots=True)
class Field:
    """One parsed field: bit v of `mask` is set when value v matches (Sunday is 0)."""

    text: str
    mask: int
    starred: bool = False  # of days: starts with `*` or is `?`
    stepped: bool = False  # of times: has a `*` or a `/` anywhere
    before_last: frozenset[int] = frozenset()  # L is 0, L-3 is 3
    last_weekday: bool = False  # LW
    nearest: frozenset[int] = frozenset()  # 15W
    nth: frozenset[tuple[int, int]] = frozenset()  # 5#2 is (5, 2), 5L is (5, LAST)

    def values(self) -> list[int]:
        """The plain values that match, ascending."""
        return [value for value in range(self.mask.bit_length()) if self.mask >> value & 1]


@dataclass(frozen=True, slots=True)
class CronFields:
    """A parsed expression. `with_seconds` tells whether the second was written or is the implied 0."""

    second: Field
    minute: Field
    hour: Field
    day_of_month: Field
    month: Field
    day_of_week: Field
    with_seconds: bool

    @property
    def interval_like(self) -> bool:
        """True when a time field has a `*` or a step: such an expression follows elapsed time over clock changes."""
        return self.second.stepped or self.minute.stepped or self.hour.stepped

    @property
    def either_day(self) -> bool:
        """True when a day matches if day-of-month or day-of-week does; otherwise both must (Vixie cron's rule)."""
        return not (self.day_of_month.starred or self.day_of_week.starred)


def parse(expression: str) -> CronFields:
    """Parse `expression`; raises InvalidTrigger naming the field, the value and what is allowed."""
    if not isinstance(expression, str):
        raise InvalidTrigger(f"a cron expression is a string, got {type(expression).__name__}")
    if len(expression) > _LONGEST:
        raise InvalidTrigger(f"a cron expression has at most {_LONGEST} characters, got {len(expression)}")
    texts = _expand(expression).upper().split()
    if len(texts) not in (5, 6):
        raise InvalidTrigger(
            f'cron expression "{expression}" has {len(texts)} fields: write 5 (minute hour day-of-month month '
            "day-of-week) or 6 (second first)"
        )
    second, minute, hour, day_of_month, month, day_of_week = texts if len(texts) == 6 else ["0", *texts]
    return CronFields(
        _plain_field(SECOND, second),
        _plain_field(MINUTE, minute),
        _plain_field(HOUR, hour),
        _day_of_month_field(day_of_month),
        _plain_field(MONTH, month),
        _day_of_week_field(day_of_week),
        with_seconds=len(texts) == 6,
    )


def _expand(expression: str) -> str:
    name = expression.strip().lower()
    if not name.startswith("@"):
        return expression
    if name not in _ALIASES:
        hint = "; for fixed intervals use every()" if name.startswith("@every") else ""
        raise InvalidTrigger(f'cron alias "{expression}" is not known: use one of {", ".join(_ALIASES)}{hint}')
    return _ALIASES[name]


def _plain_field(kind: _Kind, text: str) -> Field:
    mask = 0
    for item in _items(kind, text):
        mask |= _mask(kind, item)
    return Field(text, mask, stepped="*" in text or "/" in text)


def _day_of_month_field(text: str) -> Field:
    if text == "?":
        return Field(text, _mask(DAY_OF_MONTH, "*"), starred=True)
    kind, mask, last_weekday = DAY_OF_MONTH, 0, False
    before_last: set[int] = set()
    nearest: set[int] = set()
    for item in _items(kind, text):
        if item == "LW":
            last_weekday = True
        elif item == "L":
            before_last.add(0)
        elif item.startswith("L-"):
            before_last.add(_number(item[2:], 1, 30, kind, item))
        elif item.endswith("W"):
            nearest.add(_number(item[:-1], 1, 31, kind, item))
        else:
            mask |= _mask(kind, item)
    starred = text.startswith("*")
    return Field(text, mask, starred, False, frozenset(before_last), last_weekday, frozenset(nearest))


def _day_of_week_field(text: str) -> Field:
    if text == "?":
        return Field(text, _mask(DAY_OF_WEEK, "*"), starred=True)
    kind, mask = DAY_OF_WEEK, 0
    nth: set[tuple[int, int]] = set()
    for item in _items(kind, text):
        if item == "L":
            # Saturday in Quartz, and nothing in Vixie cron: a guess would be wrong for somebody.
            raise InvalidTrigger('day-of-week "L" needs a day before it: write 5L for the last Friday of the month')
        if "#" in item:
            day, _, number = item.partition("#")
            nth.add((_value(kind, day, item) % 7, _number(number, 1, 5, kind, item)))
        elif item.endswith("L"):
            nth.add((_value(kind, item[:-1], item) % 7, LAST))
        else:
            mask |= _mask(kind, item)
    return Field(text, mask, text.startswith("*"), nth=frozenset(nth))


def _items(kind: _Kind, text: str) -> list[str]:
    items = text.split(",")
    if "" in items:
        raise InvalidTrigger(f'{kind.name} "{text}" has an empty item: remove the comma too many')
    return items


def _mask(kind: _Kind, item: str) -> int:
    """The bits of one item of a list: `*`, a value or a range, each perhaps with a step."""
    base, slash, step_text = item.partition("/")
    step = _step(kind, step_text, item) if slash else 1
    last = kind.low + kind.size - 1
    if base == "*":
        first = kind.low
    elif "-" in base:
        left, _, right = base.partition("-")
        first, last = _value(kind, left, item), _value(kind, right, item)
        if last < first:  # wraps around: 22-2, FRI-MON
            last += kind.size
    else:
        first = _value(kind, base, item)
        if kind.size < kind.high - kind.low + 1:  # a lone 7 is Sunday, and 7/2 counts from Sunday
            first = kind.low + (first - kind.low) % kind.size
        if not slash:
            last = first
    mask = 0
    for value in range(first, last + 1, step):
        mask |= 1 << (kind.low + (value - kind.low) % kind.size)
    return mask


def _step(kind: _Kind, text: str, item: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= kind.size:
        return int(text)
    raise InvalidTrigger(f'{kind.name} "{item}" has the step "{text}": a step is a whole number from 1 to {kind.size}')


def _value(kind: _Kind, text: str, item: str) -> int:
    if text in kind.names:
        return kind.low + kind.names.index(text)
    return _number(text, kind.low, kind.high, kind, item)


def _number(text: str, low: int, high: int, kind: _Kind, item: str) -> int:
    if text.isascii() and text.isdigit() and low <= int(text) <= high:
        return int(text)
    raise InvalidTrigger(f'{kind.name} "{item}" is not allowed: use {kind.allowed}')
