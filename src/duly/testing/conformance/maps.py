"""What a store promises whose queues may be spread over several shards: `capabilities.Mapped`, and `Movable.remapped`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from duly.core import shards
from duly.core.job import Hold, NewJob
from duly.core.lifecycle import END
from duly.core.shards import Former, ShardMap
from duly.errors import StaleMap
from duly.stores.base import Settlement, Shard, Store
from duly.stores.capabilities import Mapped
from duly.testing.conformance.kit import Client, Node, Suite, is_unknown, job, known, now_ms, schedule
from duly.testing.conformance.moves import THERE, movable, move
from duly.testing.conformance.plans import plan

if TYPE_CHECKING:
    from duly.testing.clock import ManualClock


def mapped_of(store: Store) -> Mapped:
    assert isinstance(store, Mapped)
    return store


def ended(id: str, fence: int, children: tuple[NewJob, ...] = (), epoch: int | None = None) -> Settlement:
    return Settlement(id, fence, END, children=children, epoch=epoch)


class MapSuite(Suite):
    """shard_map, change_map, remapped, lasts; the store is one server."""

    async def test_a_queue_is_entered_in_the_map_when_it_is_new(self, store: Store) -> None:
        mapped = mapped_of(store)
        assert await mapped.shard_map("", 1) is None
        assert await mapped.shard_map("mail", 1) is None
        assert list((await store.registry()).queues) == ["mail"]
        assert await mapped.shard_map("mail", 3) is None  # what lies in it lies in one place
        first = await mapped.shard_map("text", 3)
        assert first is not None
        assert shards.decode(first) == ShardMap(partitions={"text": 3})
        for queue, partitions in (("text", 5), ("", 1), ("", 4), ("voice", 1)):
            assert await mapped.shard_map(queue, partitions) == first
        second = await mapped.shard_map("fax", 2)
        assert second is not None
        assert shards.decode(second) == ShardMap(partitions={"text": 3, "fax": 2})
        assert await mapped.shard_map("", 1) == second
        assert sorted((await store.registry()).queues) == ["fax", "mail", "text", "voice"]

    async def test_a_queue_that_the_map_knows_already_is_entered_as_it_is_there(self, store: Store) -> None:
        mapped = mapped_of(store)
        text = shards.encode(ShardMap(epoch=3, servers=2, partitions={"mail": 4}))
        assert await mapped.change_map(None, text)
        assert await mapped.shard_map("mail", 2, servers=3) == text
        assert await mapped.shard_map("", 1) == text
        entered = await mapped.shard_map("text", 2, servers=7)
        assert entered is not None
        assert shards.decode(entered) == ShardMap(epoch=3, servers=2, partitions={"mail": 4, "text": 2})

    async def test_a_map_for_several_servers_is_written_with_the_first_queue(self, store: Store) -> None:
        mapped = mapped_of(store)
        expected = ShardMap(servers=3)
        looked = await mapped.shard_map("", 1, servers=3)
        assert looked is None or shards.decode(looked) == expected
        assert await mapped.shard_map("", 1) is None
        text = await mapped.shard_map("mail", 1, servers=3)
        assert text is not None
        assert shards.decode(text) == expected
        assert await mapped.shard_map("", 1) == text

    async def test_a_store_that_was_used_alone_is_one_server(self, store: Store) -> None:
        mapped = mapped_of(store)
        await mapped.shard_map("mail", 1)
        assert await mapped.shard_map("text", 1, servers=3) is None
        text = await mapped.shard_map("voice", 2, servers=3)
        assert text is not None
        assert shards.decode(text) == ShardMap(servers=1, partitions={"voice": 2})

    async def test_of_two_changes_of_the_map_the_first_counts(self, store: Store) -> None:
        mapped = mapped_of(store)
        one, two, three = (shards.encode(ShardMap(epoch=n, partitions={"mail": n + 1})) for n in (1, 2, 3))
        assert await mapped.change_map(two, one) is False
        assert await mapped.change_map(None, one) is True
        assert await mapped.change_map(None, two) is False
        assert await mapped.change_map(three, two) is False
        assert await mapped.shard_map("", 1) == one
        assert await mapped.change_map(one, two) is True
        assert await mapped.shard_map("", 1) == two

    @pytest.mark.parametrize("was", [(), (Former(2, {}), Former(1, {"mail": 3}, until=1_790_000_000_123))])
    async def test_former_lists_stay_in_a_map_that_a_queue_is_entered_in(
        self, store: Store, was: tuple[Former, ...]
    ) -> None:
        mapped = mapped_of(store)
        before = ShardMap(epoch=3, servers=2, was=was)
        assert await mapped.change_map(None, shards.encode(before))
        entered = await mapped.shard_map("text", 2)
        assert entered is not None
        assert shards.decode(entered) == ShardMap(epoch=3, servers=2, partitions={"text": 2}, was=was)

    # --- epochs ------------------------------------------------------------------------------------------------------

    async def test_a_push_by_an_earlier_map_is_refused_but_a_repeat_is_answered(self, shard: Shard) -> None:
        client = Client(shard)
        assert await client.push(job("a")) == [("created", "a")]
        await movable(shard).remapped(2)
        await movable(shard).remapped(1)  # a late copy
        assert await client.repeat() == [("created", "a")]
        for epoch in (0, 1):
            with pytest.raises(StaleMap):
                await shard.enqueue("client", 2, [job("b")], epoch)
        assert await is_unknown(shard, "b")
        assert await shard.enqueue("client", 2, [job("b")], 2) == [("created", "b")]
        assert await shard.enqueue("other", 1, [job("c")], 3) == [("created", "c")]
        await movable(shard).remapped(10)
        with pytest.raises(StaleMap):
            await shard.enqueue("client", 3, [job("d")], 9)

    async def test_an_end_with_children_by_an_earlier_map_is_not_written(self, shard: Shard) -> None:
        await Client(shard).push(job("a"), job("b"), job("plain"))
        node = Node(shard, "n")
        fence = (await node.claim()).fence
        children = (job("c", unique=Hold("k")),)
        assert await node.settle(ended("b", fence, (job("d"),), 0)) == ["applied"]
        await movable(shard).remapped(2)
        old, plain = ended("a", fence, children, 1), ended("plain", fence)
        assert await node.settle(old, plain) == ["map changed", "applied"]
        assert await node.repeat_settle() == ["map changed", "repeated"]
        assert (await known(shard, "a")).state == "leased"
        assert await is_unknown(shard, "c")
        assert await node.settle(ended("a", fence, children, 2)) == ["applied"]
        assert (await known(shard, "c")).state == "pending"

    async def test_children_that_may_be_kept_anywhere_are_kept_by_any_map(self, shard: Shard) -> None:
        await movable(shard).remapped(7)
        await shard.enqueue("client", 1, [job("a")], 7)
        node = Node(shard, "n")
        fence = (await node.claim()).fence
        assert await node.settle(ended("a", fence, (job("c"),))) == ["applied"]
        assert (await known(shard, "c")).state == "pending"

    # --- what outlives jobs ------------------------------------------------------------------------------------------

    async def test_a_shard_says_until_when_keys_are_held_that_outlive_their_jobs(
        self, shard: Shard, clock: ManualClock
    ) -> None:
        client = Client(shard)
        await client.push(job("a", unique=Hold("k")), job("b", unique=Hold("l", "start")), job("c"))
        assert await movable(shard).lasts() == 0
        await client.push(job("d", unique=Hold("m", "time", 5_000_000)))
        until = now_ms(clock) + 5_000_000
        first = await movable(shard).lasts()
        assert until <= first <= until + 61_000
        await client.push(job("e", unique=Hold("n", "time", 4_000_000)))
        assert await movable(shard).lasts() == first
        await client.push(job("f", unique=Hold("o", "time", 9_000_000)))
        assert await movable(shard).lasts() >= until + 4_000_000

    async def test_a_key_that_is_held_for_a_time_counts_where_its_job_has_moved(
        self, shard: Shard, store: Store, clock: ManualClock
    ) -> None:
        await Client(shard).push(job("a", unique=Hold("m", "time", 5_000_000)), job("b", unique=Hold("k")))
        there = store.shard(THERE)
        await move(shard, there, "b")
        assert await movable(there).lasts() == 0
        await move(shard, there, "a")
        assert await movable(there).lasts() >= now_ms(clock) + 5_000_000

    async def test_a_shard_says_until_when_results_are_kept(self, shard: Shard, clock: ManualClock) -> None:
        await Client(shard).push(job("a"), job("b"))
        node = Node(shard, "n")
        fence = (await node.claim()).fence
        await node.settle(Settlement("a", fence, END, result=b"7", result_ms=700_000))
        until = now_ms(clock) + 700_000
        assert until <= await movable(shard).lasts() <= until + 61_000
        child = job("c", unique=Hold("m", "time", 5_000_000))
        await node.settle(ended("b", fence, (child,)))
        assert await movable(shard).lasts() >= until + 4_000_000

    async def test_a_new_schedule_by_an_earlier_map_is_refused_and_an_edit_is_not(
        self, shard: Shard, store: Store
    ) -> None:
        mapped = mapped_of(store)
        await shard.put(schedule())
        await plan(shard)
        await movable(shard).remapped(2)
        mapped.epoch = 1
        with pytest.raises(StaleMap):
            await shard.put(schedule("new"))
        assert await shard.put(schedule(definition=b"other")) == ("updated", 2)
        mapped.epoch = 2
        assert await shard.put(schedule("new")) == ("created", 1)
