"""What every store promises about what is kept of a run: its result, and why it did not end well."""

from __future__ import annotations

from duly.core.lifecycle import Change
from duly.stores.base import Shard
from duly.testing.conformance.kit import Client, Node, Suite, job, known, settlement

HOUR_MS = 3_600_000


class KeptSuite(Suite):
    """`Jobs.settle`, what it leaves for those who look."""

    async def test_no_result_is_kept_where_there_is_none(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        assert await node.settle(settlement(claimed, fence, result_ms=HOUR_MS)) == ["applied"]
        assert await shard.result("a") is None

    async def test_an_empty_result_is_not_none(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        claimed, fence = await node.claim_one()
        await node.settle(settlement(claimed, fence, result=b"\x00", result_ms=HOUR_MS))
        assert await shard.result("a") == b"\x00"

    async def test_a_result_that_is_kept_for_no_time_leaves_the_one_before_it(self, shard: Shard) -> None:
        client, node = Client(shard), Node(shard, "n")
        for result, ms, kept in ((b"one", HOUR_MS, b"one"), (b"two", 0, b"one"), (b"three", HOUR_MS, b"three")):
            await client.push(job("a"))
            claimed, fence = await node.claim_one()
            await node.settle(settlement(claimed, fence, result=result, result_ms=ms))
            assert await shard.result("a") == kept

    async def test_a_reason_is_kept_without_an_error_and_an_error_without_a_reason(self, shard: Shard) -> None:
        node = Node(shard, "n")
        await Client(shard).push(job("a"))
        for reason, error in (("it does not fit", ""), ("", "ValueError"), ("handed back", "")):
            claimed, fence = await node.claim_one()
            await node.settle(settlement(claimed, fence, Change("again", reason=reason, error=error)))
            record = await known(shard, "a")
            assert (record.reason, record.error) == (reason, error)
