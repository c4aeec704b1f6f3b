"""Why a job is where it is: from what the store, the registry and the envelope say to sentences. Pure.

`docs/why.md` has a line for each code, with what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from duly.core import codec
from duly.core.codec import Envelope
from duly.core.job import Options, make_policy
from duly.errors import UnfitJob
from duly.runtime.handler import Handler
from duly.runtime.node import NodeRecord
from duly.stores.base import Answer, JobRecord, Registry, Sizes
from duly.stores.capabilities import Ahead
from duly.views.nodes import UNREADABLE, nodes_of
from duly.views.words import both, counted, lasting, relative

RATE_MS = 10_000
"""How far back the rate of claims is looked for."""
RATE_ENTRIES = 200
"""How many entries of the history are read for it."""
NOT_KNOWN = -1
"""Of retries: the task is not declared in this process, and the push did not say."""
MOVER = "duly:move"
"""Who holds what is on its way to another shard."""
ISOLATED = "which may crash its node too"
"""How the reason ends with which a node puts back a suspect beside another (DESIGN §2.9)."""
OURS = "duly:"
"""How the names of tasks begin that every node has."""
BEATS_SILENT = 2 / 3
"""Of the time for which a beat counts: who was silent for longer has missed one."""
STATES = {"pending": "waits", "leased": "runs", "ended": "has ended", "dead": "is dead"}
ASIDE = frozenset({"failed", "crashed", "tick", "place"})
"""Codes of what explains nothing by itself, but belongs to the answer."""


class Reason(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that holds a job where it is, or tells of it. Moments in epoch seconds of the store's clock.

    jobs: how many come before it (at_least: there may be more; at_most: no more). rate: jobs claimed in a second. attempt: the
    next one's number, of `attempts` at most (None: no limit, or not known). place: the shard in which it lies. job: who holds
    the unique key.
    """

    code: str
    text: str
    since: float | None = None
    until: float | None = None
    node: str = ""
    host: str = ""
    pid: int = 0
    job: str = ""
    task: str = ""
    schedule: str = ""
    place: str = ""
    jobs: int | None = None
    at_least: bool = False
    at_most: bool = False
    rate: float | None = None
    limit: int | None = None
    attempt: int | None = None
    attempts: int | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one job. sizes: of the shard in which it lies. rate: jobs claimed there in a second. retries:
    NOT_KNOWN, or None for no limit. place: where it lies, if its queue lies in several shards. is_misplaced: it does not
    belong there."""

    id: str
    queue: str
    record: JobRecord | None
    sizes: Sizes
    registry: Registry
    ahead: Ahead | None = None
    rate: float | None = None
    retries: int | None = NOT_KNOWN
    place: str = ""
    is_misplaced: bool = False

    @property
    def now(self) -> int:
        return self.sizes.now

    @property
    def serving(self) -> list[NodeRecord]:
        """The live nodes that serve the queue."""
        return [node for node in nodes_of(self.registry) if self.queue in node.queues or node.host == UNREADABLE]


def reasons(facts: Facts) -> list[Reason]:
    """All that explains where the job is, most decisive first; then what tells more of it."""
    record = facts.record
    if record is None:
        text = f"queue {facts.queue!r} knows no job {facts.id!r}: it ended (only ids given by users are remembered), or never was"
        return [Reason(code="unknown", text=text)]
    made = {"ended": _ended, "dead": _dead, "leased": _leased}.get(record.state, _pending)
    return [*made(facts, record), *_asides(facts, record)]


def key_taken(key: str, queue: str, answer: Answer) -> Reason:
    """Why a push with a unique key is answered with another id. answer: (state, id) of who holds the key."""
    state, id = answer
    text = f"unique key {key!r} of queue {queue!r} is taken by job {id!r}, which {STATES[state]}"
    return Reason(code="key_taken", text=text, job=id)


def sentence(found: Sequence[Reason]) -> str:
    """All that holds the job where it is, as one sentence."""
    return "; ".join(reason.text for reason in found if reason.code not in ASIDE)


def opened(record: JobRecord) -> Envelope | None:
    """The job's envelope; None if this code cannot read it."""
    try:
        return codec.decode(record.body)
    except (UnfitJob, msgspec.MsgspecError, ValueError):
        return None


def retries_of(envelope: Envelope, handler: Handler | None) -> int | None:
    """How often it is retried, by what its push says, or its task as it is declared here: NOT_KNOWN, or None for no limit."""
    pushed = envelope.options
    if handler is None and (pushed is None or not (pushed.retry or pushed.retry_timeout or pushed.delivery)):
        return NOT_KNOWN
    try:
        policy = handler.policy_for(pushed) if handler is not None else make_policy(Options(), pushed)
    except UnfitJob:
        return NOT_KNOWN
    return policy.retry.limit


