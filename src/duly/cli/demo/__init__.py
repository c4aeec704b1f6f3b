"""`duly demo`: the main job on this machine within half a minute, and whether all of it went as promised."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

import click


@click.command("demo")
@click.option("--url", help="A store to use instead of a new SQLite file, such as redis://localhost:6379/0.")
@click.option("--keep", is_flag=True, help="Keep the folder with the store, the ledger and the nodes' logs.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON and nothing else.")
def command(url: str | None, keep: bool, as_json: bool) -> None:
    """See it work, and survive a kill.

    Starts two nodes as processes of their own on an embedded store, pushes jobs of every kind, kills one node with
    SIGKILL in the middle of a long job, and checks at the end that every job ran, that the killed one was run again,
    and that every tick was fired once. Ends by itself within 30 seconds; exit code 1 if a check fails.
    """
    if url is not None and url.startswith("memory:"):
        raise click.UsageError("--url memory://… is one process's own: the demo's nodes are processes; leave it out")
    folder = Path(tempfile.mkdtemp(prefix="duly-demo-"))
    code = 1
    try:
        code = _run(url, folder, as_json)
    finally:
        if keep or code:
            click.echo(f"the store, the ledger and the nodes' logs: {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def _run(url: str | None, folder: Path, as_json: bool) -> int:
    place = url or f"sqlite:///{folder}/duly.db"
    os.environ["DULY_URL"] = place  # also for the nodes, which inherit it
    if url is not None:
        os.environ["DULY_NAMESPACE"] = f"demo-{uuid.uuid4().hex[:8]}"
    os.environ["DULY_DEMO_LEDGER"] = str(folder / "ledger.db")
    import msgspec
    from rich.console import Console

    from duly.cli.demo import application, facts, screen
    from duly.cli.demo.story import Story

    console = Console(stderr=as_json, highlight=False)
    story = Story(application.scheduler, folder, clears=url is not None)
    asyncio.run(screen.play(story, console))
    checks = facts.check(story.facts)
    failed = sum(not check.ok for check in checks)
    if as_json:
        document = {"ok": not failed, "seconds": round(story.seconds, 1), "url": story.url, "checks": checks}
        click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())
        return 1 if failed else 0
    console.print(screen.summary(checks))
    told = f"{failed} of {len(checks)} checks failed" if failed else "Everything went as promised"
    console.print(f"[bold]{told}[/bold], in {story.seconds:.0f} s.")
    return 1 if failed else 0
