"""Loads `lua/VERB.lua`: resolves `-- include`, names the keys of its header as locals, and knows its digest."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources
from typing import NamedTuple

from duly.stores.redis.keys import PENDING

_FOLDER = resources.files(__package__) / "lua"


class Script(NamedTuple):
    """One verb as the server runs it. `keys` are the names of its header, in order."""

    name: str
    text: str
    digest: str
    keys: tuple[str, ...]


def _locals(keys: tuple[str, ...]) -> str:
    """Lua that names each key of the header; `pending` becomes a table of four."""
    lines, index = [], 1
    for name in keys:
        if name == "pending":
            table = ", ".join(f"KEYS[{index + p}]" for p in range(len(PENDING)))
            lines.append(f"local pending = {{ {table} }}")
            index += len(PENDING)
        else:
            lines.append(f"local {name} = KEYS[{index}]")
            index += 1
    lines.append(f"local KEYS_NAMED = {index - 1}")
    return "\n".join(lines)


@functools.cache
def script(name: str) -> Script:
    """The script of a verb, with its parts put in where its header includes them."""
    source = (_FOLDER / f"{name}.lua").read_text()
    header = re.match(r"(?:--.*\n)+", source)
    assert header is not None, f"{name}.lua has no header"
    keys_line = re.search(r"^-- KEYS (.*)$", header[0], re.MULTILINE)
    keys = tuple(keys_line[1].split()) if keys_line else ()
    parts = re.search(r"^-- include (.*)$", header[0], re.MULTILINE)
    included = [(_FOLDER / "parts" / f"{part}.lua").read_text() for part in (parts[1].split() if parts else ())]
    text = "\n".join([_locals(keys), *included, source])
    return Script(name, text, hashlib.sha1(text.encode()).hexdigest(), keys)


def names() -> list[str]:
    """Every verb that has a script."""
    return sorted(entry.name.removesuffix(".lua") for entry in _FOLDER.iterdir() if entry.name.endswith(".lua"))
