"""A module that a node can import, and a child process cannot."""

from __future__ import annotations

from duly.runtime import locate

if locate.is_loading:
    raise RuntimeError("no licence for a second process")


def work() -> None:
    """Never runs."""
