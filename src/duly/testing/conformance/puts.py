"""What every store promises about declaring, editing and steering schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duly.stores.base import Firing, ScheduleRecord, Shard
from duly.testing.conformance.kit import (
    BOUND,
    BRIEF,
    Node,
    Suite,
    changed,
    drain_token,
    ids,
    is_unknown,
    known,
    now_ms,
    schedule,
)

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

from duly.testing.conformance.plans import STEP, firing, ids_of, plan, read


class PutSuite(Suite):
    """`Schedules.put`, `.schedules`, `.steer`."""

    async def test_a_new_schedule_begins_now_and_is_due_for_a_look(self, shard: Shard, clock: ManualClock) -> None:
        now = now_ms(clock)
        assert await shard.put(schedule(definition=b"\x00\xff", app="shop", buffer=True)) == ("created", 1)
        assert await shard.wait(BOUND)
        expected = ScheduleRecord("s", b"\x00\xff", 1, now, now, 0, "shop", True)
        assert await read(shard) == expected
        assert (await shard.due(10)).schedules == [expected]

    async def test_a_new_schedule_may_begin_in_the_past_but_not_in_the_future(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        now = now_ms(clock)
        await shard.put(schedule("past", mark=now - 9_000))
        await shard.put(schedule("future", mark=now + 9_000))
        assert [(await read(shard, id)).mark for id in ("past", "future")] == [now - 9_000, now]
        assert (await read(shard, "past")).anchor == now

    async def test_an_equal_put_changes_nothing(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule(app="shop"))
        before = await plan(shard)
        await drain_token(shard)
        clock.advance(5)  # two deploys a day must not starve a daily job: a due moment stays due
        for revision in (None, 1, 7):
            assert await shard.put(schedule(app="shop", revision=revision)) == ("same", 1)
        assert await read(shard) == before
        assert not await shard.wait(BRIEF)

    async def test_an_edit_begins_anew_from_now(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        before = await plan(shard, look=now_ms(clock) + 60_000)
        clock.advance(0.5)
        await drain_token(shard)
        assert await shard.put(schedule(definition=b"other", app="shop", buffer=True)) == ("updated", 2)
        now = now_ms(clock)
        expected = changed(before, definition=b"other", app="shop", buffer=True, revision=2, mark=now, next=0)
        assert await read(shard) == expected
        assert await shard.wait(BOUND)
        assert (await shard.due(10)).schedules == [expected]

    async def test_an_edit_or_a_resume_under_a_clock_that_went_back_leaves_the_mark_where_it_was(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        before = await plan(shard, look=now_ms(clock) + 60_000)
        clock.shift(-30)
        assert await shard.put(schedule(definition=b"other")) == ("updated", 2)
        assert (await read(shard)).mark == before.mark
        await shard.steer("s", paused="a while")
        await shard.steer("s")
        assert (await read(shard)).mark == before.mark

    async def test_another_app_is_an_edit_too(self, shard: Shard) -> None:
        await shard.put(schedule(app="one"))
        await plan(shard)
        assert await shard.put(schedule(app="two")) == ("updated", 2)
        assert (await read(shard)).app == "two"

    async def test_an_edit_that_has_not_seen_the_one_before_it_is_refused(self, shard: Shard) -> None:
        await shard.put(schedule())
        await plan(shard)
        assert await shard.put(schedule(definition=b"first", revision=1)) == ("updated", 2)
        before = await plan(shard)
        assert await shard.put(schedule(definition=b"second", revision=1)) == ("conflict", 2)
        assert await read(shard) == before
        assert await shard.put(schedule(definition=b"second", revision=2)) == ("updated", 3)

    async def test_an_edit_of_one_that_is_gone_does_not_bring_it_back(self, shard: Shard) -> None:
        await shard.put(schedule())
        await shard.steer("s", remove=True)
        for id in ("s", "never"):
            assert await shard.put(schedule(id, revision=1)) == ("conflict", 0)
        assert (await shard.sizes()).schedules == 0
        assert await shard.put(schedule()) == ("created", 1)

    async def test_a_lost_edit_may_be_repeated(self, shard: Shard) -> None:
        await shard.put(schedule())
        await plan(shard)
        assert await shard.put(schedule(definition=b"first", revision=1)) == ("updated", 2)
        assert await shard.put(schedule(definition=b"first", revision=1)) == ("same", 2)

    async def test_a_moment_that_is_due_is_fired_before_an_edit(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        before = await plan(shard)
        clock.advance(STEP / 1000)
        edit = schedule(definition=b"other", revision=1)
        assert await shard.put(edit) == ("due", 1)
        assert await read(shard) == before
        assert await shard.fire("n", [firing(before, before.mark + STEP)]) == ["fired"]
        assert await shard.put(edit) == ("updated", 2)

    async def test_an_edit_waits_until_somebody_has_looked_whether_a_moment_is_due(self, shard: Shard) -> None:
        await shard.put(schedule())
        assert await shard.put(schedule(definition=b"other")) == ("due", 1)

    async def test_a_schedule_that_has_no_more_moments_may_be_edited(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        record = await read(shard)
        over = Firing("s", 1, record.mark, record.mark, None, None)
        assert await shard.fire("n", [over]) == ["fired"]
        clock.advance(60)
        assert (await read(shard)).next is None
        assert (await shard.due(10)).schedules == []
        assert await shard.put(schedule(definition=b"other")) == ("updated", 2)
        assert ids_of(await shard.due(10)) == ["s"]

    async def test_moments_that_a_living_run_held_back_are_dropped_by_an_edit_and_counted(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule(buffer=True))
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
        clock.advance(5)
        assert await shard.put(schedule(definition=b"other", buffer=True)) == ("updated", 2)
        after = await read(shard)
        assert (after.mark, after.skipped, after.live) == (now_ms(clock), {"edited": 1}, (f"s@{record.mark + STEP}",))

    async def test_schedules_are_read_by_id_or_page_by_page(self, shard: Shard) -> None:
        names = [f"s{i}" for i in range(9)]
        for name in names:
            await shard.put(schedule(name))
        page = await shard.schedules(["s3", "nobody", "s1"], "", 10)
        assert [record and record.id for record in page.items] == ["s3", None, "s1"]
        found, cursor = [], ""
        while True:
            page = await shard.schedules(None, cursor, 4)
            found += [record.id for record in page.items]
            cursor = page.cursor
            if not cursor:
                break
        assert sorted(set(found)) == names

    # --- steer -------------------------------------------------------------------------------------------------------

    async def test_steering_nothing_does_nothing(self, shard: Shard) -> None:
        assert await shard.steer("nobody") is False
        assert await shard.steer("nobody", paused="x") is False
        assert await shard.steer("nobody", remove=True) is False
        assert (await shard.sizes()).schedules == 0

    async def test_a_removed_schedule_is_gone_with_its_jobs_that_were_not_claimed(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one, two = record.mark + STEP, record.mark + 2 * STEP
        await shard.fire("n", [firing(record, one, two, counted=True)])
        assert ids(await Node(shard, "n").claim(1)) == [f"s@{one}"]
        assert await shard.steer("s", remove=True) is True
        assert (await known(shard, f"s@{one}")).state == "leased"
        assert await is_unknown(shard, f"s@{two}")
        assert (await shard.sizes()).schedules == 0
        assert (await shard.schedules(["s"], "", 1)).items == [None]
        assert (await shard.due(10)).schedules == []

    async def test_a_paused_schedule_is_not_looked_at_and_not_fired(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        assert await shard.steer("s", paused="holidays") is True
        record = await read(shard)
        assert (record.paused, record.revision) == ("holidays", 1)
        clock.advance(60)
        assert (await shard.due(10)).schedules == []
        assert await shard.fire("n", [firing(record, record.mark + STEP)]) == ["stale"]
        assert (await Node(shard, "n").claim()).looks_due is False

    async def test_a_resumed_schedule_begins_now(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        before = await plan(shard)
        await shard.steer("s", paused="")
        clock.advance(60)
        await drain_token(shard)
        assert await shard.steer("s") is True
        after = changed(before, mark=now_ms(clock), next=0)
        assert await read(shard) == after
        assert await shard.wait(BOUND)
        assert (await shard.due(10)).schedules == [after]

    async def test_resuming_twice_forgets_no_moment(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        await shard.steer("s", paused="x")
        await shard.steer("s")
        before = await read(shard)
        clock.advance(STEP / 1000)
        assert await shard.steer("s") is True
        assert await read(shard) == before

    async def test_a_paused_schedule_may_be_edited_and_stays_paused(self, shard: Shard) -> None:
        await shard.put(schedule())
        await shard.steer("s", paused="x")
        assert await shard.put(schedule(definition=b"other")) == ("updated", 2)
        assert (await read(shard)).paused == "x"
        assert (await shard.due(10)).schedules == []
        await shard.steer("s")
        assert ids_of(await shard.due(10)) == ["s"]
