"""The ways to a server: TLS, Unix sockets, users with few rights, passwords that are wrong."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis

from duly import Scheduler, StoreRefused, StoreUnavailable, StoreUncertain, every
from duly.cli.doctor import examine
from duly.core.job import NewJob
from duly.stores.redis.link import Link
from duly.stores.redis.store import RedisStore
from duly.stores.redis.topology import SingleServer
from tests.conftest import StartServer
from tests.schedulers import running
from tests.servers import HOST
from tests.topologies import Cluster, Encrypted, Replicated
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "redis.md"
BOUND = 10.0
KINDS = pytest.mark.parametrize("kind", ["redis", "valkey"])


async def works(url: str) -> None:
    """A job can be pushed, is run, and its result comes back."""
    scheduler = Scheduler(url)

    @scheduler.task(keep_result=True)
    async def double(n: int) -> int:
        return 2 * n

    async with running(scheduler):
        assert await (await double.push(21)).result(timeout=BOUND) == 42


# --- transports -------------------------------------------------------------------------------------------------------


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Encrypted]:
    server = Encrypted("redis", tmp_path / "tls")  # the Valkey of the tests is built without TLS
    server.start()
    yield server
    server.stop()


@pytest.mark.redis
@pytest.mark.server
async def test_jobs_run_over_tls(encrypted: Encrypted) -> None:
    assert encrypted.url.startswith("rediss://")
    await works(encrypted.url)
    await works(encrypted.url.replace("rediss", "valkeys"))


@pytest.mark.redis
@pytest.mark.server
async def test_a_certificate_that_nobody_we_trust_vouches_for_is_not_accepted(encrypted: Encrypted) -> None:
    with pytest.raises(StoreUnavailable, match="certificate"):
        await Scheduler(encrypted.url.partition("?")[0]).connect()


@KINDS
async def test_jobs_run_over_a_unix_socket(kind: str, start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "s"
    start_server(kind, "--unixsocket", str(path))
    await works(f"unix://{path}?db=1")


# --- users ------------------------------------------------------------------------------------------------------------


def rights() -> list[str]:
    """The words of the command in the documentation that makes a user, from ACL on."""
    block = re.search(r"```sh\nredis-cli (ACL SETUSER [^`]*)```", PAGE.read_text())
    assert block is not None
    return shlex.split(block[1].replace("\\\n", " "))


def sentinel_rights() -> list[str]:
    """The same for the sentinels."""
    line = re.search(r"^redis-cli -p 26379 (ACL SETUSER .*)$", PAGE.read_text(), re.MULTILINE)
    assert line is not None
    return shlex.split(line[1])


def more_rights(topology: str) -> list[str]:
    """What a user behind Sentinel, or on a cluster, needs besides."""
    line = re.search(r"^- Behind Sentinel also (.*), and on a cluster also (.*)\.$", PAGE.read_text(), re.MULTILINE)
    assert line is not None
    return shlex.split(line[1 if topology == "sentinel" else 2].replace("`", ""))


def as_user(url: str) -> str:
    return url.replace("://", "://duly:PASSWORD@")


@KINDS
async def test_everything_works_for_a_user_with_the_documented_rights(kind: str, start_server: StartServer) -> None:
    server = start_server(kind)
    with server.client() as client:
        client.execute_command(*rights())
        await whole_path(as_user(server.url.replace("/0", "/1")), client)
        assert client.execute_command("ACL", "LOG") == []  # nothing was denied


async def whole_path(url: str, client: redis.Redis) -> None:
    scheduler = Scheduler(url)
    ran: list[int] = []

    @scheduler.task(keep_result=True)
    async def work(n: int) -> int:
        ran.append(n)
        return n

    async with running(scheduler):
        job = await work.push(1)
        assert await job.result(timeout=BOUND) == 1
        await scheduler.push_many(work.job(n) for n in range(2, 6))
        await scheduler.schedules.put("s", every(hours=1, start="now"), "work", args=(6,))
        await eventually(lambda: sorted(ran) == [1, 2, 3, 4, 5, 6], BOUND)
        late = await work.options(delay=100, id="late", unique="u").push(7)
        assert await late.cancel()
        async with scheduler.lock("l"):
            assert await scheduler.try_lock("l") is None
        await scheduler.schedules.audit("s")
        await scheduler.schedules.remove("s")
        await scheduler.queues.limit("default", 5)
        findings = await examine(scheduler, None, repair=True)
        assert not any("kept from us" in finding.what or finding.level == "error" for finding in findings), findings
    async with scheduler:
        await scheduler.clear()


@KINDS
async def test_without_info_and_config_jobs_run_and_doctor_says_what_it_cannot_know(
    kind: str, start_server: StartServer
) -> None:
    server = start_server(kind)
    with server.client() as client:
        client.execute_command(*rights(), "-info", "-config|get")
    await works(as_user(server.url))
    scheduler = Scheduler(as_user(server.url))
    assert any("INFO is kept from us" in finding.what for finding in await examine(scheduler))


async def test_on_a_cluster_the_documented_rights_are_enough(valkey_cluster: Cluster) -> None:
    for node in valkey_cluster.nodes:
        node.ask(*rights(), *more_rights("cluster"))
    store = RedisStore(as_user(valkey_cluster.url))
    try:
        await store.connect()
        for queue in ("default", "mail", "bulk"):
            await store.shard(queue).enqueue("client", 1, [NewJob("job", b"")])
            assert await store.shard(queue).wait(1)
            assert len((await store.shard(queue).claim("node", 1, 1, 1000, 1000)).jobs) == 1
        assert [finding for finding in await store.examine() if finding.level == "error"] == []
    finally:
        await store.close()
        denied = [node.ask("ACL", "LOG") for node in valkey_cluster.nodes]
        for node in valkey_cluster.nodes:
            node.ask("ACL", "DELUSER", "duly")
    assert denied == [[]] * 6


async def test_behind_sentinel_the_documented_rights_are_enough(redis_sentinel: Replicated) -> None:
    primary, sentinel = redis_sentinel.primary, redis_sentinel.sentinels[0]
    primary.ask(*rights(), *more_rights("sentinel"))
    sentinel.ask(*sentinel_rights())
    sentinel.ask("ACL", "SETUSER", "default", "resetpass", ">other")
    url = f"redis+sentinel://duly:PASSWORD@{HOST}:{sentinel.port}/main?sentinel_username=duly&sentinel_password="
    try:
        await works(url + "PASSWORD")
        assert "PASSWORD" not in Scheduler(url + "PASSWORD").store.url
        with pytest.raises(StoreRefused, match=r"WRONGPASS|invalid username"):
            await Scheduler(url + "wrong").connect()
        assert primary.ask("ACL", "LOG") == []
    finally:
        primary.ask("ACL", "DELUSER", "duly")
        with sentinel.client(password="other") as client:
            client.execute_command("ACL", "SETUSER", "default", "nopass")
            client.execute_command("ACL", "DELUSER", "duly")


def test_the_documented_rights_are_those_for_the_commands_that_are_used() -> None:
    folder = ROOT / "src" / "duly" / "stores" / "redis"
    scripts = "\n".join(path.read_text() for path in folder.rglob("*.lua"))
    python = "\n".join(path.read_text() for path in folder.glob("*.py"))
    used = set(re.findall(r"(?:call|write)\('([A-Z]+)'", scripts))
    used |= set(re.findall(r"""(?:command|ask|pack|unheard)\(\(?b?"([A-Z]+)\"""", python))
    words = [*rights(), *more_rights("cluster"), *more_rights("sentinel"), *sentinel_rights()]
    documented = {word[1:].partition("|")[0].upper() for word in words if word[0] == "+"}
    assert used - documented == set(), "docs/redis.md does not allow these commands"
    assert documented - used <= {"SELECT", "ROLE"}, "docs/redis.md allows more than is used"