def claimed_per_second(entries: Iterable[tuple[str, Mapping[str, str]]], now: int) -> float | None:
    """From the entries of the history after now - RATE_MS, at most RATE_ENTRIES of them; None if they do not tell."""
    found = [(int(id.partition("-")[0]), fields) for id, fields in entries]
    claims = sum(int(fields["count"]) for _, fields in found if fields["verb"] == "claim")
    if not claims:
        return None
    end = now if len(found) < RATE_ENTRIES else found[-1][0]
    return claims * 1000 / max(end - found[0][0], 1000 if len(found) < RATE_ENTRIES else 1)


# --- ended, dead, leased ---------------------------------------------------------------------------------------------


def _ended(facts: Facts, record: JobRecord) -> Iterator[Reason]:
    kept = f"; its id is remembered for {lasting((record.at - facts.now) / 1000)} more" if record.at else ""
    yield Reason(code="ended", text=f"it has ended{kept}", until=_seconds(record.at))


def _dead(_: Facts, record: JobRecord) -> Iterator[Reason]:
    yield Reason(code="dead", text=f"it is dead: {record.reason or record.error}", since=_seconds(record.at))


def _leased(facts: Facts, record: JobRecord) -> Iterator[Reason]:
    if record.node == MOVER:
        yield Reason(code="moving", text="it is on its way to another shard of its queue, and waits on there")
        return
    node = next((each for each in nodes_of(facts.registry) if each.id == record.node), None)
    claimed = record.fence // 1000  # a fence is the moment of its claim in µs, unless the clock had gone back
    since = claimed if 0 < claimed <= facts.now else 0
    begun = f"for {lasting((facts.now - since) / 1000)}" if since else ""
    address = f"pid {node.pid} on {node.host}" if node is not None and node.host != UNREADABLE else ""
    where = f" ({', '.join(part for part in (address, begun) if part)})" if address or begun else ""
    when, is_over = _soon(record.at, facts.now), record.at <= facts.now
    if is_over:
        text = f"the lease of node {record.node} ended {when}{where}: the next claim takes it over"
    else:
        text = f"node {record.node} runs it, its lease ends {when}{where}"
    yield Reason(
        code="lease_over" if is_over else "held", text=text, since=_seconds(since), until=_seconds(record.at),
        node=record.node, host=node.host if node is not None else "", pid=node.pid if node is not None else 0,
    )  # fmt: skip
    if is_over and not facts.serving:
        yield _no_node(facts)
    yield from _silence(facts, record, node)
    if record.cancel_asked:
        yield Reason(code="cancel_asked", text="a cancel was asked", node=record.node)


def _silence(facts: Facts, record: JobRecord, node: NodeRecord | None) -> Iterator[Reason]:
    """Of a node that holds a job, and may not live any more."""
    if node is None:
        text = "that node is not alive any more, by its beats: it has left, or nothing was heard of it for too long"
        yield Reason(code="node_gone", text=text, node=record.node)
        return
    until = facts.registry.until.get(node.id)
    if until is None or node.host == UNREADABLE:
        return
    last = until - node.ttl
    if facts.registry.now - last > BEATS_SILENT * node.ttl:
        text = f"that node has not beaten for {lasting((facts.registry.now - last) / 1000)}"
        yield Reason(code="node_silent", text=text, node=node.id, host=node.host, pid=node.pid, since=_seconds(last))


# --- pending ---------------------------------------------------------------------------------------------------------


def _pending(facts: Facts, record: JobRecord) -> Iterator[Reason]:
    is_isolated = record.reason.endswith(ISOLATED)
    if record.at > facts.now and not record.unfit_since and not is_isolated:
        yield _later(facts, record)
    if facts.sizes.paused:
        yield _paused(facts)
    serving = facts.serving
    if not serving:
        yield _no_node(facts)
    if record.unfit_since:
        again = f"; again {_soon(record.at, facts.now)}" if record.at > facts.now else ""
        yield Reason(
            code="unfit", text=f"nodes that took it could not run it: {record.reason}{again}",
            since=_seconds(record.unfit_since), until=_seconds(record.at),
        )  # fmt: skip
    envelope = opened(record)
    unknown = envelope is not None and bool(serving) and not any(_knows(node, envelope.task) for node in serving)
    if unknown and envelope is not None:
        text = f"no live node that serves queue {facts.queue!r} has a task {envelope.task!r}, by their last beats"
        yield Reason(code="unknown_task", text=text, task=envelope.task)
    if is_isolated:
        text = f"it {record.reason}: a node runs one such job at a time"
        yield Reason(code="isolated", text=text, until=_seconds(record.at))
    is_held = facts.sizes.paused or not serving or unknown or record.unfit_since or is_isolated
    if record.at <= facts.now and not is_held:
        yield from _in_line(facts, serving)


