"""Two stores on one clock, driven by the same random calls: every answer of the second must be that of the memory store.

`check_model` runs it, `model_test` gives it as a test case. A failing sequence is shrunk and printed by Hypothesis.
The machine keeps nothing but what a caller would have in hand: ids, fences, numbers of calls, schedules as last read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import hypothesis
import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from duly.core.job import Hold, NewJob
from duly.core.lifecycle import Change
from duly.errors import StoreError
from duly.stores.base import Batch, Firing, NewSchedule, Renewal, ScheduleRecord, Settlement, Shard, Store
from duly.stores.memory.store import MemoryStore
from duly.testing.clock import ManualClock
from duly.testing.conformance.kit import LIMITS

if TYPE_CHECKING:
    import unittest
from functools import partial

MakeStore = Callable[[ManualClock], Store]
DEFAULT_SETTINGS = hypothesis.settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
NODES = ("n0", "n1", "n2")
CLIENTS = ("c0", "c1")
LEASES = (2_000, 10_000)
HOUR_MS = 3_600_000
WAIT = 0.005
"""Seconds: a token lies there at once or not at all."""

generated = st.sampled_from([f"g{i}" for i in range(6)])
named = st.sampled_from([f"u{i}" for i in range(4)])
ids = st.one_of(generated, named)
holds = st.builds(
    Hold,
    st.sampled_from(["k0", "k1"]),
    st.sampled_from(["end", "start", "time"]),
    st.sampled_from([500, 20_000]),
)


@st.composite
def new_jobs(draw: st.DrawFn) -> NewJob:
    """A job: a user's ids begin with u, those of a process with g."""
    id = draw(ids)
    return NewJob(
        id,
        draw(st.sampled_from([b"", b"one", b"\x00\xff"])),
        delay=draw(st.sampled_from([0, 0, 0, 1, 900, 5_000, 20_000])),
        priority=draw(st.sampled_from([1, 1, 1, 0, 2, 3])),
        named=id.startswith("u"),
        replace=id.startswith("u") and draw(st.booleans()),
        unique=draw(st.one_of(st.none(), st.none(), holds)),
    )


batches = st.lists(new_jobs(), max_size=5, unique_by=lambda job: job.id)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """What a run led to."""
    error = draw(st.sampled_from(["", "", "ValueError", "KeyError: é"]))
    return Change(
        draw(st.sampled_from(["end", "end", "again", "again", "dead"])),
        draw(st.sampled_from([0, 0, 700, 8_000])),
        attempts=draw(st.integers(0, 3)),
        crashes=draw(st.integers(0, 3)),
        unfit_since=draw(st.sampled_from([0, 1_750_000_000_000])),
        reason=error and "it raised",
        error=error,
        trace=error and "Traceback",
    )


seconds = st.sampled_from([0.000_25, 0.001, 0.05, 0.7, 1, 1, 1, 2, 3.3, 4, 6, 11, 40, 61, 3_700])
names = st.sampled_from(["s0", "s1"])


