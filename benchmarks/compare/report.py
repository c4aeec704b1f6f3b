"""Makes docs/benchmarks.md and its plots of what the runner wrote: `python benchmarks/compare/report.py compare.json DOCS`."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

OURS = "duly"


class Row(NamedTuple):
    """A column of a table: a figure of a measure. more: whether more is better."""

    measure: str
    figure: str
    title: str
    more: bool = True
    digits: int = 0


TABLES: dict[str, tuple[Row, ...]] = {
    "Running jobs": (
        Row("noop", "jobs/s", "no-op jobs/s"),
        Row("sync", "jobs/s", "no-op jobs/s in threads"),
        Row("io", "jobs/s", "jobs/s of 10 ms at 100"),
        Row("cpu", "one process/s", "jobs/s of 200 µs of Python"),
        Row("cpu", "two / one", "two processes / one", digits=2),
        Row("noop", "worker MB", "MB of the worker", more=False),
    ),
    "Pushing": (
        Row("push", "single/s", "one by one, /s"),
        Row("push", "gather/s", "1,000 awaited together, /s"),
        Row("push", "bulk/s", "in bulk, /s"),
    ),
    "In time": (
        Row("start", "start p50 ms", "push to start, p50 ms", more=False, digits=2),
        Row("start", "start p99 ms", "p99", more=False, digits=2),
        Row("late", "late p50 ms", "5,000 over 10 s: late p50 ms", more=False, digits=1),
        Row("late", "late p99 ms", "p99", more=False, digits=1),
        Row("late", "early", "early", more=False),
        Row("late", "burst last ms", "5,000 at once: last after ms", more=False),
    ),
    "Farther, fuller, idle, killed": (
        Row("away", "jobs/s at 100, 1 ms away", "no-op jobs/s, Redis 1 ms away, 100 slots"),
        Row("away", "jobs/s at 500, 1 ms away", "500 slots"),
        Row("memory", "bytes/job", "bytes per scheduled job", more=False),
        Row("idle", "idle commands/s", "idle: commands/s", more=False, digits=1),
        Row("idle", "idle CPU %", "idle: CPU %", more=False, digits=1),
        Row("recovery", "again after s", "run again after kill -9, s", more=False, digits=1),
    ),
}
PLOTS = (("noop", "jobs/s"), ("io", "jobs/s"), ("push", "single/s"), ("start", "start p50 ms"))


def values(found: dict[str, Any], row: Row, peer: str) -> list[float]:
    """The figure in each round in which there was one."""
    rounds = found.get(row.measure, {}).get(peer, [])
    return [figures[row.figure] for figures in rounds if isinstance(figures, dict) and row.figure in figures]


def number(value: float, digits: int) -> str:
    return "not within 130" if value == -1 else f"{value:,.{digits}f}"


def cell(found: dict[str, Any], row: Row, peer: str) -> str:
    """The median, with its spread where there was more than one round."""
    got = values(found, row, peer)
    if not got:
        return "-"
    middle = number(statistics.median(got), row.digits)
    return middle if len(got) == 1 else f"{middle} ({number(min(got), row.digits)}…{number(max(got), row.digits)})"


def best(found: dict[str, Any], row: Row, peers: Sequence[str]) -> tuple[str, float] | None:
    """The best peer, without duly."""
    medians = {peer: statistics.median(got) for peer in peers if peer != OURS and (got := values(found, row, peer))}
    medians = {peer: value for peer, value in medians.items() if value != -1}
    if not medians:
        return None
    choose = max if row.more else min
    name = choose(medians, key=medians.__getitem__)
    return name, medians[name]


def ratio(found: dict[str, Any], row: Row, peers: Sequence[str]) -> str:
    """How duly stands to the best peer."""
    ours, theirs = values(found, row, OURS), best(found, row, peers)
    if not ours or theirs is None:
        return "-"
    mine = statistics.median(ours)
    return f"{mine / theirs[1]:.2f} x {theirs[0]}" if theirs[1] else f"{theirs[0]}: {number(theirs[1], row.digits)}"


def table(found: dict[str, Any], rows: Sequence[Row], peers: Sequence[str]) -> list[str]:
    shown = [peer for peer in peers if any(values(found, row, peer) for row in rows)]
    lines = [f"| | {' | '.join(row.title for row in rows)} |", "|---" * (len(rows) + 1) + "|"]
    for peer in shown:
        name = f"**{peer}**" if peer == OURS else peer
        lines.append(f"| {name} | {' | '.join(cell(found, row, peer) for row in rows)} |")
    lines.append(f"| duly to the best of the others | {' | '.join(ratio(found, row, peers) for row in rows)} |")
    return lines


def limits(said: dict[str, Any]) -> list[str]:
    """The limits of the machine, and duly's share of each."""
    measured = said["limits"]
    lines = ["| with nothing around it | median (spread) |", "|---|---|"]
    for name in measured[0]:
        got = [one[name] for one in measured]
        lines.append(f"| {name} | {statistics.median(got):,.0f} ({min(got):,.0f}…{max(got):,.0f}) |")
    return lines


