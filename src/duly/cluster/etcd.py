"""Members that meet on etcd (3.4 and newer), by its HTTP gateway: a lease for each member, and a watch.

The gateway speaks JSON with keys and values in base64, and 64-bit numbers as text. See https://etcd.io/docs/ (api reference).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from duly.clock import SYSTEM_CLOCK, Clock
from duly.cluster.members import CLAIM_KEPT_MS, MEMBERS_TIMEOUT, Claim, Member, Members, Present, by_id, pack, unpack
from duly.config import masked
from duly.core.job import duration, text
from duly.errors import ConfigurationError, InvalidURL, StoreError, StoreRefused, StoreUnavailable, StoreUncertain
from duly.runtime.loop import Backoff

try:
    import httpx
except ImportError as error:
    raise ConfigurationError("etcd needs httpx: pip install 'duly[etcd]'") from error

logger = logging.getLogger("duly")
TICKS_LEASE_SECONDS = 2 * CLAIM_KEPT_MS // 1000
"""Claims of ticks are kept by a lease of this time, which is followed by another one after half of it."""
IN_A_TRANSACTION = 100
"""Reads in one transaction; etcd allows 128."""
MOST_TRIES = 20
TRIES_TOGETHER = 3
"""The first is by what is remembered. After so many, ticks that others claim at the same time are claimed one by one."""
AWAY, NO_TOKEN = (1, 4, 14), 16
"""Codes of gRPC: cancelled, deadline exceeded, unavailable; unauthenticated."""


class Gateway:
    """Calls to whichever of several endpoints answers."""

    def __init__(self, urls: Sequence[str], timeout: float, user: tuple[str, str] | None, verify: Any) -> None:
        self.urls = [url.rstrip("/") for url in urls]
        for url in self.urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise InvalidURL(f"{masked(url)!r} is no address of etcd: give http://host:2379 or https://host:2379")
        self._user, self._token, self._timeout = user, "", timeout
        self._http = httpx.AsyncClient(verify=verify, timeout=timeout, trust_env=False)

    async def call(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer to one call. Raises StoreUnavailable (not sent), StoreUncertain (sent, no answer), StoreRefused."""
        if self._user is not None and not self._token:
            await self._log_in()
        answer = await self._post(path, body)
        if answer.get("code") == NO_TOKEN and self._user is not None:  # it ran out
            await self._log_in()
            answer = await self._post(path, body)
        return _checked(answer)

    async def _log_in(self) -> None:
        assert self._user is not None
        name, password = self._user
        self._token = ""
        self._token = _checked(await self._post("auth/authenticate", {"name": name, "password": password}))["token"]

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """At the first endpoint; when that is away the next one is the first from then on."""
        for left in reversed(range(len(self.urls))):
            try:
                answer = await self._http.post(f"{self.urls[0]}/v3/{path}", json=body, headers=self._headers)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                self._turn()
                if not left:
                    raise StoreUnavailable(f"no connection to etcd at {', '.join(self.urls)}: {error}") from error
            except httpx.TransportError as error:
                self._turn()
                raise StoreUncertain(f"etcd did not answer: {type(error).__name__} {error}") from error
            else:
                return _parsed(answer.text)
        raise AssertionError("there is an endpoint")

    def _turn(self) -> None:
        self.urls.append(self.urls.pop(0))

    @contextlib.asynccontextmanager
    async def stream(self, path: str, **body: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The answers to a call that goes on. Raises StoreError when it ends."""
        patience = httpx.Timeout(self._timeout, read=None)
        try:
            async with (
                self._http.stream(
                    "POST", f"{self.urls[0]}/v3/{path}", json=body, headers=self._headers, timeout=patience
                ) as answer,
                contextlib.aclosing(_answers(answer)) as answers,
            ):
                yield answers
        except httpx.TransportError as error:
            self._turn()
            raise StoreUnavailable(f"the watch of etcd broke: {type(error).__name__} {error}") from error

    async def close(self) -> None:
        await self._http.aclose()


async def _answers(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    async for line in response.aiter_lines():
        yield _checked(_parsed(line))


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StoreRefused(f"this does not speak as etcd's gateway: {line[:80]!r}")
    result = found.get("result", found)
    return result if isinstance(result, dict) else found


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    error = answer.get("error")
    if not error:
        return answer
    said, code = (
        (error.get("message", error), error.get("grpc_code"))
        if isinstance(error, dict)
        else (error, answer.get("code"))
    )
    if code in AWAY:
        raise StoreUncertain(f"etcd says: {said}")
    raise StoreRefused(f"etcd refuses: {said}")


def _b64(value: str | bytes) -> str:
    return b64encode(value.encode(errors="surrogatepass") if isinstance(value, str) else value).decode()


def _members(answer: dict[str, Any]) -> dict[str, Member]:
    """Those of a range that was read, by their keys."""
    return {entry["key"]: unpack(b64decode(entry["value"])) for entry in answer.get("kvs", ())}


def _parts(ticks: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """In their order, no name twice in a part, and no more than can be read in one transaction: etcd takes one put to a key."""
    part: dict[str, int] = {}
    for name, moment in ticks:
        if name in part or 2 * len(part) >= IN_A_TRANSACTION:
            yield list(part.items())
            part = {}
        part[name] = moment
    if part:
        yield list(part.items())


_Found = tuple[int | None, str]
"""The mark of a name, and what its tick holds: who took it, and the mark before."""


def _is(key: str, mark: int | None) -> dict[str, str]:
    """A comparison: that is its value, or there is none."""
    if mark is None:
        return {"key": key, "target": "CREATE", "create_revision": "0"}
    return {"key": key, "target": "VALUE", "value": _b64(str(mark))}


def _put(key: str, value: str, **of: str) -> dict[str, Any]:
    return {"request_put": {"key": key, "value": _b64(value), **of}}


def _reading(keys: Sequence[str]) -> list[dict[str, Any]]:
    return [{"request_range": {"key": key}} for key in keys]


def _values(answer: dict[str, Any]) -> list[str]:
    """What was read: an empty text where there is nothing."""
    found = [response["response_range"].get("kvs", ()) for response in answer.get("responses", ())]
    return [b64decode(entries[0]["value"]).decode() if entries else "" for entries in found]


class EtcdDriver:
    """`Driver` on etcd. urls: of one endpoint or several; user: (name, password); verify: False, or an ssl.SSLContext with the
    authority and certificate that etcd asks for. The time is that of this machine. Raises InvalidURL, InvalidOption;
    ConfigurationError without httpx."""

    def __init__(
        self, urls: str | Sequence[str] = "http://127.0.0.1:2379", *, pool: str = "default", namespace: str = "duly",
        timeout: float = MEMBERS_TIMEOUT, user: tuple[str, str] | None = None, verify: Any = True, clock: Clock = SYSTEM_CLOCK,
    ) -> None:  # fmt: skip
        self.timeout, self._clock = duration("timeout", timeout, least=0.1), clock
        self._given = ([urls] if isinstance(urls, str) else list(urls), self.timeout, user, verify)
        self._gateway = Gateway(*self._given)
        self._prefix = f"{text('namespace', namespace)}/pool/{text('pool', pool)}/"
        self._present = Present()
        self._member: Member | None = None
        self._known: dict[str, Member] = {}
        self._revision, self._cluster = 0, ""
        self._lease = self._ticks_lease = "0"
        self._ticks_until = float("-inf")
        self._marks: dict[str, int] = {}
        self._watching: asyncio.Task[None] | None = None

    # membership

    async def start(self, member: Member) -> None:
        self._member = member
        await self._join(member)
        await self._look()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        member, self._member = self._member, None
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        if member is not None:
            with contextlib.suppress(StoreError):  # the time-out does it
                await self._gateway.call("lease/revoke", ID=self._lease)
        await self._gateway.close()
        self._gateway, self._ticks_until = Gateway(*self._given), float("-inf")

    async def beat(self) -> bool:
        assert self._member is not None, "start it first"
        answer = await self._gateway.call("lease/keepalive", ID=self._lease)
        was_known = int(answer.get("TTL", 0)) > 0
        if not was_known:
            await self._join(self._member)
        await self._look()
        return was_known

    async def _join(self, member: Member) -> None:
        granted = await self._gateway.call("lease/grant", TTL=math.ceil(self.timeout))
        await self._gateway.call(
            "kv/put", key=_b64(f"{self._prefix}member/{member.id}"), value=_b64(pack(member)), lease=granted["ID"]
        )
        self._lease = granted["ID"]

    async def _look(self) -> int:
        """Read the members; the revision of what was read."""
        answer = await self._gateway.call("kv/range", **self._members_range)
        revision = int(answer["header"]["revision"])
        if revision >= self._revision or answer["header"].get("cluster_id") != self._cluster:
            self._known = _members(answer)
            self._revision, self._cluster = revision, answer["header"].get("cluster_id")
            self._present.tell(self._known.values())
        return revision

    def _hear(self, events: Sequence[dict[str, Any]]) -> None:
        """What the watch says; what a look has seen already changes nothing."""
        for event in events:
            entry = event["kv"]
            if int(entry["mod_revision"]) <= self._revision:
                continue
            if event.get("type") == "DELETE":
                self._known.pop(entry["key"], None)
            else:
                self._known[entry["key"]] = unpack(b64decode(entry["value"]))
        self._revision = max(self._revision, *(int(event["kv"]["mod_revision"]) for event in events))
        self._present.tell(self._known.values())

    @property
    def _members_range(self) -> dict[str, str]:
        return {"key": _b64(f"{self._prefix}member/"), "range_end": _b64(f"{self._prefix}member0")}  # '0' follows '/'

    async def _watch(self) -> None:
        """See changes as they come. A watch that breaks is opened again from what a look finds; beats look, too."""
        backoff = Backoff(self.timeout)
        while True:
            try:
                following = await self._look() + 1
                request = {**self._members_range, "start_revision": following}
                async with self._gateway.stream("watch", create_request=request) as answers:
                    async for answer in answers:
                        if answer.get("canceled"):
                            break
                        backoff.reset()
                        if answer.get("events"):
                            self._hear(answer["events"])
            except StoreError as error:
                logger.debug("%s; looking again", error)
            except Exception:
                logger.exception("the watch of etcd failed; looking again")
            await asyncio.sleep(backoff.pause())

    async def look(self) -> Members:
        return by_id(_members(await self._gateway.call("kv/range", **self._members_range)).values())

    def members(self) -> AsyncIterator[Members]:
        return self._present.read()

    # ticks

    async def claim(self, ticks: Sequence[tuple[str, int]], member: str = "") -> list[Claim | None]:
        """As many in one transaction as etcd takes; each in one of its own if others claim them at the same time."""
        claims: list[Claim | None] = []
        for part in _parts(ticks):
            try:
                claims += await self._claim(part, member or self._me.id)
            except StoreError as error:
                if isinstance(error, StoreRefused):  # perhaps it has forgotten our lease
                    self._ticks_until = float("-inf")
                if not claims:
                    raise
                raise StoreUncertain(f"of {len(ticks)} claims {len(claims)} were answered: {error}") from error
        return claims

    async def _claim(self, ticks: Sequence[tuple[str, int]], member: str) -> list[Claim | None]:
        """Of different names, in one step: if their marks are as remembered by one call, else the answer says how they are."""
        lease = await self._lease_of_ticks()
        keys = [self._mark(name) for name, _ in ticks] + [self._tick(name, moment) for name, moment in ticks]
        found: list[_Found] = [(self._marks.get(name), "") for name, _ in ticks]
        if any(mark is not None and mark >= moment for (mark, _), (_, moment) in zip(found, ticks, strict=True)):
            found = self._found(ticks, await self._read(keys))
        for _ in range(MOST_TRIES if len(ticks) == 1 else TRIES_TOGETHER):
            claims, compare, puts = [], [], []
            for n, ((_, moment), (mark, taken)) in enumerate(zip(ticks, found, strict=True), len(ticks)):
                claim, is_new = self._answer(moment, mark, taken, member)
                claims.append(claim)
                if is_new:
                    mine = _put(keys[n], f"{member} {'' if mark is None else mark}", lease=lease)
                    compare += [_is(keys[n - len(ticks)], mark), _is(keys[n], None)]
                    puts += [_put(keys[n - len(ticks)], str(moment)), mine]
            if not puts:
                return claims
            answer = await self._gateway.call("kv/txn", compare=compare, success=puts, failure=_reading(keys))
            if answer.get("succeeded"):
                self._marks |= {name: moment for (name, moment), claim in zip(ticks, claims, strict=True) if claim}
                return claims
            found = self._found(ticks, _values(answer))
        if len(ticks) == 1:
            raise StoreUncertain(f"the tick of {ticks[0][0]!r} at {ticks[0][1]} is asked for by too many at once")
        return await self._claim_each(ticks, member)

    def _found(self, ticks: Sequence[tuple[str, int]], values: Sequence[str]) -> list[_Found]:
        """What was read of their marks, then of themselves; the marks are remembered."""
        marks = [int(value) if value else None for value in values[: len(ticks)]]
        self._marks |= {name: mark for (name, _), mark in zip(ticks, marks, strict=True) if mark is not None}
        return list(zip(marks, values[len(ticks) :], strict=True))

    async def _claim_each(self, ticks: Sequence[tuple[str, int]], member: str) -> list[Claim | None]:
        """Each in a transaction of its own, side by side."""
        answers = await asyncio.gather(*(self._claim([tick], member) for tick in ticks), return_exceptions=True)
        claims = [claim for answer in answers if not isinstance(answer, BaseException) for claim in answer]
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if not errors:
            return claims
        if claims or any(isinstance(error, StoreUncertain) for error in errors):
            raise StoreUncertain(f"of {len(ticks)} claims {len(errors)} have no answer: {errors[0]}")
        raise errors[0]

    def _answer(self, moment: int, mark: int | None, taken: str, member: str) -> tuple[Claim | None, bool]:
        """What a claim is answered if this is so, and whether it has to be written first."""
        if not taken:
            return (Claim(mark), True) if mark is None or mark < moment else (None, False)
        holder, _, before = taken.partition(" ")
        return Claim(int(before) if before else None) if holder == member else None, False

    @property
    def _me(self) -> Member:
        assert self._member is not None, "start it first"
        return self._member

    async def _lease_of_ticks(self) -> str:
        now = self._clock.monotonic()
        if now >= self._ticks_until:
            granted = await self._gateway.call("lease/grant", TTL=TICKS_LEASE_SECONDS)
            self._ticks_lease, self._ticks_until = granted["ID"], now + TICKS_LEASE_SECONDS / 2
        return self._ticks_lease

    async def marks(self, names: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for first in range(0, len(names), IN_A_TRANSACTION):
            part = names[first : first + IN_A_TRANSACTION]
            marks = await self._read([self._mark(name) for name in part])
            found |= {name: int(mark) for name, mark in zip(part, marks, strict=True) if mark}
        return found

    def _mark(self, name: str) -> str:
        return _b64(f"{self._prefix}mark/{name}")

    def _tick(self, name: str, moment: int) -> str:
        return _b64(f"{self._prefix}tick/{moment}/{name}")

    async def _read(self, keys: Sequence[str]) -> list[str]:
        """The values of keys, at one moment."""
        return _values(await self._gateway.call("kv/txn", success=_reading(keys)))

    async def now(self) -> int:
        return self._clock.epoch_us() // 1000
