"""All key names, built here and nowhere else: every key of a shard carries one hash tag, so it lives in one slot."""

from __future__ import annotations

PENDING = tuple(f"pending:{p}" for p in range(4))

SHARD = (
    "jobs", "pending", "leased", "running", "attempts", "control", "errors", "progress", "dead", "ended", "unique",
    "clients", "claims", "schedules", "ticks", "meta", "history", "ticklog", "wake",
)  # fmt: skip
"""The names of all keys of a shard, without those of results."""


class ShardKeys:
    """The keys of one queue: `{namespace:queue}:name`."""

    def __init__(self, namespace: str, queue: str) -> None:
        self.prefix = f"{{{namespace}:{queue}}}:"

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


def lock(namespace: str, name: str) -> str:
    """The key of a lock, in a slot of its own."""
    return f"{{{namespace}:lock:{name}}}"
