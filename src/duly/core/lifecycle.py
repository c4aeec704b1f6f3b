"""The life of a job as a table, and the one place where policy decides: (job, outcome, policy, now) -> change.

State is where the id is. A change is what `settle` writes, if the lease is still the caller's:

    end     the job is done: it leaves the store (its id stays known for a time if the user gave it)
    again   back to pending, due after `delay` ms, with the counts given
    dead    kept for people to look at, with the reason
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from duly.core.job import Claimed, Policy, to_ms
from duly.core.outcome import Ending, Outcome

State = Literal["new", "pending", "leased", "ended", "dead"]

TRANSITIONS: Mapping[tuple[State, str], State] = {
    ("new", "enqueue"): "pending",
    ("pending", "enqueue replace"): "pending",
    ("pending", "claim"): "leased",
    ("pending", "cancel"): "ended",
    ("pending", "clear"): "new",
    ("leased", "claim take-over"): "leased",
    ("leased", "start"): "leased",
    ("leased", "renew"): "leased",
    ("leased", "cancel"): "leased",
    ("leased", "settle end"): "ended",
    ("leased", "settle again"): "pending",
    ("leased", "settle dead"): "dead",
    ("dead", "revive"): "pending",
    ("dead", "clear"): "new",
    ("ended", "forget"): "new",
}
"""(state, verb) -> state. Stores may do nothing else; the diagram in the documentation is made from it."""

UNFIT_DELAY_MS = (100, 5_000)
"""The least and the most that an unfit job is put back for."""
ISOLATED_DELAY_MS = 500
DIED_DELAY_MS = 1_000


class Change(msgspec.Struct, frozen=True):
    """What is to be written about one leased job. `delay` and `result_ms` in ms; `error` and `result` are packed. A `delay` below
    zero: due so long ago."""

    verb: Literal["end", "again", "dead"]
    delay: int = 0
    attempts: int = 0
    crashes: int = 0
    unfit_since: int = 0
    reason: str = ""
    error: str = ""
    trace: str = ""
    keep_result: bool = False


END = Change("end")


def admit(job: Claimed, policy: Policy, now: int) -> Outcome | None:
    """Whether a job just claimed may run: None, or the outcome that stands for its run. `now` in ms, store clock."""
    if job.cancelled:
        return Outcome(Ending.CANCELLED, reason="cancelled before it ran")
    if job.before is not None:
        if policy.at_most_once and (job.before.started or job.before.doubtful):
            when = "after the start" if job.before.started else "and the server too, which may have known of its start"
            return Outcome(Ending.LOST, reason=f"its node {job.before.node} vanished {when}; it may not start again")
        # A suspect's start is marked: one whose node fell before that waited beside the culprit. The first crash has no mark.
        if job.crashes >= policy.max_crashes and (job.before.started or job.crashes == 1):
            return Outcome(Ending.CRASHED, reason=f"its node was lost {job.crashes} times, last {job.before.node}")
    if policy.expires is not None and now > job.enqueued_at + policy.expires * 1000:
        return Outcome(Ending.EXPIRED, reason=f"not run within {policy.expires:g} s of its push")
    return None


def is_suspect(job: Claimed, policy: Policy) -> bool:
    """Whether one more crash would bury this job: a node runs one such job at a time (DESIGN §2.9)."""
    return job.crashes > 0 and job.crashes >= policy.max_crashes - 1


def decide(job: Claimed, outcome: Outcome, policy: Policy, now: int, roll: float, unfit_ms: int = 3_600_000) -> Change:
    """The change that `outcome` asks for. `now` in ms of the store's clock; `roll` is chance in [0, 1).

    unfit_ms: how long arguments may misfit before the job is dead.
    """
    ending = outcome.ending
    keep = policy.keep_result > 0
    if ending is Ending.RETURNED:
        if outcome.value is False and policy.retry.on_false:
            return _failed(job, outcome, policy, policy.retry.delay_ms(job.attempts + 1, roll), "returned False")
        return Change("end", keep_result=True) if keep else END
    if ending in (Ending.RAISED, Ending.TIMED_OUT):
        return _failed(job, outcome, policy, policy.retry.delay_ms(job.attempts + 1, roll))
    if ending is Ending.RETRY_IN:
        return _failed(job, outcome, policy, to_ms(outcome.seconds))
    if ending is Ending.SNOOZED:  # it ran, so it fits: the time that arguments may misfit begins anew
        return Change("again", to_ms(outcome.seconds), job.attempts, job.crashes, 0, outcome.reason)
    if ending is Ending.HANDED_BACK:
        return _again(job, to_ms(outcome.seconds) or _where_it_was(job, now), outcome)
    if ending is Ending.INTERRUPTED:  # a stop cut the run short
        if policy.at_most_once:
            return _dead(job, outcome, keep, "lost")
        return _again(job, to_ms(outcome.seconds) or _where_it_was(job, now), outcome)
    if ending is Ending.DIED:
        return _died(job, outcome, policy)
    if ending is Ending.ISOLATED:
        return _again(job, ISOLATED_DELAY_MS, outcome)
    if ending in (Ending.UNFIT, Ending.MISFIT):
        return _unfit(job, outcome, now, unfit_ms, keep)
    if ending in (Ending.CANCELLED, Ending.DISCARDED, Ending.EXPIRED):
        return Change("end", reason=f"{ending.value}: {outcome.reason}".rstrip(": "), keep_result=keep)
    return _dead(job, outcome, keep, {Ending.LOST: "lost", Ending.CRASHED: "crashed"}.get(ending, "failed"))


def _failed(job: Claimed, outcome: Outcome, policy: Policy, delay: int, why: str = "") -> Change:
    failures = job.attempts + 1
    if policy.at_most_once or not policy.retry.allows(failures):
        counted = msgspec.structs.replace(job, attempts=failures)
        return _dead(counted, outcome, policy.keep_result > 0, "failed", why)
    return Change(
        "again",
        delay,
        failures,
        job.crashes,
        0,
        why or outcome.reason or outcome.ending.value,
        outcome.error,
        outcome.trace,
    )


def _died(job: Claimed, outcome: Outcome, policy: Policy) -> Change:
    """Its child process died under it: a crash, counted as if its node had died, though the node lives."""
    counted = msgspec.structs.replace(job, crashes=job.crashes + 1)
    if policy.at_most_once:
        return _dead(counted, outcome, policy.keep_result > 0, "lost")
    if counted.crashes >= policy.max_crashes:
        return _dead(counted, outcome, policy.keep_result > 0, "crashed")
    return _again(counted, DIED_DELAY_MS, outcome)


def _where_it_was(job: Claimed, now: int) -> int:
    """The delay, which is none, that puts a job back where it stood among the due ones, within the time that it was held. `now`
    when it was claimed."""
    return min(0, job.due - now) if job.due else 0


def _again(job: Claimed, delay: int, outcome: Outcome) -> Change:
    return Change("again", delay, job.attempts, job.crashes, job.unfit_since, outcome.reason)


def _unfit(job: Claimed, outcome: Outcome, now: int, unfit_ms: int, keep: bool) -> Change:
    """Put back uncounted, later each time: as long again as it has waited, within bounds."""
    since = job.unfit_since or now
    waited = max(0, now - since)
    if outcome.ending is Ending.MISFIT and waited >= unfit_ms:
        return _dead(job, outcome, keep, "misfit")
    least, most = UNFIT_DELAY_MS
    return Change(
        "again", min(most, max(least, waited)), job.attempts, job.crashes, since, outcome.reason, outcome.error
    )


def _dead(job: Claimed, outcome: Outcome, keep: bool, kind: str, why: str = "") -> Change:
    reason = f"{kind}: {why or outcome.reason}".rstrip(": ")
    return Change("dead", 0, job.attempts, job.crashes, 0, reason, outcome.error, outcome.trace, keep)
