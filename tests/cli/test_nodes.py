"""`duly nodes`."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from typing import Any

import msgspec

import duly as package
from duly import Scheduler
from duly.cli.nodes import nodes_of
from duly.runtime.tzdata import tzdata_version
from duly.stores.base import Registry
from tests.cli.conftest import Duly, using
from tests.schedulers import running, watched
from tests.waiting import eventually


def test_live_nodes_are_listed_with_what_they_are(duly: Duly, url: str) -> None:
    scheduler = Scheduler(url, queues=("mail", "default"), concurrency=7, app="shop", tags=("[red]",))

    async def listed() -> tuple[Any, Any, str]:
        async with running(scheduler):
            assert scheduler._node is not None
            table = await asyncio.to_thread(lambda: duly("nodes", "--url", url))
            data = await asyncio.to_thread(lambda: duly("nodes", "--url", url, "--json"))
            return table.lines, data.json, scheduler._node.id

    lines, data, id = asyncio.run(listed())
    assert lines[1].startswith(id[:8])
    for part in (socket.gethostname(), str(os.getpid()), "0/7", "mail, default", "shop", "[red]", package.__version__):
        assert part in lines[1]
    (node,) = data
    assert (node["id"], node["queues"], node["concurrency"]) == (id, ["mail", "default"], 7)
    assert (node["python"], node["tzdata"]) == (platform.python_version(), tzdata_version())
    said = duly("nodes", "--url", url)
    assert said.out == "no node is alive: start one with `duly worker MODULE:ATTRIBUTE`\n"


def test_a_node_whose_record_cannot_be_read_is_listed_by_its_id(duly: Duly, url: str) -> None:
    async def beat(scheduler: Scheduler) -> None:
        await scheduler.connected_store.beat("of-the-future", b"\xc1", 60_000, [])

    using(url, beat)
    assert duly("nodes", "--url", url, "--json").json[0]["id"] == "of-the-future"
    assert duly("nodes", "--url", url).lines[1].startswith("of-the-f")


def test_a_node_of_another_version_is_read_as_far_as_it_is_known() -> None:
    record = {
        "id": "n", "host": "h", "pid": 1, "version": "9", "app": "a", "queues": [], "tags": [], "concurrency": 1,
        "running": 0, "new": True,
    }  # fmt: skip
    (node,) = nodes_of(Registry(0, {"n": msgspec.msgpack.encode(record)}, []))
    assert (node.version, node.tzdata) == ("9", "")


async def test_slots_that_a_claim_asks_for_are_not_busy() -> None:
    scheduler = Scheduler("memory://")
    async with scheduler:
        with watched(scheduler.store.shard("default"), "claim") as claims:
            claims.gate = asyncio.Event()
            await scheduler.start()
            try:
                await eventually(lambda: claims.batches)
                (node,) = nodes_of(await scheduler.store.registry())
                assert scheduler._node is not None
                assert (node.running, scheduler._node.worker.busy) == (0, 0)
            finally:
                claims.gate.set()
                await scheduler.stop(1)
