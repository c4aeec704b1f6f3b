"""The drivers of membership, each held against the suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis import Redis

from duly.cluster import Claim, Driver, Group, LocalDriver, Member
from duly.cluster.etcd import EtcdDriver
from duly.cluster.redis import RedisDriver, RedisZsetDriver
from duly.errors import StoreError
from duly.stores.redis.keys import PoolKeys
from duly.testing.conformance.members import TIMEOUT, Make, MembersSuite, beating, joined, sees, take
from tests.conftest import StartServer
from tests.waiting import eventually


async def making(new: Callable[[], Driver]) -> AsyncIterator[Make]:
    made: list[Driver] = []

    def make() -> Driver:
        made.append(new())
        return made[-1]

    yield make
    for driver in made:
        await driver.stop()


class TestLocal(MembersSuite):
    @pytest.fixture
    async def make(self) -> AsyncIterator[Make]:
        group = Group()
        async for make in making(lambda: LocalDriver(group, timeout=TIMEOUT)):
            yield make


class TestEtcd(MembersSuite):
    @pytest.fixture
    async def make(self, etcd_url: str) -> AsyncIterator[Make]:
        async for make in making(lambda: EtcdDriver(etcd_url, timeout=TIMEOUT)):
            yield make


@pytest.fixture(params=[RedisDriver, RedisZsetDriver])
def kind(request: pytest.FixtureRequest) -> Callable[..., Driver]:
    found: Callable[..., Driver] = request.param
    return found


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("redis_url", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param("valkey_url", marks=[pytest.mark.server, pytest.mark.valkey]),
        pytest.param("valkey_cluster", marks=[pytest.mark.server, pytest.mark.valkey]),
    ],
)
class TestRedis(MembersSuite):
    @pytest.fixture
    async def make(
        self, where: str, kind: Callable[..., Driver], request: pytest.FixtureRequest
    ) -> AsyncIterator[Make]:
        found = request.getfixturevalue(where)
        url = found if isinstance(found, str) else found.url
        async for make in making(lambda: kind(url, timeout=TIMEOUT)):
            yield make


@pytest.fixture
async def make(redis_url: str, kind: Callable[..., Driver]) -> AsyncIterator[Make]:
    async for make in making(lambda: kind(redis_url, timeout=TIMEOUT)):
        yield make


async def test_pools_are_apart(redis_url: str, kind: Callable[..., Driver]) -> None:
    drivers = [kind(redis_url, pool=pool, namespace=name) for pool in ("a*", "a?b", "a") for name in ("duly", "[x]")]
    for driver in drivers:
        await driver.start(Member("same"))
        assert await take(driver, "report", 1_000) is not None
    async with beating(drivers):
        for driver in drivers:
            assert len(await sees(driver, ("same",))) == 1
    for driver in drivers:
        await driver.stop()


async def test_many_members_among_many_other_keys_are_found(redis_url: str, make: Make, redis_server: object) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.mset({f"other:{n}": b"" for n in range(5_000)})
    drivers = [await joined(make, f"n{n:02}") for n in range(20)]
    async with beating(drivers):
        await sees(drivers[0], {f"n{n:02}" for n in range(20)})


async def test_a_look_leaves_out_whose_time_is_over_though_nobody_has_beaten_since(
    redis_url: str, kind: Callable[..., Driver]
) -> None:
    dies, stays, looks = kind(redis_url, timeout=TIMEOUT), kind(redis_url, timeout=60), kind(redis_url)
    await dies.start(Member("dies"))
    await stays.start(Member("stays"))
    assert list(await looks.look()) == ["dies", "stays"]

    async def one_is_left() -> bool:
        return list(await looks.look()) == ["stays"]

    await eventually(one_is_left)
    for driver in (dies, stays, looks):
        await driver.stop()


async def test_a_driver_goes_on_when_its_server_comes_back_with_nothing(
    start_server: StartServer, kind: Callable[..., Driver]
) -> None:
    server = start_server("redis")
    one, other = (kind(server.url, timeout=TIMEOUT) for _ in range(2))
    await one.start(Member("one"))
    await other.start(Member("other"))
    await one.beat()
    await sees(one, ("one", "other"))
    server.kill()
    with pytest.raises(StoreError):
        await one.beat()
    server.start()

    async def has_joined_anew(driver: Driver) -> bool:
        try:
            return await driver.beat() is False
        except StoreError:
            return False

    for driver in (one, other):
        await eventually(lambda driver=driver: has_joined_anew(driver))
    async with beating([one, other]):
        await sees(one, ("one", "other"))
    await asyncio.gather(one.stop(), other.stop())


async def test_a_stop_ends_though_the_server_is_away(start_server: StartServer, kind: Callable[..., Driver]) -> None:
    server = start_server("redis")
    driver = kind(server.url, timeout=TIMEOUT)
    await driver.start(Member("one"))
    server.kill()
    await driver.stop()


# --- what is kept ------------------------------------------------------------------------------------------------------

KEYS = PoolKeys("duly", "default")


async def test_a_sorted_set_keeps_those_who_live_and_ends_with_them(redis_url: str) -> None:
    dies, leaves, stays = (RedisZsetDriver(redis_url, timeout=seconds) for seconds in (TIMEOUT, 60, 30))
    members, records = KEYS.members
    with Redis.from_url(redis_url, decode_responses=True) as client:

        def kept() -> tuple[list[str], list[str]]:
            return client.zrange(members, 0, -1), sorted(client.hkeys(records))  # type: ignore[return-value]

        await leaves.start(Member("leaves"))
        await stays.start(Member("stays"))
        await dies.start(Member("dies"))
        for key in KEYS.members:
            assert 60_000 < client.pttl(key) <= 120_000  # type: ignore[operator]
        await leaves.stop()
        assert kept() == (["dies", "stays"], ["dies", "stays"])

        async def has_died() -> bool:
            return list(await stays.look()) == ["stays"]

        await eventually(has_died)
        before = client.dump(members), client.dump(records)
        assert await stays.look()
        assert (client.dump(members), client.dump(records)) == before  # a look writes nothing
        assert await stays.beat() is True
        assert kept() == (["stays"], ["stays"])
        assert client.pttl(members) > 30_000  # type: ignore[operator]
        client.hdel(records, "stays")
        assert dict(await stays.look()) == {}
        client.delete(*KEYS.members)
        assert await stays.beat() is False
        assert client.pttl(members) <= 60_000  # type: ignore[operator]
    await stays.stop()
    await dies.stop()


async def test_a_tick_is_not_taken_twice_when_its_claim_is_forgotten(
    redis_url: str, kind: Callable[..., Driver], make: Make
) -> None:
    one, other = await joined(make, "one"), await joined(make, "other")
    assert await take(one, "report", 5_000) == Claim(None)
    with Redis.from_url(redis_url) as client:
        assert client.delete(KEYS.tick("report", 5_000)) == 1
    for driver in (one, other):
        assert await take(driver, "report", 5_000) is None
    assert await take(other, "report", 5_001) == Claim(5_000)
