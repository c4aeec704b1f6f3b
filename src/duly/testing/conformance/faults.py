"""All that may go wrong on the path of a job (DESIGN sections 2 and 4)."""

from __future__ import annotations

from duly.testing.conformance.leases import GapSuite, TakeOverSuite
from duly.testing.conformance.repeats import FenceSuite, RepeatSuite


class FaultsSuite(RepeatSuite, FenceSuite, TakeOverSuite, GapSuite):
    """Lost replies, stale nodes, dead nodes, gaps and clocks."""
