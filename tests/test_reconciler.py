"""Schedules that code declares, through deploys: rolling, rolled back, by several applications, with nodes that come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from duly import Scheduler, every
from duly.core.manifest import Manifest, declared_by_any, in_force, make_manifest, place_of
from duly.core.trigger import Trigger
from duly.reconciler import GONE_AFTER, Reconciler
from duly.runtime.node import NodeRecord
from duly.testing import ManualClock
from tests.schedulers import running, shared

HOURLY, DAILY = every(hours=1), every(days=1)


def nothing() -> None: ...


class Version:
    """One node that runs some version of an application's code; looks when it is told to."""

    def __init__(self, cluster: Cluster, schedules: dict[str, Trigger], app: str, queue: str) -> None:
        self.cluster = cluster
        self.scheduler = Scheduler(cluster.url, app=app, queues=[queue], clock=cluster.clock)
        self.scheduler.bind("nothing", nothing, queue=queue)
        for id, trigger in schedules.items():
            self.scheduler.schedule("nothing", trigger, id=id)
        self.reconciler = Reconciler(self.scheduler, self.scheduler._declarations.values())
        self.name = f"node {len(cluster.nodes)}"

    async def beat(self, ttl: int = 45_000) -> None:
        manifest = self.reconciler.manifest
        record = NodeRecord(self.name, "host", 1, "1", self.scheduler.config.app, self.scheduler.config.queues, (), 1, 0,
                            manifest=manifest)  # fmt: skip
        queues = self.scheduler.config.queues
        await self.scheduler.store.beat(self.name, msgspec.msgpack.encode(record), ttl, queues)

    async def start(self) -> Version:
        await self.cluster.stack.enter_async_context(self.scheduler)
        await self.reconciler.begin()
        await self.beat()
        self.cluster.nodes.append(self)
        await self.reconciler.tick()
        return self

    async def stop(self) -> None:
        self.cluster.nodes.remove(self)
        await self.beat(0)


