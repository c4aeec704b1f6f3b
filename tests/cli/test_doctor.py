"""`duly doctor`: what is found, how bad it is, and what to do."""

from __future__ import annotations

import asyncio
import zoneinfo
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import redis

from duly import Scheduler, checks, every
from duly.runtime import tzdata
from duly.runtime.node import NodeRecord
from duly.stores.capabilities import Finding
from duly.stores.redis.health import judge
from duly.stores.redis.store import RedisStore
from tests.cli.conftest import Duly, make_dead, using
from tests.conftest import StartServer
from tests.schedulers import running
from tests.servers import free_port
from tests.waiting import eventually


def found(findings: list[dict[str, str]], text: str) -> dict[str, str]:
    matching = [finding for finding in findings if text in finding["what"]]
    assert len(matching) == 1, findings
    return matching[0]


def test_a_healthy_cluster(duly: Duly, url: str) -> None:
    scheduler = Scheduler(url)

    async def examined() -> Any:
        async with running(scheduler):
            table = await asyncio.to_thread(lambda: duly("doctor", "--url", url))
            return table.lines, (await asyncio.to_thread(lambda: duly("doctor", "--url", url, "--json"))).json

    lines, data = asyncio.run(examined())
    assert data["ok"] is True
    assert found(data["findings"], "1 node is alive")["level"] == "ok"
    assert found(data["findings"], "answers in")["level"] == "ok"
    assert found(data["findings"], "clock")["level"] == "ok"
    assert found(data["findings"], "time zone data")["level"] == "ok"
    assert any(line.startswith("✓  1 node is alive") for line in lines)


def test_due_jobs_that_no_node_serves_are_wrong(duly: Duly, url: str) -> None:
    using(url, lambda s: s.push("send", queue="mail", remote=True))
    make_dead(url, "broken", queue="other")
    using(url, lambda s: s.queues.pause("other"))
    said = duly("doctor", "--url", url)
    assert said.code == 1
    assert (
        "✗  1 job is due in queue 'mail' and no live node serves it\n   → start a node with --queues mail" in said.out
    )
    assert "!  no node is alive" in said.out
    assert "!  queue 'other' is paused\n   → duly queues resume other" in said.out
    assert "!  1 job is dead in queue 'other'\n   → duly jobs list --state dead --queue other" in said.out


def test_what_is_for_later_and_unserved_is_only_a_warning(duly: Duly, url: str) -> None:
    using(url, lambda s: s.push("send", queue="mail", remote=True, delay=1_000))
    using(url, lambda s: s.schedules.put("hourly", every(hours=1), "send", remote=True, queue="mail"))
    findings = duly("doctor", "--url", url, "--json").json["findings"]
    finding = found(findings, "queue 'mail' has 1 job for later and 1 schedule")
    assert (finding["level"], finding["advice"]) == ("warning", "start a node with --queues mail")


def test_a_store_that_does_not_answer_is_a_finding_among_others(duly: Duly) -> None:
    said = duly("doctor", "--url", f"redis://127.0.0.1:{free_port()}/0")
    assert said.code == 1
    assert "✗  no connection to redis://127.0.0.1" in said.out
    assert "✓  duly " in said.out


def node(**facts: str) -> NodeRecord:
    return NodeRecord("n", "h", 1, facts.get("version", "1"), "", (), (), 1, 0, facts.get("python", "3.11"),
                      facts.get("tzdata", "2025b"))  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"version": "2"}, "nodes run different versions of duly: 1 (1), 2 (1)"),
        ({"python": "3.12"}, "nodes run different versions of Python: 3.11 (1), 3.12 (1)"),
        ({"tzdata": "2024a"}, "nodes run different versions of time zone data: 2024a (1), 2025b (1)"),
        ({"tzdata": ""}, "nodes run different versions of time zone data: 2025b (1), unknown (1)"),
    ],
)
def test_nodes_that_do_not_agree_are_told(facts: dict[str, str], what: str) -> None:
    findings = checks.check_nodes([node(), node(**facts)])
    assert [(f.level, f.what) for f in findings] == [("ok", "2 nodes are alive"), ("warning", what)]
    assert len(checks.check_nodes([node(), node()])) == 1


def test_a_slow_store_and_a_clock_that_is_off_are_warnings() -> None:
    assert checks.answers("redis://x", 51).level == "warning"
    assert checks.answers("redis://x", 50).level == "ok"
    assert checks.clocks(4.9).level == checks.clocks(-4.9).level == "ok"
    assert "2 m ahead of this machine's" in checks.clocks(120).what
    assert "2 m behind this machine's" in checks.clocks(-120).what
    assert checks.clocks(120).level == "warning"


