"""What a worker tells people and programs: log lines and events, said once where saying it often would not help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duly.config import Config
from duly.core.lifecycle import Change
from duly.core.outcome import Ending, Outcome
from duly.runtime.emitter import Emitter
from duly.runtime.run import Run
from duly.stores.base import Batch

if TYPE_CHECKING:
    from duly.runtime.line import Line

QUIET = (Ending.RETURNED, Ending.SNOOZED, Ending.HANDED_BACK, Ending.INTERRUPTED, Ending.ISOLATED)


class Reporter:
    """Logs and emits for one worker."""

    def __init__(self, node: str, config: Config, emitter: Emitter) -> None:
        self.logger, self._emitter = config.logger, emitter
        self._node, self._master = node, config.master
        self._away: dict[int, set[Line]] = {}

    @property
    def listens(self) -> bool:
        """Whether anybody hears events."""
        return bool(self._emitter.listeners)

    @property
    def away(self) -> frozenset[int]:
        """The servers that did not answer when they were last asked."""
        return frozenset(self._away)

    def emit(self, name: str, run: Run, **facts: Any) -> None:
        """An event about a run."""
        if self._emitter.listeners:
            self._emitter.emit(name, id=run.job.id, task=run.envelope.task, queue=run.line.queue, **facts)

    def decided(self, run: Run, outcome: Outcome, change: Change) -> None:
        """A run ended otherwise than well."""
        if outcome.ending in QUIET and change.verb != "dead":
            return
        what = f"{outcome.ending.value}: {outcome.reason}" if outcome.reason else outcome.ending.value
        if change.verb == "dead":
            self.logger.error("job %s (%s) %s; it is dead\n%s", run.job.id, run.envelope.task, what, outcome.trace)
        elif change.verb == "again":
            delay = change.delay / 1000
            self.logger.warning("job %s (%s) %s; again in %.1f s", run.job.id, run.envelope.task, what, delay)
        else:
            self.logger.info("job %s (%s) %s", run.job.id, run.envelope.task, what)

    def taken(self, run: Run, reason: str, what: str) -> None:
        """The lease of a run is another's."""
        self.emit("job.taken", run, reason=reason)
        self.logger.warning("job %s (%s): %s", run.job.id, run.handler.name, what)

    def hung(self, run: Run, count: int) -> None:
        """A thread does not come back; so many do not."""
        self.logger.error(
            "job %s (%s) is over its timeout of %g s; its thread cannot be stopped and keeps a slot until it ends (%d so)",
            run.job.id, run.handler.name, run.policy.timeout, count,
        )  # fmt: skip
        self.emit("node.hung", run, reason="timed out in a thread")

    def took_over(self, line: Line, batch: Batch) -> None:
        """Leases of other nodes had ended, and are this node's now."""
        nodes = sorted({job.before.node[:8] for job in batch.jobs if job.before is not None})
        if nodes:
            count = sum(job.before is not None for job in batch.jobs)
            self.logger.warning(
                "queue %s: took over %d job(s) of node(s) %s", line.place.shown, count, ", ".join(nodes)
            )

    def gap(self, line: Line, batch: Batch) -> None:
        """The store was away, or its clock jumped: ended leases are left alone for a moment."""
        if batch.backwards_ms:
            self.logger.warning("queue %s: the store's clock went back by %d ms", line.place.shown, batch.backwards_ms)
            self._emitter.emit("node.clock", queue=line.queue, backwards_ms=batch.backwards_ms)
        if batch.moved:
            self.logger.warning(
                "queue %s: another process of the server answers than before (a failover, or a restart); what the former "
                "one had not passed on or kept is lost; looking for what that broke",
                line.place.shown,
            )
            self._emitter.emit("node.failover", queue=line.queue, server=line.place.server)
        if batch.gap:
            self.logger.info(
                "queue %s: the store was not called for a while; ended leases wait for their nodes", line.place.shown
            )
            self._emitter.emit("node.gap", queue=line.queue)

    def lost(self, line: Line, error: BaseException) -> None:
        """A server did not answer; said once, until it answers all its queues again. Without the master the node is offline."""
        server = line.place.server
        if server in self._away:
            self._away[server].add(line)
            return
        self._away[server] = {line}
        self.logger.warning("queue %s: %s", line.place.shown, error)
        self._emitter.emit("disconnected", queue=line.queue, server=server, reason=str(error))
        if server == self._master:
            self._emitter.emit("offline", node=self._node, reason=str(error))

    def found(self, line: Line) -> None:
        """The store answers."""
        if not self._away:
            return
        server = line.place.server
        lines = self._away.get(server, set())
        lines.discard(line)
        if lines or server not in self._away:
            return
        del self._away[server]
        self.logger.info("queue %s: the store answers again", line.place.shown)
        self._emitter.emit("reconnected", queue=line.queue, server=server)
        if server == self._master:
            self._emitter.emit("online", node=self._node)
