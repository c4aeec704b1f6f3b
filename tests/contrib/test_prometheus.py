"""What Prometheus is told: names and figures, read back by its client library's own parsers."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from duly import Retry, Scheduler, every
from duly.contrib.prometheus import BOUNDS, NodeCollector, cluster_metrics
from duly.core.measures import bounds
from duly.errors import ConfigurationError
from duly.version import __version__
from tests.schedulers import running
from tests.waiting import eventually

NASTY = 'a "task"\\ of <mine> é'


def value(families: dict[str, Metric], sample: str, **labels: str) -> float | None:
    """The one sample of that name and at least these labels; None if there is none."""
    found = [
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


def read(scheduler: Scheduler, *, as_openmetrics: bool = False) -> dict[str, Metric]:
    registry = CollectorRegistry()
    registry.register(NodeCollector(scheduler))
    if as_openmetrics:
        return {one.name: one for one in parse_openmetrics(openmetrics.generate_latest(registry).decode())}
    return {one.name: one for one in parse(generate_latest(registry).decode())}


@pytest.mark.parametrize("as_openmetrics", [False, True])
async def test_what_a_node_has_counted_is_read_back(as_openmetrics: bool) -> None:
    scheduler = Scheduler("memory://", concurrency=7)

    @scheduler.task(name=NASTY)
    async def work() -> None: ...

    @scheduler.task(retry=Retry(limit=1, delay=0))
    async def bad() -> None:
        raise ValueError

    def now() -> dict[str, Metric]:
        return read(scheduler, as_openmetrics=as_openmetrics)

    async with running(scheduler):
        for _ in range(3):
            await work.push()
        await bad.push()
        await eventually(lambda: value(now(), "duly_jobs_ended_total", task="bad", outcome="dead") == 1)
        await eventually(lambda: value(now(), "duly_jobs_ended_total", task=NASTY, outcome="succeeded") == 3)
        found = now()
    place = {"queue": "default", "task": NASTY}
    assert value(found, "duly_jobs_started_total", **place) == 3
    assert value(found, "duly_jobs_ended_total", task="bad", outcome="failed") == 1
    assert value(found, "duly_jobs_started_total", task="bad") == 2
    for histogram in ("duly_job_run_seconds", "duly_job_lateness_seconds"):
        assert value(found, f"{histogram}_count", **place) == 3
        assert value(found, f"{histogram}_bucket", **place, le="+Inf") == 3
        buckets = [
            one.value
            for one in found[histogram].samples
            if one.name.endswith("_bucket") and one.labels["task"] == NASTY
        ]
        assert buckets == sorted(buckets)
        assert len(buckets) == len(BOUNDS) + 1
    assert (value(found, "duly_slots"), value(found, "duly_slots_busy")) == (7, 0)
    assert value(found, "duly_build_info", version=__version__) == 1


async def test_a_time_is_counted_below_each_bound_that_it_does_not_reach() -> None:
    scheduler = Scheduler("memory://")
    async with running(scheduler):
        assert scheduler._node is not None
        assert scheduler._node.worker.meter is not None
        tally = scheduler._node.worker.meter.of("default")["t"]
        for took in (0.000_5, 0.001_5, 3.0, 100_000.0):
            tally.note(took, 0, 0)
        found = read(scheduler)
    steps = {"0.001024": 1, "0.002048": 2, "2.097152": 2, "4.194304": 3, "4294.967296": 3, "+Inf": 4}
    for le, n in steps.items():
        assert value(found, "duly_job_run_seconds_bucket", task="t", le=le) == n, le
    assert value(found, "duly_job_run_seconds_sum", task="t") == pytest.approx(100_003.002)
    assert value(found, "duly_job_lateness_seconds_count", task="t") == 0


def test_each_bound_of_a_histogram_is_one_of_a_bucket() -> None:
    edges = {bounds(bucket)[1] for bucket in range(156)}
    assert set(BOUNDS) <= edges


async def test_a_scheduler_that_does_not_run_says_only_what_it_is() -> None:
    scheduler = Scheduler("memory://")
    assert list(read(scheduler)) == ["duly_build_info"]
    quiet = Scheduler("memory://", measures=False)
    async with running(quiet):
        assert sorted(read(quiet)) == ["duly_build_info", "duly_slots", "duly_slots_busy"]


async def test_the_cluster_is_read_back(store_url: str) -> None:
    scheduler = Scheduler(store_url, queues=["default", "mail"])

    @scheduler.task
    async def work() -> None: ...

    async with running(scheduler):
        scheduler.stop_executing()
        await scheduler.push("work", queue="mail", delay=100)
        await scheduler.push("work", queue="mail", delay=100)
        await scheduler.schedules.put("s", every(hours=1), "work")
        await scheduler.queues.pause("mail")
        await scheduler.queues.limit("mail", 5)
        found = {one.name: one for one in parse((await cluster_metrics(scheduler)).decode())}
    for state, n in {"pending": 2, "leased": 0, "dead": 0}.items():
        assert value(found, "duly_queue_jobs", queue="mail", state=state) == n
    assert [value(found, "duly_queue_paused", queue=queue) for queue in ("mail", "default")] == [1, 0]
    assert [value(found, "duly_queue_limit", queue=queue) for queue in ("mail", "default")] == [5, None]
    assert [value(found, "duly_queue_nodes", queue=queue) for queue in ("mail", "default")] == [1, 1]
    assert value(found, "duly_queue_schedules", queue="default") == 1
    assert (value(found, "duly_nodes"), value(found, "duly_nodes_slots")) == (1, 100)


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refusing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ModuleNotFoundError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "duly.contrib.prometheus")
    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(ConfigurationError, match=r"pip install 'duly\[prometheus\]'"):
        import duly.contrib.prometheus  # noqa: F401
