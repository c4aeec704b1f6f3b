"""All key names, built here and nowhere else: every key of a shard carries one hash tag, so it lives in one slot."""

from __future__ import annotations

PENDING = tuple(f"pending:{p}" for p in range(4))

SHARD = (
    "jobs", "pending", "leased", "running", "attempts", "control", "errors", "progress", "dead", "ended", "unique",
    "clients", "claims", "schedules", "ticks", "moving", "meta", "history", "ticklog", "wake",
)  # fmt: skip
"""The names of all keys of a shard, without those of results."""


class ShardKeys:
    """The keys of one shard: `{namespace:queue}:name`, of further partitions `{namespace:queue:partition}:name`."""

    def __init__(self, namespace: str, queue: str, partition: int = 0) -> None:
        self.prefix = f"{{{namespace}:{queue}:{partition}}}:" if partition else f"{{{namespace}:{queue}}}:"

    def named(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Full keys for names as the headers of scripts have them; `pending` stands for its four lines."""
        keys: list[str] = []
        for name in names:
            keys.extend(self.prefix + line for line in (PENDING if name == "pending" else (name,)))
        return tuple(keys)

    def key(self, name: str) -> str:
        return self.prefix + name

    def result(self, id: str) -> str:
        return f"{self.prefix}result:{id}"


def registry(namespace: str) -> tuple[str, str]:
    """The keys of the nodes and queues of a namespace, in one slot."""
    return f"{{{namespace}}}:nodes", f"{{{namespace}}}:queues"


def shard_map(namespace: str) -> tuple[str, str]:
    """The keys of the map of shards and of the queues that it is for, in one slot."""
    return f"{{{namespace}}}:shards", f"{{{namespace}}}:queues"


def number(namespace: str) -> str:
    """The key of what a server knows of its place in a list of servers."""
    return f"{{{namespace}}}:number"


def measures(namespace: str, minute: int) -> str:
    """The key of what was counted of runs in a minute; all are in one slot."""
    return f"{{{namespace}}}:measures:{minute}"


def lock(namespace: str, name: str) -> tuple[str, str, str, str]:
    """The keys of a lock, in a slot of their own: its fences, who holds it, who waits for it, until when they wait."""
    key = f"{{{namespace}:lock:{name}}}"
    return key, f"{key}:held", f"{key}:line", f"{key}:waits"


def held_lock(namespace: str) -> tuple[str, str]:
    """What the key of a lock's holders has before and behind the lock's name. It is there as long as the lock is held, or has
    not been asked for since."""
    return f"{{{namespace}:lock:", "}:held"


def lock_call(namespace: str, name: str, owner: str) -> str:
    """The channel on which who waits for a lock is told that it may try."""
    return f"{lock(namespace, name)[0]}:{owner}"


class PoolKeys:
    """The keys of a pool of nodes (`duly.cluster`), all in one slot."""

    def __init__(self, namespace: str, pool: str) -> None:
        self.prefix = f"{{{namespace}:pool:{pool}}}:"
        self.marks = f"{self.prefix}marks"
        self.members = (f"{self.prefix}members", f"{self.prefix}records")

    def member(self, id: str) -> str:
        return f"{self.prefix}member:{id}"

    def tick(self, name: str, moment: int) -> str:
        return f"{self.prefix}tick:{moment}:{name}"
