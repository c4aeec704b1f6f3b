"""Every ending under every policy has one change, and every change is one the table of states knows."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly.core.job import Claimed, Holder, Policy
from duly.core.lifecycle import (
    DIED_DELAY_MS,
    END,
    ISOLATED_DELAY_MS,
    TRANSITIONS,
    UNFIT_DELAY_MS,
    Change,
    State,
    admit,
    decide,
    is_suspect,
)
from duly.core.outcome import Ending, Outcome
from duly.core.retry import NO_RETRY, Retry

NOW = 1_800_000_000_000
HOUR_MS = 3_600_000
ONCE = Policy(at_most_once=True, retry=NO_RETRY)
RETRIED = Policy(retry=Retry(limit=3, delay=5, jitter=0))
KEEPING = Policy(keep_result=60.0)


def job(**facts: Any) -> Claimed:
    return Claimed(**{"id": "j", "body": b"", "enqueued_at": NOW - 1000, **facts})


def change(ending: Ending, policy: Policy = RETRIED, of: Claimed | None = None, **particulars: Any) -> Change:
    return decide(of or job(), Outcome(ending, **particulars), policy, NOW, 0.0)


# --- the table of states -----------------------------------------------------------------------------------------------


def test_every_state_can_be_reached_and_left() -> None:
    states = set(get_args(State))
    assert set(TRANSITIONS.values()) == states
    assert {before for before, _ in TRANSITIONS} == states


def test_only_a_lease_leads_to_an_end_a_death_or_another_try() -> None:
    assert TRANSITIONS["leased", "settle end"] == "ended"
    assert TRANSITIONS["leased", "settle dead"] == "dead"
    assert TRANSITIONS["leased", "settle again"] == "pending"
    assert {before for before, verb in TRANSITIONS if verb.startswith("settle")} == {"leased"}


def test_a_running_job_cannot_be_cleared_or_replaced() -> None:
    assert ("leased", "clear") not in TRANSITIONS
    assert ("leased", "enqueue replace") not in TRANSITIONS
    assert TRANSITIONS["leased", "cancel"] == "leased"


def test_an_ended_job_never_runs_again_and_a_dead_one_only_by_hand() -> None:
    assert {(verb, after) for (before, verb), after in TRANSITIONS.items() if before == "ended"} == {("forget", "new")}
    assert {verb for before, verb in TRANSITIONS if before == "dead"} == {"revive", "clear"}


# --- every ending, under every kind of policy ---------------------------------------------------------------------------

CASES = [
    # ending, policy, verb, delay ms, attempts, how the reason begins
    (Ending.RETURNED, RETRIED, "end", 0, 0, ""),
    (Ending.RETURNED, ONCE, "end", 0, 0, ""),
    (Ending.RAISED, RETRIED, "again", 5000, 1, "why"),
    (Ending.RAISED, ONCE, "dead", 0, 1, "failed: why"),
    (Ending.RETRY_IN, RETRIED, "again", 7000, 1, "why"),
    (Ending.RETRY_IN, ONCE, "dead", 0, 1, "failed: why"),
    (Ending.TIMED_OUT, RETRIED, "again", 5000, 1, "why"),
    (Ending.TIMED_OUT, ONCE, "dead", 0, 1, "failed: why"),
    (Ending.SNOOZED, RETRIED, "again", 7000, 0, "why"),
    (Ending.SNOOZED, ONCE, "again", 7000, 0, "why"),
    (Ending.DISCARDED, RETRIED, "end", 0, 0, "discarded: why"),
    (Ending.DISCARDED, ONCE, "end", 0, 0, "discarded: why"),
    (Ending.FAILED, RETRIED, "dead", 0, 0, "failed: why"),
    (Ending.FAILED, ONCE, "dead", 0, 0, "failed: why"),
    (Ending.CANCELLED, RETRIED, "end", 0, 0, "cancelled: why"),
    (Ending.CANCELLED, ONCE, "end", 0, 0, "cancelled: why"),
    (Ending.HANDED_BACK, RETRIED, "again", 7000, 0, "why"),
    (Ending.HANDED_BACK, ONCE, "again", 7000, 0, "why"),
    (Ending.INTERRUPTED, RETRIED, "again", 7000, 0, "why"),
    (Ending.INTERRUPTED, ONCE, "dead", 0, 0, "lost: why"),
    (Ending.CRASHED, RETRIED, "dead", 0, 0, "crashed: why"),
    (Ending.CRASHED, ONCE, "dead", 0, 0, "crashed: why"),
    (Ending.DIED, RETRIED, "again", DIED_DELAY_MS, 0, "why"),
    (Ending.DIED, ONCE, "dead", 0, 0, "lost: why"),
    (Ending.LOST, RETRIED, "dead", 0, 0, "lost: why"),
    (Ending.LOST, ONCE, "dead", 0, 0, "lost: why"),
    (Ending.EXPIRED, RETRIED, "end", 0, 0, "expired: why"),
    (Ending.EXPIRED, ONCE, "end", 0, 0, "expired: why"),
    (Ending.ISOLATED, RETRIED, "again", ISOLATED_DELAY_MS, 0, "why"),
    (Ending.ISOLATED, ONCE, "again", ISOLATED_DELAY_MS, 0, "why"),
    (Ending.UNFIT, RETRIED, "again", UNFIT_DELAY_MS[0], 0, "why"),
    (Ending.UNFIT, ONCE, "again", UNFIT_DELAY_MS[0], 0, "why"),
    (Ending.MISFIT, RETRIED, "again", UNFIT_DELAY_MS[0], 0, "why"),
    (Ending.MISFIT, ONCE, "again", UNFIT_DELAY_MS[0], 0, "why"),
]


@pytest.mark.parametrize(("ending", "policy", "verb", "delay", "attempts", "reason"), CASES)
def test_every_ending_has_its_change(
    ending: Ending, policy: Policy, verb: str, delay: int, attempts: int, reason: str
) -> None:
    found = change(ending, policy, reason="why", seconds=7.0)
    assert (found.verb, found.delay, found.attempts, found.reason) == (verb, delay, attempts, reason)


@pytest.mark.parametrize("ending", [Ending.HANDED_BACK, Ending.INTERRUPTED])
def test_a_job_that_did_not_have_its_turn_goes_back_to_where_it_stood(ending: Ending) -> None:
    def put_back(due: int, seconds: float = 0.0) -> int:
        return decide(job(due=due), Outcome(ending, seconds=seconds), RETRIED, NOW, 0.0).delay

    assert put_back(NOW - 5_000) == -5_000
    assert put_back(NOW) == put_back(NOW + 1) == 0
    assert put_back(0) == 0  # nobody knows when it was due
    assert put_back(NOW - 5_000, 1.0) == 1_000


def test_the_cases_above_leave_no_ending_out() -> None:
    assert {(ending, policy) for ending, policy, *_ in CASES} == set(itertools.product(Ending, (RETRIED, ONCE)))


def test_the_plain_end_is_always_the_same_value() -> None:
    assert change(Ending.RETURNED) is END


# --- failures ------------------------------------------------------------------------------------------------------------


def test_a_job_is_tried_as_often_as_its_policy_says_and_is_dead_after_that() -> None:
    policy = Policy(retry=Retry(limit=2, delay=1, backoff=10, jitter=0))
    found = [change(Ending.RAISED, policy, job(attempts=n), reason="ValueError: no") for n in range(3)]
    assert [(c.verb, c.delay, c.attempts) for c in found] == [("again", 1000, 1), ("again", 10_000, 2), ("dead", 0, 3)]
    assert found[-1].reason == "failed: ValueError: no"


def test_error_and_traceback_travel_with_the_change() -> None:
    found = change(Ending.RAISED, error="ValueError: no", trace="Traceback …")
    assert (found.error, found.trace) == ("ValueError: no", "Traceback …")
    last = change(Ending.RAISED, RETRIED, job(attempts=3), error="ValueError: no", trace="Traceback …")
    assert (last.verb, last.error, last.trace) == ("dead", "ValueError: no", "Traceback …")


def test_a_retry_in_counts_and_ends_with_the_limit() -> None:
    assert change(Ending.RETRY_IN, of=job(attempts=2), seconds=0.25).delay == 250
    assert change(Ending.RETRY_IN, of=job(attempts=3), seconds=0.25).verb == "dead"


def test_a_snooze_does_not_count_and_has_no_limit() -> None:
    found = change(Ending.SNOOZED, of=job(attempts=3, crashes=1), seconds=30)
    assert (found.verb, found.delay, found.attempts, found.crashes) == ("again", 30_000, 3, 1)


def test_false_is_a_failure_only_for_those_who_say_so() -> None:
    on_false = Policy(retry=Retry(limit=1, delay=2, jitter=0, on_false=True))
    assert change(Ending.RETURNED, value=False).verb == "end"
    again = change(Ending.RETURNED, on_false, value=False)
    assert (again.verb, again.delay, again.attempts, again.reason) == ("again", 2000, 1, "returned False")
    dead = change(Ending.RETURNED, on_false, job(attempts=1), value=False)
    assert (dead.verb, dead.reason) == ("dead", "failed: returned False")
    for value in (None, 0, "", [], True):
        assert change(Ending.RETURNED, on_false, value=value).verb == "end"


def test_a_false_that_counts_as_failed_is_retried_after_the_delay_of_that_failure() -> None:
    policy = Policy(retry=Retry(limit=5, delay=1, backoff=10, jitter=0, on_false=True))
    assert [change(Ending.RETURNED, policy, job(attempts=n), value=False).delay for n in range(3)] == [
        1000,
        10_000,
        100_000,
    ]


@pytest.mark.parametrize("ending", [Ending.RAISED, Ending.TIMED_OUT, Ending.RETRY_IN, Ending.SNOOZED])
def test_a_run_forgets_that_the_job_was_unfit_before(ending: Ending) -> None:
    assert change(ending, of=job(unfit_since=NOW - 5)).unfit_since == 0


@pytest.mark.parametrize("ending", [Ending.HANDED_BACK, Ending.ISOLATED])
def test_a_job_put_back_before_it_ran_has_been_unfit_as_long_as_before(ending: Ending) -> None:
    assert change(ending, of=job(unfit_since=NOW - 5)).unfit_since == NOW - 5


def test_a_dead_job_may_be_unfit_anew_once_it_is_revived() -> None:
    assert change(Ending.MISFIT, of=job(unfit_since=NOW - HOUR_MS)).unfit_since == 0


@pytest.mark.parametrize(
    ("ending", "said"), [(Ending.FAILED, "failed"), (Ending.LOST, "lost"), (Ending.DISCARDED, "discarded")]
)
def test_an_ending_without_a_reason_is_said_in_a_word_and_any_other_reason_in_full(ending: Ending, said: str) -> None:
    assert change(ending).reason == said
    assert change(ending, reason="no room on disk X").reason == f"{said}: no room on disk X"


def test_chance_delays_a_retry_within_its_jitter() -> None:
    policy = Policy(retry=Retry(delay=10, jitter=0.1))
    delays = {decide(job(), Outcome(Ending.RAISED), policy, NOW, roll).delay for roll in (0.0, 0.5, 0.99)}
    assert delays == {10_000, 10_500, 10_990}


# --- results -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", list(Ending))
def test_every_final_change_of_a_job_that_keeps_its_result_keeps_how_it_ended(ending: Ending) -> None:
    for once, seconds in itertools.product((False, True), (0.5, 60.0)):
        policy = Policy(keep_result=seconds, retry=NO_RETRY, at_most_once=once)
        for crashes in (0, policy.max_crashes - 1):
            of = job(unfit_since=NOW - HOUR_MS, crashes=crashes)
            found = change(ending, policy, of)
            assert found.keep_result is (found.verb != "again")
            assert change(ending, Policy(retry=NO_RETRY, at_most_once=once), of).keep_result is False


# --- unfit ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [Ending.UNFIT, Ending.MISFIT])
def test_an_unfit_job_is_put_back_later_each_time_within_bounds(ending: Ending) -> None:
    since, now, delays = 0, NOW, []
    for _ in range(12):
        found = decide(job(unfit_since=since, attempts=1, crashes=1), Outcome(ending), RETRIED, now, 0.0)
        assert (found.verb, found.attempts, found.crashes) == ("again", 1, 1)  # uncounted
        since = found.unfit_since
        now += found.delay
        delays.append(found.delay)
    assert since == NOW
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == UNFIT_DELAY_MS


def test_an_unknown_task_waits_for_ever() -> None:
    assert change(Ending.UNFIT, of=job(unfit_since=NOW - 365 * 24 * HOUR_MS)).verb == "again"


def test_misfit_arguments_are_dead_after_the_time_they_have() -> None:
    def after(waited: int, unfit_ms: int) -> Change:
        return decide(job(unfit_since=NOW - waited), Outcome(Ending.MISFIT, reason="no"), RETRIED, NOW, 0.0, unfit_ms)

    assert after(HOUR_MS - 1, HOUR_MS).verb == "again"
    assert (after(HOUR_MS, HOUR_MS).verb, after(HOUR_MS, HOUR_MS).reason) == ("dead", "misfit: no")
    assert (after(0, 0).verb, after(0, 1).verb) == ("dead", "again")


def test_misfit_arguments_have_an_hour_unless_the_node_says_otherwise() -> None:
    assert change(Ending.MISFIT, of=job(unfit_since=NOW - HOUR_MS + 1)).verb == "again"
    assert change(Ending.MISFIT, of=job(unfit_since=NOW - HOUR_MS)).verb == "dead"


@pytest.mark.parametrize("ending", [Ending.UNFIT, Ending.MISFIT])
def test_what_does_not_fit_is_told_while_the_job_waits(ending: Ending) -> None:
    found = change(ending, reason="no such task", error="UnfitJob: no such task")
    assert (found.reason, found.error) == ("no such task", "UnfitJob: no such task")


def test_a_clock_gone_back_makes_an_unfit_job_wait_no_less_than_the_least() -> None:
    assert change(Ending.UNFIT, of=job(unfit_since=NOW + 10_000)).delay == UNFIT_DELAY_MS[0]


# --- before the run -------------------------------------------------------------------------------------------------------


def test_a_fresh_job_may_run() -> None:
    assert admit(job(), RETRIED, NOW) is None


def test_a_cancelled_job_does_not_run() -> None:
    found = admit(job(cancelled=True, before=Holder(1, "n", True)), ONCE, NOW)
    assert found is not None
    assert (found.ending, found.reason) == (Ending.CANCELLED, "cancelled before it ran")


def test_a_started_run_at_most_once_is_lost_and_never_run_again() -> None:
    found = admit(job(before=Holder(1, "gone", True), crashes=1), ONCE, NOW)
    assert found is not None
    assert found.ending is Ending.LOST
    assert found.reason == "its node gone vanished after the start; it may not start again"


def test_a_run_at_most_once_whose_start_the_server_may_have_forgotten_is_lost_too() -> None:
    found = admit(job(before=Holder(1, "gone", False, doubtful=True), crashes=1), ONCE, NOW)
    assert found is not None
    assert found.ending is Ending.LOST
    assert found.reason == (
        "its node gone vanished and the server too, which may have known of its start; it may not start again"
    )
    assert admit(job(before=Holder(1, "gone", False, doubtful=True), crashes=1), RETRIED, NOW) is None


def test_an_unstarted_run_at_most_once_is_simply_run() -> None:
    assert admit(job(before=Holder(1, "gone", False), crashes=1), ONCE, NOW) is None


def test_a_started_mark_means_nothing_to_a_job_at_least_once() -> None:
    assert admit(job(before=Holder(1, "gone", True), crashes=1), RETRIED, NOW) is None


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_a_job_that_loses_its_node_too_often_is_crashed(limit: int) -> None:
    policy = Policy(max_crashes=limit)
    for crashes in range(1, limit):
        assert admit(job(before=Holder(1, "gone", False), crashes=crashes), policy, NOW) is None
    found = admit(job(before=Holder(1, "gone", limit > 1), crashes=limit), policy, NOW)  # a suspect's start is marked
    assert found is not None
    assert found.ending is Ending.CRASHED
    assert f"{limit} times" in found.reason


def test_a_job_whose_process_dies_is_tried_again_until_it_has_crashed_too_often() -> None:
    policy = Policy(max_crashes=3)
    found = [change(Ending.DIED, policy, job(attempts=2, crashes=n), reason="killed") for n in range(3)]
    assert [(c.verb, c.attempts, c.crashes) for c in found] == [("again", 2, 1), ("again", 2, 2), ("dead", 2, 3)]
    assert found[-1].reason == "crashed: killed"


def test_a_suspect_whose_node_fell_before_it_started_is_not_the_culprit() -> None:
    policy = Policy(max_crashes=3)
    assert admit(job(before=Holder(1, "gone", False), crashes=3), policy, NOW) is None
    assert admit(job(before=Holder(1, "gone", False), crashes=9), policy, NOW) is None
    assert is_suspect(job(crashes=3), policy)


def test_crashes_of_the_past_do_not_end_a_job_that_was_put_back_since() -> None:
    assert admit(job(crashes=9), RETRIED, NOW) is None


@pytest.mark.parametrize(("waited", "ending"), [(9_999, None), (10_000, None), (10_001, Ending.EXPIRED)])
def test_a_job_expires_when_it_waited_longer_than_it_may(waited: int, ending: Ending | None) -> None:
    found = admit(job(enqueued_at=NOW - waited), Policy(expires=10.0), NOW)
    assert (found.ending if found else None) is ending
    assert found is None or "10 s" in found.reason


@pytest.mark.parametrize(
    ("crashes", "limit", "suspect"),
    [(0, 3, False), (1, 3, False), (2, 3, True), (3, 3, True), (0, 1, False), (1, 2, True)],
)
def test_a_job_is_suspect_when_one_more_crash_would_bury_it(crashes: int, limit: int, suspect: bool) -> None:
    assert is_suspect(job(crashes=crashes), Policy(max_crashes=limit)) is suspect


# --- for all -------------------------------------------------------------------------------------------------------------

retries = st.builds(Retry, limit=st.none() | st.integers(0, 5), delay=st.floats(0, 100), on_false=st.booleans())
policies = st.builds(
    Policy,
    retry=retries,
    at_most_once=st.booleans(),
    keep_result=st.sampled_from([0.0, 60.0]),
    max_crashes=st.integers(1, 5),
)
jobs = st.builds(
    job, attempts=st.integers(0, 9), crashes=st.integers(0, 9), unfit_since=st.sampled_from([0, NOW - HOUR_MS, NOW])
)
outcomes = st.builds(
    Outcome, ending=st.sampled_from(Ending), value=st.sampled_from([None, False, True, 1]), seconds=st.floats(0, 1e6)
)


@given(jobs, outcomes, policies, st.floats(0, 1, exclude_max=True))
def test_no_change_loses_a_count_or_turns_back_time(of: Claimed, outcome: Outcome, policy: Policy, roll: float) -> None:
    found = decide(of, outcome, policy, NOW, roll)
    assert ("leased", f"settle {found.verb}") in TRANSITIONS
    assert found.delay >= 0
    if found.verb != "end":
        assert found.crashes - of.crashes == (outcome.ending is Ending.DIED)
        assert found.attempts - of.attempts in (0, 1)
    if found.verb == "again":
        assert not found.keep_result


ENDED_RUNS = (
    Ending.RAISED,
    Ending.RETRY_IN,
    Ending.TIMED_OUT,
    Ending.INTERRUPTED,
    Ending.LOST,
    Ending.CRASHED,
    Ending.DIED,
)


@given(jobs, st.sampled_from(ENDED_RUNS), policies)
def test_a_run_at_most_once_that_may_have_happened_never_comes_again(
    of: Claimed, ending: Ending, policy: Policy
) -> None:
    if policy.at_most_once:
        assert decide(of, Outcome(ending), policy, NOW, 0.0).verb == "dead"


UNCOUNTED = (Ending.SNOOZED, Ending.HANDED_BACK, Ending.ISOLATED, Ending.UNFIT)


@given(jobs, st.sampled_from(UNCOUNTED), policies)
def test_what_is_not_the_fault_of_the_job_is_never_counted(of: Claimed, ending: Ending, policy: Policy) -> None:
    found = decide(of, Outcome(ending), policy, NOW, 0.0)
    assert (found.verb, found.attempts, found.crashes) == ("again", of.attempts, of.crashes)
