"""What is done to the cluster, and when: drawn by a seed, so that the same plan can be played again.

Real processes do not repeat themselves; the plan does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

STORE = "store"
CALL_TIMEOUT = 5.0  # seconds: so long a node waits on a connection that went silent
STARTED_WITHIN = 3.0  # seconds that a node needs until it serves, here on a busy machine

REDIS: Mapping[str, int] = {
    "kill": 7,
    "stop": 4,
    "restart": 3,
    "away": 2,
    "cut": 3,
    "hole": 3,
    "deaf": 1,
    "slow": 1,
    "shift": 2,
}
FAILOVER: Mapping[str, int] = {"kill": 7, "stop": 4, "restart": 3, "failover": 3}
SEVERAL: Mapping[str, int] = {"kill": 7, "stop": 4, "restart": 3, "away": 5}
SQLITE: Mapping[str, int] = {"kill": 7, "stop": 4, "restart": 3, "locked": 2}
JUMPS: Mapping[str, int] = {"kill": 4, "restart": 2, "jump": 3}
"""Kind -> weight, for each case."""
OF_THE_STORE = ("away", "locked", "jump", "failover")


@dataclass(frozen=True)
class Step:
    """One trouble to make. at: seconds from the start. seconds: how long. amount: by how much, where that is asked."""

    at: float
    kind: str
    target: str
    seconds: float = 0.0
    amount: float = 0.0


def make_plan(seed: int, seconds: float, nodes: list[str], lease: float, kinds: Mapping[str, int]) -> list[Step]:
    """Troubles over that time, one in two leases or so. A node has one at a time, and one node at least has none.

    Those of the store have three leases between them: a store that flaps may cost a live run its lease (DESIGN §4).
    """
    chance = random.Random(seed)
    free_at = dict.fromkeys([*nodes, STORE], 0.0)
    plan: list[Step] = []
    at = 0.0
    while (at := at + lease * chance.uniform(0.3, 3.7)) < seconds:
        kind = chance.choices(list(kinds), list(kinds.values()))[0]
        free = [name for name in nodes if free_at[name] <= at]
        targets = [STORE] if kind in OF_THE_STORE else free
        if free_at[targets[0] if targets else STORE] > at or (kind not in OF_THE_STORE and len(free) < 2):
            continue
        target = chance.choice(targets)
        step = Step(round(at, 2), kind, target, *_measures(kind, lease, chance))
        plan.append(step)
        rest = 3 * lease + 2 if target == STORE else STARTED_WITHIN
        free_at[target] = at + step.seconds + rest
    return plan


def _measures(kind: str, lease: float, chance: random.Random) -> tuple[float, float]:
    """(how long, by how much) of a trouble."""
    least, most = {
        "kill": (0.0, 0.5),
        "stop": (0.5, 2.0),
        "away": (0.1, 1.5),
        "failover": (0.0, 1.0),
        "locked": (0.3, 1.5),
        "hole": (0.3, 2.0),
        "slow": (1.0, 2.0),
    }.get(kind, (0.0, 0.0))
    seconds = round(lease * chance.uniform(least, most), 2)
    if kind == "deaf":
        seconds = CALL_TIMEOUT
    amount = {
        "slow": chance.uniform(0.02, lease / 20),
        "shift": chance.choice([-1, 1]) * chance.uniform(60, 3600),
        "jump": chance.choice([-1.5, lease / 2, 2 * lease, 30.0]),
    }.get(kind, 0.0)
    return seconds, round(amount, 3)
