"""Where a walk through several queues stands: the queue, and the store's own cursor in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from duly.errors import DulyError, InvalidOption, StoreError


def read_cursor(cursor: str, names: Sequence[str]) -> tuple[str | None, str]:
    """(the queue a walk stands in, its cursor there); a queue that is gone is passed over."""
    if not cursor:
        return (names[0] if names else None), ""
    name, _, inner = cursor.partition("\n")
    if name in names:
        return name, inner
    return next((other for other in names if other > name), None), ""


def write_cursor(name: str | None, inner: str) -> str:
    """The cursor of a walk that stands there; empty if it is over."""
    return "" if name is None else f"{name}\n{inner}"


@contextlib.contextmanager
def reading(cursor: str) -> Iterator[None]:
    """Around the call with a store's cursor: one that no store has given is no fault of the store. Raises InvalidOption."""
    try:
        yield
    except (DulyError, ValueError, OverflowError, LookupError) as error:
        is_plain = type(error) is StoreError or not isinstance(error, DulyError)
        if not cursor or not is_plain:
            raise
        raise InvalidOption(f"cursor={cursor[:100]!r}: give that of the page before") from None
