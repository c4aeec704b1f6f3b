"""Which of the versions of an application's declared schedules is in force while a deploy rolls, and what has gone.

Every live node publishes its manifest. In force is the one first seen last: a node of the old version that starts again in
the middle of a deploy edits nothing, and a rollback takes effect once its version is new to the cluster again, or alone.
What no live manifest of the application declares has gone from its code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec


class Manifest(msgspec.Struct, frozen=True):
    """What a node's code declares. digest: of all definitions. since: epoch ms (store clock) at which a live node first
    had this digest. places: a short digest of each schedule's queue and id."""

    app: str
    digest: str
    since: int
    places: tuple[str, ...] = ()


def place_of(queue: str, id: str) -> str:
    """A schedule in a manifest: 12 hexadecimal digits."""
    return hashlib.blake2b(f"{queue}\0{id}".encode(), digest_size=6).hexdigest()


def make_manifest(app: str, declared: Iterable[tuple[str, str, bytes]], live: Sequence[Manifest], now: int) -> Manifest:
    """The manifest of a node that starts at `now` (store ms) beside `live` ones; declared: (queue, id, definition)."""
    rows = sorted(declared)
    digest = hashlib.blake2b(digest_size=12)
    for queue, id, definition in rows:
        for part in (queue.encode(), id.encode(), definition):
            digest.update(len(part).to_bytes(4) + part)
    known = [other.since for other in live if other.app == app and other.digest == digest.hexdigest()]
    since = min([now, *known])
    return Manifest(app, digest.hexdigest(), since, tuple(place_of(queue, id) for queue, id, _ in rows))


def in_force(mine: Manifest, live: Iterable[Manifest]) -> str:
    """The digest of the manifest in force for the app of `mine`, among its live nodes and mine."""
    return max(_versions(mine, live), key=lambda version: (version.since, version.digest)).digest


def declared_by_any(mine: Manifest, live: Iterable[Manifest]) -> frozenset[str]:
    """The places that a live node of the app of `mine` declares."""
    return frozenset(place for version in _versions(mine, live) for place in version.places)


def _versions(mine: Manifest, live: Iterable[Manifest]) -> list[Manifest]:
    return [mine, *(other for other in live if other.app == mine.app)]