class Node:
    """What a node has in hand."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.claims = self.settles = 0
        self.last_claim: tuple[int, int, int] = (1, LEASES[-1], LEASES[-1])
        self.last_settle: list[Settlement] = []


class Machine(RuleBasedStateMachine):
    """The calls. `make_store` is set by `machine`."""

    make_store: MakeStore

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.stores = (MemoryStore(LIMITS, self.clock), type(self).make_store(self.clock))
        for store in self.stores:
            self.runner.run(store.connect())
        self.shards: list[Shard] = [store.shard("default") for store in self.stores]
        self.nodes = {name: Node(name) for name in NODES}
        self.numbers = dict.fromkeys(CLIENTS, 0)
        self.pushed: dict[str, list[NewJob]] = {}
        self.leases: list[tuple[str, int, int, str | None]] = []  # id, fence, priority, unique; most are stale
        self.known: set[str] = set()
        self.records: list[ScheduleRecord] = []  # as read, some long ago

    def teardown(self) -> None:
        try:
            self.compare_all()
        finally:
            for store in self.stores:
                self.runner.run(store.close())
            self.runner.close()

    def both(self, call: Callable[[Shard], Awaitable[Any]]) -> Any:
        """The same call to both; the answer, or the class of the error, must be the same."""

        async def answer(shard: Shard) -> Any:
            try:
                return await call(shard)
            except StoreError as error:
                return type(error)

        expected, found = (self.runner.run(answer(shard)) for shard in self.shards)
        assert found == expected, f"memory answered\n  {expected}\nthe other\n  {found}"
        return expected

    # --- the path of a job -------------------------------------------------------------------------------------------

    @rule(client=st.sampled_from(CLIENTS), jobs=batches)
    def enqueue(self, client: str, jobs: list[NewJob]) -> None:
        if jobs:  # an empty push need not use up its number
            self.numbers[client] += 1
            self.pushed[client] = jobs
        self.known.update(job.id for job in jobs)
        self.both(lambda shard: shard.enqueue(client, self.numbers[client], jobs))

    @rule(client=st.sampled_from(CLIENTS), late=st.sampled_from([0, 0, 1]))
    def repeat_enqueue(self, client: str, late: int) -> None:
        n = self.numbers[client] - late
        if n > 0:
            self.both(lambda shard: shard.enqueue(client, n, self.pushed[client]))

    @rule(
        name=st.sampled_from(NODES),
        limit=st.sampled_from([0, 1, 2, 5, 100]),
        leases=st.sampled_from([(2_000, 2_000), (10_000, 2_000), (10_000, 10_000), (10_000, 10_000)]),
    )
    def claim(self, name: str, limit: int, leases: tuple[int, int]) -> None:
        node = self.nodes[name]
        node.claims += 1
        node.last_claim = (limit, *leases)
        self.send_claim(node, node.claims)

    @rule(name=st.sampled_from(NODES), late=st.sampled_from([0, 0, 0, 1]))
    def repeat_claim(self, name: str, late: int) -> None:
        node = self.nodes[name]
        if node.claims > late:
            self.send_claim(node, node.claims - late)

    def send_claim(self, node: Node, n: int) -> None:
        answer = self.both(lambda shard: shard.claim(node.name, n, *node.last_claim))
        if isinstance(answer, Batch):
            self.leases += [(job.id, answer.fence, job.priority, job.unique) for job in answer.jobs]

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        chosen = [(id, fence) for id, fence, _, _ in data.draw(self.some_leases())]
        self.both(lambda shard: shard.start(chosen))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), lease=st.sampled_from(LEASES), progress=st.sampled_from([None, b"half"]))
    def renew(self, data: st.DataObject, lease: int, progress: bytes | None) -> None:
        renewals = [Renewal(id, fence, lease, progress) for id, fence, _, _ in data.draw(self.some_leases())]
        self.both(lambda shard: shard.renew(renewals))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), name=st.sampled_from(NODES))
    def settle(self, data: st.DataObject, name: str) -> None:
        node = self.nodes[name]
        node.settles += 1
        node.last_settle = [self.settlement(data, *lease) for lease in data.draw(self.some_leases())]
        self.known.update(child.id for one in node.last_settle for child in one.children)
        self.both(lambda shard: shard.settle(name, node.settles, node.last_settle))

    @rule(name=st.sampled_from(NODES), late=st.sampled_from([0, 0, 1]))
    def repeat_settle(self, name: str, late: int) -> None:
        node = self.nodes[name]
        if node.settles > late:
            self.both(lambda shard: shard.settle(name, node.settles - late, node.last_settle))

    def some_leases(self) -> st.SearchStrategy[list[tuple[str, int, int, str | None]]]:
        """Of those claimed lately above all: most of the older ones are stale."""
        recent = self.leases[-8:]
        return st.lists(st.sampled_from([*recent, *recent, *self.leases]), min_size=1, max_size=4, unique=True)

    def settlement(self, data: st.DataObject, id: str, fence: int, priority: int, unique: str | None) -> Settlement:
        has_result = data.draw(st.booleans())
        return Settlement(
            id,
            fence,
            data.draw(changes()),
            priority,
            id.startswith("u"),
            unique,
            id.partition("@")[0] if "@" in id else None,
            b"\x01result" if has_result else None,
            HOUR_MS * 10_000 if has_result else 0,
            tuple(data.draw(st.one_of(st.just([]), batches))),
        )

    @rule()
    def wait(self) -> None:
        self.both(lambda shard: shard.wait(WAIT))

    @rule(seconds=seconds)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-1, -30, 30]))
    def shift(self, seconds: int) -> None:
        self.clock.shift(seconds)

    # --- care --------------------------------------------------------------------------------------------------------

    @rule(chosen=st.lists(ids, max_size=3, unique=True))
    def cancel(self, chosen: list[str]) -> None:
        self.both(lambda shard: listed(shard.cancel(chosen)))

    @rule(chosen=st.lists(ids, max_size=3, unique=True), waiting=st.booleans())
    def revive(self, chosen: list[str], waiting: bool) -> None:
        self.both(lambda shard: listed(shard.revive(chosen, waiting=waiting)))

    @rule(chosen=st.lists(ids, max_size=3, unique=True), ago=st.sampled_from([None, 0, 2_000]))
    def clear_some(self, chosen: list[str], ago: int | None) -> None:
        until = None if ago is None else self.clock.epoch_us() // 1000 - ago
        self.both(lambda shard: shard.clear("", until, 100, chosen))

    @rule(ago=st.sampled_from([None, 2_000]), limit=st.sampled_from([2, 100]))
    def clear(self, ago: int | None, limit: int) -> None:
        until = None if ago is None else self.clock.epoch_us() // 1000 - ago
        self.both(lambda shard: clear_all(shard, until, limit))

    @rule(paused=st.sampled_from([None, True, False, False]), limit=st.sampled_from([None, 0, 0, 1, 3]))
    def configure(self, paused: bool | None, limit: int | None) -> None:
        self.both(lambda shard: shard.configure(paused=paused, limit=limit))

    # --- schedules ---------------------------------------------------------------------------------------------------

    @rule(
        id=names,
        definition=st.sampled_from([b"one", b"two"]),
        ago=st.sampled_from([None, 5_000, -5_000]),
        app=st.sampled_from(["", "", "shop"]),
        buffer=st.booleans(),
        revision=st.sampled_from([None, None, 1, 2]),
    )
    def put(self, id: str, definition: bytes, ago: int | None, app: str, buffer: bool, revision: int | None) -> None:
        mark = None if ago is None else self.clock.epoch_us() // 1000 - ago
        new = NewSchedule(id, definition, mark, app, buffer, revision)
        self.both(lambda shard: shard.put(new))

    @rule(limit=st.sampled_from([1, 10]))
    def due(self, limit: int) -> None:
        self.records += self.both(lambda shard: shard.due(limit)).schedules

    @rule(id=names)
    def read_schedule(self, id: str) -> None:
        page = self.both(lambda shard: shard.schedules([id, "nobody"], "", 10))
        self.records += [record for record in page.items if record is not None]

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def fire(self, data: st.DataObject) -> None:
        recent = self.records[-3:]
        chosen = data.draw(st.lists(st.sampled_from([*recent, *self.records]), min_size=1, max_size=2))
        firings = [self.firing(data, record) for record in chosen]
        self.known.update(job.id for firing in firings for job in firing.jobs)
        self.both(lambda shard: shard.fire("n0", firings))

    def firing(self, data: st.DataObject, record: ScheduleRecord) -> Firing:
        count = data.draw(st.integers(0, 3))
        nominals = tuple(record.mark + 1_000 * k for k in range(1, count + 1))
        new_mark = nominals[-1] if nominals else record.mark + data.draw(st.sampled_from([0, 1_000]))
        now = self.clock.epoch_us() // 1000
        return Firing(
            record.id,
            record.revision,
            record.mark,
            new_mark,
            data.draw(st.sampled_from([new_mark + 1_000, None])),
            data.draw(st.sampled_from([new_mark + 1_000, now, now + 60_000, None])),
            tuple(NewJob(f"{record.id}@{nominal}", b"tick") for nominal in nominals),
            nominals,
            data.draw(st.sampled_from([{}, {"late": 2}, {"late": 1, "overlap": 1}])),
            data.draw(st.booleans()),
            data.draw(st.sampled_from([0, 0, 2])),
            data.draw(st.sampled_from([None, None, None, "it fails"])),
            waits=not nominals and data.draw(st.booleans()),
            lease=data.draw(st.sampled_from([0, 0, 0, 5_000])),
        )

    @rule(id=names, how=st.sampled_from([{}, {}, {"paused": "note"}, {"paused": ""}, {"remove": True}]))
    def steer(self, id: str, how: dict[str, Any]) -> None:
        self.both(lambda shard: shard.steer(id, **how))

    # --- all that can be seen ----------------------------------------------------------------------------------------

    @rule()
    def look(self) -> None:
        self.both(lambda shard: shard.sizes())
        self.both(lambda shard: shard.get(sorted(self.known)))

    def compare_all(self) -> None:
        self.look()
        for state in ("pending", "leased", "dead"):
            for limit in (3, 1_000):
                self.both(partial(list_all, state=state, limit=limit))
        for id in sorted(self.known):
            self.both(partial(result_of, id=id))
        self.both(all_schedules)
        for stream in ("history", "ticks"):
            self.both(partial(last_entries, stream=stream))


async def listed(answer: Awaitable[Any]) -> list[Any]:
    return list(await answer)


async def result_of(shard: Shard, id: str) -> bytes | None:
    return await shard.result(id)


async def clear_all(shard: Shard, until: int | None, limit: int) -> tuple[int, int]:
    total, cursor = 0, ""
    while True:
        removed, cursor, until = await shard.clear(cursor, until, limit)
        total += removed
        if not cursor:
            return total, until


async def list_all(shard: Shard, state: Any, limit: int) -> list[Any]:
    found, cursor = [], ""
    while True:
        page = await shard.list(state, cursor, limit)
        found += page.items
        cursor = page.cursor
        if not cursor:
            return found


async def all_schedules(shard: Shard) -> list[Any]:
    """In no particular order, and an entry may come twice while it moves: by id."""
    found, cursor = {}, ""
    while True:
        page = await shard.schedules(None, cursor, 10)
        found.update({record.id: record for record in page.items})
        cursor = page.cursor
        if not cursor:
            return [found[id] for id in sorted(found)]


async def last_entries(shard: Shard, stream: Any) -> list[dict[str, str]]:
    """What every store must still have of the stream; how much more it keeps is its own affair."""
    page = await shard.history(stream, "", 1_000)
    return [fields for _, fields in page.items][-LIMITS.history :]


def machine(make_store: MakeStore) -> type[Machine]:
    """The state machine for one kind of store. Each example makes a new, empty one."""
    return type("StoreModel", (Machine,), {"make_store": staticmethod(make_store)})


def model_test(make_store: MakeStore, settings: hypothesis.settings = DEFAULT_SETTINGS) -> type[unittest.TestCase]:
    """A test case that compares the store with memory."""
    case: type[unittest.TestCase] = machine(make_store).TestCase
    case.settings = settings  # type: ignore[attr-defined]
    return case


def check_model(make_store: MakeStore, settings: hypothesis.settings = DEFAULT_SETTINGS) -> None:
    """Compare the store with memory now; raises AssertionError with the shortest sequence in which they differ."""
    run_state_machine_as_test(machine(make_store), settings=settings)
