"""A scheduler's settings as a framework keeps them: `URL` and the names of `duly.Config`, in capitals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duly.config import SETTINGS
from duly.errors import ConfigurationError, nearest


def read_settings(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What `Scheduler(...)` and `configure` take, by its own names. where: how a setting is written, such as "DULY_{}".

    Raises ConfigurationError for one that there is not, with the nearest name.
    """
    known = ("URL", *(name.upper() for name in SETTINGS))
    for name in given:
        if name not in known:
            raise ConfigurationError(f"there is no setting {where.format(name)}; {nearest(name, known)}")
    return {name.lower(): value for name, value in given.items()}
