"""Who of several owns a key: rendezvous hashing (Thaler and Ravishankar, 1998). Pure.

Each candidate has a weight for each key, a hash of both; the heaviest owns it. Everybody who knows the same candidates
agrees, without talking; a candidate more takes over only what it owns itself, one less leaves only what it owned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def hash64(text: str) -> int:
    """64 bits of BLAKE2b: the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())


def owner(key: str, candidates: Iterable[str]) -> str:
    """The candidate that owns the key, in whichever order they come. Raises ValueError if there is none."""
    return max(candidates, key=lambda name: (hash64(f"{name}\0{key}"), name))