def page(said: dict[str, Any]) -> str:
    """All tables as Markdown."""
    found, peers = said["found"], list(said["peers"])
    lines: list[str] = []
    for title, rows in TABLES.items():
        if any(row.measure in found for row in rows):
            lines += [f"### {title}", "", *table(found, rows, peers), ""]
    ahead = found.get("ahead", {})
    if ahead:
        lines += ["### With jobs scheduled for tomorrow", "", "| | no-op jobs/s |", "|---|---|"]
        for peer, rounds in ahead.items():
            shown = (
                rounds[0] if isinstance(rounds[0], str) else ", ".join(f"{k}: {v:,.0f}" for k, v in rounds[0].items())
            )
            lines.append(f"| {peer} | {shown} |")
        lines.append("")
    lines += [
        "### Limits",
        "",
        *limits(said),
        "",
        "### What was measured",
        "",
        "| | versions | if its worker is killed |",
    ]
    lines += ["|---|---|---|"]
    for peer, facts in said["peers"].items():
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        lines.append(f"| {peer} | {versions} | {facts['promise']} |")
    machine = ", ".join(f"{name} {value}" for name, value in said["machine"].items())
    lines += ["", f"{said['date']}; {len(said['limits'])} round(s); {machine}.", ""]
    faults = [
        f"- {peer}, {measure}: {one}"
        for measure, of in found.items() for peer, rounds in of.items() for one in rounds if isinstance(one, str)
    ]  # fmt: skip
    if faults:
        lines += ["No figure:", "", *faults, ""]
    return "\n".join(lines)


def plot(said: dict[str, Any], path: Path) -> None:
    """A bar for each peer, in four measures."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "duly"
    from matplotlib import pyplot as plt

    found = said["found"]
    chosen = [
        row for rows in TABLES.values() for row in rows if (row.measure, row.figure) in PLOTS and row.measure in found
    ]
    figure, axes = plt.subplots(1, len(chosen), figsize=(3.2 * len(chosen), 3.6), squeeze=False)
    for axis, row in zip(axes[0], chosen, strict=True):
        got = {peer: statistics.median(v) for peer in said["peers"] if (v := values(found, row, peer))}
        names = sorted(got, key=got.__getitem__, reverse=not row.more)
        colours = ["#c2410c" if name == OURS else "#94a3b8" for name in names]
        axis.barh(names, [got[name] for name in names], color=colours)
        axis.set_title(row.title, fontsize=9)
        axis.tick_params(labelsize=7)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main(source: str, docs: str) -> None:
    said, folder = json.loads(Path(source).read_text()), Path(docs)
    target = folder / "benchmarks.md"
    begin, end = "<!-- tables -->", "<!-- end of tables -->"
    text = target.read_text() if target.exists() else f"{begin}\n{end}\n"
    before, after = text.partition(begin)[0], text.partition(end)[2]
    target.write_text(f"{before}{begin}\n\n{page(said)}\n{end}{after}")
    plot(said, folder / "benchmarks.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])
