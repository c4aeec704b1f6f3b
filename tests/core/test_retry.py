"""A retry policy turns a number of failures into a delay; it says no to values that cannot be meant."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly.core.retry import DEFAULT_RETRY, NO_RETRY, Retry
from duly.errors import InvalidOption

policies = st.builds(
    Retry,
    limit=st.none() | st.integers(0, 50),
    delay=st.floats(0, 1e6),
    backoff=st.floats(1, 1e3),
    max_delay=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
)
rolls = st.floats(0, 1, exclude_max=True)


def test_the_default_is_three_retries_five_seconds_apart() -> None:
    assert Retry() == DEFAULT_RETRY == Retry(limit=3, delay=5, backoff=1.0, max_delay=3600, jitter=0.1)
    assert [DEFAULT_RETRY.allows(failures) for failures in (1, 2, 3, 4)] == [True, True, True, False]
    assert [DEFAULT_RETRY.delay_ms(failures, 0.0) for failures in (1, 2, 3)] == [5000, 5000, 5000]


def test_a_limit_of_none_never_ends() -> None:
    assert Retry(limit=None).allows(10**9)


def test_a_limit_of_zero_allows_no_retry() -> None:
    assert not NO_RETRY.allows(1)
    assert Retry(limit=0) == NO_RETRY


def test_backoff_grows_the_delay_with_each_failure_up_to_the_longest() -> None:
    policy = Retry(delay=1, backoff=2, max_delay=10, jitter=0)
    assert [policy.delay_ms(failures, 0.5) for failures in range(1, 7)] == [1000, 2000, 4000, 8000, 10_000, 10_000]


def test_a_longest_delay_below_the_first_wins() -> None:
    assert Retry(delay=60, max_delay=1, jitter=0).delay_ms(1, 0) == 1000


def test_a_backoff_beyond_all_numbers_is_the_longest_delay() -> None:
    assert Retry(limit=None, backoff=1000, max_delay=7, jitter=0).delay_ms(10**6, 0) == 7000


def test_no_delay_stays_none_however_often_a_job_failed() -> None:
    assert Retry(limit=None, delay=0, backoff=2).delay_ms(10**6, 0.5) == 0


def test_jitter_adds_at_most_its_share() -> None:
    policy = Retry(delay=10, jitter=0.5)
    assert policy.delay_ms(1, 0) == 10_000
    assert policy.delay_ms(1, 0.5) == 12_500
    assert policy.delay_ms(1, 0.999_999) <= 15_000


@given(policies, st.integers(1, 10_000), rolls)
def test_a_retry_is_never_earlier_than_said_and_never_later_than_jitter_allows(
    policy: Retry, failures: int, roll: float
) -> None:
    said = min(policy.max_delay, policy.delay * policy.backoff ** min(failures - 1, 80))
    delay = policy.delay_ms(failures, roll)
    assert isinstance(delay, int)
    assert math.ceil(said * 1000) <= delay <= math.ceil(policy.max_delay * (1 + policy.jitter) * 1000)


@given(policies, st.integers(1, 1000))
def test_the_delay_never_shrinks_with_more_failures(policy: Retry, failures: int) -> None:
    assert policy.delay_ms(failures, 0.0) <= policy.delay_ms(failures + 1, 0.0)


@pytest.mark.parametrize(
    ("given_values", "named"),
    [
        ({"limit": -1}, "limit=-1"),
        ({"limit": 1.5}, "limit=1.5"),
        ({"limit": True}, "limit=True"),
        ({"limit": "3"}, "limit='3'"),
        ({"delay": -0.1}, "delay=-0.1"),
        ({"delay": "5"}, "delay='5'"),
        ({"delay": math.nan}, "delay=nan"),
        ({"delay": math.inf}, "delay=inf"),
        ({"delay": None}, "delay=None"),
        ({"backoff": 0.5}, "backoff=0.5"),
        ({"backoff": 1e4}, "backoff=10000.0"),
        ({"max_delay": -1}, "max_delay=-1"),
        ({"max_delay": math.inf}, "max_delay=inf"),
        ({"jitter": 1.1}, "jitter=1.1"),
        ({"jitter": -0.1}, "jitter=-0.1"),
        ({"jitter": False}, "jitter=False"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(given_values: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        Retry(**given_values)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("delay", 0, 1e9), ("backoff", 1, 1e3), ("max_delay", 0, 1e9), ("jitter", 0, 1)]
)
def test_the_ends_of_a_range_are_taken_and_what_lies_beyond_is_not(name: str, least: float, most: float) -> None:
    assert [getattr(Retry(**{name: value}), name) for value in (least, most)] == [least, most]  # type: ignore[arg-type]
    for beyond in (math.nextafter(least, -1), math.nextafter(most, math.inf)):
        with pytest.raises(InvalidOption, match=name):
            Retry(**{name: beyond})  # type: ignore[arg-type]


def test_a_policy_is_a_value() -> None:
    assert Retry(limit=2) == Retry(limit=2)
    assert len({Retry(limit=2), Retry(limit=2), Retry(limit=3)}) == 2
    with pytest.raises(AttributeError):
        Retry().limit = 5  # type: ignore[misc]
