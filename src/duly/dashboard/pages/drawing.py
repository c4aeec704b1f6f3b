"""Geometry of what is drawn on the server: ticks along time, shares around a circle. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from duly.core.audit import Tick

WORST = ("missing", "overdue", "late", "skipped", "fired", "coming")
"""Of several ticks in one place, the first of these is drawn."""
HOUR, DAY = 3600.0, 86_400.0
SPANS = {1: 300.0, 6: 1800.0, 24: HOUR, 168: DAY}
"""Hours that are shown -> seconds of one row."""
ROWS_AHEAD = 2
"""Rows for ticks to come."""
PLACES = 120
"""Marks in one row at most; what falls together is one mark."""
WIDTH, LEFT, ROW, TOP = 960, 58, 22, 20
"""Of the drawing, in its own units."""
HUES = 8


class Mark(NamedTuple):
    """One tick, or several in one place. x: in units of the drawing. title: what became of them."""

    x: float
    state: str
    title: str


class Row(NamedTuple):
    """A span of time. now: where the present is, None if it is not in this row."""

    label: str
    y: float
    marks: Sequence[Mark]
    now: float | None


class Timeline(NamedTuple):
    """Rows under each other. lines: (x, label) of the grid."""

    rows: Sequence[Row]
    lines: Sequence[tuple[float, str]]
    height: float


def timeline(ticks: Iterable[Tick], since: float, now: float, hours: int, zone: tzinfo) -> Timeline:
    """The last hours, the latest row first; rows begin at full hours (or days, or minutes) of the zone."""
    span = SPANS[hours]
    offset = _offset(now, zone)
    last = math.floor((now + offset) / span) * span - offset
    by_row: dict[int, list[Tick]] = {}
    for tick in ticks:
        row = round((last - math.floor((tick.moment + offset) / span) * span + offset) / span)
        by_row.setdefault(row, []).append(tick)
    oldest = max(math.ceil((last - max(since, now - hours * HOUR)) / span), 0)
    newest = max(min(by_row, default=0), -ROWS_AHEAD)
    rows = []
    for index in range(min(newest, 0), oldest + 1):
        begin, y = last - index * span, TOP + (index - min(newest, 0)) * ROW
        place = _x(now, begin, span) if index == 0 else None
        rows.append(Row(_label(begin, span, zone), y, _marks(by_row.get(index, ()), begin, span, zone), place))
    return Timeline(rows, _lines(span), TOP + len(rows) * ROW + 4)


def lane(ticks: Iterable[Tick], begin: float, span: float, zone: tzinfo) -> list[Mark]:
    """One row over a span of its own."""
    return _marks([tick for tick in ticks if begin <= tick.moment < begin + span], begin, span, zone)


def lane_lines(begin: float, span: float, zone: tzinfo) -> list[tuple[float, str]]:
    """The grid of `lane`: round moments of the zone."""
    step = next((step for step in (300, 900, 1800, 3600, 3 * 3600, 6 * 3600) if span / step <= 8), DAY)
    offset = _offset(begin, zone)
    moment = math.ceil((begin + offset) / step) * step - offset
    found = []
    while moment < begin + span:
        found.append((_x(moment, begin, span), _at(moment, zone).strftime("%H:%M")))
        moment += step
    return found


def _marks(ticks: Iterable[Tick], begin: float, span: float, zone: tzinfo) -> list[Mark]:
    places: dict[int, list[Tick]] = {}
    for tick in ticks:
        places.setdefault(int((tick.moment - begin) / span * PLACES), []).append(tick)
    return [
        Mark(_x(some[0].moment, begin, span), _worst(some), _title(some, zone)) for _, some in sorted(places.items())
    ]


def _worst(ticks: Sequence[Tick]) -> str:
    return min((tick.state for tick in ticks), key=WORST.index)


def _title(ticks: Sequence[Tick], zone: tzinfo) -> str:
    if len(ticks) == 1:
        tick = ticks[0]
        late = f" {tick.at - tick.moment:.1f} s after it" if tick.at is not None and tick.state == "late" else ""
        why = f": {tick.why}" if tick.why else ""
        return f"{_at(tick.moment, zone):%Y-%m-%d %H:%M:%S} {tick.state}{late}{why}"
    counts: Counter[str] = Counter(tick.state for tick in ticks)
    parts = ", ".join(f"{counts[state]} {state}" for state in WORST if counts[state])
    return f"{_at(ticks[0].moment, zone):%Y-%m-%d %H:%M:%S} to {_at(ticks[-1].moment, zone):%H:%M:%S}: {parts}"


def _x(moment: float, begin: float, span: float) -> float:
    return round(LEFT + (moment - begin) / span * (WIDTH - LEFT - 8), 1)


def _lines(span: float) -> list[tuple[float, str]]:
    parts, unit = {300.0: (5, "{}m"), 1800.0: (6, "{}m"), HOUR: (6, ":{:02}"), DAY: (8, "{:02}h")}[span]
    size = {300.0: 60.0, 1800.0: 60.0, HOUR: 60.0, DAY: HOUR}[span]
    step = span / parts
    return [(_x(i * step, 0, span), unit.format(round(i * step / size))) for i in range(parts)]


def _label(begin: float, span: float, zone: tzinfo) -> str:
    return _at(begin, zone).strftime("%a %d" if span == DAY else "%H:%M")


def _at(moment: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(moment, zone)


def _offset(moment: float, zone: tzinfo) -> float:
    found = _at(moment, zone).utcoffset()
    return found.total_seconds() if found else 0.0


class Arc(NamedTuple):
    """A node's part of a queue's ring. path: of an SVG. hue: its colour, the same in every queue."""

    path: str
    hue: int
    title: str


def arcs(shares: Mapping[str, float], hues: Mapping[str, int], inner: float, outer: float) -> list[tuple[str, Arc]]:
    """(node, its arc) around the middle of a drawing, from above, clockwise."""
    found, turn = [], 0.0
    for node, share in shares.items():
        path = _ring(inner, outer) if share > 0.9999 else _sector(turn, turn + share, inner, outer)
        found.append((node, Arc(path, hues.get(node, 0) % HUES, "")))
        turn += share
    return found


def _point(turn: float, radius: float) -> str:
    angle = 2 * math.pi * (turn - 0.25)
    return f"{radius * math.cos(angle):.2f} {radius * math.sin(angle):.2f}"


def _sector(begin: float, end: float, inner: float, outer: float) -> str:
    large = int(end - begin > 0.5)
    return (
        f"M{_point(begin, outer)}A{outer} {outer} 0 {large} 1 {_point(end, outer)}"
        f"L{_point(end, inner)}A{inner} {inner} 0 {large} 0 {_point(begin, inner)}Z"
    )


def _ring(inner: float, outer: float) -> str:
    """A whole circle, in halves: an arc that ends where it begins is none."""
    half = "A{0} {0} 0 1 {1} 0 {2}"
    around = f"M0 {-outer}" + half.format(outer, 1, outer) + half.format(outer, 1, -outer) + "Z"
    return around + f"M0 {-inner}" + half.format(inner, 0, inner) + half.format(inner, 0, -inner) + "Z"