def test_extras_that_are_missing_are_named_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    advice = [finding.advice for finding in checks.check_machine() if "not installed" in finding.what]
    assert [text.partition("pip")[2] for text in advice] == [" install 'duly[redis]'", " install 'duly[fast]'"]


# --- time zones ------------------------------------------------------------------------------------------------------


@pytest.fixture
def zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A system's database of zones that has Paris alone."""
    folder = tmp_path / "zoneinfo"
    (folder / "Europe").mkdir(parents=True)
    (folder / "Europe" / "Paris").touch()
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(tmp_path / "none"), str(folder)))
    tzdata.tzdata_version.cache_clear()
    yield folder
    tzdata.tzdata_version.cache_clear()


def test_the_release_is_that_of_the_system_s_database(zones: Path) -> None:
    (zones / "tzdata.zi").write_text("# version 2031c\n# more\n")
    assert tzdata.tzdata_version() == "2031c"


def test_some_systems_have_it_in_another_file(zones: Path) -> None:
    (zones / "+VERSION").write_text("2031d\n")
    (zones / "tzdata.zi").write_text("# version 2031c\n")
    assert tzdata.tzdata_version() == "2031d"


def test_a_database_that_does_not_say_is_a_warning(zones: Path) -> None:
    assert tzdata.tzdata_version() == tzdata.UNKNOWN
    assert any(f.level == "warning" and "time zone data is unknown" in f.what for f in checks.check_machine())


def test_without_a_system_s_database_it_is_the_package_s(zones: Path) -> None:
    (zones / "Europe" / "Paris").unlink()
    assert tzdata.tzdata_version() == tzdata.iana_version(metadata.version("tzdata"))
    assert tzdata.iana_version("2025.2") == "2025b"
    assert tzdata.iana_version("2025.2.post1") == "2025b"
    assert tzdata.iana_version("odd") == "odd"


# --- a Redis or Valkey server ----------------------------------------------------------------------------------------


def examine(url: str) -> dict[str, Finding]:
    """What the server's store says of it: level by sentence."""

    async def examined() -> list[Finding]:
        store = RedisStore(url)
        await store.connect()
        try:
            return await store.examine()
        finally:
            await store.close()

    return {finding.what: finding for finding in asyncio.run(examined())}


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_server_as_it_should_be(start_server: StartServer, kind: str) -> None:
    server = start_server(kind, "--appendonly", "yes")
    findings = examine(server.url)
    version = ".".join(map(str, server.version()))
    assert list(findings) == [
        f"{kind.capitalize()} {version}", "the server is a primary",
        "maxmemory-policy is noeviction, and maxmemory is not limited",
        "appendonly is on, appendfsync everysec: a power failure may lose the last second",
    ]  # fmt: skip
    assert {finding.level for finding in findings.values()} == {"ok"}


