"""Which locks are held: found by SCAN, for giving one writes nothing beside it, and then looked at each in its own slot."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from duly.stores.base import Page
from duly.stores.capabilities import PLACES_SHOWN, LockPlace, LockRecord
from duly.stores.redis import keys
from duly.stores.redis.cluster import ClusterLink
from duly.stores.redis.scripts import script

if TYPE_CHECKING:
    from duly.stores.redis.link import Link

MOST_COUNT = 1_000
"""Keys that the server looks at in one call."""
LOOKS = re.compile(r"([*?\[\]\\])")
"""What means something in a pattern."""


async def page(link: Link | ClusterLink, namespace: str, now: int | bytes, cursor: str, limit: int) -> Page:
    """See `capabilities.ListsLocks`. The cursor is the server's own; on a cluster, behind the address of the master."""
    count = min(limit, MOST_COUNT)
    if not isinstance(link, ClusterLink):
        names, following = await _scan(link, namespace, cursor, count)
        return Page(await _look(link, namespace, now, names), following)
    masters = {"{}:{}".format(*master.address): master for master in await link.masters()}
    address, _, inner = cursor.partition(" ")
    left = [name for name in sorted(masters) if name >= address]
    if not left:
        return Page([])
    names, following = await _scan(masters[left[0]], namespace, inner if left[0] == address else "", count)
    rest = f"{left[0]} {following}" if following else f"{left[1]} " if len(left) > 1 else ""
    return Page(await _look(link, namespace, now, names), rest)


async def _scan(link: Link, namespace: str, cursor: str, count: int) -> tuple[list[str], str]:
    """Names of locks among the next keys, and the cursor behind those."""
    before, after = keys.held_lock(namespace)
    pattern = LOOKS.sub(r"\\\g<0>", before) + "*" + after
    following, found = await link.command(b"SCAN", cursor or "0", b"MATCH", pattern, b"COUNT", count)
    names = {key.decode()[len(before) : -len(after)] for key in found}  # a step may see a key twice
    return sorted(names), "" if following == b"0" else following.decode()


async def _look(link: Link | ClusterLink, namespace: str, now: int | bytes, names: list[str]) -> list[LockRecord]:
    """Those that are held now; the calls travel together."""
    calls = []
    for name in names:
        lock, held, _, waits = keys.lock(namespace, name)
        calls.append(link.call(script("held"), (lock, held, waits), (now, PLACES_SHOWN)))
    answers: list[Any] = list(await asyncio.gather(*calls))
    return [
        LockRecord(name, tuple(_places(flat)), held, waiting)
        for name, (held, waiting, flat) in zip(names, answers, strict=True)
        if held
    ]


def _places(flat: list[bytes]) -> list[LockPlace]:
    return [
        LockPlace(owner.decode(), int(fence), int(float(until)))
        for owner, fence, until in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]
