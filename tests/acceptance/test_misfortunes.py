"""What broke elsewhere, with real processes on a real Redis: nodes that stood still, that are many, that a job kills."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from duly import Context, Scheduler
from tests.acceptance.conftest import StartNode
from tests.acceptance.nodes import ROOT, Ledger, until
from tests.conftest import StartServer
from tests.schedulers import watched
from tests.waiting import eventually

LEASE = "1"


def ask(url: str, question: Any) -> Any:
    """The answer of an async function that is given a connected scheduler."""

    async def asked() -> Any:
        async with Scheduler(url, remember=0) as scheduler:
            return await question(scheduler)

    return asyncio.run(asked())


async def settles(scheduler: Scheduler) -> Counter[str]:
    """How often a settlement of each job was written."""
    page = await scheduler.shard("default").history("history", "", 1_000)
    return Counter(id for _, entry in page.items if entry["verb"] == "settle" for id in entry["ids"].split())


# --- a stale worker acknowledges the new run ---------------------------------------------------------------------------


@pytest.mark.parametrize("nap", ["2", "30"], ids=["that has ended meanwhile", "that goes on"])
def test_the_settle_of_a_run_that_was_stopped_past_its_lease_is_refused(
    start_node: StartNode, push: Any, ledger: Ledger, redis_url: str, nap: str
) -> None:
    stale = start_node(NAP=nap, DULY_LEASE=LEASE).is_up()
    job = push("nap")
    ledger.has(1, "begin", job)
    stale.stop_signal(signal.SIGSTOP)
    other = start_node(NAP="0", DULY_LEASE=LEASE).is_up()
    (end,) = ledger.has(1, "end", job)
    assert end.pid == other.pid
    until(lambda: ask(redis_url, lambda s: s.jobs.get(job)) is None, 10, "the end of the second run")
    stale.stop_signal(signal.SIGCONT)
    until(lambda: "lease taken" in stale.output or "lease was taken" in stale.output, 10, "the refusal")
    assert ask(redis_url, settles)[job] == 1


def test_a_run_that_was_stopped_does_not_settle_the_job_that_was_pushed_anew_under_its_id(
    start_node: StartNode, ledger: Ledger, redis_url: str
) -> None:
    async def pushed(scheduler: Scheduler) -> Any:
        return (await scheduler.push("nap", id="x", remote=True)).created

    env = {"DULY_LEASE": LEASE, "DULY_REMEMBER": "0"}
    stale = start_node(NAP="2", **env).is_up()
    assert ask(redis_url, pushed)
    ledger.has(1, "begin", "x")
    stale.stop_signal(signal.SIGSTOP)
    other = start_node(NAP="0", **env).is_up()
    ledger.has(1, "end", "x")
    until(lambda: ask(redis_url, lambda s: s.jobs.get("x")) is None, 10, "the end of the second run")
    other.stop_signal()
    assert other.wait() == 0
    holder = start_node(NAP="3", **env).is_up()
    assert ask(redis_url, pushed)
    ledger.has(3, "begin", "x")
    held = ask(redis_url, lambda s: s.jobs.get("x"))
    stale.stop_signal(signal.SIGCONT)
    until(lambda: "lease taken" in stale.output or "lease was taken" in stale.output, 10, "the refusal")
    until(lambda: [e for e in ledger.read("end", "x") if e.pid == holder.pid], 10, "the end of the new job")
    until(lambda: ask(redis_url, lambda s: s.jobs.get("x")) is None, 10, "the end of the new job")
    assert held.state == "leased"
    assert [entry.facts["crashes"] for entry in ledger.read("begin", "x")] == [0, 1, 0]
    assert ask(redis_url, settles)["x"] == 2


# --- N schedulers, N copies --------------------------------------------------------------------------------------------


@pytest.mark.timeout(150)
def test_ten_nodes_forked_from_one_process_have_names_of_their_own_and_run_each_of_a_hundred_ticks_once(
    redis_url: str, ledger: Ledger
) -> None:
    command = [sys.executable, "-m", "tests.acceptance.many_nodes", redis_url, "10", "100"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "LEDGER": str(ledger.path)}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert len({entry.job for entry in ledger.read("node")}) == len({entry.pid for entry in ledger.read("node")}) == 10

    async def fired(scheduler: Scheduler) -> list[int]:
        page = await scheduler.shard("default").history("ticks", "", 10_000)
        states = [fields["state"] for _, fields in page.items]
        first = states.index("resumed")
        last = states.index("paused", first)
        return [int(fields["nominal"]) for _, fields in page.items[first:last] if fields["state"] == "fired"]

    moments = ask(redis_url, fired)
    assert len(moments) >= 100
    assert [b - a for a, b in itertools.pairwise(moments)] == [40] * (len(moments) - 1)
    ran = Counter(round(entry.facts["nominal"] * 1000) for entry in ledger.read("tick"))
    assert set(ran.values()) == {1}
    assert len(set(ran) & set(moments)) >= 100


# --- crash loops -------------------------------------------------------------------------------------------------------


def test_a_handler_that_kills_its_process_is_dead_after_max_crashes_and_the_others_are_unharmed(
    start_node: StartNode, ledger: Ledger, redis_url: str
) -> None:
    nodes = [start_node(target="tests.acceptance.deadly:scheduler", DULY_LEASE=LEASE) for _ in range(4)]
    for node in nodes:
        node.is_up()

    async def pushed(scheduler: Scheduler) -> tuple[str, list[str]]:
        first = [(await scheduler.push("harmless", remote=True)).id for _ in range(10)]
        poison = (await scheduler.push("poison", remote=True)).id
        return poison, first + [(await scheduler.push("harmless", remote=True)).id for _ in range(10)]

    poison, harmless = ask(redis_url, pushed)

    def is_dead() -> bool:
        found = ask(redis_url, lambda s: s.jobs.get(poison))
        return found is not None and found.state == "dead"

    until(is_dead, 20, "the death of the job")
    dead = ask(redis_url, lambda s: s.jobs.get(poison))
    assert (dead.crashes, dead.attempts) == (3, 0)
    assert "lost 3 times" in ask(redis_url, lambda s: s.jobs.why(poison))
    assert [entry.facts["crashes"] for entry in ledger.read("poison")] == [0, 1, 2]
    assert sorted(node.code or 0 for node in nodes) == [-signal.SIGKILL] * 3 + [0]
    until(lambda: {entry.job for entry in ledger.read("end")} == set(harmless), 20, "the ends of the others")
    until(lambda: ask(redis_url, lambda s: s.queues.sizes()).leased == 0, 10, "the settlement of the others")
    assert ask(redis_url, lambda s: s.queues.sizes()).dead == 1


# --- an acknowledgement retried with a dead context ---------------------------------------------------------------------


async def test_a_redis_that_was_killed_when_jobs_ended_learns_of_each_end_once(start_server: StartServer) -> None:
    server = start_server("redis", "--appendonly", "yes", "--appendfsync", "always")
    schedulers = [Scheduler(server.url, lease=5, concurrency=6) for _ in range(2)]  # half of the jobs each
    runs: Counter[str] = Counter()
    ended: set[str] = set()
    go_on = asyncio.Event()

    async def work(ctx: Context) -> None:
        runs[ctx.job.id] += 1
        await go_on.wait()
        ended.add(ctx.job.id)

    for scheduler in schedulers:
        scheduler.bind("work", work)
        scheduler.bind("once", work, delivery="at_most_once")
        await scheduler.start()
    jobs = {(await schedulers[0].push(("work", "once")[n % 2])).id for n in range(12)}
    await eventually(lambda: set(runs) == jobs, 10)
    await asyncio.to_thread(server.kill)
    with (
        watched(schedulers[0].store.shard("default"), "settle") as first,
        watched(schedulers[1].store.shard("default"), "settle") as second,
    ):
        go_on.set()
        await eventually(lambda: ended == jobs and first.batches and second.batches, 10)  # they try to settle, in vain
        await asyncio.to_thread(server.start)

        async def all_settled() -> bool:
            sizes = await schedulers[0].queues.sizes()
            return (sizes.pending, sizes.leased) == (0, 0)

        await eventually(all_settled, 20)
    assert await settles(schedulers[0]) == dict.fromkeys(jobs, 1)
    assert set(runs.values()) == {1}
    for scheduler in schedulers:
        await scheduler.stop()
