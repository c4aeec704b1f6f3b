"""`duly next`: the next moments of a cron expression, without any store."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from duly.cli.connection import asked
from duly.cli.grouping import json_option
from duly.cli.push import parse_moment
from duly.cli.schedules import show_moments
from duly.clock import SYSTEM_CLOCK
from duly.core.trigger import cron


@click.command("next", short_help="The next moments of a cron expression.")
@click.argument("expression", nargs=-1, required=True, metavar="EXPRESSION")
@click.option("--timezone", "--tz", default="UTC", show_default=True, metavar="ZONE", help="Such as Europe/Paris.")
@click.option("-n", "count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many moments.")
@click.option(
    "--dst",
    type=click.Choice(["vixie", "literal"]),
    default="vixie",
    show_default=True,
    help="What happens when clocks change.",
)
@click.option("--after", metavar="MOMENT", callback=parse_moment,
              help="Count from here instead of now: ISO date and time with zone, or epoch seconds.")  # fmt: skip
@json_option
def command(
    expression: tuple[str, ...], timezone: str, count: int, dst: str, after: float | datetime | None, json: bool
) -> None:
    """The next moments of a cron EXPRESSION of 5 fields, or 6 with the second first.

    Quote it, as the shell would replace each *: duly next "*/5 * * * *"
    """
    with asked():
        trigger = cron(" ".join(expression), timezone=timezone, dst=dst)  # type: ignore[arg-type]  # click checked it
        start = _start(after)
        moments = trigger.upcoming(count, start)
    if not json:
        click.echo(f"{trigger.describe()}\n")
    show_moments(moments, start.timestamp(), json)


def _start(after: float | datetime | None) -> datetime:
    if isinstance(after, datetime):
        return after
    try:
        return datetime.fromtimestamp(SYSTEM_CLOCK.epoch_us() / 1e6 if after is None else after, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise click.UsageError(f"--after {after}: that is no moment in seconds since 1970 ({error})") from None
