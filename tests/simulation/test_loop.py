"""The loop in virtual time, and the processes that live on it."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from duly.testing import StuckLoop, run
from duly.testing.loop import Process, virtual_loop


def test_a_year_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(365 * 86_400)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(365 * 86_400, abs=0.01)


def test_timers_come_in_the_order_of_their_times_and_equal_ones_in_that_of_their_making() -> None:
    heard: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number, at in enumerate((3.0, 1.0, 2.0, 1.0)):
            loop.call_at(at, heard.append, number)
        await asyncio.sleep(5)

    run(main())
    assert heard == [1, 3, 2, 0]


def test_a_cancelled_timer_is_not_heard() -> None:
    async def main() -> list[int]:
        heard: list[int] = []
        loop = asyncio.get_running_loop()
        loop.call_later(1, heard.append, 1).cancel()
        loop.call_soon(heard.append, 2).cancel()
        await asyncio.sleep(2)
        return heard

    assert run(main()) == []


def test_what_asyncio_offers_works() -> None:
    async def main() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(n, n)) for n in (2, 1)]
        assert [task.result() for task in tasks] == [2, 1]
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, sum, (1, 2)) == 3
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)
        loop.call_soon_threadsafe(tasks.clear)
        await asyncio.sleep(0)
        assert not tasks
        return "done"

    assert run(main()) == "done"


def test_waiting_for_what_never_comes_is_noticed() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckLoop, match="nothing is scheduled"):
        run(main())


def test_a_loop_that_spins_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duly.testing.loop.MOST_WITHOUT_A_PAUSE", 100)

    async def main() -> None:
        while True:  # noqa: ASYNC110 - what is tested
            await asyncio.sleep(0)

    with pytest.raises(StuckLoop, match="it spins"):
        run(main())


def test_waiting_for_a_moment_by_looking_at_the_time_ends() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + 1e-4
        while loop.time() < until:  # noqa: ASYNC110 - what is tested
            await asyncio.sleep(0)

    run(main())


def test_an_error_that_nobody_awaits_is_kept() -> None:
    with virtual_loop() as loop:
        loop.call_later(1, lambda: 1 / 0)
        loop.run_until_complete(asyncio.sleep(2))
        (failure,) = loop.failures
        assert isinstance(failure["exception"], ZeroDivisionError)


def test_tasks_that_are_left_are_ended() -> None:
    ended: list[str] = []

    async def main() -> None:
        async def linger() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append("cleanly")

        task = asyncio.get_running_loop().create_task(linger())
        await asyncio.sleep(1)
        assert not task.done()

    run(main())
    assert ended == ["cleanly"]


async def _count(heard: list[float]) -> None:
    while True:
        await asyncio.sleep(1)
        heard.append(round(asyncio.get_running_loop().time(), 2))


def test_a_paused_process_stands_still_and_goes_on_where_it_was() -> None:
    with virtual_loop() as loop:
        ours, others = Process("ours"), Process("others")
        heard: list[float] = []
        heard_by_others: list[float] = []
        loop.spawn(ours, _count(heard))
        loop.spawn(others, _count(heard_by_others))
        loop.call_at(2.5, loop.pause, ours)
        loop.call_at(5.25, loop.resume, ours)
        loop.run_until_complete(asyncio.sleep(7.1))
        assert heard == [1.0, 2.0, 5.25, 6.25]
        assert heard_by_others == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_a_killed_process_does_nothing_more_not_even_its_finally() -> None:
    with virtual_loop() as loop:
        process = Process("p")
        heard: list[str] = []

        async def main() -> None:
            child = asyncio.get_running_loop().create_task(asyncio.sleep(2))
            child.add_done_callback(lambda _: heard.append("child"))
            try:
                await asyncio.sleep(3)
            finally:
                heard.append("finally")

        loop.spawn(process, main())
        loop.call_at(1, loop.kill, process)
        loop.run_until_complete(asyncio.sleep(10))
        assert heard == []
        loop.run_until_complete(loop.bury(process))
        assert "finally" in heard
        assert not process.tasks


def test_callbacks_of_no_process_run_whoever_made_them() -> None:
    with virtual_loop() as loop:
        process = Process("p")
        heard: list[str] = []

        async def main() -> None:
            loop.call_later(2, heard.append, "its own")
            loop.call_later(2, heard.append, "on its way", context=contextvars.Context())

        loop.spawn(process, main())
        loop.call_at(1, loop.kill, process)
        loop.run_until_complete(asyncio.sleep(3))
        assert heard == ["on its way"]
