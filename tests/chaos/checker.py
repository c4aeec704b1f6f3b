"""What the evidence says: nothing lost, nothing doubled without a lost lease, each tick once. Pure functions.

The evidence comes from outside the product: what pushes were answered, what handlers wrote down, what was done to whom.
Times are CLOCK_MONOTONIC of the one machine.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tests.acceptance.nodes import Entry
from tests.chaos.plan import STORE

ONCE = frozenset({"once"})
"""Tasks that run at most once."""
DIES_OF_CRASHES = frozenset({"quick"})
"""Tasks with the limit of crashes that jobs have by default."""
LOSES_A_LEASE = ("stop", "hole", "deaf")
"""Troubles in which a node lives and its lease ends, if they last."""
FORGETS = "failover"
LASTING = 0.6
"""Of a lease: a renewal may have been that third and a little ago when the trouble began."""
APART = 0.4
"""Of a lease: troubles less apart than this count as one, since the node may not have renewed between them."""
UNREPLICATED = 0.5
"""Seconds before a failover in which a replica may not have got what the primary had written, and no push awaited."""


@dataclass(frozen=True)
class Trouble:
    """What was done to a node (its pid then) or to the store. A kill lasts until the node serves again."""

    kind: str
    target: str
    pid: int
    begin: float
    end: float


@dataclass(frozen=True)
class Pushed:
    """answer: accepted, uncertain (it may have been), or refused (nothing was written)."""

    id: str
    task: str
    answer: str


@dataclass(frozen=True)
class Run:
    """One begin in the ledger. how: end, fail, cut, or empty: nothing more was heard of it."""

    job: str
    task: str
    pid: int
    fence: int
    attempt: int
    begin: float
    end: float | None
    how: str


@dataclass(frozen=True)
class Recovery:
    """A run that a kill -9 ended, and the seconds until the job ran again.

    disturbed: something else was wrong in that time, so that nothing is promised.
    """

    job: str
    seconds: float
    disturbed: bool


@dataclass(frozen=True)
class Evidence:
    """All that is known. dead: id -> reason. left: id -> state, of what was still there when all should have ended."""

    lease: float
    pushed: Sequence[Pushed]
    entries: Sequence[Entry]
    troubles: Sequence[Trouble] = ()
    dead: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def runs(self) -> dict[str, list[Run]]:
        """Job -> its runs, by fence: in the order in which the store gave the leases."""
        ends = {
            (e.job, e.facts["fence"], e.pid): (e.what, e.at) for e in self.entries if e.what in ("end", "fail", "cut")
        }
        found: dict[str, list[Run]] = {}
        for e in self.entries:
            if e.what == "begin":
                how, at = ends.get((e.job, e.facts["fence"], e.pid), ("", None))
                run = Run(e.job, e.facts["task"], e.pid, e.facts["fence"], e.facts["attempt"], e.at, at, how)
                found.setdefault(e.job, []).append(run)
        for runs in found.values():
            runs.sort(key=lambda run: run.fence)
        return found

    @cached_property
    def blocking(self) -> list[Run]:
        """Those that let nobody else have the event loop of their node."""
        return [run for runs in self.runs.values() for run in runs if run.task == "blocking"]

    @cached_property
    def ended(self) -> set[str]:
        """Jobs that a handler ran to its end."""
        return {entry.job for entry in self.entries if entry.what == "end"}


# --- the findings: each a list of sentences, empty if all is well -----------------------------------------------------


def lost(e: Evidence) -> Iterator[str]:
    """Accepted, and neither run to its end nor visibly dead."""
    for push in e.pushed:
        if push.answer == "accepted" and push.id not in e.ended and push.id not in e.dead:
            yield f"lost: {push.task} {push.id} was accepted and never ran to its end ({e.left.get(push.id, 'gone')})"
    known = {push.id for push in e.pushed if push.answer == "accepted"}
    for id, state in e.left.items():
        if id not in known:
            yield f"left behind: {id} is still {state}"


def wrongly_dead(e: Evidence) -> Iterator[str]:
    """No handler here fails for good: a job dies only where its task says that crashes, or a lost run, are its death."""
    for id, reason in e.dead.items():
        task = next((run.task for run in e.runs.get(id, ())), None) or _task_of(e, id)
        if reason.startswith("lost") and task in ONCE:
            runs = e.runs.get(id)
            if runs and _why(e, runs[0], None) is None:
                yield f"dead: {task} {id} is lost, though nothing was done to its node"
        elif not (reason.startswith("crashed") and task in DIES_OF_CRASHES):
            yield f"dead: {task} {id}: {reason}"


def _task_of(e: Evidence, id: str) -> str | None:
    return next((push.task for push in e.pushed if push.id == id), None)


def doubled_once(e: Evidence) -> Iterator[str]:
    """At most once, and yet begun twice."""
    for job, runs in e.runs.items():
        if runs[0].task in ONCE and len(runs) > 1:
            yield f"doubled: {job} runs at most once, and began {len(runs)} times"


@dataclass(frozen=True)
class Doubled:
    """A job that ran to its end more than once. why: the trouble by which the lease was lost, or None."""

    job: str
    why: str | None


def doubled(e: Evidence) -> list[Doubled]:
    """Every further end of a job whose earlier run had ended well, with what took the lease of that run."""
    found = []
    for job, runs in e.runs.items():
        for run, following in itertools.pairwise(runs):
            if run.how == "end":
                found.append(Doubled(job, _why(e, run, following)))
    return found


def doubled_without_cause(e: Evidence) -> Iterator[str]:
    """Run again after a good end, though its node was well and had its lease."""
    for each in doubled(e):
        if each.why is None:
            yield f"doubled: {each.job} ended well and ran again, and nothing was done to its node"


def _why(e: Evidence, run: Run, following: Run | None) -> str | None:
    """The kind of trouble by which this run's lease may really have been lost before it was settled.

    A kill; a stop or a partition that lasted most of a lease, alone or together with an absence of the store; a
    graceful stop that cut the run short, or could not settle because the store was away; a failover that forgot the
    settlement, or the claim. The store's absence alone is no reason.
    """
    if _is_forgotten(e, run.end or run.begin) or _is_forgotten(e, run.begin):
        return FORGETS
    until = following.begin if following is not None else (run.end or run.begin) + 3 * e.lease
    if any(t.kind == "kill" and t.pid == run.pid and t.begin <= until for t in e.troubles):
        return "kill"
    for block in _blocks(e, run.pid):
        begin, end = block[0].begin, max(t.end for t in block)
        if end < run.begin - APART * e.lease or begin > until:  # a node can be stopped between a lease and its run
            continue
        own = {t.kind for t in block if t.target != STORE}
        stopped = "restart" in own and (run.how == "cut" or len(own) < len({t.kind for t in block}))
        if stopped or (own.intersection(LOSES_A_LEASE) and end - begin >= LASTING * e.lease):
            return "+".join(sorted({t.kind for t in block}))
    return None


def _is_forgotten(e: Evidence, at: float) -> bool:
    """Whether a failover may have forgotten what was written at that moment, if nobody waited for a replica to have it."""
    return any(t.kind == FORGETS and t.begin - UNREPLICATED <= at <= t.end for t in e.troubles)


def _blocks(e: Evidence, pid: int) -> Iterator[list[Trouble]]:
    """The troubles that this process had, its own and the store's, those close together as one."""
    block: list[Trouble] = []
    for trouble in sorted((t for t in e.troubles if t.pid == pid or t.target == STORE), key=lambda t: t.begin):
        if block and trouble.begin > max(t.end for t in block) + APART * e.lease:
            yield block
            block = []
        block.append(trouble)
    if block:
        yield block


