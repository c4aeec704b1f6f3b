"""One run: a claimed job on this node, from its admission until its settlement is answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from duly.core.codec import Envelope
from duly.core.job import Claimed, Policy

if TYPE_CHECKING:
    from duly.runtime.handler import Handler
    from duly.runtime.line import Line

CancelReason = Literal["timeout", "asked", "taken", "stop"]


class Run:  # architecture: a run is created for every job; plain slots and positional arguments are the fast way
    """The facts of a run. Owned by the event loop of its line; the heartbeat thread reads it."""

    __slots__ = (
        "args", "cancel_reason", "children", "deadline", "envelope", "fence", "handler", "holds_slot",
        "is_over", "job", "kwargs", "lease", "line", "now", "policy", "progress", "settling", "started",
        "suspect", "task", "timer",
    )  # fmt: skip

    def __init__(self, line: Line, job: Claimed, fence: int, now: int, lease: int, envelope: Envelope, handler: Handler,
                 policy: Policy) -> None:  # fmt: skip
        self.line, self.job, self.fence, self.now = line, job, fence, now
        self.envelope, self.handler, self.policy = envelope, handler, policy
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.lease = lease
        self.cancel_reason: CancelReason | None = None
        self.children: list[Any] = []
        self.deadline: float | None = None
        self.progress: bytes | None = None
        self.settling = False
        self.started = False
        self.suspect = self.is_over = False
        self.holds_slot = True
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def queue(self) -> str:
        return self.line.queue

    @property
    def state(self) -> Any:
        """What the scheduler's `lifespan` yielded."""
        return self.line.worker.state

    def report(self, progress: bytes) -> None:
        """Send packed progress with a renewal, soon."""
        self.progress = progress
        self.line.worker.nudge()
