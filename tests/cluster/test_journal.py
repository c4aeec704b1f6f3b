"""What a cron writes down, and what the process that follows a killed one makes of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from duly.cluster import Claim, Cron, Group, LocalDriver, NodePool, Tick, journal
from duly.cluster.journal import Ask, Journal
from duly.errors import ConfigurationError
from tests.waiting import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cron.journal"


def opened(path: Path) -> Journal:
    found = Journal(path)
    found.open()
    return found


def test_what_was_written_is_read_by_the_next(path: Path) -> None:
    one = opened(path)
    one.ask("m", [("a b", 1_000), ("é\n", 2_000)])
    one.begin("a b", 1_000)
    one.close()
    two = opened(path)
    assert two.asked == [Ask("m", [("a b", 1_000), ("é\n", 2_000)])]
    assert two.begun == {("a b", 1_000)}
    two.close()


def test_a_file_is_of_one_process_at_a_time(path: Path) -> None:
    one = opened(path)
    with pytest.raises(ConfigurationError, match="used by another process: give each its own"):
        opened(path)
    one.close()
    opened(path).close()


def test_a_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"journal='.*nowhere/x'"):
        opened(tmp_path / "nowhere" / "x")


@pytest.mark.parametrize("line", [b'["ask", "m", [["a"', b"[1", b"{}", b'["ask"]', b'["begin", "a", "x"]', b"\xff"])
def test_a_line_that_is_broken_is_passed_over(path: Path, line: bytes) -> None:
    path.write_bytes(b'["begin","a",1]\n' + line + b'\n["begin","b",2]\n')
    found = opened(path)
    assert found.begun == {("a", 1), ("b", 2)}
    found.close()


def test_a_file_that_has_grown_keeps_what_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_BYTES", 2_000)
    found = opened(path)
    for moment in range(200):
        found.ask("m", [("a", moment), ("b", moment)])
        found.begin("a", moment)
        found.forget(lambda moment, now=moment: moment > now - 3)  # type: ignore[misc]
    assert path.stat().st_size < 4_000
    found.close()
    again = opened(path)
    assert {tick for ask in again.asked for tick in ask.ticks} >= {
        (name, moment) for name in "ab" for moment in (198, 199)
    }
    assert again.begun >= {("a", 198), ("a", 199)}
    again.begin("b", 199)
    again.close()
    assert opened(path).begun >= {("b", 199)}


def test_threads_write_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_BYTES", 3_000)
    found = opened(path)

    def write(name: str) -> None:
        for moment in range(300):
            found.begin(name, moment)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for _ in range(50):
        found.forget(lambda moment: True)
    for thread in threads:
        thread.join()
    found.close()
    assert opened(path).begun == {(name, moment) for name in "abcd" for moment in range(300)}


# --- a cron that was killed -------------------------------------------------------------------------------------------


class Mortal(LocalDriver):
    """A driver whose process is killed while a claim is on its way: at once after it was applied, or before."""

    kills: str = ""

    async def claim(self, ticks: Sequence[tuple[str, int]], member: str = "") -> list[Claim | None]:
        if self.kills == "before":
            await asyncio.Event().wait()
        answer = await super().claim(ticks, member)
        if self.kills == "after":
            await asyncio.Event().wait()
        return answer


async def killed(cron: Cron) -> None:
    """As by SIGKILL: nothing is said to anybody, and the file is free."""
    for task in [*cron._tasks, *cron.pool._tasks]:
        task.cancel()
    await asyncio.gather(*cron._tasks, *cron.pool._tasks, return_exceptions=True)
    cron._close_journal()
    cron._threads.shutdown(wait=False)


def started(group: Group, path: Path, ran: list[Tick], kills: str = "", **of: Any) -> Cron:
    driver = Mortal(group, timeout=0.5)
    driver.kills = kills
    return Cron(NodePool(driver), journal=path, **of)


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("kills", ["before", "after"])
async def test_a_tick_that_was_claimed_and_not_begun_runs_when_its_node_is_back(
    path: Path, kills: str, is_async: bool
) -> None:
    group, ran = Group(), list[Tick]()

    async def note(tick: Tick) -> None:
        ran.append(tick)

    dies, follows = started(group, path, ran, kills), started(group, path, ran)
    for cron in (dies, follows):
        await cron.add_job("each", "* * * * * *", note if is_async else ran.append)
    await dies.start()
    await eventually(lambda: path.exists() and b"ask" in path.read_bytes())
    await killed(dies)
    (ask,) = opened_and_closed(path).asked
    await follows.start()
    await eventually(lambda: len(ran) >= 2)
    await follows.stop()
    moments = [round(tick.nominal * 1000) for tick in ran]
    assert moments.count(ask.ticks[0][1]) == 1
    assert len(set(moments)) == len(moments)


async def test_a_tick_that_has_begun_does_not_begin_again(path: Path) -> None:
    group, ran = Group(), list[Tick]()
    first, second = started(group, path, ran), started(group, path, ran)
    for cron in (first, second):
        await cron.add_job("each", "* * * * * *", ran.append)
    await first.start()
    await eventually(lambda: len(ran) >= 1)
    await killed(first)
    before = len(ran)
    await second.start()
    await eventually(lambda: len(ran) >= before + 1)
    await second.stop()
    assert len({tick.nominal for tick in ran}) == len(ran)


async def test_a_tick_that_another_node_has_taken_meanwhile_is_its_own(path: Path) -> None:
    group, ran, theirs = Group(), list[Tick](), list[Tick]()
    dies, follows = started(group, path, ran, "before"), started(group, path, ran)
    other = Cron(NodePool(LocalDriver(group, timeout=0.5)))
    await dies.add_job("each", "* * * * * *", ran.append)
    await other.add_job("each", "* * * * * *", theirs.append)
    await follows.add_job("each", "* * * * * *", ran.append)
    await dies.start()
    await eventually(lambda: path.exists() and b"ask" in path.read_bytes())
    await other.start()
    await killed(dies)
    (ask,) = opened_and_closed(path).asked
    await eventually(lambda: any(round(tick.nominal * 1000) >= ask.ticks[0][1] for tick in theirs))
    await follows.start()
    await other.stop()
    await eventually(lambda: len(ran) >= 1)
    await follows.stop()
    nominals = [tick.nominal for tick in ran + theirs]
    assert len(set(nominals)) == len(nominals)


def opened_and_closed(path: Path) -> Journal:
    found = opened(path)
    found.close()
    return found
