"""Who serves which slot of a cluster, as its nodes tell it."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from typing import Any

from redis.crc import key_slot

from duly.errors import StoreRefused
from duly.stores.redis.topology import Address, Hosts, survey

SLOTS = 16_384
ASKED = 5
"""Nodes that are asked for the map, chosen anew each time, and as many addresses of the URL: all nodes that were known
may be gone."""


def slot_of(key: str) -> int:
    """The slot of a key: that of its hash tag."""
    slot: int = key_slot(key.encode())
    return slot


class SlotMap:
    """Who serves which slot, from the answer to CLUSTER SLOTS of the node at `asked`."""

    def __init__(self, entries: Sequence[Any], asked: Address) -> None:
        self.slots: list[Address | None] = [None] * SLOTS
        self.masters: list[Address] = []
        self.nodes: set[Address] = set()
        for start, end, *nodes in entries:
            master, *others = [_address(node[0], node[1], asked) for node in nodes]
            self.slots[start : end + 1] = [master] * (end + 1 - start)
            self.nodes.update(address for address in (master, *others) if address is not None)
            if master is not None and master not in self.masters:
                self.masters.append(master)


def _address(host: bytes | None, port: int, asked: Address) -> Address | None:
    """Without a host it is that of the node that was asked; a question mark is a node that does not know its name."""
    return None if host == b"?" else (host.decode() if host else asked[0], port)


async def read_map(hosts: Hosts, known: Collection[Address]) -> SlotMap:
    """The map of the node that has seen the newest epoch, of those who answer. Raises StoreRefused, or what is in LOST."""
    chosen = {
        address for some in (known, hosts.addresses) for address in random.sample(list(some), min(len(some), ASKED))
    }
    servers = {address: hosts.server(address) for address in chosen}
    try:
        answers = await survey(servers, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
    except StoreRefused as error:
        if "cluster support disabled" in str(error):
            raise StoreRefused(f"{hosts.url} is not a cluster: begin the URL with redis:// or rediss://") from None
        raise
    asked, (_, entries) = max(answers.items(), key=lambda answer: _rank(answer[1][0]))
    return SlotMap(entries, asked)


def _rank(info: bytes) -> tuple[bool, int]:
    """How much the map of a node is worth: it takes part, and it has seen that epoch."""
    epoch = re.search(rb"^cluster_current_epoch:(\d+)", info, re.MULTILINE)
    return b"cluster_state:ok" in info, int(epoch[1]) if epoch else 0
