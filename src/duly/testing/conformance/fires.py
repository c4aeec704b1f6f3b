"""What every store promises about ticks: handed out, fired once, counted, and their living runs."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from duly.core.lifecycle import END
from duly.stores.base import Firing, Shard
from duly.testing.conformance.kit import (
    AGAIN,
    BOUND,
    DEAD,
    Client,
    Node,
    Suite,
    changed,
    drain_token,
    ids,
    job,
    known,
    now_ms,
    schedule,
    settlement,
)

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

from duly.testing.conformance.plans import STEP, firing, ids_of, plan, read, run_all


class FireSuite(Suite):
    """`Schedules.due`, `.fire`, and what a settle does to a schedule."""

    async def test_a_schedule_that_was_handed_out_is_hidden_for_a_second(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        first = await shard.due(10)
        assert (first.now, ids_of(first)) == (now_ms(clock), ["s"])
        clock.advance(0.999)
        assert ids_of(await shard.due(10)) == []
        clock.advance(0.001)
        assert ids_of(await shard.due(10)) == ["s"]  # whoever had it has died: the tick is not lost

    async def test_no_more_schedules_are_handed_out_than_were_asked_for(self, shard: Shard) -> None:
        for i in range(5):
            await shard.put(schedule(f"s{i}"))
        assert [len((await shard.due(2)).schedules) for _ in range(4)] == [2, 2, 1, 0]

    async def test_a_fire_pushes_moves_the_mark_and_counts_in_one_step(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        before = await read(shard)
        one, two = before.mark + STEP, before.mark + 2 * STEP
        clock.advance(5)
        await shard.due(10)
        await drain_token(shard)
        look = now_ms(clock) + 3_000
        plan = Firing(
            "s", 1, before.mark, two, two + STEP, look, (job("x"), job("y", priority=0)), (one, two), {"late": 3}
        )
        assert await shard.fire("n", [plan]) == ["fired"]
        assert await shard.wait(BOUND)
        expected = changed(before, mark=two, next=two + STEP, fired=2, last=two, skipped={"late": 3}, live=("x", "y"))
        assert await read(shard) == expected
        assert (await Node(shard, "n").claim(0)).looks_due is False
        assert [(await known(shard, id)).priority for id in ("x", "y")] == [1, 0]
        clock.advance(2.999)
        assert ids_of(await shard.due(10)) == []
        clock.advance(0.001)
        assert ids_of(await shard.due(10)) == ["s"]

    async def test_counts_add_up(self, shard: Shard) -> None:
        await shard.put(schedule())
        for _ in range(3):
            record = await read(shard)
            await shard.fire("n", [firing(record, skipped=2)])
            record = await read(shard)
            await shard.fire("n", [firing(record, record.mark + STEP)])
        record = await read(shard)
        assert (record.fired, record.skipped) == (3, {"late": 6})

    async def test_a_repeated_fire_is_stale_and_fires_nothing(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        plan = firing(record, record.mark + STEP)
        assert await shard.fire("n", [plan]) == ["fired"]
        await run_all(shard, schedule_id=None)  # the job is done and forgotten: its id does not protect it
        after = await read(shard)
        assert await shard.fire("n", [plan]) == ["stale"]
        assert await read(shard) == after
        assert (await shard.sizes()).pending == 0

    async def test_of_two_nodes_that_planned_the_same_tick_one_fires(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        plans = [firing(record, record.mark + STEP), firing(record, record.mark + STEP, record.mark + 2 * STEP)]
        assert [(await shard.fire(name, [plan]))[0] for name, plan in zip("nm", plans, strict=True)] == [
            "fired",
            "stale",
        ]
        assert (await read(shard)).fired == 1

    async def test_what_was_planned_before_an_edit_is_stale(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await plan(shard)
        await shard.put(schedule(definition=b"other"))
        after = await read(shard)
        stale = changed(firing(record, record.mark + STEP), mark=after.mark)  # the right mark, the old revision
        assert await shard.fire("n", [firing(record, record.mark + STEP), stale]) == ["stale", "stale"]
        assert await read(shard) == after
        assert (await shard.sizes()).pending == 0

    async def test_a_fire_of_what_is_gone_is_stale(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        await shard.steer("s", remove=True)
        assert await shard.fire("n", [firing(record, record.mark + STEP)]) == ["stale"]
        assert (await shard.sizes()).pending == 0

    async def test_one_stale_schedule_does_not_keep_others_from_firing(self, shard: Shard) -> None:
        for name in ("a", "b", "c"):
            await shard.put(schedule(name))
        a, b, c = [await read(shard, name) for name in ("a", "b", "c")]
        b = changed(b, mark=b.mark - 1)
        answers = await shard.fire("n", [firing(one, one.mark + STEP) for one in (a, b, c)])
        assert answers == ["fired", "stale", "fired"]
        assert sorted(ids(await Node(shard, "n").claim())) == [f"{one.id}@{one.mark + STEP}" for one in (a, c)]

    async def test_a_job_that_is_known_is_left_alone(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        id = f"s@{record.mark + STEP}"
        await Client(shard).push(job(id, body=b"triggered by hand", delay=9_000))
        assert await shard.fire("n", [firing(record, record.mark + STEP)]) == ["fired"]
        assert (await known(shard, id)).body == b"triggered by hand"
        assert (await shard.sizes()).pending == 1

    async def test_what_was_done_to_a_schedule_is_in_the_tick_log(self, shard: Shard, clock: ManualClock) -> None:
        made = now_ms(clock)
        await shard.put(schedule(mark=made - 5))
        await plan(shard)
        await shard.put(schedule())  # equal: nothing
        clock.advance(0.2)
        await shard.put(schedule(definition=b"other"))
        await shard.steer("s", paused="for now")
        await shard.steer("s")
        await shard.steer("s")  # it is not paused: nothing
        await shard.fire("n", [changed(firing(await read(shard)), pause="it fails")])
        edited = now_ms(clock)
        entries = [fields for _, fields in (await shard.history("ticks", "", 20)).items]
        assert [(e["state"], e["nominal"], e["why"]) for e in entries] == [
            ("created", str(made - 5), ""),
            ("updated", str(edited), ""),
            ("paused", str(edited), "for now"),
            ("resumed", str(edited), ""),
            ("paused", str(edited), "it fails"),
        ]
        assert {(e["schedule"], e["count"]) for e in entries} == {("s", "1")}

    async def test_a_tick_is_logged_and_so_is_what_was_skipped(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one, two = record.mark + STEP, record.mark + 2 * STEP
        await shard.fire("n", [firing(record, one, two)])
        after = await read(shard)
        await shard.fire("n", [firing(after, skipped=4)])
        entries = [fields for _, fields in (await shard.history("ticks", "", 10)).items][1:]
        assert [(entry["schedule"], entry["nominal"], entry["state"]) for entry in entries] == [
            ("s", str(one), "fired"),
            ("s", str(two), "fired"),
            ("s", str(two + 4 * STEP), "skipped"),
        ]
        assert (entries[2]["why"], entries[2]["count"]) == ("late", "4")

    # --- living runs -------------------------------------------------------------------------------------------------

    async def test_counted_runs_live_until_they_are_settled(self, shard: Shard) -> None:
        await shard.put(schedule())
        for change in (END, DEAD):
            record = await read(shard)
            id = f"s@{record.mark + STEP}"
            await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
            assert (await read(shard)).live == (id,)
            assert await run_all(shard, AGAIN) == [id]
            assert (await read(shard)).live == (id,)  # a retry counts as living
            assert await run_all(shard, change) == [id]
            assert (await read(shard)).live == ()

    async def test_runs_that_are_not_counted_are_known_until_the_next_fire(self, shard: Shard) -> None:
        await shard.put(schedule())
        for _ in range(3):
            record = await read(shard)
            await shard.fire("n", [firing(record, record.mark + STEP)])
            assert (await read(shard)).live == (f"s@{record.mark + STEP}",)

    async def test_counted_runs_add_up(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
        await shard.fire("n", [firing(await read(shard), record.mark + 2 * STEP, counted=True)])
        assert (await read(shard)).live == tuple(f"s@{record.mark + k * STEP}" for k in (1, 2))

    async def test_the_settle_that_ends_a_run_puts_a_waiting_schedule_back(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule(buffer=True))
        record = await read(shard)
        far = now_ms(clock) + 60_000
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True, look=far)])
        clock.advance(3)
        assert ids_of(await shard.due(10)) == []
        assert await run_all(shard, AGAIN) != []
        assert ids_of(await shard.due(10)) == []
        node = Node(shard, "n")
        claimed, fence = await node.claim_one()
        await drain_token(shard)
        await node.settle(settlement(claimed, fence, schedule="s"))
        assert await shard.wait(BOUND)
        (put_back,) = (await shard.due(10)).schedules
        assert (put_back.id, put_back.live) == ("s", ())

    async def test_a_plan_to_wait_for_a_run_that_has_ended_meanwhile_is_stale(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule(buffer=True))
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
        record = await read(shard)
        far = now_ms(clock) + 60_000
        waiting = Firing("s", record.revision, record.mark, record.mark, record.next, far, counted=True, waits=True)
        assert await shard.fire("n", [waiting]) == ["fired"]
        await run_all(shard)
        assert await shard.fire("n", [waiting]) == ["stale"]
        assert ids_of(await shard.due(10)) == ["s"]

    async def test_the_settle_of_a_run_leaves_a_schedule_that_does_not_wait_where_it_is(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True, look=now_ms(clock) + 60_000)])
        assert await run_all(shard) != []
        assert ids_of(await shard.due(10)) == []

    async def test_the_settle_of_a_run_does_not_wake_a_paused_schedule(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule(buffer=True))
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
        await shard.steer("s", paused="x")
        assert await run_all(shard) != []
        clock.advance(60)
        assert ids_of(await shard.due(10)) == []
        assert (await read(shard)).live == ()

    async def test_a_settle_that_names_a_schedule_that_is_gone_is_written(self, shard: Shard) -> None:
        await shard.put(schedule(buffer=True))
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
        node = Node(shard, "n")
        claimed, fence = await node.claim_one()
        await shard.steer("s", remove=True)
        assert await node.settle(settlement(claimed, fence, schedule="s")) == ["applied"]
        assert (await shard.sizes()).schedules == 0

    async def test_a_run_that_vanished_does_not_silence_its_schedule(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule(buffer=True))
        record = await read(shard)
        one, two, three = (record.mark + k * STEP for k in (1, 2, 3))
        await shard.fire("n", [firing(record, one, two, three, counted=True)])
        node = Node(shard, "n")
        batch = await node.claim(1)
        await node.settle(settlement(batch.jobs[0], batch.fence, DEAD))  # dead, and its settle named nobody
        await shard.clear("", None, 100, [f"s@{two}"])
        clock.advance(5)
        (due,) = (await shard.due(10)).schedules
        assert due.live == (f"s@{three}",)
        assert (await read(shard)).live == (f"s@{three}",)

    # --- how runs end ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("counted", [True, False])
    async def test_the_end_of_a_run_is_noted_with_its_schedule(
        self, shard: Shard, clock: ManualClock, counted: bool
    ) -> None:
        await shard.put(schedule())
        assert ((await read(shard)).ended, (await read(shard)).outcome) == (0, "")
        ends = [
            (DEAD, "dead: it raised", 1),
            (DEAD, "dead: it raised", 2),
            (END, "ended", 0),
            (DEAD, "dead: it raised", 1),
        ]
        for change, outcome, failures in ends:
            clock.advance(1.5)
            record = await read(shard)
            await shard.fire("n", [firing(record, record.mark + STEP, counted=counted)])
            assert await run_all(shard, AGAIN) != []
            assert ((await read(shard)).ended, (await read(shard)).outcome) == (record.ended, record.outcome)
            assert await run_all(shard, changed(change, reason="it raised")) != []
            after = await read(shard)
            assert (after.ended, after.outcome, after.failures) == (now_ms(clock), outcome, failures)
            assert after.live == ()
        await shard.put(schedule(definition=b"another"))
        assert ((await read(shard)).outcome, (await read(shard)).failures) == ("dead: it raised", 1)

    async def test_the_reason_of_a_death_is_kept_in_part(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP)])
        await run_all(shard, changed(DEAD, reason="é" * 5_000))
        assert (await read(shard)).outcome == "dead: " + "é" * 194

    async def test_late_ticks_are_counted(self, shard: Shard) -> None:
        await shard.put(schedule())
        for late, total in ((2, 2), (0, 2), (1, 3)):
            record = await read(shard)
            await shard.fire("n", [changed(firing(record, record.mark + STEP), late=late)])
            assert (await read(shard)).late == total

    async def test_a_fire_may_pause_its_schedule(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        record = await read(shard)
        plan = changed(firing(record), pause="3 runs in a row have failed")
        assert await shard.fire("n", [plan]) == ["fired"]
        assert (await read(shard)).paused == "3 runs in a row have failed"
        clock.advance(3_600)
        assert ids_of(await shard.due(10)) == []

    async def test_a_schedule_that_goes_on_has_no_failures_behind_it(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP)])
        await run_all(shard, DEAD)
        assert (await read(shard)).failures == 1
        await shard.steer("s")  # it is not paused: nothing changes
        assert (await read(shard)).failures == 1
        await shard.steer("s", paused="x")
        await shard.steer("s")
        assert (await read(shard)).failures == 0

    # --- all together ------------------------------------------------------------------------------------------------

    async def test_each_tick_fires_once_though_a_crowd_plans_late_twice_and_not_at_all(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        start = (await read(shard)).mark
        chance = random.Random(7)
        planned: list[Firing] = []
        for _ in range(300):
            clock.advance(chance.choice([0.05, 0.3, 0.9, 2.5]))
            for record in (await shard.due(10)).schedules:
                last = (now_ms(clock) - start) // STEP * STEP + start
                planned += [firing(record, *range(record.mark + STEP, last + 1, STEP))] * chance.choice([0, 1, 1, 2])
            for one in chance.sample(planned, min(len(planned), 2)):
                await shard.fire("n", [one])
        end = (await read(shard)).mark
        fired: Counter[str] = Counter()
        while found := await run_all(shard, schedule_id=None):
            fired.update(found)
        assert fired == Counter(f"s@{nominal}" for nominal in range(start + STEP, end + 1, STEP))
        assert len(fired) > 100
