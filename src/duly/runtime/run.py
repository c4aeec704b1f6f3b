"""One run: a claimed job on this node, from its admission until its settlement is answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from duly.core.codec import Envelope
from duly.core.job import Claimed, Policy
from duly.core.measures import Tally

if TYPE_CHECKING:
    from duly.runtime.handler import Handler
    from duly.runtime.line import Line

CancelReason = Literal["timeout", "asked", "taken", "stop"]


class Run(msgspec.Struct, eq=False):
    """The facts of a run. Owned by the event loop of its line; the heartbeat thread reads it. began, took: when its handler was
    called (monotonic), and for how many seconds; None if it was not. tally: where it is counted, if it is."""

    line: Line
    job: Claimed
    fence: int
    now: int
    lease: int
    envelope: Envelope
    handler: Handler
    policy: Policy
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    cancel_reason: CancelReason | None = None
    children: list[Any] = []
    deadline: float | None = None
    progress: bytes | None = None
    settling: bool = False
    started: bool = False
    suspect: bool = False
    is_over: bool = False
    holds_slot: bool = True
    tally: Tally | None = None
    began: float | None = None
    took: float | None = None
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def queue(self) -> str:
        return self.line.queue

    @property
    def node(self) -> str:
        """The name of the node that this is."""
        return self.line.worker.node

    @property
    def state(self) -> Any:
        """What the scheduler's `lifespan` yielded."""
        return self.line.worker.state

    def report(self, progress: bytes) -> None:
        """Send packed progress with a renewal, soon."""
        self.progress = progress
        self.line.worker.nudge()
