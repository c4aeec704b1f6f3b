"""What every store promises about itself: queues, nodes, and several objects over one state; and of locks."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from duly.testing.conformance.apart import ApartSuite
from duly.testing.conformance.kit import BOUND, BRIEF, Client, Node, Suite, ids, job, now_ms, schedule
from duly.testing.conformance.locks import LockSuite
from duly.testing.conformance.looks import HeldLocksSuite
from duly.testing.conformance.measures import MeasureSuite

if TYPE_CHECKING:
    from duly.stores.base import Store
    from duly.testing.clock import ManualClock


class ClusterSuite(ApartSuite, LockSuite, MeasureSuite, HeldLocksSuite, Suite):
    """`base.Store`."""

    async def test_connect_and_close_may_be_repeated(self, store: Store) -> None:
        await store.connect()
        await Client(store.shard("default")).push(job("a"))
        await store.close()
        await store.close()
        await store.connect()
        assert (await store.shard("default").sizes()).pending == 1

    async def test_the_shard_of_a_queue_is_the_same_object_each_time(self, store: Store) -> None:
        assert store.shard("mail") is store.shard("mail")
        assert store.shard("mail").queue == "mail"

    async def test_queues_are_apart(self, store: Store) -> None:
        mail, text = store.shard("mail"), store.shard("text")
        assert await Client(mail).push(job("a")) == [("created", "a")]
        assert await Client(text).push(job("a")) == [("created", "a")]  # the same client, n and id
        await mail.configure(paused=True, limit=7)
        await mail.put(schedule())
        sizes = await text.sizes()
        assert (sizes.paused, sizes.limit, sizes.schedules) == (False, None, 0)
        assert ids(await Node(mail, "n").claim()) == []
        assert ids(await Node(text, "n").claim()) == ["a"]
        assert await text.wait(BOUND)
        assert not await text.wait(BRIEF)
        assert await mail.wait(BOUND)

    # --- siblings ----------------------------------------------------------------------------------------------------

    async def test_a_sibling_sees_the_same_state(self, store: Store) -> None:
        sibling = store.sibling()
        await sibling.connect()
        try:
            await Client(store.shard("default")).push(job("a"))
            assert ids(await Node(sibling.shard("default"), "n").claim()) == ["a"]
            await sibling.beat("n", b"record", 10_000, ["default"])
            assert (await store.registry()).nodes == {"n": b"record"}
        finally:
            await sibling.close()
        assert (await store.shard("default").sizes()).leased == 1  # closing it closed nothing else

    async def test_a_sibling_works_in_another_thread_and_wakes_this_one(self, store: Store) -> None:
        async def push() -> None:
            sibling = store.sibling()
            await sibling.connect()
            await Client(sibling.shard("default"), "sibling").push(job("a"))
            await sibling.close()

        shard = store.shard("default")
        sleeper = asyncio.create_task(shard.wait(BOUND))
        await asyncio.wait([sleeper], timeout=BRIEF)
        thread = threading.Thread(target=lambda: asyncio.run(push()))
        thread.start()
        assert await sleeper
        await asyncio.to_thread(thread.join)
        assert ids(await Node(shard, "n").claim()) == ["a"]

    # --- nodes -------------------------------------------------------------------------------------------------------

    async def test_the_registry_names_the_living_nodes_and_the_queues(self, store: Store, clock: ManualClock) -> None:
        empty = await store.registry()
        assert (empty.now, dict(empty.nodes), list(empty.queues)) == (now_ms(clock), {}, [])
        await store.beat("n", b"\x00 one", 10_000, ["mail", "default"])
        await store.beat("m", b"two", 20_000, ["default"])
        found = await store.registry()
        assert dict(found.nodes) == {"n": b"\x00 one", "m": b"two"}
        assert sorted(found.queues) == ["default", "mail"]

    async def test_the_registry_says_when_each_beat_runs_out(self, store: Store, clock: ManualClock) -> None:
        begun = now_ms(clock)
        await store.beat("n", b"one", 10_000, [])
        await store.beat("o", b"one", 10_000, [])
        clock.advance(3)
        await store.beat("m", b"two", 20_000, [])
        found = (await store.registry()).until
        assert dict(found) == {"n": begun + 10_000, "o": begun + 10_000, "m": begun + 23_000}
        await store.beat("n", b"three", 15_000, [])
        await store.beat("o", b"", 0, [])
        assert dict((await store.registry()).until) == {"n": begun + 18_000, "m": begun + 23_000}
        clock.advance(15)
        assert dict((await store.registry()).until) == {"m": begun + 23_000}

    async def test_a_node_whose_beat_ran_out_is_gone_and_its_queues_stay(
        self, store: Store, clock: ManualClock
    ) -> None:
        await store.beat("n", b"one", 10_000, ["mail"])
        clock.advance(6)
        await store.beat("n", b"two", 10_000, ["mail"])
        clock.advance(9.999)
        assert dict((await store.registry()).nodes) == {"n": b"two"}
        clock.advance(0.001)
        found = await store.registry()
        assert (dict(found.nodes), list(found.queues)) == ({}, ["mail"])

    async def test_a_node_that_leaves_is_gone_at_once(self, store: Store) -> None:
        await store.beat("n", b"one", 10_000, ["mail"])
        await store.beat("m", b"one", 10_000, ["mail"])
        await store.beat("n", b"", 0, [])
        await store.beat("n", b"", 0, [])
        assert list((await store.registry()).nodes) == ["m"]

    async def test_a_process_that_only_pushes_names_its_queues_and_is_no_node(self, store: Store) -> None:
        await store.beat("", b"", 10_000, ["mail"])
        found = await store.registry()
        assert (dict(found.nodes), list(found.queues)) == ({}, ["mail"])

    async def test_a_beat_that_runs_out_takes_no_other_node_along(self, store: Store, clock: ManualClock) -> None:
        await store.beat("short", b"one", 5_000, [])
        await store.beat("long", b"two", 20_000, [])
        clock.advance(5)
        assert dict((await store.registry()).nodes) == {"long": b"two"}
        await store.beat("new", b"three", 5_000, [])
        assert dict((await store.registry()).nodes) == {"long": b"two", "new": b"three"}
