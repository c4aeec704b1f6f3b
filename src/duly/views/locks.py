"""Locks as people look at them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from duly.stores.capabilities import LockRecord


class HolderView(msgspec.Struct, frozen=True):
    """Who holds one place of a lock. until: when that ends by itself, in epoch seconds."""

    owner: str
    fence: int
    until: float


class LockView(msgspec.Struct, frozen=True):
    """A lock that is held, or one of several places: by how many, who waits for it, and the first of its holders."""

    name: str
    held: int
    waiting: int
    holders: Sequence[HolderView]


class LockPage(msgspec.Struct, frozen=True):
    """cursor: for the next page, empty if there is none. is_known: whether the store can say which locks are held."""

    locks: Sequence[LockView]
    cursor: str
    now: float
    is_known: bool = True


def view(record: LockRecord) -> LockView:
    """The record, its moments in seconds."""
    holders = [HolderView(place.owner, place.fence, place.until / 1000) for place in record.places]
    return LockView(record.name, record.held, record.waiting, holders)
