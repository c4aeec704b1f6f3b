"""The command line as it is called, in this process, over a store that several event loops can open."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from duly import Scheduler
from duly.cli import main
from tests.schedulers import running
from tests.waiting import eventually

T = TypeVar("T")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
"""For `python -m duly` as a process, in whatever folder."""


class Said:
    """What a call of the command line said, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The one document on stdout; a call that failed has none."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        assert self.code == 0, self.err
        return self.out.splitlines()


Duly = Callable[..., Said]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        found: str = request.getfixturevalue("redis_url")
        return found
    return f"sqlite:///{tmp_path}/duly.db"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/duly.db"


@pytest.fixture
def duly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Duly:
    """`duly("jobs", "list", …, stdin="…")`, in an empty folder, with no DULY_… variables, in UTC, 200 columns wide."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("DULY_URL", "DULY_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, out, err)

    return call


def using(url: str, work: Callable[[Scheduler], Awaitable[T]], **settings: Any) -> T:
    """The outcome of `work` with a connected scheduler."""

    async def run() -> T:
        async with Scheduler(url, **settings) as scheduler:
            return await work(scheduler)

    return asyncio.run(run())


def run_all(scheduler: Scheduler, queue: str = "default") -> None:
    """Have a node run until nothing of the queue is pending or leased."""

    async def run() -> None:
        async with running(scheduler):

            async def is_idle() -> bool:
                sizes = await scheduler.queues.sizes(queue)
                return not sizes.pending and not sizes.leased

            await eventually(is_idle)

    asyncio.run(run())


def make_dead(url: str, *ids: str, queue: str = "default", error: str = "boom") -> None:
    """Jobs of these ids are dead afterwards."""
    scheduler = Scheduler(url, queues=(queue,), lease=2)

    @scheduler.task(retry=0, queue=queue)
    def fail() -> None:
        raise RuntimeError(error)

    async def push() -> None:
        async with scheduler:
            for id in ids:
                await fail.options(id=id).push()

    asyncio.run(push())
    run_all(scheduler, queue)
