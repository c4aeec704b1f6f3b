"""What the demo knows at its end, and the checks of it: pure, so that a test can show each of them failing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from duly.cli.demo.ledger import Run

LATEST = 10.0
"""Seconds after which a killed node's job must have begun again. With the demo's lease of 2 s it is about 2 to 3."""
TICKS = {"tick": 1.0, "poll": 2.5}
"""Seconds between the moments of each schedule."""
EDGE = 3.0
"""Seconds by which the first and last tick may miss the begin and end of the schedules' time."""


class Facts(msgspec.Struct):
    """pushed: job id -> task, of each push that returned. Times in epoch seconds.

    due: id -> when a delayed job was due. online, paused: when the nodes were up, and when the schedules were paused.
    victim: the pid that was killed, at `killed`. left: jobs that were still in the store. faults: what went wrong on the way.
    """

    pushed: dict[str, str] = {}
    due: dict[str, float] = {}
    online: float = 0.0
    paused: float = 0.0
    victim: int = 0
    killed: float = 0.0
    runs: list[Run] = []
    left: int = 0
    faults: list[str] = []


class Check(msgspec.Struct, frozen=True):
    """One line of the summary."""

    ok: bool
    what: str
    detail: str = ""


def check(facts: Facts) -> list[Check]:
    """All of them, in the order of the story."""
    checks = [
        _every_job_ran(facts),
        _none_too_early(facts),
        _retried(facts),
        _begun_again(facts),
        _only_the_killed_again(facts),
        *(_each_tick_once(facts, task, seconds) for task, seconds in TICKS.items()),
        Check(not facts.left, "nothing is left in the store", f"{facts.left} jobs" if facts.left else ""),
    ]
    return checks + [Check(False, fault) for fault in facts.faults]


def _every_job_ran(facts: Facts) -> Check:
    done = {run.job for run in facts.runs if run.ok}
    missing = [f"{task} {id}" for id, task in facts.pushed.items() if id not in done]
    counts = Counter(facts.pushed.values())
    detail = ", ".join(f"{count} {task}" for task, count in counts.items())
    what = f"every job that was pushed ran to its end: {len(facts.pushed)}"
    if missing:
        return Check(False, "every job that was pushed ran to its end", f"missing: {', '.join(missing[:5])}")
    return Check(bool(facts.pushed), what, detail)


def _none_too_early(facts: Facts) -> Check:
    first = {run.job: run.began for run in reversed(facts.runs)}
    late = [first[id] - due for id, due in facts.due.items() if id in first]
    ok = len(late) == len(facts.due) > 0 and min(late) >= 0
    detail = f"at the latest {max(late) * 1000:.0f} ms after its moment" if ok else f"{sorted(late)[:3]}"
    return Check(ok, "no delayed job began before its moment", detail)


def _retried(facts: Facts) -> Check:
    ids = [id for id, task in facts.pushed.items() if task == "webhook"]
    ok = bool(ids)
    for id in ids:
        settled = {run.attempt: run.ok for run in facts.runs if run.job == id}
        ok = ok and settled == {1: False, 2: False, 3: True}
    return Check(ok, "failing jobs were tried again: two failures, then success", f"{len(ids)} webhook")


def _begun_again(facts: Facts) -> Check:
    runs = [run for run in facts.runs if run.task == "report"]
    again = [run for run in runs if run.pid != facts.victim and run.began > facts.killed]
    if not facts.victim or not runs or runs[0].pid != facts.victim or runs[0].ok or not again or not again[0].ok:
        return Check(False, "the job of the killed node was run again by another")
    after = again[0].began - facts.killed
    what = f"the job of the killed node {facts.victim} began again on node {again[0].pid} after {after:.1f} s"
    return Check(after <= LATEST and again[0].crashes == 1, what, f"crashes: {again[0].crashes}")


def _only_the_killed_again(facts: Facts) -> Check:
    """At least once: what the killed node had done but not yet reported is done again. Nothing else is."""
    ended: dict[str, list[Run]] = {}
    for run in facts.runs:
        if run.ok:
            ended.setdefault(run.job, []).append(run)
    twice = [runs for runs in ended.values() if len(runs) > 1]
    wrong = [runs[0].job for runs in twice if len(runs) > 2 or not _died_with(facts, runs[0])]
    detail = f"{len(twice)} had ended there without its report getting out" if twice else ""
    if wrong:
        return Check(False, "no other job ran to its end twice", f"{', '.join(wrong[:5])}")
    return Check(True, "no other job ran to its end twice", detail)


def _died_with(facts: Facts, run: Run) -> bool:
    return run.pid == facts.victim and run.ended is not None and facts.killed - run.ended < 1.0


def _each_tick_once(facts: Facts, task: str, seconds: float) -> Check:
    jobs = {(run.nominal, run.job) for run in facts.runs if run.task == task and run.ok}
    moments = sorted(nominal for nominal, _ in jobs if nominal is not None)
    what = f"each tick of {task!r} (every {seconds:g} s) was fired once"
    faults = list(_gaps(moments, seconds))
    if moments and moments[0] > facts.online + seconds + EDGE:
        faults.append("it began late")
    if moments and moments[-1] < facts.paused - seconds - EDGE:
        faults.append("it ended early")
    return Check(bool(moments) and not faults, what, "; ".join(faults[:3]) or f"{len(moments)} ticks, none lost")


def _gaps(moments: Sequence[float], seconds: float) -> Iterator[str]:
    for before, after in pairwise(moments):
        steps = round((after - before) / seconds)
        if steps == 0:
            yield f"{after:.3f} twice"
        elif steps > 1:
            yield f"{steps - 1} missing after {before:.3f}"
