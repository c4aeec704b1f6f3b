"""Metrics for Prometheus: of the node in this process, and of the whole cluster.

    from prometheus_client import REGISTRY
    from duly.contrib.prometheus import NodeCollector

    REGISTRY.register(NodeCollector(scheduler))

Nothing is done on a job's path beyond what the node counts anyway (`measures`); figures are made when they are asked for.
The bounds of the histograms are bounds of the node's buckets, powers of two of a microsecond, so that nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from duly.core.measures import ENDS, bounds
from duly.errors import ConfigurationError
from duly.monitor import Monitor
from duly.version import __version__
from duly.views.listings import Overview

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ConfigurationError("metrics need prometheus-client: pip install 'duly[prometheus]'") from error

if TYPE_CHECKING:
    from duly.runtime.meter import Meter
    from duly.scheduler import Scheduler

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `cluster_metrics` returns."""
BOUNDS = tuple(1 << bits for bits in range(10, 33))
"""Of the histograms, in µs: from a millisecond to 72 minutes, each twice the one before."""
LABELS = ("queue", "task")


class NodeCollector(Collector):
    """What the node of a scheduler has counted, for a registry. While it is not started, only what it is."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        """All figures as they are now. From any thread."""
        yield InfoMetricFamily("duly_build", "The duly that runs here.", {"version": __version__})
        node = self._scheduler._node
        if node is None:
            return
        worker = node.worker
        yield GaugeMetricFamily("duly_slots", "Jobs that this node runs at once, at most.", worker.slots.count)
        yield GaugeMetricFamily("duly_slots_busy", "Slots that jobs have.", worker.busy)
        if worker.meter is not None:
            yield from _of_runs(worker.meter)


def _of_runs(meter: Meter) -> Iterator[Metric]:
    started = CounterMetricFamily("duly_jobs_started", "Runs that began.", labels=LABELS)
    ended = CounterMetricFamily("duly_jobs_ended", "What became of jobs.", labels=(*LABELS, "outcome"))
    ran = HistogramMetricFamily("duly_job_run_seconds", "How long runs took.", labels=LABELS)
    late = HistogramMetricFamily("duly_job_lateness_seconds", "From the due time to the claim.", labels=LABELS)
    for queue, task, tally in meter.tallies():
        place = (queue, task)
        started.add_metric(place, tally.started)
        for end in ENDS:
            ended.add_metric((*place, end), tally.ends[end])
        ran.add_metric(place, _cumulated(tally.ran), tally.ran_us / 1_000_000)
        late.add_metric(place, _cumulated(tally.late), tally.late_us / 1_000_000)
    yield from (started, ended, ran, late)


def _cumulated(buckets: Sequence[int]) -> list[tuple[str, float]]:
    """(bound in seconds, how many are below it); each bound is one of a bucket, too."""
    found, total, bucket = [], 0, 0
    for bound in BOUNDS:
        while bounds(bucket)[1] <= bound:
            total += buckets[bucket]
            bucket += 1
        found.append((repr(bound / 1_000_000), float(total)))
    return [*found, ("+Inf", float(total + sum(buckets[bucket:])))]


class _Fixed(Collector):
    """Figures that were gathered before."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


async def cluster_metrics(scheduler: Scheduler) -> bytes:
    """The whole cluster, as its store knows it, as text of CONTENT_TYPE. Raises StoreError."""
    overview = await Monitor(scheduler).overview()
    registry = CollectorRegistry()
    registry.register(_Fixed(_of_cluster(overview)))
    return generate_latest(registry)


def _of_cluster(overview: Overview) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("duly_queue_jobs", "Jobs of a queue.", labels=("queue", "state"))
    schedules = GaugeMetricFamily("duly_queue_schedules", "Schedules of a queue.", labels=("queue",))
    paused = GaugeMetricFamily("duly_queue_paused", "1 if no node may claim from it.", labels=("queue",))
    limit = GaugeMetricFamily(
        "duly_queue_limit", "Jobs that may run at once; absent without a limit.", labels=("queue",)
    )
    serving = GaugeMetricFamily("duly_queue_nodes", "Live nodes that serve a queue.", labels=("queue",))
    for queue in overview.queues:
        for state in ("pending", "leased", "dead"):
            jobs.add_metric((queue.queue, state), getattr(queue, state))
        schedules.add_metric((queue.queue,), queue.schedules)
        paused.add_metric((queue.queue,), queue.paused)
        if queue.limit is not None:
            limit.add_metric((queue.queue,), queue.limit)
        serving.add_metric((queue.queue,), len(queue.nodes))
    yield from (jobs, schedules, paused, limit, serving)
    yield GaugeMetricFamily("duly_nodes", "Live nodes.", overview.nodes)
    yield GaugeMetricFamily("duly_nodes_slots", "Slots of all live nodes.", overview.slots)
    yield GaugeMetricFamily("duly_nodes_slots_busy", "Those that had a job at their node's last beat.", overview.busy)
    yield InfoMetricFamily("duly_build", "The duly that answers here.", {"version": __version__})
