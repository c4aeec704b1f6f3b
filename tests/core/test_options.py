"""Options are checked once, at the door: a bad one gets one sentence that names it, its value, and what is allowed."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly.core.job import (
    OPTION_NAMES,
    RUN_OPTIONS,
    Options,
    Unique,
    due_after,
    duration,
    make_options,
    make_policy,
    moment,
    push_options,
    to_ms,
)
from duly.core.retry import DEFAULT_RETRY, NO_RETRY, Retry
from duly.errors import DulyError, InvalidOption

GOOD: dict[str, Any] = {
    "name": "n",
    "queue": "q",
    "priority": 2,
    "delay": 1.5,
    "id": "i",
    "replace": True,
    "unique": True,
    "retry": 5,
    "retry_timeout": 6,
    "timeout": 7,
    "lease": 8,
    "delivery": "at_least_once",
    "expires": 9,
    "keep_result": True,
    "max_crashes": 10,
    "executor": "process",
}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name=''"),
    ({"name": "x" * 201}, "1 to 200 bytes"),
    ({"name": "é" * 101}, "1 to 200 bytes"),
    ({"name": 5}, "name=5"),
    ({"name": "a\nb"}, "no control characters"),
    ({"queue": "{q}"}, "no braces"),
    ({"queue": b"q"}, "queue=b'q'"),
    ({"queue": "\ud800"}, "queue='\\ud800'"),
    ({"priority": 4}, "priority=4: give 0 (first) to 3"),
    ({"priority": -1}, "priority=-1"),
    ({"priority": True}, "priority=True"),
    ({"priority": "high"}, "priority='high'"),
    ({"priority": 1.0}, "priority=1.0"),
    ({"delay": -1}, "delay=-1"),
    ({"delay": "5"}, "delay='5'"),
    ({"delay": math.nan}, "delay=nan"),
    ({"delay": math.inf}, "delay=inf"),
    ({"delay": True}, "delay=True"),
    ({"delay": timedelta(seconds=-1)}, "at least 0 seconds"),
    ({"delay": 1_767_225_600_000}, "give seconds, not milliseconds"),
    ({"at": datetime(2030, 1, 1)}, "no time zone"),
    ({"at": 1_767_225_600_000}, "milliseconds, perhaps?"),
    ({"at": -1}, "at=-1"),
    ({"at": math.nan}, "at=nan"),
    ({"at": "2030-01-01"}, "at='2030-01-01'"),
    ({"at": False}, "at=False"),
    ({"id": ""}, "id=''"),
    ({"id": 42}, "id=42"),
    ({"id": "x" * 201}, "1 to 200 bytes"),
    ({"id": "a\0b"}, "no control characters"),
    ({"id": "\udfff"}, "id='\\udfff'"),
    ({"replace": 1, "id": "i"}, "replace=1"),
    ({"replace": True}, "replace=True needs id="),
    ({"unique": ""}, "unique=''"),
    ({"unique": 0}, "unique=0"),
    ({"unique": -5}, "unique=-5"),
    ({"unique": 0.0}, "more than 0 seconds"),
    ({"unique": ["key"]}, "unique=['key']"),
    ({"unique": Unique(until="then")}, "until='then'"),  # type: ignore[arg-type]
    ({"unique": Unique(seconds=0)}, "Unique(seconds)=0: it must be more than 0"),
    ({"unique": Unique(seconds=math.nan)}, "Unique(seconds)=nan"),
    ({"unique": Unique(key="")}, "unique key=''"),
    ({"retry": -1}, "limit=-1"),
    ({"retry": "3"}, "retry='3'"),
    ({"retry": 2.5}, "retry=2.5"),
    ({"retry": {"limit": 3}}, "retry={'limit': 3}"),
    ({"retry_timeout": 0.5}, "retry_timeout=0.5: it must be at least 1 seconds"),
    ({"retry_timeout": 2e9}, "2000000000.0"),
    ({"timeout": 0}, "more than 0 seconds"),
    ({"timeout": -3}, "timeout=-3"),
    ({"lease": 0.5}, "at least 1 seconds"),
    ({"lease": "10"}, "lease='10'"),
    ({"delivery": "once"}, "delivery='once'"),
    ({"delivery": True}, "delivery=True"),
    ({"delivery": ["at_most_once"]}, "delivery=['at_most_once']"),
    ({"expires": 0}, "more than 0 seconds"),
    ({"keep_result": -1}, "keep_result=-1"),
    ({"keep_result": "yes"}, "keep_result='yes'"),
    ({"max_crashes": 0}, "max_crashes=0"),
    ({"max_crashes": 1001}, "max_crashes=1001"),
    ({"max_crashes": True}, "max_crashes=True"),
    ({"max_crashes": 3.0}, "max_crashes=3.0"),
    ({"executor": "fork"}, "executor='fork'"),
    ({"executor": True}, "give 'thread' or 'process'"),
    ({"delay": 1, "at": 2_000_000_000}, "give one of them"),
    ({"delivery": "at_most_once", "retry": 3}, "retry= cannot be given with it"),
    ({"delivery": "at_most_once", "retry": Retry(limit=1)}, "retry= cannot be given with it"),
    ({"delivery": "at_most_once", "retry_timeout": 5}, "retry_timeout= cannot be given with it"),
    ({"dealy": 5}, "did you mean 'delay'?"),
    ({"time_out": 5}, "did you mean 'timeout'?"),
    ({"retries": 5}, "did you mean 'retry'?"),
    ({"zzz": 5}, "known: at, delay, delivery"),
]


@pytest.mark.parametrize(("given_options", "said"), BAD, ids=lambda value: ascii(value)[:60])
def test_a_bad_option_gets_one_clear_error(given_options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        make_options(given_options)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, DulyError | ValueError)


@pytest.mark.parametrize("name", OPTION_NAMES)
def test_every_option_refuses_what_is_no_value_at_all(name: str) -> None:
    with pytest.raises(InvalidOption, match=name):
        make_options({name: object()})


@pytest.mark.parametrize("name", OPTION_NAMES)
def test_an_option_given_as_none_is_not_set(name: str) -> None:
    assert make_options({name: None}) == Options()


def test_good_options_are_kept_as_they_are_meant() -> None:
    options = make_options(GOOD)
    assert {name: getattr(options, name) for name in GOOD} == {
        **GOOD,
        "unique": Unique(),
        "retry": Retry(limit=5),
        "keep_result": 3600.0,
    }


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (True, Unique()),
        (False, None),
        ("key", Unique(key="key")),
        (60, Unique(seconds=60.0)),
        (timedelta(minutes=1), Unique(seconds=60.0)),
        (Unique(key="k", until="start"), Unique(key="k", until="start")),
    ],
)
def test_unique_can_be_said_in_short(value: Any, meant: Unique | None) -> None:
    assert make_options({"unique": value}).unique == meant


@pytest.mark.parametrize(
    ("value", "meant"), [(True, DEFAULT_RETRY), (False, NO_RETRY), (0, NO_RETRY), (7, Retry(limit=7))]
)
def test_retry_can_be_said_in_short(value: Any, meant: Retry) -> None:
    assert make_options({"retry": value}).retry == meant


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_task_runs_in_a_thread_or_in_a_process(executor: str) -> None:
    assert make_options({"executor": executor}).executor == executor


@pytest.mark.parametrize(("value", "seconds"), [(True, 3600.0), (False, 0.0), (5, 5.0), (timedelta(days=1), 86_400.0)])
def test_keep_result_takes_a_flag_or_a_time(value: Any, seconds: float) -> None:
    assert make_options({"keep_result": value}).keep_result == seconds


def test_a_time_delta_is_good_for_every_duration() -> None:
    minute = timedelta(minutes=1)
    names = ("delay", "retry_timeout", "timeout", "lease", "expires", "keep_result")
    options = make_options(dict.fromkeys(names, minute))
    assert {getattr(options, name) for name in names} == {60.0}


def test_a_moment_is_aware_or_epoch_seconds() -> None:
    paris = datetime(2030, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
    assert moment("at", paris) == datetime(2030, 7, 1, 10, tzinfo=UTC).timestamp()
    assert moment("at", 1_900_000_000) == 1_900_000_000.0


class Nowhere(tzinfo):
    """A zone that does not know its offset."""

    def utcoffset(self, dt: datetime | None) -> None:
        return None


def test_a_zone_without_an_offset_is_no_zone() -> None:
    with pytest.raises(InvalidOption, match="has no time zone"):
        moment("at", datetime(2030, 1, 1, tzinfo=Nowhere()))


def test_the_ends_of_what_can_be_meant_are_taken_and_what_lies_beyond_is_not() -> None:
    assert (duration("x", 0), duration("x", 1e10)) == (0.0, 1e10)
    assert (moment("x", 0), moment("x", math.nextafter(1e11, 0))) == (0.0, math.nextafter(1e11, 0))
    with pytest.raises(InvalidOption, match="x="):
        duration("x", math.nextafter(1e10, math.inf))
    for beyond in (-1e-9, 1e11):
        with pytest.raises(InvalidOption, match="x="):
            moment("x", beyond)


@given(st.floats(0, 1e10) | st.integers(0, 10**10))
def test_a_duration_in_range_is_itself(value: float) -> None:
    assert duration("x", value) == float(value)


@given(st.datetimes(datetime(1970, 1, 2), datetime(5000, 1, 1), timezones=st.timezones()))
def test_any_aware_moment_is_taken(value: datetime) -> None:
    assert moment("at", value) == value.timestamp()


# --- the layers ------------------------------------------------------------------------------------------------------


def test_later_options_go_over_earlier_ones_and_none_takes_one_away() -> None:
    base = make_options({"timeout": 5, "lease": 6})
    assert make_options({"timeout": 7}, base) == make_options({"timeout": 7, "lease": 6})
    assert make_options({"timeout": None}, base) == make_options({"lease": 6})


def test_what_belongs_to_a_declaration_is_refused_at_a_push_and_said_where_it_goes() -> None:
    with pytest.raises(InvalidOption, match=r"executor='process'.*@scheduler\.task\(executor=…\)"):
        push_options({"timeout": 5, "executor": "process"})
    assert push_options({"executor": None, "timeout": 5}) == make_options({"timeout": 5})


def test_options_of_a_push_are_checked_and_go_over_those_before_them() -> None:
    base = make_options({"timeout": 5, "executor": "process"})
    assert push_options({"lease": 6}, base) == make_options({"timeout": 5, "lease": 6, "executor": "process"})
    with pytest.raises(InvalidOption, match="timeout=0"):
        push_options({"timeout": 0})


def test_at_most_once_may_be_said_together_with_no_retry() -> None:
    assert make_options({"delivery": "at_most_once", "retry": False}).retry == NO_RETRY


def test_at_most_once_over_a_base_with_retries_is_refused() -> None:
    with pytest.raises(InvalidOption, match="at_most_once"):
        make_options({"delivery": "at_most_once"}, make_options({"retry": 3}))


def test_the_default_policy_is_three_retries_and_three_crashes() -> None:
    policy = make_policy(Options())
    assert (policy.retry, policy.max_crashes, policy.at_most_once) == (Retry(limit=3, delay=5), 3, False)
    assert (policy.timeout, policy.lease, policy.expires, policy.keep_result) == (None, None, None, 0.0)


def test_what_was_pushed_goes_over_what_was_declared() -> None:
    declared = make_options({"timeout": 1, "lease": 2, "retry": 3, "keep_result": True})
    policy = make_policy(declared, make_options({"timeout": 4, "keep_result": False}))
    assert (policy.timeout, policy.lease, policy.retry.limit, policy.keep_result) == (4.0, 2.0, 3, 0.0)


def test_at_most_once_never_retries_whatever_was_declared() -> None:
    policy = make_policy(make_options({"retry": 5, "retry_timeout": 6}), make_options({"delivery": "at_most_once"}))
    assert policy.at_most_once
    assert policy.retry == NO_RETRY


def test_a_retry_time_out_is_a_lease_and_a_retry_without_end() -> None:
    policy = make_policy(make_options({"retry_timeout": 7}))
    assert (policy.lease, policy.retry) == (7.0, Retry(limit=None, delay=7.0, on_false=True))


def test_a_retry_time_out_leaves_an_explicit_lease_or_retry_alone() -> None:
    policy = make_policy(make_options({"retry_timeout": 5, "lease": 9, "retry": 2}))
    assert (policy.lease, policy.retry) == (9.0, Retry(limit=2))


@pytest.mark.parametrize("name", RUN_OPTIONS)
def test_every_option_of_a_run_has_its_place_in_the_policy(name: str) -> None:
    value = {"delivery": "at_most_once", "keep_result": 77}.get(name, 77)
    assert make_policy(make_options({name: value})) != make_policy(Options())
    assert make_policy(Options(), make_options({name: value})) == make_policy(make_options({name: value}))


@pytest.mark.parametrize(
    ("seconds", "ms"),
    [(0, 0), (1e-6, 1), (0.001, 1), (0.0010004, 1), (0.0015, 2), (1.1, 1100), (1_700_000_000.001, 1_700_000_000_001)],
)
def test_what_a_user_gives_in_seconds_is_rounded_up_to_milliseconds(seconds: float, ms: int) -> None:
    assert to_ms(seconds) == ms


def test_a_delay_is_over_at_the_first_whole_millisecond_after_it() -> None:
    assert [due_after(now_us, 5) for now_us in (7_000, 7_001, 7_999)] == [12, 13, 13]
    assert [due_after(now_us, 0) for now_us in (7_000, 7_001, 7_999)] == [7, 7, 7]
