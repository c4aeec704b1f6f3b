"""A pool of nodes, in virtual time and on real servers: who is in it, and whose a name is."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import pytest

from duly.cluster import Driver, Group, LocalDriver, NodePool
from duly.cluster.etcd import EtcdDriver
from duly.cluster.redis import RedisDriver, RedisZsetDriver
from duly.errors import DulyError, InvalidOption, StoreError, StoreUnavailable
from tests.waiting import eventually

TIMEOUT = 0.6
NAMES = [f"name {n}" for n in range(300)]
QUIET = logging.Logger("quiet", logging.CRITICAL)  # noqa: LOG001


def pool(group: Group, **of: float) -> NodePool:
    return NodePool(LocalDriver(group, timeout=TIMEOUT), logger=QUIET, **of)


def have_each_other(*pools: NodePool) -> bool:
    return all(len(each.members) == len(pools) for each in pools)


async def test_each_name_belongs_to_one_node_and_all_agree() -> None:
    group = Group()
    async with pool(group) as a, pool(group) as b, pool(group) as c:
        await eventually(lambda: have_each_other(a, b, c))
        for name in NAMES:
            assert a.owner(name) == b.owner(name) == c.owner(name)
            assert [each.owns(name) for each in (a, b, c)].count(True) == 1
            assert a.ranked(name) == b.ranked(name)
            assert a.ranked(name)[0] == a.owner(name)
        shares = Counter(owner.id for name in NAMES if (owner := a.owner(name)) is not None)
        assert all(60 < count < 140 for count in shares.values())


async def test_weights_count() -> None:
    group = Group()
    async with pool(group) as small, pool(group, weight=3) as large:
        await eventually(lambda: have_each_other(small, large))
        assert 40 < sum(small.owns(name) for name in NAMES) < 110
    for weight in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InvalidOption, match=r"give a positive number"):
            pool(group, weight=weight)


async def test_a_node_that_leaves_or_falls_silent_leaves_its_names_to_the_others() -> None:
    group = Group()
    a, b, c = pool(group), pool(group), pool(group)
    for each in (a, b, c):
        await each.start()
    await eventually(lambda: have_each_other(a, b, c))
    before = {name: a.owner(name) for name in NAMES}
    await c.stop()
    await eventually(lambda: have_each_other(a, b))
    assert all(a.owner(name) == owner for name, owner in before.items() if owner in a.members.values())
    b._tasks[0].cancel()  # it beats no more, as when it stands still
    await eventually(lambda: have_each_other(a))
    assert all(a.owns(name) for name in NAMES)
    await eventually(lambda: not b.members)  # and counts itself out
    assert not any(b.owns(name) for name in NAMES)
    assert b.ranked("name") == []
    await a.stop()
    await b.stop()


async def test_who_is_not_in_owns_nothing() -> None:
    alone = pool(Group())
    assert (alone.members, alone.owner("name"), alone.ranked("name")) == ({}, None, [])
    async with alone:
        assert alone.owner("name") == alone.me
        with pytest.raises(DulyError, match="has been started already"):
            await alone.start()
    assert alone.owner("name") is None
    await alone.stop()
    async with alone:  # it may join again, as another
        assert alone.owns("name")


async def test_changes_are_told_as_they_come() -> None:
    group = Group()
    seen: list[int] = []

    async def look(changes: NodePool) -> None:
        async for members in changes.changes():
            seen.append(len(members))  # noqa: PERF401 - it does not end

    async with pool(group) as a:
        looking = asyncio.create_task(look(a))
        await eventually(lambda: seen[-1:] == [1])
        async with pool(group):
            await eventually(lambda: seen[-1:] == [2])
        await eventually(lambda: seen[-1:] == [1])
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


class Broken(LocalDriver):
    """Its calls fail for as long as it is told."""

    is_away = False

    async def beat(self) -> bool:
        if self.is_away:
            raise StoreUnavailable("away, on purpose")
        return await super().beat()


async def test_a_pool_whose_place_was_away_for_a_while_goes_on() -> None:
    driver = Broken(timeout=TIMEOUT)
    async with NodePool(driver, logger=QUIET) as alone:
        driver.is_away = True
        await eventually(lambda: not alone.members)
        driver.is_away = False
        await eventually(lambda: alone.owns("name"))


async def test_what_cannot_be_joined_is_said_at_the_start() -> None:
    driver = Broken(timeout=TIMEOUT)
    driver.is_away = True
    alone = NodePool(driver)
    with pytest.raises(StoreError, match="away, on purpose"):
        await alone.start()
    await alone.stop()


@pytest.mark.parametrize(
    ("new", "where"),
    [
        pytest.param(RedisDriver, "redis_url", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param(RedisZsetDriver, "redis_url", marks=[pytest.mark.server, pytest.mark.redis]),
        pytest.param(EtcdDriver, "etcd_url", marks=[pytest.mark.server]),
    ],
)
async def test_pools_meet_on_every_driver(
    new: Callable[..., Driver], where: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(where)
    pools = [NodePool(new(url, timeout=1.5), logger=QUIET, tags=["x"]) for _ in range(3)]
    for each in pools:
        await each.start()
    await eventually(lambda: have_each_other(*pools))
    assert {len({each.owner(name) for each in pools}) for name in NAMES} == {1}
    assert {member.tags for member in pools[0].members.values()} == {("x",)}
    await pools[2].stop()
    await eventually(lambda: have_each_other(*pools[:2]))
    for each in pools[:2]:
        await each.stop()
