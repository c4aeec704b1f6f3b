"""`duly nodes`."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from typing import Any

import msgspec
import pytest

import duly as package
from duly import Scheduler
from duly.runtime.node import NodeRecord
from duly.runtime.tzdata import tzdata_version
from duly.stores.base import Registry
from duly.views.nodes import nodes_of
from tests.cli.conftest import Duly, using
from tests.schedulers import running, watched
from tests.waiting import eventually

RECORD = NodeRecord("n", "h", 1, "1", "", ("default",), (), 7, 0)


async def now(scheduler: Scheduler) -> int:
    """By the clock of the store."""
    return (await scheduler.connected_store.registry()).now


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
    assert "100%" in lines[1]
    (node,) = data
    assert (node["id"], node["queues"], node["concurrency"]) == (id, ["mail", "default"], 7)
    assert (node["running"], node["share"]) == (0, {"mail": 1, "default": 1})
    assert node["last_beat"] * 1000 < using(url, now) + 1
    assert (node["python"], node["tzdata"]) == (platform.python_version(), tzdata_version())
    said = duly("nodes", "--url", url)
    assert said.out == "no node is alive: start one with `duly worker MODULE:ATTRIBUTE`\n"


def test_a_node_is_listed_with_its_last_beat_by_the_clock_of_the_store(duly: Duly, url: str) -> None:
    hour = 3_600_000
    record = msgspec.structs.replace(RECORD, ttl=60_000 + hour)

    async def beat(scheduler: Scheduler) -> tuple[int, int]:
        before = await now(scheduler)
        await scheduler.connected_store.beat("n", msgspec.msgpack.encode(record), 60_000, [])
        return before, await now(scheduler)

    before, after = using(url, beat)
    (node,) = duly("nodes", "--url", url, "--json").json
    assert before - hour <= round(node["last_beat"] * 1000) <= after - hour
    assert " 1 h ago " in duly("nodes", "--url", url).lines[1]


def test_each_node_has_its_share_of_the_ring_of_each_queue(duly: Duly, url: str) -> None:
    served = {"a": ("mail", "text"), "b": ("mail",), "c": ("mail", "text", "fax"), "d": ()}

    async def beat(scheduler: Scheduler) -> None:
        for id, queues in served.items():
            record = msgspec.structs.replace(RECORD, id=id, queues=queues)
            await scheduler.connected_store.beat(id, msgspec.msgpack.encode(record), 60_000, [])

    using(url, beat)
    third = pytest.approx(1 / 3)
    assert {node["id"]: node["share"] for node in duly("nodes", "--url", url, "--json").json} == {
        "a": {"mail": third, "text": 0.5}, "b": {"mail": third}, "c": {"mail": third, "text": 0.5, "fax": 1}, "d": {}
    }  # fmt: skip
    lines = duly("nodes", "--url", url).lines
    column = slice(lines[0].index("share"), lines[0].index("queues"))
    shown = [line[column].strip() for line in lines[1:]]
    assert shown == ["mail 33.3%, text 50%", "33.3%", "mail 33.3%, text 50%, fax 100%", ""]


def test_what_matters_most_fits_a_narrow_terminal(duly: Duly, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = msgspec.structs.replace(RECORD, host="worker-17.example.org", pid=4_000_000, queues=("default", "mail"))

    async def beat(scheduler: Scheduler) -> None:
        await scheduler.connected_store.beat("n", msgspec.msgpack.encode(record), 60_000, [])

    using(sqlite_url, beat)
    monkeypatch.setenv("COLUMNS", "80")
    lines = duly("nodes", "--url", sqlite_url).lines
    assert max(map(len, lines)) <= 80
    assert [title in lines[0] for title in ("node", "host", "pid", "busy", "share", "queues")] == [True] * 6


def test_a_node_whose_record_cannot_be_read_is_listed_by_its_id(duly: Duly, url: str) -> None:
    async def beat(scheduler: Scheduler) -> None:
        await scheduler.connected_store.beat("of-the-future", b"\xc1", 60_000, [])

    using(url, beat)
    (node,) = duly("nodes", "--url", url, "--json").json
    assert (node["id"], node["last_beat"], node["share"]) == ("of-the-future", None, {})
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
