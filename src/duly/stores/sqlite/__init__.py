"""The SQLite store: one file on this machine, shared by its processes; no server."""

from __future__ import annotations

from duly.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
