"""Redis behind Sentinel: whichever server is the primary when a connection is opened.

Every dial asks all sentinels of the URL. A sentinel that was cut off, or has just come back, may still name the old
primary; of those who answer, the one with the newest configuration is believed, and the server named has to say itself
that it is a primary. An old primary that comes back empty says so too, until the sentinels turn it into a replica.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from duly.errors import StoreRefused
from duly.stores.capabilities import Finding
from duly.stores.redis.topology import LOST, PATIENCE, Address, Hosts, survey
from duly.stores.redis.wire import Wire

PORT = 26_379
OWN = ("sentinel_username", "sentinel_password")


class Sentinels:
    """The primary of a service, from `redis+sentinel://[user:password@]host:port,…/SERVICE[/database]`."""

    def __init__(self, url: str) -> None:
        hosts = self._hosts = Hosts(url, PORT, OWN)
        self.url = hosts.url
        if not hosts.path:
            raise hosts.invalid("it names no service; end it with the name that the sentinels know, such as /mymaster")
        self.service, *rest = hosts.path
        if len(rest) > 1 or (rest and not rest[0].isdecimal()):
            raise hosts.invalid(
                f"the database {'/'.join(rest)!r} is not a number; after the hosts comes SERVICE/NUMBER"
            )
        self._database = rest[0] if rest else ""
        login = ":".join(quote(hosts.own.get(name, ""), safe="") for name in OWN)
        login = "" if login == ":" else login
        self._asked = {address: hosts.server(address, login=login) for address in hosts.addresses}
        hosts.server(hosts.addresses[0], self._database)  # refuses options that it does not know

    async def dial(self, protocol: Wire) -> None:
        """Open a connection to the primary. Raises what is in LOST, or StoreRefused."""
        address, _ = self._newest(await self._views())
        await self._hosts.server(address, self._database).dial(protocol, primary=True)

    async def _views(self) -> list[dict[str, str]]:
        """What most of the sentinels say of the service."""
        try:
            answers = await survey(self._asked, ("SENTINEL", "MASTER", self.service))
        except StoreRefused as error:
            raise StoreRefused(
                f"no sentinel of {self.url} knows a service {self.service!r} that it would tell us of: {error}"
            ) from None
        return [_facts(answer[0]) for answer in answers.values()]

    @staticmethod
    def _newest(views: list[dict[str, str]]) -> tuple[Address, dict[str, str]]:
        view = max(views, key=lambda view: int(view.get("config-epoch", 0)))
        return (view["ip"], int(view["port"])), view

    async def examine(self) -> list[Finding]:
        """How many sentinels answer, and whether they could fail over. Asks each, also those who take their time."""
        views: list[dict[str, str]] = []
        for server in self._asked.values():
            try:
                async with asyncio.timeout(PATIENCE):
                    views.append(_facts((await server.ask(("SENTINEL", "MASTER", self.service)))[0]))
            except (*LOST, StoreRefused):
                continue
        if not views:
            return [
                Finding("error", f"no sentinel of {self.url} answers", "start them: without them nothing fails over")
            ]
        _, view = self._newest(views)
        return [self._counted(len(views), view), _judged(view)]

    def _counted(self, answering: int, view: dict[str, str]) -> Finding:
        known, quorum = int(view["num-other-sentinels"]) + 1, int(view["quorum"])
        said = f"{answering} of {len(self._asked)} sentinels answer; {known} watch {self.service!r}, quorum {quorum}"
        if known < 3:
            return Finding("warning", said, "run at least three, on different machines")
        if answering < len(self._asked):
            return Finding("warning", said, "start the others: a majority has to be there for a failover")
        return Finding("ok", said)


def _judged(view: dict[str, str]) -> Finding:
    if view["flags"] != "master":
        return Finding("warning", f"the sentinels say of the primary: {view['flags']}", "see their logs")
    if view["num-slaves"] == "0":
        return Finding("warning", "the sentinels know no replica", "add one: else there is nothing to fail over to")
    return Finding("ok", f"the sentinels know {view['num-slaves']} replica(s)")


def _facts(flat: list[Any]) -> dict[str, str]:
    words = [word.decode(errors="replace") for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))
