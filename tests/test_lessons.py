"""What broke in other systems, played with whole clusters in virtual time; docs/guarantees.md says which test is for what."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from duly import Context, Retry, Scheduler, every
from duly.core.trigger import cron
from tests.virtual import Cluster, Mishap, NodeSeat, Seat, played

SECOND = 1_000
LEASE = 3.0
AT_ONCE = Retry(limit=2, delay=0.5, jitter=0)


def contiguous(moments: Iterable[int], step: int) -> bool:
    """Each once, in order, none left out."""
    found = list(moments)
    return len(found) > 1 and all(b - a == step for a, b in itertools.pairwise(found))


class Story:
    """Jobs of every kind, who ran them, and what must have become of each when all is over."""

    def __init__(self) -> None:
        self.runs: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)  # id -> (attempt, crashes) of each run
        self.tasks: dict[str, str] = {}
        self.accepted: dict[str, str] = {}
        self.parents: list[str] = []  # of the children that ran

    def begins(self, ctx: Context) -> None:
        self.runs[ctx.job.id].append((ctx.attempt, ctx.crashes))
        self.tasks[ctx.job.id] = ctx.job.task

    def declare(self, scheduler: Scheduler) -> None:
        @scheduler.task(name="plain")
        async def plain(ctx: Context) -> None:
            self.begins(ctx)
            await asyncio.sleep(LEASE / 2)  # so that its lease is renewed

        @scheduler.task(name="quick")
        async def quick(ctx: Context) -> None:
            self.begins(ctx)

        @scheduler.task(name="once", delivery="at_most_once")
        async def once(ctx: Context) -> None:
            self.begins(ctx)
            await asyncio.sleep(0.3)

        @scheduler.task(name="flaky", retry=AT_ONCE)
        async def flaky(ctx: Context) -> None:
            self.begins(ctx)
            if ctx.attempt < 3:
                raise ValueError("not yet")

        @scheduler.task(name="child")
        async def child(ctx: Context, parent: str) -> None:
            self.begins(ctx)
            self.parents.append(parent)

        @scheduler.task(name="parent")
        async def parent(ctx: Context) -> None:
            self.begins(ctx)
            ctx.push(child, ctx.job.id)
            await asyncio.sleep(0.1)

        @scheduler.cron("*/2 * * * * *", name="tick", catch_up="all", overlap="allow")
        async def tick(ctx: Context) -> None:
            self.begins(ctx)

    async def push(self, scheduler: Scheduler) -> None:
        """One of each kind and a few more; what push has answered for is accepted, in the same breath."""
        for task in ("quick", "once", "flaky", "parent", "plain", "once"):
            self.accepted[(await scheduler.push(task, remote=True)).id] = task
        self.accepted[(await scheduler.push("plain", remote=True, id="named", unique="key")).id] = "plain"
        many = ("once", "plain")
        ids = await scheduler.push_many(scheduler.request(task, remote=True) for task in many)
        self.accepted.update(zip(ids, many, strict=True))

    async def judge(self, cluster: Cluster, *, crashes: int = 0) -> None:
        """crashes: how many nodes died. Nothing lost, nothing doubled but by the promise."""
        ends = cluster.ends()
        assert {id for id in self.accepted if ends[id] != 1} == set(), "lost, or settled twice"
        assert set(ends.values()) == {1}
        for id, runs in self.runs.items():
            task = self.tasks[id]
            attempts = sorted(attempt for attempt, _ in runs)
            assert set(attempts) == set(range(1, 4 if task == "flaky" else 2)), f"{task}: {runs}"
            assert len(runs) <= len(set(attempts)) + (0 if task == "once" else crashes), f"{task}: {runs}"
            assert max(found for _, found in runs) <= crashes, f"{task}: {runs}"
        dead = {id: change for id, change in cluster.applied() if change.verb == "dead"}
        kinds = self.tasks | self.accepted
        assert all(kinds[id] == "once" and change.reason.startswith("lost") for id, change in dead.items())
        assert len(dead) <= 4 * crashes
        assert {id for id, task in self.accepted.items() if task != "once" and id not in self.runs} == set()
        parents = {id for id, task in self.accepted.items() if task == "parent"}
        assert set(self.parents) >= parents
        assert sum(self.tasks[id] == "child" for id in ends if id in self.tasks) == len(set(self.parents))
        assert contiguous(await cluster.fired("tick"), 2 * SECOND)
        for store in ("pending", "leased"):
            assert (await cluster.store.shard("default").list(store, "", 10)).items == []  # type: ignore[arg-type]


# --- one leader decides; N schedulers, N copies ------------------------------------------------------------------------


class Troubled:
    """Nodes that are killed, stopped and restarted."""

    def __init__(self, cluster: Cluster, nodes: list[NodeSeat]) -> None:
        self.cluster, self.nodes = cluster, nodes
        self.well = dict.fromkeys(nodes)
        self.did: Counter[str] = Counter()

    async def trouble(self, node: NodeSeat, what: str, seconds: float) -> None:
        del self.well[node]
        self.did[what] += 1
        if what == "kill":
            node.kill()
            await asyncio.sleep(seconds)
            node.start()
        elif what == "stop":
            node.pause()
            await asyncio.sleep(seconds)
            node.resume()
        else:
            await node.stop()
            node.start()
        self.well[node] = None


@pytest.mark.parametrize("seed", range(4))
def test_nodes_killed_stopped_and_restarted_around_the_ticks_lose_and_double_none(seed: int) -> None:
    ran: Counter[int] = Counter()
    began: Counter[int] = Counter()

    def declare(scheduler: Scheduler) -> None:
        @scheduler.cron("* * * * * *", name="often", catch_up="all", overlap="allow", max_crashes=1_000)
        async def often(ctx: Context) -> None:
            assert ctx.job.nominal is not None
            await asyncio.sleep(0.02)
            ran[round(ctx.job.nominal * 1000)] += 1

        @scheduler.cron("* * * * * *", name="once", catch_up="all", overlap="allow", delivery="at_most_once")
        async def once(ctx: Context) -> None:
            assert ctx.job.nominal is not None
            began[round(ctx.job.nominal * 1000)] += 1
            await asyncio.sleep(0.02)

    async def course(cluster: Cluster) -> None:
        chance = cluster.random
        troubled = Troubled(cluster, [cluster.node(declare, f"n{i}", lease=LEASE) for i in range(4)])
        under_way = []
        for second in range(1, 41):  # the store's clock began at a whole second
            await asyncio.sleep(max(0, second + chance.uniform(-0.03, 0.03) - cluster.loop.now))
            if troubled.well:
                node, what = chance.choice(list(troubled.well)), chance.choice(["kill", "stop", "restart"])
                seconds = LEASE * chance.choice([0.1, 0.6, 2])
                under_way.append(asyncio.ensure_future(troubled.trouble(node, what, seconds)))
        await asyncio.gather(*under_way)
        await asyncio.sleep(2 * LEASE)
        client = await cluster.client()
        for id in ("often", "once"):
            await client.schedules.pause(id)
        await cluster.until_quiet()
        assert set(troubled.did) == {"kill", "stop", "restart"}
        fired = {id: await cluster.fired(id) for id in ("often", "once")}
        assert all(len(moments) >= 40 and contiguous(moments, SECOND) for moments in fired.values())
        assert set(ran) == set(fired["often"])
        assert set(began.values()) == {1}
        ends = cluster.ends()
        assert len(ends) == len(fired["often"]) + len(fired["once"])
        assert set(ends.values()) == {1}
        await client.close()

    played(course, seed)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_of_ten_nodes_with_one_schedule_each_of_a_hundred_ticks_is_run_by_one(kind: str) -> None:
    ran: list[float | None] = []
    nodes_of: set[str] = set()

    def declare(scheduler: Scheduler) -> None:
        @scheduler.cron("* * * * * *", name="tick")
        async def tick(ctx: Context) -> None:
            ran.append(ctx.job.nominal)

    async def course(cluster: Cluster) -> None:
        for number in range(10):
            cluster.node(declare, f"n{number}")
        client = await cluster.client()
        await asyncio.sleep(100.5)
        nodes_of.update((await cluster.store.registry()).nodes)
        await client.schedules.pause("tick")
        await cluster.until_quiet()
        fired = await cluster.fired("tick")
        assert len(fired) == 100
        assert contiguous(fired, SECOND)
        assert sorted(ran) == [moment / 1000 for moment in fired]
        assert len(cluster.applied()) == 100  # no copy came and was put away somehow
        await client.close()

    played(course, kind=kind)
    assert len(nodes_of) == 10


# --- a move in two steps; applied, but the reply was lost --------------------------------------------------------------


def dies_at(k: int, when: str) -> tuple[Mishap, list[int]]:
    """A mishap for a first life: it ends before or after its call number k; and the count of its calls."""
    calls: list[int] = []

    def mishap(seat: Seat, verb: str) -> str | None:
        if seat.lives > 1:
            return None
        calls.append(1)
        return when if len(calls) == k else None

    return mishap, calls


def node_dies(k: int, when: str) -> bool:
    """Play the story with a node that dies at its k-th call, and another instead; False if it never came to that call."""
    story = Story()
    mishap, calls = dies_at(k, when)

    async def course(cluster: Cluster) -> None:
        doomed = cluster.node(story.declare, "doomed", lease=LEASE, mishap=mishap)
        client = await cluster.client()
        await story.push(client)
        await asyncio.sleep(2.5)
        reached = len(calls) >= k
        if doomed.process.is_alive:
            doomed.kill()  # or the next call kills it, a little later
        cluster.node(story.declare, "other", lease=LEASE)
        await asyncio.sleep(3 * LEASE)
        await client.schedules.pause("tick")
        await cluster.until_quiet()
        await story.judge(cluster, crashes=1)
        await client.close()
        if not reached:
            calls.clear()

    played(course, k)
    return bool(calls)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_node_may_die_before_or_after_any_of_its_calls(when: str) -> None:
    deaths = next(k for k in itertools.count(1) if not node_dies(k, when)) - 1
    assert deaths > 25


def client_dies(k: int, when: str) -> bool:
    story = Story()
    mishap, calls = dies_at(k, when)

    async def course(cluster: Cluster) -> None:
        seat = Seat(cluster, "client", 0.0, mishap)

        async def push() -> None:
            async with seat.scheduler() as scheduler:
                await story.push(scheduler)

        task = seat.spawn(push())
        await asyncio.sleep(2)
        assert task.done() or not seat.process.is_alive
        cluster.node(story.declare, "n", lease=LEASE)
        await asyncio.sleep(5)
        client = await cluster.client()
        await client.schedules.pause("tick")
        await cluster.until_quiet()
        if story.accepted:
            await story.judge(cluster)
        assert all(count == 1 for count in cluster.ends().values())
        await client.close()

    played(course, k)
    return len(calls) >= k


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_may_die_before_or_after_any_of_its_calls(when: str) -> None:
    deaths = next(k for k in itertools.count(1) if not client_dies(k, when)) - 1
    assert deaths >= 8


OF_A_NODE = (
    "beat",
    "claim",
    "due",
    "fire",
    "put",
    "registry",
    "renew",
    "schedules",
    "settle",
    "sizes",
    "start",
    "wait",
)
OF_A_CLIENT = ("beat", "enqueue")


async def tell_with_losses(cluster: Cluster, story: Story, mishap: Mishap, mishap_of_client: Mishap) -> None:
    cluster.node(story.declare, "a", lease=LEASE, mishap=mishap)
    await asyncio.sleep(1)
    cluster.node(story.declare, "b", lease=LEASE, mishap=mishap)
    client = await cluster.client(mishap=mishap_of_client)
    await story.push(client)
    await asyncio.sleep(3 * LEASE)
    await client.schedules.pause("tick")
    await cluster.until_quiet()
    await story.judge(cluster)
    await client.close()


def loses(verb: str, times: int) -> tuple[Mishap, list[str]]:
    """Each caller loses its first answers of the verb; and all verbs that were called."""
    lost: Counter[Seat] = Counter()
    called: list[str] = []

    def mishap(seat: Seat, called_verb: str) -> str | None:
        called.append(called_verb)
        if called_verb != verb or lost[seat] >= times:
            return None
        lost[seat] += 1
        return "lost"

    return mishap, called


@pytest.mark.parametrize("verb", OF_A_NODE)
def test_an_answer_lost_by_a_node_costs_nothing_and_doubles_nothing(verb: str) -> None:
    story = Story()
    mishap, called = loses(verb, 3)

    async def course(cluster: Cluster) -> None:
        await tell_with_losses(cluster, story, mishap, lambda seat, verb: None)

    played(course)
    assert verb in called


@pytest.mark.parametrize("verb", OF_A_CLIENT)
def test_an_answer_lost_by_a_client_costs_nothing_and_doubles_nothing(verb: str) -> None:
    story = Story()
    mishap, called = loses(verb, 3)

    async def course(cluster: Cluster) -> None:
        await tell_with_losses(cluster, story, lambda seat, verb: None, mishap)

    played(course)
    assert called.count(verb) >= 4


def test_these_are_all_the_verbs_that_the_story_calls() -> None:
    of_node, of_client = loses("none", 0), loses("none", 0)

    async def course(cluster: Cluster) -> None:
        await tell_with_losses(cluster, Story(), of_node[0], of_client[0])

    played(course)
    assert set(of_node[1]) == set(OF_A_NODE)
    assert set(of_client[1]) >= set(OF_A_CLIENT)  # and those of the pause at the end


# --- an acknowledgement retried with a dead context --------------------------------------------------------------------


@pytest.mark.parametrize("lease", [2.0, 10.0])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_jobs_that_end_while_the_store_is_gone_for_ten_seconds_are_settled_once_each(kind: str, lease: float) -> None:
    runs: Counter[tuple[str, int]] = Counter()
    wrote = 0

    def declare(scheduler: Scheduler) -> None:
        async def work(ctx: Context, seconds: float) -> None:
            runs[ctx.job.id, ctx.crashes] += 1
            await asyncio.sleep(seconds)

        scheduler.bind("work", work, keep_result=True)
        scheduler.bind("once", work, delivery="at_most_once")

    async def course(cluster: Cluster) -> None:
        nonlocal wrote
        client = await cluster.client(declare)
        for name in ("a", "b", "c"):
            cluster.node(declare, name, lease=lease)
        for number in range(30):
            await client.push(("work", "once")[number % 2], 2 + number % 8)  # they end all through the outage
        await asyncio.sleep(1.5)
        assert len(runs) == 30
        cluster.server.is_away = True
        await asyncio.sleep(10)
        assert cluster.applied() == []
        cluster.server.is_away = False
        await cluster.until_quiet(30)
        await asyncio.sleep(3 * lease)  # time enough for a second run
        assert set(cluster.ends().values()) == {1}
        assert [change.verb for _, change in cluster.applied()] == ["end"] * 30
        await client.close()

    for seed in range(5):
        runs.clear()
        played(course, seed, kind)
        assert set(runs.values()) == {1}
        assert {crashes for _, crashes in runs} == {0}


# --- long jobs run twice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_job_of_six_leases_runs_once(kind: str, delivery: str) -> None:
    began: list[int] = []

    def declare(scheduler: Scheduler) -> None:
        async def work(ctx: Context) -> None:
            began.append(ctx.crashes)
            await asyncio.sleep(6 * LEASE)

        scheduler.bind("work", work, delivery=delivery)

    async def course(cluster: Cluster) -> None:
        for name in ("a", "b", "c"):
            cluster.node(declare, name, lease=LEASE)
        client = await cluster.client(declare)
        job = await client.push("work")
        await asyncio.sleep(5.9 * LEASE)
        assert await job.status() == "leased"
        await cluster.until_quiet()
        await asyncio.sleep(2 * LEASE)
        assert began == [0]
        assert [(id, change.verb) for id, change in cluster.applied()] == [(job.id, "end")]
        await client.close()

    played(course, kind=kind)


# --- clock skew --------------------------------------------------------------------------------------------------------


def timeline(skews: tuple[float, ...]) -> list[tuple[int, str]]:
    """When, by the store's clock, which job of which kind began or ended."""
    told: list[tuple[int, str]] = []
    now: Callable[[], int] = lambda: 0  # noqa: E731

    def declare(scheduler: Scheduler) -> None:
        @scheduler.task(name="work", retry=AT_ONCE, timeout=5)
        async def work(ctx: Context, label: str, seconds: float, failures: int) -> None:
            told.append((now(), f"{label} begins, attempt {ctx.attempt}, {ctx.crashes} crashes"))
            if ctx.attempt <= failures:
                raise ValueError(label)
            await asyncio.sleep(seconds)
            told.append((now(), f"{label} ends"))

        @scheduler.cron("*/5 * * * * *", name="tick")
        async def tick(ctx: Context) -> None:
            told.append((now(), f"tick {ctx.job.nominal}"))

    async def course(cluster: Cluster) -> None:
        nonlocal now
        now = lambda: cluster.clock.epoch_us() // 1000  # noqa: E731
        nodes = [cluster.node(declare, f"n{i}", skew=skew, lease=LEASE) for i, skew in enumerate(skews[1:])]
        client = await cluster.client(declare, skew=skews[0])
        await client.push("work", args=("plain", 0.1, 0))
        await client.push("work", args=("delayed", 0.1, 0), delay=12)
        await client.push("work", args=("at a moment", 0.1, 0), at=now() / 1000 + 20)
        await client.push("work", args=("past its time", 0.1, 0), delay=3, expires=1)
        await client.push("work", args=("in time", 0.1, 0), delay=3, expires=60)
        await client.push("work", args=("flaky", 0.1, 2))
        await client.push("work", args=("hangs", 60.0, 0))
        await client.schedules.put("hourly", every(seconds=7), "work", args=("interval", 0.1, 0))
        async with client.lock("l", ttl=5):
            await asyncio.sleep(16)
        nodes[0].kill()
        await asyncio.sleep(30)
        await client.close()

    played(course)
    return told


