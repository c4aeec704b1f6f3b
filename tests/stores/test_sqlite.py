"""The SQLite store keeps every promise of the contract, answers as the memory store does, and a few promises of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest

from duly.core.lifecycle import Change
from duly.errors import StoreRefused
from duly.stores.base import Renewal, Shard, Store
from duly.stores.sqlite import wake
from duly.stores.sqlite.store import SqliteStore
from duly.testing import ManualClock, conformance
from duly.testing.conformance.kit import AGAIN, BOUND, Client, Node, job, settlement

ROOT = Path(__file__).parents[2]
EXAMPLES = 60
LONG = 60.0  # seconds; longer than any test
UNFIT = Change("again", delay=100, unfit_since=1, reason="no task 'x' is declared on this node")


class Fixtures:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteStore]:
        store = SqliteStore(tmp_path / "duly.db", limits=conformance.LIMITS, clock=clock)
        await store.connect()
        yield store
        await store.close()


class TestJobs(Fixtures, conformance.JobsSuite):
    pass


class TestFaults(Fixtures, conformance.FaultsSuite):
    pass


class TestCare(Fixtures, conformance.CareSuite):
    pass


class TestSchedules(Fixtures, conformance.SchedulesSuite):
    pass


class TestCluster(Fixtures, conformance.ClusterSuite):
    pass


@pytest.mark.slow
@pytest.mark.timeout(600)  # a difference takes Hypothesis minutes to shrink
def test_sqlite_answers_as_memory_does(tmp_path: Path) -> None:
    names = itertools.count()  # each example has a file of its own

    def make_store(clock: ManualClock) -> Store:
        return SqliteStore(tmp_path / f"model{next(names)}.db", limits=conformance.LIMITS, clock=clock)

    settings = hypothesis.settings(conformance.model.DEFAULT_SETTINGS, max_examples=EXAMPLES)
    conformance.check_model(make_store, settings)


SMALL = {"calls", "nodes", "queues"}
"""Tables with a row for each process or queue; `calls` is looked through by the reconciler, a minute apart."""


@pytest.mark.slow
def test_what_a_verb_asks_for_is_found_by_an_index() -> None:
    """A statement that looks through all jobs of a queue is quick in every test, and takes a second beside a million."""
    command = [sys.executable, "-m", "tests.stores.plans"]
    told = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300
    ).stdout.splitlines()
    steps = [line for line in told if line.startswith(("SCAN", "SEARCH"))]
    assert int(told[-1].split()[0]) > 100, "the statements were not heard"
    assert [step for step in steps if step.split()[1] not in SMALL] == []


# --- several processes -----------------------------------------------------------------------------------------------


def child(verb: str, path: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.stores.sqlite_child", verb, str(path), name]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def check_soundness(path: Path) -> None:
    """The file is whole, and the counts are those of the rows; a row is in one state by construction."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        row = db.execute("SELECT pending, leased, dead FROM shards WHERE queue = 'default'").fetchone()
        assert row == tuple(counts.get(state, 0) for state in range(3))
        wrong = "SELECT count(*) FROM jobs WHERE state NOT IN (0, 1, 2) OR (state = 1) != (fence > 0)"
        assert db.execute(wrong).fetchone() == (0,)


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "duly.db")
    await store.connect()
    yield store
    await store.close()


async def test_two_processes_settle_each_of_2000_jobs_exactly_once(tmp_path: Path, real: SqliteStore) -> None:
    for n in range(2):
        await Client(real.shard("default"), f"c{n}").push(*(job(f"{n}-{i}") for i in range(1_000)))
    children = [child("work", tmp_path / "duly.db", f"n{n}") for n in range(2)]
    outputs = [await asyncio.to_thread(one.communicate) for one in children]
    assert [one.returncode for one in children] == [0, 0]
    done = [id for out, _ in outputs for id in out.split()]
    assert (len(done), len(set(done))) == (2_000, 2_000)
    check_soundness(tmp_path / "duly.db")


