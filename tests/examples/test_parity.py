"""What the five systems can do and no other test shows; and that docs/parity.md leaves no row of them without a test."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis

from duly import Context, InvalidArguments, Retry, Scheduler, every
from duly.testing import Harness
from tests.acceptance.nodes import ROOT
from tests.conftest import StartServer
from tests.schedulers import running, shared
from tests.waiting import eventually

PAGE = ROOT / "docs" / "parity.md"
ROWS = {
    "dschedule": 9,
    "interval-scheduler": 12,
    "goscheds": 6,
    "AntelopeJS Redis Scheduler": 7,
    "Distributed Scheduler, Rust": 5,
}
"""The systems, and how many things each of them can do."""


# --- the page


def rows() -> dict[str, list[list[str]]]:
    """The cells of each row of each system's table."""
    found: dict[str, list[list[str]]] = {}
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        lines = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
        found[heading] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found


def test_the_page_has_every_row_of_the_five_systems() -> None:
    numbers = {system: [int(cells[0].strip(" |")) for cells in table] for system, table in rows().items()}
    assert numbers == {system: list(range(1, count + 1)) for system, count in ROWS.items()}
    assert all(len(cells) == 4 for table in rows().values() for cells in table)


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests in a file, by its text."""
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_row_names_tests_and_all_of_them_exist() -> None:
    for system, table in rows().items():
        for number, _, how, proof in table:
            assert how, f"{system} {number} does not say how"
            named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", proof)
            assert named, f"{system} {number} has no test"
            assert len(named) == proof.count("::"), f"{system} {number}: a test is not written as path.py::test_name"
            for path, test in named:
                assert (ROOT / path).exists(), f"{system} {number} names {path}"
                assert test in names_in(path), f"{system} {number}: {path} has no {test}"


# --- dschedule


async def test_an_address_has_host_port_password_and_database_and_the_namespace_is_the_prefix(
    start_server: StartServer,
) -> None:
    server = start_server("redis")
    with server.client() as client:
        client.config_set("requirepass", "dummy")
    async with Scheduler(f"redis://:dummy@127.0.0.1:{server.port}/3", namespace="shop") as scheduler:
        assert (await scheduler.push("taskA", remote=True)).created
    with redis.Redis(port=server.port, db=3, password="dummy", decode_responses=True) as client:
        keys = list(client.scan_iter())
    assert keys
    assert all(key.startswith(("{shop:", "{shop}:")) for key in keys)


@pytest.mark.parametrize("comes_from", ["a push", "a schedule"])
@pytest.mark.parametrize("retried", [True, False])
async def test_a_run_whose_machine_crashed_comes_again_if_it_has_a_retry_time_out(
    comes_from: str, retried: bool
) -> None:
    scheduler = Scheduler("memory://")
    ran: list[str] = []

    async def task_a() -> None:
        ran.append("")
        if len(ran) == 1:
            await asyncio.Event().wait()

    scheduler.bind("taskA", task_a, delivery="at_most_once")
    options: dict[str, Any] = {"delivery": "at_least_once", "retry_timeout": 5} if retried else {}
    async with Harness(scheduler) as harness:
        if comes_from == "a push":
            await scheduler.push("taskA", **options)
        else:
            await scheduler.schedules.put("taskA", every(days=1, start="now"), "taskA", **options)
        first = harness.nodes[0]
        while not first.running:
            await first.tick()
        await harness.advance(3, drain=False)  # its lease is renewed meanwhile, for as long as the run asks for
        harness.node()
        first.crash()
        await harness.advance(9.5 if retried else 60)  # by then a lease of 10 s, the default, would not have ended
        assert len(ran) == (2 if retried else 1)
        sizes = await scheduler.queues.sizes()
        assert (sizes.leased, sizes.dead) == (0, 0 if retried else 1)  # the one that is not run again is kept as lost


async def test_the_history_is_a_stream_that_any_client_can_read(redis_url: str, redis_server: Any) -> None:
    scheduler = Scheduler(redis_url, namespace="shop")
    ran: list[int] = []
    scheduler.bind("note", ran.append)
    async with running(scheduler):
        job = await scheduler.push("note", 1)
        await eventually(lambda: ran == [1])
    with redis_server.client(decode_responses=True) as client:
        entries = [fields for _, fields in client.xrange("{shop:default}:history")]
    assert [entry["verb"] for entry in entries if job.id in entry["ids"].split()] == ["enqueue", "claim", "settle"]


# --- interval-scheduler


@dataclass(frozen=True)
class Once:
    """A task object of plain attributes, which cannot be changed."""

    id: str
    execute_on: float
    on_execute_reschedule_to: float | None = None

    def serialize(self) -> str:
        return json.dumps({"id": self.id})


async def test_one_executor_gets_what_every_task_serializes_to_and_an_error_of_it_stops_no_other(
    store_url: str,
) -> None:
    scheduler = Scheduler(shared(store_url))
    got: list[str] = []

    async def execute(serialized: str) -> None:
        got.append(serialized)
        if "broken" in serialized:
            raise ValueError("no")

    scheduler.bind("*", execute, retry=False)
    async with running(scheduler):
        tasks = [Once(id, time.time()) for id in ("broken", "b", "c")]
        for task in tasks:
            assert await scheduler.schedules.put(task) is True
        await eventually(lambda: sorted(got) == sorted(task.serialize() for task in tasks))


async def test_the_sizes_say_what_is_scheduled_and_what_waits(store_url: str) -> None:
    async with Scheduler(shared(store_url)) as scheduler:
        for n in range(3):
            await scheduler.schedules.put(f"user:{n}", every(hours=1), "refresh", args=[n], remote=True)
        await scheduler.push("refresh", 7, remote=True)
        sizes = await scheduler.queues.sizes()
        assert (sizes.schedules, sizes.pending) == (3, 1)
        assert await scheduler.schedules.get("user:1") is not None
        assert await scheduler.schedules.get("user:3") is None
        assert await scheduler.clear() == 4


def test_the_benchmark_of_cost_against_size_counts_all_that_it_promises(redis_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/growth.py", "--url", redis_url, "--least", "20", "--most", "200", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    small, large = json.loads(done.stdout)
    assert (small["schedules"], large["schedules"]) == (20, 200)
    for row in (small, large):
        assert all(row[f"{name} µs"] > 0 for name in ("assign", "peek", "remove", "clear, each"))


# --- goscheds


async def test_a_run_that_fails_is_tried_again_at_once_by_whichever_worker_is_free(store_url: str) -> None:
    url = shared(store_url)
    unlucky, lucky = Scheduler(url), Scheduler(url)
    tried: list[str] = []

    async def fail() -> None:
        tried.append("unlucky")
        raise ValueError("not here")

    async def work() -> None:
        tried.append("lucky")

    unlucky.bind("work", fail, retry=Retry(limit=None, delay=0))
    lucky.bind("work", work, retry=Retry(limit=None, delay=0))
    async with running(unlucky):
        await unlucky.push("work")
        await eventually(lambda: tried.count("unlucky") >= 2)  # again, without a pause
        async with running(lucky):
            await eventually(lambda: tried[-1:] == ["lucky"])
            await eventually(lambda: _is_empty(lucky))


async def _is_empty(scheduler: Scheduler) -> bool:
    sizes = await scheduler.queues.sizes()
    return (sizes.pending, sizes.leased, sizes.dead) == (0, 0, 0)


# --- AntelopeJS Redis Scheduler


async def test_a_job_is_found_and_cancelled_by_its_arguments(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url))
    remind = scheduler.bind("email-reminder", lambda info, urgent=False: None)
    info = {"user": "42", "text": "Grüße, no {braces} of yours"}
    async with scheduler:
        for each in (info, {"user": "43"}):
            assert (await remind.options(delay=3600, id=remind.key(each)).push(each)).created
        same = dict(reversed(list(info.items())))  # in another order they are the same
        found = await scheduler.jobs.get(remind.key(same))
        assert found is not None
        assert found.args == [info]
        assert await scheduler.jobs.cancel(remind.key(same)) == ["cancelled"]
        assert await scheduler.jobs.cancel(remind.key("another")) == ["unknown"]
        assert (await scheduler.queues.sizes()).pending == 1


async def test_what_is_added_again_with_the_same_arguments_gets_the_new_moment(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url))
    remind = scheduler.bind("email-reminder", lambda info: None)
    async with scheduler:
        for moment in (4e9, 5e9):
            await remind.options(at=moment, id=remind.key("info"), replace=True).push("info")
        [job], _ = await scheduler.jobs.list()
        assert (job.id, job.at) == (remind.key("info"), 5e9)


def test_a_key_is_of_its_task_and_its_arguments_alone() -> None:
    scheduler = Scheduler("memory://")

    @scheduler.task
    def send(to: str, *, urgent: bool = False, late: bool = False) -> None: ...

    other = scheduler.bind("other", lambda to: None)
    key = send.key("a", urgent=True, late=False)
    assert (
        key
        == send.key("a", late=False, urgent=True)
        == send.options(delay=5, priority=3).key("a", urgent=True, late=False)
    )
    assert len({key, send.key("a"), send.key("b"), other.key("a")}) == 4
    assert send.key("a") == "send:dc282dca2aef0900c0b415c6"  # by every version: jobs under it are in stores
    assert len(scheduler.bind("t" * 200, other).key("a")) <= 200
    with pytest.raises(InvalidArguments):
        send.key()  # type: ignore[call-arg]


async def test_an_earlier_job_of_another_process_wakes_who_sleeps_until_a_later_one(store_url: str) -> None:
    url = shared(store_url)
    worker, producer = Scheduler(url), Scheduler(url)
    ran: list[str] = []
    worker.bind("email", ran.append)
    shard, slept, woken = worker.store.shard("default"), list[float](), list[bool]()
    sleep = shard.wait

    async def wait(seconds: float) -> bool:
        slept.append(seconds)
        woken.append(await sleep(seconds))
        return woken[-1]

    shard.wait = wait  # type: ignore[method-assign]
    async with producer:
        await producer.push("email", "later", delay=3600, remote=True)
        async with running(worker):
            await eventually(lambda: True in woken and len(slept) > len(woken))  # it knows the later one, and sleeps
            woken.clear()
            await producer.push("email", "earlier", delay=0.3, remote=True)
            await eventually(lambda: ran == ["earlier"])
    assert True in woken  # it did not find the job by looking now and then


async def test_the_retry_is_visible_to_the_handler(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url))
    attempts: list[int] = []

    async def process_payment(ctx: Context, info: str) -> None:
        attempts.append(ctx.attempt)
        raise ConnectionError("no")

    scheduler.bind("process-payment", process_payment, retry=Retry(delay=0))  # three, as by default
    async with running(scheduler):
        job = await scheduler.push("process-payment", "{}")
        await eventually(lambda: _is_dead(scheduler, job.id))
    assert attempts == [1, 2, 3, 4]


async def _is_dead(scheduler: Scheduler, id: str) -> bool:
    found = await scheduler.jobs.get(id)
    return found is not None and found.state == "dead"


def test_pages_and_examples_of_all_five_systems_are_there() -> None:
    text = PAGE.read_text()
    for name in ("dschedule", "interval_scheduler", "goscheds", "redis_scheduler", "distributed_scheduler"):
        assert f"../examples/from_{name}.py" in text
        assert (Path(ROOT) / "examples" / f"from_{name}.py").exists()
