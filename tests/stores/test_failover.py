"""A server that was lost with what it had not passed on: noticed, said, and at most once stays at most once (DESIGN §2.13)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from duly import Scheduler
from duly.core.job import Claimed, Holder, Policy
from duly.core.lifecycle import admit
from duly.core.outcome import Ending
from duly.stores.base import Store
from duly.stores.redis.store import RedisStore
from duly.testing import ManualClock
from duly.testing.conformance.kit import LEASE, LIMITS, Client, Node, job
from tests.conftest import StartServer
from tests.schedulers import running
from tests.servers import Server
from tests.waiting import eventually

SAFE = ("--appendonly", "yes", "--appendfsync", "always")


@asynccontextmanager
async def opened(server: Server, clock: ManualClock) -> AsyncIterator[Store]:
    store = RedisStore(server.url, "duly", LIMITS, clock)
    await store.connect()
    yield store
    await store.close()


@pytest.fixture
def restarted(start_server: StartServer) -> tuple[Server, Callable[[], None]]:
    server = start_server("redis", *SAFE)

    def restart() -> None:
        server.kill()
        server.start()

    return server, restart


async def test_another_process_of_the_server_is_noticed_once_by_the_first_claim(
    restarted: tuple[Server, Callable[[], None]],
) -> None:
    server, restart = restarted
    clock = ManualClock()
    async with opened(server, clock) as store:
        shard = store.shard("default")
        node = Node(shard, "n")
        assert not (await node.claim()).moved
        assert not (await node.claim()).moved
        assert (await shard.sizes()).moved_at == 0
    restart()
    async with opened(server, clock) as store:
        node = Node(shard := store.shard("default"), "m")
        assert (await node.claim()).moved
        assert not (await node.claim()).moved
        assert (await shard.sizes()).moved_at == clock.epoch_us() // 1000


async def test_starts_before_a_failover_are_in_doubt_and_those_after_it_are_not(
    restarted: tuple[Server, Callable[[], None]],
) -> None:
    server, restart = restarted
    clock = ManualClock()
    async with opened(server, clock) as store:
        client, node = Client(store.shard("default")), Node(store.shard("default"), "n")
        await client.push(job("unmarked"), job("marked"))
        batch = await node.claim()
        assert await node.shard.start([("marked", batch.fence)]) == [True]
    restart()
    async with opened(server, clock) as store:
        client, other = Client(store.shard("default"), "c2"), Node(store.shard("default"), "other")
        await client.push(job("later"))
        assert (await other.claim()).moved
        clock.advance(LEASE / 1000 * 2)
        third = Node(store.shard("default"), "third")
        await third.claim(0)
        clock.advance(LEASE / 1000 / 2 - 0.1)
        taken = {claimed.id: claimed.before for claimed in (await third.claim()).jobs}
        facts = {id: (before.started, before.doubtful) for id, before in taken.items() if before}
        assert facts == {"unmarked": (False, True), "marked": (True, False), "later": (False, False)}
        clock.advance(LEASE / 1000 * 2)  # the doubt stays with the job, whoever holds it next
        fourth = Node(store.shard("default"), "fourth")
        await fourth.claim(0)
        clock.advance(LEASE / 1000 / 2 - 0.1)
        again = {claimed.id: claimed.before for claimed in (await fourth.claim()).jobs}
        assert {id for id, before in again.items() if before and before.doubtful} == {"unmarked"}


async def test_a_claim_sent_before_it_is_known_who_answers_takes_no_start_for_certain(
    restarted: tuple[Server, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = restarted
    clock = ManualClock()
    async with opened(server, clock) as store:
        client, node = Client(store.shard("default")), Node(store.shard("default"), "n")
        await client.push(job("a"), job("b"))
        await node.claim()
        clock.advance(LEASE / 1000 * 2)
        other = Node(store.shard("default"), "m")
        await other.claim(0)
        clock.advance(LEASE / 1000 / 2 - 0.1)
        for known, doubtful in (("", True), ("-", False)):
            monkeypatch.setattr(store._link, "server_id_of", lambda _key, known=known: known)  # type: ignore[attr-defined]
            (taken,) = (await other.claim(1)).jobs
            assert taken.before == Holder(taken.before.fence, "n", False, doubtful) if taken.before else False


@pytest.mark.parametrize(("doubtful", "at_most_once", "ending"), [
    (True, True, Ending.LOST), (True, False, None), (False, True, None),
])  # fmt: skip
def test_only_a_job_that_may_not_run_twice_is_lost_by_doubt(
    doubtful: bool, at_most_once: bool, ending: Ending | None
) -> None:
    taken = Claimed("a", b"", 0, before=Holder(1, "n", False, doubtful), crashes=1)
    outcome = admit(taken, Policy(at_most_once=at_most_once), 0)
    assert (outcome.ending if outcome else None) is ending


async def test_a_node_says_that_its_server_was_another_and_looks_at_everything(
    restarted: tuple[Server, Callable[[], None]], caplog: pytest.LogCaptureFixture
) -> None:
    server, restart = restarted
    scheduler = Scheduler(server.url, lease=2)
    heard: list[object] = []
    scheduler.on("node.failover", lambda event: heard.append(event.facts["server"]))

    @scheduler.task
    async def note() -> None: ...

    async with running(scheduler):
        job = await note.options(delay=3600).push()
        with server.client() as client:
            client.zrem("{duly:default}:pending:1", job.id)  # as by a failover that forgot it
        restart()
        await eventually(lambda: heard == [0])
        await eventually(lambda: "repaired 1 orphans" in caplog.text)
    assert "a failover, or a restart" in caplog.text
