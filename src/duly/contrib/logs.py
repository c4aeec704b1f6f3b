"""Logs that say which job they are about, for an application's own logging: see docs/logging.md. `duly worker` brings the
same by itself, with `--log-format`."""

from __future__ import annotations

from duly.runtime.logs import JobFilter, JsonFormatter, TextFormatter, set_up_logging

__all__ = ["JobFilter", "JsonFormatter", "TextFormatter", "set_up_logging"]
