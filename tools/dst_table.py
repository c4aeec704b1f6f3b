"""Writes the table of docs/time-zones.md: what expressions do on the days on which clocks change, here and by cronsim.

`python -m tools.dst_table` writes it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from cronsim import CronSim

from duly import cron

PAGE = Path(__file__).parent.parent / "docs" / "time-zones.md"
BEGIN, END = "<!-- table -->", "<!-- /table -->"
CASES = (
    ("America/New_York", "2026-03-08", "02:00 → 03:00", ("30 2 * * *", "*/30 1-3 * * *")),
    ("America/New_York", "2026-11-01", "02:00 → 01:00", ("30 1 * * *", "*/30 1 * * *")),
    ("Australia/Lord_Howe", "2026-10-04", "02:00 → 02:30", ("15 2 * * *", "*/30 1-3 * * *")),
    ("Australia/Lord_Howe", "2026-04-05", "02:00 → 01:30", ("45 1 * * *", "*/15 1 * * *")),
    ("Pacific/Apia", "2011-12-30", "a day absent", ("0 12 * * *", "0 */12 * * *")),
    ("Africa/Cairo", "2026-04-24", "00:00 → 01:00", ("0 0 * * *", "30 0 * * *", "*/30 0-1 * * *")),
    ("Africa/Casablanca", "2026-02-15", "03:00 → 02:00", ("30 2 * * *", "*/30 2 * * *")),
    ("Antarctica/Troll", "2026-03-29", "01:00 → 03:00", ("30 1 * * *", "30 1,2 * * *", "*/30 0-3 * * *")),
    ("Europe/Dublin", "2026-03-29", "01:00 → 02:00", ("30 1 * * *", "*/30 0-2 * * *")),
    ("Europe/Dublin", "2026-10-25", "02:00 → 01:00", ("30 1 * * *", "*/30 1 * * *")),
)
"""(zone, local day of the change, the change, expressions)."""


def of_the_day(moments: list[datetime], day: datetime) -> str:
    """The moments from that local day's begin to the next one's, as local times with their offsets."""
    found = [moment for moment in moments if day.date() <= moment.date() < (day + timedelta(days=2)).date()]
    shown = [f"{'' if m.date() == day.date() else f'{m:%d} '}{m:%H:%M}{_offset(m)}" for m in found]
    return ", ".join(shown) or "none"


def _offset(moment: datetime) -> str:
    text = f"{moment:%z}"
    return text[:3] if text.endswith("00") else f"{text[:3]}:{text[3:]}"


def row(zone: str, day_text: str, change: str, expression: str) -> str:
    tz = ZoneInfo(zone)
    day = datetime.fromisoformat(day_text).replace(tzinfo=tz)
    before = day - timedelta(days=1)
    ours = of_the_day(cron(expression, timezone=zone).upcoming(80, before), day)
    simulated = CronSim(expression, before)
    theirs = of_the_day([next(simulated) for _ in range(80)], day)
    same = "the same" if ours == theirs else theirs
    return f"| {zone} | {day_text}, {change} | `{expression}` | {ours} | {same} |"


def updated(page: str) -> str:
    """The page with the table as it is now."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    rows = [row(zone, day, change, text) for zone, day, change, texts in CASES for text in texts]
    lines = ["| zone | change | expression | duly fires | cronsim |", "|---|---|---|---|---|", *rows]
    return head + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + tail


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
