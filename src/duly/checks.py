"""What `duly doctor` looks at beside the store's own health: clocks, nodes, queues, this machine."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import statistics
from collections import Counter
from collections.abc import Sequence

from duly.clock import SYSTEM_CLOCK
from duly.errors import StoreError
from duly.runtime.node import NodeRecord
from duly.runtime.tzdata import UNKNOWN, tzdata_version
from duly.scheduler import Scheduler
from duly.stores.base import MAX_BATCH, Registry, Sizes, Store
from duly.stores.capabilities import Examined, Finding
from duly.version import __version__
from duly.views.nodes import nodes_of
from duly.views.words import counted, lasting

CALLS = 20
SLOW_MS = 50.0
"""A round trip in which a node can do nothing else; jobs still travel in batches."""
SOME = 50_000
"""Entries of each queue that are looked at, unless all are to be."""
LOOK = 500
"""Entries looked at in one step."""
BROKEN = {
    "orphans": ("job", "kept, but neither waiting, running nor dead"),
    "ghosts": ("place", "in a queue for jobs that are not kept"),
    "silent": ("schedule", "without a moment to be looked at"),
}
"""What `reconcile` finds when something is broken, in words."""
MOVED_MS = 86_400_000
"""How long a failover is spoken of."""
CLOCKS_APART = 5.0
"""Seconds; harmless to duly, but the machine's logs and the store's times do not match any more."""


async def examine(scheduler: Scheduler, most: int | None = SOME, *, repair: bool = False) -> list[Finding]:
    """All findings; a store that does not answer is one of them. most: jobs looked at in each queue."""
    findings: list[Finding] = []
    try:
        async with scheduler:
            findings += await check_store(scheduler)
            findings += await check_cluster(scheduler)
            findings += await check_soundness(scheduler, most, repair=repair)
    except StoreError as error:
        findings.append(Finding("error", str(error), "see that it runs, and that --url (or DULY_URL) is right"))
    return findings + check_machine()


async def check_store(scheduler: Scheduler) -> list[Finding]:
    """The store: how fast it answers, its clock, what it says of itself."""
    store = scheduler.connected_store
    findings = await _round_trips(store)
    if isinstance(store, Examined):
        findings += await store.examine()
    return findings


async def _round_trips(store: Store) -> list[Finding]:
    calls: list[tuple[float, float]] = []  # how long it took, and by how much the store's clock was ahead
    for _ in range(CALLS):
        wall, began = SYSTEM_CLOCK.epoch_us() / 1e6, SYSTEM_CLOCK.monotonic()
        now = (await store.registry()).now / 1000
        took = SYSTEM_CLOCK.monotonic() - began
        calls.append((took, now - (wall + took / 2)))
    ms = statistics.median(took for took, _ in calls) * 1000
    return [answers(store.url, ms), clocks(min(calls)[1])]  # the quickest call tells the clock best


def answers(url: str, ms: float) -> Finding:
    """What a median round trip of so many milliseconds means."""
    said = f"{url} answers in {ms:.1f} ms (median of {CALLS} calls)"
    if ms > SLOW_MS:
        return Finding("warning", said, "run the nodes nearer to the store")
    return Finding("ok", said)


def clocks(ahead: float) -> Finding:
    """What it means that the store's clock is ahead of this machine's by so many seconds."""
    if abs(ahead) < CLOCKS_APART:
        return Finding("ok", f"the store's clock and this machine's differ by {abs(ahead):.1f} s")
    which = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "warning",
        f"the store's clock is {lasting(abs(ahead))} {which} this machine's; duly goes by the store's",
        "synchronize both machines (NTP), so that logs agree",
    )


async def check_cluster(scheduler: Scheduler) -> list[Finding]:
    """Nodes and queues."""
    registry = await scheduler.connected_store.registry()
    nodes = nodes_of(registry)
    findings = check_nodes(nodes)
    sizes = await asyncio.gather(*(scheduler.queues.sizes(queue) for queue in registry.queues))
    for queue, size in zip(registry.queues, sizes, strict=True):
        served = any(queue in node.queues for node in nodes)
        if not served and size.pending + size.schedules:
            findings.append(await _unserved(scheduler, queue, size, registry))
        if size.paused:
            findings.append(Finding("warning", f"queue {queue!r} is paused", f"duly queues resume {queue}"))
        if size.moved_at > size.now - MOVED_MS:
            ago = lasting((size.now - size.moved_at) / 1000)
            what = (
                f"{ago} ago another process of the server began to answer for queue {queue!r}: a failover, or a restart"
            )
            findings.append(Finding("warning", what, "see its log; what the former one had not copied or kept is lost"))
        if size.dead:
            jobs = f"{counted(size.dead, 'job')} {_are(size.dead)} dead in queue {queue!r}"
            findings.append(Finding("warning", jobs, f"duly jobs list --state dead --queue {queue}"))
    return findings


async def check_soundness(scheduler: Scheduler, most: int | None, *, repair: bool) -> list[Finding]:
    """Whether every job is in one place, and every place has its job (DESIGN §5); at most `most` entries per queue."""
    found: Counter[str] = Counter()
    looked, whole = 0, True
    for queue in await scheduler.queues.list():
        shard, cursor, steps = scheduler.shard(queue), "", 0
        while steps == 0 or (cursor and (most is None or steps * LOOK < most)):
            cursor, finds = await shard.reconcile(cursor, LOOK, repair=repair)
            found.update(finds)
            steps += 1
        looked, whole = looked + steps * LOOK, whole and not cursor
    findings = [soundness(kind, found[kind], repaired=repair) for kind in BROKEN if found[kind]]
    if findings:
        return findings
    if whole:
        return [Finding("ok", "every job is in one place, and every place has its job")]
    return [Finding("ok", f"nothing is broken in the first {looked:,} entries or so; --full looks at all")]


def soundness(kind: str, count: int, *, repaired: bool) -> Finding:
    """What it means that so many of a kind were found."""
    thing, state = BROKEN[kind]
    what = f"{counted(count, thing)} {state}"
    if repaired:
        return Finding("ok", f"repaired: {what}")
    return Finding(
        "warning", f"{what}: an eviction or a failover lost it", "duly doctor --repair, or let the nodes do it"
    )


def check_nodes(nodes: Sequence[NodeRecord]) -> list[Finding]:
    """Whether there are nodes, and they agree on what they run."""
    if not nodes:
        return [Finding("warning", "no node is alive", "start one: duly worker MODULE:ATTRIBUTE")]
    findings = [Finding("ok", f"{counted(len(nodes), 'node')} {_are(len(nodes))} alive")]
    for name, attribute, advice in (
        ("duly", "version", "fine while a deploy is under way; finish it"),
        ("Python", "python", "fine while a deploy is under way; finish it"),
        ("time zone data", "tzdata", "give all nodes the same: they take the same ticks for different moments"),
    ):
        found = Counter(getattr(node, attribute) or UNKNOWN for node in nodes)
        if len(found) > 1:
            versions = ", ".join(f"{version} ({count})" for version, count in sorted(found.items()))
            findings.append(Finding("warning", f"nodes run different versions of {name}: {versions}", advice))
    return findings


async def _unserved(scheduler: Scheduler, queue: str, size: Sizes, registry: Registry) -> Finding:
    jobs, _ = await scheduler.jobs.list("pending", queue=queue, limit=MAX_BATCH)
    due = sum(job.at <= registry.now / 1000 for job in jobs)
    advice = f"start a node with --queues {queue}"
    if due:
        more = "at least " if len(jobs) < size.pending else ""
        what = f"{more}{counted(due, 'job')} {_are(due)} due in queue {queue!r}"
        return Finding("error", f"{what} and no live node serves it", advice)
    what = f"queue {queue!r} has {counted(size.pending, 'job')} for later and {counted(size.schedules, 'schedule')}"
    return Finding("warning", f"{what}, and no live node serves it", advice)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def check_machine() -> list[Finding]:
    """This machine: versions, extras, time zones."""
    findings = [Finding("ok", f"duly {__version__} on Python {platform.python_version()}")]
    for module, extra, use in (("hiredis", "redis", "Redis and Valkey"), ("uvloop", "fast", "a faster event loop")):
        if importlib.util.find_spec(module) is not None:
            findings.append(Finding("ok", f"{module} is installed: {use}"))
        else:
            findings.append(Finding("ok", f"{module} is not installed", f"for {use}: pip install 'duly[{extra}]'"))
    zones = tzdata_version()
    if zones == UNKNOWN:
        findings.append(
            Finding(
                "warning", "the release of the time zone data is unknown", "install the package tzdata's system twin"
            )
        )
    else:
        findings.append(Finding("ok", f"time zone data {zones}"))
    return findings
