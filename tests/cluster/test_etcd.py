"""What is etcd's own: restarts under a watch, passwords, TLS, several endpoints."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from duly.cluster import Claim, Member
from duly.cluster.etcd import EtcdDriver
from duly.errors import InvalidURL, StoreError, StoreRefused, StoreUnavailable
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
    await eventually(lambda: one._watching is not None and not one._watching.done())
    await other.stop()
    await sees(one, ("one",))  # told by the watch: nobody beats
    await one.stop()


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
