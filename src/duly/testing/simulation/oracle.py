"""The judge: hears what the store answered and what handlers did, and says which promise was broken.

It keeps its own account of every job, from the answers alone: who was given it under which fence, when its lease ends,
how it ended. It never asks the store until the end, when both accounts must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from duly.core import codec
from duly.core.job import MAX_CRASHES, NewJob
from duly.runtime import forward
from duly.stores.base import Batch, Fired, Firing, Renewal, Settlement
from duly.testing.simulation.ticks import TickJudge
from duly.testing.simulation.trouble import Trouble

ENOUGH = 10
"""Faults after which the rest of a run teaches nothing."""


@dataclass
class Account:
    """What is known of one job."""

    id: str
    accepted: bool = False
    created: int = 0
    holder: tuple[int, str] | None = None  # fence, process
    lease_end: int = 0
    last_fence: int = 0
    crashes: int = 0
    verdict: str = ""  # what became of the holder whose loss buries the job
    marked: int = 0  # the fence under which the start was marked, since the job was last put back
    ended: str | None = None
    ended_at: int = 0
    begun: dict[int, str] = field(default_factory=dict)  # fence -> process
    finished: set[int] = field(default_factory=set)
    carries: str = ""  # the child that a forward brings to another queue


class Oracle:
    """`now` gives the store's clock in ms; `kind_of` the kind of a job by its id; `trouble` who had what happen to it."""

    def __init__(self, now: Callable[[], int], trouble: Trouble, once: Callable[[str], bool]) -> None:
        self.now, self.trouble, self.is_once = now, trouble, once
        self.accounts: dict[str, Account] = {}
        self.faults: list[str] = []
        self.enough: Callable[[], object] = lambda: None
        self.ticks = TickJudge(self)
        self._sent: dict[str, int] = {}

    def fault(self, text: str) -> None:
        self.faults.append(text)
        if len(self.faults) == ENOUGH:
            self.enough()

    def account(self, id: str) -> Account:
        account = self.accounts.get(id)
        if account is None:
            account = self.accounts[id] = Account(id)
        return account

    def has_ended(self, id: str) -> bool:
        account = self.accounts.get(id)
        return account is not None and account.ended is not None

    def ended_at(self, id: str) -> int:
        """When; 0 if it has not."""
        account = self.accounts.get(id)
        return account.ended_at if account is not None else 0

    # --- what the store did ------------------------------------------------------------------------------------------

    def witness(self, process: str, verb: str, queue: str, args: tuple[Any, ...], kwargs: dict[str, Any],
                answer: Any) -> None:  # fmt: skip
        """A verb was applied, or refused: then `answer` is the error."""
        hear = getattr(self, f"_{verb}", None)
        if hear is not None and not isinstance(answer, Exception):
            hear(process, *args, answer, **kwargs)

    def _create(self, job: NewJob) -> None:
        account = self.account(job.id)
        account.created += 1
        if account.created > 1:
            self.fault(f"{job.id} was enqueued {account.created} times")

    def _enqueue(
        self, _process: str, client: str, n: int, jobs: Sequence[NewJob], answers: Any, epoch: int = 0
    ) -> None:
        if n <= self._sent.get(client, 0):
            return  # a repeat answers as before; if it wrote, a claim will show it
        self._sent[client] = n
        for job, (state, _) in zip(jobs, answers, strict=True):
            if state == "created":
                self._create(job)

    def _claim(self, process: str, node: str, n: int, limit: int, lease: int, shortest: int, batch: Batch) -> None:
        now = self.now()
        for job in batch.jobs:
            account = self.account(job.id)
            if not account.created:
                self.fault(f"{job.id} was claimed and never pushed")
            if account.ended is not None:
                self.fault(f"{job.id} was claimed after its end ({account.ended})")
            if account.holder == (batch.fence, process):
                account.lease_end = now + lease  # a repeat of the call: what is still held
                continue
            if batch.fence <= account.last_fence:
                self.fault(f"{job.id} was claimed under fence {batch.fence}, after {account.last_fence}")
            self._take_over(account, job.before, now, shortest)
            if job.crashes != account.crashes:
                self.fault(f"{job.id} has {job.crashes} crashes counted, and {account.crashes} happened")
                account.crashes = job.crashes
            account.holder, account.lease_end, account.last_fence = (batch.fence, process), now + lease, batch.fence

    def _take_over(self, account: Account, before: Any, now: int, lease: int) -> None:
        holder = account.holder
        if holder is None:
            if before is not None:
                self.fault(f"{account.id} was taken over from fence {before.fence}, and nobody held it")
            return
        fence, process = holder
        if before is None:
            self.fault(f"{account.id} was handed out twice: {process} holds it under fence {fence}")
            return
        if before.fence != fence:
            self.fault(f"{account.id} was taken over from fence {before.fence}, and {fence} held it")
        if account.lease_end > now:
            self.fault(f"{account.id} was taken over {account.lease_end - now} ms before its lease ended")
        if before.started != bool(account.marked):
            self.fault(
                f"{account.id}: the take-over says started={before.started}, and fence {account.marked} was marked"
            )
        account.crashes += 1
        why = self.trouble.of(process)
        if not why:
            self.fault(f"{account.id} was taken over from {process}, which is well: a crash is counted that was none")
        if before.started and account.crashes >= MAX_CRASHES and not account.verdict:
            account.verdict = why

    def _holds(self, verb: str, account: Account, fence: int, process: str) -> bool:
        if account.holder is not None and account.holder[0] == fence:
            return True
        self.fault(f"{verb} of {account.id} by {process} under fence {fence} was applied; held by {account.holder}")
        return False

    def _start(self, process: str, holds: Sequence[tuple[str, int]], marks: Sequence[bool]) -> None:
        for (id, fence), mark in zip(holds, marks, strict=True):
            account = self.account(id)
            if mark and self._holds("start", account, fence, process):
                account.marked = fence

    def _renew(self, process: str, renewals: Sequence[Renewal], answers: Sequence[str]) -> None:
        for renewal, answer in zip(renewals, answers, strict=True):
            account = self.account(renewal.id)
            if answer != "taken" and self._holds("renew", account, renewal.fence, process):
                account.lease_end = self.now() + renewal.lease

    def _settle(
        self, process: str, node: str, n: int, settlements: Sequence[Settlement], answers: Sequence[str]
    ) -> None:
        for settlement, answer in zip(settlements, answers, strict=True):
            account = self.account(settlement.id)
            if answer != "applied" or not self._holds("settle", account, settlement.fence, process):
                continue
            self._change(account, settlement)
            for child in settlement.children:
                self._create(child)
                self.account(child.id).accepted = True
                self._look_for_a_forward(child)

    def _change(self, account: Account, settlement: Settlement) -> None:
        change = settlement.change
        account.holder = None
        if change.verb == "again":
            account.crashes, account.marked, account.verdict = change.crashes, 0, ""
            return
        account.ended, account.ended_at = (
            f"{change.verb}: {change.reason}" if change.reason else change.verb,
            self.now(),
        )
        if account.carries:
            if change.verb != "end" or not self.account(account.carries).created:
                self.fault(
                    f"the forward {account.id} ended ({account.ended}), and {account.carries} is not in its queue"
                )
        elif change.verb == "end" and not change.reason and settlement.fence not in account.finished:
            self.fault(f"{account.id} was settled as done under fence {settlement.fence}, and that run did not return")
        culprit = account.verdict.removeprefix("poison ")
        if change.reason.startswith("crashed") and culprit not in (account.verdict, account.id):
            self.fault(f"{account.id} was buried for a crash that its neighbour caused: {account.verdict}")

    def _look_for_a_forward(self, child: NewJob) -> None:
        envelope = codec.decode(child.body)
        if envelope.task == forward.TASK:
            _, packed = codec.unpack(envelope.args)
            carried = msgspec.msgpack.decode(packed, type=NewJob)
            self.account(child.id).carries = carried.id

    def _cancel(self, _process: str, ids: Sequence[str], answers: Sequence[str]) -> None:
        for id, answer in zip(ids, answers, strict=True):
            if answer == "cancelled":
                account = self.account(id)
                account.ended, account.ended_at = "cancelled before it ran", self.now()

    def _put(self, process: str, schedule: Any, answer: Any) -> None:
        self.ticks.put(schedule, *answer)

    def _fire(self, process: str, _node: str, firings: Sequence[Firing], answers: Sequence[Fired]) -> None:
        for firing, answer in zip(firings, answers, strict=True):
            if answer == "stale":
                continue
            self.ticks.fired(firing)
            for job in firing.jobs:
                self._create(job)
                account = self.account(job.id)
                account.accepted = True
                if isinstance(answer, int):
                    if answer <= account.last_fence:
                        self.fault(f"{job.id} was leased under fence {answer}, after {account.last_fence}")
                    account.holder, account.last_fence = (answer, process), answer
                    account.lease_end = self.now() + firing.lease

    # --- what handlers did -------------------------------------------------------------------------------------------

    def begin(self, process: str, id: str, fence: int) -> None:
        """A handler begins."""
        account = self.account(id)
        if fence in account.begun:
            self.fault(f"{id} began twice under fence {fence}: on {account.begun[fence]} and on {process}")
        account.begun[fence] = process
        if self.is_once(id):
            if len(account.begun) > 1:
                self.fault(f"{id} runs at most once, and began {len(account.begun)} times")
            if account.marked != fence:
                self.fault(f"{id} began at most once without its mark")

    def finish(self, id: str, fence: int) -> None:
        """A handler returned."""
        self.account(id).finished.add(fence)

    # --- the end -----------------------------------------------------------------------------------------------------

    def open(self) -> list[str]:
        """Ids that are accepted, or were written, and have not ended."""
        return [a.id for a in self.accounts.values() if (a.accepted or a.created) and a.ended is None]

    def judge_the_end(self) -> None:
        for account in self.accounts.values():
            if account.accepted and not account.created:
                self.fault(f"{account.id} was accepted and is not in the store: lost")
            elif account.created and account.ended is None:
                held = f"held by {account.holder[1]}" if account.holder else "pending"
                self.fault(f"{account.id} has not ended: {held}")
