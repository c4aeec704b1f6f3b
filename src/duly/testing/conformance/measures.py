"""What was counted of runs: added up by the minute and the task, bounded, and forgotten in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from duly.core.measures import LAST, LATE, MOST_MINUTES, MOST_TASKS, OTHERS, RAN, key_of
from duly.stores.capabilities import Measured
from duly.testing.conformance.kit import Suite

if TYPE_CHECKING:
    from duly.stores.base import Store

MINUTE = 29_000_000
KEEP = 3
MAIL, TEXT = key_of("default", "mail"), key_of("other", "text é")


class MeasureSuite(Suite):
    """measure, measured; of a store that has them."""

    @pytest.fixture
    def measured(self, store: Store) -> Measured:
        if not isinstance(store, Measured):
            pytest.skip("it keeps no measures")
        return store

    async def test_what_is_measured_adds_up_by_minute_task_and_counter(self, measured: Measured) -> None:
        many = {
            "started": 2**50,
            **{f"{kind}{bucket}": bucket + 1 for kind in (RAN, LATE) for bucket in range(LAST + 1)},
        }
        await measured.measure(MINUTE, {MAIL: {"started": 2, "r:17": 1}}, KEEP)
        await measured.measure(MINUTE, {MAIL: {"r:17": 4, "dead": 1}, TEXT: many}, KEEP)
        await measured.measure(MINUTE + 1, {MAIL: {"started": 1}}, KEEP)
        assert await measured.measured(MINUTE, MINUTE + 1) == {
            MINUTE: {MAIL: {"started": 2, "r:17": 5, "dead": 1}, TEXT: many},
            MINUTE + 1: {MAIL: {"started": 1}},
        }

    async def test_only_the_minutes_that_are_asked_for_are_answered(self, measured: Measured) -> None:
        for minute in range(MINUTE, MINUTE + 3):
            await measured.measure(minute, {MAIL: {"started": minute}}, KEEP)
        assert await measured.measured(MINUTE + 1, MINUTE + 1) == {MINUTE + 1: {MAIL: {"started": MINUTE + 1}}}
        assert await measured.measured(MINUTE - 10, MINUTE) == {MINUTE: {MAIL: {"started": MINUTE}}}
        assert await measured.measured(MINUTE + 3, MINUTE + 9) == {}

    async def test_a_minute_is_forgotten_after_its_time(self, measured: Measured) -> None:
        for minute in range(MINUTE, MINUTE + KEEP + 2):
            await measured.measure(minute, {MAIL: {"started": 1}, TEXT: {"started": 1}}, KEEP)
        kept = await measured.measured(MINUTE, MINUTE + KEEP + 2)
        assert list(kept) == [MINUTE + 2, MINUTE + 3, MINUTE + 4]

    async def test_tasks_beyond_the_most_count_as_others(self, measured: Measured) -> None:
        first = {key_of("default", f"task {n}"): {"started": 1} for n in range(MOST_TASKS - 1)}
        await measured.measure(MINUTE, first, KEEP)
        more = {key_of("more", f"task {n}"): {"started": 10, "dead": 1} for n in range(3)}
        await measured.measure(MINUTE, {**more, MAIL: {"started": 1000}}, KEEP)
        await measured.measure(MINUTE, {next(iter(first)): {"started": 1}}, KEEP)  # known ones still count apart
        there = (await measured.measured(MINUTE, MINUTE))[MINUTE]
        assert len(there) == MOST_TASKS + 1
        assert there[next(iter(first))] == {"started": 2}
        assert there[OTHERS] == {"started": 1020, "dead": 2}
        assert sum(counts["started"] for counts in there.values()) == MOST_TASKS + 1030

    async def test_one_call_of_many_tasks_keeps_those_that_start_most(self, measured: Measured) -> None:
        counts = {key_of("default", f"task {n}"): {"started": n + 1} for n in range(MOST_TASKS + 5)}
        await measured.measure(MINUTE, counts, KEEP)
        there = (await measured.measured(MINUTE, MINUTE))[MINUTE]
        assert len(there) == MOST_TASKS + 1
        assert there[OTHERS] == {"started": 1 + 2 + 3 + 4 + 5}

    async def test_siblings_see_what_was_measured(self, store: Store, measured: Measured) -> None:
        await measured.measure(MINUTE, {MAIL: {"started": 1}}, KEEP)
        sibling = store.sibling()
        assert isinstance(sibling, Measured)
        await sibling.connect()
        try:
            assert await sibling.measured(MINUTE, MINUTE) == {MINUTE: {MAIL: {"started": 1}}}
        finally:
            await sibling.close()

    async def test_too_many_minutes_are_refused(self, measured: Measured) -> None:
        assert await measured.measured(MINUTE, MINUTE + MOST_MINUTES - 1) == {}
        with pytest.raises(ValueError, match="make several calls"):
            await measured.measured(MINUTE, MINUTE + MOST_MINUTES)
