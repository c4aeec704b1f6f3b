"""The proxy before a real socket: what gets through each door, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.cluster import Doors
from tests.chaos.proxy import HOST
from tests.waiting import eventually

WITHIN = 5.0


class Echo:
    """A server that answers what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            self.heard += data
            writer.write(data)
        writer.close()


class Street:
    """Two doors before an echo, and connections through them."""

    def __init__(self, echo: Echo, doors: Doors) -> None:
        self.echo, self.doors = echo, doors
        self.opened: list[asyncio.StreamWriter] = []

    async def open(self, door: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, self.doors.ports[door])
        self.opened.append(writer)
        return reader, writer


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, HOST, 0)
    doors = await asyncio.to_thread(Doors, server.sockets[0].getsockname()[1], 2, tmp_path / "proxy.log")
    street = Street(echo, doors)
    yield street
    for writer in street.opened:
        writer.transport.abort()
    await asyncio.to_thread(doors.close)
    server.close()
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
    assert (tmp_path / "proxy.log").read_text() == ""


async def said(reader: asyncio.StreamReader, count: int) -> bytes:
    return await asyncio.wait_for(reader.readexactly(count), WITHIN)


async def is_reset(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), WITHIN) == b""
    except ConnectionError:
        return True


async def test_a_door_that_is_cut_resets_its_connections_and_takes_new_ones(street: Street) -> None:
    (cut, out), (other, other_out) = await street.open(0), await street.open(1)
    out.write(b"one")
    assert await said(cut, 3) == b"one"
    street.doors.order(0, "cut")
    assert await is_reset(cut)
    other_out.write(b"two")
    assert await said(other, 3) == b"two"
    again, again_out = await street.open(0)
    again_out.write(b"three")
    assert await said(again, 5) == b"three"


async def test_nothing_gets_through_a_hole_until_it_passes_again_even_from_who_has_left(street: Street) -> None:
    (reader, out), (other, other_out) = await street.open(0), await street.open(1)
    street.doors.order(0, "hole")
    out.write(b"late")
    _left_reader, left = await street.open(0)
    left.write(b"left")
    left.close()
    other_out.write(b"passes")
    assert await said(other, 6) == b"passes"  # so long after the others, and before them
    assert street.echo.heard == b"passes"
    street.doors.order(0, "pass")
    assert await said(reader, 4) == b"late"
    await eventually(lambda: b"left" in street.echo.heard)


async def test_deaf_connections_stay_silent_and_new_ones_speak(street: Street) -> None:
    deaf, out = await street.open(0)
    out.write(b"one")
    assert await said(deaf, 3) == b"one"
    street.doors.order(0, "deaf")
    out.write(b"two")
    reader, new_out = await street.open(0)
    new_out.write(b"three")
    assert await said(reader, 5) == b"three"
    assert street.echo.heard == b"onethree"


async def test_a_server_that_is_away_is_a_connection_that_ends(tmp_path: Path) -> None:
    doors = await asyncio.to_thread(Doors, 1, 1, tmp_path / "proxy.log")
    try:
        reader, writer = await asyncio.open_connection(HOST, doors.ports[0])
        assert await is_reset(reader)
        writer.close()
    finally:
        await asyncio.to_thread(doors.close)


async def test_a_slow_door_lets_everything_through_in_order(street: Street) -> None:
    street.doors.order(0, "slow", 0.01)
    reader, out = await street.open(0)
    for _ in range(3):
        out.write(b"abc")
        assert await said(reader, 3) == b"abc"
