"""A proxy before a server that hands on each answer so much later: a round trip over a network, on one machine.

Threads, and a process of its own: an event loop sleeps in whole milliseconds, and what is measured keeps its own time.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

CHUNK = 262_144


def _pass_on(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Everything, in order, `seconds` after it came."""
    held: collections.deque[tuple[float, bytes]] = collections.deque()
    there = threading.Semaphore(0)

    def hand_over() -> None:
        while True:
            there.acquire()
            at, data = held.popleft()
            if (pause := at - time.monotonic()) > 0:
                time.sleep(pause)
            if not data:
                with contextlib.suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                return
            with contextlib.suppress(OSError):
                target.sendall(data)

    threading.Thread(target=hand_over, daemon=True).start()
    data = b"-"
    while data:
        try:
            data = source.recv(CHUNK)
        except OSError:
            data = b""
        held.append((time.monotonic() + seconds, data))
        there.release()


def _serve(server: int, seconds: float, tell: Connection) -> None:
    door = socket.create_server(("127.0.0.1", 0), backlog=512)
    tell.send(door.getsockname()[1])
    while True:
        near, _ = door.accept()
        far = socket.create_connection(("127.0.0.1", server))
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_pass_on, args=(near, far, seconds / 2), daemon=True).start()
        threading.Thread(target=_pass_on, args=(far, near, seconds / 2), daemon=True).start()


@contextlib.contextmanager
def delayed(server: int, seconds: float) -> Iterator[int]:
    """The port of a server that is `seconds` of a round trip further away than the one at this port."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(server, seconds, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()
