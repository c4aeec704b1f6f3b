"""RQ with its SimpleWorker, which runs one job at a time and does not fork; a job of a killed worker is given up as failed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from adapter import PROCESSES, URL, handlers, main
from redis import Redis
from rq import Queue

queue = Queue("bench", connection=Redis.from_url(URL))
# A job is named by its function's place in this module. BENCH_SLOTS has no counterpart: a worker process runs one at a time.
if "BENCH_LEDGER" in os.environ:
    does = handlers()
    noop = sync = does.sync
    io, cpu, stamp, hold = does.sync_io, does.sync_cpu, does.sync_stamp, does.sync_hold


class RQ:
    """See adapter.Adapter."""

    def work(self) -> None:
        # A pool of one is a worker with its parent asleep; each worker brings a scheduler, and one of those takes the lock.
        command = [sys.executable, "-m", "rq.cli", "worker-pool", "bench", "--num-workers", str(PROCESSES)]
        command += ["--url", URL, "--worker-class", "rq.worker.SimpleWorker", "--quiet"]
        os.execv(command[0], command)

    def open(self) -> None:
        """The client connects at its first push."""

    def push(self, kind: str, number: int) -> None:
        queue.enqueue(f"peers.rq.{kind}", number, result_ttl=0)  # nothing is kept of a job that has run

    def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        # It cuts times to whole seconds and would start a job up to one early: the next one is the first that is never early.
        queue.enqueue_at(datetime.fromtimestamp(math.ceil(at), UTC), f"peers.rq.{kind}", number, payload, result_ttl=0)

    def push_many(self, kind: str, numbers: Sequence[int]) -> None:
        queue.enqueue_many([Queue.prepare_data(f"peers.rq.{kind}", (number,), result_ttl=0) for number in numbers])

    def close(self) -> None:
        queue.connection.close()


if __name__ == "__main__":
    main(RQ())