def test_nodes_and_clients_whose_clocks_are_five_minutes_off_do_the_same_at_the_same_moments() -> None:
    right = timeline((0, 0, 0, 0))
    assert {label.partition(" begins")[0] for _, label in right} > {
        "plain",
        "delayed",
        "at a moment",
        "flaky",
        "interval",
    }
    assert not any(label.startswith("past its time begins") for _, label in right)
    for skews in ((300, -300, 300, 17), (-300, 300, 0, -300), (0, 300, 300, 300)):
        assert timeline(skews) == right


# --- deploys destroy work ----------------------------------------------------------------------------------------------


class Versions:
    """An application before and after a deploy: `old` is gone in the second version, `new` is in it alone."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int, int, int]] = []  # label, version, attempt, crashes

    def declare(self, version: int) -> Callable[[Scheduler], None]:
        def declare(scheduler: Scheduler) -> None:
            async def work(ctx: Context, label: str) -> None:
                await asyncio.sleep(0.05)
                self.runs.append((label, version, ctx.attempt, ctx.crashes))

            for name in ("keep", "old" if version == 1 else "new"):
                scheduler.bind(name, work)
            scheduler.schedule("keep", cron("*/10 * * * * *" if version == 1 else "*/20 * * * * *"), id="declared",
                               args=("declared",))  # fmt: skip

        return declare


def test_through_a_rolling_restart_with_changed_code_unknown_tasks_wait_and_schedules_of_users_go_on() -> None:
    app = Versions()

    async def course(cluster: Cluster) -> None:
        settings: dict[str, Any] = {"lease": LEASE, "app": "shop"}
        nodes = [cluster.node(app.declare(1), f"n{i}", **settings) for i in range(3)]
        client = await cluster.client()
        await asyncio.sleep(1)
        for number in range(5):
            await client.schedules.put(f"user:{number}", every(seconds=1, start=cluster.clock.epoch_us() / 1e6), "keep",
                                       args=(f"user:{number}",), remote=True, catch_up="all", overlap="allow")  # fmt: skip
        pushed = 0
        new = await client.push("new", "new 0", remote=True)
        for index in range(3):
            for _ in range(5):
                pushed += 1
                for name in ("keep", "old", "new"):
                    await client.push(name, f"{name} {pushed}", remote=True)
                await asyncio.sleep(0.4)
            if index == 0:
                assert await new.status() == "pending"  # nobody knows it yet
            await nodes[index].stop()
            nodes[index] = cluster.node(app.declare(2), f"m{index}", **settings)
        late = await client.push("old", "old 99", remote=True)
        await asyncio.sleep(70)  # longer than what is declared no more is kept
        assert await late.status() == "pending"
        assert "old" in await client.jobs.why(late.id)
        views = {view.id: view async for view in client.schedules.list()}
        assert set(views) == {"declared", *(f"user:{n}" for n in range(5))}
        for node in nodes:
            await node.stop()
        cluster.node(app.declare(1), "back", **settings)
        for id in views:
            await client.schedules.pause(id)
        await cluster.until_quiet()
        for number in range(5):
            assert contiguous(await cluster.fired(f"user:{number}"), SECOND)
        ran = Counter(label for label, *_ in app.runs)
        assert {label: ran[label] for label in views} == {id: len(await cluster.fired(id)) for id in views}
        jobs = {label: count for label, count in ran.items() if label not in views}
        assert set(jobs) == {f"{name} {n}" for name in ("keep", "old", "new") for n in range(1, 16)} | {
            "new 0",
            "old 99",
        }
        assert set(jobs.values()) == {1}
        assert {(attempt, crashes) for *_, attempt, crashes in app.runs} == {(1, 0)}
        await client.close()

    played(course)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_job_that_one_of_several_idle_nodes_knows_reaches_that_node_within_three_minutes(kind: str) -> None:
    def knows(*names: str) -> Callable[[Scheduler], None]:
        async def work() -> None: ...

        return lambda scheduler: [scheduler.bind(name, work) for name in names] and None

    async def course(cluster: Cluster) -> None:
        for number in range(3):
            cluster.node(knows("common"), f"n{number}", lease=LEASE)
        client = await cluster.client()
        await asyncio.sleep(1)
        job = await client.push("rare", remote=True)
        await asyncio.sleep(20)  # it is put back for the longest time
        cluster.node(knows("common", "rare"), "knowing", lease=LEASE)
        await cluster.until_quiet(180)  # by chance: half within 8 s, nine of ten within 28 s, all of 500 within 104 s
        assert await job.status() == "ended"
        await client.close()

    for seed in range(6):
        played(course, seed, kind)


# --- silent misfires, unwanted floods ----------------------------------------------------------------------------------

TEN_MINUTES = 600
OUTAGES = {"one tick": 600, "an hour": 3_600, "two weeks": 14 * 86_400}
FIRED_LATE = {"none": (0, 0, 0), "latest": (1, 1, 1), "all": (1, 6, 6)}


@pytest.mark.parametrize(
    ("trigger", "outage", "catch_up"),
    [
        (trigger, *both)
        for trigger, both in zip(itertools.cycle(["cron", "every"]), itertools.product(OUTAGES, FIRED_LATE))
    ],
)
def test_after_an_outage_a_schedule_does_what_its_policy_says_and_counts_what_was_dropped(
    trigger: str, outage: str, catch_up: str
) -> None:
    ran: list[int] = []
    expected = FIRED_LATE[catch_up][list(OUTAGES).index(outage)]

    async def tick(ctx: Context) -> None:
        assert ctx.job.nominal is not None
        ran.append(round(ctx.job.nominal * 1000))

    def declare(scheduler: Scheduler) -> None:
        scheduler.bind("tick", tick)

    async def course(cluster: Cluster) -> None:
        client = await cluster.client(declare)
        first = cluster.node(declare, "first")
        start = cluster.clock.epoch_us() // 1_000_000 // TEN_MINUTES * TEN_MINUTES
        made: Any = cron("*/10 * * * *") if trigger == "cron" else every(seconds=TEN_MINUTES, start=start)
        await client.schedules.put("s", made, "tick", catch_up=catch_up, overlap="allow")
        to_the_tick = TEN_MINUTES - cluster.clock.epoch_us() / 1e6 % TEN_MINUTES
        await asyncio.sleep(to_the_tick + 2 * TEN_MINUTES + 300)
        before = await client.schedules.get("s")
        assert before is not None
        assert (len(ran), before.fired, before.skipped) == (3, 3, {})
        first.kill()
        await asyncio.sleep(OUTAGES[outage])
        cluster.node(declare, "second")
        await asyncio.sleep(60)
        missed = OUTAGES[outage] // TEN_MINUTES
        after = await client.schedules.get("s")
        assert after is not None
        assert after.fired == 3 + expected
        assert after.skipped == ({"late": missed - expected} if missed > expected else {})
        assert len(ran) == 3 + expected
        assert ran[3:] == sorted(set(ran[3:]))
        await asyncio.sleep(TEN_MINUTES)  # and it goes on
        assert len(ran) == 4 + expected
        assert (await client.schedules.audit("s")).is_clean
        await client.close()

    played(course)
