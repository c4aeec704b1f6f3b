"""Why a job is where it is: each reason from its facts, and the facts from every store."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from duly import Context, Retry, Scheduler, Snooze, every
from duly.clock import SYSTEM_CLOCK
from duly.core import codec
from duly.core.codec import Origin
from duly.core.job import Hold, NewJob, make_options
from duly.core.retry import DEFAULT_RETRY
from duly.errors import StoreRefused, StoreUnavailable
from duly.runtime.handler import Handler
from duly.runtime.loop import Backoff
from duly.runtime.node import MOST_NAMES, NodeRecord
from duly.stores.base import JobRecord, Registry, Sizes
from duly.stores.capabilities import AHEAD_MOST, Ahead
from duly.stores.redis.keys import ShardKeys
from duly.stores.redis.store import RedisStore
from duly.stores.sqlite.store import SqliteStore
from duly.testing import Harness
from duly.testing.conformance.kit import Client, job
from duly.testing.faults import FaultyStore
from duly.views import why
from duly.views.why import NOT_KNOWN, Facts, Reason, claimed_per_second, reasons, retries_of, sentence
from tests.schedulers import running, shared
from tests.waiting import eventually

NOW = 1_000_000_000_000
TTL = 45_000
NODE = NodeRecord("n1", "box", 17, "1", "", ("default",), (), 5, 0, ttl=TTL, tasks=("send",))
BODY = codec.encode("send", (1,))


def facts(
    state: str | None = "pending", *, nodes: Sequence[NodeRecord] = (NODE,), silent: int = 0, **given: Any
) -> Facts:
    """A job `x` of queue `default`, due since a second, of task `send`, and all that is known of it."""
    of_facts = {name: given.pop(name) for name in list(given) if name in Facts.__struct_fields__}
    of_sizes = {name: given.pop(name) for name in list(given) if name in Sizes.__struct_fields__}
    record = None
    if state is not None:
        given = {"body": BODY, "enqueued_at": NOW - 9_000, "at": NOW - 1_000, **given}
        record = JobRecord("x", state, **given)  # type: ignore[arg-type]
    packed = {node.id: msgspec.msgpack.encode(node) for node in nodes}
    registry = Registry(NOW, packed, ["default"], {node.id: NOW + TTL - silent for node in nodes})
    sizes = Sizes(NOW, **{"pending": 1, **of_sizes})
    return Facts(id="x", queue="default", record=record, sizes=sizes, registry=registry, **of_facts)


def said(*args: Any, **given: Any) -> list[str]:
    return [reason.code for reason in reasons(facts(*args, **given))]


def one(code: str, *args: Any, **given: Any) -> Reason:
    """The reason of this code."""
    (found,) = [reason for reason in reasons(facts(*args, **given)) if reason.code == code]
    return found


# --- from facts to reasons -------------------------------------------------------------------------------------------


def test_a_job_that_is_not_known() -> None:
    (found,) = reasons(facts(None))
    assert found.code == "unknown"
    assert "'default' knows no job 'x'" in found.text


def test_an_end_is_remembered_for_a_time() -> None:
    found = one("ended", "ended", at=NOW + 59_000, body=b"")
    assert (found.text, found.until) == ("it has ended; its id is remembered for 59 s more", (NOW + 59_000) / 1000)
    assert one("ended", "ended", at=0, body=b"").text == "it has ended"


def test_a_death_has_a_reason_and_a_moment() -> None:
    found = one("dead", "dead", at=NOW - 5_000, reason="failed: ValueError: no", attempts=4)
    assert (found.text, found.since) == ("it is dead: failed: ValueError: no", (NOW - 5_000) / 1000)
    assert said("dead", reason="lost: its node vanished", attempts=1, crashes=1) == ["dead"]


def test_a_job_that_is_not_due_says_until_when_absolutely_and_relatively() -> None:
    found = one("not_due", at=NOW + 200_000)
    assert found.text.startswith("it is due in 3 m 20 s (20")
    assert found.until == (NOW + 200_000) / 1000
    assert said(at=NOW + 200_000) == ["not_due"]
    assert said(at=NOW) == ["next"]


def test_what_will_hold_a_job_when_it_is_due_is_told_too() -> None:
    found = reasons(facts(at=NOW + 200_000, paused=True, nodes=()))
    assert [reason.code for reason in found] == ["not_due", "paused", "no_node"]
    assert sentence(found) == "; ".join(reason.text for reason in found)


def test_a_retry_says_when_and_because_of_what_and_how_often() -> None:
    given = {"at": NOW + 5_000, "attempts": 2, "reason": "ValueError: no"}
    found = one("retry", retries=3, **given)
    assert found.text.startswith("it is run again in 5 s (")
    assert found.text.endswith("attempt 3 of 4 (failed 2 times, last: ValueError: no)")
    assert (found.attempt, found.attempts, found.until) == (3, 4, (NOW + 5_000) / 1000)
    for retries in (None, NOT_KNOWN, 1):  # no limit; not known here; fewer here than there
        found = one("retry", retries=retries, **given)
        assert ("attempt 3 (" in found.text, found.attempts) == (True, None)
    assert said(retries=3, **given) == ["retry"]
    assert said(retries=3, **{**given, "at": NOW}) == ["next", "failed"]


def test_a_job_that_was_put_back_says_why() -> None:
    found = one("put_back", at=NOW + 5_000, reason="the shop is closed")
    assert found.text.endswith(": the shop is closed")
    assert found.until == (NOW + 5_000) / 1000


def test_a_pause_is_told_with_its_beginning_if_it_is_known() -> None:
    found = one("paused", paused=True, paused_since=NOW - 60_000)
    assert found.text.startswith("queue 'default' is paused, since 1 m ago (")
    assert found.since == (NOW - 60_000) / 1000
    assert one("paused", paused=True).text == "queue 'default' is paused"
    assert said(paused=True, pending=9, ahead=Ahead(8)) == ["paused"]


def test_a_queue_that_no_live_node_serves() -> None:
    assert one("no_node", nodes=()).text == "no live node serves queue 'default'"
    other = msgspec.structs.replace(NODE, queues=("mail",))
    assert one("no_node", nodes=(other,)).text == "no live node serves queue 'default'; 1 node for other queues"
    assert said(nodes=()) == ["no_node"]


def test_a_task_that_no_live_node_has() -> None:
    other = msgspec.structs.replace(NODE, id="n2", tasks=("print",))
    found = one("unknown_task", nodes=(other,))
    assert found.text == "no live node that serves queue 'default' has a task 'send', by their last beats"
    assert found.task == "send"
    assert said(nodes=(other,)) == ["unknown_task"]
    assert said(nodes=(other, NODE)) == ["next"]
    elsewhere = msgspec.structs.replace(NODE, queues=("mail",))
    assert said(nodes=(other, elsewhere)) == ["unknown_task"]


@pytest.mark.parametrize("tasks", [None, ("*",), ("a", "*")])
def test_a_node_that_may_have_the_task_is_not_said_to_lack_it(tasks: tuple[str, ...] | None) -> None:
    assert said(nodes=(msgspec.structs.replace(NODE, tasks=tasks),)) == ["next"]


def test_tasks_that_every_node_has_are_never_unknown() -> None:
    assert said(body=codec.encode("duly:forward", ())) == ["next"]


def test_an_unfit_job_says_what_nodes_said() -> None:
    found = one("unfit", unfit_since=NOW - 30_000, reason="no task 'send' is declared on this node", at=NOW + 2_000)
    assert found.text == "nodes that took it could not run it: no task 'send' is declared on this node; again in 2.0 s"
    assert (found.since, found.until) == ((NOW - 30_000) / 1000, (NOW + 2_000) / 1000)
    lacking = msgspec.structs.replace(NODE, tasks=())
    assert said(unfit_since=NOW - 30_000, reason="no", nodes=(lacking,)) == ["unfit", "unknown_task"]
    assert said(unfit_since=NOW - 30_000, reason="no", paused=True) == ["paused", "unfit"]


def test_a_suspect_waits_for_another() -> None:
    found = one("isolated", reason="waits for y, which may crash its node too", crashes=2, at=NOW + 400)
    assert found.text == "it waits for y, which may crash its node too: a node runs one such job at a time"
    assert said(reason="waits for y, which may crash its node too", crashes=2) == ["isolated", "crashed"]


def test_a_limit_that_is_reached() -> None:
    found = one("limit", limit=2, leased=2)
    assert (found.text, found.limit) == ("queue 'default' runs its limit of 2 jobs", 2)
    assert said(limit=2, leased=2) == ["limit"]
    assert said(limit=2, leased=1) == ["next"]


def test_nodes_without_a_free_slot() -> None:
    busy = msgspec.structs.replace(NODE, running=5)
    assert one("busy", nodes=(busy,)).text == "all 5 slots of the node that serves it are busy, by the last beats"
    two = (busy, msgspec.structs.replace(busy, id="n2"))
    assert one("busy", nodes=two).text == "all 10 slots of the 2 nodes that serve it are busy, by the last beats"
    assert said(nodes=(busy,)) == ["busy"]
    assert said(nodes=(busy, msgspec.structs.replace(NODE, id="n2"))) == ["next"]


def test_a_job_that_waits_behind_others_says_how_many_and_how_fast_they_go() -> None:
    found = one("behind", ahead=Ahead(1_234), rate=12.345)
    assert found.text == "it is due, behind 1,234 others, of which 12.3 are claimed in a second"
    assert (found.jobs, found.rate, found.at_least, found.at_most) == (1_234, 12.345, False, False)
    assert one("behind", ahead=Ahead(1)).text == "it is due, behind 1 other"
    assert one("behind", ahead=Ahead(AHEAD_MOST, True)).text == "it is due, behind at least 10,000 others"
    unknown = one("behind", pending=5)
    assert (unknown.text, unknown.at_most) == ("it is due, behind at most 4 others", True)
    assert said(ahead=Ahead(3), limit=2, leased=2) == ["limit", "behind"]


def test_a_job_that_is_held_says_by_whom_and_until_when_and_since() -> None:
    found = one("held", "leased", node="n1", fence=(NOW - 30_000) * 1000, at=NOW + 8_500)
    assert found.text == "node n1 runs it, its lease ends in 8.5 s (pid 17 on box, for 30 s)"
    assert (found.node, found.host, found.pid) == ("n1", "box", 17)
    assert (found.since, found.until) == ((NOW - 30_000) / 1000, (NOW + 8_500) / 1000)
    assert said("leased", node="n1", at=NOW + 8_500, attempts=1, reason="no", crashes=1) == [
        "held",
        "failed",
        "crashed",
    ]


def test_a_fence_from_a_clock_that_was_ahead_is_no_moment() -> None:
    found = one("held", "leased", node="n1", fence=(NOW + 1) * 1000, at=NOW + 8_500)
    assert (found.since, found.text) == (None, "node n1 runs it, its lease ends in 8.5 s (pid 17 on box)")


def test_a_cancel_that_was_asked_is_told() -> None:
    assert said("leased", node="n1", at=NOW + 8_500, cancel_asked=True) == ["held", "cancel_asked"]


def test_a_lease_that_is_over_waits_for_a_claim() -> None:
    found = one("lease_over", "leased", node="n1", at=NOW - 2_000)
    assert found.text == "the lease of node n1 ended 2.0 s ago (pid 17 on box): the next claim takes it over"
    assert said("leased", node="gone", at=NOW - 2_000, nodes=()) == ["lease_over", "no_node", "node_gone"]


def test_a_holder_that_is_not_there_any_more() -> None:
    assert said("leased", node="gone", at=NOW + 2_000) == ["held", "node_gone"]


def test_a_holder_that_missed_a_beat() -> None:
    found = one("node_silent", "leased", node="n1", at=NOW + 2_000, silent=31_000)
    assert found.text == "that node has not beaten for 31 s"
    assert (found.node, found.since) == ("n1", (NOW - 31_000) / 1000)
    assert said("leased", node="n1", at=NOW + 2_000, silent=29_000) == ["held"]


def test_a_job_on_its_way_to_another_shard() -> None:
    assert said("leased", node="duly:move", at=4_102_444_800_000) == ["moving"]


def test_of_a_queue_in_several_shards_it_is_told_where_it_lies() -> None:
    found = one("place", place="mail:3")
    assert (found.text, found.place) == ("it lies in mail:3", "mail:3")
    assert one("place", place="mail:3", is_misplaced=True).text.endswith("it will be moved")
    assert said() == ["next"]


def test_a_tick_says_of_which_schedule_and_moment_it_is() -> None:
    body = codec.encode("send", (), origin=Origin("nightly", NOW - 2_000))
    found = one("tick", body=body)
    assert found.text.startswith("it is the tick of schedule 'nightly' for 2 s ago (")
    assert (found.schedule, found.since) == ("nightly", (NOW - 2_000) / 1000)
    assert said("dead", reason="no", body=body) == ["dead", "tick"]


def test_what_tells_nothing_of_the_cause_is_not_in_the_sentence() -> None:
    body = codec.encode("send", (), origin=Origin("nightly", NOW - 2_000))
    assert (
        sentence(reasons(facts(body=body, attempts=1, crashes=1, place="mail:3")))
        == "it is due, and the next to be claimed"
    )


@pytest.mark.parametrize("body", [b"", b"\x63\x00??", codec.HEADER + b"\xc1"])
def test_an_envelope_that_cannot_be_read_keeps_no_reason_away(body: bytes) -> None:
    assert said(body=body) == ["next"]
    assert said(body=body, at=NOW + 5_000) == ["not_due"]


def test_nodes_of_a_newer_duly_keep_no_reason_away() -> None:
    known = facts()
    strange = msgspec.structs.replace(known, registry=msgspec.structs.replace(known.registry, nodes={"n1": b"\xc1"}))
    assert [reason.code for reason in reasons(strange)] == ["next"]


def test_the_rate_is_that_of_the_claims_of_the_last_seconds() -> None:
    def entries(*claims: tuple[int, int], verb: str = "claim") -> list[tuple[str, dict[str, str]]]:
        return [(f"{NOW - ago}-0", {"verb": verb, "count": str(count)}) for ago, count in claims]

    assert claimed_per_second(entries((8_000, 30), (4_000, 50)), NOW) == 10
    assert claimed_per_second(entries((10, 30)), NOW) == 30  # a single one says little: at least a second is taken
    assert claimed_per_second(entries((8_000, 30), verb="settle"), NOW) is None
    assert claimed_per_second([], NOW) is None
    many = entries(*((8_000 - n, 10) for n in range(why.RATE_ENTRIES)))  # there are more behind these
    assert claimed_per_second(many, NOW) == pytest.approx(10 * 1000, rel=0.01)


def test_how_often_a_job_is_retried_is_said_by_its_push_or_its_declaration() -> None:
    def retries(task: dict[str, Any] | None, push: dict[str, Any] | None) -> int | None:
        options = codec.pack_options(make_options(push)) if push else None
        handler = None if task is None else Handler("send", lambda: None, make_options(task))
        return retries_of(codec.decode(codec.encode("send", (), options=options)), handler)

    assert retries(None, None) == NOT_KNOWN
    assert retries(None, {"timeout": 5}) == NOT_KNOWN
    assert retries(None, {"retry": 7}) == 7
    assert retries(None, {"delivery": "at_most_once"}) == 0
    assert retries({}, None) == DEFAULT_RETRY.limit
    assert retries({"retry": 5}, {"timeout": 5}) == 5
    assert retries({"retry": 5}, {"retry": 7}) == 7
    assert retries({"retry_timeout": 5}, None) is None


# --- from stores to facts --------------------------------------------------------------------------------------------


@pytest.fixture
async def scheduler(store_url: str) -> AsyncIterator[Scheduler]:
    async with Scheduler(shared(store_url)) as scheduler:
        yield scheduler


async def codes(scheduler: Scheduler, id: str, queue: str = "default") -> list[str]:
    return [reason.code for reason in await scheduler.jobs.reasons(id, queue=queue)]


async def first(scheduler: Scheduler, id: str, queue: str = "default") -> Reason:
    return (await scheduler.jobs.reasons(id, queue=queue))[0]


async def has_node(scheduler: Scheduler) -> None:
    """A node that serves the queue is alive, and claims nothing."""
    await scheduler.store.beat(NODE.id, msgspec.msgpack.encode(NODE), TTL, ["default"])


async def test_what_waits_says_why_on_every_store(scheduler: Scheduler) -> None:
    for id, delay in (("a", 0), ("b", 0), ("later", 60)):
        await scheduler.push("work", id=id, delay=delay, remote=True)
    assert await codes(scheduler, "a") == ["no_node"]
    later = await first(scheduler, "later")
    assert later.code == "not_due"
    assert later.until is not None
    assert abs(later.until - SYSTEM_CLOCK.epoch_us() / 1e6 - 60) < 30
    await scheduler.queues.pause()
    paused = await first(scheduler, "a")
    assert (paused.code, await codes(scheduler, "later")) == ("paused", ["not_due", "paused", "no_node"])
    assert paused.since is not None
    assert abs(paused.since - SYSTEM_CLOCK.epoch_us() / 1e6) < 30
    assert await codes(scheduler, "nobody") == ["unknown"]


async def test_how_many_come_before_it_is_counted_on_every_store(scheduler: Scheduler) -> None:
    await has_node(scheduler)
    await scheduler.push_many(scheduler.request("send", remote=True) for _ in range(20))
    await scheduler.push("send", id="low", priority=3, remote=True)
    await scheduler.push("send", id="high", priority=0, remote=True)
    # of jobs that are due in the same millisecond, the order of their ids decides
    await scheduler.push_many(scheduler.request("send", id=f"m{n}", priority=3, remote=True) for n in range(5))
    assert await codes(scheduler, "high") == ["next"]
    behind = await first(scheduler, "low")
    assert (behind.code, behind.jobs, behind.at_least, behind.at_most) == ("behind", 21, False, False)


async def test_how_fast_jobs_go_is_told_on_every_store(scheduler: Scheduler) -> None:
    await has_node(scheduler)
    shard = scheduler.store.shard("default")
    await Client(shard).push(*(job(f"j{n:02}", body=BODY) for n in range(30)))
    for n in range(1, 4):
        await shard.claim("other", n, 5, 10_000, 10_000)
    behind = await first(scheduler, "j29")
    assert (behind.code, behind.jobs) == ("behind", 14)
    assert behind.rate is not None
    assert 0.1 < behind.rate <= 15


async def test_what_runs_says_where_and_since_when_on_every_store(scheduler: Scheduler) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @scheduler.task
    async def hold() -> None:
        begun.set()
        await go_on.wait()

    async with running(scheduler):
        held = await hold.push()
        await begun.wait()
        reason = await first(scheduler, held.id)
        assert scheduler._node is not None
        assert (reason.code, reason.node) == ("held", scheduler._node.id)
        assert (reason.host, reason.pid) == (socket.gethostname(), os.getpid())
        assert reason.since is not None
        assert reason.until is not None
        assert 0 <= reason.until - reason.since < 60
        go_on.set()


async def test_nodes_publish_the_names_of_their_tasks(scheduler: Scheduler) -> None:
    scheduler.task(name="send", aliases=["post"])(lambda: None)
    client = await scheduler.push("send", id="known", delay=60)
    await scheduler.push("print", id="strange", delay=60, remote=True)
    async with running(scheduler):
        (record,) = why.nodes_of(await scheduler.store.registry())
        assert record.tasks == ("post", "send")
        assert await codes(scheduler, client.id) == ["not_due"]
        strange = (await scheduler.jobs.reasons("strange"))[1]
        assert (strange.code, strange.task) == ("unknown_task", "print")


async def test_a_node_whose_tasks_have_very_long_names_does_not_name_them() -> None:
    scheduler = Scheduler("memory://")
    names = [f"task{n:04}-" + "x" * 91 for n in range(MOST_NAMES // 100)]
    for name in [*names, "one"]:
        scheduler.bind(name, lambda: None)
    async with running(scheduler):
        (record,) = why.nodes_of(await scheduler.store.registry())
        assert record.tasks is None
        scheduler.unbind("one")
        assert scheduler._node is not None
        assert sorted(msgspec.msgpack.decode(scheduler._node.record(), type=NodeRecord).tasks or ()) == names


async def test_what_failed_says_which_attempt_comes_on_every_store(scheduler: Scheduler) -> None:
    @scheduler.task(retry=Retry(limit=4, delay=60))
    async def work() -> None:
        raise ValueError("no")

    @scheduler.task
    async def doze() -> None:
        raise Snooze(60, "the shop is closed")

    async with running(scheduler):
        failed, snoozed = await work.push(), await doze.push()

        async def is_told() -> bool:
            return (await codes(scheduler, failed.id), await codes(scheduler, snoozed.id)) == (["retry"], ["put_back"])

        await eventually(is_told)
        reason = await first(scheduler, failed.id)
        assert (reason.attempt, reason.attempts) == (2, 5)
        assert "ValueError: no" in reason.text
        assert (await first(scheduler, snoozed.id)).text.endswith("the shop is closed")


async def test_what_is_over_says_how_on_every_store(scheduler: Scheduler) -> None:
    scheduler.bind("bad", lambda: 1 / 0, retry=False)
    scheduler.bind("good", lambda: None)
    async with running(scheduler):
        await scheduler.push("bad", id="bad")
        await scheduler.push("good", id="good")

        async def is_told() -> bool:
            return (await codes(scheduler, "bad"), await codes(scheduler, "good")) == (["dead"], ["ended"])

        await eventually(is_told)
        good = await first(scheduler, "good")
        assert good.until is not None
        assert abs(good.until - SYSTEM_CLOCK.epoch_us() / 1e6 - scheduler.config.remember) < 30


async def test_a_tick_names_its_schedule_on_every_store(scheduler: Scheduler) -> None:
    await scheduler.schedules.put("nightly", every(hours=1), "work", remote=True)
    id = await scheduler.schedules.trigger("nightly")
    reason = (await scheduler.jobs.reasons(id))[-1]
    assert (reason.code, reason.schedule) == ("tick", "nightly")


async def test_who_holds_a_unique_key_is_told_on_every_store(scheduler: Scheduler) -> None:
    await scheduler.push("work", id="a", unique="k", delay=60, remote=True)
    other = await scheduler.push("work", id="b", unique="k", remote=True)
    assert (other.id, other.answer) == ("a", "pending")
    assert await scheduler.jobs.holder("k") == ("pending", "a")
    found = await scheduler.jobs.reasons_of_key("k")
    assert [reason.code for reason in found] == ["key_taken", "not_due", "no_node"]
    assert found[0].text == "unique key 'k' of queue 'default' is taken by job 'a', which waits"
    assert found[0].job == "a"
    assert await scheduler.jobs.holder("free") is None
    assert await scheduler.jobs.reasons_of_key("free") == []


async def test_a_store_that_tells_less_is_asked_for_less() -> None:
    scheduler = Scheduler("memory://")
    scheduler.store = FaultyStore(scheduler.store, random.Random(1))
    async with scheduler:
        for id in "abc":
            await scheduler.push("send", id=id, remote=True)
        await has_node(scheduler)
        behind = await first(scheduler, "a")
        assert (behind.code, behind.jobs, behind.at_most) == ("behind", 2, True)
        with pytest.raises(StoreRefused, match="does not tell who holds a unique key"):
            await scheduler.jobs.holder("k")


async def test_a_suspect_that_waits_beside_another_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "pause", lambda self: 0.0)
    scheduler = Scheduler("memory://", queues=("default", "other"))

    @scheduler.task(max_crashes=2)
    async def look(ctx: Context) -> None:
        if ctx.crashes == 0:
            harness.nodes[0].crash()
            await asyncio.Event().wait()

    async def lost(*_: object) -> None:
        raise StoreUnavailable("on purpose")

    async with Harness(scheduler) as harness:
        await look.push()
        beside = await look.options(queue="other").push()
        await harness.nodes[0].tick()
        node = harness.node()
        shard: Any = node._node.worker.lines[0].shard
        settle, shard.settle = shard.settle, lost  # the first one's end is not known to the store
        seen: set[str] = set()
        for _ in range(40):
            harness.clock.advance(0.5)
            await node.tick()
            seen.update(await codes(scheduler, beside.id, "other"))
        shard.settle = settle
        await harness.advance(5)
    assert seen >= {"isolated", "crashed"}


# --- several shards --------------------------------------------------------------------------------------------------


async def test_of_a_queue_with_partitions_the_shard_is_told_in_which_a_job_lies(redis_url: str) -> None:
    scheduler = Scheduler(redis_url)
    scheduler.queue("mail", partitions=3)
    async with scheduler:
        ids = [(await scheduler.push("work", queue="mail", remote=True, delay=60)).id for _ in range(12)]
        keyed = await scheduler.push("work", queue="mail", id="named", unique="k", remote=True, delay=60)
        spread = scheduler.shards.spread("mail")
        shown = {place.shown for place in spread.places}
        found = [(await scheduler.jobs.reasons(id, queue="mail"))[-1] for id in [*ids, keyed.id]]
        assert {reason.code for reason in found} == {"place"}
        assert {reason.place for reason in found} == shown
        for reason, id in zip(found, [*ids, keyed.id], strict=True):
            (place,) = [place for place in spread.places if place.shown == reason.place]
            assert (await scheduler.shards.at(place).get([id]))[0] is not None
        assert await scheduler.jobs.holder("k", queue="mail") == ("pending", "named")


async def test_what_is_on_its_way_to_another_shard_says_so(redis_url: str) -> None:
    scheduler = Scheduler(redis_url)
    scheduler.queue("mail", partitions=2)
    async with scheduler:
        id = (await scheduler.push("work", queue="mail", remote=True)).id
        here, there = scheduler.shards.spread("mail").places
        for place, target in ((here, there), (there, here)):
            shard: Any = scheduler.shards.at(place)
            if (await shard.get([id]))[0] is not None:
                assert await shard.depart(target.name, "mover", [id]) is not None
        assert (await codes(scheduler, id, "mail"))[0] == "moving"


# --- the stores' own counting ----------------------------------------------------------------------------------------


async def test_sqlite_counts_no_more_than_so_many(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duly.stores.sqlite.care.AHEAD_MOST", 10)
    store = SqliteStore(tmp_path / "duly.db")
    await store.connect()
    shard = store.shard("default")
    await Client(shard).push(*(job(f"j{n:02}", priority=n % 2) for n in range(24)))
    found = [await shard.ahead(f"j{n:02}") for n in (18, 20, 22, 1, 23)]
    assert found == [Ahead(9), Ahead(10), Ahead(10, True), Ahead(10, True), Ahead(10, True)]
    await store.close()


@pytest.mark.parametrize("namespace", ["a*", "[x]", "what?", "back\\slash"])
async def test_locks_of_other_namespaces_are_not_listed(redis_url: str, namespace: str) -> None:
    mine, others = (
        RedisStore(redis_url, namespace),
        [RedisStore(redis_url, other) for other in ("ab", "x", "whatx", "a")],
    )
    for store in (mine, *others):
        await store.connect()
        await store.lock("report", "one", 10_000)
    found = (await mine.locks("", 1_000)).items
    assert [(record.name, record.held) for record in found] == [("report", 1)]
    for store in (mine, *others):
        await store.close()


async def test_listing_locks_writes_nothing(redis_server: Any, redis_url: str) -> None:
    store = RedisStore(redis_url)
    await store.connect()
    await store.lock("report", "one", 10_000)
    await Client(store.shard("default")).push(NewJob("a", b"", unique=Hold("k")))
    with redis_server.client() as client:
        before = client.info("persistence")["rdb_changes_since_last_save"]
        await store.locks("", 100)
        await store.shard("default").ahead("a")
        await store.shard("default").holder("k")
        assert client.info("persistence")["rdb_changes_since_last_save"] == before
    await store.close()


async def test_of_a_pause_by_an_older_duly_the_beginning_is_not_known(redis_server: Any, redis_url: str) -> None:
    async with Scheduler(redis_url) as scheduler:
        await scheduler.push("work", id="a", remote=True)
        await scheduler.queues.pause()
        with redis_server.client() as client:
            assert client.hdel(ShardKeys("duly", "default").key("meta"), "paused_at") == 1
        paused = await first(scheduler, "a")
        assert (paused.code, paused.since, paused.text) == ("paused", None, "queue 'default' is paused")


async def test_a_holder_whose_fence_was_evicted_is_listed_without_it(redis_server: Any, redis_url: str) -> None:
    store = RedisStore(redis_url)
    await store.connect()
    await store.lock("report", "one", 10_000)
    with redis_server.client() as client:
        assert client.delete("{duly:lock:report}") == 1
    (record,) = (await store.locks("", 1_000)).items
    assert [(place.owner, place.fence) for place in record.places] == [("one", 0)]
    await store.close()
