"""The ports of other systems' examples: each is run as it stands, on a real Redis and without any server.

That of the Rust Distributed Scheduler, which does not end by itself, is in tests/cluster/test_example.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from duly import Scheduler
from tests.examples.programs import run
from tests.topologies import Independent


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis])])
def where(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What is given on the command line: nothing, or the address of a Redis."""
    return (request.getfixturevalue("redis_url"),) if request.param == "redis" else ()


def left_by(where: tuple[str, ...], folder: Path, namespace: str) -> Scheduler:
    """A scheduler that looks at what an example has left in its store."""
    return Scheduler(where or f"sqlite:///{folder}/duly.db", namespace=namespace)


async def fired(scheduler: Scheduler) -> list[int]:
    """The moments of all ticks."""
    page = await scheduler.shard("default").history("ticks", "", 1000)
    return [int(fields["nominal"]) for _, fields in page.items if fields["state"] == "fired"]


QUICKER: Mapping[str, str] = {'"*/10 * * * * *"': '"* * * * * *"', "delay=5": "delay=2.5"}


async def test_dschedule(where: tuple[str, ...], tmp_path: Path) -> None:
    said = run("from_dschedule", tmp_path, *where, instead=QUICKER)
    runs = [line for line in said if re.fullmatch(r"task, in instance (one|two)", line)]
    assert said[0] in runs  # the tick that it waits for
    assert [line for line in said if line not in runs] == ["received im data"]
    async with left_by(where, tmp_path, "from-dschedule") as scheduler:
        moments = await fired(scheduler)
        assert moments == sorted(set(moments)), "a tick was fired twice"
        assert all(moment % 1000 == 0 for moment in moments)
        # One run for each tick, beside the two that were pushed by hand; the last tick may have been cleared.
        assert len(runs) - 2 in (len(moments), len(moments) - 1)
        sizes = await scheduler.queues.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead, sizes.schedules) == (0, 0, 0, 0)


INTERVALS = """\
user:1 is new: True
user:2 is new: True
user:1 is new: False
report is there: True
user:1 is removed: True
user:2 is removed: True
report is removed: True
performing task.. user: 1, type: MyTask
locked for 60 seconds
locked
unlocked: True
executing: False
accepting: False
this scheduler is not accepting tasks: start_accepting() lets it again
cleared: """


async def test_interval_scheduler(where: tuple[str, ...], tmp_path: Path) -> None:
    await intervals(where, tmp_path)


async def test_interval_scheduler_on_several_servers(redis_independent: Independent, tmp_path: Path) -> None:
    where = tuple(redis_independent.url.split())
    await intervals(where, tmp_path)
    kept = [server for server in redis_independent.servers if server.ask("KEYS", "{from-interval-scheduler*lock*")]
    assert kept == redis_independent.servers[:1]  # locks are on the first one


async def intervals(where: tuple[str, ...], folder: Path) -> None:
    said = "\n".join(run("from_interval_scheduler", folder, *where))
    assert said.startswith(INTERVALS)
    assert int(said.removeprefix(INTERVALS)) in (4, 5)  # four schedules, and the run of the last one, if it was due
    async with left_by(where, folder, "from-interval-scheduler") as scheduler:
        assert [schedule.id async for schedule in scheduler.schedules.list()] == []
        assert await scheduler.try_lock("user:2:auto") is None
        assert await scheduler.try_lock("user:3") is not None


async def test_goscheds(where: tuple[str, ...], tmp_path: Path) -> None:
    for _ in range(2):  # an id is free again when its job has ended
        at_once, waits, forward = run("from_goscheds", tmp_path, *where)
        assert re.fullmatch(r"\w{16} executed with {'args': 'can be anything'}", at_once)
        assert waits.startswith("1234: it is due in ")
        assert forward == "1234 executed with {'args': 'can be anything'}"
    async with left_by(where, tmp_path, "namespace") as scheduler:
        sizes = await scheduler.queues.sizes()
        assert (sizes.pending, sizes.leased, sizes.dead) == (0, 0, 0)


SOONER: Mapping[str, str] = {
    "import Context, Scheduler": "import Context, Retry, Scheduler",
    'name="process-payment", ': 'name="process-payment", retry=Retry(limit=3, delay=0.5), ',
}


@pytest.mark.slow
async def test_redis_scheduler(where: tuple[str, ...], tmp_path: Path) -> None:
    """Without a server as it stands; on Redis the payment is tried again sooner."""
    said = run("from_redis_scheduler", tmp_path, *where, instead=SOONER if where else None)
    assert said[:-1] == [
        "email to b@example.org: Hello",
        "the reminder for 42 is cancelled",
        "payment of 9.99: attempt 1",
        "payment of 9.99: attempt 2",
        "subscription of 42",
    ]
    assert said[-1].startswith("it is due in ")
    async with left_by(where, tmp_path, "from-redis-scheduler") as scheduler:
        assert (await scheduler.queues.sizes()).pending == 0
