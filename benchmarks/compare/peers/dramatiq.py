"""Dramatiq with its Redis broker and its default middleware (retries, time limits); jobs run at least once."""

from __future__ import annotations

import os
import sys
import time

from adapter import KIND, PROCESSES, SLOTS, URL, handlers, main
from dramatiq import actor, set_broker
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

SETTINGS = {
    # Milliseconds after which an idle queue is looked at again: there is no other way to learn of a job. Its default is 1000.
    "dramatiq_worker_timeout": "10",
    # Messages in hand, those that run included. Its default of two for each thread has short jobs wait for the next fetch.
    "dramatiq_queue_prefetch": "500",
}
# The client allows a hundred connections unless told otherwise, and each thread has one.
set_broker(RedisBroker(client=Redis.from_url(URL, max_connections=SLOTS + 50)))
if "BENCH_LEDGER" in os.environ:
    functions = handlers().plain()
    actors = {kind: actor(function, actor_name=kind) for kind, function in functions.items()}


class Dramatiq:
    """See adapter.Adapter."""

    def work(self) -> None:
        # More threads help jobs that wait, and slow down those that do not.
        threads = SLOTS if KIND in ("io", "hold") else min(SLOTS, 16)
        command = [sys.executable, "-m", "dramatiq", "peers.dramatiq", "--skip-logging"]
        command += ["--processes", str(PROCESSES), "--threads", str(threads)]
        os.execve(command[0], command, os.environ | SETTINGS)

    def open(self) -> None:
        """Its actors connect when they first send."""

    def push(self, kind: str, number: int) -> None:
        actors[kind].send(number)

    def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        # It adds whole milliseconds to a time cut to milliseconds: two more, and no job is early.
        delay = max(0, int((at - time.time()) * 1000) + 2)
        actors[kind].send_with_options(args=(number, payload), delay=delay)

    def close(self) -> None: ...


if __name__ == "__main__":
    main(Dramatiq())
