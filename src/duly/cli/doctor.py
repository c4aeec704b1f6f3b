"""`duly doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

import click

from duly.checks import SOME, examine
from duly.cli.connection import with_store
from duly.cli.grouping import json_option
from duly.cli.output import show_json, show_record
from duly.scheduler import Scheduler
from duly.stores.capabilities import Finding

MARKS = {"ok": "✓", "warning": "!", "error": "✗"}


@click.command("doctor")
@click.option("--full", is_flag=True, help=f"Look at every job, not only at {SOME:,} or so of each queue.")
@click.option(
    "--repair", is_flag=True, help="Mend at once what is broken in queues; nodes do it too, little by little."
)
@json_option
@with_store(connected=False)
async def command(scheduler: Scheduler, full: bool, repair: bool, json: bool) -> None:
    """Check the store, the nodes, the queues and this machine. Changes nothing, unless --repair is given.

    Each line says what was found (✓ well, ! look at it, ✗ wrong) and what to do. Exit code 1 if something is wrong.
    """
    findings = await examine(scheduler, None if full or repair else SOME, repair=repair)
    wrong = any(finding.level == "error" for finding in findings)
    if json:
        show_json({"ok": not wrong, "findings": findings})
    else:
        show_record([(MARKS[finding.level], _said(finding)) for finding in findings])
    if wrong:
        raise click.exceptions.Exit(1)


def _said(finding: Finding) -> str:
    return finding.what + (f"\n→ {finding.advice}" if finding.advice else "")
