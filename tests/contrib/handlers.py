"""Handlers that child processes import."""

from __future__ import annotations

import logging

from duly import Context


def fail(text: str) -> None:
    raise ValueError(text)


def speak(ctx: Context, text: str) -> None:
    logging.getLogger("shop").warning("%s", text)
