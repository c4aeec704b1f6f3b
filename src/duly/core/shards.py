"""Where the jobs and schedules of a queue live: its shards, and which of them an id belongs to. Pure.

A queue lies on every server of the list, in as many partitions on each as it was declared with; each such place is a
shard. An id falls into one of SLOTS slots, by its hash, and each slot belongs to one shard (`core.ring`). What belongs
together carries the same slot: the ticks of a schedule have the schedule's, and an id that is made for a unique key, or
for the child of a job, ends with `~` and the two characters of the slot it has to have.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import msgspec

from duly.core.job import NewJob
from duly.core.ring import hash64, owner

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SLOTS = len(DIGITS) ** 2
ALGORITHM = f"rendezvous-blake2b-{SLOTS}"
MOST_SHARDS = 256
"""Of one queue: a node waits on each of them."""
_OF_SCHEDULE = re.compile(r"(.+)(?:[@#]-?\d{9,}|![0-9A-Za-z]{16,}(?:~..)?)", re.DOTALL)
"""The ids of ticks, backfills and manual triggers."""
_VALUE = {digit: value for value, digit in enumerate(DIGITS)}


class Place(NamedTuple):
    """One shard of a queue: which partition of it, on which server of the list."""

    queue: str
    partition: int = 0
    server: int = 0

    @property
    def name(self) -> str:
        """As `Store.shard` takes it: the queue's name; for others than the first, what no queue's name can be."""
        if self.server:
            return f"{self.queue}{{{self.partition}@{self.server}}}"
        return f"{self.queue}{{{self.partition}}}" if self.partition else self.queue

    @property
    def shown(self) -> str:
        """As people read it: `mail`, `mail:3`, `mail on server 1`, `mail:3 on server 1`."""
        return (f"{self.queue}:{self.partition}" if self.partition else self.queue) + (
            f" on server {self.server}" if self.server else ""
        )


def place_of(name: str) -> Place:
    """The place that a name says."""
    queue, brace, rest = name.partition("{")
    if not brace:
        return Place(queue)
    partition, _, server = rest.rstrip("}").partition("@")
    return Place(queue, int(partition), int(server or 0))


# slots


def slot_of_key(key: str) -> int:
    """The slot of a unique key, or of a schedule's id."""
    return hash64(key) % SLOTS


def slot_of(id: str) -> int:
    """The slot of a job."""
    if id[-3:-2] == "~" and id[-2] in _VALUE and id[-1] in _VALUE:
        return _VALUE[id[-2]] * len(DIGITS) + _VALUE[id[-1]]
    made = _OF_SCHEDULE.fullmatch(id)
    return slot_of_key(made[1] if made else id)


def with_slot(id: str, slot: int) -> str:
    """An id that has this slot."""
    return f"{id}~{DIGITS[slot // len(DIGITS)]}{DIGITS[slot % len(DIGITS)]}"


def slot_of_job(job: NewJob) -> int:
    """The slot that a job is pushed to: that of its unique key, else of its id."""
    return slot_of(job.id) if job.unique is None else slot_of_key(job.unique.key)


class Spread:
    """The places of one queue, and to which of them each slot belongs."""

    def __init__(self, queue: str, servers: int, partitions: int) -> None:
        self.places = tuple(Place(queue, p, s) for s in range(servers) for p in range(partitions))
        self._owners = _owners(servers, partitions) if len(self.places) > 1 else None

    def place(self, slot: int) -> Place:
        """The place that a slot belongs to."""
        return self.places[self._owners[slot]] if self._owners is not None else self.places[0]


@functools.lru_cache(maxsize=64)
def _owners(servers: int, partitions: int) -> tuple[int, ...]:
    names = {f"{p}@{s}": s * partitions + p for s in range(servers) for p in range(partitions)}
    return tuple(names[owner(str(slot), names)] for slot in range(SLOTS))


class Former(msgspec.Struct, frozen=True):
    """The lists as they were before a change. until: 0 while things are moved; then the moment (ms) up to which something
    that outlives its job may still be known there: an id that has ended, a key held for a time, a result."""

    servers: int
    partitions: dict[str, int]
    until: int = 0


class ShardMap(msgspec.Struct, frozen=True):
    """How many servers there are, and partitions of each queue that has more than one; one per namespace, on the master.

    epoch: grows with each change of where things belong. was: the former lists that matter, the last change's at the end.
    """

    epoch: int = 0
    servers: int = 1
    partitions: dict[str, int] = {}
    was: tuple[Former, ...] = ()
    algorithm: str = ALGORITHM

    @property
    def is_moving(self) -> bool:
        """Whether things may lie where they do not belong any more."""
        return any(not former.until for former in self.was)

    def former(self, queue: str) -> list[Spread]:
        """Where it lay before, the last first, if something of it may still be there."""
        before = dict.fromkeys((former.servers, former.partitions.get(queue, 1)) for former in reversed(self.was))
        before.pop((self.servers, self.partitions.get(queue, 1)), None)
        return [Spread(queue, *each) for each in before]


encode = msgspec.json.Encoder(order="sorted").encode
decode = msgspec.json.Decoder(ShardMap).decode
