"""A program that imports, pushes, and forks, as application servers do; each process tells of itself in a JSON line."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import msgspec

from duly import Scheduler

scheduler = Scheduler(sys.argv[1])


@scheduler.task
async def hello() -> None: ...


async def live(*, as_node: bool) -> None:
    async with scheduler:
        if as_node:
            await scheduler.start()
        jobs = [(await hello.push()).id for _ in range(3)]
        records = (await scheduler.store.registry()).nodes
        nodes = [node for node, record in records.items() if msgspec.msgpack.decode(record)["pid"] == os.getpid()]
        await scheduler.stop()
    os.write(1, (json.dumps({"jobs": jobs, "nodes": nodes}) + "\n").encode())


if __name__ == "__main__":
    asyncio.run(live(as_node=False))
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            asyncio.run(live(as_node=True))
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        sys.exit("a child failed")
