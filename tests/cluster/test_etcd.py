"""What is etcd's own: restarts under a watch, passwords, TLS, several endpoints."""

from __future__ import annotations

import asyncio
import random
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from duly.cluster import Claim, Member
from duly.cluster.etcd import EtcdDriver
from duly.errors import InvalidURL, StoreError, StoreRefused, StoreUnavailable, StoreUncertain
from duly.testing.conformance.members import MOMENT, TIMEOUT, beating, sees, take
from tests.etcd import EtcdServer
from tests.servers import HOST, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    yield server
    server.stop()


async def beats(driver: EtcdDriver) -> bool | None:
    try:
        return await driver.beat()
    except StoreError:
        return None


@pytest.mark.parametrize("keeps", [True, False])
async def test_members_and_their_watch_survive_a_restart_of_etcd(own: EtcdServer, keeps: bool) -> None:
    one, other = EtcdDriver(own.url, timeout=3), EtcdDriver(own.url, timeout=3)
    await one.start(Member("one"))
    await other.start(Member("other"))
    assert await take(one, "report", MOMENT) == Claim(None)
    await sees(one, ("one", "other"))
    own.kill()
    assert await beats(one) is None
    if not keeps:
        shutil.rmtree(own.directory / "data")
    own.start()
    for driver in (one, other):
        await eventually(lambda driver=driver: beats(driver))  # a second beat, if the first joined anew
    await sees(one, ("one", "other"))
    if keeps:
        assert await take(other, "report", MOMENT) is None
    else:  # it has forgotten the lease, too, under which `one` claims
        with pytest.raises(StoreRefused, match="lease not found"):
            await take(one, "report", MOMENT)
        assert await take(one, "report", MOMENT) == Claim(None)
    await eventually(lambda: one._watching is not None and not one._watching.done())
    await other.stop()
    await sees(one, ("one",))  # told by the watch: nobody beats
    await one.stop()


TEN = [(f"name {n}", MOMENT) for n in range(10)]


class Watched(EtcdDriver):
    """It tells of each call to etcd before it is made, with its number, and may lose the answers of claims."""

    calls = 0
    loses = False

    async def start(self, member: Member) -> None:
        await super().start(member)
        await take(self, f"first of {member.id}", MOMENT)  # from then on it has the lease of its claims
        call, self.calls = self._gateway.call, 0

        async def told(path: str, **body: Any) -> dict[str, Any]:
            self.calls += 1
            await self.before(self.calls)
            answer = await call(path, **body)
            if self.loses and answer.get("succeeded"):
                raise StoreUncertain("the answer was lost, on purpose")
            return answer

        self._gateway.call = told  # type: ignore[method-assign]

    async def before(self, number: int) -> None:
        """Something that happens just then."""


@pytest.fixture
async def two(etcd_url: str) -> AsyncIterator[tuple[Watched, EtcdDriver]]:
    watched, other = Watched(etcd_url, timeout=5), EtcdDriver(etcd_url, timeout=5)
    await watched.start(Member("watched"))
    await other.start(Member("other"))
    yield watched, other
    await watched.stop()
    await other.stop()


async def test_ten_ticks_cost_one_call_and_two_if_another_had_those_before(two: tuple[Watched, EtcdDriver]) -> None:
    watched, other = two
    for step, calls in enumerate((2, 1, 1)):
        before = MOMENT + 1_000 * (step - 1)
        if step == 0:
            await other.claim([(name, before) for name, _ in TEN])
        watched.calls = 0
        assert await watched.claim([(name, before + 1_000) for name, _ in TEN]) == [Claim(before)] * 10
        assert watched.calls == calls
    watched.calls = 0
    assert await watched.claim(TEN) == [Claim(MOMENT - 1_000)] * 10  # a repeat, which has nothing to write
    assert watched.calls == 1


@pytest.mark.parametrize(("times", "calls"), [(1, 2), (2, 3), (3, 3 + 10)])
async def test_others_that_claim_at_the_same_time_take_theirs_and_no_more(
    two: tuple[Watched, EtcdDriver], times: int, calls: int
) -> None:
    watched, other = two
    taken = []

    async def before(number: int) -> None:
        if number <= times:
            taken.append((f"name {number}", MOMENT))
            assert await other.claim(taken[-1:]) == [Claim(None)]

    watched.before = before  # type: ignore[method-assign]
    wanted = [None if 1 <= n <= times else Claim(None) for n in range(10)]
    assert await watched.claim(TEN) == wanted
    assert watched.calls == calls
    assert await watched.claim(TEN) == wanted
    assert await other.claim(TEN) == [None if claim else Claim(None) for claim in wanted]


async def test_of_many_that_claim_the_same_ticks_together_each_is_had_by_one(etcd_url: str) -> None:
    drivers = [EtcdDriver(etcd_url, timeout=5) for _ in range(5)]
    for n, driver in enumerate(drivers):
        await driver.start(Member(f"n{n}"))
    for moment in range(MOMENT, MOMENT + 3_000, 1_000):
        ticks = [(name, moment) for name, _ in TEN]
        before = None if moment == MOMENT else moment - 1_000
        answers = await asyncio.gather(*(driver.claim(random.sample(ticks, 10)) for driver in drivers))
        granted = [claim for claims in answers for claim in claims if claim is not None]
        assert granted == [Claim(before)] * 10
    for driver in drivers:
        await driver.stop()