def test_a_server_that_evicts_and_only_snapshots(start_server: StartServer) -> None:
    server = start_server("redis", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--save", "3600 1")
    findings = examine(server.url)
    evicts = "maxmemory-policy is allkeys-lru: when memory is full the server deletes jobs and schedules"
    assert findings[evicts].level == "error"
    assert findings["snapshots only (save 3600 1): a crash loses what came after the last one"].level == "warning"


def test_a_server_that_keeps_its_configuration_from_us(start_server: StartServer) -> None:
    server = start_server("redis", "--rename-command", "CONFIG", "")
    findings = examine(server.url)
    assert "maxmemory-policy is noeviction, and maxmemory is not limited" in findings
    assert findings["the append-only file is off: a crash loses what came after the last snapshot"].level == "warning"


def test_a_user_who_may_not_ask_for_it(start_server: StartServer) -> None:
    server = start_server("redis")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-config")
    findings = examine(server.url.replace("//", "//app:pw@"))
    assert "the append-only file is off: a crash loses what came after the last snapshot" in findings


def test_replicas_are_asked_to_confirm(start_server: StartServer) -> None:
    primary = start_server("redis")
    with primary.client() as client:
        replica = start_server("redis", "--replicaof", "127.0.0.1", str(primary.port))
        with replica.client() as other:
            asyncio.run(eventually(lambda: other.info("replication")["master_link_status"] == "up"))
        assert "the server is a replica, which takes no writes" in examine(replica.url)
        findings = examine(primary.url)
        assert any(what.startswith("1 replica(s), and min-replicas-to-write is 0") for what in findings)
        client.config_set("min-replicas-to-write", 1)
        assert examine(primary.url)["1 replica(s), 1 of them needed for a write"].level == "ok"


GOOD = {
    "redis_version": "7.0.1",
    "role": "master",
    "aof_enabled": "1",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
}


@pytest.mark.parametrize(
    ("info", "settings", "level", "what"),
    [
        ({"redis_version": "6.0.9"}, {}, "error", "Redis 6.0.9 is too old"),
        ({"valkey_version": "7.1.0"}, {}, "error", "Valkey 7.1.0 is too old"),
        ({"valkey_version": "7.2.0"}, {}, "ok", "Valkey 7.2.0"),
        ({"redis_version": "6.2.0"}, {}, "ok", "Redis 6.2.0"),
        ({"aof_last_write_status": "err"}, {}, "error", "the append-only file cannot be written"),
        ({}, {"appendfsync": "no"}, "warning",
         "appendonly is on, but appendfsync is no: a power failure may lose many seconds"),
        ({}, {"appendfsync": "always"}, "ok",
         "appendonly is on, appendfsync always: every write is on disk before it is answered"),
        ({}, None, "ok", "appendonly is on; appendfsync is kept from us"),
        ({"aof_enabled": "0"}, {"save": ""}, "warning", "nothing is written to disk: a restart of the server loses every job"),
        ({"aof_enabled": "0", "rdb_last_bgsave_status": "err"}, {"save": "1 1"}, "error", "the last snapshot failed"),
        ({"maxmemory_policy": "volatile-lru"}, {}, "warning",
         "maxmemory-policy is volatile-lru: when memory is full the server deletes jobs and schedules"),
        ({"maxmemory": "100", "used_memory": "91"}, {}, "warning",
         "91% of maxmemory is used; when it is full, pushes are refused"),
        ({"maxmemory": "100", "used_memory": "90"}, {}, "ok", "maxmemory-policy is noeviction"),
        ({"connected_slaves": "2"}, None, "ok", "2 replica(s); min-replicas-to-write is kept from us"),
    ],
)  # fmt: skip
def test_facts_are_judged(info: dict[str, str], settings: dict[str, str] | None, level: str, what: str) -> None:
    findings = judge({**GOOD, **info}, settings)
    assert (level, what) in [(finding.level, finding.what) for finding in findings]
    assert all(finding.advice for finding in findings if finding.level != "ok")


def test_a_policy_that_nobody_tells_is_a_warning() -> None:
    facts = {name: value for name, value in GOOD.items() if name != "maxmemory_policy"}
    assert ("warning", "maxmemory-policy is kept from us") in [(f.level, f.what) for f in judge(facts, None)]


# --- what an eviction or a failover broke -----------------------------------------------------------------------------


def break_queue(url: str) -> None:
    """Three jobs lose their place, one place its job, a schedule its moment."""
    for n in range(4):
        using(url, lambda s, n=n: s.push("send", n, id=f"job {n}", delay=60, remote=True))
    using(url, lambda s: s.schedules.put("daily", every(days=1), "send", remote=True))
    with redis.Redis.from_url(url) as client:
        client.zrem("{duly:default}:pending:1", "job 0", "job 1", "job 2")
        client.hdel("{duly:default}:jobs", "job 3")
        client.delete("{duly:default}:ticks")


def state_of(url: str) -> list[object]:
    """All that the server holds, without the registry of nodes."""
    with redis.Redis.from_url(url) as client:
        return sorted((key, client.dump(key)) for key in client.keys("{duly:default}*"))


def test_what_is_broken_is_said_and_left_alone(duly: Duly, redis_url: str) -> None:
    break_queue(redis_url)
    before = state_of(redis_url)
    said = duly("doctor", "--url", redis_url)
    assert "!  3 jobs kept, but neither waiting, running nor dead: an eviction or a failover lost it" in said.out
    assert "→ duly doctor --repair, or let the nodes do it" in said.out
    findings = duly("doctor", "--full", "--url", redis_url, "--json").json["findings"]
    assert found(findings, "1 place in a queue for jobs that are not kept")["level"] == "warning"
    assert found(findings, "1 schedule without a moment to be looked at")["level"] == "warning"
    assert state_of(redis_url) == before


def test_what_is_broken_is_repaired_when_asked(duly: Duly, redis_url: str) -> None:
    break_queue(redis_url)
    said = duly("doctor", "--repair", "--url", redis_url)
    assert "✓  repaired: 3 jobs kept, but neither waiting, running nor dead" in said.out
    assert "✓  every job is in one place, and every place has its job" in duly("doctor", "--url", redis_url).out
    assert using(redis_url, lambda s: s.queues.sizes()).pending == 3


def test_a_look_at_a_part_says_that_it_was_one(redis_url: str) -> None:
    async def look() -> list[str]:
        async with Scheduler(redis_url) as scheduler:
            await scheduler.push_many(scheduler.request("send", n, remote=True) for n in range(2_000))
            return [finding.what for finding in await checks.check_soundness(scheduler, 500, repair=False)]

    assert asyncio.run(look()) == ["nothing is broken in the first 500 entries or so; --full looks at all"]
