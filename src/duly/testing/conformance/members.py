"""What every driver of membership promises (`duly.cluster.members.Driver`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from duly.cluster.members import MOST_CLAIMS, Claim, Driver, Member
from duly.testing.conformance.kit import BOUND

TIMEOUT = 0.6
"""Seconds with which drivers under test are to be made."""
MOMENT = 1_750_000_000_000

Make = Callable[[], Driver]


class MembersSuite:
    """A user gives one fixture: `make`, which makes another driver of the same pool, with TIMEOUT; it ends them, too."""

    async def test_a_member_alone_sees_itself_with_all_that_is_known_of_it(self, make: Make) -> None:
        driver, member = make(), Member("a", "host", 42, "1.2", ("blue", "é"), 2.5)
        await driver.start(member)
        assert await sees(driver, "a") == {"a": member}

    async def test_all_see_each_other_whoever_came_first(self, make: Make) -> None:
        drivers = [await joined(make, id) for id in "abc"]
        async with beating(drivers):
            for driver in drivers:
                assert list(await sees(driver, "abc")) == ["a", "b", "c"]

    async def test_who_leaves_is_gone_before_its_time_is_over(self, make: Make) -> None:
        stays, leaves = await joined(make, "stays"), await joined(make, "leaves")
        await stays.beat()
        await sees(stays, ("stays", "leaves"))
        await leaves.stop()
        await leaves.stop()
        await stays.beat()
        async with asyncio.timeout(TIMEOUT / 2):
            await sees(stays, ("stays",))

    async def test_who_falls_silent_is_gone_after_its_time(self, make: Make) -> None:
        lives, dies = await joined(make, "lives"), await joined(make, "dies")
        async with beating([lives]):
            await sees(lives, ("dies", "lives"))
            await sees(lives, ("lives",))
        assert await dies.beat() is False
        await lives.beat()
        await sees(lives, ("dies", "lives"))

    async def test_who_beats_is_known(self, make: Make) -> None:
        driver = await joined(make, "a")
        assert [await driver.beat() for _ in range(3)] == [True] * 3

    async def test_who_left_may_come_again_as_another(self, make: Make) -> None:
        driver, other = await joined(make, "first"), await joined(make, "other")
        await driver.stop()
        await driver.start(Member("second"))
        async with beating([driver, other]):
            await sees(driver, ("other", "second"))
            await sees(other, ("other", "second"))

    async def test_who_reads_late_sees_what_is_true_now(self, make: Make) -> None:
        driver = await joined(make, "a")
        others = [await joined(make, id) for id in "bcd"]
        async with beating([driver, *others]):
            await sees(driver, "abcd")
            for other in others[:2]:
                await other.stop()
            await sees(driver, "ad")
            assert list(await anext(driver.members())) == ["a", "d"]

    async def test_who_only_looks_sees_all_with_what_is_known_of_them_and_is_not_seen(self, make: Make) -> None:
        looks = make()
        assert dict(await looks.look()) == {}
        member = Member("b", "host", 42, "1.2", ("blue", "é"), 2.5)
        driver, other = make(), await joined(make, "a")
        await driver.start(member)
        async with beating([driver, other]):
            assert list((await looks.look()).items()) == [("a", Member("a")), ("b", member)]
            assert list(await sees(driver, "ab")) == list(await driver.look()) == ["a", "b"]
        assert await looks.marks(["report"]) == {}
        await driver.stop()
        assert list(await looks.look()) == ["a"]

    async def test_a_look_finds_nobody_whose_time_is_over_and_keeps_nobody_alive(self, make: Make) -> None:
        looks, dies = make(), await joined(make, "dies")
        async with asyncio.timeout(BOUND):
            while await dies.look():  # noqa: ASYNC110 - nobody tells who only looks
                await asyncio.sleep(TIMEOUT / 6)
        assert dict(await looks.look()) == {}
        assert await dies.beat() is False

    # ticks

    async def test_of_many_that_claim_a_tick_one_has_it(self, make: Make) -> None:
        drivers = [await joined(make, f"n{i}") for i in range(5)]
        for moment in range(MOMENT, MOMENT + 10):
            claims = await asyncio.gather(*(take(driver, "report", moment) for driver in drivers))
            assert [claim is not None for claim in claims].count(True) == 1

    async def test_a_claim_says_which_tick_was_taken_before(self, make: Make) -> None:
        one, other = await joined(make, "one"), await joined(make, "other")
        assert await take(one, "report", MOMENT) == Claim(None)
        assert await take(other, "report", MOMENT + 5_000) == Claim(MOMENT)
        assert await take(other, "report", MOMENT + 6_000) == Claim(MOMENT + 5_000)

    async def test_a_claim_that_is_repeated_is_answered_as_before(self, make: Make) -> None:
        one, other = await joined(make, "one"), await joined(make, "other")
        await take(other, "report", MOMENT - 1_000)
        assert await take(one, "report", MOMENT) == Claim(MOMENT - 1_000)
        assert await take(other, "report", MOMENT) is None
        assert await take(other, "report", MOMENT + 1_000) == Claim(MOMENT)
        assert await take(one, "report", MOMENT) == Claim(MOMENT - 1_000)
        assert await take(other, "report", MOMENT) is None

    async def test_what_is_past_a_tick_that_was_taken_cannot_be_taken(self, make: Make) -> None:
        one, other = await joined(make, "one"), await joined(make, "other")
        await take(one, "report", MOMENT)
        for driver in (one, other):
            assert await take(driver, "report", MOMENT - 1_000) is None
        assert await one.marks(["report"]) == {"report": MOMENT}

    async def test_ticks_are_claimed_together_each_for_itself(self, make: Make) -> None:
        one, other = await joined(make, "one"), await joined(make, "other")
        await take(one, "mine", MOMENT)
        await take(other, "later", MOMENT + 1)
        names = [f"name {n}" for n in range(MOST_CLAIMS - 4)]
        ticks = [
            ("mine", MOMENT),
            ("mine", MOMENT + 5),
            ("later", MOMENT),
            ("later", MOMENT + 1),
            *((n, MOMENT) for n in names),
        ]
        wanted = [None, Claim(MOMENT), None, Claim(None), *(Claim(None) for _ in names)]
        assert await other.claim(ticks) == wanted
        assert await other.claim(ticks) == wanted
        assert await one.claim(ticks) == [Claim(None), *(None for _ in ticks[1:])]
        assert await one.claim([]) == []

    async def test_names_are_apart(self, make: Make) -> None:
        driver = await joined(make, "a")
        names = ["report", "report:x", "re port", "é", "a\\*?[b]", "x" * 200]
        for step, name in enumerate(names):
            assert await take(driver, name, MOMENT + step) == Claim(None)
        assert await driver.marks([*names, "unknown"]) == {name: MOMENT + step for step, name in enumerate(names)}
        assert await driver.marks([]) == {}

    async def test_a_tick_is_taken_though_its_taker_has_left(self, make: Make) -> None:
        one, other = await joined(make, "one"), await joined(make, "other")
        await take(one, "report", MOMENT)
        await one.stop()
        assert await take(other, "report", MOMENT) is None
        assert await other.marks(["report"]) == {"report": MOMENT}

    async def test_a_claim_can_be_repeated_in_the_place_of_a_member_that_is_gone(self, make: Make) -> None:
        gone, follows = await joined(make, "gone"), await joined(make, "follows")
        await take(gone, "report", MOMENT)
        await take(gone, "report", MOMENT + 1_000)
        await follows.claim([("other", MOMENT)])
        await gone.stop()
        ticks = [("report", MOMENT), ("report", MOMENT + 1_000), ("other", MOMENT), ("new", MOMENT)]
        found = [Claim(None), Claim(MOMENT), None, Claim(None)]
        assert [(await follows.claim([tick], "gone"))[0] for tick in ticks] == found
        assert await take(follows, "new", MOMENT) is None  # it was taken in the other's place

    async def test_the_members_agree_on_the_time(self, make: Make) -> None:
        one, other = await joined(make, "one"), await joined(make, "other")
        first, second, third = await one.now(), await other.now(), await one.now()
        assert first <= second <= third
        assert second > MOMENT - 1_000 * 86_400_000


async def take(driver: Driver, name: str, moment: int) -> Claim | None:
    """Claim a single tick."""
    return (await driver.claim([(name, moment)]))[0]


async def joined(make: Make, id: str) -> Driver:
    driver = make()
    await driver.start(Member(id))
    return driver


async def sees(driver: Driver, ids: Iterable[str]) -> dict[str, Member]:
    """Wait until these and no others are there."""
    async with asyncio.timeout(BOUND):
        async for members in driver.members():
            if set(members) == set(ids):
                return dict(members)
    raise AssertionError("the stream of members has ended")


class beating:  # noqa: N801 - reads as a sentence
    """All these drivers beat, as a pool has them do it."""

    def __init__(self, drivers: Iterable[Driver]) -> None:
        self._drivers = list(drivers)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.create_task(self._beat(driver)) for driver in self._drivers]

    async def _beat(self, driver: Driver) -> None:
        while True:
            try:
                await driver.beat()
            except AssertionError:
                return  # it was stopped
            await asyncio.sleep(TIMEOUT / 6)

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
