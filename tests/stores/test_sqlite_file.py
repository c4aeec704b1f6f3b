"""The file of the SQLite store: opened, refused, full, locked, forked; its log kept short, its health told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duly import Scheduler
from duly.errors import FormatError, InvalidURL, StoreFull, StoreRefused, StoreUnavailable
from duly.stores.capabilities import Examined, Finding
from duly.stores.sqlite import checkpoint, file, forks, health
from duly.stores.sqlite.store import SqliteStore
from duly.testing.conformance.kit import BOUND, Client, Node, job, schedule, settlement
from tests.schedulers import running
from tests.stores.test_sqlite import LONG, check_soundness, child
from tests.waiting import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "duly.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.connect()
    yield store
    await store.close()


@pytest.fixture
def shell(path: Path, store: SqliteStore) -> Iterator[sqlite3.Connection]:
    """Another program with the file open."""
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)) as db:
        yield db


async def in_thread(store: SqliteStore, work: Callable[[sqlite3.Connection], Any], *, writes: bool = False) -> Any:
    assert store._thread is not None
    return await store._thread.run(work, writes=writes)


# --- opening ---------------------------------------------------------------------------------------------------------


async def test_a_file_of_this_format_with_fewer_tables_gets_the_others_and_keeps_its_locks(path: Path) -> None:
    store = SqliteStore(path)
    await store.connect()
    fence = await store.lock("held", "one", 60_000)
    assert await store.lock("over", "one", 1)
    await Client(store.shard("default")).push(job("a"))
    await store.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:  # as it was when a lock had no places
        db.execute("UPDATE locks SET owner='one'")
        db.execute("DROP TABLE lock_places")
        db.execute("DROP INDEX locks_until")
    for _ in range(2):
        await store.connect()
        assert await store.lock("held", "two", 60_000) is None
        assert await store.lock("held", "one", 60_000) == fence
        assert await store.lock("over", "two", 60_000)
        assert (await store.shard("default").sizes()).pending == 1
        await store.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT value FROM meta").fetchall() == [(1,)]
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name='locks_until'").fetchone() == (1,)


def test_every_table_of_the_schema_is_looked_for() -> None:
    made = re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", "".join(file._schema()))
    assert set(made) == file.TABLES


async def test_reopening_keeps_everything(tmp_path: Path) -> None:
    found = []
    for round in range(2):
        store = SqliteStore(f"sqlite:///{tmp_path / 'a.db'}?synchronous=full")
        await store.connect()
        shard = store.shard("default")
        if round == 0:
            await Client(shard).push(job("a", named=True), job("b"), job("c", delay=60_000))
            await shard.put(schedule())
            await Node(shard, "n").claim(1)
        page = await shard.schedules(None, "", 10)
        found.append((await shard.get(["a", "b", "c"]), page, (await shard.sizes()).pending))
        await store.close()
    assert found[0] == found[1]
    assert found[0][2] == 2


async def test_a_full_disk_refuses_and_leaves_nothing_half_written(path: Path, store: SqliteStore) -> None:
    shard = store.shard("default")
    await Client(shard, "before").push(job("a"))
    await in_thread(store, lambda db: db.execute("PRAGMA max_page_count = 60").fetchone())
    pushes = [Client(shard, f"c{n}").push(*(job(f"{n}-{i}", body=b"x" * 500) for i in range(50))) for n in range(20)]
    answers = await asyncio.gather(*pushes, return_exceptions=True)  # queued together: they share a transaction
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert refused
    assert {type(error) for error in refused} == {StoreFull}
    assert (await shard.sizes()).pending == 1 + 50 * (20 - len(refused))
    assert (await Node(shard, "n").claim(1)).jobs
    check_soundness(path)


async def test_a_newer_format_is_refused(path: Path, store: SqliteStore) -> None:
    await in_thread(
        store, lambda db: db.execute("UPDATE meta SET value = value + 1 WHERE name = 'format'"), writes=True
    )
    with pytest.raises(FormatError, match="upgrade this node"):
        await SqliteStore(path).connect()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://x", "sqlite:///:memory:", "sqlite:///a?sync=1"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL):
        SqliteStore(url)


async def test_it_has_to_be_connected_and_needs_a_folder(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "nowhere" / "a.db")
    with pytest.raises(StoreUnavailable, match="connect"):
        await store.shard("default").sizes()
    with pytest.raises(StoreUnavailable, match="no folder"):
        await store.connect()


async def test_a_file_that_cannot_have_a_log_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network drive without shared memory."""
    monkeypatch.setattr(file, "open_bare", lambda place: sqlite3.connect(":memory:", isolation_level=None))
    with pytest.raises(StoreRefused, match="network drive"):
        await SqliteStore(path).connect()


