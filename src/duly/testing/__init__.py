"""What those who test with duly, or test a store of their own, can use."""

from __future__ import annotations

from duly.testing.clock import ManualClock
from duly.testing.faults import Faults, FaultyStore
from duly.testing.harness import Harness, HarnessNode
from duly.testing.in_place import EagerJob, eager
from duly.testing.loop import StuckLoop, VirtualLoop, run
from duly.testing.recording import Pushed, PushedJob, recorded

__all__ = [
    "EagerJob",
    "Faults",
    "FaultyStore",
    "Harness",
    "HarnessNode",
    "ManualClock",
    "Pushed",
    "PushedJob",
    "StuckLoop",
    "VirtualLoop",
    "eager",
    "recorded",
    "run",
]
