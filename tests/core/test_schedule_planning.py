"""What is fired and what is skipped, held against a naive walk over every millisecond.

The model of the tests is a schedule that is looked at now and then: `catch_up` says what happens to moments that were
missed, `overlap` what a living run does to them, and at the end each moment was fired once, or skipped and counted.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly.core import codec, schedule
from duly.core.job import Options
from duly.core.schedule import (
    COUNT_STEP,
    HELD_BACK_MS,
    LATE_MS,
    MOST,
    NONE_WINDOW_MS,
    STEP,
    WINDOW_MS,
    CatchUp,
    Definition,
    Overlap,
    Standing,
    plan,
)
from duly.core.trigger import Trigger, at, cron, every
from duly.errors import InvalidOption

CATCH_UPS: tuple[CatchUp, ...] = ("latest", "all")
OVERLAPS: tuple[Overlap, ...] = ("allow", "skip", "buffer")
START = 1_750_000_000_000
HOUR = 3_600_000
WEEKS = 14 * 24 * HOUR


def definition(
    trigger: Trigger, catch_up: CatchUp = "latest", window: int = WINDOW_MS, overlap: Overlap = "allow"
) -> Definition:
    return Definition(trigger, "task", catch_up=catch_up, window=window, overlap=overlap)


class Schedule:
    """A schedule in a store that does what plans say, and keeps count."""

    def __init__(self, of: Definition, mark: int, anchor: int = 0, *, exact: bool = True) -> None:
        self.definition, self.mark, self.anchor = of, mark, anchor
        self.exact = exact  # the next moment is always that of the trigger
        self.fired: list[int] = []
        self.skipped: Counter[str] = Counter()
        self.live = False
        self.failures = self.ended = self.late = 0
        self.paused: str | None = None
        self.steps = 0

    def look(self, now: int) -> None:
        """A node that looks until there is nothing left to do at `now`."""
        while True:
            standing = Standing(self.mark, self.anchor, self.live, len(self.fired), self.failures, self.ended)
            found = plan(self.definition, standing, now)
            self.check(found, now)
            self.fired += found.moments
            self.skipped.update(found.skipped)
            self.mark, self.steps, self.paused = found.mark, self.steps + 1, found.pause
            self.late += found.late
            self.live = self.live or (self.definition.counted and bool(found.moments))
            if found.look is None or found.look > now:
                return

    def check(self, found: schedule.Plan, now: int) -> None:
        """What holds for every single plan."""
        trigger = self.definition.trigger
        assert len(found.moments) <= STEP
        assert self.mark <= found.mark <= max(self.mark, now)
        if self.exact:
            assert found.next == trigger.after(found.mark, self.anchor)
            assert (found.look is None) == (found.next is None)
        assert all(count > 0 for count in found.skipped.values())
        assert found.look is None or found.look <= now or found.look == found.next or found.look == now + HELD_BACK_MS
        if found.look is not None and found.look <= now:  # a look at once only after a step that got somewhere
            assert found.mark > self.mark


def walked(of: Definition, missed: list[int], live: bool, now: int) -> tuple[list[int], list[int]]:
    """What should become of missed moments in one look: (fired, skipped); the rest is held back."""
    if not missed or (live and of.overlap == "buffer"):
        return [], []
    if live and of.overlap == "skip":
        return [], missed
    if of.catch_up == "latest":
        fresh = [moment for moment in missed[-1:] if moment >= now - of.window]
        return fresh, missed[: len(missed) - len(fresh)]
    late = [moment for moment in missed if moment < now - of.window]
    fresh = missed[len(late) :]
    if of.overlap == "allow":
        return fresh, late
    if of.overlap == "skip":  # the first one runs, and the others come while it does
        return fresh[:1], late + fresh[1:]
    return fresh[:1], late


# --- against the walk ------------------------------------------------------------------------------------------------


@given(
    interval=st.integers(1, 400),
    offset=st.integers(0, 500),
    catch_up=st.sampled_from(CATCH_UPS),
    overlap=st.sampled_from(OVERLAPS),
    window=st.sampled_from([0, 1, 100, 700, 5000]),
    looks=st.lists(st.tuples(st.integers(0, 1500), st.booleans()), min_size=1, max_size=8),
)
def test_every_look_does_what_a_walk_over_every_millisecond_says(
    interval: int, offset: int, catch_up: CatchUp, overlap: Overlap, window: int, looks: list[tuple[int, bool]]
) -> None:
    trigger = every(milliseconds=interval, start=(START + offset) / 1000)
    scheduled = Schedule(definition(trigger, catch_up, window, overlap), START)
    now, fired, skipped, mark = START, [], [], START
    for pause, run_ended in looks:
        now += pause
        if run_ended:
            scheduled.live = False
        missed = [m for m in range(mark + 1, now + 1) if m >= START + offset and (m - START - offset) % interval == 0]
        new, dropped = walked(scheduled.definition, missed, scheduled.live, now)
        scheduled.look(now)
        fired += new
        skipped += dropped
        mark = max([mark, *new, *dropped])
        assert scheduled.fired == fired
        assert sum(scheduled.skipped.values()) == len(skipped)
        assert scheduled.mark == mark


triggers = st.one_of(
    st.builds(lambda n: every(milliseconds=n), st.integers(1, 5000)),
    st.builds(lambda n, g: every(milliseconds=n, align=g / 1000), st.integers(1, 5000), st.integers(1, 3000)),
    st.builds(lambda n: every(milliseconds=n, start="now"), st.integers(1, 5000)),
    st.sampled_from(["* * * * * *", "*/7 * * * * *", "5,6 * * * * *", "* * * * *"]).map(cron),
    st.builds(lambda n: at((START + n) / 1000), st.integers(-1000, 20_000)),
)


@given(
    trigger=triggers,
    catch_up=st.sampled_from(CATCH_UPS),
    overlap=st.sampled_from(OVERLAPS),
    window=st.integers(0, 30_000),
    looks=st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), min_size=1, max_size=8),
)
def test_no_moment_is_fired_twice_and_all_are_accounted_for(
    trigger: Trigger, catch_up: CatchUp, overlap: Overlap, window: int, looks: list[tuple[int, bool]]
) -> None:
    scheduled = Schedule(definition(trigger, catch_up, window, overlap), START, anchor=START)
    now = START
    for pause, run_ended in looks:
        now += pause
        scheduled.live = scheduled.live and not run_ended
        scheduled.look(now)
    assert all(a < b for a, b in pairwise(scheduled.fired))
    dealt_with = list(trigger.moments(START, scheduled.mark, START))
    assert set(scheduled.fired) <= set(dealt_with)
    assert len(scheduled.fired) + sum(scheduled.skipped.values()) == len(dealt_with)
    left = list(trigger.moments(scheduled.mark, now, START))
    assert not left or (overlap == "buffer" and scheduled.live)


@given(trigger=triggers, looks=st.lists(st.integers(1, 10_000), min_size=1, max_size=10))
def test_nodes_that_look_at_other_moments_fire_the_same_while_nothing_is_late(
    trigger: Trigger, looks: list[int]
) -> None:
    now = START
    often, once = (Schedule(definition(trigger, "all"), START, START) for _ in range(2))
    for pause in looks:
        now += pause
        often.look(now)
    once.look(now)
    assert often.fired == once.fired
    assert (often.mark, often.skipped) == (once.mark, once.skipped)


# --- after an outage -------------------------------------------------------------------------------------------------

MINUTE = cron("* * * * *")
TEN_SECONDS = every(seconds=10, start=START / 1000)


@pytest.mark.parametrize("outage", [None, HOUR, WEEKS], ids=["one tick", "an hour", "two weeks"])
@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("catch_up", CATCH_UPS)
@pytest.mark.parametrize("trigger", [MINUTE, TEN_SECONDS], ids=["cron", "every"])
def test_an_outage_ends_with_what_the_policies_say(
    trigger: Trigger, catch_up: CatchUp, overlap: Overlap, outage: int | None
) -> None:
    start = START // 60_000 * 60_000
    scheduled = Schedule(definition(trigger, catch_up, WINDOW_MS, overlap), start)
    now = (start + outage if outage else cast(int, trigger.after(start))) + 17
    missed = list(trigger.moments(start, now))
    scheduled.look(now)
    fired, skipped = walked(scheduled.definition, missed, False, now)
    assert scheduled.fired == fired
    assert sum(scheduled.skipped.values()) == len(skipped)
    assert scheduled.fired[-1:] == (missed[-1:] if catch_up == "latest" or overlap == "allow" else fired)
    assert scheduled.steps <= len(fired) // STEP + len(missed) // COUNT_STEP + 4


@pytest.mark.parametrize("catch_up", CATCH_UPS)
def test_runs_held_back_are_made_one_after_the_other_once_each_has_ended(catch_up: CatchUp) -> None:
    scheduled = Schedule(definition(every(seconds=10, start=START / 1000), catch_up, overlap="buffer"), START - 1)
    scheduled.look(START)
    scheduled.look(START + 45_000)  # four more have come while the first run lives
    assert scheduled.fired == [START]
    for _ in range(5):
        scheduled.live = False
        scheduled.look(START + 45_000)
    expected = [START, START + 40_000] if catch_up == "latest" else [START + n * 10_000 for n in range(5)]
    assert scheduled.fired == expected
    assert sum(scheduled.skipped.values()) == 5 - len(expected)


def test_a_schedule_that_waits_for_its_run_is_looked_at_again_even_if_the_run_is_never_heard_of() -> None:
    found = plan(
        definition(every(seconds=1, start=START / 1000), overlap="buffer"), Standing(START, 0, True), START + 5000
    )
    assert (found.moments, found.mark, found.skipped) == ([], START, {})
    assert found.look == START + 5000 + HELD_BACK_MS


@pytest.mark.parametrize("catch_up", CATCH_UPS)
def test_a_living_run_is_nothing_to_a_schedule_that_allows_overlap(catch_up: CatchUp) -> None:
    of = definition(every(seconds=1, start=START / 1000), catch_up)
    assert plan(of, Standing(START, 0, True), START + 2500) == plan(of, Standing(START, 0, False), START + 2500)


def test_skipped_moments_are_counted_by_their_reason() -> None:
    late = Schedule(definition(MINUTE, "latest"), START)
    late.look(START + HOUR)
    assert late.skipped == {"late": 59}
    overlapped = Schedule(definition(MINUTE, "all", overlap="skip"), START)
    overlapped.look(START + HOUR)
    assert overlapped.skipped == {"overlap": 59}
    old = Schedule(definition(MINUTE, "all", window=600_000), START)
    old.look(START + HOUR)
    assert (old.skipped, len(old.fired)) == ({"late": 50}, 10)


def test_everything_older_than_the_window_is_skipped() -> None:
    weekly = cron("0 0 * * 0")
    scheduled = Schedule(definition(weekly, "latest"), START)
    sunday = cast(int, weekly.after(START))
    scheduled.look(sunday + WINDOW_MS + 1)
    assert (scheduled.fired, scheduled.skipped, scheduled.mark) == ([], {"late": 1}, sunday)


def test_a_moment_exactly_as_old_as_the_window_is_still_fired() -> None:
    for catch_up in CATCH_UPS:
        scheduled = Schedule(definition(at(START / 1000), catch_up, window=5000), START - 10)
        scheduled.look(START + 5000)
        assert scheduled.fired == [START]


@pytest.mark.parametrize("n", [COUNT_STEP - 1, COUNT_STEP, COUNT_STEP + 1, 2 * COUNT_STEP, 2 * COUNT_STEP + 1])
@pytest.mark.parametrize("catch_up", CATCH_UPS)
@pytest.mark.parametrize("kind", ["cron", "every"])
def test_counts_are_exact_where_a_step_ends(n: int, catch_up: CatchUp, kind: str) -> None:
    start = START // 1000 * 1000
    trigger: Trigger = cron("* * * * * *") if kind == "cron" else every(seconds=1, start=start / 1000)
    scheduled = Schedule(definition(trigger, catch_up, window=0), start)
    scheduled.look(start + n * 1000)
    assert scheduled.fired == [start + n * 1000]
    assert scheduled.skipped == {"late": n - 1}


@pytest.mark.parametrize("catch_up", CATCH_UPS)
def test_one_step_counts_no_more_than_its_share(catch_up: CatchUp) -> None:
    start = START // 1000 * 1000
    of = definition(cron("* * * * * *"), catch_up, window=0)
    found = plan(of, Standing(start, 0), start + (3 * COUNT_STEP) * 1000)
    assert found == schedule.Plan(
        [],
        start + COUNT_STEP * 1000,
        start + (COUNT_STEP + 1) * 1000,
        start + 3 * COUNT_STEP * 1000,  # at once
        {"late": COUNT_STEP},
    )


@pytest.mark.parametrize("catch_up", CATCH_UPS)
def test_a_step_over_an_anchored_interval_ends_with_one_of_its_moments(catch_up: CatchUp) -> None:
    trigger, anchor = every(seconds=1) | every(seconds=7), START + 123
    last = list(trigger.moments(START, START + 2 * COUNT_STEP * 1000, anchor))[COUNT_STEP - 1]
    found = plan(definition(trigger, catch_up, window=0), Standing(START, anchor), START + 3 * COUNT_STEP * 1000)
    assert (found.mark, found.next, found.skipped) == (last, trigger.after(last, anchor), {"late": COUNT_STEP})


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("window", [0, 1, 20])
def test_moments_a_millisecond_apart_are_all_accounted_for(overlap: Overlap, window: int) -> None:
    for catch_up in CATCH_UPS:
        of = definition(every(milliseconds=1, start=START / 1000), catch_up, window, overlap)
        scheduled = Schedule(of, START - 1)
        scheduled.look(START + 50)
        fired, skipped = walked(of, list(range(START, START + 51)), False, START + 50)
        assert (scheduled.fired, sum(scheduled.skipped.values())) == (fired, len(skipped))


def test_all_are_fired_in_bounded_steps() -> None:
    scheduled = Schedule(definition(every(milliseconds=10, start=START / 1000), "all"), START)
    scheduled.look(START + 5000)
    assert len(scheduled.fired) == 500
    assert scheduled.steps == 500 // STEP


# --- so many times, after completion, late, paused -------------------------------------------------------------------


@pytest.mark.parametrize("catch_up", CATCH_UPS)
@pytest.mark.parametrize("looks", [1, 7, 20])
def test_a_schedule_with_times_is_over_after_so_many_ticks(catch_up: CatchUp, looks: int) -> None:
    of = Definition(every(seconds=1, start=START / 1000), "task", catch_up=catch_up, times=3)
    scheduled = Schedule(of, START - 1, exact=False)
    for n in range(looks):
        scheduled.look(START + n * 20_000 // looks)
    scheduled.look(START + 20_000)
    assert len(scheduled.fired) == min(3, looks + 1) if catch_up == "latest" else 3
    assert plan(of, Standing(START, 0, fired=3), START + HOUR) == schedule.Plan([], START, None, None, {})
    assert plan(of, Standing(START, 0, fired=2), START + HOUR).next is None
    assert len(plan(of, Standing(START, 0, fired=1), START + HOUR).moments) == (1 if catch_up == "latest" else 2)


def test_an_interval_after_completion_counts_from_the_end_of_the_last_run() -> None:
    scheduled = Schedule(definition(every(seconds=10, after_completion=True)), START, anchor=START, exact=False)
    scheduled.look(START + 10_000)
    assert (scheduled.fired, scheduled.live) == ([START + 10_000], True)
    for later in (20_000, 25_000, 39_000):  # it runs for half a minute
        scheduled.look(START + later)
    assert scheduled.fired == [START + 10_000]
    scheduled.live, scheduled.ended = False, START + 40_000
    scheduled.look(START + 49_999)
    assert scheduled.fired == [START + 10_000]
    scheduled.look(START + 50_000)
    assert scheduled.fired == [START + 10_000, START + 50_000]
    assert scheduled.skipped == {}


def test_a_schedule_whose_run_lives_is_looked_at_when_it_ends_and_anyway_after_a_while() -> None:
    of = definition(every(seconds=10, after_completion=True))
    assert (of.counted, of.held_back) == (True, True)
    fired = plan(of, Standing(START, START), START + 10_000)
    assert (fired.moments, fired.next, fired.look) == ([START + 10_000], None, START + 10_000 + HELD_BACK_MS)
    held = plan(of, Standing(START + 10_000, START, live=True), START + 30_000)
    assert (held.moments, held.look) == ([], START + 30_000 + HELD_BACK_MS)


def test_ticks_that_are_fired_late_are_counted() -> None:
    scheduled = Schedule(definition(every(seconds=10, start=START / 1000), "all"), START - 1)
    scheduled.look(START + LATE_MS)
    assert scheduled.late == 0
    scheduled.look(START + 30_000)  # 10 and 20 s are late, 30 is not
    assert (len(scheduled.fired), scheduled.late) == (4, 2)


@pytest.mark.parametrize(
    "of",
    [
        Definition(every(seconds=10, start=START / 1000), "task", times=1),
        Definition(every(seconds=10, after_completion=True), "task"),
    ],
)
def test_a_last_tick_that_is_fired_late_is_counted_too(of: Definition) -> None:
    for late, now in ((0, START + 10_000 + LATE_MS), (1, START + 10_001 + LATE_MS)):
        found = plan(of, Standing(START + 9_999 if of.times else START, START), now)
        assert (found.moments, found.late) == ([START + 10_000], late)


@pytest.mark.parametrize("now", [START + 1_000, START + 5_000])
def test_a_schedule_with_a_buffer_is_held_back_by_the_run_just_fired(now: int) -> None:
    of = definition(every(seconds=1, start=START / 1000), "all", overlap="buffer")
    found = plan(of, Standing(START - 1, 0), now)
    assert (found.moments, found.next, found.look) == ([START], START + 1_000, now + HELD_BACK_MS)


def test_a_schedule_that_fails_too_often_in_a_row_is_paused_with_a_note() -> None:
    of = Definition(every(seconds=1, start=START / 1000), "task", pause_after=3)
    assert plan(of, Standing(START, 0, failures=2), START + 1000).moments == [START + 1000]
    paused = plan(of, Standing(START, 0, failures=3), START + 1000)
    assert paused == schedule.Plan([], START, None, None, {}, pause="3 runs in a row have failed")


def test_jitter_moves_the_job_and_not_the_moment_and_is_the_same_on_every_node() -> None:
    of = Definition(MINUTE, "t", jitter=30_000)
    jobs = [schedule.make_job("s", of, START + n) for n in range(200)]
    offsets = [cast(int, job.due) - START - n for n, job in enumerate(jobs)]
    assert all(0 <= offset <= 30_000 for offset in offsets)
    assert len(set(offsets)) > 150
    assert (min(offsets) < 3000, max(offsets) > 27_000) == (True, True)
    assert jobs == [schedule.make_job("s", of, START + n) for n in range(200)]
    assert [job.id for job in jobs][:2] == [f"s@{START}", f"s@{START + 1}"]
    assert schedule.make_job("s", of, START, "s!manual").due is None
    assert schedule.make_job("s", Definition(MINUTE, "t"), START).due is None


def test_jitter_is_spread_over_schedules_and_up_to_the_most_and_the_same_in_every_version() -> None:
    assert {schedule.jitter_of(f"s{n}", START, 1) for n in range(50)} == {0, 1}
    assert schedule.jitter_of("s", START, 0) == 0
    of = Definition(MINUTE, "t", jitter=30_000)
    assert len({cast(int, schedule.make_job(f"s{n}", of, START).due) for n in range(50)}) > 40
    # Nodes of two versions plan one schedule during a deploy.
    assert [schedule.jitter_of(name, START, 30_000) for name in ("s", "t", "report")] == [4917, 1101, 22605]


# --- before, between, after ------------------------------------------------------------------------------------------


def test_nothing_is_done_before_the_first_moment() -> None:
    found = plan(definition(every(seconds=10, start=START / 1000)), Standing(START, 0, False), START + 9_999)
    assert found == schedule.Plan([], START, START + 10_000, START + 10_000, {})


def test_a_trigger_that_is_over_is_never_looked_at_again() -> None:
    found = plan(definition(at(START / 1000)), Standing(START - 1, 0, False), START)
    assert (found.moments, found.next, found.look) == ([START], None, None)
    assert plan(definition(at(START / 1000)), Standing(START, 0, False), START + 1) == schedule.Plan(
        [], START, None, None, {}
    )


def test_an_interval_that_starts_now_fires_at_its_creation() -> None:
    scheduled = Schedule(definition(every(seconds=10, start="now")), 0, anchor=START)
    scheduled.look(START)
    scheduled.look(START + 10_000)
    assert scheduled.fired == [START, START + 10_000]


def test_a_moment_that_only_a_search_forwards_finds_is_fired_all_the_same() -> None:
    """Backwards, more is excluded than a search passes over; another part of the trigger may have an older moment."""
    midnight = datetime(2026, 3, 27, tzinfo=UTC)
    excluding = every(seconds=1, start=0).excluding(cron("*/2 * 3-6 * * *"), cron("1/2 * 3-6 * * *"))
    first = int(midnight.timestamp() * 1000) + 3 * HOUR - 1000
    now = first + 3 * HOUR
    for trigger in (excluding, excluding | at(midnight)):
        assert trigger.before(now) != first
        found = plan(definition(trigger, "latest", window=4 * HOUR), Standing(first - 1000, 0), now)
        assert (found.moments, found.mark, found.skipped) == ([first], first, {})


def test_a_clock_gone_back_fires_nothing_again() -> None:
    scheduled = Schedule(definition(every(seconds=1, start=START / 1000), "all"), START)
    scheduled.look(START + 3000)
    scheduled.look(START + 1000)
    scheduled.look(START + 3999)
    assert scheduled.fired == [START + 1000, START + 2000, START + 3000]


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger", [MINUTE, TEN_SECONDS, at(START / 1000), cron("0 9 * * *", timezone="Europe/Paris")], ids=str
)
def test_a_definition_comes_out_as_it_went_in_and_equal_ones_are_equal_bytes(trigger: Trigger) -> None:
    def made() -> Definition:
        return Definition(
            trigger,
            "t",
            msgspec.Raw(codec.pack([1])),
            msgspec.Raw(codec.pack({"a": 1})),
            Options(timeout=5.0),
            2,
            "all",
            7,
            "skip",
        )

    packed = schedule.encode(made())
    assert packed == schedule.encode(made())
    found = schedule.decode(packed)
    assert (found.trigger, found.task, found.options, found.overlap) == (trigger, "t", Options(timeout=5.0), "skip")
    assert schedule.encode(found) == packed


def test_the_job_of_a_tick_carries_the_arguments_and_options_of_its_schedule() -> None:
    packed = msgspec.Raw(codec.pack([7])), msgspec.Raw(codec.pack({"a": 1}))
    envelope = codec.decode(schedule.make_job("s", Definition(MINUTE, "t", *packed, Options(timeout=5.0)), START).body)
    assert (envelope.task, codec.unpack(envelope.args), codec.unpack(envelope.kwargs)) == ("t", [7], {"a": 1})
    assert envelope.options == Options(timeout=5.0)


def test_a_job_made_ahead_of_its_moment_is_due_then() -> None:
    of = definition(every(seconds=1))
    assert schedule.make_job("s", of, START, ahead=True).due == START
    assert schedule.make_job("s", of, START).due is None


def test_the_job_of_a_tick_is_named_after_its_moment_and_says_where_it_comes_from() -> None:
    of = Definition(MINUTE, "t", msgspec.Raw(codec.pack([7])), overlap="skip", priority=3)
    job = schedule.make_job("s", of, START)
    assert (job.id, job.priority, job.named) == (f"s@{START}", 3, False)
    envelope = codec.decode(job.body)
    assert envelope.origin == codec.Origin("s", START)
    assert codec.unpack(envelope.args) == [7]
    assert schedule.make_job("s", of, START).id == job.id
    assert schedule.make_job("s", of, START, "own").id == "own"


@pytest.mark.parametrize(
    ("given_policies", "meant"),
    [
        ({}, {}),
        ({"catch_up": "all"}, {"catch_up": "all"}),
        ({"catch_up": "none"}, {"window": NONE_WINDOW_MS}),
        ({"catch_up": "none", "window": 5}, {"window": 5000}),
        ({"window": timedelta(days=1), "overlap": "buffer"}, {"window": 86_400_000, "overlap": "buffer"}),
        ({"times": 3, "jitter": 1.5, "pause_after": 2}, {"times": 3, "jitter": 1500, "pause_after": 2}),
        ({"jitter": timedelta(minutes=1)}, {"jitter": 60_000}),
        ({"overlap": "skip"}, {"overlap": "skip"}),
        ({"window": 1, "times": 1, "pause_after": 1}, {"window": 1000, "times": 1, "pause_after": 1}),
        ({"times": MOST, "pause_after": MOST}, {"times": MOST, "pause_after": MOST}),
    ],
    ids=str,
)
def test_policies_are_said_in_words(given_policies: dict[str, Any], meant: dict[str, Any]) -> None:
    trigger = every(seconds=1)
    assert Definition(trigger, "t", **schedule.policies(**given_policies)) == Definition(trigger, "t", **meant)


@pytest.mark.parametrize(
    ("given_policies", "said"),
    [
        ({"catch_up": "every"}, "catch_up='every'"),
        ({"catch_up": "lates"}, "did you mean 'latest'?"),
        ({"catch_up": "al"}, "did you mean 'all'?"),
        ({"catch_up": "non"}, "did you mean 'none'?"),
        ({"catch_up": None}, "catch_up=None"),
        ({"overlap": "alow"}, "did you mean 'allow'?"),
        ({"overlap": "skipp"}, "did you mean 'skip'?"),
        ({"overlap": "bufer"}, "did you mean 'buffer'?"),
        ({"overlap": True}, "overlap=True"),
        ({"window": -1}, "window=-1"),
        ({"window": "1h"}, "window='1h'"),
        ({"window": 0}, "window=0"),
        ({"window": 10**13}, "milliseconds"),
        ({"times": 0}, "times=0"),
        ({"times": True}, "times=True"),
        ({"times": 1.5}, "times=1.5"),
        ({"times": MOST + 1}, f"times={MOST + 1}"),
        ({"pause_after": -1}, "pause_after=-1"),
        ({"jitter": -1}, "jitter=-1"),
        ({"jitter": "1m"}, "jitter='1m'"),
    ],
    ids=str,
)
def test_a_policy_that_is_none_is_refused(given_policies: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        schedule.policies(**given_policies)
    assert said in str(refused.value)


def test_start_is_a_sunday_in_june() -> None:  # so that the numbers above can be read
    assert datetime.fromtimestamp(START / 1000, UTC).isoformat() == "2025-06-15T15:06:40+00:00"
