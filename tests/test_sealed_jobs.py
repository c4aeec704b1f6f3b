"""With keys: jobs, results and schedules are sealed in the store, and what nobody with a key has made is never run."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from duly import Context, JobFailed, Keys, ResultError, Retry, Scheduler, every
from duly.core import codec
from duly.core import schedule as planning
from duly.core.job import NewJob
from duly.core.schedule import Definition
from duly.errors import FormatError
from duly.stores.base import NewSchedule, Shard
from duly.stores.moving import change_map, move_all
from duly.stores.sealed import REFUSED
from duly.stores.sealing import is_sealed
from tests.contrib import handlers
from tests.schedulers import running, shared
from tests.waiting import eventually

SECRET, OTHER = "s" * 32, "t" * 32
SIGNED = Keys({"1": SECRET})
ENCRYPTED = Keys(encryption={"1": SECRET})
BOTH = Keys({"1": SECRET}, {"1": SECRET})
WORD = "confidential"


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


def raw(scheduler: Scheduler, queue: str = "default") -> Shard:
    """The store itself, as somebody sees it who has no keys."""
    return scheduler.store.shard(queue)


def counting(scheduler: Scheduler) -> tuple[Any, list[Any]]:
    """A task that keeps its result, and what it was called with."""
    seen: list[Any] = []

    @scheduler.task(keep_result=True)
    async def pay(what: Any) -> Any:
        seen.append(what)
        return [what]

    return pay, seen


async def body_of(scheduler: Scheduler, id: str) -> bytes:
    (record,) = await raw(scheduler).get([id])
    assert record is not None
    return record.body


# --- everything works as without ---------------------------------------------------------------------------------------


async def test_jobs_retries_children_results_and_ticks_are_as_without_keys(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url), keys=BOTH, queues=["default", "other"], children=1)
    pay, seen = counting(scheduler)

    @scheduler.task(retry=Retry(limit=1, delay=0, jitter=0))
    def parent(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError
        ctx.push(pay, "child")
        ctx.push(pay.options(queue="other"), "of another queue")

    say = scheduler.bind("say", handlers.fail, executor="process", retry=False)
    async with running(scheduler):
        assert await (await pay.push("mine")).result(10) == ["mine"]
        await parent.push()
        await scheduler.schedules.put("s", every(seconds=3600, start="now"), pay, args=("tick",))
        await scheduler.push_many([pay.job("many"), pay.options(unique="k").job("many")])
        await asyncio.to_thread(pay.push_sync, "sync")
        await say.options(id="dead").push("in a child process")
        await eventually(lambda: len(seen) == 7)
        await scheduler.schedules.trigger("s")
        await scheduler.schedules.backfill("s", datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(1, UTC))
        await eventually(lambda: len(seen) == 8)
        dead = await eventually(lambda: died(scheduler, "dead"))
        assert "in a child process" in dead.error
    scheduler.sync.close()
    assert sorted(seen) == ["child", "many", "many", "mine", "of another queue", "sync", "tick", "tick"]


async def died(scheduler: Scheduler, id: str) -> Any:
    found = await scheduler.jobs.get(id)
    return found if found is not None and found.state == "dead" else None


async def test_in_the_store_all_of_it_is_encrypted(url: str) -> None:
    scheduler = Scheduler(url, keys=ENCRYPTED)
    pay, _ = counting(scheduler)
    async with running(scheduler):
        later = await pay.options(delay=60).push(WORD)
        done = await pay.push(WORD)
        await done.result(10)
        await scheduler.schedules.put("s", every(seconds=60), pay, args=(WORD,))
        kept = [await body_of(scheduler, later.id), await raw(scheduler).result(done.id)]
        kept += [record.definition for record in (await raw(scheduler).schedules(["s"], "", 1)).items]
        for data in kept:
            assert data is not None
            assert is_sealed(data)
            assert WORD.encode() not in data
            assert b"pay" not in data
        shown = await scheduler.jobs.get(later.id)
        assert shown is not None
        assert (shown.task, shown.args) == ("pay", [WORD])
        listed, _ = await scheduler.jobs.list("pending")
        assert [job.args for job in listed] == [[WORD]]


async def test_what_is_moved_to_other_shards_stays_sealed_and_can_be_opened_there(redis_url: str) -> None:
    async with Scheduler(redis_url, keys=BOTH) as scheduler:
        await scheduler.push_many(scheduler.request("t", WORD, delay=3600, id=str(i), remote=True) for i in range(20))
        for i in range(5):
            await scheduler.schedules.put(f"s{i}", every(seconds=3600), "t", args=(WORD,), remote=True)
        await change_map(scheduler.shards, 1, {"default": 4})
        await scheduler.shards.refresh()
        assert await move_all(scheduler.shards, 3_600_000) == 0
        places = scheduler.shards.spread("default").places
        assert len(places) == 4
        assert 0 not in [(await scheduler.shards.at(place).sizes()).pending for place in places]
        for i in range(20):
            found = await scheduler.jobs.get(str(i))
            assert found is not None
            assert found.args == [WORD]
        assert len([schedule async for schedule in scheduler.schedules.list()]) == 5


# --- what nobody with a key has made ---------------------------------------------------------------------------------


async def refused(scheduler: Scheduler, seen: list[Any], id: str) -> str:
    """Why a job is dead that no handler was called for."""
    dead = await eventually(lambda: died(scheduler, id))
    assert dead.task == REFUSED
    assert seen == []
    return str(dead.reason)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (codec.encode("pay", (1,)), "it is not signed"),
        (codec.encode(REFUSED, ("gotcha",)), "it is not signed"),
        (b"\x01\x01\x011 " + bytes(32) + codec.encode("pay", (1,)), "does not fit"),
        (b"\x01\x01\x019 " + bytes(32) + codec.encode("pay", (1,)), "key '9', which this process does not have"),
        (b"\x00", "it is not signed"),
        (b"\xff" * 9, "it is not signed"),
    ],
)
async def test_a_forged_job_is_never_run_and_dead_in_the_end(url: str, body: bytes, why: str) -> None:
    scheduler = Scheduler(url, keys=SIGNED, unfit_for=0.3)
    _, seen = counting(scheduler)
    async with running(scheduler):
        await raw(scheduler).enqueue("thief", 1, [NewJob("forged", body)])
        assert why in await refused(scheduler, seen, "forged")


async def test_a_job_that_was_copied_under_another_id_is_refused(url: str) -> None:
    scheduler = Scheduler(url, keys=BOTH, unfit_for=0.3)
    pay, seen = counting(scheduler)
    async with running(scheduler):
        original = await pay.options(delay=60).push(1)
        await raw(scheduler).enqueue("thief", 1, [NewJob("copy", await body_of(scheduler, original.id))])
        assert "made for something else" in await refused(scheduler, seen, "copy")


async def test_the_envelope_that_stands_for_a_refused_job_cannot_be_pushed_to_any_effect(url: str) -> None:
    """By somebody who may push: the task is there, and fits nothing."""
    scheduler = Scheduler(url, unfit_for=0.3)
    _, seen = counting(scheduler)
    async with running(scheduler):
        await scheduler.push(REFUSED, 5, id="odd", remote=True)
        await refused(scheduler, seen, "odd")


async def test_a_forged_schedule_makes_no_jobs(url: str, caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler(url, keys=SIGNED)
    _, seen = counting(scheduler)
    definition = Definition(every(seconds=1, start=0), "pay", codec.decode(codec.encode("pay", (1,))).args)
    async with running(scheduler):
        with caplog.at_level(logging.WARNING, "duly"):
            await raw(scheduler).put(NewSchedule("forged", planning.encode(definition), 0))
            await eventually(lambda: "schedule 'forged' is refused, and makes no jobs: it is not signed" in caplog.text)
            await scheduler.schedules.put("true", every(seconds=3600, start="now"), "pay", args=(2,))
            await eventually(lambda: seen)
        with pytest.raises(FormatError, match="'forged': it is refused: it is not signed"):
            await scheduler.schedules.get("forged")
    assert seen == [2]


async def test_the_definition_of_another_schedule_is_refused(url: str) -> None:
    scheduler = Scheduler(url, keys=SIGNED)
    async with scheduler:
        await scheduler.schedules.put("a", every(seconds=60), "t", remote=True)
        (record,) = (await raw(scheduler).schedules(["a"], "", 1)).items
        await raw(scheduler).put(NewSchedule("b", record.definition))
        with pytest.raises(FormatError, match="made for something else"):
            await scheduler.schedules.get("b")


async def test_a_result_that_was_changed_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(url, keys=SIGNED)
    pay, _ = counting(scheduler)

    async def forged(id: str, seconds: float = 0.0) -> bytes:
        return codec.pack(("returned", "forged", "", ""))

    async with running(scheduler):
        job = await pay.push(1)
        await job.result(10)
        monkeypatch.setattr(raw(scheduler), "result", forged)
        with pytest.raises(JobFailed, match="its result is refused: it is not signed"):
            await job.result(10)


# --- keys come, change and go ----------------------------------------------------------------------------------------


async def test_an_equal_schedule_stays_the_same_whichever_known_key_signed_it(url: str) -> None:
    first = Scheduler(url, keys=Keys({"1": SECRET}))
    second = Scheduler(url, keys=Keys({"1": SECRET, "2": OTHER}, current="2"))
    async with first, second:
        for expected, scheduler in ((True, first), (False, first), (False, second), (False, first)):
            assert await scheduler.schedules.put("s", every(seconds=60), "t", remote=True) is expected
        found = await second.schedules.get("s")
        assert found is not None
        assert found.revision == 1
        await second.schedules.put("s", every(seconds=30), "t", remote=True)
        with pytest.raises(FormatError, match="key '2', which this process does not have"):
            await first.schedules.get("s")


async def test_what_was_there_before_the_keys_is_used_until_they_are_required_and_schedules_are_sealed_when_put(
    url: str,
) -> None:
    before = Scheduler(url)
    lenient = Scheduler(url, keys=Keys({"1": SECRET}, require=False))
    pay, seen = counting(lenient)
    async with before:
        await before.push("pay", 1, remote=True)
        await before.schedules.put("s", every(seconds=3600, start="now"), "pay", args=(2,), remote=True)
    async with running(lenient):
        await pay.push(3)
        await eventually(lambda: sorted(seen) == [1, 2, 3])
        await lenient.schedules.put("s", every(seconds=3600, start="now"), "pay", args=(2,))
        (record,) = (await raw(lenient).schedules(["s"], "", 1)).items
    assert is_sealed(record.definition)


async def test_a_node_without_the_key_leaves_a_job_to_one_that_has_it(url: str) -> None:
    without, wrong, right = Scheduler(url), Scheduler(url, keys=Keys({"2": OTHER})), Scheduler(url, keys=SIGNED)
    unfit: list[str] = []
    for scheduler in (without, wrong):
        scheduler.on("job.unfit", lambda event: unfit.append(event.facts["reason"]))
    called: list[list[Any]] = []
    for scheduler in (without, wrong, right):
        pay, seen = counting(scheduler)
        called.append(seen)
    async with running(without):
        await right.connect()
        job = await pay.push(1)
        await eventually(lambda: unfit)
    assert "flags 1; this duly reads version 1, flags 0. It is signed: give this scheduler its keys" in unfit[-1]
    async with running(wrong):
        await eventually(lambda: "key '1', which this process does not have" in unfit[-1])
    async with running(right):
        assert await job.result(20) == [1]
    await right.close()
    assert called == [[], [], [1]]


async def test_who_has_no_key_reads_no_result(url: str) -> None:
    scheduler, other = Scheduler(url, keys=ENCRYPTED), Scheduler(url)
    pay, _ = counting(scheduler)
    async with running(scheduler), other:
        job = await pay.push(1)
        await job.result(10)
        job._scheduler = other
        with pytest.raises(ResultError, match="this is encrypted: give this scheduler the keys"):
            await job.result(10)


async def test_keys_of_the_environment_are_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DULY_SIGNING_KEYS", f"1={SECRET}")
    scheduler = Scheduler(url)
    async with scheduler:
        job = await scheduler.push("t", remote=True)
        assert is_sealed(await body_of(scheduler, job.id))
    assert SECRET not in repr(vars(scheduler))
