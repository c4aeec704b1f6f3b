"""What the SQLite tests run in processes of their own: `python -m tests.stores.sqlite_child VERB PATH …`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys

from duly.errors import StoreUnavailable
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


def fork(path: str) -> int:
    """Fork with the file open; the child goes on when the parent has closed it. Exit code 0 if both could push."""
    loop, store = asyncio.new_event_loop(), SqliteStore(path)
    loop.run_until_complete(store.connect())
    loop.run_until_complete(push(store, "parent"))
    pipes = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = asyncio.run(_forked(store, pipes[0][1], pipes[1][0]))
        os._exit(code)
    os.read(pipes[0][0], 1)
    loop.run_until_complete(push(store, "parent again"))
    loop.run_until_complete(store.close())
    os.write(pipes[1][1], b".")
    loop.close()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def _forked(store: SqliteStore, tell: int, hear: int) -> int:
    with contextlib.suppress(StoreUnavailable):
        await push(store, "nobody")
        return 2
    own = store.sibling()
    await own.connect()
    await push(own, "child")
    os.write(tell, b".")
    os.read(hear, 1)
    await push(own, "child again")
    return 0  # without closing, as a process that is killed


async def traffic_and_forks(store: SqliteStore, name: str) -> None:
    """Fork again and again while the writer is busy; each child pushes one job through a connection of its own."""
    others = [asyncio.create_task(traffic(store, f"{name}-{n}")) for n in range(3)]
    codes = [await asyncio.to_thread(_fork_and_push, store, f"child {n}") for n in range(10)]
    for other in others:
        other.cancel()
    await asyncio.wait(others)
    if any(codes):
        raise SystemExit(f"children ended with {codes}")


def _fork_and_push(store: SqliteStore, name: str) -> int:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            asyncio.run(_push_alone(store.sibling(), name))
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def _push_alone(store: SqliteStore, name: str) -> None:
    await store.connect()
    await push(store, name)
    await store.close()


async def hold(store: SqliteStore, name: str) -> None:
    """Hold the write lock until killed."""
    with contextlib.closing(sqlite3.connect(store._place.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        sys.stdout.write(".")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def main(verb: str, path: str, name: str) -> None:
    store = SqliteStore(path)
    await store.connect()
    await VERBS[verb](store, name)
    await store.close()


VERBS = {"work": work, "push": push, "traffic": traffic, "traffic_and_forks": traffic_and_forks, "hold": hold}

if __name__ == "__main__":
    if sys.argv[1] == "fork":
        raise SystemExit(fork(sys.argv[2]))
    asyncio.run(main(*sys.argv[1:]))
