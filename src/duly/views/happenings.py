"""What the history stream tells: what happened in a queue, and to one job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

Entry = tuple[str, Mapping[str, str]]
"""The id of the entry, which begins with its time in ms, and its fields."""


class Happening(msgspec.Struct, frozen=True):
    """One call of a client or node. at: epoch seconds. verb: enqueue, claim, settle or fire. ids: the first 16."""

    at: float
    verb: str
    who: str
    count: int
    ids: tuple[str, ...]


def happenings(entries: Iterable[Entry]) -> list[Happening]:
    """The entries, in their order."""
    return [
        Happening(
            int(entry.partition("-")[0]) / 1000, fields["verb"], fields["who"], int(fields["count"]),
            tuple(fields["ids"].split()),
        )
        for entry, fields in entries
    ]  # fmt: skip


def of_job(all_: Iterable[Happening], id: str) -> list[Happening]:
    """Those that name the job."""
    return [one for one in all_ if id in one.ids]
