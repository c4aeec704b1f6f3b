"""The failure sequences that the protocol's odd-looking rules close, on a real Redis with whole schedulers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from duly import Context, Retry, Scheduler, StoreFull
from duly.core.job import NewJob
from duly.core.lifecycle import END, Change
from duly.errors import StoreUncertain
from duly.stores.base import Renewal, Settlement
from duly.stores.redis.store import RedisStore
from duly.testing.clock import ManualClock
from tests.conftest import StartServer
from tests.schedulers import watched
from tests.waiting import eventually


def lose_replies(shard: Any, verb: str, times: int, then: Callable[[], Awaitable[None]] | None = None) -> list[int]:
    """Let the next `times` calls of a verb be applied and their answers lost; returns a list that counts them."""
    inner = getattr(shard, verb)
    lost: list[int] = []

    async def call(*args: Any, **kwargs: Any) -> Any:
        answer = await inner(*args, **kwargs)
        if len(lost) < times:
            lost.append(1)
            if then is not None:
                await then()
            raise StoreUncertain(f"the answer of {verb} was lost on purpose")
        return answer

    setattr(shard, verb, call)
    return lost


async def test_a_push_repeated_after_its_job_has_ended_does_not_run_again(redis_url: str) -> None:
    node, pusher = Scheduler(redis_url), Scheduler(redis_url)
    ran: list[int] = []

    @node.task(name="count")
    async def count(number: int) -> None:
        ran.append(number)

    async def job_has_ended() -> None:
        await eventually(lambda: ran == [1], 10)
        sizes = await pusher.queues.sizes()
        while sizes.leased:
            sizes = await pusher.queues.sizes()

    await node.start()
    async with pusher:
        lost = lose_replies(pusher.store.shard("default"), "enqueue", 1, job_has_ended)
        job = await pusher.push("count", 1, remote=True)
        assert lost
        assert job.created
        await pusher.push("count", 2, remote=True)
        await eventually(lambda: 2 in ran, 10)
    await node.stop()
    assert ran == [1, 2]


async def test_three_lost_claim_replies_count_no_crash_and_give_the_same_batch(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, lease=1)
    seen: list[tuple[int, int, int]] = []

    @scheduler.task(name="see")
    async def see(number: int) -> None:
        from duly import current

        seen.append((number, current().attempt, current().crashes))

    async with scheduler:
        await scheduler.push_many(see.job(i) for i in range(20))
        lost = lose_replies(scheduler.store.shard("default"), "claim", 3)
        await scheduler.start()
        await eventually(lambda: len(seen) == 20, 15)
        await scheduler.stop()
    assert len(lost) == 3
    assert sorted(seen) == [(i, 1, 0) for i in range(20)]


async def test_a_run_whose_settlement_is_on_its_way_keeps_its_lease(redis_url: str) -> None:
    """Its loop may be blocked before it is sent; one that ran at most once would be lost though it had ended."""
    scheduler, other = Scheduler(redis_url, lease=1), Scheduler(redis_url, lease=1)
    ran: list[str] = []
    for node in (scheduler, other):
        node.bind("once", lambda: ran.append("ran"), delivery="at_most_once")
    await scheduler.start()
    with watched(scheduler.store.shard("default"), "settle") as settles:
        settles.gate = asyncio.Event()
        job = await scheduler.push("once")
        await eventually(lambda: bool(settles.batches), 10)
        await other.start()
        leased = await scheduler.jobs.get(job.id)
        assert leased is not None

        async def is_over_or_renewed() -> bool:
            now = await scheduler.jobs.get(job.id)
            return now is None or now.fence != leased.fence or now.at > leased.at + 2

        await eventually(is_over_or_renewed, 10)
        settles.gate.set()
    await scheduler.stop()
    assert ran == ["ran"]
    async with other:
        assert await other.jobs.get(job.id) is None  # it has ended
    await other.stop()


async def test_live_runs_keep_their_leases_when_the_store_was_away_for_longer_than_a_lease(
    start_server: StartServer,
) -> None:
    server = start_server("redis")
    schedulers = [Scheduler(server.url, lease=1) for _ in range(3)]
    runs: list[tuple[str, int]] = []
    go_on = asyncio.Event()

    async def slow(number: int) -> None:
        from duly import current

        runs.append((f"job {number}", current().crashes))
        await go_on.wait()

    for scheduler in schedulers:
        scheduler.bind("slow", slow)
        await scheduler.start()
    async with schedulers[0] as pusher:
        for number in range(6):
            await pusher.push("slow", number)
        await eventually(lambda: len(runs) == 6, 10)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(2.5)  # two leases and a half: the passing of real time is what is tested
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await asyncio.sleep(2)  # time enough for a wrong take-over
        assert (await pusher.queues.sizes()).leased == 6
        go_on.set()

        async def all_settled() -> bool:
            return (await pusher.queues.sizes()).leased == 0

        await eventually(all_settled, 10)
    for scheduler in schedulers:
        await scheduler.stop()
    assert sorted(runs) == [(f"job {number}", 0) for number in range(6)]


async def test_an_old_settle_is_refused_even_when_the_fence_key_was_deleted(redis_url: str) -> None:
    clock = ManualClock()
    store = RedisStore(redis_url, clock=clock)
    await store.connect()
    shard = store.shard("default")
    await shard.enqueue("c", 1, [NewJob("a", b"\x01\x00\x91\xa1t")])
    old = await shard.claim("n1", 1, 1, 10_000, 10_000)
    assert await store._link.command("HDEL", shard.keys.key("meta"), "fence") == 1
    for _ in range(6):  # steps below half a lease, so that this is no gap
        clock.advance(3)
        await shard.claim("n3", 1 + _, 0, 10_000, 10_000)
    new = await shard.claim("n2", 1, 1, 10_000, 10_000)
    assert [job.id for job in new.jobs] == ["a"]
    assert new.fence > old.fence
    assert await shard.settle("n1", 1, [Settlement("a", old.fence, END)]) == ["taken"]
    assert await shard.renew([Renewal("a", old.fence, 10_000)]) == ["taken"]
    assert await shard.settle("n2", 1, [Settlement("a", new.fence, END)]) == ["applied"]
    await store.close()


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_full_store_still_lets_running_jobs_renew_and_settle(start_server: StartServer, kind: str) -> None:
    server = start_server(kind, "--maxmemory-policy", "noeviction")
    scheduler = Scheduler(server.url, lease=1, history=100)
    go_on = asyncio.Event()
    runs: list[int] = []

    @scheduler.task(retry=0)
    async def hold(number: int) -> None:
        runs.append(number)
        await go_on.wait()

    @scheduler.task(delay=3600)
    async def later(text: str) -> None: ...

    await scheduler.start()
    for number in range(10):
        await hold.push(number)
    await eventually(lambda: len(runs) == 10, 10)
    await later.push("x" * 900_000)
    with server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 500_000)
    with pytest.raises(StoreFull, match="maxmemory"):
        await later.push("x")
    before = await scheduler.queues.sizes()
    await asyncio.sleep(2.5)  # two leases and a half: they must be renewed although the store is full
    go_on.set()

    async def all_settled() -> bool:
        return (await scheduler.queues.sizes()).leased == 0

    await eventually(all_settled, 10)
    assert sorted(runs) == list(range(10))
    after = await scheduler.queues.sizes()
    assert (after.dead, after.pending) == (0, before.pending)
    await scheduler.stop()


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_full_store_refuses_no_claim_start_renew_or_settle(start_server: StartServer, kind: str) -> None:
    server = start_server(kind, "--maxmemory-policy", "noeviction")
    store = RedisStore(server.url)
    await store.connect()
    shard = store.shard("default")
    await shard.enqueue("c", 1, [NewJob(id, b"\x01\x00" + b"x" * 300_000) for id in "abc"])
    with server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 500_000)
    with pytest.raises(StoreFull):
        await shard.enqueue("c", 2, [NewJob("d", b"\x01\x00")])
    batch = await shard.claim("n", 1, 3, 10_000, 10_000)
    assert [job.id for job in batch.jobs] == ["a", "b", "c"]
    assert await shard.renew([Renewal("a", batch.fence, 10_000, b"progress")]) == ["applied"]
    assert await shard.start([("a", batch.fence)]) == [True]
    assert await shard.settle("n", 1, [Settlement("a", 1, END)]) == ["taken"]
    again = Settlement("a", batch.fence, Change("again", 1000, 1, 0, 0, "why", "error", "trace"))
    dead = Settlement("b", batch.fence, Change("dead", 0, 1, 0, 0, "why", "error", "trace"))
    assert await shard.settle("n", 2, [again, dead, Settlement("c", batch.fence, END)]) == ["applied"] * 3
    await store.close()


async def test_a_settlement_that_cannot_be_written_does_not_keep_others_from_being_settled(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, lease=1)
    ended: list[int] = []

    @scheduler.task
    async def end(number: int) -> None:
        ended.append(number)

    await scheduler.start()
    shard: Any = scheduler.store.shard("default")
    inner, seen = shard.settle, []

    async def settle(node: str, n: int, settlements: Any) -> Any:
        if "poison" in [settlement.id for settlement in settlements] and len(seen) < 2:
            seen.append(len(settlements))
            raise ValueError("a fault of ours")
        return await inner(node, n, settlements)

    shard.settle = settle
    await scheduler.push_many([end.options(id="poison").job(0), *(end.job(number) for number in range(1, 40))])

    async def all_settled() -> bool:
        sizes = await scheduler.queues.sizes()
        return sizes.leased == sizes.pending == 0

    await eventually(all_settled, 20)
    poison = await scheduler.jobs.get("poison")
    await scheduler.stop()
    assert seen[-1] == 1
    assert sorted(ended) == list(range(40))
    assert poison is not None
    assert poison.reason.startswith("failed: its end could not be written")


async def test_a_fault_at_the_admission_of_one_job_does_not_end_the_node(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(redis_url)
    ran: list[int] = []

    @scheduler.task
    async def run(number: int) -> None:
        ran.append(number)

    await scheduler.start()
    node = scheduler._node
    assert node is not None
    inner, faults = node.worker._admit_one, []

    def admit_one(line: Any, job: Any, *rest: Any) -> Any:
        if not faults:
            faults.append(job.id)
            raise RuntimeError("a fault of ours")
        return inner(line, job, *rest)

    monkeypatch.setattr(node.worker, "_admit_one", admit_one)
    for number in range(5):
        await run.push(number)
    await eventually(lambda: sorted(ran) == list(range(5)), 10)
    await eventually(lambda: node.worker.busy == 0, 10)
    await scheduler.stop()


async def test_a_node_with_thousands_of_slots_claims_in_bounded_steps(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, concurrency=10_000)
    ran: list[int] = []

    @scheduler.task(delivery="at_most_once")
    async def once(number: int) -> None:
        ran.append(number)

    async with scheduler:
        await scheduler.push_many(once.job(number) for number in range(6_000))
        await scheduler.start()
        await eventually(lambda: len(ran) == 6_000, 30)
        await scheduler.stop()
    assert sorted(ran) == list(range(6_000))


async def test_lost_settle_replies_give_no_slot_back_twice(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, concurrency=4, lease=1)
    running = most = done = 0

    @scheduler.task
    async def work(number: int) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done += 1

    async with scheduler:
        await scheduler.push_many(work.job(number) for number in range(60))
        lost = lose_replies(scheduler.store.shard("default"), "settle", 8)
        await scheduler.start()
        node = scheduler._node
        assert node is not None
        await eventually(lambda: done >= 60 and node.worker.slots.free == 4, 30)
        await scheduler.stop()
    assert len(lost) == 8
    assert most <= 4
    assert done == 60


async def test_a_run_that_timed_out_before_it_had_a_thread_never_begins(redis_url: str) -> None:
    scheduler = Scheduler(redis_url, threads=1)
    ran: list[int] = []
    go_on = threading.Event()

    @scheduler.task(timeout=0.3, delivery="at_most_once")
    def slow(number: int) -> None:
        ran.append(number)
        go_on.wait(10)

    await scheduler.start()
    for number in range(3):
        await slow.push(number)

    async def all_dead() -> bool:
        return (await scheduler.queues.sizes()).dead == 3

    await eventually(all_dead, 10)
    go_on.set()
    await scheduler.stop()
    assert len(ran) == 1


async def test_a_sync_handler_that_returns_a_coroutine_is_dead_and_says_why(redis_url: str) -> None:
    scheduler = Scheduler(redis_url)

    async def inner() -> None: ...

    def wrapped() -> Any:
        return inner()

    scheduler.bind("wrapped", wrapped)
    await scheduler.start()
    job = await scheduler.push("wrapped")

    async def is_dead() -> bool:
        return await job.status() == "dead"

    await eventually(is_dead, 10)
    assert "async def" in await scheduler.jobs.why(job.id)
    await scheduler.stop()


async def test_a_run_that_is_tried_again_pushes_no_children(redis_url: str) -> None:
    scheduler = Scheduler(redis_url)
    children: list[int] = []

    @scheduler.task
    async def child(attempt: int) -> None:
        children.append(attempt)

    @scheduler.task(retry=Retry(limit=2, delay=0, on_false=True))
    async def parent(ctx: Context) -> bool:
        ctx.push(child, ctx.attempt)
        return ctx.attempt == 3

    await scheduler.start()
    await parent.push()
    await eventually(lambda: bool(children), 10)
    await scheduler.stop()
    assert children == [3]