def test_eight_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    children = [child("push", tmp_path / "new.db", f"c{n}") for n in range(8)]
    for one in children:
        one.communicate()
    assert [one.returncode for one in children] == [0] * 8
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (8,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_push_of_another_process_wakes_a_sleeper(tmp_path: Path, real: SqliteStore) -> None:
    sleeper = asyncio.create_task(real.shard("default").wait(BOUND))
    process = child("push", tmp_path / "duly.db", "other")
    await asyncio.to_thread(process.communicate)  # it has closed its store
    assert await asyncio.wait_for(sleeper, 0.5)


async def put_back_unfit(shard: Shard, name: str = "unfit", change: Change = UNFIT) -> None:
    """A job is claimed and put back, as by a node that does not know its task."""
    node = Node(shard, name)
    claimed, fence = await node.claim_one()
    assert await node.settle(settlement(claimed, fence, change)) == ["applied"]


@pytest.fixture
async def other(real: SqliteStore) -> AsyncIterator[SqliteStore]:
    """A second connection to the file, as of another process."""
    store = real.sibling()
    await store.connect()
    yield store
    await store.close()


async def test_a_node_that_put_back_an_unfit_job_leaves_the_token_to_the_others(
    real: SqliteStore, other: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "OTHERS_SECONDS", LONG)
    here, there = real.shard("default"), other.shard("default")
    for n in range(10):
        await Client(here, f"c{n}").push(job(f"j{n}"))
        assert await here.wait(BOUND)
        mine, others = (asyncio.create_task(shard.wait(2 * LONG)) for shard in (here, there))
        await put_back_unfit(here, f"n{n}")
        assert await asyncio.wait_for(others, BOUND)
        assert not mine.done()
        await here.cancel([f"j{n}"])
        mine.cancel()
        await asyncio.wait([mine])


async def test_a_node_that_is_alone_takes_the_token_of_an_unfit_job_itself(real: SqliteStore) -> None:
    shard = real.shard("default")
    await Client(shard).push(job("a"))
    assert await shard.wait(BOUND)
    await put_back_unfit(shard)
    assert await shard.wait(BOUND)


async def test_a_push_is_not_left_to_others_because_an_unfit_job_is(
    real: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "OTHERS_SECONDS", LONG)
    shard = real.shard("default")
    await Client(shard, "first").push(job("a"))
    assert await shard.wait(BOUND)
    await put_back_unfit(shard)
    await Client(shard, "second").push(job("b"))
    assert await asyncio.wait_for(shard.wait(2 * LONG), BOUND)


async def test_a_token_for_anybody_stays_so_though_an_unfit_job_is_put_back(
    real: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "OTHERS_SECONDS", LONG)
    shard = real.shard("default")
    await Client(shard).push(job("a"))
    await put_back_unfit(shard)  # the token of the push lies there still
    assert await asyncio.wait_for(shard.wait(2 * LONG), BOUND)


async def test_a_run_that_failed_is_not_left_to_others(real: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "OTHERS_SECONDS", LONG)
    shard = real.shard("default")
    await Client(shard).push(job("a"))
    assert await shard.wait(BOUND)
    await put_back_unfit(shard, change=AGAIN)
    assert await asyncio.wait_for(shard.wait(2 * LONG), BOUND)


async def test_who_puts_back_no_unfit_job_takes_the_token_of_one_that_another_put_back(
    real: SqliteStore, other: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "OTHERS_SECONDS", LONG)
    here, there = real.shard("default"), other.shard("default")
    await Client(here).push(job("a"))
    assert await here.wait(BOUND)
    await put_back_unfit(there)
    await here.renew([Renewal("a", 1, 1_000)])  # it writes, and leaves no token
    assert await asyncio.wait_for(here.wait(2 * LONG), BOUND)


async def test_a_process_killed_in_mid_traffic_leaves_a_sound_file(tmp_path: Path, real: SqliteStore) -> None:
    for n in range(3):
        process = child("traffic", tmp_path / "duly.db", f"t{n}")
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.read, 20 + n)
        process.kill()
        process.communicate()
        check_soundness(tmp_path / "duly.db")
        assert (await real.shard("default").sizes()).pending >= (20 + n) * 5


# --- the writer ----------------------------------------------------------------------------------------------------


async def test_one_step_that_raises_undoes_itself_alone(real: SqliteStore) -> None:
    shard = real.shard("default")
    await Client(shard).push(job("a"))
    late = Client(shard)
    late.n = -1  # below the client's last: refused
    others = [Client(shard, f"c{n}").push(job(f"j{n}")) for n in range(5)]
    answers = await asyncio.gather(*others[:2], late.push(job("late")), *others[2:], return_exceptions=True)
    assert [type(answer) for answer in answers] == [list, list, StoreRefused, list, list, list]
    assert (await shard.sizes()).pending == 6


async def test_a_token_outlives_a_sleeper_that_was_cancelled(real: SqliteStore) -> None:
    shard = real.shard("default")
    for n in range(20):
        sleeper = asyncio.create_task(shard.wait(BOUND))
        await asyncio.wait([sleeper], timeout=0.002)
        push = asyncio.create_task(Client(shard, f"c{n}").push(job(f"j{n}")))
        await asyncio.sleep(0.0002 * n)  # cancelled before, while, after the token is given
        sleeper.cancel()
        await asyncio.wait([sleeper, push])
        assert sleeper.cancelled() or sleeper.result()
        assert await shard.wait(0) is sleeper.cancelled()
