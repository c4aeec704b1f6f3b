"""Fresh names for nodes, clients and jobs: unique per process, renewed after a fork (DESIGN §2.8).

A generated job id is a random prefix of the process and a counter, in digits that sort as text: jobs pushed together
keep their order.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX = 10
_chance: Callable[[int], bytes] = os.urandom


def _text(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[rest])
    return "".join(reversed(digits))


class _Process:
    """What is this process's own; made anew in a child."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.generation = uuid.uuid4().hex
        self.lock = threading.Lock()  # the parent's may be held, by a thread that the child does not have
        self.begin_anew()

    def begin_anew(self) -> None:
        """Another prefix."""
        self.prefix = _text(int.from_bytes(_chance(8)), _PREFIX)
        self.middles = (_text(a, 4) for a in range(len(_DIGITS) ** 4))
        self.ids: Iterator[str] = iter(())

    def next_id(self) -> str:
        for id in self.ids:  # one step of an iterator written in C: threads may share it
            return id
        with self.lock:
            for id in self.ids:  # another thread has filled it meanwhile
                return id
            middle = next(self.middles, None)
            if middle is None:  # 57 billion ids: a new prefix
                self.begin_anew()
                middle = next(self.middles)
            self.ids = map((self.prefix + middle).__add__, _ENDS)
            return next(self.ids)


_ENDS = tuple(a + b for a in _DIGITS for b in _DIGITS)
_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.renew)


def new_job_id() -> str:
    """A job id that no other process makes."""
    return _process.next_id()


def new_name() -> str:
    """A fresh name for a node, a client or the owner of a lock."""
    return uuid.UUID(bytes=_chance(16), version=4).hex


def generation() -> str:
    """The same text for as long as this process is the same; another one in a forked child."""
    return _process.generation


@contextmanager
def names_from(chance: Callable[[int], bytes]) -> Iterator[None]:
    """For simulations: inside the block, names come from `chance`, a function as `random.Random.randbytes`, so that the
    same seed gives the same names. For the whole process; not for programs that share a store with others."""
    global _chance  # noqa: PLW0603 - one source for the process is what this module is
    former, _chance = _chance, chance
    _process.begin_anew()
    try:
        yield
    finally:
        _chance = former
        _process.begin_anew()
