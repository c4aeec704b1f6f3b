"""What a node and a child process say to each other: msgpack with four bytes of length before it, never pickle."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from duly.core.job import Claimed, NewJob
from duly.core.outcome import Outcome

_LENGTH = 4


class Hello(msgspec.Struct, array_like=True, tag="hello"):
    """The first message: what the child shares with its node. Paths and arguments as the system's bytes.

    main_name or main_path: what to import in the place of `__main__`, should a handler stand there. logs: how it is to log,
    as `runtime.logs.set_up_logging` takes it; empty if that is left to the application.
    """

    argv: list[bytes]
    main_name: str | None = None
    main_path: bytes | None = None
    logs: list[str] = []


class Load(msgspec.Struct, array_like=True, tag="load"):
    """Find a handler, so that it can be run."""

    target: str
    task: str


class Work(msgspec.Struct, array_like=True, tag="work"):
    """Run a job. keeps: its result is wanted. weighs: the child's memory is."""

    n: int
    target: str
    queue: str
    fence: int
    job: Claimed
    keeps: bool
    weighs: bool
    node: str = ""


class Cancel(msgspec.Struct, array_like=True, tag="cancel"):
    """Run `n` should end."""

    n: int
    reason: str


class Loaded(msgspec.Struct, array_like=True, tag="loaded"):
    """The answer to Load; fault says why there is no such handler."""

    fault: Outcome | None = None


class Progress(msgspec.Struct, array_like=True, tag="progress"):
    """What run `n` reports of itself, packed."""

    n: int
    report: bytes


class Pushed(msgspec.Struct, array_like=True):
    """A child that a run pushed with `ctx.push`."""

    queue: str
    new: NewJob


class Done(msgspec.Struct, array_like=True, tag="done"):
    """The answer to Work. value: packed; without `keeps` only None and False are told apart. resident: bytes, if asked."""

    n: int
    outcome: Outcome
    value: msgspec.Raw = msgspec.Raw(b"\xc0")
    pushed: list[Pushed] = []
    resident: int = 0


ToChild = Hello | Load | Work | Cancel
ToNode = Loaded | Progress | Done
to_child = msgspec.msgpack.Decoder(ToChild)
to_node = msgspec.msgpack.Decoder(ToNode)
_encoder = msgspec.msgpack.Encoder()


def framed(message: ToChild | ToNode) -> bytes:
    """The message as it travels."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_LENGTH) + body


class Frames:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole by now, still packed."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._buffer[:_LENGTH])
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                body = bytes(view[_LENGTH:end])
            del self._buffer[:end]
            yield body
