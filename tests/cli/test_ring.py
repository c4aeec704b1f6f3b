"""`duly ring`: whose a name is, who is next, and what would move."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from duly import Scheduler
from duly.cluster import Driver, NodePool
from duly.cluster.etcd import EtcdDriver
from duly.cluster.redis import RedisDriver, RedisZsetDriver
from duly.core.ring import Ring
from duly.runtime.node import NodeRecord
from tests.cli.conftest import Duly, Said, using
from tests.etcd import EtcdServer
from tests.servers import HOST, free_port
from tests.waiting import eventually

NAMES = [f"report:{n}" for n in range(20)]
MAIL, TEXT = ["aaaaaaaa-1", "bbbbbbbb-2", "bbbbbbbc-3"], ["dddddddd-4"]
QUIET = logging.Logger("quiet", logging.CRITICAL)  # noqa: LOG001


@pytest.fixture
def nodes(url: str) -> str:
    """The URL of a store where three nodes serve `mail`, and one another queue."""

    async def beat(scheduler: Scheduler) -> None:
        for queue, ids in (("mail", MAIL), ("text", TEXT)):
            for pid, id in enumerate(ids):
                record = NodeRecord(id, "host", pid, "1", "", (queue,), (), 1, 0)
                await scheduler.connected_store.beat(id, msgspec.msgpack.encode(record), 60_000, [queue, "idle"])

    using(url, beat)
    return url


def test_each_name_has_its_owner_and_those_who_are_next(duly: Duly, nodes: str) -> None:
    data = duly("ring", *NAMES, "--queue", "mail", "--url", nodes, "--json").json
    ring = Ring(MAIL)
    assert [(place["name"], place["owner"], place["ranked"]) for place in data["names"]] == [
        (name, ring.owner(name), ring.ranked(name)) for name in NAMES
    ]
    assert {place["owner"] for place in data["names"]} == set(MAIL)
    assert (data["queue"], data["pool"], data["without"], data["names"][0]["moves"]) == ("mail", None, None, None)
    lines = duly("ring", *NAMES, "-q", "mail", "--url", nodes).lines
    assert lines[0].split() == ["name", "owner", "host", "pid", "next"]
    for name, line in zip(NAMES, lines[1:], strict=True):
        owner, *others = ring.ranked(name)
        next = [f"{others[0][:8]},", others[1][:8]]
        assert line.split() == [name, owner[:8], "host", str(MAIL.index(owner)), *next]


def test_only_the_first_three_are_named(duly: Duly, sqlite_url: str) -> None:
    ids = [f"{n}" for n in range(5)]

    async def beat(scheduler: Scheduler) -> None:
        for id in ids:
            record = NodeRecord(id, "host", 1, "1", "", ("default",), (), 1, 0)
            await scheduler.connected_store.beat(id, msgspec.msgpack.encode(record), 60_000, ["default"])

    using(sqlite_url, beat)
    (place,) = duly("ring", "report", "--url", sqlite_url, "--json").json["names"]
    assert place["ranked"] == Ring(ids).ranked("report")[:3]


def test_without_a_node_its_names_move_and_no_others(duly: Duly, nodes: str) -> None:
    rest = Ring(MAIL[1:])
    data = duly("ring", *NAMES, "--queue", "mail", "--without", "aaa", "--url", nodes, "--json").json
    moving = [name for name in NAMES if Ring(MAIL).owner(name) == MAIL[0]]
    assert data["without"] == MAIL[0]
    assert [place["name"] for place in data["names"] if place["moves"]] == moving
    assert [place["to"] for place in data["names"]] == [rest.owner(name) for name in NAMES]
    said = duly("ring", *NAMES, "--queue", "mail", "--without", "aaa", "--url", nodes)
    assert said.lines[-1] == f"{len(moving)} of 20 names would move if aaaaaaaa left"
    for name, line in zip(NAMES, said.lines[1:], strict=False):
        assert line.split()[6:] == ([rest.owner(name)[:8]] if name in moving else [])


def test_without_names_the_shares_are_shown_and_whom_the_rest_goes_to(duly: Duly, nodes: str) -> None:
    data = duly("ring", "--queue", "mail", "--without", "bbbbbbbb", "--url", nodes, "--json").json
    assert [(seat["id"], seat["pid"]) for seat in data["nodes"]] == [(id, pid) for pid, id in enumerate(MAIL)]
    assert [seat["share"] for seat in data["nodes"]] == [pytest.approx(1 / 3)] * 3
    assert [seat["then"] for seat in data["nodes"]] == [0.5, 0, 0.5]
    lines = [line.split() for line in duly("ring", "-q", "mail", "--without", "bbbbbbbb", "--url", nodes).lines]
    assert lines[0] == ["node", "host", "pid", "share", "without", "bbbbbbbb"]
    assert [line[3:] for line in lines[1:]] == [
        ["33.3%", "50%", "(+16.7%)"],
        ["33.3%", "leaves"],
        ["33.3%", "50%", "(+16.7%)"],
    ]
    alone = duly("ring", "-q", "text", "--without", "d", "--url", nodes)
    assert alone.lines[-1] == "nobody would be left"
    (place,) = duly("ring", "-q", "text", "--without", "d", "name", "--url", nodes, "--json").json["names"]
    assert (place["moves"], place["to"]) == (True, None)
    assert duly("ring", "-q", "text", "--without", "d", "name", "--url", nodes).lines[1].split()[-1] == "nobody"


@pytest.mark.parametrize(
    ("without", "sentence"),
    [
        ("bbbbbbb", "2 ids begin with 'bbbbbbb': bbbbbbbb-2, bbbbbbbc-3"),
        ("dd", "no id begins with 'dd' here: there are aaaaaaaa, bbbbbbbb, bbbbbbbc"),
    ],
)
def test_a_node_that_is_not_one_is_refused_in_a_sentence(duly: Duly, nodes: str, without: str, sentence: str) -> None:
    for names in ([], ["name"]):
        said = duly("ring", *names, "--queue", "mail", "--without", without, "--url", nodes)
        assert (said.code, said.out, said.err) == (1, "", f"duly: {sentence}\n")


def test_where_no_node_is_nobody_owns_a_name(duly: Duly, nodes: str) -> None:
    said = duly("ring", "name", "--queue", "idle", "--url", nodes)
    assert said.lines[1].split() == ["name", "nobody"]
    assert said.lines[-1] == "no node serves queue 'idle'"
    assert duly("ring", "--queue", "idle", "--url", nodes).out == "no node serves queue 'idle'\n"
    (place,) = duly("ring", "name", "--queue", "idle", "--url", nodes, "--json").json["names"]
    assert (place["owner"], place["ranked"]) == (None, [])
    misspelled = duly("ring", "name", "--queue", "mial", "--url", nodes)
    assert (misspelled.code, "mail" in misspelled.err) == (1, True)
    nobody = duly("ring", "--queue", "idle", "--without", "a", "--url", nodes)
    assert (nobody.code, "no node serves queue 'idle'" in nobody.err) == (1, True)


# pools


@pytest.mark.parametrize(
    ("new", "kind", "where"),
    [
        pytest.param(RedisDriver, "redis", "redis_url", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param(RedisZsetDriver, "redis-zset", "redis_url", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param(EtcdDriver, "etcd", "etcd_url", marks=[pytest.mark.server]),
    ],
)
def test_the_members_of_a_pool_are_asked_for_by_its_driver(
    duly: Duly, new: Callable[..., Driver], kind: str, where: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(where)
    options = ["--pool", "night", "--driver", kind, "--namespace", "shop", "--url", url]

    async def asked(*words: str) -> Said:
        return await asyncio.to_thread(lambda: duly("ring", *words, *options))

    async def run() -> tuple[Any, Any, Said, list[str]]:
        pools = [NodePool(new(url, pool="night", namespace="shop"), weight=weight, logger=QUIET) for weight in (1, 3)]
        async with AsyncExitStack() as stack:
            for pool in pools:
                await stack.enter_async_context(pool)
            await eventually(lambda: all(len(pool.members) == 2 for pool in pools))
            light, heavy = pools
            data = (await asked(*NAMES, "--json")).json
            assert [place["owner"] for place in data["names"]] == [
                owner.id for name in NAMES if (owner := light.owner(name))
            ]
            later = (await asked("--without", heavy.me.id, "--json")).json
            assert len(heavy.members) == 2  # who looks does not join
            return data, later, await asked(), [light.me.id, heavy.me.id]

    data, later, table, (light, heavy) = asyncio.run(run())
    assert (data["queue"], data["pool"]) == (None, "night")
    seats = {seat["id"]: seat for seat in later["nodes"]}
    assert [(seats[id]["weight"], seats[id]["share"], seats[id]["then"]) for id in (light, heavy)] == [
        (1, 0.25, 1), (3, 0.75, 0)
    ]  # fmt: skip
    assert table.lines[0].split() == ["node", "host", "pid", "weight", "share"]
    shares = {line.split()[0]: line.split()[-2:] for line in table.lines[1:]}
    assert shares == {light[:8]: ["1", "25%"], heavy[:8]: ["3", "75%"]}
    assert duly("ring", *options).out == "no member is in pool 'night'\n"


@pytest.fixture
def etcd_with_users(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    server.ask("auth/role/add", name="root")
    server.ask("auth/user/add", name="root", password="P@SS")
    server.ask("auth/user/grant", user="root", role="root")
    server.ask("auth/enable")
    yield server
    server.stop()


@pytest.mark.server
def test_the_address_of_etcd_may_hold_a_user(duly: Duly, etcd_with_users: EtcdServer) -> None:
    url = etcd_with_users.url
    assert duly("ring", "--pool", "night", "--url", url.replace("//", "//root:P%40SS@")).code == 0
    wrong = duly("ring", "--pool", "night", "--url", url.replace("//", "//root:SECRET@"))
    assert (wrong.code, "authentication failed" in wrong.err, "SECRET" in wrong.err) == (1, True, False)


def test_what_has_no_sense_is_refused(duly: Duly, sqlite_url: str) -> None:
    for words, sentence in (
        (["--driver", "etcd", "--url", sqlite_url], "say which with --pool"),
        (["--pool", "night", "--queue", "mail"], "nothing to do with --queue"),
        (["--pool", "night", "--scheduler", "app:scheduler"], "nothing to do with --scheduler"),
        (["--pool", "night"], "no pool meets at sqlite:///duly.db"),
        (["--pool", "night", "--url", "redis://u:SECRET@a redis://b"], "no pool meets at redis://"),
        (["--pool", "night", "--driver", "etcd", "--url", "redis://b"], "is no address of etcd"),
    ):
        said = duly("ring", *words)
        assert (said.code, sentence in said.err, "SECRET" in said.err) == (2, True, False), said.err


@pytest.mark.parametrize("scheme", ["redis", "http"])
def test_where_nobody_answers_the_error_says_so(duly: Duly, scheme: str) -> None:
    said = duly("ring", "--pool", "night", "--url", f"{scheme}://{HOST}:{free_port()}")
    assert (said.code, said.err.count("\n"), "is --url (or DULY_URL) right?" in said.err) == (1, 1, True), said.err
