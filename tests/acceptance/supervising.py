"""A supervisor with its workers, as a test sees them: a process, what it logs, and the pids of the others in there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.acceptance.nodes import NodeProcess, until

STORES = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis])], indirect=True
)
"""The test runs once with each; the others run on SQLite."""
START = 20.0  # seconds for a process to start, at most
ONLINE = re.compile(r" INFO (\d+) \S+: namespace ")
APPLICATION = """
import asyncio
import os
import sys
from pathlib import Path

from duly import Context, Scheduler
from tests.acceptance.nodes import Ledger

ledger = Ledger(Path(os.environ["LEDGER"]))
ledger.write("import", "", version=VERSION)
scheduler = Scheduler()
kept = []


@scheduler.task
async def nap(ctx: Context, seconds: float = 0) -> None:
    ledger.write("begin", ctx.job.id, crashes=ctx.crashes, version=VERSION)
    await asyncio.sleep(seconds)
    ledger.write("end", ctx.job.id, crashes=ctx.crashes, version=VERSION)


@scheduler.task
async def grow(ctx: Context, megabytes: int) -> None:
    kept.append(b"x" * megabytes * 1024 * 1024)
    ledger.write("end", ctx.job.id)
"""


def write_application(folder: Path, version: str, more: str = "") -> None:
    """app.py as it is in that version. Versions of different lengths: Python tells files apart by size and second."""
    (folder / "app.py").write_text(f"VERSION = {version!r}\n{APPLICATION}\n{more}\n")


class Supervised(NodeProcess):
    """`duly worker app:scheduler FLAGS…` with --processes or --reload, in a folder of its own."""

    @property
    def online(self) -> list[int]:
        """The pids of all workers that have come online so far, in that order."""
        return [int(pid) for pid in ONLINE.findall(self.output)]

    def has_online(self, count: int) -> list[int]:
        """Wait until so many workers have come online since the start."""
        until(lambda: len(self.online) >= count or self.code is not None, START, f"{count} workers of {self}")
        assert len(self.online) >= count, f"{self} ended with {self.code}:\n{self.output}"
        return self.online


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and that nobody has waited for is gone."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.parent.parent.is_dir() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def are_gone(pids: list[int], within: float = 20) -> None:
    """Wait until none of these processes runs."""
    until(lambda: not any(map(is_running, pids)), within, f"the end of {pids}")
