"""The pushes of a run: a client beside the nodes, with its own way to the store, and what it was answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from duly import Scheduler
from duly.errors import PushUncertain, StoreError
from tests.chaos.checker import Pushed

TURN = 0.25  # seconds between two handfuls
SHORT: Mapping[str, float] = {"quick": 12, "once": 5, "failing": 2, "parent": 2, "thread": 2}
LASTING: Mapping[str, float] = {"long": 0.9, "blocking": 0.06}
"""Task -> weight; the weights of those that last for leases are for a lease of two seconds."""


class Load:
    """Pushes `rate` jobs a second, of all kinds, until it is cancelled."""

    def __init__(self, client: Scheduler, seed: int, rate: float, lease: float) -> None:
        self.client, self.rate = client, rate
        self.pushed: list[Pushed] = []
        self._chance = random.Random(seed)
        weights = {**SHORT, **{task: weight * 2 / lease for task, weight in LASTING.items()}}
        self._tasks, self._weights = list(weights), list(weights.values())

    async def push_for_ever(self) -> None:
        while True:
            tasks = self._chance.choices(self._tasks, self._weights, k=max(1, round(self.rate * TURN)))
            await asyncio.gather(*(self._push(task) for task in tasks))
            await asyncio.sleep(TURN)

    async def _push(self, task: str) -> None:
        delay = self._chance.choice([0, 0, 0, self._chance.uniform(0, 3)])
        request = self.client.request(task, remote=True, delay=delay, priority=self._chance.randrange(4))
        answer = "uncertain"  # also if this push is cancelled
        try:
            await self.client.push_request(request)
            answer = "accepted"
        except PushUncertain:
            pass
        except StoreError:
            answer = "refused"
        finally:
            self.pushed.append(Pushed(request.new.id, task, answer))
