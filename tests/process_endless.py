"""A module whose import never ends in a child process."""

from __future__ import annotations

import threading

from duly.runtime import locate

if locate.is_loading:
    threading.Event().wait()


def work() -> None:
    """Never runs."""
