"""An application whose handlers log: one on the loop, one in a thread, one in a child process."""

from __future__ import annotations

import logging

from duly import Context, Scheduler
from tests.contrib.handlers import speak

scheduler = Scheduler(children=1)
logger = logging.getLogger("shop")


@scheduler.task(name="async")
async def on_the_loop(text: str) -> None:
    logger.warning("%s", text)


@scheduler.task(name="thread")
def in_a_thread(ctx: Context, text: str) -> None:
    logger.warning("%s", text)


scheduler.task(name="process", executor="process")(speak)