class Cluster:
    """The live nodes over one store, on one clock."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url, self.stack = url, stack
        self.clock = ManualClock()
        self.nodes: list[Version] = []

    async def start(self, schedules: dict[str, Trigger], app: str = "shop", queue: str = "default") -> Version:
        self.clock.advance(1)
        return await Version(self, schedules, app, queue).start()

    async def pass_time(self, seconds: float) -> None:
        """Every node beats and looks every 15 seconds."""
        while seconds > 0:
            step = min(15, seconds)
            self.clock.advance(step)
            seconds -= step
            for node in self.nodes:
                await node.beat()
            for node in self.nodes:
                await node.reconciler.tick()

    async def known(self, queue: str = "default") -> dict[str, Trigger]:
        """The schedules in the store."""
        reader = self.nodes[0].scheduler
        return {view.id: view.trigger async for view in reader.schedules.list(queue=queue)}

    async def ids(self) -> set[str]:
        return set(await self.known())


@pytest.fixture
async def cluster(store_url: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield Cluster(shared(store_url), stack)


def interval(trigger: Trigger) -> int:
    assert hasattr(trigger, "interval")
    return int(trigger.interval)


async def test_what_the_code_declares_no_more_is_removed_after_a_minute(cluster: Cluster) -> None:
    old = await cluster.start({"a": HOURLY, "b": HOURLY})
    assert await cluster.ids() == {"a", "b"}
    await cluster.start({"a": HOURLY, "c": HOURLY})
    await cluster.pass_time(3 * GONE_AFTER)
    assert await cluster.ids() == {"a", "b", "c"}  # the old version is still alive somewhere
    await old.stop()
    await cluster.pass_time(GONE_AFTER - 15)
    assert await cluster.ids() == {"a", "b", "c"}
    await cluster.pass_time(45)
    assert await cluster.ids() == {"a", "c"}


async def test_schedules_put_at_run_time_are_left_alone(cluster: Cluster) -> None:
    node = await cluster.start({"a": HOURLY})
    await node.scheduler.schedules.put("user:1", HOURLY, "nothing")
    await cluster.pass_time(5 * GONE_AFTER)
    assert await cluster.ids() == {"a", "user:1"}


async def test_another_applications_schedules_are_left_alone(cluster: Cluster) -> None:
    """A web application and a worker in one namespace, deployed apart from each other."""
    worker = await cluster.start({"sweep": HOURLY}, app="worker")
    await cluster.start({"digest": HOURLY}, app="web")
    await worker.stop()
    await cluster.pass_time(5 * GONE_AFTER)
    assert await cluster.ids() == {"sweep", "digest"}


async def test_a_node_whose_code_declares_nothing_removes_nothing(cluster: Cluster) -> None:
    """A web process that starts the same scheduler without importing the tasks."""
    worker = await cluster.start({"sweep": HOURLY})
    await cluster.start({})
    await worker.stop()
    await cluster.pass_time(5 * GONE_AFTER)
    assert await cluster.ids() == {"sweep"}


async def test_while_no_node_lives_nothing_is_removed(cluster: Cluster) -> None:
    old = await cluster.start({"a": HOURLY, "b": HOURLY})
    await old.stop()
    cluster.clock.advance(14 * 86_400)
    await cluster.start({"a": HOURLY})
    assert await cluster.ids() == {"a", "b"}
    await cluster.pass_time(GONE_AFTER - 1)
    assert await cluster.ids() == {"a", "b"}


async def test_a_queue_that_is_served_no_more_is_cleaned_too(cluster: Cluster) -> None:
    old = await cluster.start({"a": HOURLY}, queue="slow")
    await cluster.start({"a": HOURLY}, queue="fast")
    await old.stop()
    await cluster.pass_time(3 * GONE_AFTER)
    assert (set(await cluster.known("slow")), set(await cluster.known("fast"))) == (set(), {"a"})


async def test_in_a_rolling_deploy_the_newer_version_stays(cluster: Cluster) -> None:
    """A node of the old version that starts again in the middle of it edits nothing."""
    first = await cluster.start({"a": HOURLY})
    await cluster.start({"a": DAILY})
    assert interval((await cluster.known())["a"]) == 86_400_000
    await cluster.start({"a": HOURLY})
    await cluster.pass_time(60)
    assert interval((await cluster.known())["a"]) == 86_400_000
    assert first in cluster.nodes


async def test_a_rollback_takes_effect(cluster: Cluster) -> None:
    old = await cluster.start({"a": HOURLY})
    new = await cluster.start({"a": DAILY, "b": HOURLY})
    await old.stop()
    rolled_back = await cluster.start({"a": HOURLY})
    assert interval((await cluster.known())["a"]) == 3_600_000
    await new.stop()
    await cluster.pass_time(2 * GONE_AFTER)
    assert await cluster.ids() == {"a"}
    assert rolled_back.reconciler.manifest is not None


async def test_a_rollback_in_the_middle_of_a_deploy_takes_effect_when_the_new_version_is_gone(cluster: Cluster) -> None:
    await cluster.start({"a": HOURLY})
    new = await cluster.start({"a": DAILY})
    await cluster.pass_time(15)
    assert interval((await cluster.known())["a"]) == 86_400_000
    await new.stop()
    await cluster.pass_time(15)
    assert interval((await cluster.known())["a"]) == 3_600_000


async def test_a_version_that_came_and_went_between_two_looks_is_undone(cluster: Cluster) -> None:
    await cluster.start({"a": HOURLY})
    await (await cluster.start({"a": DAILY})).stop()
    await cluster.pass_time(300)
    assert interval((await cluster.known())["a"]) == 3_600_000


async def test_an_equal_version_changes_nothing(cluster: Cluster) -> None:
    node = await cluster.start({"a": HOURLY})
    before = await node.scheduler.schedules.get("a")
    for _ in range(3):
        await cluster.start({"a": HOURLY})
    await cluster.pass_time(GONE_AFTER)
    assert await node.scheduler.schedules.get("a") == before


async def test_one_node_at_a_time_walks_through_the_schedules(cluster: Cluster) -> None:
    old = await cluster.start({"a": HOURLY, "b": HOURLY})
    node = await cluster.start({"a": HOURLY})
    await old.stop()
    assert await node.scheduler.store.lock("duly:reconcile:shop", "somebody", 600_000) is not None
    await cluster.pass_time(2 * GONE_AFTER)
    assert await cluster.ids() == {"a", "b"}
    await node.scheduler.store.unlock("duly:reconcile:shop", "somebody")
    await cluster.pass_time(15)
    assert await cluster.ids() == {"a"}


async def test_a_started_node_publishes_what_it_declares(store_url: str) -> None:
    scheduler = Scheduler(shared(store_url), app="shop")
    scheduler.bind("nothing", nothing)
    scheduler.schedule("nothing", HOURLY, id="a")
    async with running(scheduler):
        (record,) = (await scheduler.store.registry()).nodes.values()
        manifest = msgspec.msgpack.decode(record, type=NodeRecord).manifest
        assert manifest is not None
        assert (manifest.app, manifest.places) == ("shop", (place_of("default", "a"),))


# --- the rules, pure -------------------------------------------------------------------------------------------------


def manifest(digest: str, since: int, app: str = "shop", *places: str) -> Manifest:
    return Manifest(app, digest, since, places)


def test_a_version_was_first_seen_when_its_first_live_node_saw_it() -> None:
    rows = [("q", "a", b"1"), ("q", "b", b"2")]
    first = make_manifest("shop", rows, [], 100)
    assert first.since == 100
    assert make_manifest("shop", reversed(rows), [first], 200) == first
    assert make_manifest("shop", rows, [], 200).since == 200
    assert make_manifest("web", rows, [first], 200).since == 200
    assert make_manifest("shop", rows[:1], [first], 200).digest != first.digest


@pytest.mark.parametrize(
    "other", [[("q", "a", b"2")], [("q", "ab", b"1")], [("qa", "", b"1")], [("q", "a", b"1"), ("q", "b", b"")], []]
)
def test_versions_that_differ_have_different_digests(other: list[Any]) -> None:
    assert make_manifest("s", [("q", "a", b"1")], [], 1).digest != make_manifest("s", other, [], 1).digest


def test_in_force_is_the_version_first_seen_last_of_the_same_application() -> None:
    mine = manifest("m", 100)
    assert in_force(mine, []) == "m"
    assert in_force(mine, [manifest("x", 50), manifest("y", 200, "web")]) == "m"
    assert in_force(mine, [manifest("x", 101)]) == "x"
    assert in_force(mine, [manifest("z", 100)]) == in_force(manifest("z", 100), [mine])  # all agree on a tie


def test_declared_is_what_any_live_version_of_the_application_declares() -> None:
    live = [manifest("x", 1, "shop", "b"), manifest("y", 1, "web", "c")]
    assert declared_by_any(manifest("m", 1, "shop", "a"), live) == {"a", "b"}
