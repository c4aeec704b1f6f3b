"""What was counted of runs, in Redis: one hash per minute, which expires; its fields are tasks, its values packed counters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from duly.core.measures import MOST_TASKS, OTHERS, Counts
from duly.stores.redis import keys
from duly.stores.redis.link import Link
from duly.stores.redis.scripts import script

STEP = 10
"""Tasks in one call of the script: even if each has every counter that there is, it takes the server few milliseconds."""
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, int]).decode


async def write(link: Link, namespace: str, minute: int, counts: Mapping[str, Counts], keep: int) -> None:
    """See `capabilities.Measured.measure`."""
    both = (keys.measures(namespace, minute), keys.measures(namespace, minute - keep))
    tasks, calls = list(counts.items()), []
    for start in range(0, len(tasks), STEP):
        args: list[Any] = [keep * 60_000, MOST_TASKS, OTHERS]
        for task, more in tasks[start : start + STEP]:
            args += (task, _pack(more))
        calls.append(link.call(script("measure"), both, args))
    await asyncio.gather(*calls)


async def read(link: Link, namespace: str, first: int, last: int) -> dict[int, dict[str, dict[str, int]]]:
    """See `capabilities.Measured.measured`."""
    minutes = range(first, last + 1)
    answers = await asyncio.gather(*(link.command(b"HGETALL", keys.measures(namespace, minute)) for minute in minutes))
    found = ((minute, flat) for minute, flat in zip(minutes, answers, strict=True) if flat)
    return {
        minute: {task.decode(): _unpack(counts) for task, counts in zip(flat[::2], flat[1::2], strict=True)}
        for minute, flat in found
    }
