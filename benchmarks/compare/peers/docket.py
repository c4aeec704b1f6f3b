"""docket: a Redis stream whose messages are claimed again when nobody renews them; no results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing import Process

from adapter import PROCESSES, SLOTS, URL, handlers, main, run
from docket import Docket, Worker

# Without records and results: "maximum throughput", says its documentation. Pushes that are awaited together
# take a connection each, and redis-py refuses more than 100 unless told.
docket = Docket("bench", f"{URL}?max_connections=2000", execution_ttl=timedelta(0))
KINDS = ("noop", "io", "cpu", "stamp", "hold")
if "BENCH_LEDGER" in os.environ:
    does = handlers()
    for kind in KINDS:
        docket.register(getattr(does, kind), names=[kind])


async def serve() -> None:
    """Its command line cannot set the time for which records are kept, so this is the worker as a program embeds it."""
    async with (
        docket,
        Worker(
            docket,
            concurrency=SLOTS,
            # With all slots taken it sleeps this long before it looks for free ones: 250 ms, unless told.
            minimum_check_interval=timedelta(milliseconds=10),
            scheduling_resolution=timedelta(milliseconds=10),  # how late a delayed job is, at most; for 250 ms
        ) as worker,
    ):
        await worker.run_forever()


class Docketed:
    """See adapter.Adapter."""

    def work(self) -> None:
        for _ in range(PROCESSES - 1):
            Process(target=lambda: run(serve())).start()
        run(serve())

    async def open(self) -> None:
        await docket.__aenter__()

    async def push(self, kind: str, number: int) -> None:
        await docket.add(kind)(number)

    async def push_at(self, kind: str, number: int, at: float, payload: str) -> None:
        await docket.add(kind, when=datetime.fromtimestamp(at, UTC))(number, payload)

    async def push_many(self, kind: str, numbers: Sequence[int]) -> None:
        await docket.add_many(docket.call(kind)(number) for number in numbers)

    async def close(self) -> None:
        await docket.__aexit__(None, None, None)


if __name__ == "__main__":
    main(Docketed())