# --- the log ---------------------------------------------------------------------------------------------------------

SMALL = 256 << 10


@pytest.fixture
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "WAL_BYTES", SMALL)
    monkeypatch.setattr(checkpoint, "PATIENT_FROM", 4 * SMALL)


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def write_much(store: SqliteStore, path: Path, rounds: int = 60) -> int:
    """More than 100 kB in each round; the most that the log had."""
    shard, sizes = store.shard("default"), [0]
    client, node = Client(shard, f"c{rounds}"), Node(shard, f"n{rounds}")
    for n in range(rounds):
        await client.push(*(job(f"{rounds}-{n}-{i}", body=os.urandom(4_000)) for i in range(20)))
        sizes.append(log_size(path))
        batch = await node.claim(20)
        await node.settle(*(settlement(one, batch.fence) for one in batch.jobs))
        sizes.append(log_size(path))
    return max(sizes)


async def test_the_log_stays_short_under_traffic(small_log: None, path: Path, store: SqliteStore) -> None:
    assert SMALL / 2 < await write_much(store, path) < 3 * SMALL


async def test_sqlite_makes_no_checkpoints_of_its_own(path: Path, store: SqliteStore) -> None:
    assert await in_thread(store, lambda db: db.execute("PRAGMA wal_autocheckpoint").fetchone()) == (0,)


async def test_the_log_is_cut_again_when_a_reader_has_gone(
    small_log: None, path: Path, store: SqliteStore, shell: sqlite3.Connection
) -> None:
    shell.execute("BEGIN")
    shell.execute("SELECT count(*) FROM jobs").fetchone()
    assert (
        await write_much(store, path) > 8 * SMALL
    )  # it sees the file as it was, so nothing of the log may be forgotten
    shell.execute("COMMIT")
    await write_much(store, path, 10)
    assert log_size(path) < 3 * SMALL


async def test_nobody_can_write_during_a_checkpoint(
    small_log: None, path: Path, store: SqliteStore, shell: sqlite3.Connection
) -> None:
    """See `checkpoint`: a commit in that moment is what damages the file."""
    met: list[str] = []

    def look(statement: str) -> None:
        if "wal_checkpoint" in statement:
            try:
                shell.execute("BEGIN IMMEDIATE")
                shell.execute("ROLLBACK")
                met.append("open")
            except sqlite3.OperationalError as error:
                met.append(str(error))

    await in_thread(store, lambda db: db.set_trace_callback(look))
    await write_much(store, path)
    assert set(met) == {"database is locked"}


def test_a_checkpoint_that_cannot_be_guarded_is_left_for_later(
    small_log: None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = file.read_url(path)
    checkpointer = checkpoint.Checkpointer(place)
    with contextlib.closing(file.open_file(place)) as db, contextlib.closing(sqlite3.connect(path)) as other:
        db.execute("CREATE TABLE much (it BLOB)")
        db.execute("INSERT INTO much VALUES (randomblob(?))", (2 * SMALL,))
        before = path.stat().st_size
        other.execute("BEGIN IMMEDIATE")
        checkpointer.look(db)
        assert path.stat().st_size == before
        other.rollback()
        checkpointer.look(db)
        assert path.stat().st_size > before + 2 * SMALL
        checkpointer.close()


async def test_closing_leaves_one_file(path: Path, store: SqliteStore) -> None:
    await Client(store.shard("default")).push(job("a"))
    assert log_size(path)
    await store.close()
    assert [found.name for found in path.parent.iterdir()] == [path.name]


# --- locked by others ------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.02)


async def test_a_long_lock_is_told_and_nothing_is_applied(
    impatient: None, store: SqliteStore, shell: sqlite3.Connection
) -> None:
    client = Client(store.shard("default"))
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"another process wrote for .* nothing was applied"):
        await client.push(job("a"))
    assert (await store.shard("default").sizes()).pending == 0  # reading goes on
    shell.execute("ROLLBACK")
    assert await client.repeat() == [("created", "a")]


async def test_a_node_outlives_a_long_lock(
    impatient: None, path: Path, store: SqliteStore, shell: sqlite3.Connection
) -> None:
    scheduler, heard, ran = Scheduler(f"sqlite:///{path}", lease=1), list[str](), list[int]()
    for name in ("disconnected", "reconnected"):
        scheduler.on(name)(lambda event: heard.append(event.name))

    @scheduler.task
    async def work(n: int) -> None:
        ran.append(n)

    async with running(scheduler):
        await work.push(1)
        await eventually(lambda: ran == [1])
        shell.execute("PRAGMA busy_timeout = 10000")  # the node may be writing
        shell.execute("BEGIN IMMEDIATE")
        await eventually(lambda: heard)
        pushed = asyncio.create_task(work.push(2))
        await asyncio.wait([pushed], timeout=0.1)
        assert not pushed.done()  # it is tried again, for push_timeout
        shell.execute("ROLLBACK")
        await pushed
        await eventually(lambda: ran == [1, 2])
    assert heard == ["disconnected", "reconnected"]