def settled_ends(e: Evidence) -> Iterator[str]:
    """What the store has acknowledged as ended ends once, and never runs under a newer lease."""
    settled = [entry for entry in e.entries if entry.what == "settled" and not _is_forgotten(e, entry.at)]
    for job, count in Counter(entry.job for entry in settled).items():
        if count > 1:
            yield f"settled: {job} was settled {count} times"
    for entry in settled:
        fence = entry.facts.get("fence", 0)
        if fence and any(run.fence > fence for run in e.runs.get(entry.job, ())):
            yield f"settled: {entry.job} ran again under a newer lease after its end was settled"


def fences(e: Evidence) -> Iterator[str]:
    """Two runs of a job never have the same fence."""
    for job, runs in e.runs.items():
        if len({run.fence for run in runs}) < len(runs):
            yield f"fence: {job} had two runs under one fence"


def attempts(e: Evidence) -> Iterator[str]:
    """Only failures count as attempts: attempt n begins after n-1 that failed."""
    for job, runs in e.runs.items():
        for run in runs:
            failed = {other.attempt for other in runs if other.how == "fail" and other.fence < run.fence}
            if not failed >= set(range(1, run.attempt)):
                yield f"attempt: {job} began attempt {run.attempt} after failures of {sorted(failed) or 'none'}"


