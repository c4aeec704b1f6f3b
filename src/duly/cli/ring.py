"""`duly ring`: which node a name belongs to, who is next, and what would move if one left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import click
import msgspec

from duly.cli.connection import OPTIONS, asked, with_store
from duly.cli.grouping import json_option, queue_option
from duly.cli.lookup import known_queues
from duly.cli.output import Column, show_json, show_table
from duly.cluster.members import Driver, Member, Members
from duly.config import DEFAULT_QUEUE, make_config, masked, resolve_urls
from duly.core.ring import Ring
from duly.errors import InvalidURL, StoreUnavailable
from duly.runtime.neighbours import ring_of
from duly.scheduler import Scheduler
from duly.views.nodes import nodes_of
from duly.views.words import counted, percent

RANKS = 3
"""How many of those who would own a name, one after the other, are shown."""
DRIVERS = ("redis", "redis-zset", "etcd")


class Seat(msgspec.Struct, frozen=True):
    """One of those among whom names are spread. share: its part of the names; then: the same when the one that --without
    names has left (0 for that one), None if nobody leaves."""

    id: str
    host: str
    pid: int
    weight: float
    share: float
    then: float | None


class Place(msgspec.Struct, frozen=True):
    """A name, its owner, and the first in the order in which it is taken over, the owner among them. moves: whether it is of
    the one that --without names, None if nobody leaves; to: who has it then."""

    name: str
    owner: str | None
    ranked: list[str]
    moves: bool | None
    to: str | None


class Seen(msgspec.Struct, frozen=True):
    """All that was asked for. One of queue and pool is given."""

    queue: str | None
    pool: str | None
    without: str | None
    nodes: list[Seat]
    names: list[Place]


class Among(NamedTuple):
    """Those among whom names are spread: the nodes that serve a queue, or the members of a pool."""

    members: Members
    ring: Ring
    queue: str | None
    pool: str | None

    @property
    def nobody(self) -> str:
        return f"no node serves queue {self.queue!r}" if self.pool is None else f"no member is in pool {self.pool!r}"

    def look(self, names: Sequence[str], without: str | None) -> Seen:
        """What the ring says of the names now, and of the time after one has left."""
        rest = Ring({id: weight for id, weight in self.ring.weights.items() if id != without})
        seats = [self._seat(member, rest, without) for member in self.members.values()]
        return Seen(self.queue, self.pool, without, seats, [self._place(name, rest, without) for name in names])

    def _seat(self, member: Member, rest: Ring, without: str | None) -> Seat:
        then = None if without is None else rest.share(member.id) if member.id != without else 0.0
        weight, share = self.ring.weights[member.id], self.ring.share(member.id)
        return Seat(member.id, member.host, member.pid, weight, share, then)

    def _place(self, name: str, rest: Ring, without: str | None) -> Place:
        ranked = self.ring.ranked(name)[:RANKS]
        owner = ranked[0] if ranked else None
        if without is None:
            return Place(name, owner, ranked, None, None)
        return Place(name, owner, ranked, owner == without, rest.owner(name) if rest.weights else None)

    def one(self, beginning: str) -> str:
        """The id that begins so. Raises ClickException if none does, or several do."""
        found = [id for id in self.members if id.startswith(beginning)]
        if not found:
            there = f"there are {', '.join(id[:8] for id in self.members)}" if self.members else self.nobody
            raise click.ClickException(f"no id begins with {beginning!r} here: {there}")
        if len(found) > 1:
            raise click.ClickException(f"{counted(len(found), 'id')} begin with {beginning!r}: {', '.join(found)}")
        return found[0]


@click.command("ring", short_help="Which node owns a name, and what moves if one leaves.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@queue_option(f"Among the nodes that serve this queue.  [default: {DEFAULT_QUEUE}]")
@click.option("--without", metavar="NODE", help="Say what would move if this node left: its id, or how that begins.")
@click.option("--pool", metavar="POOL", help="Among the members of this NodePool, which meet at --url.")
@click.option(
    "--driver", type=click.Choice(DRIVERS), help="By which driver they meet.  [default: etcd at http://, else redis]"
)
@json_option
@OPTIONS[0]
@OPTIONS[1]
@OPTIONS[2]
def command(
    url: str | None, namespace: str | None, target: str | None, queue: str | None, pool: str | None, driver: str | None,
    **wanted: Any,
) -> None:  # fmt: skip
    """The node that each NAME belongs to, and who takes it over next.

    NAMEs are ids of schedules with placement="ring", or with --pool those of jobs of a Cron. Without any: the part of the
    names that each node has.
    """
    if pool is None:
        if driver is not None:
            raise click.UsageError("--driver is that of a pool: say which with --pool")
        _among_nodes(url, namespace, target, queue=queue, **wanted)
        return
    for option, given in (("--queue", queue), ("--scheduler", target)):
        if given is not None:
            raise click.UsageError(f"a pool has nothing to do with {option}: leave it out, or --pool")
    with asked():
        found = _driver(pool, driver, url, make_config({"namespace": namespace}).namespace)
        asyncio.run(_among_members(found, pool, **wanted))


@with_store()
async def _among_nodes(scheduler: Scheduler, queue: str | None, **wanted: Any) -> None:
    if queue is not None:
        await known_queues(scheduler, queue)
    queue = queue or DEFAULT_QUEUE
    nodes = nodes_of(await scheduler.connected_store.registry())
    ring = ring_of(nodes, queue)
    members = {node.id: Member(node.id, node.host, node.pid) for node in nodes if node.id in ring.weights}
    _show(Among(members, ring, queue, None), **wanted)


async def _among_members(driver: Driver, pool: str, **wanted: Any) -> None:
    try:
        members = await driver.look()
    except StoreUnavailable as error:
        raise click.ClickException(f"{error}; is it running, and is --url (or DULY_URL) right?") from error
    finally:
        await driver.stop()
    ring = Ring({id: member.weight for id, member in members.items()})
    _show(Among(members, ring, None, pool), **wanted)


def _driver(pool: str, kind: str | None, url: str | None, namespace: str) -> Driver:
    """Where the members of a pool meet; not started. Raises InvalidURL; ConfigurationError if a library is not installed."""
    urls = resolve_urls(url)
    if kind == "etcd" or (kind is None and urls[0].startswith(("http://", "https://"))):
        return _etcd(urls, pool, namespace)
    from duly.cluster.redis import RedisDriver, RedisZsetDriver

    if len(urls) > 1 or not urlsplit(urls[0]).scheme.startswith(("redis", "valkey")):
        raise InvalidURL(
            f"no pool meets at {', '.join(map(masked, urls))}: give --url (or DULY_URL) of one Redis, or of etcd"
        )
    return (RedisZsetDriver if kind == "redis-zset" else RedisDriver)(urls[0], pool=pool, namespace=namespace)


def _etcd(urls: Sequence[str], pool: str, namespace: str) -> Driver:
    """A user and password may stand in the addresses."""
    from duly.cluster.etcd import EtcdDriver

    user, plain = None, []
    for url in urls:
        parts = urlsplit(url)
        if parts.username is not None:
            user = unquote(parts.username), unquote(parts.password or "")
        plain.append(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    return EtcdDriver(plain, pool=pool, namespace=namespace, user=user)


def _show(among: Among, names: Sequence[str], without: str | None, json: bool) -> None:
    seen = among.look(names, among.one(without) if without is not None else None)
    if json:
        show_json(seen)
    elif names:
        _show_names(seen, among)
    else:
        _show_shares(seen, among)


def _shown(id: str | None) -> str:
    return "nobody" if id is None else id[:8]


def _show_names(seen: Seen, among: Among) -> None:
    there = among.members
    columns = [
        Column("name", lambda place: place.name, kind="id"),
        Column("owner", lambda place: _shown(place.owner)),
        Column("host", lambda place: there[place.owner].host if place.owner else "", 2, kind="text"),
        Column("pid", lambda place: there[place.owner].pid if place.owner else "", 3, right=True),
        Column("next", lambda place: ", ".join(map(_shown, place.ranked[1:])), 1),
    ]
    note = "" if there else among.nobody
    if seen.without is not None:
        columns.append(Column("moves to", lambda place: _shown(place.to) if place.moves else ""))
        moving = sum(bool(place.moves) for place in seen.names)
        note = f"{moving:,} of {counted(len(seen.names), 'name')} would move if {seen.without[:8]} left"
    show_table(seen.names, columns, note=note)


def _show_shares(seen: Seen, among: Among) -> None:
    columns = [
        Column("node", lambda seat: seat.id[:8]),
        Column("host", lambda seat: seat.host, 1, kind="text"),
        Column("pid", lambda seat: seat.pid, 2, right=True),
        Column("weight", lambda seat: f"{seat.weight:g}" if seen.pool is not None else "", 3, right=True),
        Column("share", lambda seat: percent(seat.share), right=True),
    ]
    if seen.without is not None:
        columns.append(Column(f"without {seen.without[:8]}", lambda seat: _later(seat, seen.without), right=True))
    note = "nobody would be left" if seen.without is not None and len(seen.nodes) == 1 else ""
    show_table(seen.nodes, columns, among.nobody, note)


def _later(seat: Seat, without: str | None) -> str:
    if seat.id == without or seat.then is None:
        return "leaves"
    return f"{percent(seat.then)} (+{percent(seat.then - seat.share)})"
