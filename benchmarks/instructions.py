"""How many instructions a job and a push cost this process, counted by callgrind: the same on a busy machine as on a quiet one.

    python benchmarks/instructions.py             # print them, beside the recorded ones
    python benchmarks/instructions.py --check     # and fail if one has grown by more than a twelfth
    python benchmarks/instructions.py --record    # remember these

Each figure is the difference of two runs, so that what a process does once does not count. Counts belong to a version of
Python: instructions.json holds one set for each, and only the same version is compared. A worker's calls depend a little
on how many jobs have ended by the time it asks; that moves a figure by some three per cent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from throughput import own_server

from duly import Context, Scheduler
from duly.runtime.process import freeze_startup, loop_factory

RECORDED = Path(__file__).with_suffix(".json")
GROWTH = 1 / 12
FEW, MANY = 500, 2_500
WORKS = ("async job", "sync job", "push_many", "push by gather")


def scheduler_at(url: str) -> tuple[Scheduler, Any, Any, asyncio.Event, list[int]]:
    """A scheduler with two tasks that do nothing but count down to the event."""
    scheduler = Scheduler(url, namespace="count", logger=logging.getLogger("duly.bench"))
    ended, left = asyncio.Event(), [0]
    loop = asyncio.get_running_loop()

    @scheduler.task(name="async-noop")
    async def async_noop(ctx: Context, number: int) -> None:
        left[0] -= 1
        if not left[0]:
            ended.set()

    @scheduler.task(name="sync-noop")
    def sync_noop(ctx: Context, number: int) -> None:
        left[0] -= 1
        if not left[0]:
            loop.call_soon_threadsafe(ended.set)

    return scheduler, async_noop, sync_noop, ended, left


async def prepare(url: str, work: str, count: int) -> None:
    """What is done before, and not counted."""
    scheduler, async_noop, sync_noop, _, _ = scheduler_at(url)
    async with scheduler:
        await scheduler.clear()
        task = sync_noop if work == "sync job" else async_noop
        if work.endswith("job"):
            await scheduler.push_many(task.job(number) for number in range(count))


async def perform(url: str, work: str, count: int) -> None:
    """What is counted."""
    scheduler, async_noop, _, ended, left = scheduler_at(url)
    async with scheduler:
        if work == "push_many":
            await scheduler.push_many(async_noop.job(number) for number in range(count))
        elif work == "push by gather":
            for start in range(0, count, 500):
                await asyncio.gather(*(async_noop.push(number) for number in range(start, start + 500)))
        else:
            left[0] = count
            await scheduler.start()
            freeze_startup()
            await ended.wait()
            await scheduler.stop()


def instructions(url: str, work: str, count: int) -> int:
    """Of one process that does so much of the work."""
    options = ["--url", url, "--count", str(count), "--work", work]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    subprocess.run([sys.executable, __file__, "--role", "prepare", *options], check=True, env=environment)
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command = [*tool, sys.executable, __file__, "--role", "perform", *options]
        done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr[-500:]
    return int(found[1])


def measure(url: str) -> dict[str, int]:
    return {work: (instructions(url, work, MANY) - instructions(url, work, FEW)) // (MANY - FEW) for work in WORKS}


def show(counts: dict[str, int], before: dict[str, int]) -> list[str]:
    """Print them; those that have grown too much."""
    grown = []
    for work, count in counts.items():
        was = before.get(work)
        print(f"{work:18} {count:>8,} instructions" + (f"   recorded {was:>8,}   {count / was:.2f}" if was else ""))
        if was and count > was * (1 + GROWTH):
            grown.append(work)
    return grown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", action="store_true")
    for name in ("--role", "--url", "--work"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is not None:
        work = prepare if options.role == "prepare" else perform
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(work(options.url, options.work, options.count))
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("no valgrind on the PATH: run tools/ensure-program valgrind")
    version = f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    before = recorded.get(version, {})
    with own_server() as url:
        counts = measure(url)
    grown = show(counts, before)
    if options.record:
        RECORDED.write_text(json.dumps(recorded | {version: counts}, indent=2) + "\n")
    elif not before:
        print(f"nothing is recorded for {version}: --record remembers these")
    elif options.check and grown:
        raise SystemExit(f"more than a twelfth dearer than recorded: {', '.join(grown)}")


if __name__ == "__main__":
    main()
