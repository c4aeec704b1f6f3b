"""A fork while a file is open: SQLite remembers per process which locks it holds, a child inherits that memory but not
the locks, and a file that it opens again is then changed without them (sqlite.org/howtocorrupt.html, "across a fork").

So before a fork each writer thread closes its connections, and opens them again with its next step. The child, which has
none of these threads, finds a clean SQLite and opens connections of its own. Only `os.fork` is concerned; `subprocess` is
not.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

_gate = threading.Lock()
"""Held during a fork: no thread begins to use a file meanwhile."""
_users: set[User] = set()


class User(Protocol):
    """A thread that has a file open."""

    def lie_low(self) -> None:
        """Return when its connections are closed, to stay so until `go_on`."""
        ...

    def go_on(self) -> None: ...


def enter(user: User) -> None:
    """Called by the thread before it opens a file."""
    with _gate:
        _users.add(user)


def leave(user: User) -> None:
    """Called by the thread when it has closed its file for good."""
    _users.discard(user)


def _before() -> None:
    _gate.acquire()
    for user in list(_users):
        user.lie_low()


def _in_parent() -> None:
    for user in list(_users):
        user.go_on()
    _gate.release()


def _in_child() -> None:
    _users.clear()
    _gate.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
