"""How jobs lie in Redis, where no verb can tell but the server's time does."""

from __future__ import annotations

import pytest

from duly.stores.redis.keys import ShardKeys
from duly.stores.redis.store import RedisStore
from duly.testing import conformance
from duly.testing.conformance.kit import Client, Node, job


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_jobs_that_come_together_lie_in_tables_and_not_in_lists_that_are_searched(
    kind: str, request: pytest.FixtureRequest
) -> None:
    url, server = request.getfixturevalue(f"{kind}_url"), request.getfixturevalue(f"{kind}_server")
    store = RedisStore(url, limits=conformance.LIMITS)
    await store.connect()
    keys = ShardKeys("duly", "default")
    await Client(store.shard("default")).push(*(job(f"j{n}") for n in range(32)))
    batch = await Node(store.shard("default"), "n").claim(16)
    assert len(batch.jobs) == 16
    with server.client() as client:
        sizes = {name: client.hlen(keys.key(name)) for name in ("jobs", "running")}
        sizes |= {name: client.zcard(keys.key(name)) for name in ("leased", "pending:1")}
        assert sizes == {"jobs": 32, "running": 16, "leased": 16, "pending:1": 16}  # nothing is there beside the jobs
        kept = {name: client.object("ENCODING", keys.key(name)).decode() for name in sizes}
    assert kept == {"jobs": "hashtable", "running": "hashtable", "leased": "skiplist", "pending:1": "skiplist"}
    await store.close()