async def test_a_writer_that_is_killed_in_a_transaction_holds_nobody_up(path: Path, store: SqliteStore) -> None:
    process = child("hold", path, "h")
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.read, 1)
    push = asyncio.create_task(Client(store.shard("default")).push(job("a")))
    await asyncio.wait([push], timeout=0.05)
    assert not push.done()
    process.kill()
    process.communicate()
    assert await push == [("created", "a")]


# --- forks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["fork", "traffic_and_forks"])
def test_a_forked_child_opens_the_file_anew_and_loses_nothing(path: Path, verb: str) -> None:
    """Without `forks` the child would have no lock on the file, and lose what it writes when the parent closes it."""
    process = child(verb, path, "p")
    process.communicate()
    assert process.returncode == 0
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = {id for (id,) in db.execute("SELECT id FROM jobs WHERE id LIKE 'job of %'")}
    if verb == "fork":
        assert found == {f"job of {name}" for name in ("parent", "parent again", "child", "child again")}
    check_soundness(path)


async def test_a_token_left_during_a_fork_is_found_after_it(store: SqliteStore, shell: sqlite3.Connection) -> None:
    shard = store.shard("default")
    await shard.configure(paused=False)  # its row is there, with a token
    assert await shard.wait(BOUND)
    sleeper = asyncio.create_task(shard.wait(LONG))
    for _ in range(3):  # the counter of changes, by which others' writes are noticed, begins anew each time
        await asyncio.to_thread(forks._before)
        shell.execute("UPDATE shards SET token = 1")
        forks._in_parent()
        assert await asyncio.wait_for(sleeper, BOUND)
        sleeper = asyncio.create_task(shard.wait(LONG))
        await asyncio.wait([sleeper], timeout=0.05)  # it has been looked for
    sleeper.cancel()
    await asyncio.wait([sleeper])


# --- health ----------------------------------------------------------------------------------------------------------


async def found(store: SqliteStore) -> dict[str, Finding]:
    assert isinstance(store, Examined)
    return {finding.what: finding for finding in await store.examine()}


def one(findings: dict[str, Finding], words: str) -> Finding:
    (only,) = [finding for what, finding in findings.items() if words in what]
    return only


async def test_a_healthy_file_says_so(store: SqliteStore) -> None:
    findings = await found(store)
    for words in ("format 1", "journal mode wal", "synchronous=normal", "its log 0.1 MB", "free on", "is sound"):
        if words != "format 1" or not health.has_wal_reset_bug(sqlite3.sqlite_version_info[:3]):
            assert one(findings, words) == Finding("ok", one(findings, words).what)


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ((3, 35, 0), True), ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 45, 0), True),
        ((3, 50, 6), True), ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 53, 0), False),
    ],
)  # fmt: skip
def test_versions_with_the_wal_reset_bug_are_named(version: tuple[int, ...], has: bool) -> None:
    assert health.has_wal_reset_bug(version) is has
    (finding,) = health.version(version)
    assert (finding.level, bool(finding.advice)) == (("warning", True) if has else ("ok", False))
    assert ".".join(map(str, version)) in finding.what


async def test_what_a_power_cut_takes_is_said(path: Path) -> None:
    store = SqliteStore(f"sqlite:///{path}?synchronous=full")
    await store.connect()
    assert "outlives a power cut" in one(await found(store), "synchronous=full").what
    await store.close()


def test_a_changed_journal_mode_is_an_error() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        journal = health.settings(db)[0]
    assert (journal.level, journal.what) == ("error", "journal mode memory")


async def test_a_long_log_and_a_full_disk_are_warned_of(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LONG_WAL", 1)
    monkeypatch.setattr(health, "LITTLE_DISK", 1 << 60)
    findings = await found(store)
    assert one(findings, "has grown").level == "warning"
    assert one(findings, "free on its disk").level == "warning"


def damage(path: Path) -> None:
    with path.open("r+b") as raw:
        raw.seek(path.stat().st_size // 2 // 4096 * 4096)
        raw.write(b"\xff" * 4096)


async def test_damage_is_found_in_a_small_file_and_a_large_one_is_not_read(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Client(store.shard("default")).push(*(job(f"j{n}", body=b"x" * 300) for n in range(500)))
    await store.close()
    damage(path)
    await store.connect()
    assert one(await found(store), "damaged").level == "error"
    monkeypatch.setattr(health, "CHECKED_UP_TO", 1)
    assert one(await found(store), "not read whole").level == "ok"