# --- passwords --------------------------------------------------------------------------------------------------------


@KINDS
async def test_a_wrong_password_ends_a_start_at_once_and_says_what_to_see_to(
    kind: str, start_server: StartServer
) -> None:
    server = start_server(kind)
    with server.client() as client:
        client.config_set("requirepass", "right")
    for login in ("", ":wrong@", "nobody:right@"):
        scheduler = Scheduler(server.url.replace("//", f"//{login}"), start_timeout=60)
        with pytest.raises(
            StoreRefused, match=r"NOAUTH|WRONGPASS|[Aa]uthentication required|invalid username"
        ) as caught:
            await scheduler.start()
        assert "wrong" not in str(caught.value)
    await works(server.url.replace("//", "//:right@"))


@KINDS
async def test_a_database_that_is_not_there_is_refused(kind: str, start_server: StartServer) -> None:
    with pytest.raises(StoreRefused, match=r"DB index is out of range; see to user, password and database"):
        await Scheduler(start_server(kind).url.replace("/0", "/999"), start_timeout=60).connect()


async def test_a_node_outlives_a_password_that_is_wrong_for_a_while(start_server: StartServer) -> None:
    server = start_server("redis")
    scheduler = Scheduler(server.url.replace("//", "//:old@"), lease=2)
    ran: list[int] = []

    @scheduler.task
    async def work(n: int) -> None:
        ran.append(n)

    def change(client: redis.Redis, password: str) -> Any:
        client.config_set("requirepass", password)
        return client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    with server.client() as client:
        client.config_set("requirepass", "old")
        async with running(scheduler):
            change(client, "new")
            with pytest.raises(StoreRefused):
                await eventually(lambda: work.push(1))
            change(client, "old")
            await work.push(2)
            await eventually(lambda: ran == [2], BOUND)


# --- who answers ------------------------------------------------------------------------------------------------------


async def test_a_link_knows_which_server_answers(start_server: StartServer) -> None:
    server = start_server("redis")
    link = Link(SingleServer(server.url))
    assert link.server_id == ""
    await link.command(b"PING")
    first = link.server_id
    with server.client() as client:
        assert first == client.info("server")["run_id"] == link.server_id_of("any")
    server.restart()
    await eventually(lambda: pings(link))
    assert link.server_id not in ("", first)
    await link.close()


async def test_where_the_run_id_is_kept_from_us_the_replication_id_says_who_answers() -> None:
    infos = {b"server": b"# Server\r\nrun_id:" + b"0" * 40, b"replication": b"role:master\r\nmaster_replid:abc\r\n"}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(1000):
            parser.feed(data)
            while (words := parser.gets()) is not False:
                reply = infos[words[1]] if words[0] == b"INFO" else b"PONG"
                writer.write(b"$%d\r\n%s\r\n" % (len(reply), reply))
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    link = Link(SingleServer(f"redis://{HOST}:{server.sockets[0].getsockname()[1]}"))
    assert await link.command(b"PING") == b"PONG"
    assert link.server_id == "abc"
    await link.close()
    server.close()


async def pings(link: Link) -> bool:
    try:
        return bool(await link.command(b"PING"))
    except (StoreUnavailable, StoreUncertain):
        return False
