"""Doors before a server, one for each node, that can be cut, closed and slowed: `python -m tests.chaos.proxy PORT COUNT`.

The first line it writes is the list of its ports. Then it reads orders from its standard input, and answers each with
a line: `DOOR pass`, `DOOR cut` (connections are reset), `DOOR hole` (nothing gets through; what was sent arrives when
the door passes again, late, as TCP does), `DOOR deaf` (the connections that are open now never speak again), and
`DOOR slow SECONDS` (each way). It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys

HOST = "127.0.0.1"
CHUNK = 65_536


class Door:
    """One address before the server, and how it behaves now."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._passes = asyncio.Event()
        self._passes.set()
        self._delay = 0.0
        self._links: dict[Link, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A node has come. (asyncio, given a coroutine, reports each that is under way when the process ends.)"""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(writer)
        self._links[link] = None
        try:
            await self._passes.wait()
            up_reader, up_writer = await asyncio.open_connection(HOST, self._target)
            link.writers.append(up_writer)
            await asyncio.gather(self._pump(link, reader, up_writer), self._pump(link, up_reader, writer))
        except OSError:
            pass  # the server is away, or one of the two hung up
        finally:
            self._links.pop(link, None)
            link.reset()

    async def _pump(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self._delay:
                await asyncio.sleep(self._delay)
            await link.hears.wait()
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
        writer.close()

    def order(self, what: str, seconds: float = 0.0) -> None:
        """Behave so from now on."""
        if what == "hole":
            self._passes.clear()
            return
        self._delay = seconds if what == "slow" else 0.0
        if what == "cut":
            for link in list(self._links):
                link.reset()
        elif what == "deaf":
            for link in self._links:
                link.hears.clear()
        self._passes.set()


class Link:
    """One connection through a door."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.hears = asyncio.Event()
        self.hears.set()

    def reset(self) -> None:
        self.hears.set()
        for writer in self.writers:
            writer.transport.abort()


async def main(target: int, count: int) -> None:
    """Serve until the standard input ends."""
    doors = [Door(target) for _ in range(count)]
    servers = [await asyncio.start_server(door.accept, HOST, 0) for door in doors]
    say(json.dumps([server.sockets[0].getsockname()[1] for server in servers]))
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        door, what, *seconds = line.decode().split()
        doors[int(door)].order(what, *map(float, seconds))
        say("done")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
