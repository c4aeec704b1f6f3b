"""Times in buckets are never far off, and counters add up whatever is done with them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly.core.job import Claimed
from duly.core.lifecycle import END, Change
from duly.core.measures import (
    ENDS,
    LAST,
    LATE,
    MOST_TASKS,
    OTHERS,
    RAN,
    Tally,
    add,
    bounds,
    bucket_of,
    buckets_of,
    end_of,
    few,
    key_of,
    less,
    percentile,
    read_key,
)

LONGEST = 2**40 - 1
times = st.integers(0, LONGEST) | st.integers(0, 40).map(lambda bits: 2**bits - 1)
counters = st.dictionaries(st.sampled_from(["started", "succeeded", "r:17", "l:3"]), st.integers(1, 99), min_size=1)


@given(times)
def test_a_time_lies_within_its_bucket(us: int) -> None:
    low, high = bounds(bucket_of(us))
    assert low <= us < high


def test_the_buckets_follow_each_other_without_a_gap() -> None:
    edges = [bounds(bucket) for bucket in range(LAST + 1)]
    assert edges[0][0] == 0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(edges))
    assert edges[-1][1] == LONGEST + 1


def test_what_is_longer_than_all_is_in_the_last_bucket() -> None:
    assert bucket_of(LONGEST) == bucket_of(LONGEST + 1) == bucket_of(2**80) == LAST


@given(times, times)
def test_a_longer_time_has_no_lower_bucket(one: int, other: int) -> None:
    assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


@given(st.lists(times, min_size=1), st.floats(0, 1))
def test_a_percentile_is_less_than_13_percent_off(all_us: list[int], q: float) -> None:
    found: dict[int, int] = {}
    for us in all_us:
        found[bucket_of(us)] = found.get(bucket_of(us), 0) + 1
    true = sorted(all_us)[max(1, math.ceil(q * len(all_us))) - 1]
    assert abs(percentile(found, q) * 1_000_000 - true) <= 0.13 * true + 1e-6


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert percentile({}, 0.5) == 0.0


def job(attempts: int = 1, crashes: int = 1) -> Claimed:
    return Claimed("j", b"", 0, attempts=attempts, crashes=crashes)


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (END, "succeeded"),
        (Change("end", keep_result=True), "succeeded"),
        (Change("end", reason="discarded: why"), "cancelled"),
        (Change("again", 5, attempts=2, crashes=1), "failed"),
        (Change("again", 5, attempts=1, crashes=2), "failed"),
        (Change("again", 5, attempts=1, crashes=1, reason="snoozed"), "put_back"),
        (Change("dead", attempts=2, reason="failed: no"), "dead"),
    ],
)
def test_a_change_is_one_of_the_ends(change: Change, end: str) -> None:
    assert end_of(job(), change) == end
    assert end in ENDS


def test_a_tally_counts_what_it_is_told() -> None:
    tally = Tally()
    assert tally.counts() == {}
    tally.started += 3
    tally.ends["succeeded"] += 1
    tally.note(0.000_010, 1_002, 1_000)
    tally.note(0.000_010, 1_000, 1_001)  # claimed early, as clocks may have it: not late
    tally.note(5.0, 1_000, 0)  # not known when it was due
    found: dict[str, Any] = tally.counts()
    ran, late = buckets_of(found, RAN), buckets_of(found, LATE)
    assert {name: found[name] for name in found if ":" not in name} == {"started": 3, "succeeded": 1}
    assert ran == {bucket_of(10): 2, bucket_of(5_000_000): 1}
    assert late == {bucket_of(2_000): 1, 0: 1}
    assert (tally.ran_us, tally.late_us) == (5_000_020, 2_000)


@given(counters, counters)
def test_what_was_added_is_the_difference(before: dict[str, int], more: dict[str, int]) -> None:
    minute: dict[str, dict[str, int]] = {}
    assert list(add(minute, {"a": before})) == list(add(minute, {"a": more})) == ["a"]
    assert less(minute["a"], before) == more


@pytest.mark.parametrize("count", [0, 1, MOST_TASKS, MOST_TASKS + 1, 3 * MOST_TASKS])
def test_of_however_many_tasks_few_are_kept_and_nothing_is_lost(count: int) -> None:
    counts = {f"task {n}": {"started": n * 7 % 1000, "r:17": 1} for n in range(count)}
    kept = few(counts)
    assert len(kept) == min(count, MOST_TASKS + 1)
    assert (OTHERS in kept) == (count > MOST_TASKS)
    for name in ("started", "r:17"):
        assert sum(c[name] for c in kept.values()) == sum(c[name] for c in counts.values())
    least = min((c["started"] for task, c in kept.items() if task != OTHERS), default=0)
    assert all(c["started"] <= least for task, c in counts.items() if task not in kept)


def test_a_key_says_queue_and_task() -> None:
    assert read_key(key_of("mail", "send a letter")) == ("mail", "send a letter")
    assert read_key(OTHERS) == ("", OTHERS)
