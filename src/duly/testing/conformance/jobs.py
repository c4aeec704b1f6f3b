"""The path of a job through one shard, when nothing goes wrong: `base.Jobs`."""

from __future__ import annotations

from duly.testing.conformance.claim import ClaimSuite
from duly.testing.conformance.enqueue import EnqueueSuite
from duly.testing.conformance.idle import IdleSuite
from duly.testing.conformance.kept import KeptSuite
from duly.testing.conformance.settle import SettleSuite
from duly.testing.conformance.wait import WaitSuite


class JobsSuite(EnqueueSuite, ClaimSuite, IdleSuite, SettleSuite, KeptSuite, WaitSuite):
    """enqueue, claim, start, renew, settle, wait."""
