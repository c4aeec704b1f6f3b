"""What a handler can say about how its run ended, and what is read of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from duly.core.outcome import ChildFailed, Discard, Ending, Fail, HandlerSignal, Outcome, RetryIn, Snooze
from duly.errors import InvalidOption


@pytest.mark.parametrize("signal", [RetryIn, Snooze])
def test_a_run_comes_again_after_seconds_or_a_timedelta_and_says_why(signal: type[RetryIn | Snooze]) -> None:
    assert (signal(90).seconds, signal(90).why) == (90.0, "")
    assert signal(timedelta(minutes=2)).seconds == 120.0
    assert signal(0, "soon").why == "soon"
    assert str(signal(90, "no paper")) == "no paper"
    assert "90 s" in str(signal(90))
    assert issubclass(signal, HandlerSignal)


@pytest.mark.parametrize("signal", [RetryIn, Snooze])
@pytest.mark.parametrize("seconds", [-1, "5", float("nan"), True])
def test_a_time_that_is_none_is_refused_by_name(signal: Callable[..., HandlerSignal], seconds: object) -> None:
    with pytest.raises(InvalidOption, match=rf"seconds={seconds!r}"):
        signal(seconds)


@pytest.mark.parametrize(("signal", "said"), [(Discard, "discarded"), (Fail, "failed")])
def test_a_job_is_ended_with_a_reason_or_without(signal: type[Discard | Fail], said: str) -> None:
    assert (signal().why, str(signal())) == ("", said)
    assert (signal("no such customer").why, str(signal("no such customer"))) == ("no such customer", "no such customer")
    assert issubclass(signal, HandlerSignal)


def test_a_failure_in_a_child_process_carries_how_the_run_ended() -> None:
    outcome = Outcome(Ending.RAISED, reason="ValueError: no")
    assert ChildFailed(outcome).outcome is outcome
    assert str(ChildFailed(outcome)) == "ValueError: no"
