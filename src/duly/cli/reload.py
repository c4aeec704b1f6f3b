"""`duly worker --reload`: which files of an application have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import click

PASSED_OVER = {"__pycache__", "site-packages", "node_modules"}
"""Folders that hold no code of the application, beside those that are hidden (.venv, .git)."""


def require_watchfiles() -> None:
    """Raises click.UsageError, with what to do, if it is not installed."""
    try:
        import watchfiles  # noqa: F401
    except ImportError as error:
        raise click.UsageError("--reload needs watchfiles: pip install 'duly[reload]'") from error


def is_code(path: Path) -> bool:
    """Whether a file, by its path below the watched directory, is code of the application."""
    folders = path.parts[:-1]
    return path.suffix == ".py" and not any(
        part.startswith(".") or part in PASSED_OVER for part in (*folders, path.name)
    )


async def changes(root: Path, stop: asyncio.Event) -> AsyncIterator[Path]:
    """One file of each burst of changes below `root`, by its path from there, until `stop` is set.

    The watch begins with the first step.
    """
    from watchfiles import Change, awatch

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it logs each change, of any file

    def is_wanted(_change: Change, path: str) -> bool:
        return is_code(Path(path).relative_to(root))

    async for files in awatch(root, watch_filter=is_wanted, stop_event=stop, ignore_permission_denied=True):
        yield min(Path(path).relative_to(root) for _, path in files)
