"""What those who test with duly, or test a store of their own, can use."""

from __future__ import annotations

from duly.testing.clock import ManualClock

__all__ = ["ManualClock"]
