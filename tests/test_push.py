"""Pushing: what is kept, what an id or a unique key that is known answers, what is refused, and that nothing is half done."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from duly import (
    JobHandle,
    NotAccepting,
    PushFailed,
    PushUncertain,
    Retry,
    Scheduler,
    StoreFull,
    StoreUnavailable,
    Unique,
    UnknownTask,
    every,
)
from duly.core.codec import MAX_BYTES
from duly.core.job import NewJob
from duly.errors import (
    ConfigurationError,
    DulyError,
    EncodingError,
    InvalidArguments,
    InvalidOption,
    InvalidURL,
    StoreRefused,
    StoreUncertain,
    TooLarge,
)
from duly.stores.base import MAX_BATCH
from duly.task import JobRequest
from tests.schedulers import running, shared, watched
from tests.servers import free_port
from tests.waiting import eventually


@pytest.fixture
def url(store_url: str) -> str:
    return shared(store_url)


@pytest.fixture
async def scheduler(url: str) -> AsyncIterator[Scheduler]:
    """Connected, and running nothing."""
    async with Scheduler(url, push_timeout=0.2) as scheduler:
        yield scheduler


def declare(scheduler: Scheduler) -> Any:
    @scheduler.task
    async def send(order: int, *, to: str = "") -> None: ...

    return send


async def pending(scheduler: Scheduler, queue: str = "default") -> int:
    return (await scheduler.queues.sizes(queue)).pending


async def look(scheduler: Scheduler, job: JobHandle[Any]) -> Any:
    found = await scheduler.jobs.get(job.id, queue=job.queue)
    assert found is not None
    return found


# --- what is kept ----------------------------------------------------------------------------------------------------


async def test_a_pushed_job_is_kept_with_its_arguments(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    job = await send.push(42, to="a@b")
    assert (job.answer, job.created, job.queue) == ("created", True, "default")
    found = await look(scheduler, job)
    assert (found.id, found.state, found.task, found.args, found.kwargs) == (
        job.id,
        "pending",
        "send",
        [42],
        {"to": "a@b"},
    )
    assert (found.priority, found.attempts, found.crashes, found.node) == (1, 0, 0, "")
    assert await job.status() == "pending"


async def test_a_task_is_pushed_by_name_with_one_payload_or_with_arguments(scheduler: Scheduler) -> None:
    scheduler.bind("email", lambda *args, **kwargs: None)
    task = scheduler.bind("bound", lambda *args: None)
    for job, args, kwargs in [
        (await scheduler.push("email"), [], {}),
        (await scheduler.push("email", {"to": "a"}), [{"to": "a"}], {}),
        (await scheduler.push("email", None), [None], {}),
        (await scheduler.push("email", [1, 2]), [[1, 2]], {}),
        (await scheduler.push("email", args=[1, 2]), [1, 2], {}),
        (await scheduler.push("email", args=(1,), kwargs={"b": 2}), [1], {"b": 2}),
        (await scheduler.push("email", 5, kwargs={"b": 2}), [5], {"b": 2}),
        (await scheduler.push(task, 7), [7], {}),
    ]:
        found = await look(scheduler, job)
        assert (found.args, found.kwargs) == (args, kwargs)


async def test_options_of_the_push_go_over_those_of_the_task(scheduler: Scheduler) -> None:
    @scheduler.task(queue="mail", priority=3, delay=50)
    async def send() -> None: ...

    declared = await look(scheduler, await send.push())
    assert (declared.queue, declared.priority) == ("mail", 3)
    assert 50 <= declared.at - declared.enqueued_at < 50.1  # a delay is never cut short
    chosen = await look(scheduler, await send.options(queue="fast", priority=0, delay=0).push())
    assert (chosen.queue, chosen.priority, chosen.at) == ("fast", 0, chosen.enqueued_at)
    named = await look(scheduler, await scheduler.push("send", priority=2))
    assert (named.queue, named.priority) == ("mail", 2)


async def test_a_task_with_options_is_pushed_with_them_whichever_way(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    chosen = send.options(queue="fast", priority=0, id="x")
    first = await look(scheduler, await scheduler.push(chosen, 1))
    assert (first.id, first.queue, first.priority) == ("x", "fast", 0)
    more = scheduler.request(chosen, 2, id="y", priority=3)
    assert (more.new.id, more.queue, more.new.priority) == ("y", "fast", 3)


async def test_options_upon_options_add_up_and_change_nothing_before(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    first = send.options(queue="a", priority=2)
    second = first.options(priority=3)
    assert {
        (job.queue, (await look(scheduler, job)).priority) for job in [await first.push(1), await second.push(1)]
    } == {
        ("a", 2),
        ("a", 3),
    }


@pytest.mark.parametrize("delay", [5, 5.0, 0.25, timedelta(seconds=90)])
async def test_a_delay_counts_from_the_push_on_the_clock_of_the_store(scheduler: Scheduler, delay: Any) -> None:
    found = await look(scheduler, await declare(scheduler).options(delay=delay).push(1))
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    assert found.at - found.enqueued_at == pytest.approx(seconds, abs=0.0015)


async def test_a_moment_is_kept_as_it_was_given(scheduler: Scheduler) -> None:
    moment = datetime(2031, 5, 6, 7, 8, 9, 250_000, tzinfo=UTC)
    send = declare(scheduler)
    assert {(await look(scheduler, await send.options(at=v).push(1))).at for v in (moment, moment.timestamp())} == {
        moment.timestamp()
    }


async def test_a_moment_in_the_past_is_due_at_once(url: str) -> None:
    scheduler, ran = Scheduler(url), []
    scheduler.bind("note", ran.append)
    async with running(scheduler):
        await scheduler.push("note", 1, at=datetime(2001, 1, 1, tzinfo=UTC))
        await scheduler.push("note", 2, at=0)
        await eventually(lambda: sorted(ran) == [1, 2])


async def test_a_moment_at_push_displaces_a_declared_delay(scheduler: Scheduler) -> None:
    @scheduler.task(delay=500)
    async def later() -> None: ...

    assert (await look(scheduler, await later.options(at=2_000_000_000).push())).at == 2_000_000_000


async def test_delayed_jobs_run_when_they_are_due_and_in_that_order(url: str) -> None:
    scheduler, ran = Scheduler(url), []

    @scheduler.task
    async def note(name: str) -> None:
        ran.append((name, time.monotonic()))

    async with running(scheduler):
        begun = time.monotonic()
        await note.options(delay=0.4).push("late")
        await note.options(delay=0.2).push("early")
        await note.push("now")
        await eventually(lambda: len(ran) == 3)
    assert [name for name, _ in ran] == ["now", "early", "late"]
    assert ran[1][1] - begun >= 0.199  # the clock of a store counts milliseconds
    assert ran[2][1] - begun >= 0.399


async def test_a_job_can_be_built_now_and_pushed_later(scheduler: Scheduler) -> None:
    request = declare(scheduler).options(queue="q").job(3, to="x")
    assert isinstance(request, JobRequest)
    assert await pending(scheduler, "q") == 0
    job = await scheduler.push_request(request)
    assert (job.id, job.queue) == (request.new.id, "q")
    assert (await scheduler.push_request(request)).answer == "pending"  # the same job is not pushed twice
    assert await pending(scheduler, "q") == 1


async def test_every_queue_that_was_pushed_to_is_known(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    for queue in ("b", "a"):
        await send.options(queue=queue).push(1)
    assert {"a", "b"} <= set(await scheduler.queues.list())


# --- ids -------------------------------------------------------------------------------------------------------------


async def test_an_id_that_is_known_is_answered_with_its_state_and_left_alone(url: str) -> None:
    scheduler = Scheduler(url, lease=2)
    begun, go_on = asyncio.Event(), asyncio.Event()

    @scheduler.task(retry=False)
    async def work(how: str) -> None:
        begun.set()
        await go_on.wait()
        if how == "badly":
            raise ValueError(how)

    well, badly = work.options(id="w"), work.options(id="b")
    async with running(scheduler):
        await scheduler.queues.pause()
        assert (await well.push("well")).answer == "created"
        assert (await well.push("other")).answer == "pending"
        assert (await scheduler.jobs.get("w")).args == ["well"]  # type: ignore[union-attr]
        await scheduler.queues.resume()
        await begun.wait()
        assert (await well.push("other")).answer == "leased"
        await badly.push("badly")
        go_on.set()
        await eventually(lambda: _is(scheduler, "w", "ended"))
        await eventually(lambda: _is(scheduler, "b", "dead"))
        again = await well.push("other")
        assert (again.answer, again.id, again.created) == ("ended", "w", False)
        assert (await badly.push("other")).answer == "dead"
        assert (await scheduler.queues.sizes()).pending == 0


async def _is(scheduler: Scheduler, id: str, state: str) -> bool:
    found = await scheduler.jobs.get(id)
    return found is not None and found.state == state


async def test_an_id_may_be_used_again_when_it_is_not_remembered(url: str) -> None:
    scheduler, ran = Scheduler(url, remember=0), []
    scheduler.bind("note", ran.append)
    async with running(scheduler):
        await scheduler.push("note", 1, id="i")
        await eventually(lambda: _is_gone(scheduler, "i"))
        assert (await scheduler.push("note", 2, id="i")).answer == "created"
        await eventually(lambda: ran == [1, 2])


async def _is_gone(scheduler: Scheduler, id: str) -> bool:
    return await scheduler.jobs.get(id) is None


async def test_an_id_belongs_to_its_queue(scheduler: Scheduler) -> None:
    send = declare(scheduler).options(id="i")
    assert [(await send.options(queue=queue).push(1)).answer for queue in ("a", "b", "a")] == [
        "created",
        "created",
        "pending",
    ]


async def test_the_same_id_pushed_at_once_is_written_once(scheduler: Scheduler) -> None:
    send = declare(scheduler).options(id="i")
    jobs = await asyncio.gather(*(send.push(n) for n in range(20)))
    assert [job.answer for job in jobs] == ["created"] + ["pending"] * 19
    assert (await look(scheduler, jobs[0])).args == [0]


async def test_a_cancelled_id_counts_as_ended(scheduler: Scheduler) -> None:
    send = declare(scheduler).options(id="i")
    job = await send.push(1)
    assert await job.cancel() == "cancelled"
    assert (await send.push(1)).answer == "ended"


async def test_replace_gives_a_pending_job_new_arguments_time_and_priority(scheduler: Scheduler) -> None:
    send = declare(scheduler).options(id="i", delay=100)
    await send.push(1)
    replaced = await send.options(replace=True, delay=200, priority=3).push(2)
    assert replaced.answer == "pending"
    found = await look(scheduler, replaced)
    assert (found.args, found.priority) == ([2], 3)
    assert found.at - found.enqueued_at == pytest.approx(200, abs=1)
    assert await pending(scheduler) == 1


async def test_replace_of_an_unknown_id_is_a_plain_push(scheduler: Scheduler) -> None:
    assert (await declare(scheduler).options(id="i", replace=True).push(1)).answer == "created"


async def test_replace_leaves_a_running_and_an_ended_job_alone(url: str) -> None:
    scheduler = Scheduler(url)
    begun, go_on, ran = asyncio.Event(), asyncio.Event(), []

    @scheduler.task(id=None)
    async def work(n: int) -> None:
        ran.append(n)
        begun.set()
        await go_on.wait()

    own = work.options(id="i", replace=True)
    async with running(scheduler):
        await own.push(1)
        await begun.wait()
        assert (await own.push(2)).answer == "leased"
        go_on.set()
        await eventually(lambda: _is(scheduler, "i", "ended"))
        assert (await own.push(3)).answer == "ended"
    assert ran == [1]


# --- unique ----------------------------------------------------------------------------------------------------------


async def test_a_unique_job_is_not_pushed_twice_with_the_same_arguments(scheduler: Scheduler) -> None:
    send = declare(scheduler).options(unique=True)
    first = await send.push(1, to="a")
    second = await send.push(1, to="a")
    assert (second.answer, second.id) == ("pending", first.id)
    assert (await send.push(2, to="a")).created
    assert (await send.push(1, to="b")).created
    assert await pending(scheduler) == 3


async def test_another_task_with_the_same_arguments_is_another_job(scheduler: Scheduler) -> None:
    for name in ("a", "b"):
        scheduler.bind(name, lambda n: None)
    assert [(await scheduler.push(name, 1, unique=True)).answer for name in ("a", "b")] == ["created", "created"]


async def test_a_key_of_ones_own_is_shared_by_tasks(scheduler: Scheduler) -> None:
    for name in ("a", "b"):
        scheduler.bind(name, lambda n: None)
    first = await scheduler.push("a", 1, unique="key")
    assert (await scheduler.push("b", 2, unique="key")).id == first.id


async def test_keywords_in_another_order_are_the_same_arguments(scheduler: Scheduler) -> None:
    scheduler.bind("note", lambda **facts: None)
    first = await scheduler.push("note", kwargs={"a": 1, "b": 2}, unique=True)
    assert (await scheduler.push("note", kwargs={"b": 2, "a": 1}, unique=True)).id == first.id


@pytest.mark.parametrize(("until", "while_running"), [("end", "leased"), ("start", "created")])
async def test_a_unique_key_is_free_after_the_end_or_from_the_start(url: str, until: Any, while_running: str) -> None:
    scheduler = Scheduler(url)
    begun, go_on = asyncio.Event(), asyncio.Event()

    @scheduler.task(unique=Unique(key="k", until=until))
    async def work() -> None:
        begun.set()
        await go_on.wait()

    async with running(scheduler):
        first = await work.push()
        await begun.wait()
        assert (await work.push()).answer == while_running
        go_on.set()
        await eventually(lambda: _is_gone(scheduler, first.id))
        await eventually(lambda: _created(work))


async def _created(task: Any) -> bool:
    return bool((await task.push()).created)


async def test_a_unique_key_is_free_when_its_job_is_cancelled_or_dead(url: str) -> None:
    scheduler = Scheduler(url)

    @scheduler.task(unique="k", retry=False)
    async def fail() -> None:
        raise ValueError("no")

    async with running(scheduler):
        await scheduler.queues.pause()
        assert await (await fail.push()).cancel() == "cancelled"
        job = await fail.push()
        assert job.created
        await scheduler.queues.resume()
        await eventually(lambda: _is(scheduler, job.id, "dead"))
        assert (await fail.push()).created


async def test_unique_for_a_time_outlives_the_job_and_then_is_free(url: str) -> None:
    scheduler, ran = Scheduler(url), []
    scheduler.bind("note", ran.append)
    async with running(scheduler):
        first = await scheduler.push("note", 1, unique=0.6)
        await eventually(lambda: _is_gone(scheduler, first.id))
        second = await scheduler.push("note", 1, unique=0.6)
        assert (second.answer, second.id) == ("ended", first.id)
        await eventually(lambda: _pushed_again(scheduler))
        await eventually(lambda: ran == [1, 1])


async def _pushed_again(scheduler: Scheduler) -> bool:
    return (await scheduler.push("note", 1, unique=0.6)).created


# --- priorities ------------------------------------------------------------------------------------------------------


async def test_the_first_priority_runs_first_and_equals_run_in_the_order_of_their_push(url: str) -> None:
    pusher, worker, ran = Scheduler(url), Scheduler(url, concurrency=1), []
    for scheduler in (pusher, worker):
        scheduler.bind("note", ran.append)
    async with pusher:
        for priority in (3, 1, 0, 2, 1):
            await pusher.push("note", f"{priority}", priority=priority)
        async with running(worker):
            await eventually(lambda: len(ran) == 5)
    assert ran == ["0", "1", "1", "2", "3"]


# --- many ------------------------------------------------------------------------------------------------------------


async def test_many_are_pushed_in_large_calls_and_answered_in_order(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    requests = [send.job(n) for n in range(2 * MAX_BATCH + 500)]
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        ids = await scheduler.push_many(iter(requests))
    assert ids == [request.new.id for request in requests]
    assert [len(batch) for batch in calls.batches] == [MAX_BATCH, MAX_BATCH, 500]
    assert await pending(scheduler) == len(requests)


async def test_many_of_nothing_is_nothing(scheduler: Scheduler) -> None:
    assert await scheduler.push_many([]) == []


async def test_many_large_jobs_travel_in_smaller_calls(scheduler: Scheduler) -> None:
    big = scheduler.bind("big", lambda data: None)
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        await scheduler.push_many(big.job(b"x" * 900_000) for _ in range(12))
    assert max(sum(len(job.body) for job in batch) for batch in calls.batches) < 6_000_000
    assert await pending(scheduler) == 12


async def test_many_for_several_queues_each_go_into_their_own(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    requests = [send.options(queue=f"q{n % 3}").job(n) for n in range(30)]
    ids = await scheduler.push_many(requests)
    assert ids == [request.new.id for request in requests]
    assert [await pending(scheduler, f"q{n}") for n in range(3)] == [10, 10, 10]


async def test_many_with_ids_that_are_known_are_answered_with_those(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    first = await send.options(unique="k").push(0)
    ids = await scheduler.push_many([send.options(unique="k").job(1), send.options(id="i").job(2)])
    assert ids == [first.id, "i"]


def parts(failed: PushFailed) -> tuple[list[str], list[str], list[str]]:
    return failed.accepted, failed.uncertain, [request.new.id for request in failed.rest]


async def test_many_that_meet_a_full_store_say_what_was_taken_and_can_go_on_with_the_rest(scheduler: Scheduler) -> None:
    requests = [declare(scheduler).job(1)] + [scheduler_job(scheduler, n) for n in range(2 * MAX_BATCH + 9)]
    ids = [request.new.id for request in requests]
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        calls.faults = [None, StoreFull("full")]
        with pytest.raises(PushFailed) as failed:
            await scheduler.push_many(iter(requests))
    assert parts(failed.value) == (ids[:MAX_BATCH], [], ids[MAX_BATCH:])
    assert isinstance(failed.value.__cause__, StoreFull)
    assert f"{MAX_BATCH} accepted, 0 uncertain, {len(ids) - MAX_BATCH} not accepted" in str(failed.value)
    assert await scheduler.push_many(failed.value.rest) == ids[MAX_BATCH:]
    assert await pending(scheduler) == len(ids)


def scheduler_job(scheduler: Scheduler, n: int) -> JobRequest:
    """A job of a task that another node has."""
    name, _ = scheduler.resolve("elsewhere", remote=True)
    return JobRequest("default", NewJob(f"{name}-{n}", b"\x01\x00\x92\xa1t\x90"), name)


async def test_many_without_an_answer_say_what_is_uncertain(scheduler: Scheduler) -> None:
    requests = [scheduler_job(scheduler, n) for n in range(2 * MAX_BATCH + 9)]
    ids = [request.new.id for request in requests]
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        calls.faults = [None, *(StoreUncertain("no answer") for _ in range(100))]
        with pytest.raises(PushFailed) as failed:
            await scheduler.push_many(requests)
    assert parts(failed.value) == (ids[:MAX_BATCH], ids[MAX_BATCH : 2 * MAX_BATCH], ids[2 * MAX_BATCH :])


@pytest.mark.parametrize(("fault", "sent"), [(StoreFull("full"), False), (StoreUncertain("no answer"), True)])
async def test_many_for_several_queues_of_which_one_fails_lose_none(
    scheduler: Scheduler, fault: Exception, sent: bool
) -> None:
    send = declare(scheduler)
    queues = ["a", "b", "c"]
    requests = [send.options(queue=queues[n % 3]).job(n) for n in range(30)]
    of_b = [request.new.id for request in requests if request.queue == "b"]
    with watched(scheduler.store.shard("b"), "enqueue") as calls:
        calls.faults = [fault] * 100
        with pytest.raises(PushFailed) as failed:
            await scheduler.push_many(requests)
    accepted, uncertain, rest = parts(failed.value)
    assert sorted([*accepted, *uncertain, *rest]) == sorted(request.new.id for request in requests)
    assert (of_b == uncertain) if sent else (set(of_b) <= set(rest) and not uncertain)
    assert await pending(scheduler, "a") + await pending(scheduler, "c") == len(accepted)


async def test_many_of_which_one_cannot_be_built_keep_those_before_it_apart(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    built: list[str] = []

    def requests() -> Iterator[JobRequest]:
        for n in range(2 * MAX_BATCH):
            request = send.job(n) if n != MAX_BATCH + 10 else send.job(object())
            built.append(request.new.id)
            yield request

    with pytest.raises(PushFailed) as failed:
        await scheduler.push_many(requests())
    assert isinstance(failed.value.__cause__, EncodingError)
    assert parts(failed.value) == (built[:MAX_BATCH], [], built[MAX_BATCH:])
    assert len(built) == MAX_BATCH + 10


async def test_many_that_fail_are_drained_though_one_of_the_rest_cannot_be_built(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    requests: list[Any] = [send.job(n) for n in range(2 * MAX_BATCH + 20)]
    requests[2 * MAX_BATCH + 10] = "no job"
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        calls.faults = [StoreFull("full")]
        with pytest.raises(PushFailed) as failed:
            await scheduler.push_many(requests)
    assert parts(failed.value) == ([], [], [request.new.id for request in requests if request != "no job"])
    assert isinstance(failed.value.__cause__, StoreFull)


async def test_many_of_which_the_first_cannot_be_built_are_refused_at_once(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    with pytest.raises(EncodingError):
        await scheduler.push_many(send.job(value) for value in (1, object(), 3))
    with pytest.raises(InvalidOption, match=r"task\.job"):
        await scheduler.push_many([1, 2])  # type: ignore[list-item]
    with pytest.raises(InvalidOption, match="not str"):
        await scheduler.push_many(["send"])  # type: ignore[list-item]
    assert await pending(scheduler) == 0


# --- together --------------------------------------------------------------------------------------------------------


async def test_pushes_of_one_turn_of_the_loop_travel_together(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    await send.push(0)
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        jobs = await asyncio.gather(*(send.push(n) for n in range(1, 1001)))
    assert len(calls.batches) <= 3
    assert sum(len(batch) for batch in calls.batches) == 1000
    assert len({job.id for job in jobs}) == 1000
    assert await pending(scheduler) == 1001


async def test_pushes_that_come_while_a_call_is_under_way_travel_with_the_next(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    await send.push(0)
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        calls.gate = asyncio.Event()
        first = asyncio.ensure_future(send.push(1))
        await eventually(lambda: len(calls.batches) == 1)
        later = [asyncio.ensure_future(send.push(n)) for n in range(2, 50)]
        await asyncio.sleep(0)
        assert len(calls.batches) == 1  # one call under way per shard
        calls.gate.set()
        await asyncio.gather(first, *later)
    assert [len(batch) for batch in calls.batches] == [1, 48]


async def test_a_push_that_is_given_up_disturbs_no_other_of_its_call(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    pushes = [asyncio.ensure_future(send.push(n)) for n in range(10)]
    await asyncio.sleep(0)
    pushes[3].cancel()
    answers = await asyncio.gather(*pushes, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [n == 3 for n in range(10)]
    assert await pending(scheduler) in (9, 10)


async def test_a_refused_call_refuses_each_of_its_pushes_and_the_next_goes_through(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    await send.push(0)
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        calls.faults = [StoreRefused("read only")]
        answers = await asyncio.gather(*(send.push(n) for n in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreRefused] * 5
        assert len({id(answer) for answer in answers}) == 5  # each has a traceback of its own
        assert (await send.push(9)).created
    assert await pending(scheduler) == 2


async def test_a_push_goes_through_when_the_store_answers_again_in_time(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    await send.push(0)
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        calls.faults = [StoreUnavailable("away"), StoreUncertain("no answer")]
        assert (await send.push(1)).created
    assert await pending(scheduler) == 2


async def test_a_push_without_an_answer_names_its_own_id_only(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    await send.push(0)
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        calls.faults = [StoreUncertain("no answer")] * 100
        answers = await asyncio.gather(*(send.options(id=f"i{n}").push(n) for n in range(3)), return_exceptions=True)
    assert [answer.ids for answer in answers if isinstance(answer, PushUncertain)] == [("i0",), ("i1",), ("i2",)]
    assert "push again with the same id" in str(answers[0])


async def test_a_push_that_never_left_is_unavailable_and_not_uncertain(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    await send.push(0)
    with watched(scheduler.store.shard("default"), "enqueue") as calls:
        calls.faults = [StoreUnavailable("away")] * 100
        with pytest.raises(StoreUnavailable, match="away"):
            await send.push(1)
    assert await pending(scheduler) == 1


async def test_closing_waits_for_pushes_under_way(url: str) -> None:
    scheduler = Scheduler(url)
    send = declare(scheduler)
    async with scheduler:
        pushes = [asyncio.ensure_future(send.push(n)) for n in range(10)]
        await asyncio.sleep(0)
    assert all(job.created for job in await asyncio.gather(*pushes))
    async with scheduler:
        assert await pending(scheduler) == (0 if url == "memory://" else 10)


# --- bad input -------------------------------------------------------------------------------------------------------


def holding_itself() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


BAD_PUSHES: dict[str, tuple[type[Exception], str, Any]] = {
    "a missing argument": (InvalidArguments, "argument 'order' is missing", lambda s, t: t.push()),
    "one argument too many": (InvalidArguments, "2 positional arguments given, at most 1", lambda s, t: t.push(1, 2)),
    "an argument nobody takes": (InvalidArguments, "no argument 'from_'", lambda s, t: t.push(1, from_="x")),
    "an argument given twice": (InvalidArguments, "'order' is given twice", lambda s, t: t.push(1, order=2)),
    "arguments by name": (InvalidArguments, "'send'(order, to)", lambda s, t: s.push("send", args=[1, 2, 3])),
    "an object": (EncodingError, "argument 1 of task 'send' (object)", lambda s, t: t.push(object())),
    "a function": (EncodingError, "argument 'to' of task 'send' (function)", lambda s, t: t.push(1, to=lambda: 1)),
    "a coroutine": (EncodingError, "(Event)", lambda s, t: t.push(asyncio.Event())),
    "a large integer": (EncodingError, "integer outside 64 bits", lambda s, t: t.push(2**64)),
    "a list that holds itself": (EncodingError, "holds itself", lambda s, t: t.push(holding_itself())),
    "half a character": (EncodingError, "argument 1", lambda s, t: t.push("\ud800")),
    "too much": (TooLarge, "at most 1,000,000", lambda s, t: t.push(b"x" * (MAX_BYTES + 1))),
    "an unknown option": (InvalidOption, "did you mean 'delay'?", lambda s, t: s.push("send", 1, dealy=5)),
    "an unknown option of a task": (
        InvalidOption,
        "did you mean 'timeout'?",
        lambda s, t: t.options(timeuot=5).push(1),
    ),
    "a negative delay": (InvalidOption, "delay=-1", lambda s, t: t.options(delay=-1).push(1)),
    "a delay that is no number": (InvalidOption, "delay=nan", lambda s, t: t.options(delay=math.nan).push(1)),
    "a moment without a zone": (InvalidOption, "no time zone", lambda s, t: t.options(at=datetime(2030, 1, 1)).push(1)),
    "a moment in milliseconds": (InvalidOption, "milliseconds", lambda s, t: s.push("send", 1, at=1_800_000_000_000)),
    "delay and moment": (InvalidOption, "give one of them", lambda s, t: s.push("send", 1, at=5, delay=5)),
    "a priority out of range": (InvalidOption, "priority=9", lambda s, t: t.options(priority=9).push(1)),
    "replace without an id": (InvalidOption, "replace=True needs id=", lambda s, t: t.options(replace=True).push(1)),
    "an id that is a number": (InvalidOption, "id=5", lambda s, t: t.options(id=5).push(1)),
    "a queue with braces": (InvalidOption, "no braces", lambda s, t: t.options(queue="{a}").push(1)),
    "an empty queue": (InvalidOption, "queue=''", lambda s, t: t.options(queue="").push(1)),
    "at most once with retries": (
        InvalidOption,
        "never runs a job again",
        lambda s, t: t.options(delivery="at_most_once", retry=Retry(limit=3)).push(1),
    ),
    "two payloads": (InvalidOption, "takes one payload", lambda s, t: s.push("send", 1, 2)),
    "a payload and arguments": (InvalidOption, "takes one payload", lambda s, t: s.push("send", 1, args=[2])),
    "an unknown task": (UnknownTask, "did you mean 'send'?", lambda s, t: s.push("sent", 1)),
    "an unknown task like no other": (UnknownTask, "known: send", lambda s, t: s.push("zzz", 1)),
    "no task at all": (UnknownTask, "None is no task", lambda s, t: s.push(None, 1)),
    "a function that is no task": (UnknownTask, "is no task", lambda s, t: s.push(len, 1)),
    "an empty name": (UnknownTask, "'' is no task", lambda s, t: s.push("", 1)),
    "a name that cannot be one": (InvalidOption, "name=", lambda s, t: s.push("a{b}", 1, remote=True)),
    "keywords that are no mapping": (InvalidOption, "kwargs=", lambda s, t: s.push("send", kwargs=[1])),
    "keywords that are not text": (InvalidOption, "kwargs=", lambda s, t: s.push("send", kwargs={1: 2})),
    "arguments that are no sequence": (InvalidOption, "args=", lambda s, t: s.push("send", args=5)),
    "arguments that are one text": (InvalidOption, "args='ab'", lambda s, t: s.push("send", args="ab")),
}


@pytest.mark.parametrize("what", BAD_PUSHES)
async def test_bad_input_gets_one_clear_error_and_nothing_is_written(scheduler: Scheduler, what: str) -> None:
    kind, said, push = BAD_PUSHES[what]
    task = declare(scheduler)
    with pytest.raises(kind) as refused:
        await push(scheduler, task)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, DulyError)
    sizes = await scheduler.queues.sizes()
    assert (sizes.pending, sizes.leased, sizes.dead) == (0, 0, 0)


def test_a_job_too_large_for_one_call_is_refused_before_anything_is_connected() -> None:
    with pytest.raises(TooLarge):
        declare(Scheduler("memory://")).job(b"x" * (MAX_BYTES + 1))


async def test_a_task_of_another_node_is_pushed_when_it_is_said_to_be_one(scheduler: Scheduler) -> None:
    with pytest.raises(UnknownTask, match="remote=True"):
        await scheduler.push("elsewhere", 1)
    job = await scheduler.push("elsewhere", 1, remote=True, priority=0, queue="q")
    found = await look(scheduler, job)
    assert (found.task, found.args, found.queue, found.priority) == ("elsewhere", [1], "q", 0)


async def test_a_wildcard_takes_any_name(scheduler: Scheduler) -> None:
    scheduler.bind("*", lambda *args: None)
    assert (await look(scheduler, await scheduler.push("anything", 1))).task == "anything"


async def test_an_alias_is_pushed_under_its_own_name(scheduler: Scheduler) -> None:
    @scheduler.task(aliases=["old"])
    async def new(n: int) -> None: ...

    assert (await look(scheduler, await scheduler.push("old", 1))).task == "old"
    with pytest.raises(InvalidArguments):
        await scheduler.push("old")


# --- switches, connections -------------------------------------------------------------------------------------------


async def test_a_scheduler_that_does_not_accept_takes_nothing_in(scheduler: Scheduler) -> None:
    send = declare(scheduler)
    scheduler.stop_accepting()
    assert not scheduler.accepting
    for push in (
        lambda: send.push(1),
        lambda: send.options(delay=1).push(1),
        lambda: scheduler.push("send", 1),
        lambda: scheduler.push_many([send.job(1)]),
        lambda: scheduler.push_request(send.job(1)),
        lambda: scheduler.schedules.put("s", every(seconds=1), "send", args=[1]),
    ):
        with pytest.raises(NotAccepting, match="not accepting tasks"):
            await push()
    sizes = await scheduler.queues.sizes()
    assert (sizes.pending, sizes.schedules) == (0, 0)
    scheduler.start_accepting()
    assert scheduler.accepting
    assert (await send.push(1)).created


@pytest.mark.parametrize(
    ("bad_url", "said"),
    [
        ("http://localhost", "'http://localhost' names no store; a URL begins with memory://"),
        ("localhost:6379", "names no store"),
        ("redis", "names no store"),
        ("redis:/localhost", "names no store"),
        ("redis://localhost:port/0", "cannot be used"),
        ("redis://localhost:6379/zero", "the database 'zero' is not a number"),
        (5, "5 is not a URL"),
    ],
)
def test_a_wrong_url_is_refused_by_name(bad_url: Any, said: str) -> None:
    with pytest.raises(InvalidURL) as refused:
        Scheduler(bad_url)
    assert said in str(refused.value)


def test_a_wrong_url_does_not_show_its_password() -> None:
    for url in ("redis://user:secret@localhost:6379/zero", "postgres://user:secret@localhost/db"):
        with pytest.raises(InvalidURL) as refused:
            Scheduler(url)
        assert "secret" not in str(refused.value)
        assert "localhost" in str(refused.value)


@pytest.mark.parametrize("begin", ["connect", "start"])
async def test_a_store_that_cannot_be_reached_is_named_at_once(begin: str) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    scheduler = Scheduler(url, lease=2)
    begun = time.monotonic()
    for _ in range(2):  # and the scheduler is as it was before
        with pytest.raises(StoreUnavailable) as refused:
            await getattr(scheduler, begin)()
        assert url in str(refused.value)
    assert time.monotonic() - begun < 5


async def test_who_is_not_connected_is_told_how_to_be(url: str) -> None:
    scheduler = Scheduler(url)
    send = declare(scheduler)
    async with scheduler:
        job = await send.push(1)
    for use in (
        lambda: send.push(1),
        lambda: scheduler.push_many([send.job(1)]),
        lambda: scheduler.jobs.get("i"),
        scheduler.queues.sizes,
        scheduler.queues.list,
        lambda: scheduler.schedules.put("s", every(seconds=1), "send", args=[1]),
        lambda: scheduler.schedules.get("s"),
        lambda: scheduler.try_lock("l"),
        scheduler.clear,
        job.status,
        job.cancel,
    ):
        with pytest.raises(ConfigurationError, match="not connected: use `async with scheduler:`"):
            await use()
    with pytest.raises(ConfigurationError, match="not connected"):
        async with scheduler.lock("l"):
            pass


async def test_connections_are_counted(url: str) -> None:
    scheduler = Scheduler(url)
    send = declare(scheduler)
    async with scheduler:
        async with scheduler:
            await send.push(1)
        assert (await send.push(2)).created
    await scheduler.close()  # once too often does no harm
    async with scheduler:
        assert (await send.push(3)).created


async def test_a_scheduler_connected_in_one_loop_is_not_used_in_another(url: str) -> None:
    scheduler = Scheduler(url)

    async def connect() -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            await scheduler.connect()

    async with scheduler:
        await asyncio.to_thread(asyncio.run, connect())
        assert (await declare(scheduler).push(1)).created


def test_a_scheduler_can_be_used_in_one_loop_after_another(url: str) -> None:
    scheduler = Scheduler(url)
    send = declare(scheduler)

    async def push() -> int:
        async with scheduler:
            await send.push(1)
            return await pending(scheduler)

    assert [asyncio.run(push()) for _ in range(3)] == [1, 2, 3]
