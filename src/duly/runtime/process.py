"""A whole worker process: its event loop, its signals, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (the extra `fast`), else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run_until_signal(
    start: Callable[[], Awaitable[None]], stop: Callable[..., Awaitable[None]], logger: logging.Logger
) -> None:
    """Start, wait for SIGINT or SIGTERM, stop; a second signal ends the process at once with its number."""

    async def main() -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def ask(number: int) -> None:
            if asked.is_set():
                logger.warning("a second signal: ending at once; leases run out and the jobs are taken over")
                sys.stderr.flush()
                os._exit(128 + number)
            logger.info("%s: stopping; once more ends at once", signal.Signals(number).name)
            asked.set()

        for number in SIGNALS:
            loop.add_signal_handler(number, ask, number)
        try:
            await start()
            await asked.wait()
            await stop(leaving=True)
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
