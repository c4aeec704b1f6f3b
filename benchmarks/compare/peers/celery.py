"""Celery with a Redis broker and late acknowledgement; jobs run at least once."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

from adapter import KIND, PROCESSES, SLOTS, URL, handlers, main
from celery import Celery

# Without a check of the arguments at each push, which also takes methods for functions that lack one.
app = Celery("bench", broker=URL, strict_typing=False)
app.conf.update(
    # A message goes when its task has run: one of a killed worker comes back at the visibility timeout.
    task_acks_late=True,
    task_ignore_result=True,
    # "If you have many short-running tasks … values like 50 or 150 might make sense": messages in hand for each slot.
    worker_prefetch_multiplier=128,
)
if "BENCH_LEDGER" in os.environ:
    functions = handlers().plain()
    tasks = {kind: app.task(name=kind)(function) for kind, function in functions.items()}


class CeleryPeer:
    """See adapter.Adapter."""

    def work(self) -> None:
        # More threads help jobs that wait, and slow down those that do not.
        threads = SLOTS if KIND in ("io", "hold") else min(SLOTS, 16)
        command = [sys.executable, "-m", "celery", "-A", "peers.celery", "worker", "--loglevel", "WARNING"]
        command += ["--pool", "threads", "--concurrency", str(threads)]
        # Workers that do not talk to each other start sooner, and have nothing else to receive than jobs.
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        # Several workers of a process each, which its documentation has seen perform better than several processes in one.
        for place in range(1, PROCESSES):
            subprocess.Popen([*command, "--hostname", f"{place}@%h"])
        os.execv(command[0], [*command, "--hostname", "0@%h"])

    def open(self) -> None:
        """It connects at its first push."""

    def push(self, kind: str, number: int) -> None:
        tasks[kind].apply_async((number,))

    def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        tasks[kind].apply_async((number, payload), eta=datetime.fromtimestamp(at, UTC))

    def close(self) -> None:
        app.close()


if __name__ == "__main__":
    main(CeleryPeer())
