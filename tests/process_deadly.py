"""A module whose import ends the child process."""

from __future__ import annotations

import os

from duly.runtime import locate

if locate.is_loading:
    os._exit(9)


def work() -> None:
    """Never runs."""
