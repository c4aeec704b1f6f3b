"""What the SQLite tests run in processes of their own: `python -m tests.stores.sqlite_child VERB PATH …`."""

from __future__ import annotations

import asyncio
import sys

from duly.stores.sqlite.store import SqliteStore
from duly.testing.conformance.kit import Client, Node, ids, job, settlement


async def work(store: SqliteStore, name: str) -> None:
    """Claim and settle until nothing is left; say what was settled."""
    shard = store.shard("default")
    node, done = Node(shard, name), list[str]()
    while (sizes := await shard.sizes()).pending or sizes.leased:
        batch = await node.claim(7)
        if batch.jobs:
            answers = await node.settle(*(settlement(one, batch.fence) for one in batch.jobs))
            done += [id for id, answer in zip(ids(batch), answers, strict=True) if answer == "applied"]
    sys.stdout.write("\n".join(done))


async def push(store: SqliteStore, name: str) -> None:
    await Client(store.shard("default"), name).push(job(f"job of {name}"))


async def traffic(store: SqliteStore, name: str) -> None:
    """Push, claim, settle or put back, until killed."""
    shard = store.shard("default")
    client, node = Client(shard, name), Node(shard, name)
    while True:
        await client.push(*(job(f"{name}-{client.n}-{i}") for i in range(20)))
        batch = await node.claim(15)
        await node.settle(*(settlement(one, batch.fence) for one in batch.jobs[:10]))
        sys.stdout.write(".")
        sys.stdout.flush()


async def main(verb: str, path: str, name: str) -> None:
    store = SqliteStore(path)
    await store.connect()
    await {"work": work, "push": push, "traffic": traffic}[verb](store, name)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
