"""`duly shards`: where things lie, and moving them."""

from __future__ import annotations

import asyncio

from duly import Scheduler
from tests.cli.conftest import Duly
from tests.conftest import StartServer


def pushed(urls: str | list[str], count: int, queue: str = "default") -> None:
    async def push() -> None:
        async with Scheduler(urls) as scheduler:
            for i in range(count):
                await scheduler.push("note", i, queue=queue, remote=True, delay=3600)

    asyncio.run(push())


def test_shards_are_listed_with_their_servers_and_sizes(duly: Duly, start_server: StartServer) -> None:
    urls = [start_server("redis").url, start_server("redis").url]
    pushed(urls, 40)
    said = duly("shards", "--url", " ".join(urls), "--json").json
    assert [(shard["server"], shard["url"]) for shard in said["shards"]] == list(enumerate(urls))
    assert sum(shard["pending"] for shard in said["shards"]) == 40
    table = duly("shards", "--url", " ".join(urls))
    assert all(url in table.out for url in urls)


def test_a_server_that_is_away_is_listed_as_such(duly: Duly, start_server: StartServer) -> None:
    servers = [start_server("redis"), start_server("redis")]
    pushed([server.url for server in servers], 10)
    servers[1].kill()
    away = duly("shards", "--url", " ".join(server.url for server in servers), "--json").json["shards"][1]["away"]
    assert servers[1].url in away


def test_a_queue_gets_more_partitions_and_fewer_again(duly: Duly, redis_url: str) -> None:
    pushed(redis_url, 60, "mail")
    said = duly("shards", "rebalance", "--partitions", "mail=3", "--url", redis_url, "--json").json
    assert said["epoch"] == 1
    assert 20 < said["moved"] < 60
    shards = duly("shards", "--url", redis_url, "--json").json["shards"]
    assert [shard["partition"] for shard in shards] == [0, 1, 2]
    assert min(shard["pending"] for shard in shards) > 5
    assert duly("shards", "rebalance", "--partitions", "mail=3", "--url", redis_url, "--json").json["moved"] == 0
    duly("shards", "rebalance", "--partitions", "mail=1", "--url", redis_url)
    shards = duly("shards", "--url", redis_url, "--json").json["shards"]
    assert sum(shard["pending"] for shard in shards) == shards[0]["pending"] == 60


def test_a_server_more_and_one_less(duly: Duly, start_server: StartServer) -> None:
    one, other = start_server("redis").url, start_server("redis").url
    pushed(one, 50)
    both = f"{one} {other}"
    refused = duly("jobs", "list", "--url", both)
    assert (refused.code, "duly shards rebalance" in refused.err) == (2, True)
    assert 10 < duly("shards", "rebalance", "--url", both, "--json").json["moved"] < 40
    assert duly("shards", "--url", both, "--json").json["shards"][1]["pending"] > 10
    assert duly("shards", "rebalance", "--servers", "1", "--url", both).code == 0
    (shard,) = [s for s in duly("shards", "--url", one, "--json").json["shards"] if s["pending"]]
    assert (shard["server"], shard["pending"]) == (0, 50)


def test_what_cannot_be_is_refused_in_one_line(duly: Duly, redis_url: str, sqlite_url: str) -> None:
    pushed(sqlite_url, 1)
    for given, said in (
        (("--partitions", "mail", "--url", redis_url), "give QUEUE=N"),
        (("--partitions", "mail=0", "--url", redis_url), "give a whole number from 1"),
        (("--servers", "2", "--url", redis_url), "1 server listed"),
        (("--url", sqlite_url), "nothing to spread"),
    ):
        refused = duly("shards", "rebalance", *given)
        assert refused.code == 2
        assert said in refused.err
