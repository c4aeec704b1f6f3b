"""The one screen of the demo: who is alive, what has run, the last ticks, what happened; and the summary at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from duly.cli.demo.facts import Check
from duly.cli.demo.ledger import Run, now
from duly.cli.demo.story import NODES, Story

KINDS = {
    "tick": "cron, each second",
    "poll": "interval, 2.5 s",
    "receipt": "now",
    "reminder": "later",
    "webhook": "fails twice",
    "report": "long",
}
COLOURS = ("cyan", "magenta", "yellow", "blue")
REFRESH = 0.2
EVENTS = 6
WIDE = 78


async def play(story: Story, console: Console) -> None:
    """Run the story under a live screen; on anything but a terminal, a line for each thing that happens."""
    if not console.is_terminal:
        await _play_in_lines(story, console)
        return
    playing = asyncio.create_task(story.run())
    with Live(render(story, console.width), console=console, auto_refresh=False) as live:
        try:
            while not playing.done():
                live.update(render(story, console.width), refresh=True)
                await asyncio.wait([playing], timeout=REFRESH)
        finally:
            if not playing.done():  # Ctrl-C: the story stops what it has started
                playing.cancel()
                await asyncio.wait([playing])
        live.update(render(story, console.width), refresh=True)
    playing.result()


async def _play_in_lines(story: Story, console: Console) -> None:
    told = 0
    playing = asyncio.create_task(story.run())
    try:
        while True:
            done = playing.done()
            for seconds, what in story.events[told:]:
                console.print(f"{seconds:5.1f} s  {what}", markup=False, highlight=False, soft_wrap=True)
                told += 1
            if done:
                break
            await asyncio.wait([playing], timeout=REFRESH)
    finally:
        if not playing.done():
            playing.cancel()
            await asyncio.wait([playing])
    playing.result()


def render(story: Story, width: int) -> RenderableType:
    """The screen as it is now, for a terminal that is `width` columns wide."""
    runs = story.ledger.read()
    head = Text.assemble((" duly demo ", "bold reverse"), f"  {NODES} nodes, one store: ", (story.url, "dim"))
    head.no_wrap, head.overflow = True, "ellipsis"
    return Group(
        head, _nodes(story, runs), _kinds(story, runs, width), _ticks(story, runs, width), _events(story, width)
    )


def colour(story: Story, pid: int) -> str:
    """A node's own, everywhere on the screen."""
    pids = list(story.nodes)
    return COLOURS[pids.index(pid) % len(COLOURS)] if pid in pids else "white"


def _nodes(story: Story, runs: Sequence[Run]) -> RenderableType:
    table = Table(box=None, padding=(0, 2), show_header=False)
    done = Counter(run.pid for run in runs if run.ok)
    for pid, node in story.nodes.items():
        if pid == story.facts.victim:
            state = Text(f"✗ killed with SIGKILL {now() - story.facts.killed:.0f} s ago", "bold red")
        elif node.poll() is None:
            state = Text("● alive", "green")
        else:
            state = Text("○ stopped", "dim")
        table.add_row(Text(f"node {pid}", colour(story, pid)), state, Text(f"{done[pid]} runs", "dim"))
    return table


def _kinds(story: Story, runs: Sequence[Run], width: int) -> RenderableType:
    table = Table(box=None, padding=(0, 1), header_style="dim", expand=False)
    table.add_column("task", no_wrap=True)
    if width >= WIDE:
        table.add_column("kind", style="dim", no_wrap=True)
    for name in ("pushed", "done", "failed", "again"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("now", no_wrap=True, overflow="ellipsis")
    pushed = Counter(story.facts.pushed.values())
    for task, kind in KINDS.items():
        mine = [run for run in runs if run.task == task]
        done = len({run.job for run in mine if run.ok})
        failed = sum(run.ended is not None and not run.ok for run in mine)
        again = sum(run.crashes > 0 for run in mine)
        cells = [str(pushed[task]) if pushed[task] else "", str(done), str(failed or ""), str(again or "")]
        table.add_row(task, *([kind] if width >= WIDE else []), *cells, _now(story, mine))
    return table


def _now(story: Story, runs: Sequence[Run]) -> Text:
    running = [run for run in runs if run.ended is None and not _is_dead(story, run)]
    text = Text()
    for run in running[:3]:
        text.append(f"▶ node {run.pid} for {now() - run.began:.0f} s ", colour(story, run.pid))
    return text


def _is_dead(story: Story, run: Run) -> bool:
    node = story.nodes.get(run.pid)
    return node is None or node.poll() is not None


def _ticks(story: Story, runs: Sequence[Run], width: int) -> RenderableType:
    """One mark for each second's tick, in the colour of the node that ran it."""
    text = Text(" each second's tick, by the node that ran it: ", "dim")
    first = {run.nominal: run.pid for run in reversed(runs) if run.task == "tick"}
    for nominal in sorted(moment for moment in first if moment is not None)[-max(10, width - 50) :]:
        text.append("■", colour(story, first[nominal]))
    return text


def _events(story: Story, width: int) -> RenderableType:
    lines = [
        Text.assemble((f"{seconds:5.1f} s  ", "dim"), what, overflow="fold") for seconds, what in story.events[-EVENTS:]
    ]
    return Panel(Group(*lines), title="what happened", title_align="left", width=min(width, 110), border_style="dim")


def summary(checks: Sequence[Check]) -> RenderableType:
    """The checked end."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for line in checks:
        mark = Text("✓", "bold green") if line.ok else Text("✗", "bold red")
        table.add_row(mark, Text.assemble(line.what, (f"  {line.detail}" if line.detail else "", "dim")))
    return table