def _later(facts: Facts, record: JobRecord) -> Reason:
    when, until = both(record.at / 1000, facts.now / 1000), _seconds(record.at)
    if record.attempts:
        attempt, most = record.attempts + 1, _most(facts, record)
        which = f"attempt {attempt}" + (f" of {most}" if most is not None else "")
        text = f"it is run again {when}, {which} ({_failures(record)})"
        return Reason(code="retry", text=text, until=until, attempt=attempt, attempts=most)
    if record.reason:
        return Reason(code="put_back", text=f"it is put back, due {when}: {record.reason}", until=until)
    return Reason(code="not_due", text=f"it is due {when}", until=until)


def _most(facts: Facts, record: JobRecord) -> int | None:
    """How many attempts there are; None if there is no limit, or it is not known, or it is another by now."""
    if facts.retries is None or facts.retries < record.attempts:
        return None
    return facts.retries + 1


def _paused(facts: Facts) -> Reason:
    since = facts.sizes.paused_since
    for_ = f", since {both(since / 1000, facts.now / 1000)}" if since else ""
    return Reason(code="paused", text=f"queue {facts.queue!r} is paused{for_}", since=_seconds(since))


def _no_node(facts: Facts) -> Reason:
    alive = len(facts.registry.nodes)
    others = f"; {counted(alive, 'node')} for other queues" if alive else ""
    return Reason(code="no_node", text=f"no live node serves queue {facts.queue!r}{others}")


def _in_line(facts: Facts, nodes: Sequence[NodeRecord]) -> Iterator[Reason]:
    """Of a job that could be claimed."""
    sizes = facts.sizes
    is_full = sizes.limit is not None and sizes.leased >= sizes.limit
    if is_full:
        text = f"queue {facts.queue!r} runs its limit of {sizes.limit} jobs"
        yield Reason(code="limit", text=text, limit=sizes.limit)
    slots, running = sum(node.concurrency for node in nodes), sum(node.running for node in nodes)
    are_busy = running >= slots and all(node.host != UNREADABLE for node in nodes)
    if are_busy:
        of = f"the {counted(len(nodes), 'node')} that serve it" if len(nodes) > 1 else "the node that serves it"
        text = f"all {counted(slots, 'slot')} of {of} are busy, by the last beats"
        yield Reason(code="busy", text=text, limit=slots)
    ahead = facts.ahead
    jobs = ahead.jobs if ahead is not None else sizes.pending - 1
    if jobs > 0:
        many = "at most " if ahead is None else "at least " if ahead.is_more else ""
        rate = f", of which {facts.rate:,.3g} are claimed in a second" if facts.rate else ""
        yield Reason(
            code="behind", text=f"it is due, behind {many}{counted(jobs, 'other')}{rate}", jobs=jobs, rate=facts.rate,
            at_most=ahead is None, at_least=ahead is not None and ahead.is_more,
        )  # fmt: skip
    elif not is_full and not are_busy:
        yield Reason(code="next", text="it is due, and the next to be claimed")


def _knows(node: NodeRecord, task: str) -> bool:
    """Whether a node has the task, or may have it."""
    return node.tasks is None or task in node.tasks or "*" in node.tasks or task.startswith(OURS)


# --- asides ----------------------------------------------------------------------------------------------------------


def _asides(facts: Facts, record: JobRecord) -> Iterator[Reason]:
    if record.attempts and record.state != "dead" and not (record.state == "pending" and record.at > facts.now):
        yield Reason(code="failed", text=f"it has {_failures(record)}", attempt=record.attempts + 1)
    if record.crashes and record.state != "dead":
        yield Reason(code="crashed", text=f"its node or its process was lost {counted(record.crashes, 'time')}")
    envelope = opened(record)
    if envelope is not None and envelope.origin is not None:
        origin = envelope.origin
        text = f"it is the tick of schedule {origin.schedule!r} for {both(origin.nominal / 1000, facts.now / 1000)}"
        yield Reason(code="tick", text=text, schedule=origin.schedule, since=_seconds(origin.nominal))
    if facts.place and record.state != "ended":
        stays = ", where it does not belong any more: it will be moved" if facts.is_misplaced else ""
        yield Reason(code="place", text=f"it lies in {facts.place}{stays}", place=facts.place)


def _failures(record: JobRecord) -> str:
    return f"failed {counted(record.attempts, 'time')}, last: {record.reason or record.error}"


def _soon(at: int, now: int) -> str:
    """As `relative`, to a tenth of a second."""
    if abs(at - now) >= 60_000:
        return relative(at / 1000, now / 1000)
    return f"in {(at - now) / 1000:.1f} s" if at > now else f"{(now - at) / 1000:.1f} s ago"


def _seconds(ms: int) -> float | None:
    return ms / 1000 if ms else None