async def test_ticks_whose_answer_was_lost_are_answered_as_before(two: tuple[Watched, EtcdDriver]) -> None:
    watched, other = two
    await other.claim([(name, MOMENT - 1_000) for name, _ in TEN])
    watched.loses = True
    with pytest.raises(StoreUncertain):
        await watched.claim(TEN)
    watched.loses = False
    assert await other.claim(TEN) == [None] * 10
    assert await watched.claim(TEN) == [Claim(MOMENT - 1_000)] * 10


async def test_if_only_some_of_many_claims_are_answered_it_is_not_known_of_any(two: tuple[Watched, EtcdDriver]) -> None:
    watched, _ = two
    many = [(f"name {n}", MOMENT) for n in range(100)]

    async def before(number: int) -> None:
        if number == 2:
            raise StoreUnavailable("nothing was sent, on purpose")

    watched.before = before  # type: ignore[method-assign]
    with pytest.raises(StoreUncertain, match="of 100 claims 50 were answered"):
        await watched.claim(many)
    assert await watched.claim(many) == [Claim(None)] * 100


async def test_a_name_that_is_claimed_twice_in_one_call_is_taken_in_order(two: tuple[Watched, EtcdDriver]) -> None:
    watched, _ = two
    ticks = [("a", MOMENT), ("b", MOMENT), ("a", MOMENT + 1), ("a", MOMENT - 1), ("c", MOMENT)]
    wanted = [Claim(None), Claim(None), Claim(MOMENT), None, Claim(None)]
    assert await watched.claim(ticks) == wanted
    assert await watched.claim(ticks) == wanted


async def test_the_next_endpoint_is_asked_when_one_is_away(etcd_url: str) -> None:
    driver = EtcdDriver([f"http://{HOST}:{free_port()}", etcd_url], timeout=TIMEOUT)
    await driver.start(Member("a"))
    assert await driver.beat() is True
    await driver.stop()


async def test_without_etcd_it_cannot_be_joined_and_the_error_says_where_it_was_looked_for() -> None:
    url = f"http://{HOST}:{free_port()}"
    driver = EtcdDriver(url, timeout=TIMEOUT)
    with pytest.raises(StoreUnavailable, match=f"no connection to etcd at {url}"):
        await driver.start(Member("a"))
    await driver.stop()


async def test_what_is_no_etcd_is_refused(redis_url: str) -> None:
    driver = EtcdDriver(redis_url.replace("redis://", "http://").removesuffix("/0"), timeout=TIMEOUT)
    with pytest.raises(StoreError):
        await driver.start(Member("a"))
    await driver.stop()
    for url in ("etcd://host", "host:2379", "http://"):
        with pytest.raises(InvalidURL, match="is no address of etcd"):
            EtcdDriver(url)


async def test_a_user_logs_in_and_does_so_again_when_the_token_is_over(own: EtcdServer) -> None:
    own.ask("auth/role/add", name="root")
    own.ask("auth/user/add", name="root", password="PASSWORD")
    own.ask("auth/user/grant", user="root", role="root")
    own.ask("auth/enable")
    driver = EtcdDriver(own.url, timeout=TIMEOUT, user=("root", "PASSWORD"))
    await driver.start(Member("a"))
    assert await driver.beat() is True
    driver._gateway._token = "over"
    assert await driver.beat() is True
    assert await take(driver, "report", MOMENT) == Claim(None)
    wrong = EtcdDriver(own.url, timeout=TIMEOUT, user=("root", "wrong"))
    with pytest.raises(StoreRefused, match=r"authentication failed"):
        await wrong.start(Member("b"))
    nobody = EtcdDriver(own.url, timeout=TIMEOUT)
    with pytest.raises(StoreRefused, match=r"etcd refuses"):
        await nobody.start(Member("c"))
    for each in (driver, wrong, nobody):
        await each.stop()


async def test_members_meet_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert(HOST)
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    issued.private_key_pem.write_to_path(str(key))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    server = Encrypted(tmp_path / "etcd", "--cert-file", str(certificate), "--key-file", str(key))
    server.start()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    driver = EtcdDriver(server.url, timeout=TIMEOUT, verify=trusting)
    await driver.start(Member("a"))
    async with beating([driver]):
        await sees(driver, ("a",))
    await driver.stop()
    wary = EtcdDriver(server.url, timeout=TIMEOUT)
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await wary.start(Member("b"))
    await wary.stop()
    server.stop()


class Encrypted(EtcdServer):
    """It speaks TLS with its clients."""

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:")

    def _command(self, port: int) -> list[str]:
        clients = f"http://{HOST}:{port}"
        return [word.replace("http:", "https:") if word == clients else word for word in super()._command(port)]

    def _is_ready(self) -> bool:
        return "ready to serve client requests" in self.output or "serving client requests" in self.output
