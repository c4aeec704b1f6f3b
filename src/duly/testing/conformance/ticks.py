"""What every store promises about several firings in one call, and about the token and the history of a fire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from duly.core.job import Holder
from duly.core.lifecycle import END
from duly.stores.base import ScheduleRecord, Settlement, Shard, Store
from duly.testing.conformance.kit import (
    BOUND,
    BRIEF,
    LEASE,
    Client,
    Node,
    Suite,
    changed,
    drain_token,
    job,
    known,
    now_ms,
    pass_time,
    schedule,
    settlement,
)
from duly.testing.conformance.plans import STEP, firing, ids_of, plan, read

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock

MANY = 1_001
"""More jobs than a store may write in one go."""


class TickSuite(Suite):
    """`Schedules.fire`, `.due` and `.put`, where several come together."""

    async def test_schedules_may_be_fetched_a_little_ahead_and_are_hidden_for_a_second_from_then(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        now = now_ms(clock)
        for id, look in (("now", now), ("soon", now + 100), ("later", now + 101), ("far", now + 1_001)):
            await shard.put(schedule(id))
            await plan(shard, id, look=look)
        due = await shard.due(10, now + 100)
        assert (due.now, ids_of(due)) == (now, ["now", "soon"])
        assert ids_of(await shard.due(10, now + 100)) == []
        assert ids_of(await shard.due(10, now + 5_000)) == ["later"]  # at most a second ahead
        assert ids_of(await shard.due(10, now - 5_000)) == []
        clock.advance(1.099)
        assert ids_of(await shard.due(10)) == ["far"]
        clock.advance(0.001)
        assert ids_of(await shard.due(10)) == ["now", "soon"]

    async def test_a_fire_of_nothing_is_harmless(self, shard: Shard) -> None:
        assert await shard.fire("n", []) == []

    async def test_of_two_equal_firings_in_one_call_the_first_counts(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one = firing(record, record.mark + STEP)
        assert await shard.fire("n", [one, one]) == ["fired", "stale"]
        assert (await read(shard)).fired == 1

    async def test_a_firing_may_go_on_from_the_one_before_it_in_the_same_call(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one, two = record.mark + STEP, record.mark + 2 * STEP
        first = firing(record, one, counted=True)
        second = firing(changed(record, mark=one), two, counted=True)
        assert await shard.fire("n", [first, second]) == ["fired", "fired"]
        after = await read(shard)
        assert (after.mark, after.fired, after.live) == (two, 2, (f"s@{one}", f"s@{two}"))

    async def test_a_fire_is_in_the_history_if_it_pushed_something(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await plan(shard)
        await shard.fire("node", [firing(record, record.mark + STEP)])
        entries = [fields for _, fields in (await shard.history("history", "", 10)).items]
        assert [(entry["verb"], entry["who"], entry["count"], entry["ids"]) for entry in entries] == [
            ("fire", "node", "1", f"s@{record.mark + STEP}")
        ]

    async def test_a_fire_leaves_a_token_only_if_it_pushed_what_is_due_or_first(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        await Client(shard).push(job("head", delay=5_000))
        await drain_token(shard)
        record = await plan(shard)
        assert not await shard.wait(BRIEF)
        for delay, token in ((9_000, False), (4_000, True), (0, True)):
            tick = changed(firing(record, record.mark + STEP), jobs=(job(f"in {delay}", delay=delay),))
            assert await shard.fire("n", [tick]) == ["fired"]
            assert await shard.wait(BOUND if token else BRIEF) is token
            record = await read(shard)

    async def test_a_fire_of_very_many_jobs_pushes_all_and_leaves_a_token(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        record = await plan(shard)
        await drain_token(shard)
        nominals = [record.mark + STEP * k for k in range(1, MANY + 1)]
        jobs = (*(job(f"j{i}") for i in range(MANY - 1)), job("last", delay=3_600_000))
        assert await shard.fire("n", [changed(firing(record, *nominals), jobs=jobs)]) == ["fired"]
        assert (await shard.sizes()).pending == MANY
        assert await shard.wait(BOUND)

    async def test_a_schedule_that_is_not_looked_at_again_stays_silent(self, shard: Shard, clock: ManualClock) -> None:
        for name in ("a", "b"):
            await shard.put(schedule(name))
        a, b = await read(shard, "a"), await read(shard, "b")
        silent = changed(firing(a), look=None)
        assert await shard.fire("n", [silent, firing(b, look=now_ms(clock) + 5_000)]) == ["fired", "fired"]
        clock.advance(3_600)
        assert ids_of(await shard.due(10)) == ["b"]

    async def test_skipped_moments_are_counted_by_their_reason(self, shard: Shard) -> None:
        await shard.put(schedule())
        for skipped in ({"late": 1, "overlap": 2}, {"overlap": 3}, {"edited": 1, "late": 1}):
            record = await read(shard)
            assert await shard.fire("n", [changed(firing(record, skipped=1), skipped=skipped)]) == ["fired"]
        assert (await read(shard)).skipped == {"late": 2, "overlap": 5, "edited": 1}

    async def test_the_run_that_ended_is_the_one_that_lives_no_more(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one, two = record.mark + STEP, record.mark + 2 * STEP
        await shard.fire("n", [firing(record, one, two, counted=True)])
        node = Node(shard, "n")
        batch = await node.claim()
        (second,) = (run for run in batch.jobs if run.id == f"s@{two}")
        await node.settle(settlement(second, batch.fence, schedule="s"))
        assert (await read(shard)).live == (f"s@{one}",)

    async def test_a_run_that_vanished_is_missed_among_many_jobs(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one, two = record.mark + STEP, record.mark + 2 * STEP
        await shard.fire("n", [firing(record, one, two, counted=True)])
        await Client(shard).push(*(job(f"j{i}") for i in range(5)))
        await shard.clear("", None, 10, [f"s@{one}"])
        clock.advance(5)
        (due,) = (await shard.due(10)).schedules
        assert due.live == (f"s@{two}",)

    async def test_the_removal_of_a_schedule_leaves_the_others(self, shard: Shard) -> None:
        for name in ("a", "b", "c"):
            await shard.put(schedule(name))
        assert await shard.steer("b", remove=True) is True
        assert [record and record.id for record in (await shard.schedules(["a", "b", "c"], "", 10)).items] == [
            "a",
            None,
            "c",
        ]
        assert ids_of(await shard.due(10)) == ["a", "c"]

    async def test_firings_have_a_moment_for_each_job(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        odd = changed(firing(record, record.mark + STEP), nominals=())
        with pytest.raises(ValueError, match="one each"):
            await shard.fire("n", [odd])
        assert await read(shard) == record

    async def test_a_schedule_is_removed_though_a_run_of_it_vanished(self, shard: Shard) -> None:
        await shard.put(schedule())
        record = await read(shard)
        one, two = record.mark + STEP, record.mark + 2 * STEP
        await shard.fire("n", [firing(record, one, two, counted=True)])
        await shard.clear("", None, 10, [f"s@{one}"])
        assert await shard.steer("s", remove=True) is True
        assert (await shard.sizes()).pending == 0

    # --- an edit while runs live ---------------------------------------------------------------------------------------

    async def test_an_edit_waits_for_due_moments_though_a_run_lives_if_nothing_is_held_back(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule())
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
        clock.advance(5)
        assert await shard.put(schedule(definition=b"other")) == ("due", 1)

    async def test_an_edit_waits_for_due_moments_if_no_run_lives(self, shard: Shard, clock: ManualClock) -> None:
        await shard.put(schedule(buffer=True))
        await plan(shard)
        clock.advance(STEP / 1000)
        assert await shard.put(schedule(definition=b"other")) == ("due", 1)

    async def test_an_edit_counts_as_dropped_only_a_moment_that_is_known_to_be_due(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        await shard.put(schedule(buffer=True))
        record = await read(shard)
        await shard.fire("n", [firing(record, record.mark + STEP, counted=True)])
        assert await shard.put(schedule(definition=b"other", buffer=True)) == ("updated", 2)  # nothing is due yet
        assert (await read(shard)).skipped == {}
        assert await shard.put(schedule(definition=b"third", buffer=True)) == ("updated", 3)  # nobody has looked
        assert (await read(shard)).skipped == {}

    # --- leased as they are fired ------------------------------------------------------------------------------------

    async def test_jobs_can_be_leased_to_the_node_that_fires_them(self, shard: Shard, clock: ManualClock) -> None:
        record, others = await planned_with_others(shard)
        one, two = record.mark + STEP, record.mark + 2 * STEP
        await drain_token(shard)
        (fence,) = await shard.fire("n", [changed(firing(record, one, two, counted=True), lease=LEASE)])
        assert isinstance(fence, int)
        assert fence >= clock.epoch_us()
        for id in (f"s@{one}", f"s@{two}"):
            found = await known(shard, id)
            assert (found.state, found.node, found.fence, found.started) == ("leased", "n", fence, False)
            assert (found.at, found.attempts, found.crashes) == (now_ms(clock) + LEASE, 0, 0)
        assert (await shard.sizes()).leased == 2
        batch = await Node(shard, "other").claim()
        assert [job.id for job in batch.jobs] == [others]
        assert batch.fence > fence
        held = [Settlement(f"s@{moment}", fence, END, schedule="s") for moment in (one, two)]
        assert await Node(shard, "n").settle(*held) == ["applied", "applied"]
        assert (await read(shard)).live == ()

    async def test_a_lease_that_was_fired_ends_like_any_other(self, shard: Shard, clock: ManualClock) -> None:
        record, _ = await planned_with_others(shard)
        (fence,) = await shard.fire("gone", [changed(firing(record, record.mark + STEP), lease=LEASE)])
        assert isinstance(fence, int)
        await Node(shard, "other", 20 * LEASE).claim()
        await pass_time(shard, clock, LEASE / 1000)
        claimed, _ = await Node(shard, "another").claim_one()
        assert (claimed.id, claimed.crashes) == (f"s@{record.mark + STEP}", 1)
        assert claimed.before == Holder(fence, "gone", False)
        late = Settlement(claimed.id, fence, END, schedule="s")
        assert await Node(shard, "gone").settle(late) == ["taken"]

    @pytest.mark.parametrize("switch", [{"paused": True}, {"limit": 2}])
    async def test_a_queue_that_is_closed_or_full_leases_nothing(self, shard: Shard, switch: dict[str, Any]) -> None:
        record, _ = await planned_with_others(shard)
        await Node(shard, "n").claim()
        await shard.configure(**switch)
        moments = (record.mark + STEP, record.mark + 2 * STEP)
        assert await shard.fire("n", [changed(firing(record, *moments), lease=LEASE)]) == ["fired"]
        for moment in moments:
            assert (await known(shard, f"s@{moment}")).state == "pending"
        assert (await shard.sizes()).pending == 2

    async def test_what_is_known_or_not_due_yet_is_not_leased(self, shard: Shard, clock: ManualClock) -> None:
        record, _ = await planned_with_others(shard)
        moments = (record.mark + STEP, record.mark + 2 * STEP)
        await Client(shard, "early").push(job(f"s@{moments[0]}", delay=60_000))
        assert await shard.fire("n", [changed(firing(record, *moments), lease=LEASE)]) == ["fired"]
        assert [(await known(shard, f"s@{moment}")).state for moment in moments] == ["pending"] * 2
        later = await read(shard)
        third = later.mark + STEP
        plan_ahead = changed(firing(later, third), jobs=(job(f"s@{third}", due=now_ms(clock) + 1),), lease=LEASE)
        assert await shard.fire("n", [plan_ahead]) == ["fired"]
        assert (await known(shard, f"s@{third}")).state == "pending"

    async def test_what_is_due_in_another_queue_is_not_leased_in_this_one(
        self, store: Store, shard: Shard, clock: ManualClock
    ) -> None:
        record, _ = await planned_with_others(shard)
        await Client(store.shard("another"), "early").push(job("later"))
        later = changed(firing(record, record.mark + STEP), jobs=(job("later", due=now_ms(clock) + 1),), lease=LEASE)
        assert await shard.fire("n", [later]) == ["fired"]
        assert (await known(shard, "later")).state == "pending"

    async def test_the_last_places_of_a_queue_and_the_last_priority_are_leased_as_well(self, shard: Shard) -> None:
        record, _ = await planned_with_others(shard)
        await Node(shard, "other").claim()
        await shard.configure(limit=(await shard.sizes()).leased + 1)
        moment = record.mark + STEP
        last = changed(firing(record, moment), jobs=(job(f"s@{moment}", priority=3),), lease=LEASE)
        (fence,) = await shard.fire("n", [last])
        assert isinstance(fence, int)
        assert (await known(shard, f"s@{moment}")).state == "leased"

    async def test_a_firing_without_jobs_leases_nothing(self, shard: Shard) -> None:
        record, _ = await planned_with_others(shard)
        assert await shard.fire("n", [changed(firing(record), lease=LEASE)]) == ["fired"]

    async def test_a_token_for_one_firing_is_not_lost_with_another(self, shard: Shard, clock: ManualClock) -> None:
        records = []
        for id in ("a", "b"):
            await shard.put(schedule(id))
            records.append(await plan(shard, id))
        await drain_token(shard)
        now, later = (firing(record, record.mark + STEP) for record in records)
        later = changed(later, jobs=(job("later", due=now_ms(clock) + 60_000),), lease=LEASE)
        assert await shard.fire("n", [now, later]) == ["fired", "fired"]
        assert await shard.wait(BRIEF)

    async def test_a_job_that_is_known_and_due_is_left_to_whoever_claims_it(self, shard: Shard) -> None:
        record, _ = await planned_with_others(shard)
        moment = record.mark + STEP
        await Client(shard, "early").push(job(f"s@{moment}"))
        assert await shard.fire("n", [changed(firing(record, moment), lease=LEASE)]) == ["fired"]
        assert (await known(shard, f"s@{moment}")).state == "pending"

    async def test_what_was_to_be_leased_and_is_due_soon_leaves_a_token(self, shard: Shard, clock: ManualClock) -> None:
        record, _ = await planned_with_others(shard)
        await Node(shard, "n").claim()
        await drain_token(shard)
        moment = record.mark + STEP
        soon = changed(firing(record, moment), jobs=(job(f"s@{moment}", due=now_ms(clock) + 1),), lease=LEASE)
        assert await shard.fire("n", [soon]) == ["fired"]
        assert await shard.wait(BRIEF)

    async def test_each_firing_of_a_call_is_leased_for_itself(self, shard: Shard) -> None:
        records = []
        for id in ("a", "b", "c"):
            await shard.put(schedule(id))
            records.append(await plan(shard, id))
        await shard.configure(limit=2)
        a, b, c = (firing(record, record.mark + STEP) for record in records)
        both = changed(b, jobs=(*b.jobs, job("b2", priority=3)), nominals=(*b.nominals, b.nominals[0]), lease=LEASE)
        answers = await shard.fire("n", [changed(c, lease=LEASE), changed(a, mark=0, lease=LEASE), both])
        assert [type(answer) for answer in answers] == [int, str, str]
        assert answers[1:] == ["stale", "fired"]
        assert await shard.fire("n", [a]) == ["fired"]
        await shard.configure(limit=3)
        again = changed(firing(await read(shard, "a"), a.nominals[0] + STEP), lease=LEASE)
        (fence,) = await shard.fire("n", [again])
        assert isinstance(fence, int)
        assert fence > int(answers[0])
        verbs = [fields["verb"] for _, fields in (await shard.history("history", "", 100)).items]
        assert verbs[-2:] == ["fire", "claim"]

    async def test_a_stale_firing_leases_nothing(self, shard: Shard) -> None:
        record, _ = await planned_with_others(shard)
        plan_once = changed(firing(record, record.mark + STEP), lease=LEASE)
        assert isinstance((await shard.fire("n", [plan_once]))[0], int)
        assert await shard.fire("m", [plan_once]) == ["stale"]
        assert (await known(shard, f"s@{record.mark + STEP}")).node == "n"


async def planned_with_others(shard: Shard) -> tuple[ScheduleRecord, str]:
    """A schedule, and the id of a job that waits beside its ticks."""
    await shard.put(schedule())
    record = await plan(shard)
    await Client(shard).push(job("waits"))
    return record, "waits"
