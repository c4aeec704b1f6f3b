"""Each rule of the checker finds what is planted for it, and is silent about what may happen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.acceptance.nodes import Entry
from tests.chaos import checker
from tests.chaos.checker import Doubled, Evidence, Pushed, Recovery, Trouble
from tests.chaos.plan import STORE

LEASE = 2.0
A, B = 11, 22  # pids


def entry(what: str, at: float, *, job: str = "j", pid: int = A, fence: int = 1, **facts: Any) -> Entry:
    return Entry(what, job, pid, at, {"task": "quick", "fence": fence, "attempt": 1, "crashes": 0, **facts})


def run(begin: float, end: float, how: str = "end", **facts: Any) -> list[Entry]:
    return [entry("begin", begin, **facts), entry(how, end, **facts)]


def evidence(*entries: Entry, pushed: Iterable[Pushed] | None = None, **more: Any) -> Evidence:
    jobs = {e.job: e.facts.get("task", "quick") for e in entries}
    given = [Pushed(job, task, "accepted") for job, task in jobs.items()] if pushed is None else list(pushed)
    return Evidence(LEASE, given, entries, **more)


def trouble(kind: str, begin: float, end: float, pid: int = A) -> Trouble:
    return Trouble(kind, STORE if kind in ("away", "locked") else "A", pid, begin, end)


def found(e: Evidence) -> list[str]:
    """The kinds of all violations."""
    return [sentence.partition(":")[0] for sentence in checker.violations(e)]


def test_a_job_that_ran_to_its_end_is_no_finding() -> None:
    assert found(evidence(*run(1, 2), entry("settled", 2.1))) == []


@pytest.mark.parametrize("entries", [[], [entry("begin", 1)], run(1, 2, "fail"), run(1, 2, "cut")])
def test_a_job_that_never_ran_to_its_end_is_lost(entries: list[Entry]) -> None:
    assert found(evidence(*entries, pushed=[Pushed("j", "quick", "accepted")])) == ["lost"]


def test_a_push_in_doubt_may_run_or_not() -> None:
    assert found(evidence(pushed=[Pushed("j", "quick", "uncertain")])) == []
    assert found(evidence(*run(1, 2), pushed=[Pushed("j", "quick", "uncertain")])) == []


def test_what_was_refused_or_never_pushed_must_not_run() -> None:
    assert found(evidence(*run(1, 2), pushed=[Pushed("j", "quick", "refused")])) == ["unexpected"]
    assert found(evidence(*run(1, 2), pushed=[])) == ["unexpected"]


def test_what_is_left_in_the_store_is_a_finding() -> None:
    assert found(evidence(left={"other": "leased"})) == ["left behind"]
    assert "(pending)" in next(checker.lost(evidence(pushed=[Pushed("j", "quick", "accepted")], left={"j": "pending"})))


def test_a_job_dies_only_of_what_its_task_says() -> None:
    crashed = evidence(entry("begin", 1), dead={"j": "crashed: its node was lost 3 times"})
    assert found(crashed) == []
    assert found(evidence(entry("begin", 1, task="long"), dead={"j": "crashed: 3 times"})) == ["dead"]
    assert found(evidence(*run(1, 2, "fail"), dead={"j": "failed: ConnectionError"})) == ["dead"]
    assert found(evidence(dead={"j": "misfit"}, pushed=[Pushed("j", "once", "accepted")])) == ["dead"]


def test_a_run_at_most_once_is_lost_only_with_its_node() -> None:
    begun = entry("begin", 1, task="once")
    lost = {"j": "lost: its node vanished"}
    assert found(evidence(begun, dead=lost, troubles=[trouble("kill", 1.2, 3)])) == []
    assert found(evidence(begun, dead=lost)) == ["dead"]
    assert found(evidence(begun, dead=lost, troubles=[trouble("kill", 1.2, 3, pid=B)])) == ["dead"]
    assert found(evidence(dead=lost, pushed=[Pushed("j", "once", "accepted")])) == []  # killed between mark and run
    cut = run(1, 1.5, "cut", task="once")
    assert found(evidence(*cut, dead=lost, troubles=[trouble("restart", 1, 3)])) == []


def test_a_run_at_most_once_that_begins_twice_is_doubled_whatever_happened() -> None:
    runs = [entry("begin", 1, task="once"), *run(5, 6, task="once", pid=B, fence=2)]
    assert found(evidence(*runs, troubles=[trouble("kill", 2, 3)])) == ["doubled"]


TWICE = [*run(10, 11), *run(14, 15, pid=B, fence=2)]


@pytest.mark.parametrize(
    ("troubles", "why"),
    [
        ([], None),
        ([trouble("kill", 11.1, 12)], "kill"),
        ([trouble("kill", 11.1, 12, pid=B)], None),
        ([trouble("kill", 14.5, 16)], None),  # after the job began again
        ([trouble("stop", 10.5, 12.5)], "stop"),
        ([trouble("stop", 10.5, 11.5)], None),  # half a lease
        ([trouble("stop", 6, 9)], None),  # long before it began
        ([trouble("stop", 7, 9.5)], "stop"),  # between its lease and its begin
        ([trouble("hole", 10.5, 12.5)], "hole"),
        ([trouble("deaf", 10.5, 15.5)], "deaf"),
        ([trouble("cut", 10.5, 12.5)], None),
        ([trouble("slow", 10.5, 12.5)], None),
        ([trouble("away", 10.5, 13.5, pid=0)], None),  # the store alone costs no lease
        ([trouble("stop", 10.5, 11.2), trouble("away", 11.5, 12.5, pid=0)], "away+stop"),
        ([trouble("stop", 10.5, 11.0), trouble("hole", 12.9, 13.4)], None),  # it could renew in between
        ([trouble("restart", 10.5, 14)], None),  # a graceful stop doubles nothing
        ([trouble("restart", 10.5, 14), trouble("away", 10.9, 12, pid=0)], "away+restart"),
    ],
)
def test_a_second_run_after_a_good_end_needs_a_lost_lease(troubles: list[Trouble], why: str | None) -> None:
    e = evidence(*TWICE, troubles=troubles)
    assert checker.doubled(e) == [Doubled("j", why)]
    assert found(e) == ([] if why else ["doubled"])


def test_a_second_run_after_a_bad_end_is_what_is_promised() -> None:
    e = evidence(*run(1, 2, "cut"), *run(3, 4, fence=2))
    assert checker.doubled(e) == []
    assert found(e) == []


def test_an_end_that_was_written_is_the_end() -> None:
    settled = entry("settled", 11.1)
    stale = [trouble("kill", 11.2, 12)]
    assert found(evidence(*TWICE, settled, troubles=stale)) == ["settled"]
    assert found(evidence(*TWICE, entry("settled", 15.1, pid=B, fence=2), troubles=stale)) == []
    assert found(evidence(*run(1, 2), settled, settled)) == ["settled"]


def test_a_fence_is_given_once() -> None:
    e = evidence(entry("begin", 1), *run(5, 6, pid=B), troubles=[trouble("kill", 2, 3)])
    assert "fence" in found(e)


def test_only_failures_count_as_attempts() -> None:
    failed = run(1, 2, "fail", task="failing")
    assert found(evidence(*failed, *run(3, 4, task="failing", fence=2, attempt=2))) == []
    assert found(evidence(entry("begin", 1), *run(3, 4, fence=2, attempt=2))) == ["attempt"]
    assert found(evidence(*failed, *run(3, 4, task="failing", fence=2, attempt=3))) == ["attempt"]


def test_a_parent_has_the_child_of_the_run_that_was_settled() -> None:
    pushed = [Pushed("p", "parent", "accepted")]
    parent = run(1, 2, job="p", task="parent")
    first, second = run(3, 4, job="p/1", task="child"), run(3, 4, job="p/2", task="child")
    assert found(evidence(*parent, *first, pushed=pushed)) == []
    assert found(evidence(*parent, pushed=pushed)) == ["child"]
    assert found(evidence(*parent, *first, *second, pushed=pushed)) == ["child"]


def test_a_recovery_is_the_time_from_the_kill_to_the_next_run() -> None:
    cut_off = [entry("begin", 10), *run(13, 14, pid=B, fence=2)]
    kill = trouble("kill", 10.5, 12)
    assert checker.recoveries(evidence(*cut_off, troubles=[kill])) == [Recovery("j", 2.5, disturbed=False)]
    assert checker.recoveries(evidence(*cut_off)) == []
    assert checker.recoveries(evidence(*run(10, 10.2), *run(13, 14, pid=B, fence=2), troubles=[kill])) == []
    assert list(checker.slow_recoveries(evidence(*cut_off, troubles=[kill]), 2.6)) == []
    assert len(list(checker.slow_recoveries(evidence(*cut_off, troubles=[kill]), 2.4))) == 1


@pytest.mark.parametrize(
    ("other", "disturbed"),
    [
        (trouble("stop", 11, 15, pid=B), True),
        (trouble("away", 9.6, 9.8, pid=0), True),  # the gap rule looks back
        (trouble("stop", 1, 5, pid=B), False),
        (trouble("stop", 13.5, 15, pid=B), False),
        (trouble("cut", 11, 11, pid=B), False),
    ],
)
def test_a_recovery_is_judged_when_nothing_else_was_wrong(other: Trouble, disturbed: bool) -> None:
    e = evidence(entry("begin", 10), *run(13, 14, pid=B, fence=2), troubles=[trouble("kill", 10.5, 12), other])
    assert [each.disturbed for each in checker.recoveries(e)] == [disturbed]
    assert len(list(checker.slow_recoveries(e, 1.0))) == (not disturbed)


def test_a_handler_that_blocks_a_node_disturbs_a_recovery() -> None:
    blocking = run(9, 12, job="b", task="blocking", pid=B)
    e = evidence(entry("begin", 10), *run(13, 14, pid=B, fence=2), *blocking, troubles=[trouble("kill", 10.5, 12)])
    assert [each.disturbed for each in checker.recoveries(e)] == [True]


# --- ticks -----------------------------------------------------------------------------------------------------------


def tick(moment: int, job: str = "") -> list[Entry]:
    return run(1, 2, job=job or f"s@{moment}", task="tick", schedule="s", nominal=moment)


def tick_findings(entries: list[Entry], fired: list[int]) -> list[str]:
    e = evidence(*entries, pushed=[])
    assert found(e) == []  # a tick needs no push
    return [sentence.partition(" s ")[2] for sentence in checker.ticks(e, {"s": fired}, {"s": 1000})]


def test_each_moment_is_fired_once_and_runs_once() -> None:
    three = [*tick(1000), *tick(2000), *tick(3000)]
    assert tick_findings(three, [1000, 2000, 3000]) == []
    assert tick_findings([], []) == ["never fired"]
    assert tick_findings(three, [1000, 2000]) == ["ran and was not fired: [3000]"]
    assert tick_findings(three, [1000, 2000, 3000, 4000]) == ["fired and did not run: [4000]"]
    assert tick_findings([*three, *tick(3000, "s@other")], [1000, 2000, 3000]) == ["has two jobs for a moment: [3000]"]


@pytest.mark.parametrize("fired", [[1000, 3000], [1000, 2000, 2000, 3000], [2000, 1000, 3000]])
def test_moments_left_out_doubled_or_out_of_order_are_found(fired: list[int]) -> None:
    entries = [line for moment in set(fired) for line in tick(moment)]
    assert len(tick_findings(entries, fired)) == 1
