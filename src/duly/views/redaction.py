"""Arguments as people may see them: what is named like a secret is hidden, what is long is cut."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "•••"
SECRET = re.compile(
    r"pass(word|wd|phrase|code)|pass$|pwd|secret|token|(api|access|private|signing|encryption)[-_ ]?key|credential"
    r"|authori[sz]ation|^auth$|cookie",
    re.IGNORECASE,
)
"""Names whose values are hidden."""
LONGEST_TEXT, MOST_ITEMS, DEEPEST = 2_000, 200, 8
_IN_URL = re.compile(r"(?<=://)([^/\s:@]*):([^/\s]+)@")  # to the last @: a password may hold one


def redacted(value: Any, secret: re.Pattern[str] = SECRET, depth: int = 0) -> Any:
    """A copy as plain data for JSON, small enough to be shown. The passwords of URLs are hidden too."""
    if depth > DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        shown = {
            _cut(str(key)): HIDDEN if secret.search(str(key)) else redacted(item, secret, depth + 1)
            for key, item in list(value.items())[:MOST_ITEMS]
        }
        return shown if len(value) <= MOST_ITEMS else {**shown, "…": f"{len(value) - MOST_ITEMS:,} more"}
    if isinstance(value, list | tuple | set | frozenset):
        items = [redacted(item, secret, depth + 1) for item in list(value)[:MOST_ITEMS]]
        return items if len(value) <= MOST_ITEMS else [*items, f"… {len(value) - MOST_ITEMS:,} more"]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    if isinstance(value, str):
        return _cut(_IN_URL.sub(rf"\1:{HIDDEN}@", value))
    if value is None or isinstance(value, bool | int | float):
        return value
    return _cut(str(value))


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"
