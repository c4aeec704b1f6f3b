"""Recurring work of one shard: `base.Schedules`; with the sequences of the design's model."""

from __future__ import annotations

from duly.testing.conformance.fires import FireSuite
from duly.testing.conformance.puts import PutSuite
from duly.testing.conformance.ticks import TickSuite


class SchedulesSuite(PutSuite, FireSuite, TickSuite):
    """put, schedules, due, fire, steer."""
