"""A whole cluster in one seeded event loop with virtual time: the product's own code, misfortunes, and a judge.

    report = simulate(seed=42)
    assert not report.faults, report.text()

The same seed gives the same run, event for event.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from duly.identity import names_from
from duly.stores.base import Store
from duly.testing.loop import StuckLoop, virtual_loop
from duly.testing.simulation.network import StoreClock
from duly.testing.simulation.stores import empty_store
from duly.testing.simulation.world import World

Event = tuple[float, str, str, Any, Any]


class Report(msgspec.Struct):
    """What came of one seed. faults: sentences; empty if every promise was kept. jobs: how many there were."""

    seed: int
    store: str
    faults: list[str]
    events: list[Event]
    jobs: int
    seconds: float

    def lines(self, last: int | None = None) -> list[str]:
        """The events, or the last ones, as text."""
        events = self.events if last is None else self.events[-last:]
        return [_line(*event) for event in events]


def _line(at: float, who: str, what: str, given: Any, answer: Any) -> str:
    words = f"{at:11.6f} {who:<6} {what}"
    return f"{words} {given!r} -> {answer!r}" if given or answer else words


def simulate(seed: int, store: str = "memory", url: str = "") -> Report:
    """Play one seed over an empty store. url: of the Redis server to be used for it, all of whose data is deleted."""

    return play(seed, store, lambda clock: empty_store(store, clock, url))


def play(seed: int, name: str, empty: Callable[[StoreClock], AbstractContextManager[Store]]) -> Report:
    """Play one seed over the store that `empty` opens on the clock that it is given."""
    state = random.getstate()
    random.seed(seed)
    try:
        with names_from(random.Random(seed).randbytes), virtual_loop() as loop:
            clock = StoreClock(loop)
            with empty(clock) as store:
                world = World(seed, loop, clock, store)
                try:
                    loop.run_until_complete(world.run())
                except StuckLoop as error:
                    world.oracle.fault(str(error))
            faults = world.oracle.faults + [f"nobody heard: {failure}" for failure in loop.failures]
            return Report(seed, name, faults, world.trace, len(world.oracle.accounts), loop.now)
    finally:
        random.setstate(state)