def children(e: Evidence) -> Iterator[str]:
    """Each parent that ended has one child: that of the run whose end was written."""
    ended: Counter[str] = Counter(id.rpartition("/")[0] for id in e.ended if "/" in id)
    begun = {id.rpartition("/")[0] for id in e.runs if "/" in id}
    for job in sorted(begun | {job for job in e.ended if e.runs[job][0].task == "parent"}):
        if ended[job] == 1:
            continue
        forgotten = sum(_is_forgotten(e, run.end) for run in e.runs.get(job, ()) if run.end is not None)
        if not 1 <= ended[job] <= 1 + forgotten:
            yield f"child: {job} has {ended[job]} children that ended, not one"


def unexpected(e: Evidence) -> Iterator[str]:
    """Nothing runs that was not asked for."""
    asked = {push.id for push in e.pushed if push.answer != "refused"}
    for job, runs in e.runs.items():
        is_tick = runs[0].task == "tick" and "@" in job
        if job not in asked and job.rpartition("/")[0] not in asked and not is_tick:
            yield f"unexpected: {runs[0].task} {job} ran, and its push was refused or never made"


def recoveries(e: Evidence) -> list[Recovery]:
    """What each kill -9 cut off, and how long it took until it ran again. Runs at most once do not come again."""
    found = []
    kills = {trouble.pid: trouble for trouble in e.troubles if trouble.kind == "kill"}
    for runs in e.runs.values():
        for run, following in itertools.pairwise(runs):
            kill = kills.get(run.pid)
            if kill is not None and run.end is None and run.begin <= kill.begin <= following.begin:
                found.append(Recovery(run.job, following.begin - kill.begin, _is_disturbed(e, kill, following.begin)))
    return found


def _is_disturbed(e: Evidence, kill: Trouble, until: float) -> bool:
    """Another trouble, or a handler that blocks a node, in the time from the kill on."""
    for other in e.troubles:
        gap = e.lease / 2 if other.target == STORE else 0.0  # a store that was away gives leases more time after it
        if other is not kill and other.kind != "cut" and other.begin <= until and other.end + gap >= kill.begin:
            return True
    return any(run.begin <= until and (run.end or run.begin + e.lease) >= kill.begin for run in e.blocking)


def slow_recoveries(e: Evidence, bound: float) -> Iterator[str]:
    """Undisturbed, and later than promised."""
    for each in recoveries(e):
        if not each.disturbed and each.seconds > bound:
            yield f"recovery: {each.job} ran again {each.seconds:.1f} s after the kill, not within {bound:g} s"


def ticks(e: Evidence, fired: Mapping[str, Sequence[int]], periods: Mapping[str, int]) -> Iterator[str]:
    """Each moment of each schedule once: in the store's tick log (schedule -> moments fired), and in the ledger."""
    ran: dict[str, dict[int, set[str]]] = {name: {} for name in periods}
    for entry in e.entries:
        if "schedule" in entry.facts and entry.what == "end":
            ran[entry.facts["schedule"]].setdefault(entry.facts["nominal"], set()).add(entry.job)
    for name, period in periods.items():
        moments = list(fired.get(name, ()))
        if not moments:
            yield f"tick: {name} never fired"
            continue
        if moments != list(range(moments[0], moments[-1] + 1, period)):
            odd = [(a, b) for a, b in itertools.pairwise(moments) if b - a != period]
            yield f"tick: {name} was fired out of order, twice, or not at all: {odd[:5]}"
        missing = sorted(moment for moment in set(moments) - ran[name].keys() if f"{name}@{moment}" not in e.dead)
        if missing:
            yield f"tick: {name} fired and did not run: {missing[:5]}"
        if odd_ones := sorted(ran[name].keys() - set(moments)):
            yield f"tick: {name} ran and was not fired: {odd_ones[:5]}"
        if twins := sorted(moment for moment, jobs in ran[name].items() if len(jobs) > 1):
            yield f"tick: {name} has two jobs for a moment: {twins[:5]}"


RULES = (
    lost, wrongly_dead, doubled_once, doubled_without_cause, settled_ends, fences, attempts, children, unexpected,
)  # fmt: skip


def violations(e: Evidence) -> list[str]:
    """Every broken promise, a sentence each; recoveries and ticks are asked for apart."""
    return [sentence for rule in RULES for sentence in rule(e)]
